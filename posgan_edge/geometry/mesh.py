"""The face as a triangle mesh: the grid of the map's pixels inside the layout's mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import FloatArray, Image
from posgan_edge.errors import BadInput
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.values import PositionMap


@dataclass(frozen=True)
class Mesh:
    """Vertices (V, 3) float32 in frame pixels (x right, y down, z towards the camera),
    triangles (T, 3) int32, counter-clockwise when seen from the front, and ``uv`` (V, 2) float32, u
    right and v down.

    Raises BadInput for other shapes, numbers that are not finite, and indices without a vertex.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, face_mesh, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> face_mesh(face).normals().shape
    (14026, 3)
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    uv: NDArray[np.float32]

    def __post_init__(self) -> None:
        vertices = arrays.array(self.vertices, "vertices", (None, 3))
        arrays.array(self.uv, "uv", (len(vertices), 2))
        corners = arrays.array(self.triangles, "triangles", (None, 3))
        if corners.dtype.kind == "f" or not 0 <= corners.min() <= corners.max() < len(vertices):
            raise BadInput(f"triangles have indices outside the {len(vertices)} vertices")

    def normals(self) -> NDArray[np.float32]:
        """Unit vertex normals (V, 3), pointing out of the face, same axes as the vertices."""
        return vertex_normals(self.vertices, self.triangles)

    def colors(self, image: Image) -> NDArray[np.uint8]:
        """RGB (V, 3) of the frame (H, W, 3) BGR under each vertex, nearest pixel. Raises BadInput
        for what is not a picture."""
        image = arrays.image(image)
        height, width = image.shape[:2]
        column = np.clip(self.vertices[:, 0].astype(int), 0, width - 1)
        row = np.clip(self.vertices[:, 1].astype(int), 0, height - 1)
        return image[row, column, ::-1]


@lru_cache(maxsize=8)
def grid_triangles(
    layout: UvLayout, resolution: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Flat pixel indices (V,) inside a layout's mask and triangles (T, 3) over them."""
    return triangulate_mask(layout.mask_at(resolution))


def triangulate_mask(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Two triangles for every 2x2 block of pixels inside a mask (M, M)."""
    inside = np.flatnonzero(mask)
    number = np.full(mask.size, -1, np.int32)
    number[inside] = np.arange(len(inside), dtype=np.int32)
    grid = number.reshape(mask.shape)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    whole = (a >= 0) & (b >= 0) & (c >= 0) & (d >= 0)
    a, b, c, d = a[whole], b[whole], c[whole], d[whole]
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    return inside, triangles


def vertex_normals(
    vertices: FloatArray, triangles: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Area-weighted unit normals (V, 3) of vertices (V, 3) in y-down axes."""
    p0, p1, p2 = (vertices[triangles[:, i]] for i in range(3))
    # With y down a front face is clockwise, so the cross product has the reverse order.
    faces = np.cross(p2 - p0, p1 - p0)
    normals = np.zeros(vertices.shape, np.float64)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(
                triangles[:, corner], faces[:, axis], minlength=len(vertices)
            )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (normals / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


class DenseFace(Protocol):
    """Anything with a position map and a crop, for example a dense ``Face``."""

    @property
    def dense_map(self) -> PositionMap: ...

    @property
    def crop(self) -> Crop: ...


def face_mesh(face: DenseFace | PositionMap, crop: Crop | None = None) -> Mesh:
    """The mesh in frame pixels of a face, or of a position map and its crop.

    Raises BadInput if the face has no position map, if a map is given without its crop, or if the
    map is not finite.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, face_mesh, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> face_mesh(face).vertices.shape
    (14026, 3)
    """
    if isinstance(face, PositionMap):
        if crop is None:
            raise BadInput("a position map needs its crop: face_mesh(position_map, crop)")
        position_map = face
    elif hasattr(face, "dense_map") and hasattr(face, "crop"):
        position_map, crop = face.dense_map, face.crop if crop is None else crop
    else:
        raise BadInput(f"face is {arrays.described(face)}: give a Face, or a PositionMap and Crop")
    crop = arrays.instance(crop, Crop, "crop")
    size = position_map.resolution
    index, triangles = grid_triangles(position_map.layout, size)
    points = position_map.xyz.reshape(3, -1)[:, index].T
    if not arrays.finite(points):
        raise BadInput("the position map is not finite: no face was found")
    uv = np.column_stack([index % size + 0.5, index // size + 0.5]) / size
    return Mesh(crop.to_frame(points), triangles, uv.astype(np.float32))
