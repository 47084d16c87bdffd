"""A long live run: memory, file handles, time stamps and frame counts of the whole loop.

    python benchmarks/soak.py [--minutes 480] [--source URI] [--json F] [--plot SVG]
    make soak MINUTES=30

Linux only (it reads /proc). The moving portrait at 720p, played in real time, goes through
capture, tracker, drawing, a video file, JSON lines and a live page, which one viewer watches and
others leave again and again. Sampled once a second. Exits with 1 where memory, handles or threads
do not stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from posgan_edge import FaceTracker
from posgan_edge.live.capture import Capture
from posgan_edge.live.loop import Limits, run_live
from posgan_edge.live.sinks import JsonLinesSink, VideoSink
from posgan_edge.live.sinks.live_page import LivePageSink
from posgan_edge.live.sources import open_source
from posgan_edge.system import machine_block

#: Megabytes by which the resident memory may rise after the first minute.
MOST_MB = 20.0
#: Noise, and for one second in twenty no face: the detector has to look again and again.
SOURCE = "synthetic:?noise=4&blank=1&every=20"


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


class Viewers:
    """One client that reads the page's events all the time, and others that come and go."""

    def __init__(self, url: str) -> None:
        self._address = (urlsplit(url).hostname or "", urlsplit(url).port or 0)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=("/events", 1e9), daemon=True),
            threading.Thread(target=self._watch, args=("/stream.mjpg", 5.0), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _watch(self, path: str, seconds: float) -> None:
        while not self._stop.is_set():
            with suppress(OSError), socket.create_connection(self._address, 10) as client:
                host = f"{self._address[0]}:{self._address[1]}"
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                until = time.monotonic() + seconds
                while not self._stop.is_set() and time.monotonic() < until and client.recv(1 << 20):
                    pass
            self._stop.wait(1)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=480)
    parser.add_argument("--source", default=SOURCE)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    start = time.monotonic()
    samples: list[tuple[float, float, int, int]] = []

    def sample(*_: object) -> None:
        now = time.monotonic() - start
        if not samples or now - samples[-1][0] >= 1:
            samples.append((now, resident_mb(), handles(), threads()))

    with tempfile.TemporaryDirectory() as folder, FaceTracker() as tracker:
        lines = Path(folder) / "a.jsonl"
        source = open_source(options.source)
        with Capture(source, drop=True, notify=print) as capture:
            page = LivePageSink("0")
            sinks = [VideoSink(Path(folder) / "a.mp4", source.rate), JsonLinesSink(lines), page]
            viewers = Viewers(page.url)
            limits = Limits(seconds=60 * options.minutes)
            try:
                report = run_live(capture, tracker, sinks, limits, notify=print, on_frame=sample)
            finally:
                viewers.close()
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
        "handles": {"after_1_min": after[0][2], "end": after[-1][2],
                    "most_after_1_min": max(s[2] for s in after)},
        "threads": {"after_1_min": after[0][3], "end": after[-1][3],
                    "most_after_1_min": max(s[3] for s in after)},
    }  # fmt: skip
    result["flat"] = flat = all(
        level(after, column) <= most for column, most in ((1, MOST_MB), (2, 2), (3, 2))
    )
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
    return 0 if flat else 1


def level(samples: list[tuple[float, float, int, int]], column: int) -> float:
    """How much the median of the last third of a column is above that of the first third."""
    values = [sample[column] for sample in samples]
    third = max(1, len(values) // 3)
    return median(values[-third:]) - median(values[:third])


if __name__ == "__main__":
    sys.exit(main())
