"""Energy as far as a machine reports it: RAPL, NVML, tegrastats."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Energy:
    """Joules a call, of the whole device that ``source`` counts (other work on it too)."""

    joules: float
    source: str


def measure_energy(
    call: Callable[[], Any], seconds: float = 3.0, rapl: Path = RAPL
) -> Energy | None:
    """Energy of one call, from calls over some seconds; None where nothing can be read."""
    reading = _rapl(rapl) or _nvml() or _tegra()
    if reading is None:
        return None
    read, source, per_second = reading
    return _counted(call, seconds, read, source, per_second)


def _counted(
    call: Callable[[], Any],
    seconds: float,
    read: Callable[[], float],
    source: str,
    per_second: bool,
) -> Energy:
    """``read`` is a counter in joules, or watts of the moment when ``per_second``."""
    start, first, count, watts = time.perf_counter(), read(), 0, []
    sampled = start
    while (now := time.perf_counter()) - start < seconds:
        call()
        count += 1
        if per_second and now - sampled > 0.1:
            watts.append(read())
            sampled = now
    taken = time.perf_counter() - start
    joules = taken * sum(watts) / max(1, len(watts)) if per_second else read() - first
    return Energy(joules / max(1, count), source)


_Reading = tuple[Callable[[], float], str, bool]


def _rapl(root: Path) -> _Reading | None:
    """The package counters of Intel's and AMD's Running Average Power Limit."""
    counters = sorted(root.glob("intel-rapl:?/energy_uj"))
    try:
        for counter in counters:
            counter.read_text()
    except OSError:  # often for root alone
        return None
    if not counters:
        return None
    return lambda: sum(int(c.read_text()) for c in counters) * 1e-6, "RAPL, CPU package", False


def _nvml() -> _Reading | None:
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)
        nvml.nvmlDeviceGetPowerUsage(device)
    except Exception:  # no module, no driver, no device, not told: each raises a class of its own
        return None
    return lambda: nvml.nvmlDeviceGetPowerUsage(device) * 1e-3, "NVML, GPU board", True


def _tegra() -> _Reading | None:
    if shutil.which("tegrastats") is None:
        return None

    def read() -> float:
        process = subprocess.Popen(
            ["tegrastats", "--interval", "50"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            return tegra_watts(process.stdout.readline()) or 0.0
        finally:
            process.kill()
            process.wait()

    return (read, "tegrastats, VDD_IN", True) if read() else None


def tegra_watts(line: str) -> float | None:
    """Watts of the whole board in a line of ``tegrastats`` (``VDD_IN 5123mW/5000mW``)."""
    found = re.search(r"\b(?:VDD_IN|POM_5V_IN) (\d+)m?W?/", line)
    return int(found.group(1)) * 1e-3 if found else None
