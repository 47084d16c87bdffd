"""Metrics of the AFLW2000-3D protocol (Zhu et al., CVPR 2016)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray

#: NME in percent above which a face counts as failed; also the end of the area under the curve.
FAILURE = 10.0
#: Upper edges of the yaw and pitch bins in degrees, and those of roll.
ANGLE_BINS = (30.0, 60.0)
ROLL_BINS = (60.0, 120.0)


def wrap_roll(degrees: FloatArray) -> NDArray[np.float64]:
    """Returns angles in degrees, wrapped to (-180, 180]."""
    wrapped = np.mod(np.asarray(degrees, np.float64) + 180, 360) - 180
    return np.where(wrapped == -180, 180.0, wrapped)


def bin_of(degrees: FloatArray, edges: tuple[float, float] = ANGLE_BINS) -> NDArray[np.int64]:
    """Returns 0, 1 or 2 for each |angle|: up to the first edge, up to the second, or above."""
    bins: NDArray[np.int64] = np.digitize(np.abs(degrees), edges, right=True)
    return bins


def cumulative(errors: FloatArray, missed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Returns the cumulative error distribution: sorted errors (n,), and for each the share (n,) of
    all faces with at most that error. ``missed`` faces count as faces with an infinite error."""
    ordered = np.sort(np.asarray(errors, np.float64))
    return ordered, np.arange(1, len(ordered) + 1) / max(1, len(ordered) + missed)


def area_under_curve(errors: FloatArray, missed: int = 0, limit: float = FAILURE) -> float:
    """Returns the area under the cumulative distribution up to ``limit``, 0 to 1 (no errors)."""
    within = np.minimum(np.asarray(errors, np.float64), limit)
    return float((limit - within).sum() / limit / max(1, len(within) + missed))


def failure_rate(errors: FloatArray, missed: int = 0, limit: float = FAILURE) -> float:
    """Returns the share of faces with an error above ``limit`` or not found."""
    failed = int((np.asarray(errors) > limit).sum()) + missed
    return failed / max(1, len(errors) + missed)
