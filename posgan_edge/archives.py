"""Arrays from ``.npz`` files, checked before they are used."""

from __future__ import annotations

import errno
import os
import tokenize
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from posgan_edge.errors import BadInput, one_line

#: Most bytes that the arrays of one file may take.
LIMIT = 16 << 30
#: What NumPy raises for a file that is no .npz, or half of one, or a changed one.
BROKEN = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError,
    RuntimeError, SyntaxError, MemoryError, OverflowError, BadZipFile, zlib.error,
    tokenize.TokenError,
)  # fmt: skip


def read_arrays(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` file by name; optional ones that it lacks are left out.

    Raises BadInput for any other file, one that lacks an array, holds objects, or would take
    more than ``LIMIT`` bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such .npz file")
    try:
        with ZipFile(path) as archive:
            sizes = {item.filename: item.file_size for item in archive.infolist()}
        if sum(sizes.values()) > LIMIT:
            raise BadInput(f"{path}: its arrays take more than {LIMIT >> 30} GiB")
        if absent := [name for name in required if f"{name}.npy" not in sizes]:
            raise BadInput(f"{path}: holds no array {absent[0]!r}")
        with np.load(path) as data:
            names = [*required, *(name for name in optional if name in data)]
            return {name: data[name] for name in names}
    except BadInput:
        raise
    except BROKEN as error:
        raise BadInput(f"{path}: a broken .npz file, or none: {one_line(error)}") from error


def read_array(path: str | Path) -> NDArray[Any]:
    """The array of an ``.npy`` file. Raises BadInput for any other file, and for objects."""
    if os.path.exists(path) and not os.path.isfile(path):
        kind = os.strerror(errno.EISDIR) if os.path.isdir(path) else "not a regular file"
        raise BadInput(f"{path}: not a .npy array: {kind}")
    try:
        array = np.load(path)
    except BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise BadInput(f"{path}: not a .npy array: {reason or one_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise BadInput(f"{path}: not a .npy array: holds many")
    return array


def check_offsets(path: str | Path, jpeg: NDArray[Any], offsets: NDArray[Any]) -> None:
    """Raises BadInput unless ``jpeg`` is (bytes,) uint8, and ``offsets``, where each file in it
    begins and the last one ends, rise within it. ``path`` is named in the message."""
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1:
        raise BadInput(f"{path}: jpeg is {jpeg.dtype} {jpeg.shape}, not uint8 (bytes,)")
    ends = offsets.astype(np.int64)
    if (np.diff(ends) <= 0).any() or ends[0] < 0 or ends[-1] > len(jpeg):
        raise BadInput(f"{path}: offsets do not rise within the {len(jpeg)} bytes of jpeg")


def check_array(
    array: NDArray[Any], name: str, shape: tuple[int | None, ...], kinds: str = "f"
) -> None:
    """Raises BadInput, beginning with ``name``, for an array of another shape (None: any size) or
    kind (numpy's letters: f floats, u and i whole numbers), and for values that are not finite."""
    fits = array.ndim == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        words = " or ".join(
            {"f": "floats", "i": "whole numbers", "u": "uint8", "b": "booleans"}[k] for k in kinds
        )
        raise BadInput(f"{name} is {array.dtype} {array.shape}, not {words} ({sizes})")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadInput(f"{name} holds values that are not finite")
