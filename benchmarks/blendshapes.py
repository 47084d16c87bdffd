"""The cost of blendshapes, and how well they agree with the openness of eyes and mouth.

    python benchmarks/blendshapes.py FACES [--yaw 180] [--faces N] [--json F]

FACES is the ``.npz`` of a training pack (with ``eyes`` and ``mouth``), or a set with 68 human
points for ``benchmark --dataset``. Each face is processed once, on its ground-truth crop. Measured
is the correlation of ``eyeBlink`` (negated) and ``jawOpen`` with the labelled ratios, and for
comparison that of our ``openness`` (3D) and of our ratios in the picture. Labels are ratios in the
picture, which are larger for a turned head; "turn undone" corrects them with our landmarks. The
cost is the processor time per face on one thread.
"""

from __future__ import annotations

import os
from typing import Any

if __name__ == "__main__":
    # One thread; numpy reads this when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posgan_edge import Crop, Face, FaceBox, blendshapes, load_engine, openness
from posgan_edge.evaluation.expression import pearson
from posgan_edge.faces.expression_track import ExpressionTrack
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.images import decode_image

SHAPES = ("eyeBlinkRight", "eyeBlinkLeft", "jawOpen")
FACES, TIMES = 40, 50


def faces_of(path: Path, count: int | None) -> tuple[list[Face], NDArray[Any]]:
    """Returns the faces of the shipped model, and the labelled openness (n, 3): right eye, left
    eye, mouth."""
    data = np.load(path)
    human, offsets = "pts68" in data, data["offsets"]
    pipeline = FacePipeline(load_engine("edge", 1), None, passes=1)
    faces, labels = [], []
    for i in range(len(offsets) - 1)[:count]:
        picture = decode_image(data["jpeg"][offsets[i] : offsets[i + 1]], f"{path}: face {i}")
        if human:
            points = data["pts68"][i].T
            crop, label = Crop.from_box(FaceBox.around(points)), list(openness(points).values())
        else:
            side = picture.shape[0]
            crop = Crop(side / 2, side / 2, side)
            label = [*data["eyes"][i], data["mouth"][i]]
        faces += pipeline.at_crops(picture, [crop])
        labels.append(label)
    return faces, np.array(labels)


def correlations(faces: list[Face], labels: NDArray[Any]) -> dict[str, float | None]:
    """Returns Pearson's r with the labels (n, 3); both eyes are taken together."""
    solid = np.array([list(openness(face.landmarks).values()) for face in faces])
    plane = np.array([list(openness(face.landmarks[:, :2]).values()) for face in faces])
    shapes = np.array([[(face.blendshapes or {})[name] for name in SHAPES] for face in faces])
    found: dict[str, float | None] = {}
    for kind, truth in (("", labels), (", turn undone", labels * widths(faces))):
        for part, columns in (("eyes", slice(0, 2)), ("mouth", slice(2, 3))):
            wanted = truth[:, columns].ravel()
            sign = -1.0 if part == "eyes" else 1.0
            found |= {
                f"{part}, openness{kind}": pearson(solid[:, columns].ravel(), wanted),
                f"{part}, blendshape{kind}": pearson(sign * shapes[:, columns].ravel(), wanted),
                f"{part}, ratio in the picture{kind}": pearson(plane[:, columns].ravel(), wanted),
            }
    return found


def widths(faces: list[Face]) -> NDArray[Any]:
    """Returns (n, 3): the factors by which eyes and mouth are narrower in the picture of a
    turned head."""
    ends = np.array([(36, 39), (42, 45), (60, 64)]).T
    points = np.stack([face.landmarks for face in faces])
    across = points[:, ends[0]] - points[:, ends[1]]
    ratios: NDArray[Any] = np.linalg.norm(across[..., :2], axis=-1) / np.linalg.norm(
        across, axis=-1
    )
    return ratios


def cost_ms(faces: list[Face]) -> dict[str, float]:
    """Returns the processor time in ms per face: the median over some faces, each processed many
    times."""
    track, found = ExpressionTrack(), {}
    for name, call in (
        ("single picture", lambda face: face.blendshapes),
        ("in a track", lambda face: blendshapes(face, track)),
    ):
        each = []
        for face in faces[:FACES]:
            call(face)
            start = time.process_time()
            for _ in range(TIMES):
                call(face)
            each.append((time.process_time() - start) / TIMES * 1e3)
        found[name] = float(np.median(each))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument(
        "--yaw", type=float, default=180, help="leave out faces turned further, degrees"
    )
    parser.add_argument("--faces", type=int, help="only the first so many")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    faces, labels = faces_of(options.path, options.faces)
    near = np.array([abs(face.pose.yaw) <= options.yaw for face in faces])
    kept = [face for face, keep in zip(faces, near, strict=True) if keep]
    result = {
        "faces": len(kept),
        "correlation": correlations(kept, labels[near]),
        "cost_ms": cost_ms(kept),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
