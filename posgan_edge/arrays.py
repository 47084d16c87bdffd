"""The array types that signatures use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
#: A picture (H, W, 3) uint8, BGR unless said. (OpenCV's stubs do not state the dtype.)
Image = NDArray[Any]
