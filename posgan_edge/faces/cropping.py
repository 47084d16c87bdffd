"""Cutting a crop out of a frame as the network's input."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.geometry.axes import opencv_matrix
from posgan_edge.geometry.crop import Crop


def extract_crop(frame: Image, crop: Crop, size: int) -> NDArray[np.float32]:
    """Cuts ``crop`` out of a BGR frame (H, W, 3) uint8 -> (3, size, size) float32 RGB in [0, 1].

    Sampling is bilinear on pixel centres. If the crop is made smaller, the frame is first averaged
    over as many pixels as become one, to avoid aliasing. Outside the frame it is black. Raises
    BadInput for other arguments and for a size that is not 1 to 4096.
    """
    arrays.image(frame, "frame")
    arrays.instance(crop, Crop, "crop")
    size = arrays.whole(size, "size", 1, 4096)
    matrix = crop.matrix
    shrink = math.ceil(crop.side / size - 1e-6)
    if shrink > 1:
        frame, matrix = _averaged(frame, crop, shrink)
    patch = cv2.warpAffine(
        frame,
        opencv_matrix(matrix, source=size),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    rgb = cv2.cvtColor(patch, cv2.COLOR_BGR2RGB).transpose(2, 0, 1).astype(np.float32)
    return np.multiply(rgb, np.float32(1 / 255), out=rgb)


def _averaged(frame: Image, crop: Crop, reach: int) -> tuple[Image, NDArray[np.float64]]:
    """The part of the frame under the crop, box-averaged over ``reach`` pixels, and the crop's
    matrix into it."""
    turn = math.radians(crop.angle)
    half = 0.5 * crop.side * (abs(math.cos(turn)) + abs(math.sin(turn))) + reach
    left, right = _span(crop.center_x, half, frame.shape[1])
    top, bottom = _span(crop.center_y, half, frame.shape[0])
    if right <= left or bottom <= top:
        return frame, crop.matrix
    part = cv2.blur(frame[top:bottom, left:right], (reach, reach))
    matrix = crop.matrix
    # The box of an even count has its middle half a pixel before the pixel it is written to.
    middle = 0.5 * (reach % 2 == 0)
    matrix[:, 2] += (middle - left, middle - top)
    return part, matrix


def _span(center: float, half: float, length: int) -> tuple[int, int]:
    """The pixels of an axis of ``length`` that ``center`` +- ``half`` touches: first, and end."""
    first, end = math.floor(center - half), math.ceil(center + half)
    return min(max(first, 0), length), min(max(end, 0), length)
