"""The NME of a generator on the validation part of a data set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from posgan_edge.engines.torch import TorchEngine
from posgan_edge.evaluation.aflw2000 import load_aflw2000
from posgan_edge.evaluation.scoring import predict_from_labels, score, summary
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.metrics import nme
from posgan_edge.models.registry import Generator
from posgan_edge.training.datasets import FaceMaps


@torch.inference_mode()
def validation_nme(
    generator: Generator,
    data: FaceMaps,
    device: torch.device,
    stopped: Callable[[], bool] = lambda: False,
    batch: int = 50,
) -> float | None:
    """Returns the mean 2D-68 NME in percent over the whole set, against the maps' landmarks.

    Pictures are not augmented. ``stopped`` is called between batches; if it returns True, the
    result is None.
    """
    layout = load_layout(generator.layout)
    errors: list[float] = []
    for start in range(0, len(data), batch):
        if stopped():
            return None
        indices = range(start, min(start + batch, len(data)))
        images = []
        for image in map(data.image, indices):
            side = image.shape[0]
            crop = Crop(side / 2, side / 2, side)
            images.append(extract_crop(image, crop, generator.input_size))
        x = torch.from_numpy(np.stack(images)).to(device, memory_format=torch.channels_last)
        predicted = layout.landmarks(generator(x).cpu().numpy())
        targets = torch.from_numpy(np.stack([data.target(i) for i in indices]))
        truth = layout.landmarks(data.maps(targets).numpy())
        errors.extend(nme(p, t) for p, t in zip(predicted, truth, strict=True))
    return float(np.mean(errors))


class FolderScorer:
    """Scores checkpoints on an AFLW2000-3D folder, on the ground-truth crop."""

    def __init__(self, folder: str) -> None:
        self.faces = load_aflw2000(folder)
        self.label_sets = ["original"]
        if all(face.reannotated is not None for face in self.faces):
            self.label_sets.append("reannotated")

    def score(
        self, generator: Generator, stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Returns ``nme_original`` and, if there are such labels, ``nme_reannotated`` (percent).

        ``stopped`` is called between faces; if it returns True, the result is None.
        """
        engine = TorchEngine(generator, "checkpoint")
        predictions = []
        for prediction in predict_from_labels(engine, self.faces):
            if stopped():
                return None
            predictions.append(prediction)
        return summary(score(self.faces, predictions, self.label_sets))
