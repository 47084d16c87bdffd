"""Time and memory to load an engine in a new process.

``python -m posgan_edge.evaluation.probe MODEL`` prints one JSON line with the fields of
``ColdStart``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from posgan_edge.errors import BadInput


@dataclass(frozen=True)
class ColdStart:
    """Seconds and megabytes of a new process that loads an engine and runs it once.

    ``memory_mb`` is the peak of resident memory (``peak_mb``) minus the memory after the imports.
    """

    import_seconds: float
    load_seconds: float
    first_seconds: float
    memory_mb: float
    peak_mb: float


def cold_start(model: str) -> ColdStart:
    """Measures ``model`` in a new process. Raises BadInput if that fails."""
    run = subprocess.run(
        [sys.executable, "-m", "posgan_edge.evaluation.probe", model],
        capture_output=True,
        text=True,
    )
    try:
        return ColdStart(**json.loads(run.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError) as error:
        last = (run.stderr.strip().splitlines() or ["no output"])[-1]
        raise BadInput(f"{model}: could not be measured in a process of its own: {last}") from error


def memory_mb(key: str) -> float:
    """Returns the resident memory now (``VmRSS``) or at its peak (``VmHWM``) in megabytes.

    Systems other than Linux give the peak in both cases.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    start = time.perf_counter()
    from posgan_edge.engines import load_engine

    if sys.argv[1].startswith("openvino:"):
        from posgan_edge.engines.openvino import load_openvino

        load_openvino()
    elif not sys.argv[1].endswith((".pth", ".pt", ".ckpt", ".safetensors")):
        import onnxruntime  # noqa: F401
    imported = time.perf_counter()
    before = memory_mb("VmRSS")
    engine = load_engine(sys.argv[1])
    loaded = time.perf_counter()
    engine.warm_up()
    called = time.perf_counter()
    peak = memory_mb("VmHWM")
    figures = ColdStart(imported - start, loaded - imported, called - loaded, peak - before, peak)
    print(json.dumps(figures.__dict__))


if __name__ == "__main__":
    main()
