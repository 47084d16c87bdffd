"""The array types that signatures use, and calls in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
#: A picture (H, W, 3) uint8, BGR unless said. (OpenCV's stubs do not state the dtype.)
Image = NDArray[Any]


def in_batches(
    call: Callable[[NDArray[Any]], NDArray[Any]], items: NDArray[Any], most: int
) -> NDArray[Any]:
    """``call`` of all ``items`` (N, ...), at most ``most`` at a time, its results joined."""
    if len(items) <= most:
        return call(items)
    return np.concatenate([call(items[i : i + most]) for i in range(0, len(items), most)])
