"""Time a frame of the tracker against MediaPipe FaceMesh in video mode, in turns on one video.

    python benchmarks/tracking.py --video FILE [--rounds 4] [--faces 1] [--json F]

Both follow the face from frame to frame; frames are decoded beforehand. --faces 4 tiles the video
two by two, to see what more faces cost.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from posgan_edge import FaceTracker
from posgan_edge.engines.machine import machine_block
from posgan_edge.evaluation.latency import Latency, Ratio
from posgan_edge.vision.sources import open_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", required=True)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--faces", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with open_source(options.video) as source:
        frames = [frame.image for frame in source]
    if options.faces > 1:
        side = int(np.ceil(np.sqrt(options.faces)))
        height, width = frames[0].shape[:2]
        frames = [cv2.resize(np.tile(f, (side, side, 1)), (width, height)) for f in frames]
    from mediapipe.python.solutions.face_mesh import FaceMesh

    mesh = FaceMesh(static_image_mode=False, max_num_faces=options.faces)
    rivals = {"FaceMesh": mesh, "tracker": None, "tracker, maps": None, "tracker, no filter": None}
    times: dict[str, list[float]] = {name: [] for name in rivals}
    found = dict.fromkeys(rivals, 0)
    trackers = {
        "tracker": FaceTracker(max_faces=options.faces, dense=False),
        "tracker, maps": FaceTracker(max_faces=options.faces),
        "tracker, no filter": FaceTracker(max_faces=options.faces, dense=False, smooth=False),
    }
    stamp = 0.0
    for round_ in range(-1, options.rounds):
        for frame in frames:
            stamp += 1 / 30
            for name in rivals:
                start = time.perf_counter()
                if name == "FaceMesh":
                    answer = mesh.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
                    faces = len(answer.multi_face_landmarks or [])
                else:
                    faces = len(trackers[name].update(frame, stamp))
                if round_ >= 0:
                    times[name].append((time.perf_counter() - start) * 1e3)
                    found[name] += faces
    taken = {name: np.array(t) for name, t in times.items()}
    result = {
        "machine": machine_block(),
        "frames": len(taken["tracker"]),
        "faces_a_frame": {n: c / len(taken["tracker"]) for n, c in found.items()},
        "ms": {n: asdict(Latency.of(t)) for n, t in taken.items()},
        "over FaceMesh": {n: asdict(Ratio.of(t, taken["FaceMesh"])) for n, t in taken.items()},
    }
    for name, t in taken.items():
        ratio = result["over FaceMesh"][name]["value"]
        print(f"{name}: median {np.median(t):.2f} ms, mean {t.mean():.2f}, ratio {ratio:.2f}, "
              f"{result['faces_a_frame'][name]:.2f} faces a frame")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
