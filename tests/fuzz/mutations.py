"""Hypothesis strategies that damage bytes, documents and arrays."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

#: Values that stand where something else is expected.
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 1.5, -50, 1e-300, 1e6, 1e300, 10**12, 10**30, float("nan"),
    float("inf"), -float("inf"), "", "x", "1", "nan", "ict", "../..", "%d", "a\0b", "é\n",
    "x" * 300,
    [], [1], [None], [[]], [1, 0], ["a", "b"], {}, {"a": 1}, {"": None}, {"name": "edge"},
]  # fmt: skip
_BLOCKS = [b"", b"\0", b"\xff" * 4, b"\0" * 64, b"\x7f\xff\xff\xff", b"\x80", b"PK\x03\x04", b"\n"]
_TYPES = ["f2", "f4", "f8", "i1", "u1", "i4", "i8", "c8", "U4", "O", "?", "M8[s]"]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with one to four places cut, changed, repeated or filled; seldom others."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        # Half of the changes are near the start, where headers are.
        most = len(out) if draw(st.booleans()) else min(len(out), 256)
        place = draw(st.integers(0, most))
        length = draw(st.sampled_from([1, 1, 2, 4, 16, 400]))
        kind = draw(st.sampled_from(["cut", "drop", "byte", "block", "repeat", "flip"]))
        if kind == "cut":
            del out[max(1, place) :]
        elif kind == "drop":
            del out[place : place + length]
        elif kind == "byte":
            out[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "block":
            block = draw(st.sampled_from(_BLOCKS))
            out[place : place + len(block)] = block
        elif kind == "repeat":
            out[place:place] = out[place : place + length] * 2
        elif place < len(out):
            out[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(out)


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """A document's content with one to three values replaced, taken away or added."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(content))
        if not places or draw(st.integers(0, 29)) == 0:
            return copy.deepcopy(draw(st.sampled_from(ODD)))
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["put", "put", "put", "take", "add", "nest"]))
        value = copy.deepcopy(draw(st.sampled_from(ODD)))
        if kind == "put":
            holder[key] = value
        elif kind == "take":
            del holder[key]
        elif kind == "nest":
            holder[key] = [holder[key]]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(["x", "", "schema", "name", "é"]))] = value
        else:
            holder.append(value)
    return content


def _places(content: Any) -> Any:
    if isinstance(content, dict):
        items: Any = list(content.items())[:40]
    elif isinstance(content, list):
        items = list(enumerate(content))[:5]
    else:
        return
    for key, value in items:
        yield content, key
        yield from _places(value)


def as_text(content: Any) -> bytes:
    """JSON, which is YAML too."""
    return json.dumps(content, default=str).encode("utf-8", "surrogatepass")


def documents(content: Any) -> st.SearchStrategy[bytes]:
    """Files of a document: changed content mostly, damaged text sometimes."""
    whole = as_text(content)
    return st.one_of(
        changed(content).map(as_text), changed(content).map(as_text), damaged(whole),
        st.sampled_from([b"[" * 50_000, b'{"a":' * 20_000, b"", b"\xff\xfe{}", b"&a [*a]"]),
    )  # fmt: skip


@st.composite
def odd_array(draw: st.DrawFn, array: NDArray[Any]) -> NDArray[Any] | None:
    """An array of another type, shape or with other values; None: it is not there."""
    kind = draw(st.sampled_from(
        ["none", "type", "short", "empty", "turned", "axis", "flat", "poke", "scaled", "scalar"]
    ))  # fmt: skip
    if kind == "none":
        return None
    if kind == "type":
        with np.errstate(all="ignore"):
            try:
                return array.astype(draw(st.sampled_from(_TYPES)))
            except (ValueError, TypeError):
                return array.astype("O")
    if kind in ("short", "empty"):
        return array[:-1] if kind == "short" and array.ndim else array.reshape(-1)[:0]
    if kind in ("turned", "flat", "axis"):
        return {"turned": array.T, "flat": array.reshape(-1), "axis": array[None]}[kind]
    if kind == "scalar":
        return np.asarray(draw(st.sampled_from([0, np.nan, "x", -1])))
    if array.dtype.kind not in "fiu" or not array.size:
        return array.reshape(-1)[:0]
    out = array.copy()
    if kind == "scaled":
        with np.errstate(all="ignore"):
            return (out * draw(st.sampled_from([-1, 0, 3, 1e30, np.nan]))).astype(out.dtype)
    worst = [np.nan, np.inf, -1e30] if out.dtype.kind == "f" else [0, 1, np.iinfo(out.dtype).max]
    out.reshape(-1)[draw(st.integers(0, out.size - 1))] = draw(st.sampled_from(worst))
    return out


@st.composite
def odd_arrays(draw: st.DrawFn, arrays: dict[str, NDArray[Any]], *names: str) -> dict[str, Any]:
    """Arrays of which one or two are odd."""
    out: dict[str, NDArray[Any] | None] = dict(arrays)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(names or sorted(arrays)))
        if out.get(name) is not None:
            out[name] = draw(odd_array(np.asarray(out[name])))
    return {key: value for key, value in out.items() if value is not None}


def archives(arrays: dict[str, NDArray[Any]]) -> st.SearchStrategy[bytes]:
    """``.npz`` files: odd arrays mostly, damaged bytes sometimes."""
    return st.one_of(
        odd_arrays(arrays).map(as_npz), odd_arrays(arrays).map(as_npz), damaged(as_npz(arrays))
    )


def as_npz(arrays: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()
