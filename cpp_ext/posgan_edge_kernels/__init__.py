"""Kernels for UV position maps: one arithmetic, on NumPy arrays here, on CUDA in ``.cuda``.

Coordinates are continuous: pixel ``i`` spans ``[i, i + 1)``, its centre is ``i + 0.5``. A
transform is the similarity (2, 3), row by row, from crop units (the crop spans 0..1) to frame
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
    "__version__",
    "built",
    "crop_normalize",
    "crop_normalize_nv12",
    "extract_landmarks",
    "pose_fit",
    "with_cuda",
]

#: What was built: "host and CUDA 13.0.88", or "host only" and why in brackets.
built: str = _native.built
#: Whether the device path was built in (``posgan_edge_kernels.cuda`` imports only then).
with_cuda: bool = _native.with_cuda


def extract_landmarks(
    maps: NDArray[np.floating[Any]],
    uv: NDArray[np.float32],
    transforms: NDArray[np.float32],
    facing: bool = False,
) -> Any:
    """Points of position maps in frame pixels: bilinear reads, carried out of the crop.

    ``maps`` (N, 3, H, W) float32 or float16 in crop units; ``uv`` (P, 2) float32 in [0, 1], u
    right and v down, the centre of pixel i of W at (i + 0.5) / W, edges held; ``transforms``
    (N, 2, 3) float32. Returns (N, P, 3) float32: x, y, and z times the transform's scale. With
    ``facing`` also (N, P) float32: the cosine between the surface's normal (of differences over
    1/32 of the map to either side) and the direction to the camera, above zero where the point
    faces it, zero where the surface has no area. NaN in a map gives NaN.
    """
    return _native.extract_landmarks(maps, uv, transforms, facing)


def crop_normalize(
    frame: NDArray[np.uint8],
    transforms: NDArray[np.float32],
    size: int,
    dtype: str = "float32",
    border: Sequence[float] = (0, 0, 0),
) -> NDArray[np.floating[Any]]:
    """Crops of a BGR frame as network input: (N, 3, size, size) RGB in [0, 1].

    ``frame`` (H, W, 3) uint8, rows of any pitch; ``transforms`` (N, 2, 3) float32; ``dtype``
    float32 or float16; ``border`` B, G, R of what lies outside. The filter is a tent as wide as
    the crop is shrunk, at most 64 frame pixels to a side (bilinear where it is not shrunk).
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
    """``crop_normalize`` of an NV12 frame, by the BT.601 or BT.709 matrix.

    ``luma`` (H, W) uint8, ``chroma`` (ceil(H / 2), ceil(W / 2), 2) uint8, U before V; each
    chroma sample serves its four pixels. ``full_range``: both use all of 0 to 255, as of JPEG and
    most webcams; otherwise luma spans 16 to 235 and chroma 16 to 240, as in video.
    """
    out = _native.crop_normalize_nv12(
        luma, chroma, transforms, size, dtype, list(border), matrix, full_range
    )
    return cast("NDArray[np.floating[Any]]", out)


def pose_fit(
    points: NDArray[np.float32], mean: NDArray[np.float32], iterations: int = 4
) -> NDArray[np.float32]:
    """Similarity of a mean face to each face's points, by Huber-weighted least squares.

    ``points`` (N, P, 3) and ``mean`` (P, 3) float32 in the same axes, 3 to 8192 points ->
    (N, 14) float32: scale, rotation (3, 3) row by row, translation, with ``points ~ scale *
    rotation @ mean + translation``, and the root-mean-square distance between the two over scale,
    which is small for a face and large where there is none. The Huber limit of each iteration is
    1.5 times the (upper) median residual. Rotation after Horn (1987); NaN where there is no fit.
    """
    return cast("NDArray[np.float32]", _native.pose_fit(points, mean, iterations))
