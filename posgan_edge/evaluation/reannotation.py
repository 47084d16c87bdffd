"""Reading the LS3D-W re-annotation of AFLW2000-3D.

It may be: ``.npz`` with ``name`` (n,) and ``pts68`` (n, 2, 68); ``.npy`` (n, 2 or 3, 68) or
(n, 68, 2 or 3)
in the order of the photos' names; a folder of Torch7 files ``NAME.t7``, one tensor (68, 2) each,
as LS3D-W has it (Bulat and Tzimiropoulos, ICCV 2017). Positions are 1-based pixels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.archives import check_array, read_array, read_arrays
from posgan_edge.arrays import FARTHEST
from posgan_edge.errors import BadInput

_TENSOR, _STORAGE = "Tensor", "Storage"
_TYPES: dict[str, np.dtype[Any]] = {"Float": np.dtype("<f4"), "Double": np.dtype("<f8")}


def find_reannotation(folder: Path) -> Path | None:
    """Returns ``reannotated.npz``, ``reannotated.npy`` or the folder ``reannotated`` in ``folder``;
    None if there is none."""
    for name in ("reannotated.npz", "reannotated.npy", "reannotated"):
        if (folder / name).exists():
            return folder / name
    return None


def load_reannotation(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Returns landmarks (68, 2) float32 in continuous coordinates, by name of the photo.

    ``names`` are the names of all photos in order. Raises BadInput if the file cannot be read, or
    holds none of the names.
    """
    found: dict[Any, NDArray[Any]]
    try:
        if path.is_dir():
            found = {p.stem: read_torch7(p) for p in sorted(path.glob("*.t7"))}
        elif path.suffix == ".npz":
            labels, points = read_arrays(path, ("name", "pts68")).values()
            if labels.dtype.kind not in "US" or labels.shape != points.shape[:1]:
                raise ValueError(f"name is {labels.dtype} {labels.shape}")
            found = dict(zip(labels.tolist(), points, strict=True))
        else:
            points = read_array(path)
            if points.ndim != 3:
                raise ValueError(f"is {points.dtype} {points.shape}")
            found = dict(enumerate(points))
    except (ValueError, OSError, struct.error) as error:  # BadInput is a ValueError
        reason = str(error).removeprefix(f"{path}: ")
        raise BadInput(
            f"{path}: not a re-annotation: an .npz needs 'name' (n,) and 'pts68' (n, 2, 68), an "
            f".npy (n, 2, 68), a folder NAME.t7 files: {reason}"
        ) from error
    if not path.is_dir() and path.suffix != ".npz":
        if len(found) != len(names):
            raise BadInput(
                f"{path}: {len(found)} label sets for {len(names)} photos; an array without "
                "names must have one for each, in the order of the names"
            )
        found = dict(zip(names, found.values(), strict=True))
    if names and not set(names) & set(found):
        raise BadInput(
            f"{path}: none of its {len(found)} names is that of a photo (photos are named like "
            f"{names[0]}): the labels of another set?"
        )
    return {name: _continuous(points, path) for name, points in found.items()}


def _continuous(points: NDArray[np.floating[Any]], path: Path) -> NDArray[np.float32]:
    check_array(points, f"{path}: landmarks", (None,) * 2, "fiu")
    if points.size and np.abs(points).max() > FARTHEST:
        raise BadInput(f"{path}: landmarks lie more than {FARTHEST:g} pixels away")
    points = points.astype(np.float32)
    if points.ndim == 2 and points.shape[1] == 68:
        points = points.T
    if points.ndim != 2 or points.shape[0] != 68 or points.shape[1] not in (2, 3):
        raise BadInput(f"{path}: landmarks have shape {points.shape}, not (68, 2)")
    return np.ascontiguousarray(points[:, :2] - np.float32(0.5))


def read_torch7(path: str | Path) -> NDArray[np.floating[Any]]:
    """Returns the float or double tensor of a binary Torch7 file.

    Raises ValueError for a file with anything else.
    """
    stream = io.BytesIO(Path(path).read_bytes())
    kind = _object(stream)
    if not kind.endswith(_TENSOR):
        raise ValueError(f"{path}: holds a {kind}, not a tensor")
    (dimensions,) = _unpack(stream, "<i")
    if not 0 < dimensions <= 8:
        raise ValueError(f"{path}: a tensor of {dimensions} dimensions")
    shape = _unpack(stream, f"<{dimensions}q")
    strides = _unpack(stream, f"<{dimensions}q")
    (offset,) = _unpack(stream, "<q")
    storage = _object(stream)
    dtype = _TYPES.get(storage.removeprefix("torch.").removesuffix(_STORAGE))
    if dtype is None:
        raise ValueError(f"{path}: holds a {storage}, not floats")
    (size,) = _unpack(stream, "<q")
    values = np.frombuffer(stream.read(size * dtype.itemsize), dtype)
    last = offset - 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if len(values) != size or min(shape) < 1 or offset < 1 or not 0 <= last < size:
        raise ValueError(f"{path}: is cut short")
    index = sum(
        (
            np.arange(n).reshape([-1] + [1] * (dimensions - 1 - axis)) * stride
            for axis, (n, stride) in enumerate(zip(shape, strides, strict=True))
        ),
        np.full((1,) * dimensions, offset - 1),
    )
    array: NDArray[np.floating[Any]] = values[index]
    return array


def _object(stream: io.BytesIO) -> str:
    """Returns the class name of the Torch object that starts at the stream's position."""
    kind, _ = _unpack(stream, "<ii")
    if kind != 4:
        raise ValueError(f"not a Torch7 tensor file (type {kind})")
    name = _text(stream)
    return _text(stream) if name.startswith("V ") else name


def _text(stream: io.BytesIO) -> str:
    (length,) = _unpack(stream, "<i")
    return stream.read(max(0, min(length, 256))).decode("latin-1")


def _unpack(stream: io.BytesIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, stream.read(struct.calcsize(form)))
