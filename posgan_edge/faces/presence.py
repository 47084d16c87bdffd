"""Whether what the network found is a face, and whether two are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from posgan_edge.faces.values import Face
from posgan_edge.geometry.pose import NO_FACE

#: Boxes of landmarks that overlap more than this are of one face.
SAME_IOU = 0.5
#: Landmarks that lie closer together on average, in sizes of the larger box, are of one face.
SAME_DISTANCE = 0.25
#: Boxes whose middles lie closer together than this, in sizes of the larger one, are of one person:
#: an ear or a forehead that passes for a face. Heads side by side are further apart.
SAME_MIDDLE = 0.65


def is_face(face: Face, height: int, width: int) -> bool:
    """Whether the mean face fits what the network found, and its middle lies in the picture (or
    outside by at most a quarter of its box)."""
    x, y = face.box.center
    return (
        face.pose.residual <= NO_FACE  # False for NaN
        and -0.25 * face.box.width <= x <= width + 0.25 * face.box.width
        and -0.25 * face.box.height <= y <= height + 0.25 * face.box.height
    )


def same_face(a: Face, b: Face) -> bool:
    """Whether two readings of a frame are of one face: they cover each other."""
    if a.box.iou(b.box) >= SAME_IOU:
        return True
    apart = np.linalg.norm(a.landmarks[:, :2] - b.landmarks[:, :2], axis=1).mean()
    return bool(apart < SAME_DISTANCE * _larger(a, b))


def same_person(a: Face, b: Face) -> bool:
    """Whether two readings are of one face or too close together for two heads."""
    apart = math.dist(a.box.center, b.box.center)
    return apart < SAME_MIDDLE * _larger(a, b) or same_face(a, b)


def _larger(a: Face, b: Face) -> float:
    return max(a.box.width, a.box.height, b.box.width, b.box.height)


def distinct(faces: Sequence[Face]) -> list[Face]:
    """The faces without those of one person, in their order: of these the one is kept that the
    detector and the fit make surest."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.box.score * f.presence):
        if not any(same_person(face, other) for other in kept):
            kept.append(face)
    chosen = {id(face) for face in kept}
    return [face for face in faces if id(face) in chosen]
