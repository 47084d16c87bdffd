"""CPU threads against latency of a model on ONNX Runtime, interleaved.

    python benchmarks/latency_threads.py [--model edge] [--rounds 200] [--json OUT]

One image per call; the thread counts take turns, so that what else the machine does falls on
all of them alike. Prints the machine it ran on.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from posgan_edge import load_engine
from posgan_edge.engines.machine import machine_block
from posgan_edge.evaluation.latency import Latency, take_turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="edge")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    counts = [n for n in (1, 2, 4, 8) if n <= (os.cpu_count() or 1)]
    engines = {n: load_engine(options.model, threads=n) for n in counts}
    size = engines[counts[0]].info.input_size
    image = np.random.default_rng(0).random((1, 3, size, size), np.float32)
    calls = {str(n): lambda e=engine: e.infer(image) for n, engine in engines.items()}
    times = take_turns(calls, options.rounds)
    result = {
        "machine": machine_block(),
        "model": options.model,
        "latency_ms": {n: asdict(Latency.of(t, 5)) for n, t in times.items()},
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
