"""Pictures of the dense surface: depth, mask and texture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import FloatArray, Image
from posgan_edge.errors import BadInput
from posgan_edge.faces.values import Face
from posgan_edge.files import replaced
from posgan_edge.geometry.mesh import Mesh, face_mesh
from posgan_edge.geometry.sampling import LARGEST_MAP, resample_map
from posgan_edge.images import write_image

#: What ``write_dense`` writes, and the file types of each.
DENSE_SUFFIXES = {"depth": (".npy", ".png"), "mask": (".png",), "texture": (".png",)}
#: How far behind the surface a point still counts as visible, as a share of the face's size.
_SLACK = 0.02
#: What gives a frame's height and width: its image, the two numbers, or the height alone.
Size = Image | tuple[int, int] | int


@dataclass(frozen=True)
class Raster:
    """The depth of a surface in a part of the frame: ``depth`` (h, w) float32, z in frame pixels,
    larger is nearer, NaN off the surface. ``left`` and ``top`` are the part's corner."""

    depth: NDArray[np.float32]
    left: int
    top: int

    def at(self, points: FloatArray) -> NDArray[np.float32]:
        """The depth (P,) under points (P, 2 or 3) in frame pixels; NaN off the surface."""
        column = np.floor(points[:, 0]).astype(int) - self.left
        row = np.floor(points[:, 1]).astype(int) - self.top
        height, width = self.depth.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = np.full(len(points), np.nan, np.float32)
        found[inside] = self.depth[row[inside], column[inside]]
        return found


def rasterize(mesh: Mesh, height: int, width: int) -> Raster:
    """The nearest surface at the centre of each pixel of a frame (height, width).

    Every triangle is tested against the pixel centres of its own bounding box (barycentric
    coordinates), all triangles at once. Raises BadInput for what is no mesh and for sides that are
    not 1 to ``arrays.LARGEST_SIDE``.
    """
    arrays.instance(mesh, Mesh, "mesh")
    height, width = arrays.whole(height, "height"), arrays.whole(width, "width")
    corners = mesh.vertices[mesh.triangles].astype(np.float64)
    low = np.clip(np.ceil(corners[..., :2].min(1) - 0.5), 0, (width, height)).astype(int)
    high = np.clip(np.floor(corners[..., :2].max(1) - 0.5) + 1, 0, (width, height)).astype(int)
    spans = np.maximum(high - low, 0)
    counts = spans.prod(1)
    drawn = np.flatnonzero(counts)
    if not len(drawn):
        return Raster(np.full((0, 0), np.nan, np.float32), 0, 0)
    left, top = low[drawn].min(0)
    right, bottom = high[drawn].max(0)
    owner = np.repeat(drawn, counts[drawn])
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts[drawn]) - counts[drawn],
                                               counts[drawn])  # fmt: skip
    column = low[owner, 0] + number % spans[owner, 0]
    row = low[owner, 1] + number // spans[owner, 0]
    a, b, c = (corners[owner, i] for i in range(3))
    x, y = column + 0.5, row + 0.5
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        wb = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / area
        wc = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / area
        inside = (area != 0) & (wb >= -1e-9) & (wc >= -1e-9) & (wb + wc <= 1 + 1e-9)
        z = (a[:, 2] + wb * (b[:, 2] - a[:, 2]) + wc * (c[:, 2] - a[:, 2]))[inside]
    flat = ((row - top) * (right - left) + column - left)[inside]
    depth = np.full((bottom - top) * (right - left), -np.inf, np.float32)
    np.maximum.at(depth, flat, z.astype(np.float32))
    depth[np.isneginf(depth)] = np.nan
    return Raster(depth.reshape(bottom - top, right - left), int(left), int(top))


def depth_map(
    face: Face, size: Size | None = None, width: int | None = None, *, height: int | None = None
) -> NDArray[np.float32]:
    """(height, width) float32: z of the face at each pixel of the frame, in frame pixels, larger
    nearer to the camera, zero the depth of the crop's plane; NaN off the face.

    ``size`` is the frame's image or (height, width); ``depth_map(face, height, width)`` means the
    same. Raises BadInput if the face carries no finite position map, and for sizes that are not
    1 to ``arrays.LARGEST_SIDE``.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, depth_map, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> depth_map(face, image).shape
    (512, 512)
    """
    height, width = _frame_size(size, width, height)
    raster = rasterize(face_mesh(arrays.instance(face, Face, "face")), height, width)
    depth = np.full((height, width), np.nan, np.float32)
    h, w = raster.depth.shape
    depth[raster.top : raster.top + h, raster.left : raster.left + w] = raster.depth
    return depth


def face_mask(
    face: Face, size: Size | None = None, width: int | None = None, *, height: int | None = None
) -> NDArray[np.uint8]:
    """(height, width) uint8: 255 where the face is, 0 elsewhere. See ``depth_map`` for ``size`` and
    for the errors raised.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, face_mask, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> face_mask(face, image)[130, 224]
    255
    """
    depth = depth_map(face, size, width, height=height)
    return np.where(np.isnan(depth), 0, 255).astype(np.uint8)


def _frame_size(size: Size | None, width: int | None, height: int | None) -> tuple[int, int]:
    given: Any = size if height is None else height
    if isinstance(given, np.ndarray):
        given, width = arrays.image(given, "size").shape[:2]
    elif isinstance(given, (tuple, list)) and len(given) == 2 and width is None:
        given, width = given
    return arrays.whole(given, "height"), arrays.whole(width, "width")


def uv_texture(face: Face, image: Image, size: int = 512, mirrored: bool = False) -> Image:
    """The face's colours on its UV map: (size, size, 4) uint8 BGRA, alpha 255 where they are known.

    A point is visible if it faces the camera and no part of the face is in front of it. With
    ``mirrored``, a hidden point takes the colour of its mirror point if that is visible (UV layouts
    are symmetric). Raises BadInput if the face carries no finite position map, for
    what is not a picture, and for a size that is not 2 to 8192.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, read_image, uv_texture
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> uv_texture(face, image, 128).shape
    (128, 128, 4)
    """
    position_map = arrays.instance(face, Face, "face").dense_map
    image = arrays.image(image)
    size = arrays.whole(size, "size", 2, LARGEST_MAP)
    mirrored = arrays.flag(mirrored, "mirrored")
    if not arrays.finite(position_map.xyz):
        raise BadInput("the position map is not finite: no face was found")
    height, width = image.shape[:2]
    points = face.crop.to_frame(resample_map(position_map.xyz, size).reshape(3, -1).T)
    raster = rasterize(face_mesh(face), height, width)
    in_front = raster.at(points)
    slack = _SLACK * max(face.box.width, face.box.height)
    xyz = points.reshape(size, size, 3)
    across, down = np.gradient(xyz, axis=1), np.gradient(xyz, axis=0)
    faces_camera = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0] > 0
    # At the outline a pixel's centre may be off the surface (NaN): the point is then not hidden.
    hidden = points[:, 2] < in_front - slack
    seen = ~hidden.reshape(size, size) & faces_camera
    seen = cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5))).astype(bool)
    seen &= position_map.layout.mask_at(size)
    # cv2 puts pixel centres at integers.
    column, row = np.ascontiguousarray(np.moveaxis(xyz[..., :2], -1, 0)) - np.float32(0.5)
    color = cv2.remap(image, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if mirrored:
        take = ~seen & seen[:, ::-1]
        color[take] = np.asarray(color)[:, ::-1][take]
        seen |= take
    alpha = np.where(seen, 255, 0).astype(np.uint8)
    return np.dstack([np.where(seen[..., None], color, 0).astype(np.uint8), alpha])


def filled(texture: Image) -> Image:
    """A texture (S, S, 4) as (S, S, 3) BGR without holes: each takes the nearest known colour."""
    hole = (texture[..., 3] == 0).astype(np.uint8)
    if hole.all():
        return np.ascontiguousarray(texture[..., :3])
    # The nearest known colour; a fine inpainting would invent skin that is not there either.
    _, nearest = cv2.distanceTransformWithLabels(
        hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    known = np.zeros((nearest.max() + 1, 3), np.uint8)
    known[nearest[hole == 0]] = texture[..., :3][hole == 0]
    return np.ascontiguousarray(known[nearest])


def write_dense(
    kind: str, face: Face, image: Image, path: str | Path, mirrored: bool = False
) -> None:
    """Writes a face's ``depth`` (NPY: as ``depth_map``; PNG: 16 bits, 0 for none, 1 the furthest
    and 65535 the nearest), ``mask`` (PNG) or ``texture`` (PNG with alpha). Raises BadInput for
    another file type and where it cannot be written."""
    if Path(path).suffix.lower() not in DENSE_SUFFIXES[kind]:
        raise BadInput(f"{path}: a {kind} is written as {' or '.join(DENSE_SUFFIXES[kind])}")
    height, width = image.shape[:2]
    if kind == "texture":
        write_image(path, uv_texture(face, image, mirrored=mirrored))
    elif kind == "mask":
        write_image(path, face_mask(face, height, width))
    elif Path(path).suffix.lower() == ".npy":
        with replaced(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, depth_map(face, height, width))
    else:
        depth = depth_map(face, height, width)
        known = ~np.isnan(depth)
        levels = np.zeros(depth.shape, np.uint16)
        if known.any():  # a face may lie outside the picture
            z = depth[known] - depth[known].min()
            levels[known] = 1 + 65534 * z / max(float(z.max()), 1e-6)
        write_image(path, levels)
