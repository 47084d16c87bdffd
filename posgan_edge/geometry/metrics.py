"""Landmark errors relative to the face's size."""

from __future__ import annotations

import numpy as np

from posgan_edge.arrays import FloatArray


def box_size(points: FloatArray) -> float:
    """sqrt(w x h) of the tight 2D box of points (P, 2 or 3)."""
    width, height = np.ptp(points[:, :2], axis=0)
    return float(np.sqrt(width * height))


def nme(predicted: FloatArray, truth: FloatArray) -> float:
    """2D NME in percent: mean distance over ``box_size`` of the truth; both (P, 2 or 3)."""
    distance = np.linalg.norm(predicted[:, :2] - truth[:, :2], axis=1)
    return float(100 * distance.mean() / box_size(truth))


def nme_3d(predicted: FloatArray, truth: FloatArray) -> float:
    """3D NME in percent, both (P, 3), after the mean depths are aligned."""
    difference = predicted - truth
    difference[:, 2] -= difference[:, 2].mean()
    return float(100 * np.linalg.norm(difference, axis=1).mean() / box_size(truth))
