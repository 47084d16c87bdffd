"""Time per frame of the tracker and of MediaPipe FaceMesh in video mode, in turns on one video.

    python benchmarks/tracking.py --video FILE [--sittings 5] [--rounds 4] [--seconds 30] [--json F]

Both follow the face from frame to frame; frames are decoded beforehand. The same is measured again
in a process that may run on one core only (``--one-core`` within that process). Two more
measurements follow. The video is tiled two by two, to compare one face with four (in turns). And
the live loop plays the video repeatedly at 30 frames a second: time from capture to result, whether
it grows, and dropped frames.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import FaceTracker
from posgan_edge.evaluation.latency import Latency, Ratio
from posgan_edge.live.capture import Capture
from posgan_edge.live.loop import Limits, run_live
from posgan_edge.live.sinks import Result, Sink
from posgan_edge.live.sources import Source, open_source
from posgan_edge.system import machine_block

_PAUSE = 20.0  # seconds between sittings


class Repeated(Source):
    """A source that repeats decoded frames."""

    rate = 30.0

    def __init__(self, frames: list[NDArray[Any]]) -> None:
        self.name, self._frames, self._index = "repeated", frames, 0

    def read(self, into: NDArray[Any] | None = None) -> NDArray[Any]:
        frame = self._frames[self._index % len(self._frames)]
        self._index += 1
        return frame.copy()


class Watch(Sink):
    """Records the times from capture to result."""

    name = "watch"

    def __init__(self) -> None:
        self.ms: list[float] = []

    def write(self, result: Result) -> None:
        self.ms.append(result.latency_ms)


def tiled(frames: list[NDArray[Any]]) -> list[NDArray[Any]]:
    height, width = frames[0].shape[:2]
    return [cv2.resize(np.tile(f, (2, 2, 1)), (width, height)) for f in frames]


def against_facemesh(frames: list[NDArray[Any]], rounds: int, sittings: int) -> dict[str, Any]:
    """Measures several times, because the speed of a machine drifts over minutes."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    mesh = FaceMesh(static_image_mode=False, max_num_faces=1)
    trackers = {
        "tracker": FaceTracker(dense=False, background=True),
        "tracker, maps": FaceTracker(background=True),
        "tracker, no filter": FaceTracker(dense=False, smooth=False, background=True),
        "tracker, INT8": FaceTracker("edge-int8", dense=False, background=True),
        "tracker, maps, no kernels": FaceTracker(reader="numpy", background=True),
    }

    def facemesh(frame: NDArray[Any], _: float) -> int:
        return len(mesh.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).multi_face_landmarks or [])

    def followed(tracker: FaceTracker) -> Callable[[NDArray[Any], float], int]:
        return lambda frame, stamp: len(tracker.update(frame, stamp))

    calls: dict[str, Callable[[NDArray[Any], float], int]] = {"FaceMesh": facemesh}
    calls |= {name: followed(tracker) for name, tracker in trackers.items()}
    sums = []
    for sitting in range(sittings):
        time.sleep(_PAUSE * (sitting > 0))
        times, found = in_turns(calls, {name: frames for name in calls}, rounds)
        sums.append(summary(times, found, "FaceMesh"))
    ratios = {n: sorted(a["over FaceMesh"][n]["value"] for a in sums) for n in calls}
    middle = {n: float(np.median(r)) for n, r in ratios.items()}
    print({n: f"{middle[n]:.2f} ({r[0]:.2f} to {r[-1]:.2f})" for n, r in ratios.items()})
    return {"ratio": middle, "ratio_by_sitting": ratios, "sittings": sums}


def on_one_core(video: str, rounds: int, sittings: int) -> dict[str, Any]:
    """``against_facemesh`` in a process of its own, whose threads all start on one core."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one-core.json"
        os.sched_setaffinity(0, {min(cores)})  # the new process takes it over
        try:
            subprocess.run(
                [sys.executable, __file__, "--video", video, "--one-core", "--json", str(path),
                 "--rounds", str(rounds), "--sittings", str(sittings)],
                check=True,
            )  # fmt: skip
        finally:
            os.sched_setaffinity(0, cores)
        found: dict[str, Any] = json.loads(path.read_text())
    return found


def one_and_four(frames: list[NDArray[Any]], rounds: int) -> dict[str, Any]:
    trackers = {
        "one face": FaceTracker(background=True),
        "four faces": FaceTracker(max_faces=4, background=True),
    }
    calls = {n: lambda f, stamp, t=t: len(t.update(f, stamp)) for n, t in trackers.items()}
    pictures = {"one face": frames, "four faces": tiled(frames)}
    times, found = in_turns(calls, pictures, rounds)
    return summary(times, found, "one face")


def in_turns(
    calls: dict[str, Any], pictures: dict[str, Any], rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns milliseconds of each call on each frame, in turns, after one round to warm up.

    The order is drawn anew for each frame: a call is slower after one that used much memory.
    """
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    found = dict.fromkeys(calls, 0)
    stamp = 0.0
    for round_ in range(-1, rounds):
        for index in range(len(next(iter(pictures.values())))):
            stamp += 1 / 30
            for name in rng.permutation(list(calls)):
                start = time.perf_counter()
                faces = calls[name](pictures[name][index], stamp)
                if round_ >= 0:
                    times[name].append((time.perf_counter() - start) * 1e3)
                    found[name] += faces
    return {name: np.array(t) for name, t in times.items()}, found


def summary(taken: dict[str, Any], found: dict[str, Any], base: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "frames": len(taken[base]),
        "faces_a_frame": {n: c / len(taken[base]) for n, c in found.items()},
        "ms": {n: asdict(Latency.of(t)) for n, t in taken.items()},
        f"over {base}": {n: asdict(Ratio.of(t, taken[base])) for n, t in taken.items()},
    }
    for name, t in taken.items():
        print(f"{name}: median {np.median(t):.2f} ms, mean {t.mean():.2f}, over {base} "
              f"{result[f'over {base}'][name]['value']:.2f}, "
              f"{result['faces_a_frame'][name]:.2f} faces a frame")  # fmt: skip
    return result


def live(frames: list[NDArray[Any]], seconds: float) -> dict[str, Any]:
    watch = Watch()
    with FaceTracker() as tracker, Capture(Repeated(frames), drop=True) as capture:
        tracker.pipeline.engine.warm_up()
        report = run_live(capture, tracker, [watch], Limits(seconds=seconds))
    quarter = len(watch.ms) // 4
    result: dict[str, Any] = {
        "report": asdict(report),
        "capture_to_result_ms": asdict(Latency.of(np.array(watch.ms))),
        "median_of_quarters_ms": [
            float(np.median(watch.ms[i * quarter : (i + 1) * quarter])) for i in range(4)
        ],
    }
    print(f"live: {report.processed} frames in {report.seconds:.0f} s, "
          f"{report.counts.dropped} dropped, capture to result p90 "
          f"{result['capture_to_result_ms']['p90']:.1f} ms, quarters "
          f"{[round(q, 1) for q in result['median_of_quarters_ms']]}")  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", required=True)
    parser.add_argument("--sittings", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one-core", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with open_source(options.video) as source:
        frames = [frame.image for frame in source]
    if options.one_core:
        found = against_facemesh(frames, options.rounds, options.sittings)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
        return
    sittings = options.rounds, options.sittings
    result = {
        "machine": machine_block(),
        "against FaceMesh": against_facemesh(frames, *sittings),
        "against FaceMesh, on one core": on_one_core(options.video, *sittings),
        "four faces": one_and_four(frames, options.rounds),
        "live, 30 frames a second": live(frames, options.seconds),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
