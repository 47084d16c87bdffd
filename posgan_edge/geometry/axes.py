"""Coordinate axes, and transforms for OpenCV's pixel grid.

Frames, crops and maps use continuous coordinates: pixel ``i`` spans ``[i, i + 1)``, x points right,
y down, z towards the camera. Poses use axes whose y points up. OpenCV puts pixel centres at
integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray

#: Multiply points (..., 3) by this to change between y down and y up.
Y_UP = np.array([1.0, -1.0, 1.0])
Y_UP.setflags(write=False)


def opencv_matrix(matrix: FloatArray, source: float = 1.0, target: float = 1.0) -> NDArray[Any]:
    """A transform (2, 3) of continuous coordinates for ``cv2.warpAffine``: (2, 3) float64.

    ``source`` and ``target`` are the pixels of one unit before and after: 1 for frame pixels, the
    crop's size in pixels for crop units.
    """
    out = np.empty((2, 3))
    out[:, :2] = matrix[:, :2] / (source / target)
    out[:, 2] = matrix[:, 2] * target + out[:, :2] @ (0.5, 0.5) - 0.5
    return out


def quaternion(rotation: FloatArray) -> NDArray[np.float64]:
    """The unit quaternion (x, y, z, w), w >= 0, of a rotation (3, 3)."""
    r = np.asarray(rotation, np.float64)
    # The largest eigenvector of a symmetric matrix is stable at every angle.
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r.trace()],
        ]
    )
    best = np.linalg.eigh(k)[1][:, -1]  # eigh reads the lower triangle
    return -best if best[3] < 0 else best
