"""What the 68 landmarks are called and say by themselves."""

from __future__ import annotations

import numpy as np

from posgan_edge.arrays import FloatArray
from posgan_edge.geometry.layout import REGIONS

#: A name for each iBUG-68 landmark: its region and its place in it, as the camera sees the order
#: (``right_eye_0`` is the outer corner of the person's right eye).
LANDMARK_NAMES: tuple[str, ...] = tuple(
    f"{region}_{place}" for region, indices in REGIONS.items() for place in range(len(indices))
)


def openness(landmarks: FloatArray) -> dict[str, float]:
    """How open eyes and mouth are: height over width, from landmarks (68, 3), in any unit.

    ``right_eye``, ``left_eye``: the eye aspect ratio of Soukupova and Cech (2016), about 0.3 when
    open and below 0.15 when shut. ``mouth``: the same of the inner lips, 0 when shut. Distances
    are taken in 3D, so that turning the head changes them little.
    """
    p = np.asarray(landmarks, np.float64)

    def distance(a: int, b: int) -> float:
        return float(np.linalg.norm(p[a] - p[b]))

    def ratio(heights: tuple[tuple[int, int], ...], corners: tuple[int, int]) -> float:
        width = distance(*corners)
        total = sum(distance(*pair) for pair in heights)
        return total / len(heights) / width if width > 0 else 0.0

    return {
        "right_eye": ratio(((37, 41), (38, 40)), (36, 39)),
        "left_eye": ratio(((43, 47), (44, 46)), (42, 45)),
        "mouth": ratio(((61, 67), (62, 66), (63, 65)), (60, 64)),
    }
