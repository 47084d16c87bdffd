"""Measuring energy if the machine reports it: NVML or tegrastats (GPU), RAPL (processor)."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

RAPL = Path("/sys/class/powercap")
_SECONDS = 0.05  # between two samples of a power


@dataclass(frozen=True)
class Energy:
    """Joules per call. ``source`` names the device; other work on the device is included."""

    joules: float
    source: str


class Meter(Protocol):
    """Measures energy between ``start`` and ``stop``.

    ``stop`` returns joules, or None if nothing could be read.
    """

    source: str

    def start(self) -> None: ...

    def stop(self) -> float | None: ...


def measure_energy(
    call: Callable[[], Any], seconds: float = 3.0, rapl: Path = RAPL, gpu: bool = False
) -> Energy | None:
    """Returns the energy of one call, or None if the machine does not report it.

    The call is repeated for ``seconds``. ``gpu``: the call runs on a GPU, so the energy of the GPU
    is measured, not that of the processor. ``rapl`` is the folder of RAPL's counters.
    """
    meter = (_nvml() or _tegra()) if gpu else (_rapl(rapl) or _tegra())
    if meter is None:
        return None
    meter.start()
    start, count = time.perf_counter(), 0
    try:
        while time.perf_counter() - start < seconds or not count:
            call()
            count += 1
    finally:
        joules = meter.stop()
    return None if joules is None else Energy(joules / count, meter.source)


class Counter:
    """Energy from a counter in joules that the hardware keeps."""

    def __init__(self, read: Callable[[], float], source: str) -> None:
        self._read, self.source = read, source

    def start(self) -> None:
        self._first = self._read()

    def stop(self) -> float | None:
        return self._read() - self._first


class Sampler:
    """Energy from a power in watts that a thread reads repeatedly."""

    def __init__(self, read: Callable[[], float], source: str) -> None:
        self._read, self.source = read, source
        self._watts: list[float] = []
        self._ended = Event()

    def start(self) -> None:
        self._started = time.perf_counter()
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        taken = time.perf_counter() - self._started
        self._ended.set()
        self._thread.join()
        return taken * sum(self._watts) / len(self._watts) if self._watts else None

    def _sample(self) -> None:
        while not self._ended.wait(_SECONDS):
            self._watts.append(self._read())


class Tegrastats:
    """Energy from the board's power, as ``tegrastats`` prints it repeatedly."""

    source = "tegrastats, VDD_IN"

    def start(self) -> None:
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            ["tegrastats", "--interval", str(int(_SECONDS * 1000))],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def stop(self) -> float | None:
        taken = time.perf_counter() - self._started
        self._process.terminate()
        printed, _ = self._process.communicate()
        watts = [w for w in map(tegra_watts, printed.splitlines()) if w is not None]
        return taken * sum(watts) / len(watts) if watts else None


def _rapl(root: Path) -> Meter | None:
    """The package counters of Intel's and AMD's Running Average Power Limit."""
    counters = sorted(root.glob("intel-rapl:?/energy_uj"))
    try:
        for counter in counters:
            counter.read_text()
    except OSError:  # often readable by root only
        return None
    if not counters:
        return None
    return Counter(lambda: sum(int(c.read_text()) for c in counters) * 1e-6, "RAPL, CPU package")


def _nvml() -> Meter | None:
    """Returns the meter of the board's energy counter, or of its power if it has no counter."""
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # no module, no driver, no device: each raises a class of its own
        return None
    readings: list[tuple[type[Counter] | type[Sampler], str]] = [
        (Counter, "nvmlDeviceGetTotalEnergyConsumption"),
        (Sampler, "nvmlDeviceGetPowerUsage"),
    ]
    for kind, name in readings:
        try:
            getattr(nvml, name)(device)
        except Exception:  # not supported by this board
            continue
        return kind(lambda name=name: getattr(nvml, name)(device) * 1e-3, "NVML, GPU board")  # type: ignore[misc]
    return None


def _tegra() -> Meter | None:
    return Tegrastats() if shutil.which("tegrastats") is not None else None


def tegra_watts(line: str) -> float | None:
    """Returns the watts of the whole board in a line of ``tegrastats``, or None.

    Such a line contains ``VDD_IN 5123mW/5000mW``.
    """
    found = re.search(r"\b(?:VDD_IN|POM_5V_IN) (\d+)m?W?/", line)
    return int(found.group(1)) * 1e-3 if found else None
