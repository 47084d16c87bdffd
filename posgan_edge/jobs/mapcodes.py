"""Storing position maps as coefficients of their network's modes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posgan_edge.archives import BROKEN
from posgan_edge.errors import BadInput, one_line
from posgan_edge.faces.track_filter import filtered_apart
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.values import PositionMap

#: Largest error of a map stored as coefficients: in frame pixels, or in sides of the crop if that
#: is more (large crops), because the network's own float32 sums are not more exact.
LIMIT_PX, LIMIT_SIDES = 1e-4, 1e-6
#: How the names of a layout's landmark sets begin in the text of a code.
_SET = "landmarks: "


def with_shift(modes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns modes (K, M * M) with one more, so that shifted faces are in their span.

    Smoothing shifts maps, and a network's modes represent a constant map only approximately. The
    new mode is orthonormal to the others.
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
    """A stored map, in one of three forms.

    (1) ``coefficients`` (3 * K,) float32: x, then y, then z. (2) ``coefficients``, and ``values``
    (3 * P,) float32 of the P pixels that have a filter of their own. (3) ``values`` (3 * M * M,)
    alone, if the others are not exact enough. ``error_px`` is the largest error of a coordinate,
    in frame pixels.
    """

    coefficients: NDArray[np.float32] | None
    values: NDArray[np.float32] | None
    error_px: float


class MapCode:
    """Converts maps (3, M, M) of one layout to coefficients of ``modes`` (K, M * M) and back.

    Without modes, or for a map outside their span, all values of the map are stored. Smoothing can
    move the pixels around eyes and mouth out of the span; then only these pixels are stored. Raises
    BadInput if the modes are of another map size.
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
        """The number of modes K; 0 without modes."""
        return 0 if self.modes is None else len(self.modes)

    def code(self, position_map: PositionMap, side: float) -> Coded:
        """Returns a map in stored form. Its crop is ``side`` frame pixels wide.

        Raises BadInput if the map has another layout or size.
        """
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
        """(M * M - P, K): from the pixels without a filter of their own to coefficients."""
        assert self.modes is not None
        return np.linalg.pinv(self.modes[:, ~self._apart].astype(np.float64), rcond=1e-5)

    def map(self, coefficients: ArrayLike | None, values: ArrayLike | None) -> PositionMap:
        """Returns the map for the coefficients and values that ``code`` returned."""
        if coefficients is not None and self.modes is not None:
            xyz = np.asarray(coefficients, np.float32).reshape(3, -1) @ self.modes
            if values is not None:
                xyz[:, self._apart] = np.asarray(values, np.float32).reshape(3, -1)
        else:
            xyz = np.array(values, np.float32)
        return PositionMap(xyz.reshape(3, self.map_size, self.map_size), self.layout)

    def to_text(self) -> str:
        """Returns modes and layout as text for ``from_text``."""
        stream = io.BytesIO()
        layout = self.layout
        arrays = {
            "landmark_uv": layout.landmark_uv, "mask": layout.mask, "mean_uv": layout.mean_uv,
            "mean_points": layout.mean_points, "map_size": np.array(self.map_size),
            "name": np.array(layout.name),
        }  # fmt: skip
        arrays |= {f"{_SET}{name}": uv for name, uv in layout.landmark_sets.items()}
        if self.modes is not None:
            arrays["modes"], arrays["apart"] = self.modes, self._apart
        np.savez_compressed(stream, **arrays)
        return base64.b64encode(stream.getvalue()).decode()

    @classmethod
    def from_text(cls, text: str | bytes) -> MapCode:
        """Makes a MapCode from the text of ``to_text``. Raises BadInput for any other text."""
        try:
            with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as data:
                layout = UvLayout(
                    name=str(data["name"]),
                    resolution=int(data["mask"].shape[0]),
                    landmark_uv=data["landmark_uv"],
                    mask=data["mask"],
                    mean_uv=data["mean_uv"],
                    mean_points=data["mean_points"],
                    landmark_sets={
                        name.removeprefix(_SET): data[name]
                        for name in data.files
                        if name.startswith(_SET)
                    },
                )
                return cls(layout, int(data["map_size"]), data.get("modes"), data.get("apart"))
        except BadInput:
            raise
        except (*BROKEN, LookupError) as error:
            raise BadInput(f"modes and layout cannot be read: {one_line(error)}") from error
