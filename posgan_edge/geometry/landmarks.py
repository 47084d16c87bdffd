"""Names of the 68 landmarks, and the openness of eyes and mouth."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from posgan_edge import arrays
from posgan_edge.arrays import FloatArray
from posgan_edge.geometry.layout import REGIONS

#: A name for each of the 68 iBUG landmarks: its region and its number there. Left and right are the
#: person's: ``right_eye_0`` is the outer corner of the right eye.
LANDMARK_NAMES: tuple[str, ...] = tuple(
    f"{region}_{place}" for region, indices in REGIONS.items() for place in range(len(indices))
)


class HasLandmarks(Protocol):
    """Anything with landmarks, for example a ``Face``."""

    @property
    def landmarks(self) -> FloatArray: ...


def openness(landmarks: HasLandmarks | FloatArray) -> dict[str, float]:
    """How open the eyes and the mouth are: height over width, from a face or its landmarks (68, 3).

    Returns ``right_eye`` and ``left_eye``, the eye aspect ratio of Soukupova and Cech (2016), about
    0.3 for an open eye and below 0.15 for a closed one, and ``mouth``, the same for the inner lips,
    0 for a closed mouth. Distances are measured in 3D, so they change little when the head turns.
    Raises BadInput if there are not 68 points.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, openness, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> openness(face)["mouth"] > 0.05
    True
    """
    given = getattr(landmarks, "landmarks", landmarks)
    p = np.asarray(arrays.points(given, "landmarks", 68), np.float64)

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
