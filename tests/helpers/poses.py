"""Comparing poses that the device fitted with the host's."""

import numpy as np


def assert_pose(found, expected):
    """(N, 14) each. The device adds in another order: the same to 1e-5 of the face's size."""
    size = expected[:, :1]
    for first, last, unit in ((0, 1, size), (1, 10, 1), (10, 13, size), (13, 14, 1)):
        difference = np.abs(found[:, first:last] - expected[:, first:last]) / unit
        assert difference.max() < 1e-5, (first, difference.max())
