"""Position maps as coefficients of their network's modes."""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import dataclass
from functools import cached_property
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posgan_edge.errors import BadInput, one_line
from posgan_edge.faces.smoothing import filtered_apart
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.values import PositionMap

#: Largest distance that coefficients may be from the map they stand for: in frame pixels, or for
#: large crops in crop sides, as a network's own sums in float32 are not more exact.
LIMIT_PX, LIMIT_SIDES = 1e-4, 1e-6


def with_shift(modes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Modes (K, M * M) and one more: what moving a face adds to their span, orthonormal to them.

    Smoothing moves maps, and a network's modes hold a shift only as well as they hold faces.
    """
    wide = modes.astype(np.float64)
    shift = np.ones(wide.shape[1])
    rest = shift - np.linalg.lstsq(wide.T, shift, rcond=None)[0] @ wide
    size = float(np.linalg.norm(rest))
    if size < 1e-6 * np.linalg.norm(shift):
        return modes
    return np.vstack([modes, rest / size]).astype(np.float32)


@dataclass(frozen=True)
class Coded:
    """A map as ``coefficients`` (3 * K,) float32, x then y then z; as coefficients and the
    ``values`` (3 * P,) float32 of the P pixels that are filtered apart; or, where neither gives it,
    as its values (3 * M * M,) alone. ``error_px`` is the largest distance of a coordinate from the
    map, in frame pixels."""

    coefficients: NDArray[np.float32] | None
    values: NDArray[np.float32] | None
    error_px: float


class MapCode:
    """Maps (3, M, M) of one layout to coefficients of ``modes`` (K, M * M) float32 and back.

    With modes None, or for a map outside their span, the map is kept as it is. Smoothing leaves
    the span round eyes and mouth: these pixels are then kept as they are.
    """

    def __init__(
        self,
        layout: UvLayout,
        map_size: int,
        modes: NDArray[np.float32] | None,
        apart: NDArray[np.bool_] | None = None,
    ) -> None:
        if modes is not None and modes.shape[1] != map_size**2:
            raise BadInput(f"modes {modes.shape} are not those of maps of {map_size} pixels")
        self.layout, self.map_size, self.modes = layout, map_size, modes
        if modes is not None:
            wide = modes.astype(np.float64)
            # Modes of FP16 or INT8 files are not orthonormal to the last place.
            self._solve = np.linalg.solve(wide @ wide.T, wide).T
            self._apart = filtered_apart(layout, map_size) if apart is None else apart

    @property
    def count(self) -> int:
        """K, 0 without modes."""
        return 0 if self.modes is None else len(self.modes)

    def code(self, position_map: PositionMap, side: float) -> Coded:
        """A map whose crop is ``side`` frame pixels wide. Raises BadInput if the layout or the
        size is another."""
        xyz = np.asarray(position_map.xyz, np.float32)
        if xyz.shape[-1] != self.map_size or position_map.layout.name != self.layout.name:
            raise BadInput(
                f"a map {xyz.shape} of layout {position_map.layout.name!r} is among maps of "
                f"{self.map_size} pixels of layout {self.layout.name!r}"
            )
        rows = xyz.reshape(3, -1)
        if self.modes is not None and np.isfinite(rows).all():
            limit = max(LIMIT_PX, LIMIT_SIDES * side)
            found = (rows.astype(np.float64) @ self._solve).astype(np.float32)
            off = float(np.abs(found @ self.modes - rows).max()) * side
            if off <= limit:
                return Coded(found.ravel(), None, off)
            rest = ~self._apart
            found = (rows[:, rest].astype(np.float64) @ self._solve_rest).astype(np.float32)
            off = float(np.abs((found @ self.modes - rows)[:, rest]).max()) * side
            if off <= limit:
                return Coded(found.ravel(), rows[:, self._apart].ravel(), off)
        return Coded(None, rows.ravel(), 0.0)

    @cached_property
    def _solve_rest(self) -> NDArray[np.float64]:
        """(M * M - P, K): the pixels that are not filtered apart to coefficients."""
        assert self.modes is not None
        return np.linalg.pinv(self.modes[:, ~self._apart].astype(np.float64), rcond=1e-5)

    def map(self, coefficients: ArrayLike | None, values: ArrayLike | None) -> PositionMap:
        """The map of what ``code`` made of it."""
        if coefficients is not None and self.modes is not None:
            xyz = np.asarray(coefficients, np.float32).reshape(3, -1) @ self.modes
            if values is not None:
                xyz[:, self._apart] = np.asarray(values, np.float32).reshape(3, -1)
        else:
            xyz = np.array(values, np.float32)
        return PositionMap(xyz.reshape(3, self.map_size, self.map_size), self.layout)

    def to_text(self) -> str:
        """All of it, as text that ``from_text`` reads."""
        stream = io.BytesIO()
        layout = self.layout
        arrays = {
            "landmark_uv": layout.landmark_uv, "mask": layout.mask, "mean_uv": layout.mean_uv,
            "mean_points": layout.mean_points, "map_size": np.array(self.map_size),
            "name": np.array(layout.name),
        }  # fmt: skip
        if self.modes is not None:
            arrays["modes"], arrays["apart"] = self.modes, self._apart
        np.savez_compressed(stream, **arrays)
        return base64.b64encode(stream.getvalue()).decode()

    @classmethod
    def from_text(cls, text: str | bytes) -> MapCode:
        """Raises BadInput for text of something else."""
        try:
            with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as data:
                layout = UvLayout(
                    name=str(data["name"]),
                    resolution=int(data["mask"].shape[0]),
                    landmark_uv=data["landmark_uv"],
                    mask=data["mask"],
                    mean_uv=data["mean_uv"],
                    mean_points=data["mean_points"],
                )
                return cls(layout, int(data["map_size"]), data.get("modes"), data.get("apart"))
        except (ValueError, LookupError, OSError, EOFError, BadZipFile, zlib.error) as error:
            raise BadInput(f"modes and layout cannot be read: {one_line(error)}") from error
