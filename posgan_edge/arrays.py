"""Array types for signatures, checks of arguments, and calls in batches.

Each check returns the value, or raises one BadInput that names the argument, what was given and
what to give. On values that pass they take about a microsecond.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from posgan_edge.errors import BadInput

FloatArray = NDArray[np.floating[Any]]
#: A picture (H, W, 3) uint8, BGR unless said. (OpenCV's stubs do not state the dtype.)
Image = NDArray[Any]

#: OpenCV warps no picture with more pixels than this along a side.
LARGEST_SIDE = 32_766
#: No coordinate, in pixels, lies further from the frame's corner.
FARTHEST = 1e6
_LARGEST_NUMBER = 1e15
_T = TypeVar("_T")


def in_batches(
    call: Callable[[NDArray[Any]], NDArray[Any]], items: NDArray[Any], most: int
) -> NDArray[Any]:
    """``call`` of all ``items`` (N, ...), at most ``most`` at a time, its results joined."""
    if len(items) <= most:
        return call(items)
    return np.concatenate([call(items[i : i + most]) for i in range(0, len(items), most)])


def described(value: object) -> str:
    """What a value is, in a few words: dtype and shape of an array, else its value or type."""
    kind = type(value)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(value, np.ndarray):
        return f"{dtype} {shape}"
    if shape is not None and dtype is not None and not isinstance(value, np.generic):
        return f"a {kind.__module__.split('.')[0]} {kind.__name__}, {dtype} {tuple(shape)}"
    if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
        return "a number that is too large"
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return repr(value)[:60]
    return f"a {kind.__name__}"


def image(value: Any, name: str = "image") -> Image:
    """A picture (H, W, 3) uint8 of at least one and at most ``LARGEST_SIDE`` pixels a side."""
    if not (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint8
        and value.ndim == 3
        and value.shape[2] == 3
    ):
        raise BadInput(f"{name} is {described(value)}: give uint8 (H, W, 3), BGR, as a numpy array")
    if not (min(value.shape[:2]) >= 1 and max(value.shape[:2]) <= LARGEST_SIDE):
        raise BadInput(f"{name} is uint8 {value.shape}: give 1 to {LARGEST_SIDE} pixels a side")
    return value


def array(value: Any, name: str, shape: tuple[int | None, ...], hint: str = "") -> NDArray[Any]:
    """Finite numbers of a shape, where None stands for any length; lists of numbers are taken too.

    ``hint`` is the shape in words, as the message gives it.
    """
    if type(value) is np.ndarray and value.shape == shape and value.dtype.kind == "f":
        if math.isfinite(np.vdot(value, value)):
            return value
        raise BadInput(f"{name} holds numbers that are not finite or are too large")
    found = value
    if isinstance(value, (list, tuple)):
        try:
            found = np.asarray(value, np.float64)
        except (ValueError, TypeError, OverflowError):
            found = None
    wanted = hint or str(shape).replace("None", "N")
    if not (
        isinstance(found, np.ndarray)
        and found.dtype.kind in "fiu"
        and found.ndim == len(shape)
        and found.size
        and all(want in (None, have) for want, have in zip(shape, found.shape, strict=True))
    ):
        raise BadInput(f"{name} is {described(value)}: give numbers {wanted}")
    if not finite(found):
        raise BadInput(f"{name} holds numbers that are not finite or are too large")
    return found


def points(value: Any, name: str = "points", count: int | None = None) -> FloatArray:
    """Points (P, 2 or 3) of finite numbers; ``count`` of them where it is given."""
    if type(value) is np.ndarray and value.ndim == 2 and value.dtype.kind == "f":
        # Most calls: checked in one step.
        rows, columns = value.shape
        if columns in (2, 3) and rows and count in (None, rows):
            return array(value, name, value.shape)
    wanted = "P" if count is None else count
    columns = np.shape(value)[-1] if isinstance(value, np.ndarray) and value.ndim == 2 else 3
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        columns = len(value[0])
    return array(value, name, (count, 2 if columns == 2 else 3), f"({wanted}, 2 or 3)")


def maps(value: Any, name: str = "maps") -> FloatArray:
    """Maps (..., C, M, M) of numbers, which need not be finite."""
    if not (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "fiu"
        and value.ndim >= 3
        and value.shape[-1] == value.shape[-2]
        and value.size
    ):
        raise BadInput(f"{name} is {described(value)}: give numbers (..., C, M, M)")
    return value


def finite(values: NDArray[Any]) -> bool:
    """Whether all numbers are finite, and none is so large that its square is not."""
    return values.dtype.kind != "f" or math.isfinite(np.vdot(values, values))


def number(
    value: Any, name: str, low: float = -_LARGEST_NUMBER, high: float = _LARGEST_NUMBER
) -> float:
    """A finite number from ``low`` to ``high``; numpy's become Python's."""
    if type(value) is float and low <= value <= high:
        return value
    known = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not (known and low <= value <= high):
        raise BadInput(f"{name} is {described(value)}: give a number {_span(low, high)}")
    return value if isinstance(value, int) else float(value)


def whole(value: Any, name: str, low: int = 1, high: int = LARGEST_SIDE) -> int:
    """A whole number from ``low`` to ``high``."""
    known = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (known and low <= value <= high):
        raise BadInput(f"{name} is {described(value)}: give a whole number from {low} to {high}")
    return int(value)


def flag(value: Any, name: str) -> bool:
    """True or False; numpy's, and 1 and 0, become Python's."""
    known = isinstance(value, (bool, int, np.bool_)) and value in (0, 1)
    if not known:
        raise BadInput(f"{name} is {described(value)}: give True or False")
    return bool(value)


def instance(value: Any, kind: type[_T], name: str) -> _T:
    """A value of a class."""
    if not isinstance(value, kind):
        raise BadInput(f"{name} is {described(value)}: give a {kind.__name__}")
    return value


def with_method(value: _T, method: str, name: str) -> _T:
    """A value that has a method of this name."""
    if not callable(getattr(value, method, None)):
        raise BadInput(f"{name} is {described(value)}: give an object with a method {method}()")
    return value


def sequence(values: Any, name: str) -> Any:
    """A list, a tuple, or an array of one dimension."""
    if not isinstance(values, (list, tuple, np.ndarray)) or np.ndim(values) != 1:
        raise BadInput(f"{name} is {described(values)}: give a list")
    return values


def instances(values: Any, kind: type[_T], name: str) -> Sequence[_T]:
    """A list or tuple of values of one class."""
    if not isinstance(values, (list, tuple)):
        raise BadInput(f"{name} is {described(values)}: give a list of {kind.__name__}")
    for index, value in enumerate(values):
        if not isinstance(value, kind):
            raise BadInput(f"{name}[{index}] is {described(value)}: give a {kind.__name__}")
    return values


def plain_numbers(value: object, names: Sequence[str], limit: float) -> None:
    """Checks fields of a frozen dataclass: finite numbers up to ``limit`` in size, Python's own."""
    for name in names:
        found = getattr(value, name)
        if type(found) is float and -limit <= found <= limit:
            continue
        checked = number(found, f"{type(value).__name__}.{name}", -limit, limit)
        object.__setattr__(value, name, checked)


def _span(low: float, high: float) -> str:
    if high >= _LARGEST_NUMBER:
        return "that is finite" if low <= -_LARGEST_NUMBER else f"of at least {low:g}"
    return f"from {low:g} to {high:g}"
