"""Steady faces: the One-Euro filter on a face's pose and on its shape.

If each point were filtered alone, a head that turns would be distorted. So a face is split into its
pose (position, size, rotation) and its shape (the points of the head in an upright, frontal pose).
Each part is filtered according to its speed, and then they are combined again (One-Euro filter:
Casiez, Roussel and Vogel, CHI 2012).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.errors import BadInput
from posgan_edge.faces.one_euro import OneEuro, OneEuroNumber
from posgan_edge.faces.values import Face
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import Pose, angles_from_rotation
from posgan_edge.geometry.values import FaceBox, PositionMap

_GAP_DERIVATIVE_CUTOFF = 3.0  # Hz: a blink takes a fifth of a second
#: The setting, the landmarks, and the upper and lower ones of the gap, of each part that opens.
_PARTS = (
    ("eyes", slice(36, 42), (37, 38), (41, 40)),
    ("eyes", slice(42, 48), (43, 44), (47, 46)),
    ("mouth", slice(48, 68), (61, 62, 63), (67, 66, 65)),
)
_UPPER, _LOWER = (np.concatenate([part[i] for part in _PARTS]) for i in (2, 3))
#: How far each setting reaches on a map from the part's middle, in half its width and height: it
#: counts whole up to the first and not at all from the second on (the nose is close to the lips).
_REACH = {"eyes": (1.3, 2.0), "mouth": (1.1, 1.4)}


@dataclass(frozen=True)
class Smoothing:
    """Cut-off frequencies: (Hz at rest, Hz added for each unit of speed), for each part of a face.

    Speeds: position and shape in face sizes a second, size in its logarithm a second, rotation in
    degrees a second; eyes and mouth in face sizes a second by which lids or lips move apart or
    together. The points of eyes and mouth follow at least as fast as the shape does. Speeds do not
    depend on the face's size or the frame rate. Raises BadInput if a value is not a number or is
    negative.

    >>> from posgan_edge import FaceSmoother, Smoothing
    >>> steadier = FaceSmoother(Smoothing(position=(0.3, 4.0)))
    """

    position: tuple[float, float] = (0.5, 4.0)
    size: tuple[float, float] = (0.4, 3.0)
    rotation: tuple[float, float] = (0.6, 0.06)
    shape: tuple[float, float] = (0.7, 6.0)
    eyes: tuple[float, float] = (0.7, 60.0)
    mouth: tuple[float, float] = (0.7, 20.0)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, (list, tuple)) or len(value) != 2:
                raise BadInput(f"{name} is {arrays.described(value)}: give (at rest, per speed)")
            for part in value:
                arrays.number(part, name, 0)


class FaceSmoother:
    """Filters the faces of one track. ``dense`` False leaves position maps as they are.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, FaceSmoother, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> smoother = FaceSmoother()
    >>> steady = [smoother(face, number / 30) for number in range(3)]
    """

    def __init__(self, settings: Smoothing | None = None, dense: bool = True) -> None:
        settings = settings or Smoothing()
        self._position = OneEuro(*settings.position)
        self._size = OneEuroNumber(*settings.size)
        self._turn = OneEuro(*settings.rotation)
        self._shape = OneEuro(*settings.shape)
        by_name = {"eyes": settings.eyes, "mouth": settings.mouth}
        self._gaps = [
            OneEuroNumber(by_name[name][0], by_name[name][1], _GAP_DERIVATIVE_CUTOFF)
            for name, *_ in _PARTS
        ]
        self._points: NDArray[np.floating[Any]] | None = None
        self._map_shape: NDArray[np.float32] | None = None
        self._rotation: NDArray[np.float64] | None = None
        self._dense = dense
        self._last: float | None = None

    def __call__(self, face: Face, timestamp: float) -> Face:
        """The face, filtered; ``timestamp`` in seconds must rise from call to call.

        Raises BadInput for another type of argument, and for a map that is not finite. The filter
        is then unchanged.
        """
        arrays.instance(face, Face, "face")
        timestamp = arrays.number(timestamp, "timestamp")
        if self._dense and face.position_map and not arrays.finite(face.position_map.xyz):
            raise BadInput("the face's position map is not finite")
        seconds = max(1e-3, timestamp - self._last) if self._last is not None else 1 / 30
        self._last = timestamp
        raw = face.pose
        # Lengths in face sizes: the mean face has unit radius, a face is about twice that wide.
        unit = 2 * raw.scale
        size = self._size(math.log(raw.scale), seconds)
        position = self._position(raw.translation, seconds, unit)
        rotation = self._rotated(raw.rotation, seconds)
        upright = raw.rotation / raw.scale
        shape = (
            face.landmarks.astype(np.float64) @ (Y_UP[:, None] * upright)
            - raw.translation @ upright
        )
        follow, more = self._followed(shape, seconds)
        shape = self._filtered_points(shape, follow, more)
        scale = math.exp(size)
        pose = Pose(*angles_from_rotation(rotation), rotation, scale, position, raw.residual)
        landmarks = (shape @ (scale * rotation.T * Y_UP) + position * Y_UP).astype(np.float32)
        return replace(
            face,
            pose=pose,
            landmarks=landmarks,
            box=FaceBox.around(landmarks, face.box.score),
            position_map=self._filtered_map(face, pose, follow, more),
        )

    def _rotated(self, rotation: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
        if self._rotation is None:
            self._rotation = rotation
            return rotation
        turn = cv2.Rodrigues(self._rotation.T @ rotation)[0][:, 0]
        share = self._turn.share(np.degrees(turn) * math.sqrt(3), seconds)
        self._rotation = self._rotation @ cv2.Rodrigues(share * turn)[0]
        return self._rotation

    def _followed(
        self, shape: NDArray[np.floating[Any]], seconds: float
    ) -> tuple[float, list[float]]:
        """What share of its change the shape follows, and how much more each part does."""
        self._shape(shape, seconds, 2.0)
        between = shape[_UPPER] - shape[_LOWER]
        apart: list[float] = np.sqrt(np.einsum("ij,ij->i", between, between)).tolist()
        start = 0
        for gap, (_, _, upper, _) in zip(self._gaps, _PARTS, strict=True):
            stop = start + len(upper)
            gap(sum(apart[start:stop]) / len(upper), seconds, 2.0)
            start = stop
        follow = self._shape.followed
        return follow, [max(0.0, gap.followed - follow) for gap in self._gaps]

    def _filtered_points(
        self, shape: NDArray[np.floating[Any]], follow: float, more: list[float]
    ) -> NDArray[np.floating[Any]]:
        if self._points is None:
            self._points = shape
        share = np.full((len(shape), 1), follow)
        for extra, (_, landmarks, _, _) in zip(more, _PARTS, strict=True):
            share[landmarks] += extra
        self._points = self._points + share * (shape - self._points)
        return self._points

    def _filtered_map(
        self, face: Face, pose: Pose, follow: float, more: list[float]
    ) -> PositionMap | None:
        """The map with its shape filtered like that of the landmarks, in the face's own crop."""
        position_map = face.position_map
        if position_map is None or not self._dense:
            return position_map
        crop = face.crop
        flat = position_map.xyz.reshape(3, -1)
        to_shape, shift = _map_to_shape(crop.matrix, crop.side, face.pose)
        shape = to_shape.astype(np.float32) @ flat
        shape += shift.astype(np.float32)
        if self._map_shape is None or self._map_shape.shape != shape.shape:
            self._map_shape = shape
        else:
            shape -= self._map_shape
            planes = shape.reshape(position_map.xyz.shape)
            windows = _windows(position_map.layout, position_map.resolution)
            extras = [
                planes[:, window[0], window[1]] * (np.float32(amount) * weights)
                for amount, (window, weights) in zip(more, windows, strict=True)
            ]
            shape *= np.float32(follow)
            for extra, (window, _) in zip(extras, windows, strict=True):
                planes[:, window[0], window[1]] += extra
            self._map_shape += shape
        to_shape, shift = _map_to_shape(crop.matrix, crop.side, pose)
        back = np.linalg.inv(to_shape)
        xyz = back.astype(np.float32) @ self._map_shape
        xyz -= (back @ shift).astype(np.float32)
        return PositionMap(xyz.reshape(position_map.xyz.shape), position_map.layout)


def filtered_apart(layout: UvLayout, resolution: int) -> NDArray[np.bool_]:
    """(M * M,) bool: pixels of a map that follow faster than the rest, round eyes and mouth."""
    apart = np.zeros((resolution, resolution), np.bool_)
    for window, weights in _windows(layout, resolution):
        apart[window] |= weights > 0
    return apart.ravel()


@lru_cache(maxsize=4)
def _windows(
    layout: UvLayout, resolution: int
) -> list[tuple[tuple[slice, slice], NDArray[np.float32]]]:
    """For each of ``_PARTS``: rows and columns of a map that it reaches, and how much each pixel
    there belongs to it (rows, columns) float32."""
    centers = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    v, u = np.meshgrid(centers, centers, indexing="ij")
    windows = []
    for name, landmarks, _, _ in _PARTS:
        (whole, end), uv = _REACH[name], layout.landmark_uv[landmarks]
        low, high = uv.min(axis=0), uv.max(axis=0)
        x, y = (2 * p - low[i] - high[i] for i, p in enumerate((u, v)))
        far = np.hypot(x / (high[0] - low[0]), y / (high[1] - low[1]))
        weights = np.clip((end - far) / (end - whole), 0, 1).astype(np.float32)
        rows, columns = (np.flatnonzero((weights > 0).any(axis=i)) for i in (1, 0))
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        windows.append((window, weights[window]))
    return windows


def _map_to_shape(
    matrix: NDArray[np.float64], side: float, pose: Pose
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) and (3, 1): crop units (y down) to the shape's axes."""
    to_frame = np.zeros((3, 3))
    to_frame[:2, :2], to_frame[2, 2] = matrix[:, :2], side
    to_frame = Y_UP[:, None] * to_frame
    at = np.array([matrix[0, 2], -matrix[1, 2], 0.0]) - pose.translation
    turn = pose.rotation.T / pose.scale
    return turn @ to_frame, (turn @ at)[:, None]
