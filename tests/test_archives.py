"""Single arrays from files."""

import os

import numpy as np
import pytest

from posgan_edge.archives import read_array
from posgan_edge.errors import BadInput

#: The header of an array whose text ends within a bracket.
OPEN = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'shape': (2, 2), }  (2, 2".ljust(117) + b"\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "No such file"),
        (lambda p: p.mkdir(), "Is a directory"),
        (os.mkfifo, "not a regular file"),
        (lambda p: p.symlink_to("/dev/zero"), "not a regular file"),
        (lambda p: p.write_bytes(b""), "No data left"),
        (lambda p: p.write_bytes(b"x"), "pickle"),
        (lambda p: p.write_bytes(OPEN), "not a .npy array"),
        (lambda p: np.save(p, np.array([None])), "Object arrays"),
        (lambda p: np.savez(p.open("wb"), a=1), "holds many"),
    ],
)
def test_what_is_no_array(tmp_path, make, message):
    path = tmp_path / "a.npy"
    make(path)
    with pytest.raises(BadInput, match=message) as error:
        read_array(path)
    assert str(error.value).startswith(f"{path}: not a .npy array: ")
    assert "\n" not in str(error.value)
