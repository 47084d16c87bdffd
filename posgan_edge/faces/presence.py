"""Tests whether a result is a face, and whether two results are the same face."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from posgan_edge.faces.values import Face
from posgan_edge.geometry.pose import NO_FACE

#: Two results are one face if their landmark boxes overlap by more than this.
SAME_IOU = 0.5
#: Two results are one face if their landmarks are closer on average, in sizes of the larger box.
SAME_DISTANCE = 0.25
#: Boxes whose middles lie closer together than this, in sizes of the larger one, are of one person:
#: an ear or a forehead that passes for a face. Heads side by side are further apart.
SAME_MIDDLE = 0.65


def is_face(face: Face, height: int, width: int) -> bool:
    """Whether the mean face fits the result, and its centre is inside the picture, or outside by at
    most a quarter of its box."""
    x, y = face.box.center
    return (
        face.pose.residual <= NO_FACE  # False for NaN
        and -0.25 * face.box.width <= x <= width + 0.25 * face.box.width
        and -0.25 * face.box.height <= y <= height + 0.25 * face.box.height
    )


def same_face(a: Face, b: Face) -> bool:
    """Whether two results of a frame are the same face: they overlap."""
    if a.box.iou(b.box) >= SAME_IOU:
        return True
    apart = np.linalg.norm(a.landmarks[:, :2] - b.landmarks[:, :2], axis=1).mean()
    return bool(apart < SAME_DISTANCE * _larger(a, b))


def same_person(a: Face, b: Face) -> bool:
    """Whether two results are the same face, or too close to each other for two heads."""
    apart = math.dist(a.box.center, b.box.center)
    return apart < SAME_MIDDLE * _larger(a, b) or same_face(a, b)


def _larger(a: Face, b: Face) -> float:
    return max(a.box.width, a.box.height, b.box.width, b.box.height)


def distinct(faces: Sequence[Face]) -> list[Face]:
    """The faces without those of one person, in their order: of these the one with the
    best product of score and presence is kept."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.box.score * f.presence):
        if not any(same_person(face, other) for other in kept):
            kept.append(face)
    chosen = {id(face) for face in kept}
    return [face for face in faces if id(face) in chosen]
