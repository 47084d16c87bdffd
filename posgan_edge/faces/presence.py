"""Whether what the network found is a face, and whether two are the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posgan_edge.faces.values import Face
from posgan_edge.geometry.pose import NO_FACE

#: Boxes of landmarks that overlap more than this are of one face.
SAME_IOU = 0.5
#: Landmarks that lie closer together on average, in sizes of the larger box, are of one face.
SAME_DISTANCE = 0.25


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
    """Whether two readings of a frame are of one face."""
    if a.box.iou(b.box) >= SAME_IOU:
        return True
    size = max(a.box.width, a.box.height, b.box.width, b.box.height)
    apart = np.linalg.norm(a.landmarks[:, :2] - b.landmarks[:, :2], axis=1).mean()
    return bool(apart < SAME_DISTANCE * size)


def distinct(faces: Sequence[Face]) -> list[Face]:
    """The faces without duplicates, in their order: of one face the better fit is kept."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: f.pose.residual):
        if not any(same_face(face, other) for other in kept):
            kept.append(face)
    chosen = {id(face) for face in kept}
    return [face for face in faces if id(face) in chosen]
