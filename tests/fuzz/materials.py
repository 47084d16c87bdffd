"""Good files of every kind, made once, and bad ones by class."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from tests.fuzz.files import REPOSITORY, SHARED, world
from tests.helpers import data

#: A recipe that trains for a second.
RECIPE = {
    "name": "edge", "generator": {"name": "edge", "modes": 4, "map_size": 16}, "epochs": 1,
    "batch_size": 3, "workers": 0, "threads": 1,
}  # fmt: skip


@cache
def good() -> Path:
    """A folder with one good file of each kind; the same as ``world()``."""
    from posgan_edge.build.engine import BuildRequest, build_engine
    from posgan_edge.models.checkpoints import generator_state, save_safetensors
    from posgan_edge.models.registry import build_generator

    folder = world()
    if SHARED in os.environ:
        return folder
    shutil.copy(data.PORTRAIT, folder / "a.jpg")
    picture = cv2.imread(str(data.PORTRAIT))
    cv2.imwrite(str(folder / "mask.png"), np.full((64, 64), 255, np.uint8))
    video = cv2.VideoWriter(
        str(folder / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (512, 512)
    )  # fmt: skip
    for _ in range(4):
        video.write(picture)
    video.release()
    data.write_human_npz(folder / "h.npz", 1)
    data.write_folder_data(folder / "maps", 3)
    data.write_aflw2000(folder / "many", 32)
    build_engine(BuildRequest("edge", folder / "engine.onnx"))
    import torch

    generator = build_generator("edge", modes=2, map_size=8)
    torch.save({"generator": generator_state(generator)}, folder / "w.pth")
    save_safetensors(generator, folder / "w.safetensors")
    (folder / "train.yaml").write_text(json.dumps(RECIPE))
    shutil.copy(REPOSITORY / "export" / "cpu.yaml", folder / "build.yaml")
    shutil.copy(REPOSITORY / "calibration" / "edge-mse.json", folder / "record.json")
    shutil.copy(
        REPOSITORY / "benchmarks" / "results" / "aflw2000-edge-gt.json", folder / "bench.json"
    )
    (folder / "names.txt").write_text("image00000\n")
    (folder / "history.json").write_text("[]")
    _write_keys(folder)
    shutil.copytree(folder, f"{folder}-kept")
    return folder


def _write_keys(folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    (folder / "private.pem").write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    (folder / "public.pem").write_bytes(
        key.public_key().public_bytes(
            form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
        )
    )  # fmt: skip


def restore(lost: list[str]) -> None:
    """Puts good files back that a case replaced."""
    for name in lost:
        if name.startswith(f"{good()}/"):
            Path(name).unlink(missing_ok=True)
            shutil.copy2(_kept() / Path(name).relative_to(good()), name)


def _kept() -> Path:
    """A copy of the good files."""
    return good().with_name(f"{good().name}-kept")


# Bad inputs. Each writes a file, or something else, at a path.
def _nothing(path: Path) -> None:
    """There is no such file."""


def _random(path: Path) -> None:
    seed = zlib.crc32(os.fsencode(path.name))
    path.write_bytes(np.random.default_rng(seed).bytes(5000))


def _good_of(path: Path) -> bytes:
    found = [p for p in sorted(good().iterdir()) if p.suffix == path.suffix and p.is_file()]
    return found[0].read_bytes() if found else b"content"


def _truncated(path: Path) -> None:
    content = _good_of(path)
    path.write_bytes(content[: len(content) // 3])


def _foreign(path: Path) -> None:
    name = "record.json" if path.suffix in (".jpg", ".png", ".npz") else "a.jpg"
    shutil.copy(good() / name, path)


def _huge(path: Path) -> None:
    """Declares sizes that no machine has, where the format has a place for sizes."""
    head = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': "
    array = head + b"(99999999999, 9999), }".ljust(118 - len(head) + 10 - 1) + b"\n"
    content = {
        ".npy": array,
        ".png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\x7f\xff\xff\xff" * 2 + b"\x08\2\0\0\0" * 2,
        ".jpg": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3\1\x11\0\2\x11\0\3\x11\0\xff\xd9",
        ".safetensors": b"\xff" * 7 + b"\x7f{}",
        ".json": b"[" * 100_000, ".yaml": b"a: [" * 50_000,
        ".onnx": b"\x08\x08\x3a" + b"\xff" * 8 + b"\x7f",
    }.get(path.suffix, b"9" * 100_000 + b"\n")  # fmt: skip
    if path.suffix in (".npz", ".zip"):
        from zipfile import ZipFile

        with ZipFile(path, "w") as archive:
            for name in ("jpeg", "offsets", "codes", "mean", "pts68", "name"):
                archive.writestr(f"{name}.npy", array)
        return
    path.write_bytes(content)


def _nan(path: Path) -> None:
    if path.suffix == ".npz":
        names = ("jpeg", "offsets", "pts68", "name", "mean", "components", "mask", "kpt_uv")
        np.savez(path, **dict.fromkeys(names, np.full((2, 2, 68), np.nan)))
    else:
        path.write_text('{"name": NaN, "ranges": {"a": NaN}, "epochs": NaN}')


def _sparse(path: Path) -> None:
    """Four gigabytes of zeros that take no space."""
    with open(path, "wb") as stream:
        stream.truncate(4 << 30)


def _denied(path: Path) -> None:
    if permissions_count(path.parent):
        path.write_bytes(_good_of(path))
        path.chmod(0)


def _to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


BAD: dict[str, Callable[[Path], object]] = {
    "missing": _nothing,
    "folder": Path.mkdir,
    "fifo": os.mkfifo,
    "zero": _to("/dev/zero"),
    "null": _to("/dev/null"),
    "dangling": _to("nowhere"),
    "circle": lambda path: path.symlink_to(path.name),
    "denied": _denied,
    "empty": Path.touch,
    "zeros": lambda path: path.write_bytes(b"\0" * 4096),
    "truncated": _truncated,
    "random": _random,
    "foreign": _foreign,
    "huge": _huge,
    "sparse": _sparse,
    "nan": _nan,
    "latin": lambda path: path.write_bytes(b"\xe9\xff\n"),
    "newline\n": _random,
    "escape\x1b[31m": _random,
    "notutf8\udcff": _random,
    "percent%d%s": _nothing,
    "x" * 300: _nothing,
}
#: Of these classes all must be refused; a device, say, may be an output.
CLASSES = sorted(BAD)


#: Linux capabilities with which permissions of files do not count.
_PASS = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER


def obey_permissions() -> None:
    """Makes permissions of files count for this process and its children, also if it is root."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for capability in _PASS:
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
        for index in range(3):
            sets[index] &= ~(1 << capability)
    libc.capset(header, sets)


def permissions_count(folder: Path) -> bool:
    """Whether a file of mode 0 cannot be read in this process."""
    path = folder / "denied"
    path.touch(0)
    found = not os.access(path, os.R_OK, effective_ids=True)
    path.unlink()
    return found


def put(folder: Path, word: str) -> None:
    """Writes the bad file that a word names: ``bad/CLASS.SUFFIX``."""
    path = folder / word
    path.parent.mkdir(exist_ok=True)
    if os.path.lexists(path) if len(path.name) < 250 else True:
        return
    BAD[path.stem](path)


def fingerprint(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of each file under a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if not path.is_dir():
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found
