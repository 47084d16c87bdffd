"""Time from the start of a process to the first face: imports, loading, first result, memory.

    python benchmarks/cold_start.py [--model edge ...] [--repeats 5] [--json F]

The models are measured in turns; the figures are medians.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import numpy as np

from posgan_edge.evaluation.probe import ColdStart, cold_start
from posgan_edge.system import machine_block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    models = options.model or ["edge"]
    found: dict[str, list[ColdStart]] = {model: [] for model in models}
    for _ in range(options.repeats):
        for model in models:
            found[model].append(cold_start(model))
    names = [f.name for f in fields(ColdStart)]
    result = {
        "machine": machine_block(),
        "repeats": options.repeats,
        "models": {
            model: {n: float(np.median([getattr(s, n) for s in starts])) for n in names}
            for model, starts in found.items()
        },
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
