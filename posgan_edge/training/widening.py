"""More units for the first fully connected layer of a trained `edge` generator.

The new units come in pairs, relu(z) and relu(-z), whose difference is z. So they can return any
linear function of the layer's inputs. They are set to the linear function that corrects the maps
best on training pictures, by least squares with a ridge (Hoerl and Kennard, 1970). The wider
network is better at once, and training goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import Tensor

from posgan_edge.errors import BadInput
from posgan_edge.geometry.layout import load_layout
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.progress import Progress, silent
from posgan_edge.training.augment import augment_maps
from posgan_edge.training.datasets import AugmentedMaps, EpochBatches, FaceMaps
from posgan_edge.training.losses import LandmarkReader
from posgan_edge.training.recipe import Recipe


@dataclass(frozen=True)
class Moments:
    """Sums over pictures, each weighed by 1 / face size squared.

    ``inputs`` (F + 1, F + 1) float64: products of the first layer's F inputs and the constant 1
    with each other; ``errors`` (F + 1, C) float64: with the C errors of the coefficients.
    """

    inputs: Tensor
    errors: Tensor


@torch.no_grad()
def moments(
    generator: EdgeGenerator,
    data: FaceMaps,
    recipe: Recipe,
    samples: int,
    progress: Progress = silent,
) -> Moments:
    """Sums over about ``samples`` pictures of ``data``, changed as ``recipe`` says.

    Each face is drawn equally often, and nothing is erased: least squares would mostly correct the
    few faces that cannot be seen.
    """
    generator.eval()
    landmarks = LandmarkReader(load_layout(generator.layout), generator.map_size)
    whole = replace(recipe.augmentation, erase=0.0)
    faces = AugmentedMaps(data, generator.input_size, whole, recipe.seed)
    order = EpochBatches(len(data), recipe.batch_size, recipe.seed)
    width = generator.fc1.in_features + 1
    inputs = torch.zeros(width, width, dtype=torch.float64)
    errors = torch.zeros(width, generator.fc2.out_features, dtype=torch.float64)
    done = 0
    while done < samples:
        for images, flipped, transforms, targets in torch.utils.data.DataLoader(
            faces, batch_sampler=order
        ):
            maps = augment_maps(data.maps(targets), flipped, transforms)
            marks = landmarks(maps)[..., :2]
            size = (marks.amax(1) - marks.amin(1)).prod(1).sqrt().clamp(min=0.2)[:, None]
            found = generator.features(images.permute(0, 3, 1, 2).float().div_(255))
            # The modes are orthonormal.
            true = (maps.flatten(2) @ generator.modes.T).flatten(1)
            error = (true - generator.coefficients(found)) / size
            found = torch.cat([found, torch.ones(len(found), 1)], 1) / size
            inputs += (found.T @ found).double()
            errors += (found.T @ error).double()
            done += len(images)
            progress("moments", min(done, samples), samples)
            if done >= samples:
                break
        order.epoch += 1
    return Moments(inputs, errors)


@torch.no_grad()
def widened(generator: EdgeGenerator, sums: Moments, pairs: int, ridge: float) -> EdgeGenerator:
    """Returns a new generator with ``2 * pairs`` more units that correct the maps linearly.

    ``ridge`` is the penalty on the correction's weights, in means of the inputs' squares. Of the
    correction, the ``pairs`` directions are kept that change the coefficients most. Raises BadInput
    if ``pairs`` is not 1 to the number of coefficients.
    """
    count = generator.fc2.out_features
    if not 1 <= pairs <= count:
        raise BadInput(f"{pairs} pairs of units: give 1 to {count}")
    inputs, errors = sums.inputs, sums.errors
    penalty = ridge * inputs.diagonal().mean() * torch.eye(len(inputs), dtype=torch.float64)
    weights = torch.linalg.solve(inputs + penalty, errors)
    linear, constant = weights[:-1], weights[-1]
    changes = linear.T @ inputs[:-1, :-1] @ linear
    out = torch.linalg.eigh(changes).eigenvectors[:, -pairs:]
    std = generator.coefficient_std.double()
    into, out = (linear @ out).T, out / std[:, None]
    # The same size in both layers, measured by that of the units that are there.
    first = into.norm(dim=1) / generator.fc1.weight.norm(dim=1).mean()
    second = out.norm(dim=0) / generator.fc2.weight.norm(dim=0).mean()
    balance = (second / first.clamp(min=1e-12)).sqrt()
    into, out = into * balance[:, None], out / balance
    hidden = generator.fc1.out_features + 2 * pairs
    wider = EdgeGenerator(**{**generator.config, "hidden": hidden})
    state = generator.state_dict()
    state["fc1.weight"] = torch.cat([state["fc1.weight"], into, -into]).float()
    state["fc1.bias"] = torch.cat([state["fc1.bias"], torch.zeros(2 * pairs)])
    state["fc2.weight"] = torch.cat([state["fc2.weight"], out, -out], 1).float()
    state["fc2.bias"] = (state["fc2.bias"] + constant / std).float()
    wider.load_state_dict(state)
    return wider.eval()
