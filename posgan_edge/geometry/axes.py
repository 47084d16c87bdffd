"""The axes of the package, and its coordinates on OpenCV's pixel grid.

Frames, crops and maps are continuous: pixel ``i`` spans ``[i, i + 1)``, x right, y down, z towards
the camera. Pose is told in axes whose y runs up. OpenCV puts pixel centres at integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray

#: Multiplies points (..., 3) between axes whose y runs down and axes whose y runs up.
Y_UP = np.array([1.0, -1.0, 1.0])
Y_UP.setflags(write=False)


def opencv_matrix(matrix: FloatArray, source: float = 1.0, target: float = 1.0) -> NDArray:
    """A transform (2, 3) of continuous coordinates as ``cv2.warpAffine`` takes it: (2, 3) float64.

    ``source`` and ``target`` are how many pixels one unit of either side has: 1 for frame pixels,
    the crop's size in pixels for crop units.
    """
    out = np.empty((2, 3))
    out[:, :2] = matrix[:, :2] / (source / target)
    out[:, 2] = matrix[:, 2] * target + out[:, :2] @ (0.5, 0.5) - 0.5
    return out
