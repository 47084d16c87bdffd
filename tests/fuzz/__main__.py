"""Tries every target for a while, and counts what became of the cases.

    python -m tests.fuzz --seconds 3600 --json benchmarks/results/reliability.json

Each target runs in a process of its own; one that ends it, or says nothing for 30 seconds, is a
crash or a hang.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import ALL
from tests.fuzz.targets import ACCEPTED, CRASH, HANG, REFUSED, Target, digest, outcome

QUIET = 30.0
#: As an earlier review counted them, on other cases.
BEFORE = {
    "cases": 3278, REFUSED: 1683, ACCEPTED: 852, "traceback": 535, CRASH: 10, HANG: 10,
    "silent": 46,
}  # fmt: skip


def work(target: Target, number: int, examples: int, pipe: Connection) -> None:
    """Sends (digest, case) before, and (kind, detail) after each case."""

    @seed(number)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(target.cases())
    def every(case: Any) -> None:
        pipe.send(("case", digest(case), repr(case)[:300]))
        found = outcome(target, case)
        pipe.send(("outcome", found.kind, found.detail))

    every()
    pipe.send(("end", "", ""))


def tried(target: Target, number: int, examples: int, until: float) -> list[tuple[str, ...]]:
    """(digest, outcome, detail, case) of each case."""
    mine, theirs = multiprocessing.Pipe(False)
    process = multiprocessing.get_context("fork").Process(
        target=work, args=(target, number, examples, theirs), daemon=True
    )
    process.start()
    theirs.close()
    found: list[tuple[str, ...]] = []
    case = ("", "")
    first = True
    while time.monotonic() < until or case[0]:
        # The first case waits for imports and for the good files.
        if not mine.poll(QUIET * (4 if first else 1)):
            found.append((case[0], HANG, "", case[1]))
            break
        first = False
        try:
            kind, one, two = mine.recv()
        except EOFError:
            process.join()
            if case[0] or process.exitcode:
                found.append((case[0], CRASH, f"exit {process.exitcode}", case[1]))
            break
        if kind == "end":
            break
        if kind == "case":
            case = (one, two)
        else:
            found.append((case[0], one, two, case[1]))
            case = ("", "")
    process.kill()
    process.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--cases", type=int, default=10**9, help="stop after this many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a target's name")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    targets = [t for t in ALL if options.only in t.name]
    seen: dict[tuple[str, str], str] = {}
    failures: dict[tuple[str, str, str], str] = {}
    number = options.seed
    while time.monotonic() < until and len(seen) < options.cases:
        for target in targets:
            for key, kind, detail, case in tried(target, number, 5 * target.examples, until):
                seen.setdefault((target.name, key), kind)
                place = detail.rpartition(" ")[2] if kind == "traceback" else detail[:60]
                if kind not in (ACCEPTED, REFUSED) and (target.name, kind, place) not in failures:
                    failures[target.name, kind, place] = case
                    print(f"{target.name}: {kind}: {detail}\n    {case}", flush=True)
        number += 1
        print(f"{len(seen)} cases, {len(failures)} places", file=sys.stderr, flush=True)
    counts = Counter(seen.values())
    by_target = {
        t.name: dict(sorted(Counter(k for (n, _), k in seen.items() if n == t.name).items()))
        for t in targets
    }
    if options.json:
        kinds = [k for k in BEFORE if k != "cases"]
        after = {"cases": len(seen)} | {kind: counts[kind] for kind in kinds}
        document = {"before": BEFORE, "after": after, "targets": by_target}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(dict(counts))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
