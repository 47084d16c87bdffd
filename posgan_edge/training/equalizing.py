"""The same `edge` network with inner numbers of more equal size, which INT8 rounds less.

INT8 rounds all channels of a tensor in steps of one size. A channel whose numbers are small then
loses most. A ReLU passes a positive factor on, so a layer's channel can be divided by a factor and
the next layer's weights multiplied by it, and the maps stay the same (Nagel et al., Data-Free
Quantization Through Weight Equalization and Bias Correction, ICCV 2019).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.training.datasets import AugmentedMaps, FaceMaps
from posgan_edge.training.recipe import Recipe

#: Share of a channel's numbers that its range holds.
_SHARE = 0.9995
#: Smallest range of a unit, of the median: units that are hardly used are not made larger.
_LEAST = 0.25


@torch.no_grad()
def equalized(
    generator: EdgeGenerator, data: FaceMaps, recipe: Recipe, samples: int = 2000
) -> EdgeGenerator:
    """Returns a generator with the same maps, for INT8.

    Ranges are taken over ``samples`` pictures of ``data``, changed as ``recipe`` says. The inputs
    of the first fully connected layer are divided by the square root of their channel's range,
    because their factors make its weights more unequal; its units by their largest number.
    """
    result = copy.deepcopy(generator).eval()
    faces = AugmentedMaps(data, generator.input_size, recipe.augmentation, recipe.seed)
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(recipe.seed))
    features = torch.cat([
        result.features(
            torch.stack([faces[0, i, i][0] for i in part.tolist()])
            .permute(0, 3, 1, 2).float().div_(255)
        )
        for part in chosen[:samples].split(100)
    ])  # fmt: skip
    largest = torch.relu(result.fc1(features)).amax(0)
    used = largest[largest > 0]
    units = (largest / (used.median() if len(used) else 1.0)).clamp(min=_LEAST)
    result.fc1.weight.div_(units[:, None])
    result.fc1.bias.div_(units)
    result.fc2.weight.mul_(units)
    size = 16 * result.config["neck"]
    parts = [(result.neck, features[:, :size], 16)]
    if result.skip is not None:
        parts.append((result.skip, features[:, size:], 64))
    ranges = [_ranges(values.unflatten(1, (-1, places))) for _, values, places in parts]
    middle = torch.cat(ranges).median()
    factors = []
    for (layer, _, places), found in zip(parts, ranges, strict=True):
        factor = (found / middle).sqrt()
        norm = layer[1]
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight.div_(factor)
        norm.bias.div_(factor)
        factors.append(factor.repeat_interleave(places))
    result.fc1.weight.mul_(torch.cat(factors))
    return result


def _ranges(values: Tensor) -> Tensor:
    """The range of each channel of (N, C, P) numbers; none is zero."""
    flat = values.transpose(0, 1).flatten(1)
    place = max(1, int(_SHARE * flat.shape[1]))
    found = flat.kthvalue(place, dim=1).values
    return found.clamp(min=max(1e-12, 1e-3 * float(found.max())))
