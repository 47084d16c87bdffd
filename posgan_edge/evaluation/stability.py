"""Deviation of an engine from a reference, and jitter of its landmarks."""

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

#: Crops of each face for the jitter; standard deviation of their shift and size (in sides of the
#: crop) and of their angle (degrees). A tracker's crop varies about as much between frames.
JITTER_CROPS, JITTER_SPREAD, JITTER_TURN = 8, 0.01, 1.0


@dataclass(frozen=True)
class Deviation:
    """Distances of landmarks from those of the reference, in photo pixels, over all faces."""

    mean: float
    p99: float
    max: float


def deviation(
    predictions: Sequence[Prediction | None], reference: Sequence[Prediction | None]
) -> Deviation | None:
    """Returns the deviation over the faces that both found, or None if there are none."""
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
    """Returns how much landmarks vary over slightly different crops of one photo.

    The result is the RMS distance from the mean landmark in percent of the face's size, averaged
    over the faces; None if there are no faces.
    """
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
