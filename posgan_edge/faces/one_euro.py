"""The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) for arrays and for single numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.errors import BadInput

DERIVATIVE_CUTOFF = 1.0  # Hz


class OneEuro:
    """A One-Euro filter for arrays of any shape, with one cut-off for the whole array.

    Raises BadInput for values that are not finite or have another shape than the first, and if no
    time has passed. The filter is then unchanged.
    """

    def __init__(
        self, at_rest: float, per_speed: float, derivative: float = DERIVATIVE_CUTOFF
    ) -> None:
        self.at_rest, self.per_speed, self.derivative = at_rest, per_speed, derivative
        self.value: NDArray[np.floating[Any]] | None = None
        self.followed = 1.0  # share of the last change that was followed
        self._speed: NDArray[np.floating[Any]] | float = 0.0

    def __call__(
        self, value: NDArray[np.floating[Any]], seconds: float, unit: float = 1.0
    ) -> NDArray[np.floating[Any]]:
        """The filtered value, ``seconds`` after the one before; speeds are in ``unit``."""
        if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "fiu":
            raise BadInput(f"the filter takes an array of numbers, not {arrays.described(value)}")
        if not arrays.finite(value) or (self.value is not None and value.shape != self.value.shape):
            raise BadInput(f"the filter takes finite numbers of one shape, not {value.shape}")
        if self.value is None:
            self.value = np.array(value, copy=True)
            return self.value
        change = value - self.value
        self.followed = self.share(change / unit, seconds)
        self.value = self.value + self.followed * change
        return self.value

    def share(self, change: NDArray[np.floating[Any]], seconds: float) -> float:
        """How much of a change to follow."""
        if not (seconds > 0 and arrays.finite(change)):
            raise BadInput(f"the filter takes finite numbers and time that passes, not {seconds} s")
        blend = _blend(self.derivative, seconds)
        self._speed = self._speed + blend * (change / seconds - self._speed)
        speed = math.sqrt(np.vdot(self._speed, self._speed) / change.size)
        return _blend(self.at_rest + self.per_speed * speed, seconds)


class OneEuroNumber:
    """``OneEuro`` for one finite number. (On so little, numpy's calls cost more than the work.)"""

    def __init__(
        self, at_rest: float, per_speed: float, derivative: float = DERIVATIVE_CUTOFF
    ) -> None:
        self.at_rest, self.per_speed, self.derivative = at_rest, per_speed, derivative
        self.value: float | None = None
        self.followed = 1.0
        self._speed = 0.0

    def __call__(self, value: float, seconds: float, unit: float = 1.0) -> float:
        if self.value is None:
            self.value = value
            return value
        change = value - self.value
        blend = _blend(self.derivative, seconds)
        self._speed += blend * (change / unit / seconds - self._speed)
        self.followed = _blend(self.at_rest + self.per_speed * abs(self._speed), seconds)
        self.value += self.followed * change
        return self.value


def _blend(cutoff: float, seconds: float) -> float:
    turned = 2 * math.pi * cutoff * seconds
    return turned / (1.0 + turned)
