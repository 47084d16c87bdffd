"""The generator's loss terms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.sampling import bilinear_taps
from posgan_edge.training.recipe import Losses


class LandmarkReader(nn.Module):
    """Reads the 68 landmarks (N, 68, 3) of maps (N, 3, M, M); bilinear and differentiable."""

    index: Tensor
    weight: Tensor

    def __init__(self, layout: UvLayout, resolution: int) -> None:
        super().__init__()
        index, weight = bilinear_taps(layout.landmark_uv, resolution)
        self.register_buffer("index", torch.from_numpy(index))
        self.register_buffer("weight", torch.from_numpy(weight))

    def forward(self, maps: Tensor) -> Tensor:
        taps = maps.flatten(2)[:, :, self.index]
        return (taps * self.weight).sum(-1).transpose(1, 2)


#: Landmarks that meet when eyes and mouth close: upper and lower lids, inner lips.
GAPS = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))


class MapLoss(nn.Module):
    """Loss of a map: weighted L1, Euclidean landmark error, landmark depth, and openness.

    ``gaps`` is the Euclidean error of the seven 2D differences between upper and lower lids and
    lips (``GAPS``). In the landmark term the points of eyes and mouth weigh
    ``config.eyes_and_mouth`` times the others.

    With ``relative`` every term is divided by sqrt(w x h) of the true landmark box, so that the
    landmark term is the NME of the AFLW2000-3D protocol (as a fraction).
    """

    weights: Tensor
    share: Tensor

    def __init__(self, layout: UvLayout, resolution: int, config: Losses) -> None:
        super().__init__()
        weights = torch.from_numpy(layout.weights(resolution))
        weights = weights.clamp(max=config.landmark_weight)
        self.register_buffer("weights", (weights / weights.sum()).flatten())
        self.landmarks = LandmarkReader(layout, resolution)
        share = torch.ones(68)
        share[36:] = config.eyes_and_mouth
        self.register_buffer("share", share / share.mean())
        self.config = config

    def forward(self, predicted: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of maps (N, 3, M, M), and its parts by name; all scalars.

        ``nme`` is in percent.
        """
        truth = self.landmarks(target)
        error = self.landmarks(predicted) - truth
        box = truth[..., :2].amax(1) - truth[..., :2].amin(1)
        size = box.prod(1).sqrt().clamp(min=0.2)
        scale = size if self.config.relative else torch.ones_like(size)
        distance = (error[..., :2].square().sum(-1) + 1e-6).sqrt()
        upper, lower = zip(*GAPS, strict=True)
        gap = error[:, list(upper), :2] - error[:, list(lower), :2]
        gap = (gap.square().sum(-1) + 1e-7).sqrt().mean(1)
        depth = error[..., 2].abs().mean(1)
        surface = (predicted - target).abs().flatten(2).matmul(self.weights).mean(1)
        parts = {
            "map": (surface / scale).mean(),
            "landmarks": ((distance * self.share).mean(1) / scale).mean(),
            "gaps": (gap / scale).mean(),
            "depth": (depth / scale).mean(),
        }
        loss = sum(getattr(self.config, name) * part for name, part in parts.items())
        parts["nme"] = 100 * (distance.mean(1) / size).mean()
        return torch.as_tensor(loss), {k: v.detach() for k, v in parts.items()}
