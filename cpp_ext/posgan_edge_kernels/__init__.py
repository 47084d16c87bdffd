"""Kernels for UV position maps, on NumPy arrays; the module ``cuda`` has the same for CUDA.

Coordinates are continuous: pixel ``i`` spans ``[i, i + 1)``, its centre is ``i + 0.5``. A
transform is a similarity (2, 3), row by row, from crop units (the crop spans 0 to 1) to frame
pixels. Wrong types raise TypeError, wrong shapes and values ValueError; both name the argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

import posgan_edge_kernels._native as _native

if TYPE_CHECKING:
    from collections.abc import Sequence

__version__ = "0.1.0"
__all__ = [
    "FaceFilter",
    "__version__",
    "built",
    "crop_normalize",
    "crop_normalize_nv12",
    "extract_landmarks",
    "pose_fit",
    "with_cuda",
]

#: What was built: "host and CUDA 13.0.88", or "host only" with the reason in brackets.
built: str = _native.built
#: Whether the device path was built in (``posgan_edge_kernels.cuda`` imports only then).
with_cuda: bool = _native.with_cuda


def extract_landmarks(
    maps: NDArray[np.floating[Any]],
    uv: NDArray[np.float32],
    transforms: NDArray[np.float32],
    facing: bool = False,
) -> Any:
    """Reads points of position maps (bilinear) and transforms them to frame pixels.

    ``maps`` (N, 3, H, W) float32 or float16 in crop units; ``uv`` (P, 2) float32 in [0, 1], u
    right and v down, the centre of pixel i of W at (i + 0.5) / W; outside the outermost centres
    the edge value is used; ``transforms``
    (N, 2, 3) float32. Returns (N, P, 3) float32: x, y, and z times the transform's scale. With
    ``facing`` also (N, P) float32: the cosine between the surface normal (from differences over
    1/32 of the map to either side) and the direction to the camera. It is above zero if the point
    faces the camera, and zero if the surface has no area. NaN in a map gives NaN. Raises TypeError
    and ValueError naming the argument.
    """
    return _native.extract_landmarks(maps, uv, transforms, facing)


def crop_normalize(
    frame: NDArray[np.uint8],
    transforms: NDArray[np.float32],
    size: int,
    dtype: str = "float32",
    border: Sequence[float] = (0, 0, 0),
) -> NDArray[np.floating[Any]]:
    """Cuts crops out of a BGR frame. Returns network inputs (N, 3, size, size), RGB in [0, 1].

    ``frame`` (H, W, 3) uint8, rows of any pitch; ``transforms`` (N, 2, 3) float32; ``dtype``
    float32 or float16; ``border`` is the colour (B, G, R) outside the frame. The filter is bilinear
    if the crop is not made smaller; otherwise a tent that is wider by the same factor, at most 64
    frame pixels to each side. Raises TypeError and ValueError naming the argument.
    """
    out = _native.crop_normalize(frame, transforms, size, dtype, list(border))
    return cast("NDArray[np.floating[Any]]", out)


def crop_normalize_nv12(
    luma: NDArray[np.uint8],
    chroma: NDArray[np.uint8],
    transforms: NDArray[np.float32],
    size: int,
    dtype: str = "float32",
    border: Sequence[float] = (0, 0, 0),
    matrix: str = "bt601",
    full_range: bool = False,
) -> NDArray[np.floating[Any]]:
    """As ``crop_normalize``, for an NV12 frame; ``matrix`` is ``bt601`` or ``bt709``.

    ``luma`` (H, W) uint8, ``chroma`` (ceil(H / 2), ceil(W / 2), 2) uint8, U before V; each
    chroma sample is used for four pixels. ``full_range``: both use all of 0 to 255, as in JPEG and
    with most webcams; otherwise luma spans 16 to 235 and chroma 16 to 240, as in video.
    """
    out = _native.crop_normalize_nv12(
        luma, chroma, transforms, size, dtype, list(border), matrix, full_range
    )
    return cast("NDArray[np.floating[Any]]", out)


def pose_fit(
    points: NDArray[np.float32], mean: NDArray[np.float32], iterations: int = 4
) -> NDArray[np.float32]:
    """Fits a mean face to each face's points with a similarity (Huber-weighted least squares).

    ``points`` (N, P, 3) and ``mean`` (P, 3) are float32 in the same axes, with 3 to 8192 points.
    Returns (N, 14) float32: scale, rotation (3, 3) row by row, translation, so that ``points ~
    scale * rotation @ mean + translation``, and the root-mean-square distance of this fit divided
    by scale (small for a face, large for something else). The Huber limit of each iteration is 1.5
    times the (upper) median residual. Rotation after Horn (1987). NaN if there is no fit.
    """
    return cast("NDArray[np.float32]", _native.pose_fit(points, mean, iterations))


class FaceFilter:
    """Filters the pose, the points and the position maps of one face from frame to frame.

    A One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) on position, size, rotation and shape,
    and one on the gap of each part that opens, such as an eye. ``cutoffs``: (Hz at rest, Hz added
    for each unit of speed, Hz of the speed itself) of these four, then of each part; ``parts``:
    (first point, end, pairs of points that meet when it closes); ``points``: how many there are.
    Raises TypeError and ValueError naming the argument.
    """

    def __init__(
        self,
        cutoffs: Sequence[tuple[float, float, float]],
        parts: Sequence[tuple[int, int, Sequence[tuple[int, int]]]],
        points: int,
    ) -> None:
        self._filter = _native.FaceFilter(list(cutoffs), list(parts), points)

    def step(
        self,
        landmarks: NDArray[np.float32],
        scale: float,
        rotation: NDArray[np.float64],
        translation: NDArray[np.float64],
        seconds: float,
    ) -> tuple[NDArray[np.float32], float, NDArray[np.float64], NDArray[np.float64]]:
        """Returns landmarks, scale, rotation and translation, filtered; the arguments' shapes.

        ``landmarks`` (P, 3) float32 in frame pixels, y down; ``rotation`` (3, 3) and
        ``translation`` (3,) float64, y up; ``seconds`` since the step before. Raises TypeError and
        ValueError naming the argument; the filter is then unchanged.
        """
        found = self._filter.step(landmarks, scale, rotation, translation, seconds)
        return cast("tuple[Any, float, Any, Any]", found)

    def map(
        self,
        xyz: NDArray[np.float32],
        crop: NDArray[np.float64],
        side: float,
        windows: NDArray[np.int32],
        weights: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Returns the map ``xyz`` (3, M, M) float32 of the last step's face, filtered.

        ``crop`` (2, 3) float64 and ``side`` are those of its crop. ``windows`` (parts, 4) int32:
        first row, end, first column and end of each part on the map. ``weights`` (W,) float32: how
        much each pixel of these windows belongs to its part, one window after another. Raises
        TypeError and ValueError naming the argument; the filter is then unchanged.
        """
        filtered = self._filter.map(xyz, crop, side, windows, weights)
        return cast("NDArray[np.float32]", filtered)
