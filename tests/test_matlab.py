"""Reading the numbers of MATLAB files."""

import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from posgan_edge.errors import BadInput
from posgan_edge.evaluation.matlab import read_matrices
from tests.helpers.data import real_data

ARRAYS = {
    "doubles": np.linspace(-1e9, 1e9, 12).reshape(3, 4),
    "floats": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "bytes": np.arange(6, dtype=np.uint8).reshape(1, 6),
    "longs": np.array([[-(2**60)], [7]]),
    "one": np.array([[2.5]]),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_that_were_written(tmp_path, compressed):
    path = tmp_path / "a.mat"
    others = {"text": "words", "cells": np.array([1, "x"], object), "a": {"b": 1}, "c": 1j}
    savemat(path, {**others, **ARRAYS}, do_compression=compressed)
    found = read_matrices(path, *ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def element(kind, content, order="<"):
    return struct.pack(f"{order}II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(kind=9, content=None, number=6, shape=(1, 1), name=b"x", order="<"):
    content = struct.pack(f"{order}d", 3) if content is None else content
    parts = element(6, struct.pack(f"{order}II", number, 0), order)
    parts += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, parts + element(1, name, order) + element(kind, content, order), order)


def file_of(*variables, mark=b"IM"):
    return b"MATLAB 5.0".ljust(124) + b"\0\1" + mark + b"".join(variables)


@pytest.mark.parametrize(
    "data",
    [
        file_of(matrix()),
        file_of(matrix(2, b"\3")),  # a double in a byte
        file_of(matrix(name=b"other"), matrix()),
        file_of(matrix(order=">"), mark=b"MI"),
        file_of(element(14, b""), matrix()),
        file_of(element(7, b"1234"), matrix()),
    ],
)
def test_forms_of_a_number(tmp_path, data):
    (tmp_path / "a.mat").write_bytes(data)
    found = read_matrices(tmp_path / "a.mat", "x")["x"]
    assert (found.tolist(), str(found.dtype)) == ([[3.0]], "float64")


BOMB = zlib.compress(matrix(2, bytes(65 << 20), shape=(65 << 20, 1)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "its header is another"),
        (b"\x89HDF" * 100, "its header is another"),
        (file_of(), "it holds no x"),
        (file_of(matrix(name=b"y")), "it holds no x"),
        (file_of(matrix())[:-3], "cut off"),
        (file_of(matrix())[:131], "unpack"),
        (file_of(struct.pack("<II", 14, 2**31)), "cut off"),
        (file_of(struct.pack("<II", 0xFFFF0001, 0)), "cut off"),
        (file_of(matrix(content=b"1234567")), "multiple of element size"),
        (file_of(matrix(shape=(2, 2))), "cannot reshape"),
        (file_of(matrix(shape=(-1, 1))), "makes no sense"),
        (file_of(matrix(shape=())), "makes no sense"),
        (file_of(matrix(shape=(2**31 - 1,) * 9)), "makes no sense"),
        (file_of(matrix(shape=(2**31 - 1,) * 8)), "reshape|too large|too big|Maximum"),
        (file_of(matrix(number=6 | 0x800)), "not of real numbers"),
        (file_of(matrix(number=1)), "not of real numbers"),
        (file_of(matrix(kind=77)), "not of real numbers"),
        (file_of(matrix(name=b"\xff")), "utf-8"),
        (file_of(element(15, zlib.compress(matrix())[:-9])), "cut off|incomplete"),
        (file_of(element(15, b"not zlib")), "header"),
        (file_of(element(15, zlib.compress(b""))), "unpack"),
        (file_of(struct.pack("<II", 15, len(BOMB)) + BOMB), "too large"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_numbers_is_refused(tmp_path, data, message):
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=message):
        read_matrices(path, "x")


def test_a_file_with_a_byte_changed_is_read_or_refused(tmp_path):
    """SciPy's reader ends the process on some of these."""
    path = tmp_path / "a.mat"
    savemat(path, {"x": np.arange(12.0).reshape(3, 4), "y": np.ones((2, 2))})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(128, len(whole)):
        changed = bytearray(whole)
        changed[place : place + 1] = rng.bytes(1)
        path.write_bytes(changed)
        try:
            found = read_matrices(path, "x")["x"]
        except BadInput:
            continue
        assert found.ndim <= 8


def test_the_labels_of_the_real_set_are_those_that_scipy_reads():
    paths = sorted(real_data("aflw2000-3d").glob("*.mat"))[::100]
    assert paths
    for path in paths:
        wanted, names = loadmat(path), ("pt3d_68", "Pose_Para")
        for name, array in read_matrices(path, *names).items():
            np.testing.assert_array_equal(array, wanted[name])
