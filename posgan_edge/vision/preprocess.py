"""The one way from a frame to a network input: training validation, benchmark and live use it."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge.geometry.crop import Crop
from posgan_edge.types import Image


def extract_crop(frame: Image, crop: Crop, size: int) -> NDArray[np.float32]:
    """Cuts ``crop`` out of a BGR frame (H, W, 3) uint8 -> (3, size, size) float32 RGB in [0, 1].

    Bilinear on pixel centres; where the crop is shrunk, the frame is first reduced by area
    averaging, so that no detail aliases. Black outside the frame.
    """
    frame, matrix = _reduced(frame, crop, size)
    # cv2 puts pixel centres at integers, the package at i + 0.5.
    to_pixels = matrix[:, :2] / size
    shift = matrix[:, 2] + to_pixels @ (0.5, 0.5) - 0.5
    patch = cv2.warpAffine(
        frame,
        np.column_stack([to_pixels, shift]),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    rgb = patch[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
    return np.multiply(rgb, 1 / 255, out=rgb)


def _reduced(frame: Image, crop: Crop, size: int) -> tuple[Image, NDArray[np.float64]]:
    """The part of the frame under the crop, reduced to about its scale, and the crop's matrix."""
    matrix = crop.matrix
    factor = crop.side / size
    if factor <= 1.0:
        return frame, matrix
    corners = crop.to_frame(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32))
    height, width = frame.shape[:2]
    margin = 2 * factor
    left = int(np.clip(math.floor(corners[:, 0].min() - margin), 0, width))
    right = int(np.clip(math.ceil(corners[:, 0].max() + margin), 0, width))
    top = int(np.clip(math.floor(corners[:, 1].min() - margin), 0, height))
    bottom = int(np.clip(math.ceil(corners[:, 1].max() + margin), 0, height))
    if right - left < 1 or bottom - top < 1:
        return frame, matrix
    new_width = max(1, round((right - left) / factor))
    new_height = max(1, round((bottom - top) / factor))
    part = cv2.resize(
        frame[top:bottom, left:right], (new_width, new_height), interpolation=cv2.INTER_AREA
    )
    scale = np.array([new_width / (right - left), new_height / (bottom - top)])
    matrix = matrix.copy()
    matrix[:, 2] -= (left, top)
    return part, matrix * scale[:, None]
