"""Random changes of a picture and its map, reproducible with one generator per sample."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posgan_edge.arrays import Image
from posgan_edge.geometry.axes import opencv_matrix
from posgan_edge.training.recipe import Augmentation


def augment_image(
    image: Image, size: int, config: Augmentation, rng: np.random.Generator
) -> tuple[Image, bool, NDArray[np.float32]]:
    """Returns a changed copy of a crop, and the change of its coordinates.

    ``image`` is a square (S, S, 3) uint8 BGR crop. Returns the image (size, size, 3) uint8 RGB,
    whether it was mirrored, and the similarity (2, 3) float32 in crop units applied after that.
    """
    if flipped := bool(rng.random() < config.flip):
        image = np.ascontiguousarray(image[:, ::-1])
    transform = _similarity(config, rng)
    image = _degrade(image, config, rng)
    image = cv2.warpAffine(
        image, opencv_matrix(transform, image.shape[0], size), (size, size), **_border(rng)
    )
    image = _recolor(image, config, rng)
    if rng.random() < config.erase:
        for _ in range(rng.integers(1, config.erase_most + 1)):
            w, h = (rng.uniform(0.08, 0.35, 2) * size).astype(int)
            x, y = rng.integers(0, size - w), rng.integers(0, size - h)
            image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return image, flipped, transform


def augment_maps(maps: Tensor, flipped: Tensor, transforms: Tensor) -> Tensor:
    """Returns the maps (N, 3, M, M) of augmented images.

    ``flipped`` is (N,) bool, ``transforms`` (N, 2, 3). Mirroring flips the map along u and
    replaces x by 1 - x (both built-in layouts are symmetric). z is multiplied by the scale.
    """
    which = flipped.nonzero()[:, 0]
    mirrored = maps[which].flip(-1)
    mirrored[:, 0].neg_().add_(1.0)
    flat = maps.index_copy(0, which, mirrored).flatten(2)
    linear, shift = transforms[:, :, :2], transforms[:, :, 2]
    scale = linear.square().sum(1).mean(1).sqrt()[:, None]
    flat[:, :2] = torch.baddbmm(shift[:, :, None], linear, flat[:, :2])
    flat[:, 2].mul_(scale)
    return flat.reshape(maps.shape)


def _similarity(config: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    draw = rng.random()
    if draw < config.rotation_any:
        angle = rng.uniform(-180, 180)
    elif draw < config.rotation_any + config.rotation_far:
        angle = rng.uniform(60, 120) * rng.choice((-1, 1))
    else:
        angle = rng.normal(0, config.rotation_std)
    scale = math.exp(rng.normal(0, config.scale_std))
    shift_x, shift_y = rng.normal(0, config.shift_std, 2)
    c = math.cos(math.radians(angle)) * scale
    s = math.sin(math.radians(angle)) * scale
    return np.array(
        [
            [c, -s, 0.5 - 0.5 * (c - s) + shift_x],
            [s, c, 0.5 - 0.5 * (s + c) + shift_y],
        ],
        np.float32,
    )


def _border(rng: np.random.Generator) -> dict[str, Any]:
    draw = rng.random()
    if draw < 0.6:
        mode = cv2.BORDER_CONSTANT
    else:
        mode = cv2.BORDER_REPLICATE if draw < 0.75 else cv2.BORDER_REFLECT_101
    value = (0, 0, 0) if rng.random() < 0.5 else tuple(int(v) for v in rng.integers(0, 255, 3))
    return {"flags": cv2.INTER_LINEAR, "borderMode": mode, "borderValue": value}


def _degrade(image: Image, config: Augmentation, rng: np.random.Generator) -> Image:
    side = image.shape[0]
    if rng.random() < config.low_resolution:
        small = max(8, int(side * rng.uniform(0.25, 0.8)))
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    if rng.random() < config.blur:
        kernel = int(rng.choice((3, 5)))
        image = cv2.GaussianBlur(image, (kernel, kernel), 0)
    return image


def _recolor(image: Image, config: Augmentation, rng: np.random.Generator) -> Image:
    """Converts BGR to RGB and changes gain, offset and colour, in one saturating matrix product."""
    matrix, offset = np.eye(3), 0.0
    if rng.random() < config.color:
        gain = rng.uniform(0.7, 1.35)
        matrix = np.diag(gain * rng.uniform(0.88, 1.12, 3))
        offset = (1 - gain) * rng.uniform(60, 190) + rng.uniform(-12, 12)
    if rng.random() < config.grey:
        matrix = np.ones((3, 3)) @ matrix / 3
    image = cv2.transform(
        image, np.column_stack([matrix[::-1], np.full(3, offset)]).astype(np.float32)
    )
    if rng.random() < config.noise:
        noise = rng.normal(0, rng.uniform(2, 10), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image
