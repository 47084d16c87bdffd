"""The average of trained generators.

The ends of several legs of one run lie around one minimum, each off it by chance. The mean of their
weights is often better than each of them (Izmailov et al., Averaging Weights Leads to Wider Optima
and Better Generalization, UAI 2018). The statistics of the batch norms belong to one set of
weights, so they are computed again for the mean.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import nn

from posgan_edge.errors import BadInput
from posgan_edge.models.registry import Generator
from posgan_edge.progress import Progress, silent
from posgan_edge.training.datasets import AugmentedMaps, EpochBatches, FaceMaps
from posgan_edge.training.recipe import Recipe
from posgan_edge.training.setup import shares_of


@torch.no_grad()
def averaged(generators: Sequence[Generator], shares: Sequence[float]) -> Generator:
    """Returns a new generator, each weight the mean of those given, ``shares`` weighing them.

    The shares are above zero; only their ratios count. Raises BadInput if the generators differ in
    their options or basis, or if the shares are not as many.
    """
    if not generators or len(generators) != len(shares) or not all(s > 0 for s in shares):
        raise BadInput(
            f"{len(shares)} shares for {len(generators)} generators: give one above 0 for each"
        )
    first, total = generators[0], sum(shares)
    for other in generators[1:]:
        if type(other) is not type(first) or other.config != first.config:
            raise BadInput("the generators have other options: only equal networks can be averaged")
        for name in ("modes", "coefficient_mean", "coefficient_std"):
            mine, its = getattr(first, name, None), getattr(other, name, None)
            if mine is not None and its is not None and not torch.equal(mine, its):
                raise BadInput(f"the generators differ in {name}: give them the same basis")
    result = copy.deepcopy(first)
    states = [generator.state_dict() for generator in generators]
    for name, value in result.state_dict().items():
        if value.dtype.is_floating_point:
            terms = (s[name] * (share / total) for s, share in zip(states, shares, strict=True))
            value.copy_(torch.stack(list(terms)).sum(0))
    return result.eval()


@torch.no_grad()
def renew_statistics(
    generator: Generator,
    data: FaceMaps,
    recipe: Recipe,
    batches: int = 120,
    progress: Progress = silent,
) -> None:
    """Computes the batch norms' means and variances again, on pictures as ``recipe`` draws them.

    They become the plain mean over at most ``batches`` batches of one epoch.
    """
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    generator.train()
    faces = AugmentedMaps(data, generator.input_size, recipe.augmentation, recipe.seed)
    shares = shares_of(recipe, data)
    order = EpochBatches(len(data), recipe.batch_size, recipe.seed, 0, 1, shares)
    loader = torch.utils.data.DataLoader(faces, batch_sampler=order)
    total = min(batches, len(order))
    for done, (images, *_) in enumerate(itertools.islice(loader, total), 1):
        generator(images.permute(0, 3, 1, 2).float().div_(255))
        progress("statistics", done, total)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.eval()
