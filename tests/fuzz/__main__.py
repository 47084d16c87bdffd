"""Tries every target for a while, and counts what became of the cases.

    python -m tests.fuzz --seconds 3600 --json benchmarks/results/reliability.json

Each target runs in a process of its own; a case that ends it, or uses too much time, is a
crash or a hang.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import ALL
from tests.fuzz.files import SHARED
from tests.fuzz.materials import good, obey_permissions
from tests.fuzz.targets import ACCEPTED, CRASH, HANG, REFUSED, Target, digest, outcome

#: As an earlier review counted them, on other cases.
BEFORE = {
    "cases": 3278, REFUSED: 1683, ACCEPTED: 852, "traceback": 535, CRASH: 10, HANG: 10,
    "silent": 46,
}  # fmt: skip

#: As the first runs of these targets counted them, before what they found was mended.
FIRST = {
    "every command": {"cases": 187, REFUSED: 157, ACCEPTED: 22, "traceback": 1, "silent": 7},
    "Python API": {
        "cases": 1114, REFUSED: 762, ACCEPTED: 218, "traceback": 123, HANG: 1, "silent": 10,
    },
}  # fmt: skip


def work(target: Target, number: int, examples: int, pipe: Connection) -> None:
    """Sends (digest, case) before, and (kind, detail) after each case."""
    obey_permissions()

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


def answered(pipe: Connection, pid: int | None, quiet: float) -> bool:
    """Waits for a message: ``quiet`` seconds of the process, and ten times as many on the clock.
    On a busy machine the clock alone does not tell a case that hangs from one that waits its turn.
    """
    until, before = time.monotonic() + 10 * quiet, processor_seconds(pid)
    while not pipe.poll(1):
        if processor_seconds(pid) - before > quiet or time.monotonic() > until:
            return False
    return True


def processor_seconds(pid: int | None) -> float:
    """Seconds that a process has run, as Linux counts them."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tried(target: Target, number: int, examples: int, until: float) -> Iterator[tuple[str, ...]]:
    """Yields (digest, outcome, detail, case) of each case."""
    mine, theirs = multiprocessing.Pipe(False)
    process = multiprocessing.get_context("fork").Process(
        target=work, args=(target, number, examples, theirs), daemon=True
    )
    process.start()
    theirs.close()
    case = ("", "")
    first = True
    try:
        while time.monotonic() < until or case[0]:
            # The first case waits for imports.
            if not answered(mine, process.pid, target.quiet * (4 if first else 1)):
                yield case[0], HANG, "", case[1]
                return
            first = False
            try:
                kind, one, two = mine.recv()
            except EOFError:
                process.join()
                if case[0] or process.exitcode:
                    yield case[0], CRASH, f"exit {process.exitcode}", case[1]
                return
            if kind == "end":
                return
            if kind == "case":
                case = (one, two)
            else:
                yield case[0], one, two, case[1]
                case = ("", "")
    finally:
        process.kill()
        process.join()


def share_world() -> None:
    """Makes the good files in a process of its own, as libraries' threads do not survive a fork."""
    if SHARED in os.environ:
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        os.environ[SHARED] = str(pool.submit(good).result())


Seen = dict[tuple[str, str], str]


def read_log(path: Path | None) -> Seen:
    """The cases of earlier runs: outcomes by target and digest."""
    if path is None or not path.exists():
        return {}
    found: Seen = {}
    for line in path.read_text().splitlines():
        target, key, kind = line.split("\t")
        found.setdefault((target, key), kind)
    return found


def record(path: Path, seen: Seen) -> None:
    """Writes the counts by outcome and target."""
    by_target = {
        t.name: dict(sorted(Counter(k for (n, _), k in seen.items() if n == t.name).items()))
        for t in ALL
    }
    counts = Counter(seen.values())
    kinds = [kind for kind in BEFORE if kind != "cases"]
    after = {"cases": len(seen)} | {kind: counts[kind] for kind in kinds}
    document = {"before": BEFORE, "first": FIRST, "after": after, "targets": by_target}
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--cases", type=int, default=10**9, help="stop after this many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="parts of targets' names, by commas")
    parser.add_argument("--log", type=Path, help="a line for each case; runs add to it")
    parser.add_argument("--json", type=Path, help="counts of this run, or of all in the log")
    options = parser.parse_args()
    targets = [t for t in ALL if any(part in t.name for part in options.only.split(","))]
    seen: Seen = {}
    failures: dict[tuple[str, str, str], str] = {}
    number = options.seed
    share_world()
    until = time.monotonic() + options.seconds
    log = open(options.log or os.devnull, "a", buffering=1)  # noqa: SIM115
    while time.monotonic() < until and len(seen) < options.cases:
        for target in targets:
            for key, kind, detail, case in tried(target, number, 5 * target.examples, until):
                seen.setdefault((target.name, key), kind)
                print(target.name, key, kind, sep="\t", file=log)
                place = detail.rpartition(" ")[2] if kind == "traceback" else detail[:60]
                if kind not in (ACCEPTED, REFUSED) and (target.name, kind, place) not in failures:
                    failures[target.name, kind, place] = case
                    print(f"{target.name}: {kind}: {detail}\n    {case}", flush=True)
        number += 1
        print(f"{len(seen)} cases, {len(failures)} places", file=sys.stderr, flush=True)
    log.close()
    if options.json:
        record(options.json, read_log(options.log) | seen)
    print(dict(Counter(seen.values())))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
