"""Numbers of MATLAB level 5 files, without SciPy, whose reader crashes on some damaged files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.errors import BadInput
from posgan_edge.files import read_limited

#: Largest file that is read, and largest variable, in bytes.
_LIMIT = 64 << 20
_MATRIX, _COMPRESSED = 14, 15
#: NumPy's types of stored numbers by MATLAB's number.
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
#: The same of an array's class. Its numbers may be stored in a smaller type.
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_COMPLEX = 0x0800


def read_matrices(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Returns the real arrays of these names, each of its own shape and type.

    Other variables are not looked into. Raises BadInput for a file of another kind, one that is
    damaged or lacks an array, and for more than ``_LIMIT`` bytes.
    """
    data = read_limited(path, _LIMIT)
    try:
        return _matrices(data, names)
    except (struct.error, zlib.error, ValueError) as error:
        raise BadInput(
            f"{path}: not a MATLAB file of level 5, or a damaged one: {error}"
        ) from error


def _matrices(data: bytes, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("its header is another")
    found: dict[str, NDArray[Any]] = {}
    for kind, content in _elements(data[128:], order):
        if kind == _COMPRESSED:
            unpack = zlib.decompressobj()
            whole = unpack.decompress(content, _LIMIT)
            if not unpack.eof:
                raise ValueError("a compressed variable is cut off, or too large")
            ((kind, content),) = _elements(whole, order)
        if kind == _MATRIX and content:
            parts = [*islice(_elements(content, order), 4)]
            if len(parts) == 4 and (name := parts[2][1].decode()) in names:
                found[name] = _numbers(name, parts[0][1], parts[1][1], *parts[3], order)
    if absent := [name for name in names if name not in found]:
        raise ValueError(f"it holds no {absent[0]}")
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yields MATLAB's number of the type, and the bytes, of each data element."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start, most = at + 8, len(data)
        if kind >> 16:  # a small element, in four bytes
            kind, size = kind & 0xFFFF, kind >> 16
            start, most = at + 4, at + 8
        if start + size > most:
            raise ValueError("it is cut off")
        yield kind, data[start : start + size]
        at = start + size
        at += 0 if kind == _COMPRESSED else -at % 8


def _numbers(
    name: str, flags: bytes, shape: bytes, kind: int, content: bytes, order: str
) -> NDArray[Any]:
    (number,) = struct.unpack_from(f"{order}I", flags)
    if number & _COMPLEX or number & 0xFF not in _CLASSES or kind not in _STORED:
        raise ValueError(f"{name} is not of real numbers")
    sizes = np.frombuffer(shape, f"{order}i4").tolist()
    array = np.frombuffer(content, order + _STORED[kind]).astype(_CLASSES[number & 0xFF])
    if not 2 <= len(sizes) <= 8 or min(sizes) < 0:
        raise ValueError(f"the shape of {name} makes no sense")
    return array.reshape(sizes, order="F")
