"""Finds the score below which the detector should also search turned pictures.

    python benchmarks/detector_threshold.py --pack PACK_DIR [--faces 500] [--json F]

Faces of the position-map pack are shown in a larger picture, upright and turned by 90, 180 and 270
degrees. A detection is right if its box overlaps the labelled one (IoU of at least 0.5) and its
roll is within 45 degrees of the labelled one. For each threshold, the table gives the share of
faces that are found right, and how often the short-range model runs. The faces are training faces.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from posgan_edge.faces.detector import TRUSTED_SCORE, MediaPipeDetector
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.pose import fit_pose
from posgan_edge.geometry.values import FaceBox
from posgan_edge.system import machine_block
from posgan_edge.training.datasets import PackMaps

SIDE, FACE = 640, 330
QUARTERS = (None, cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pack, layout, detector = PackMaps(options.pack), load_layout("ict"), MediaPipeDetector()
    chosen = np.random.default_rng(0).permutation(len(pack))[: options.faces]
    rows = []  # score, right as it is, right after the turned searches too
    for index in chosen:
        xyz = pack.maps(torch.from_numpy(pack.target(index))[None])[0].numpy()
        place = Crop(SIDE / 2, SIDE / 2, FACE)
        points = place.to_frame(layout.landmarks(xyz))
        roll = fit_pose(xyz, layout).in_plane
        edge = (SIDE - FACE) // 2
        face = cv2.resize(pack.image(index), (FACE, FACE))
        picture = cv2.copyMakeBorder(face, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
        for number, code in enumerate(QUARTERS):
            shown = picture if code is None else cv2.rotate(picture, code)
            turned = turn(points, number)
            first = best(detector.detect_turned(shown, [0]))
            others = detector.detect_turned(shown, [90, 180, 270])
            every = best([*([first] if first else []), *others])
            rows.append((
                first.score if first else 0.0,
                is_right(first, turned, roll + 90 * number),
                is_right(every, turned, roll + 90 * number),
            ))  # fmt: skip
    score, alone, after = np.array(rows, float).T
    table = []
    for threshold in np.round(np.arange(0.5, 1.0, 0.05), 2):
        trusted = score >= threshold
        table.append({
            "threshold": float(threshold),
            "right_percent": 100 * float(np.where(trusted, alone, after).mean()),
            "runs_a_picture": 1 + 3 * float((~trusted).mean()),
            "wrong_and_trusted_percent": 100 * float((trusted & (alone == 0)).mean()),
        })  # fmt: skip
    result = {"machine": machine_block(), "faces": len(chosen), "turns": [0, 90, 180, 270],
              "used": TRUSTED_SCORE, "table": table}  # fmt: skip
    for row in table:
        print(*(f"{k} {v:.2f}" for k, v in row.items()), sep=", ")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def turn(points: NDArray[Any], quarters: int) -> NDArray[Any]:
    """Returns points (n, 2) in pixels of the square picture after ``quarters`` clockwise quarter
    turns."""
    x, y = points[:, 0], points[:, 1]
    for _ in range(quarters):
        x, y = SIDE - y, x
    return np.column_stack([x, y])


def best(boxes: list[FaceBox]) -> FaceBox | None:
    return max(boxes, key=lambda box: box.score, default=None)


def is_right(box: FaceBox | None, points: NDArray[Any], roll: float) -> bool:
    if box is None:
        return False
    off = abs((box.roll - roll + 180) % 360 - 180)
    return box.iou(FaceBox.around(points)) >= 0.5 and off <= 45


if __name__ == "__main__":
    main()
