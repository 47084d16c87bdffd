"""Memory and file handles over a long run: a moving portrait through detector, crop and network.

    python benchmarks/soak.py [--minutes 10] [--model edge] [--json F] [--plot PNG]

Linux alone (it reads /proc). Samples once a second.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import cv2
import numpy as np

from posgan_edge import FacePipeline, Frame, load_engine
from posgan_edge.engines.machine import machine_block
from posgan_edge.images import read_image
from posgan_edge.vision.detector import MediaPipeDetector
from posgan_edge.vision.draw import draw_faces

PORTRAIT = Path(__file__).parents[1] / "posgan_edge" / "assets" / "portrait.jpg"


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", default="edge")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    portrait = cv2.resize(read_image(PORTRAIT), None, fx=1.5, fy=1.5)
    pipeline = FacePipeline(load_engine(options.model), MediaPipeDetector())
    start, frames, found = time.monotonic(), 0, 0
    samples: list[tuple[float, float, int]] = []
    while (now := time.monotonic() - start) < 60 * options.minutes:
        shift = 30 * np.array([np.sin(frames / 31), np.cos(frames / 17)])
        moved = cv2.warpAffine(
            portrait, np.float64([[1, 0, shift[0]], [0, 1, shift[1]]]), portrait.shape[1::-1]
        )
        faces = pipeline.process(Frame(moved, frames, now))
        draw_faces(moved, faces)
        frames, found = frames + 1, found + bool(faces)
        if not samples or now - samples[-1][0] >= 1:
            samples.append((now, resident_mb(), handles()))
    after = [s for s in samples if s[0] >= 60] or samples
    result = {
        "machine": machine_block(),
        "model": options.model,
        "minutes": options.minutes,
        "frames": frames,
        "frames_with_a_face": found,
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
