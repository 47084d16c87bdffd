"""Parts and copies of a picture that faces are looked for in, and the way back of their boxes."""

from __future__ import annotations

import cv2

from posgan_edge.arrays import Image
from posgan_edge.geometry.values import FaceBox


def starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that cover a length and overlap by half or more."""
    left = max(0, length - tile)
    steps = -(-2 * left // tile)
    return [left * step // steps for step in range(steps + 1)] if steps else [0]


def moved(box: FaceBox, dx: float, dy: float) -> FaceBox:
    return FaceBox(box.x + dx, box.y + dy, box.width, box.height, box.score, box.roll)


def shrunk(rgb: Image, most: int) -> tuple[Image, float]:
    """A picture of at most so many pixels along a side, and how much larger the original is."""
    height, width = rgb.shape[:2]
    scale = max(height, width) / most
    if scale <= 1:
        return rgb, 1.0
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), scale


def scaled(box: FaceBox, scale: float) -> FaceBox:
    x, y, width, height = (v * scale for v in (box.x, box.y, box.width, box.height))
    return FaceBox(x, y, width, height, box.score, box.roll)


def unturned(box: FaceBox, degrees: int, width: int, height: int) -> FaceBox:
    """A box found in the frame turned clockwise by ``degrees``, back in the frame."""
    x, y = box.center
    if degrees == 90:
        x, y = y, height - x
    elif degrees == 180:
        x, y = width - x, height - y
    else:
        x, y = width - y, x
    roll = (box.roll - degrees + 180) % 360 - 180
    side = box.width
    return FaceBox(x - side / 2, y - side / 2, side, side, box.score, roll)
