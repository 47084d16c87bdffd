"""Compiles the kernels against the stand-in for CUDA, and calls them through ctypes."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "cpp_ext" / "src"
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-w",
         "-DPOSGAN_WITH_CUDA", f"-I{HERE}")  # fmt: skip
# nvcc includes cuda_runtime.h by itself.
DEVICE = ("-fsanitize=thread", "-D__CUDACC__", "-D__CUDA_ARCH__=870", "-include", "cuda_runtime.h")
LAUNCH = re.compile(r"(\w+)<<<(.*?)>>>\((.*?)\);", re.DOTALL)
STATIC = re.compile(r"__shared__ (\w+) (\w+)\[([^\]]+)\];")
DYNAMIC = re.compile(r"extern __shared__ (\w+) (\w+)\[\];")


def rewritten(text: str) -> str:
    """CUDA's own syntax as calls of the stand-in; line numbers stay."""
    text = LAUNCH.sub(r"emulator::run(\2, [=] { \1(\3); });", text)
    text = DYNAMIC.sub(r"\1* const \2 = static_cast<\1*>(emulator::dynamic_bytes());", text)
    return STATIC.sub(r"auto& \2 = emulator::shared<\1[\3]>(__LINE__);", text)


def compiled(folder: Path, sources: Path = SOURCES, common: Sequence[Path] = ()) -> Path:
    """A library of kernels.cu in ``sources``; ``common``: objects of an earlier build."""
    unit = folder / "kernels.cpp"
    unit.write_text('#line 1 "kernels.cu"\n' + rewritten((sources / "kernels.cu").read_text()))
    kernels = _object(folder, unit, sources, DEVICE)
    library = folder / "kernels.so"
    _run("g++", "-shared", "-o", library, kernels, *common)
    return library


def common_objects(folder: Path) -> list[Path]:
    """The emulator, the entries and the host path, which every build of the kernels shares."""
    units = (HERE / "emulator.cpp", HERE / "entries.cpp", SOURCES / "host.cpp",
             SOURCES / "device.cpp")  # fmt: skip
    return [_object(folder, unit, SOURCES, ("-O2",)) for unit in units]


def _object(folder: Path, unit: Path, sources: Path, flags: Sequence[str]) -> Path:
    out = folder / f"{unit.stem}.o"
    _run("g++", *FLAGS, *flags, f"-I{sources}", "-c", unit, "-o", out)
    return out


def _run(*command: Any) -> None:
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def available() -> bool:
    return shutil.which("g++") is not None


class Emulator:
    """The operations of one library, on the host and on the emulated device."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.emulator_allocate.restype = ctypes.c_void_p

    def order(self, order: int) -> None:
        """Of threads and blocks: 0 forward, 1 in reverse, else by this random seed."""
        self._library.emulator_order(order)

    def chunks(self, *chunks: tuple[int, int]) -> None:
        """What the driver calls allocations: first addresses and sizes."""
        for chunk in ((0, 0), *chunks):
            self._library.emulator_chunk(*map(_word, chunk))

    def check_pointer(self, address: int, size: int, alignment: int = 4) -> str | None:
        """Why the library refuses an address, or None."""
        return self._call("check_pointer", address, size, alignment)

    def value_of_rank(self, values: NDArray[Any], rank: int) -> float:
        """The value of a rank, as the host path finds it for the median residual."""
        function = self._library.value_of_rank
        function.restype = ctypes.c_float
        return float(function(ctypes.c_void_p(values.ctypes.data), len(values), rank))

    def run(self, name: str, on_device: bool, arguments: Sequence[Any]) -> None:
        """Calls an operation. Arrays are passed as addresses; on the device, as copies there,
        which are copied back. Raises RuntimeError with what the emulator found."""
        self._library.emulator_free()
        copies = []
        passed: list[Any] = [bool(on_device)]
        for value in arguments:
            if isinstance(value, np.ndarray) and on_device:
                address = self._library.emulator_allocate(_word(value.nbytes))
                assert address, "the emulator's memory is full"
                ctypes.memmove(address, value.ctypes.data, value.nbytes)
                copies.append((value, address))
                passed.append(address)
            else:
                passed.append(value.ctypes.data if isinstance(value, np.ndarray) else value)
        if found := self._call(name, *passed):
            raise RuntimeError(found)
        for value, address in copies:
            ctypes.memmove(value.ctypes.data, address, value.nbytes)

    def _call(self, name: str, *arguments: Any) -> str | None:
        function = getattr(self._library, name)
        function.restype = ctypes.c_char_p
        found: bytes | None = function(*(_argument(value) for value in arguments))
        return found.decode() if found else None


def _word(value: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(value)


def _argument(value: Any) -> Any:
    if isinstance(value, bool):
        return ctypes.c_bool(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_uint64(value or 0)
