"""How well ``Pose.residual`` separates faces from other things: its ROC curve.

    python benchmarks/presence.py --pack PACK_DIR --backgrounds DIR [--json F] [--plot F]

Faces are the validation pictures of the pack, with crops that are off by as much as a tracker's.
Not faces are random crops of pictures away from detected faces, and crops with at most half a face.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import Crop, FaceBox, FacePipeline, Frame, load_engine
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.faces.tracker import NO_FACE
from posgan_edge.system import machine_block
from posgan_edge.training.datasets import PackMaps

CROPS = 120  # of each background picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--backgrounds", type=Path, required=True)
    parser.add_argument("--model", default="edge")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    pipeline = FacePipeline(load_engine(options.model), dense=False)
    rng = np.random.default_rng(0)
    pack = PackMaps(options.pack, "val")
    pictures = [pack.image(i) for i in range(len(pack))]

    def residuals(picture: NDArray[Any], crops: list[Crop]) -> list[float]:
        return [face.pose.residual for face in pipeline.at_crops(Frame(picture), crops)]

    faces, parts = [], []
    for picture in pictures:
        side = picture.shape[0]
        x, y, s, a = rng.normal(0, 1, 4)
        crop = Crop(
            side * (0.5 + 0.025 * x), side * (0.5 + 0.025 * y), side * (1 + 0.05 * s), 5 * a
        )
        faces += residuals(picture, [crop])
        wide = cv2.copyMakeBorder(picture, *(side,) * 4, cv2.BORDER_REFLECT_101)
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 0.85) * side
        where = 1.5 * side + away * np.array([np.cos(angle), np.sin(angle)])
        parts += residuals(wide, [Crop(where[0], where[1], rng.uniform(0.5, 1.2) * side)])
    nothing, used = [], 0
    detector = MediaPipeDetector()
    for path in sorted(options.backgrounds.iterdir()):
        picture = cv2.imread(str(path))
        if picture is None or min(picture.shape[:2]) < 128:
            continue
        found = detector.detect(picture, 16)
        used += 1
        height, width = picture.shape[:2]
        crops = []
        for _ in range(CROPS):
            length = rng.uniform(48, 0.8 * min(height, width))
            half = length / 2
            x, y = rng.uniform(half, width - half), rng.uniform(half, height - half)
            box = FaceBox(x - half, y - half, length, length)
            if all(box.iou(face) < 0.02 for face in found):
                crops.append(Crop(x, y, length, rng.normal(0, 15)))
        for start in range(0, len(crops), 16):
            nothing += residuals(picture, crops[start : start + 16])
    positive = np.array(faces)
    result = {
        "machine": machine_block(),
        "model": options.model,
        "faces": len(faces),
        "background_pictures": used,
        "threshold": NO_FACE,
        "faces_kept": float((positive <= NO_FACE).mean()),
        "percentiles_of_faces": dict(
            zip(("1", "50", "99"), np.percentile(positive, [1, 50, 99]).tolist(), strict=True)
        ),
    }
    curves = {}
    for name, negatives in (("background", nothing), ("part of a face", parts)):
        negative = np.array(negatives)
        limits = np.sort(np.concatenate([positive, negative]))
        kept = np.searchsorted(np.sort(positive), limits, "right") / len(positive)
        passed = np.searchsorted(np.sort(negative), limits, "right") / len(negative)
        area = float(np.trapz(np.r_[0, kept], np.r_[0, passed]))
        curves[name] = (passed, kept)
        result[name] = {
            "crops": len(negative),
            "area_under_roc": area,
            "passed_at_threshold": float((negative <= NO_FACE).mean()),
        }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        import matplotlib

        matplotlib.use("svg")
        import matplotlib.pyplot as plt

        plt.figure(figsize=(5, 3.4), layout="constrained")
        for name, (passed, kept) in curves.items():
            plt.plot(100 * passed, 100 * kept, label=name)
        plt.gca().set(xlim=(0, 30), ylim=(70, 100), xlabel="no face, but passed, %",
                      ylabel="faces kept, %")  # fmt: skip
        plt.legend(loc="lower right")
        plt.grid(alpha=0.3)
        plt.savefig(options.plot)


if __name__ == "__main__":
    main()
