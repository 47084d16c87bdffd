"""Draws docs/pose.png: what positive and negative pitch, yaw and roll are.

python docs/draw_pose.py
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import FaceBox, FacePipeline, Frame, PositionMap, load_engine, load_layout
from posgan_edge.geometry.pose import rotation_from_angles
from posgan_edge.images import read_image, write_image
from posgan_edge.render.draw import shaded_surface

HERE = Path(__file__).parent
PORTRAIT = HERE.parent / "posgan_edge" / "assets" / "portrait.jpg"
BOX = FaceBox(179, 88, 97, 90)
COLORS = ((60, 60, 255), (60, 180, 60), (255, 120, 40))
FLIP = np.array([1.0, -1.0, 1.0])
SIDE = 240


def panel(shape: NDArray[Any], angles: Sequence[int], title: str) -> NDArray[Any]:
    """The upright face (3, M, M), unit radius, y up, turned and drawn with its axes."""
    rotation = rotation_from_angles(*angles)
    turned = np.tensordot(rotation, shape, 1) * FLIP[:, None, None]
    xyz = (turned * 0.21 + np.array([0.5, 0.52, 0.0])[:, None, None]).astype(np.float32)
    shade, cover = shaded_surface(PositionMap(xyz, load_layout("ict")))
    canvas = np.full((SIDE, SIDE, 3), 255, np.uint8)
    alpha = cv2.resize(cover, (SIDE, SIDE))[..., None]
    canvas = (canvas * (1 - alpha) + cv2.resize(shade, (SIDE, SIDE)) * alpha).astype(np.uint8)
    middle = np.array([0.5, 0.52]) * SIDE
    for axis, color in enumerate(COLORS):
        tip = middle + rotation[:2, axis] * (1, -1) * 0.36 * SIDE
        start, end = (tuple(map(int, np.round(p * 16))) for p in (middle, tip))
        cv2.arrowedLine(canvas, start, end, color, 2, cv2.LINE_AA, 4, 0.12)
    cv2.putText(
        canvas, title, (10, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20, 20, 20), 1, cv2.LINE_AA
    )
    return canvas


def main() -> None:
    face = FacePipeline(load_engine("edge")).process(Frame(read_image(PORTRAIT)), [BOX])[0]
    pose = face.pose
    points = face.crop.to_frame(face.dense_map.xyz.reshape(3, -1).T) * FLIP
    shape = ((points - pose.translation) @ pose.rotation / pose.scale).T
    shape = shape.reshape(face.dense_map.xyz.shape)
    rows = [
        np.hstack([panel(shape, tuple(sign * 30 * (i == axis) for i in range(3)),
                         f"{name} {sign * 30:+d}") for axis, name in enumerate(names)])
        for sign in (1, -1) for names in (("pitch", "yaw", "roll"),)
    ]  # fmt: skip
    write_image(HERE / "pose.png", np.vstack(rows))


if __name__ == "__main__":
    main()
