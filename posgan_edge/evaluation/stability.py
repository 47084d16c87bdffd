"""How far an engine strays from a reference, and how still it holds a still face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posgan_edge.engines.base import Engine
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.scoring import Prediction
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.metrics import box_size

#: Crops of each face for the jitter, and the spread of their shift and size (of the side) and
#: turn (degrees): what a tracker's crop does from frame to frame.
JITTER_CROPS, JITTER_SPREAD, JITTER_TURN = 8, 0.01, 1.0


@dataclass(frozen=True)
class Deviation:
    """Distance of landmarks from the reference's in photo pixels, over all faces and points."""

    mean: float
    p99: float
    max: float


def deviation(
    predictions: Sequence[Prediction | None], reference: Sequence[Prediction | None]
) -> Deviation | None:
    """Over the faces that both found; None where there are none."""
    distances = [
        np.linalg.norm(p.landmarks[:, :2] - r.landmarks[:, :2], axis=1)
        for p, r in zip(predictions, reference, strict=True)
        if p is not None and r is not None
    ]
    if not distances:
        return None
    all_ = np.concatenate(distances)
    return Deviation(float(all_.mean()), float(np.percentile(all_, 99)), float(all_.max()))


def jitter(engine: Engine, faces: Sequence[LabelledFace]) -> float | None:
    """Landmarks' RMS distance from their mean over slightly other crops of one photo, in percent
    of the face's size; mean over faces, None where there are none."""
    layout = load_layout(engine.info.layout)
    found = []
    for index, face in enumerate(faces):
        image, crop = face.image(), face.crop
        rng = np.random.default_rng(index)
        drawn = rng.normal(0, 1, (JITTER_CROPS, 4))
        crops = [
            Crop(
                crop.center_x + JITTER_SPREAD * crop.side * x,
                crop.center_y + JITTER_SPREAD * crop.side * y,
                crop.side * (1 + JITTER_SPREAD * s),
                crop.angle + JITTER_TURN * a,
            )
            for x, y, s, a in drawn
        ]
        inputs = np.stack([extract_crop(image, c, engine.info.input_size) for c in crops])
        maps = engine.infer_all(inputs)
        points = np.stack(
            [c.to_frame(p)[:, :2] for c, p in zip(crops, layout.landmarks(maps), strict=True)]
        )
        square = np.square(points - points.mean(0)).sum(-1).mean()
        found.append(100 * float(np.sqrt(square)) / box_size(face.original))
    return float(np.mean(found)) if found else None
