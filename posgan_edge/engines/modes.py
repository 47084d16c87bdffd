"""The modes of a network, read from its ONNX file without the ``onnx`` package.

A network that ends in ``coefficients @ modes`` returns maps that all lie in the span of its K
modes. The modes are a constant of the file, so the map can be kept as 3 x K coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.errors import BadInput

# Fields of ModelProto, GraphProto and TensorProto, as the ONNX standard numbers them.
_GRAPH, _INITIALIZER, _DIMS, _TYPE, _NAME, _RAW = 7, 5, 1, 2, 8, 9
_TYPES = {1: "<f4", 3: "<i1", 10: "<f2"}
#: Constants that the modes are made of: as exported, or as the INT8 build splits them.
_WHOLE, _SPLIT = "modes", ("modes_fp16", "modes_int8", "modes_scale")


def onnx_modes(path: str | Path, map_size: int) -> NDArray[np.float32] | None:
    """The modes (K, M * M) float32 of an ONNX file, or None where the network has none.

    Raises BadInput if the file cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    try:
        found = dict(_tensors(memoryview(data), {_WHOLE, *_SPLIT}))
    except (IndexError, ValueError) as error:
        raise BadInput(f"{path}: not an ONNX file") from error
    modes = found.get(_WHOLE)
    if modes is None and all(name in found for name in _SPLIT):
        high, low, scale = (found[name].astype(np.float32) for name in _SPLIT)
        modes = np.concatenate([high, low * scale])
    if modes is None or modes.ndim != 2 or modes.shape[1] != map_size**2:
        return None
    return np.ascontiguousarray(modes, np.float32)


def _tensors(model: memoryview, names: set[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """(name, array) of the constants of these names."""
    for number, graph in _fields(model):
        for inner, tensor in _fields(graph) if number == _GRAPH else ():
            if inner == _INITIALIZER:
                parts = list(_fields(tensor))
                name = b"".join(bytes(value) for key, value in parts if key == _NAME).decode()
                if name in names:
                    yield name, _array(parts)


def _array(parts: list[tuple[int, memoryview]]) -> NDArray[Any]:
    shape: list[int] = []
    kind, raw = 0, memoryview(b"")
    for key, value in parts:
        if key == _DIMS:  # packed or one by one: both are varints in a row
            position = 0
            while position < len(value):
                size, position = _varint(value, position)
                shape.append(size)
        elif key == _TYPE:
            kind = _varint(value, 0)[0]
        elif key == _RAW:
            raw = value
    if kind not in _TYPES:
        raise ValueError(f"a constant of type {kind}")
    return np.frombuffer(raw, _TYPES[kind]).reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, its bytes) of a protocol buffer message, in order."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        start, wire = position, key & 7
        if wire == 0:
            position = _varint(message, position)[1]
        elif wire == 2:
            length, start = _varint(message, position)
            position = start + length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position > len(message):
            raise ValueError("ends early")
        yield key >> 3, message[start:position]


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """(value, position behind it)."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("a number without an end")
