"""Latency on ONNX Runtime for different CPU threads and batch sizes, measured in turns.

python benchmarks/scaling.py [--model edge ...] [--rounds 200] [--json F]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from posgan_edge import load_engine
from posgan_edge.evaluation.profile import batch_sweep, thread_sweep
from posgan_edge.system import machine_block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {"machine": machine_block(), "models": {}}
    for model in options.model or ["edge"]:
        threads = thread_sweep(model, options.rounds)
        batches = batch_sweep(load_engine(model), options.rounds)
        result["models"][model] = {
            "threads_ms": {n: asdict(t) for n, t in threads.items()},
            "batch_ms": {n: asdict(t) for n, t in batches.items()},
        }
        for what, sweep in (("threads", threads), ("images", batches)):
            for n, t in sweep.items():
                print(f"{model}, {n} {what}: median {t.median:.2f} ms, p90 {t.p90:.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
