"""The modes of a network, and the network without them, from its ONNX file without ``onnx``.

A network that ends in ``coefficients @ modes`` returns maps that all lie in the span of its K
modes. The modes are a constant of the file, so the map can be kept as 3 x K coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from posgan_edge.errors import BadInput

# Fields of ModelProto, GraphProto, TensorProto and NodeProto, as the ONNX standard numbers them.
_GRAPH, _INITIALIZER, _DIMS, _TYPE, _NAME, _RAW = 7, 5, 1, 2, 8, 9
_NODE, _OUTPUT, _SHAPES = 1, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE, _ATTRIBUTE, _INNER_GRAPHS = 1, 2, 4, 5, (6, 11)
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
        return modes_of(data, map_size)
    except (IndexError, ValueError) as error:
        raise BadInput(f"{path}: not an ONNX file") from error


def modes_of(model: bytes, map_size: int) -> NDArray[np.float32] | None:
    """``onnx_modes`` of a file's bytes. Raises ValueError or IndexError if it is broken."""
    found = dict(_tensors(memoryview(model), {_WHOLE, *_SPLIT}))
    modes = found.get(_WHOLE)
    if modes is None and all(name in found for name in _SPLIT):
        high, low, scale = (found[name].astype(np.float32) for name in _SPLIT)
        modes = np.concatenate([high, low * scale])
    if modes is None or modes.ndim != 2 or modes.shape[1] != map_size**2:
        return None
    return np.array(modes, np.float32)  # a copy: the file's bytes can be freed


def coefficient_model(model: bytes, modes: int) -> tuple[bytes, str] | None:
    """An ONNX model whose only output is the coefficients (N, 3, K), and the output's name.

    ``model`` is changed in this way only: what is not needed for the coefficients is left out.
    ``modes`` is K. Returns None if ``position_map`` is not the product of something with modes, or
    if a step holds a graph of its own. Raises ValueError or IndexError if the file is broken.
    """
    graphs = [graph for number, _, graph in _parts(memoryview(model)) if number == _GRAPH]
    nodes = [_Node.of(part) for n, whole, part in _all(graphs) if n == _NODE]
    made = {name: node for node in nodes for name in node.outputs}
    reshape = made.get("position_map")
    product = made.get(reshape.inputs[0]) if reshape and reshape.inputs else None
    if (
        reshape is None
        or product is None
        or (reshape.kind, product.kind, len(product.inputs)) != ("Reshape", "MatMul", 2)
        or any(node.nested for node in nodes)
    ):
        return None
    output = product.inputs[0]
    needed, left = {output}, [output]
    while left:
        node = made.get(left.pop())
        fresh = set(node.inputs) - needed if node is not None else set()
        needed |= fresh
        left += fresh
    kept: list[bytes | memoryview] = []
    for number, whole, part in _all(graphs):
        if number == _NODE:
            wanted = not needed.isdisjoint(_Node.of(part).outputs)
        elif number == _INITIALIZER:
            wanted = _text(part, _NAME) in needed
        else:
            wanted = number not in (_OUTPUT, _SHAPES)
        if wanted:
            kept.append(whole)
    sizes = b"".join(_field(1, b"\x08" + _number(size)) for size in (3, modes))
    tensor = b"\x08\x01" + _field(2, _field(1, _field(2, b"batch")) + sizes)  # 1: float32
    kept.append(_field(_OUTPUT, _field(1, output.encode()) + _field(2, _field(1, tensor))))
    rest = [whole for number, whole, _ in _parts(memoryview(model)) if number != _GRAPH]
    length = _number(sum(map(len, kept)))
    return b"".join([*rest, _number(_GRAPH << 3 | 2), length, *kept]), output


class _Node(NamedTuple):
    """A step of a network; ``nested``: it holds a graph of its own."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    nested: bool

    @classmethod
    def of(cls, message: memoryview) -> _Node:
        names: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_TYPE: []}
        nested = False
        for number, _, part in _parts(message):
            if number in names:
                names[number].append(bytes(part).decode())
            elif number == _ATTRIBUTE:
                nested |= any(inner in _INNER_GRAPHS for inner, _, _ in _parts(part))
        return cls("".join(names[_NODE_TYPE]), names[_NODE_INPUT], names[_NODE_OUTPUT], nested)


def _tensors(model: memoryview, names: set[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """(name, array) of the constants of these names."""
    graphs = [graph for number, _, graph in _parts(model) if number == _GRAPH]
    for number, _, tensor in _all(graphs):
        if number == _INITIALIZER and (name := _text(tensor, _NAME)) in names:
            yield name, _array(tensor)


def _text(message: memoryview, field: int) -> str:
    return b"".join(bytes(part) for number, _, part in _parts(message) if number == field).decode()


def _array(tensor: memoryview) -> NDArray[Any]:
    shape: list[int] = []
    kind, raw = 0, memoryview(b"")
    for key, _, value in _parts(tensor):
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


def _all(messages: Sequence[memoryview]) -> Iterator[tuple[int, memoryview, memoryview]]:
    """``_parts`` of several pieces of one message."""
    for message in messages:
        yield from _parts(message)


def _parts(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(field number, the whole field, its value) of a protocol buffer message, in order."""
    position = 0
    while position < len(message):
        first = position
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
        yield key >> 3, message[first:position], message[start:position]


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


def _field(number: int, content: bytes) -> bytes:
    """A field that has a length: its key, the length and the bytes."""
    return _number(number << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """A varint."""
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])
