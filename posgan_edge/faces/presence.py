"""Whether what the network found is a face, and whether two are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from posgan_edge.faces.values import Face

#: A fit of the mean face that is further off than this (``Pose.residual``) is no face: of the
#: training pack's held-out faces 1 in 100 lies above (see benchmarks/results/presence.json).
NO_FACE = 0.079
#: Boxes of landmarks that overlap more than this are of one face.
SAME_IOU = 0.5
#: Landmarks that lie closer together on average, in sizes of the larger box, are of one face.
SAME_DISTANCE = 0.25


def presence(residual: float) -> float:
    """How surely a fit of the mean face with this residual is a face, in [0, 1].

    1 / (1 + (residual / NO_FACE)^4): 1 for a perfect fit, 0.5 at ``NO_FACE``, 0 for NaN.
    """
    if not residual >= 0:
        return 0.0
    return float(1 / (1 + min(residual / NO_FACE, 1e9) ** 4))


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
