"""Reading a position map at UV points.

The convention for pixel centres: UV runs over [0, 1] across the whole map, u right
and v down, and the centre of pixel ``i`` of a map of resolution M sits at ``(i + 0.5) / M``.
A UV coordinate ``u`` is therefore the pixel coordinate ``u * M - 0.5``; outside the outermost
pixel centres the edge value is held. This is ``grid_sample(align_corners=False, border)``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import FloatArray
from posgan_edge.errors import BadInput

#: Half the width of the differences that a surface's normal is made of, of the whole map.
FACING_STEP = 1 / 32
#: The largest side of a map that is made here, in pixels.
LARGEST_MAP = 8192


def bilinear_taps(uv: FloatArray, resolution: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The four flat pixel indices and weights, each (P, 4), of bilinear reads at uv (P, 2)."""
    position = np.clip(np.asarray(uv, np.float64) * resolution - 0.5, 0, resolution - 1)
    low = np.minimum(position.astype(np.int64), max(resolution - 2, 0))
    high = np.minimum(low + 1, resolution - 1)
    fu, fv = (position - low).T
    (u0, v0), (u1, v1) = low.T, high.T
    index = np.stack([v * resolution + u for v in (v0, v1) for u in (u0, u1)], axis=1)
    weight = np.stack([wv * wu for wv in (1 - fv, fv) for wu in (1 - fu, fu)], axis=1)
    return index, weight.astype(np.float32)


def sample_map(maps: FloatArray, uv: FloatArray) -> NDArray[np.float32]:
    """Reads maps (..., C, M, M) at uv (P, 2) in [0, 1] -> (..., P, C) float32, bilinear.

    Raises BadInput for other shapes and for uv that is not finite.
    """
    arrays.maps(maps)
    if not isinstance(uv, np.ndarray) or uv.ndim != 2 or uv.shape[1] != 2:
        raise BadInput(f"uv is {arrays.described(uv)}: give numbers (P, 2)")
    uv = np.ascontiguousarray(uv, np.float64)
    index, weight = _known_taps(uv.tobytes(), maps.shape[-1])
    flat = maps.reshape(*maps.shape[:-2], -1)
    values = np.einsum("...pk,pk->...p", np.take(flat, index, axis=-1), weight)
    return np.ascontiguousarray(np.swapaxes(values, -1, -2), np.float32)


@lru_cache(maxsize=32)
def _known_taps(uv: bytes, resolution: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """``bilinear_taps``, kept because the same points are read in every frame."""
    where = np.frombuffer(uv).reshape(-1, 2)
    if not arrays.finite(where):
        raise BadInput("uv holds numbers that are not finite")
    return bilinear_taps(where, resolution)


def surface_facing(maps: FloatArray, uv: FloatArray) -> NDArray[np.float32]:
    """How far the surface of maps (..., 3, M, M) faces the camera at uv (P, 2): (..., P) float32.

    The cosine between the direction to the camera and the surface's normal: above zero where it
    faces the camera, zero where it has no area, NaN where the map has NaN. The normal is that of
    differences over ``FACING_STEP`` to either side, wide enough to pass over the folds of lids
    and lips and the map's edge, where neighbouring pixels say nothing of the face.
    """
    right, left, below, above = np.split(sample_map(maps, facing_uv(uv)), 4, axis=-2)
    return facing_of(np.swapaxes(np.concatenate([right - left, below - above], axis=-2), -1, -2))


def facing_uv(uv: FloatArray) -> NDArray[np.float32]:
    """Where ``surface_facing`` reads a map for uv (P, 2): (4 * P, 2), the points to the right of
    the P, then those to the left, below and above."""
    steps = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32) * np.float32(FACING_STEP)
    return np.clip(np.asarray(uv, np.float32) + steps[:, None], 0, 1).reshape(-1, 2)


def facing_of(across: FloatArray) -> NDArray[np.float32]:
    """``surface_facing`` from differences of what is read there: (..., 3, 2 * P), first the P of
    right minus left, then those of below minus above. Returns (..., P) float32."""
    half = across.shape[-1] // 2
    (ax, ay, az), (bx, by, bz) = (
        np.moveaxis(across[..., part], -2, 0) for part in (slice(half), slice(half, None))
    )
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    length = np.sqrt(x * x + y * y + z * z)
    return np.asarray(z / np.where(length == 0, 1, length), np.float32)


def resample_map(maps: FloatArray, resolution: int) -> NDArray[np.float32]:
    """Maps (..., C, M, M) at another resolution, bilinear on pixel centres, edges held.

    Raises BadInput for other shapes and for a resolution that is not 1 to ``LARGEST_MAP``.
    """
    maps = arrays.maps(maps)
    resolution = arrays.whole(resolution, "resolution", 1, LARGEST_MAP)
    centers = (np.arange(resolution) + 0.5) / resolution
    axis = _axis_matrix(centers, maps.shape[-1])
    return np.asarray(axis @ maps @ axis.T, np.float32)


def _axis_matrix(positions: FloatArray, resolution: int) -> NDArray[np.float32]:
    p = np.clip(positions * resolution - 0.5, 0, resolution - 1)
    low = np.minimum(p.astype(np.int64), max(resolution - 2, 0))
    matrix = np.zeros((len(positions), resolution), np.float32)
    rows = np.arange(len(positions))
    np.add.at(matrix, (rows, low), 1 - (p - low))
    np.add.at(matrix, (rows, np.minimum(low + 1, resolution - 1)), p - low)
    return matrix
