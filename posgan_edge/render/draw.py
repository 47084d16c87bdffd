"""Drawing faces on a frame: landmarks, pose axes and the shaded surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.faces.values import Face
from posgan_edge.geometry.axes import Y_UP, opencv_matrix
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import CLOSED_REGIONS, REGIONS
from posgan_edge.geometry.sampling import resample_map
from posgan_edge.geometry.values import FaceBox, PositionMap

_LINE = (120, 255, 120)
_AXES = ((60, 60, 255), (80, 220, 80), (255, 140, 60))  # x red, y green, z blue, in BGR
_SURFACE = np.array([235.0, 205.0, 150.0])
_OPACITY = 0.45
#: Colour of each amount of light (1, 256, 3), a third of it from all around.
_COLORS = ((0.3 + 0.7 * np.arange(256)[:, None] / 255) * _SURFACE).astype(np.uint8)[None]
_BLOCK = np.ones((3, 3), np.uint8)
_LIGHT = np.array([-0.35, -0.45, 0.82], np.float32)
_SHADE_SIZE = 160
_SHIFT = 4  # fractional bits of cv2's drawing coordinates


def draw_faces(
    image: Image,
    faces: Sequence[Face],
    dense: bool = True,
    label: bool = True,
    scale: int = 1,
    out: Image | None = None,
) -> Image:
    """A copy of the frame, ``scale`` times as large, with every face drawn on it.

    ``out``, if given, is filled and returned. Raises BadInput for arguments that are not a picture
    or faces, a scale that is not 1 to 32, and an ``out`` of another shape.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, draw_faces, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     faces = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> draw_faces(image, faces).shape
    (512, 512, 3)
    """
    image, faces = arrays.image(image), arrays.instances(faces, Face, "faces")
    scale = arrays.whole(scale, "scale", 1, 32)
    dense, label = arrays.flag(dense, "dense"), arrays.flag(label, "label")
    height, width = image.shape[:2]
    canvas = np.empty((height * scale, width * scale, 3), np.uint8) if out is None else out
    if arrays.image(canvas, "out").shape != (height * scale, width * scale, 3):
        raise BadInput(f"out is {canvas.shape}: give {(height * scale, width * scale, 3)}")
    if scale == 1:
        np.copyto(canvas, image)
    else:
        cv2.resize(image, canvas.shape[1::-1], dst=canvas, interpolation=cv2.INTER_CUBIC)
        faces = [_enlarged(face, scale) for face in faces]
    for face in faces:
        if dense and face.position_map is not None:
            _draw_surface(canvas, face.crop, face.position_map)
        _draw_landmarks(canvas, face)
        _draw_pose(canvas, face)
        if label:
            _draw_label(canvas, face, f"#{face.id} " if len(faces) > 1 else "")
    return canvas


def _fixed(points: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    # cv2 puts pixel centres at integers.
    fixed: NDArray[np.int32] = np.round((points[..., :2] - 0.5) * (1 << _SHIFT)).astype(np.int32)
    return fixed


def _enlarged(face: Face, scale: int) -> Face:
    box, crop = face.box, face.crop
    return replace(
        face,
        landmarks=face.landmarks * np.float32(scale),
        box=FaceBox(box.x * scale, box.y * scale, box.width * scale, box.height * scale, box.score),
        crop=Crop(crop.center_x * scale, crop.center_y * scale, crop.side * scale, crop.angle),
    )


def _line_width(face: Face) -> int:
    return max(1, round(max(face.box.width, face.box.height) / 200))


def _draw_landmarks(canvas: Image, face: Face) -> None:
    points, width = _fixed(face.landmarks), _line_width(face)
    radius = max(0.8, max(face.box.width, face.box.height) / 130)
    for name, indices in REGIONS.items():
        closed = name in CLOSED_REGIONS
        cv2.polylines(canvas, [points[list(indices)]], closed, _LINE, width, cv2.LINE_AA, _SHIFT)
    for point in points:
        center = (int(point[0]), int(point[1]))
        for size, color in ((1.5, (30, 30, 30)), (1.0, (255, 255, 255))):
            drawn = round(radius * size * (1 << _SHIFT))
            cv2.circle(canvas, center, drawn, color, -1, cv2.LINE_AA, _SHIFT)


def _draw_pose(canvas: Image, face: Face) -> None:
    """The head's x (red), y (green) and z (blue) axes at the nose tip, seen by the camera."""
    origin = face.landmarks[30, :2]
    length = 0.5 * max(face.box.width, face.box.height)
    for column, color in enumerate(_AXES):
        direction = face.pose.rotation[:2, column] * Y_UP[:2]
        tip = _fixed(np.stack([origin, origin + length * direction]))
        cv2.arrowedLine(
            canvas, tuple(map(int, tip[0])), tuple(map(int, tip[1])), color,
            _line_width(face) + 1,
            cv2.LINE_AA, _SHIFT, 0.15,
        )  # fmt: skip


def _draw_label(canvas: Image, face: Face, name: str) -> None:
    pose = face.pose
    text = f"{name}pitch {pose.pitch:+.0f} yaw {pose.yaw:+.0f} roll {pose.roll:+.0f}"
    scale = max(0.35, face.box.width / 560)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = int(np.clip(face.box.x, 0, max(0, canvas.shape[1] - width)))
    y = int(np.clip(face.box.y - 0.42 * face.box.height, height + 2, canvas.shape[0] - base))
    _write(canvas, text, (x, y), scale)


def draw_lines(canvas: Image, lines: Sequence[str]) -> None:
    """Lines of text in the top left corner."""
    scale = max(0.4, canvas.shape[0] / 1400)
    step = round(34 * scale)
    for number, line in enumerate(lines):
        _write(canvas, line, (step // 2, step * (number + 1)), scale)


def _write(canvas: Image, text: str, at: tuple[int, int], scale: float) -> None:
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, color, width, cv2.LINE_AA)


def _draw_surface(canvas: Image, crop: Crop, position_map: PositionMap) -> None:
    """Blends the shaded surface over the frame: splatted in depth order in the crop."""
    shade, alpha = shaded_surface(position_map)
    region = _region(canvas, crop, position_map)
    if region is None:
        return
    left, top, right, bottom = region
    to_part = Crop(crop.center_x - left, crop.center_y - top, crop.side, crop.angle).matrix
    matrix = opencv_matrix(to_part, source=_SHADE_SIZE)
    size = (right - left, bottom - top)
    over = cv2.warpAffine(shade, matrix, size, flags=cv2.INTER_LINEAR)
    weight = cv2.warpAffine(alpha * np.float32(_OPACITY), matrix, size, flags=cv2.INTER_LINEAR)
    part = canvas[top:bottom, left:right]
    cv2.blendLinear(part, over, 1 - np.asarray(weight), weight, dst=part)


def _region(
    canvas: Image, crop: Crop, position_map: PositionMap
) -> tuple[int, int, int, int] | None:
    """The part of the canvas that the face covers."""
    low, high = position_map.xyz[:2].min((1, 2)), position_map.xyz[:2].max((1, 2))
    if not np.isfinite([low, high]).all():
        return None
    corners = crop.to_frame(
        np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])])
    )
    height, width = canvas.shape[:2]
    left, top = np.clip(np.floor(corners.min(0)) - 2, 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)) + 2, 0, (width, height)).astype(int)
    return (left, top, right, bottom) if left < right and top < bottom else None


def shaded_surface(position_map: PositionMap) -> tuple[Image, NDArray[np.float32]]:
    """The shaded face (S, S, 3) uint8 in crop coordinates and its cover (S, S) float32 in [0, 1].

    Points of the map, refined twofold, are written back to front (a point buffer needs no
    triangle rasteriser and takes about two milliseconds); one-pixel holes are closed.
    """
    coarse = min(position_map.resolution, 128)
    xyz = position_map.xyz
    if coarse != position_map.resolution:
        xyz = resample_map(xyz, coarse)
    (ax, ay, az), (bx, by, bz) = (
        # Differences of neighbours; a normal does not depend on their scale.
        [cv2.Sobel(plane, cv2.CV_32F, *order, ksize=1, borderType=cv2.BORDER_REPLICATE)
         for plane in xyz]
        for order in ((1, 0), (0, 1))
    )  # fmt: skip
    normal = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    length = np.maximum(np.sqrt(sum(n * n for n in normal)), np.float32(1e-12))
    light = sum(n * w for n, w in zip(normal, _LIGHT, strict=True)) / length
    facing = position_map.layout.mask_at(coarse) & (normal[2] > np.float32(0.05) * length)
    # Depth in 256 steps: whole bytes are sorted fastest.
    z = xyz[2]
    low, high = float(z.min()), float(z.max())
    step = (z - low) * np.float32(255 / max(high - low, 1e-9))
    planes = (xyz[0] * _SHADE_SIZE, xyz[1] * _SHADE_SIZE, light.clip(0, 1) * 255, step)
    fine = cv2.resize(cv2.merge(planes), (2 * coarse, 2 * coarse))
    seen = np.flatnonzero(np.repeat(np.repeat(facing, 2, 0), 2, 1))
    points = fine.reshape(-1, 4)[seen]
    column, row = points[:, 0].astype(np.int32), points[:, 1].astype(np.int32)
    # As unsigned numbers, those below zero are large.
    inside = (column.view(np.uint32) < _SHADE_SIZE) & (row.view(np.uint32) < _SHADE_SIZE)
    order = np.argsort(points[:, 3].astype(np.uint8), kind="stable")
    order = order[inside[order]]
    flat = row[order] * _SHADE_SIZE + column[order]
    shade = np.zeros(_SHADE_SIZE * _SHADE_SIZE, np.uint8)
    cover = np.zeros(_SHADE_SIZE * _SHADE_SIZE, np.uint8)
    shade[flat], cover[flat] = points[order, 2].astype(np.uint8), 255
    shade, cover = shade.reshape(_SHADE_SIZE, -1), cover.reshape(_SHADE_SIZE, -1)
    closed = cv2.morphologyEx(cover, cv2.MORPH_CLOSE, _BLOCK)
    shade = np.where(cover > 0, shade, cv2.dilate(shade, _BLOCK))
    alpha = cv2.GaussianBlur(closed, (3, 3), 0).astype(np.float32) / np.float32(255)
    return cv2.LUT(cv2.merge([shade] * 3), _COLORS), alpha
