"""The gaps between lids and between lips."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray

#: Upper and lower landmark of each distance that makes a gap, and the corners that give its width.
GAPS = (
    (((37, 41), (38, 40)), (36, 39)),
    (((43, 47), (44, 46)), (42, 45)),
    (((61, 67), (62, 66), (63, 65)), (60, 64)),
)
GAP_LANDMARKS = (*range(36, 48), *range(60, 68))
#: The ends of all distances, the widths last, and the weights (3, 7) that make means of gaps.
_ENDS = [*(pair for pairs, _ in GAPS for pair in pairs), *(ends for _, ends in GAPS)]
_FROM, _TO = np.array([[GAP_LANDMARKS.index(point) for point in pair] for pair in _ENDS]).T
_MEANS = np.array(
    [[(pair in pairs) / len(pairs) for pair in _ENDS[: -len(GAPS)]] for pairs, _ in GAPS]
)


def gap_ratios(lids: FloatArray) -> NDArray[np.floating[Any]]:
    """Points (..., 20, 3) of lids and inner lips, pose-free -> (..., 3): gap over width."""
    place = {landmark: i for i, landmark in enumerate(GAP_LANDMARKS)}
    gaps = []
    for pairs, ends in GAPS:
        heights = [lids[..., place[lo], 1] - lids[..., place[up], 1] for up, lo in pairs]
        gaps.append(sum(heights) / len(pairs) / width(lids, ends))
    return np.stack(gaps, axis=-1)


def picture_ratios(lids: FloatArray) -> NDArray[np.floating[Any]]:
    """Points (20, 2) of lids and inner lips in the picture -> (3,): gap over width, as
    ``openness`` has it."""
    apart = lids[_FROM] - lids[_TO]
    lengths = np.sqrt((apart * apart).sum(axis=-1))
    widths = lengths[-3:]
    ratios: NDArray[np.floating[Any]] = _MEANS @ lengths[:-3] / np.where(widths > 0, widths, 1)
    return ratios


def width(lids: FloatArray, ends: tuple[int, int]) -> NDArray[np.floating[Any]]:
    """Points (..., 20, D) -> (...,): the distance between two corners."""
    a, b = (GAP_LANDMARKS.index(end) for end in ends)
    return np.asarray(np.linalg.norm(lids[..., a, :] - lids[..., b, :], axis=-1))
