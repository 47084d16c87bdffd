"""A long live run: memory, file handles, time stamps and frame counts of the whole loop.

    python benchmarks/soak.py [--minutes 10] [--source URI] [--json F] [--plot SVG]

Linux only (it reads /proc). The moving portrait at 720p, played in real time, goes through
capture, tracker, drawing, a video file, JSON lines and a live page. Sampled once a second.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from posgan_edge import FaceTracker
from posgan_edge.live.capture import Capture
from posgan_edge.live.loop import Limits, run_live
from posgan_edge.live.sinks import JsonLinesSink, VideoSink
from posgan_edge.live.sinks.live_page import LivePageSink
from posgan_edge.live.sources import open_source
from posgan_edge.system import machine_block

#: Noise, and for one second in twenty no face: the detector has to look again and again.
SOURCE = "synthetic:?noise=4&blank=1&every=20"


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--source", default=SOURCE)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    start = time.monotonic()
    samples: list[tuple[float, float, int]] = []

    def sample(*_: object) -> None:
        now = time.monotonic() - start
        if not samples or now - samples[-1][0] >= 1:
            samples.append((now, resident_mb(), handles()))

    with tempfile.TemporaryDirectory() as folder, FaceTracker() as tracker:
        lines = Path(folder) / "a.jsonl"
        source = open_source(options.source)
        with Capture(source, drop=True, notify=print) as capture:
            sinks = [VideoSink(Path(folder) / "a.mp4", source.rate), JsonLinesSink(lines),
                     LivePageSink("0")]  # fmt: skip
            limits = Limits(seconds=60 * options.minutes)
            report = run_live(capture, tracker, sinks, limits, notify=print, on_frame=sample)
        with open(lines) as stream:
            stamps = [json.loads(line)["timestamp"] for line in stream]
    after = [s for s in samples if s[0] >= 60] or samples
    counts = report.counts
    result = {
        "machine": machine_block(),
        "source": options.source,
        "minutes": options.minutes,
        "report": asdict(report),
        "captured_equals_processed_and_dropped":
            counts.captured == report.processed + counts.dropped + counts.thinned,
        "lines_equal_processed": len(stamps) == report.processed,
        "timestamps_rise": all(b > a for a, b in pairwise(stamps)),
        "resident_mb": {"after_1_min": after[0][1], "end": after[-1][1],
                        "most_after_1_min": max(s[1] for s in after)},
        "growth_mb_after_1_min": after[-1][1] - after[0][1],
        "handles": {"after_1_min": after[0][2], "end": after[-1][2]},
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        import matplotlib

        matplotlib.use("svg")
        import matplotlib.pyplot as plt

        plt.figure(figsize=(7, 3), layout="constrained")
        plt.plot([s[0] / 60 for s in samples], [s[1] for s in samples])
        plt.gca().set(xlabel="minutes", ylabel="resident memory, MB")
        plt.savefig(options.plot)


if __name__ == "__main__":
    main()
