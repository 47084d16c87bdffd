"""The filters behind ``FaceSmoother``: with the kernels on the host, and with numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.kernels import host_kernels
from posgan_edge.faces.one_euro import DERIVATIVE_CUTOFF, OneEuro, OneEuroNumber
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import Pose, angles_from_rotation
from posgan_edge.geometry.values import PositionMap

_GAP_DERIVATIVE_CUTOFF = 3.0  # Hz: a blink takes a fifth of a second


class Part(NamedTuple):
    """A part of the face that opens: the name of its setting in ``Smoothing``, its landmarks, and
    the upper and the lower ones of its gap."""

    setting: str
    landmarks: slice
    upper: tuple[int, ...]
    lower: tuple[int, ...]


PARTS = (
    Part("eyes", slice(36, 42), (37, 38), (41, 40)),
    Part("eyes", slice(42, 48), (43, 44), (47, 46)),
    Part("mouth", slice(48, 68), (61, 62, 63), (67, 66, 65)),
)
_UPPER, _LOWER = (np.concatenate([getattr(p, side) for p in PARTS]) for side in ("upper", "lower"))
#: How far each setting reaches on a map from the part's middle, in half its width and height: it
#: counts whole up to the first and not at all from the second on (the nose is close to the lips).
_REACH = {"eyes": (1.3, 2.0), "mouth": (1.1, 1.4)}
#: (Hz at rest, Hz added for each unit of speed)
Setting = tuple[float, float]


class TrackFilter(Protocol):
    """Filters the landmarks, poses and maps of one track."""

    def step(
        self, landmarks: NDArray[np.float32], pose: Pose, seconds: float
    ) -> tuple[NDArray[np.float32], Pose]:
        """Landmarks (68, 3) in frame pixels and a pose, filtered; ``seconds`` since the last."""
        ...

    def map(self, position_map: PositionMap, crop: Crop) -> PositionMap:
        """The map of the last step's face, filtered as the landmarks were, in its own crop."""
        ...


def track_filter(shape: Sequence[Setting], parts: Sequence[Setting]) -> TrackFilter:
    """A new filter; with the kernels if they are installed.

    ``shape``: the settings of position, size, rotation and shape; ``parts``: of each of ``PARTS``.
    """
    kernels = host_kernels()
    if not hasattr(kernels, "FaceFilter"):  # none, or older ones
        return NumpyFilter(shape, parts)
    return KernelFilter(kernels, shape, parts)


class KernelFilter:
    """``TrackFilter`` by ``kernels``, the module ``posgan_edge_kernels``."""

    def __init__(self, kernels: Any, shape: Sequence[Setting], parts: Sequence[Setting]) -> None:
        self._filter = kernels.FaceFilter(
            [(*setting, DERIVATIVE_CUTOFF) for setting in shape]
            + [(*setting, _GAP_DERIVATIVE_CUTOFF) for setting in parts],
            [(p.landmarks.start, p.landmarks.stop, list(zip(p.upper, p.lower, strict=True)))
             for p in PARTS],
            68,
        )  # fmt: skip

    def step(
        self, landmarks: NDArray[np.float32], pose: Pose, seconds: float
    ) -> tuple[NDArray[np.float32], Pose]:
        shown, scale, rotation, translation = self._filter.step(
            np.ascontiguousarray(landmarks, np.float32), pose.scale,
            np.ascontiguousarray(pose.rotation, np.float64),
            np.ascontiguousarray(pose.translation, np.float64), seconds,
        )  # fmt: skip
        angles = angles_from_rotation(rotation)
        return shown, Pose(*angles, rotation, scale, translation, pose.residual)

    def map(self, position_map: PositionMap, crop: Crop) -> PositionMap:
        windows = _windows(position_map.layout, position_map.resolution)
        xyz = np.ascontiguousarray(position_map.xyz, np.float32)
        filtered = self._filter.map(xyz, crop.matrix, crop.side, windows.bounds, windows.flat)
        return PositionMap(filtered, position_map.layout)


class NumpyFilter:
    """``TrackFilter`` by numpy."""

    def __init__(self, shape: Sequence[Setting], parts: Sequence[Setting]) -> None:
        position, size, rotation, points = shape
        self._position, self._size = OneEuro(*position), OneEuroNumber(*size)
        self._turn, self._shape = OneEuro(*rotation), OneEuro(*points)
        self._gaps = [OneEuroNumber(*setting, _GAP_DERIVATIVE_CUTOFF) for setting in parts]
        self._points: NDArray[np.floating[Any]] | None = None
        self._map_shape: NDArray[np.float32] | None = None
        self._poses: tuple[Pose, Pose] | None = None  # of the last step: as given, and filtered
        self._follow, self._more = 1.0, [0.0] * len(PARTS)

    def step(
        self, landmarks: NDArray[np.float32], pose: Pose, seconds: float
    ) -> tuple[NDArray[np.float32], Pose]:
        # Lengths in face sizes: the mean face has unit radius, a face is about twice that wide.
        unit = 2 * pose.scale
        size = self._size(math.log(pose.scale), seconds)
        position = self._position(pose.translation, seconds, unit)
        rotation = self._rotated(pose.rotation, seconds)
        upright = pose.rotation / pose.scale
        shape = (
            landmarks.astype(np.float64) @ (Y_UP[:, None] * upright) - pose.translation @ upright
        )
        shape = self._filtered_points(shape, seconds)
        scale = math.exp(size)
        filtered = Pose(*angles_from_rotation(rotation), rotation, scale, position, pose.residual)
        self._poses = pose, filtered
        shown = shape @ (scale * rotation.T * Y_UP) + position * Y_UP
        return shown.astype(np.float32), filtered

    def _rotated(self, rotation: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
        if self._poses is None:
            return rotation
        before = self._poses[1].rotation
        turn = cv2.Rodrigues(before.T @ rotation)[0][:, 0]
        share = self._turn.share(np.degrees(turn) * math.sqrt(3), seconds)
        rotated: NDArray[np.float64] = before @ cv2.Rodrigues(share * turn)[0]
        return rotated

    def _filtered_points(
        self, shape: NDArray[np.floating[Any]], seconds: float
    ) -> NDArray[np.floating[Any]]:
        self._shape(shape, seconds, 2.0)
        between = shape[_UPPER] - shape[_LOWER]
        apart: list[float] = np.sqrt(np.einsum("ij,ij->i", between, between)).tolist()
        start = 0
        for gap, part in zip(self._gaps, PARTS, strict=True):
            stop = start + len(part.upper)
            gap(sum(apart[start:stop]) / len(part.upper), seconds, 2.0)
            start = stop
        self._follow = self._shape.followed
        self._more = [max(0.0, gap.followed - self._follow) for gap in self._gaps]
        if self._points is None:
            self._points = shape
        share = np.full((len(shape), 1), self._follow)
        for extra, part in zip(self._more, PARTS, strict=True):
            share[part.landmarks] += extra
        self._points = self._points + share * (shape - self._points)
        return self._points

    def map(self, position_map: PositionMap, crop: Crop) -> PositionMap:
        assert self._poses is not None
        raw, filtered = self._poses
        xyz = position_map.xyz
        to_shape, shift = _map_to_shape(crop, raw)
        shape = to_shape.astype(np.float32) @ xyz.reshape(3, -1)
        shape += shift.astype(np.float32)
        if self._map_shape is None or self._map_shape.shape != shape.shape:
            self._map_shape = shape
        else:
            windows = _windows(position_map.layout, position_map.resolution)
            self._map_shape += windows.shares(self._follow, self._more) * (shape - self._map_shape)
        to_shape, shift = _map_to_shape(crop, filtered)
        back = np.linalg.inv(to_shape)
        placed = back.astype(np.float32) @ self._map_shape
        placed -= (back @ shift).astype(np.float32)
        return PositionMap(placed.reshape(xyz.shape), position_map.layout)


def filtered_apart(layout: UvLayout, resolution: int) -> NDArray[np.bool_]:
    """(M * M,) bool: pixels of a map that follow faster than the rest, round eyes and mouth."""
    return _windows(layout, resolution).shares(0.0, [1.0] * len(PARTS)) > 0


class _Windows(NamedTuple):
    """The parts of a map that follow faster: ``bounds`` (3, 4) int32, first row and end, first
    column and end; ``flat``, how much each pixel there belongs to the part, one window after
    another; ``size``, the map's side."""

    bounds: NDArray[np.int32]
    flat: NDArray[np.float32]
    size: int

    def shares(self, follow: float, more: list[float]) -> NDArray[np.float32]:
        """(M * M,) float32: the share of its change that each pixel follows."""
        share, start = np.full((self.size, self.size), follow, np.float32), 0
        for extra, (top, bottom, left, right) in zip(more, self.bounds.tolist(), strict=True):
            shape = bottom - top, right - left
            stop = start + shape[0] * shape[1]
            weights = self.flat[start:stop].reshape(shape)
            share[top:bottom, left:right] += np.float32(extra) * weights
            start = stop
        return share.ravel()


@lru_cache(maxsize=4)
def _windows(layout: UvLayout, resolution: int) -> _Windows:
    centers = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    v, u = np.meshgrid(centers, centers, indexing="ij")
    bounds, flat = [], []
    for part in PARTS:
        (whole, end), uv = _REACH[part.setting], layout.landmark_uv[part.landmarks]
        low, high = uv.min(axis=0), uv.max(axis=0)
        x, y = (2 * p - low[i] - high[i] for i, p in enumerate((u, v)))
        far = np.hypot(x / (high[0] - low[0]), y / (high[1] - low[1]))
        weights = np.clip((end - far) / (end - whole), 0, 1).astype(np.float32)
        rows, columns = (np.flatnonzero((weights > 0).any(axis=i)) for i in (1, 0))
        bounds.append((rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
        flat.append(weights[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].ravel())
    return _Windows(np.array(bounds, np.int32), np.concatenate(flat), resolution)


def _map_to_shape(crop: Crop, pose: Pose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) and (3, 1): a map's crop units (y down) to the shape's axes."""
    matrix, to_frame = crop.matrix, np.zeros((3, 3))
    to_frame[:2, :2], to_frame[2, 2] = matrix[:, :2], crop.side
    to_frame = Y_UP[:, None] * to_frame
    at = np.array([matrix[0, 2], -matrix[1, 2], 0.0]) - pose.translation
    turn = pose.rotation.T / pose.scale
    return turn @ to_frame, (turn @ at)[:, None]
