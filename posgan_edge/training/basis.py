"""The fixed basis of the `edge` decoder: scalar modes, by PCA of a pack's maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posgan_edge.archives import check_array, read_arrays
from posgan_edge.errors import BadInput
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.training.datasets import FaceMaps, PackMaps


def scalar_modes(
    maps: PackMaps, count: int, expressions: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.float32]:
    """Returns (count, M, M) float32: orthonormal modes of the pack's maps.

    They are the principal axes of all x, y and z maps together, with a constant map added and
    without centring. So the span contains every rotation, scale and shift of its faces. The maps
    are ``codes @ basis``, so the second moment of the codes is enough to compute them.
    ``expressions`` (E, M, M, 3), in crop units, are shape changes that are rare in the pack but
    must be in the span too; they are added as samples. Raises BadInput if the pack has too few
    components for ``count`` modes.
    """
    moment = maps.codes.T.astype(np.float64) @ maps.codes / len(maps)
    values, vectors = np.linalg.eigh(moment)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    basis = maps.basis.reshape(len(root), 3, -1).astype(np.float64)
    stacked = [root @ basis[:, channel] for channel in range(3)]
    samples = [*stacked, np.full((1, basis.shape[-1]), 0.5)]
    if expressions is not None:
        moved = expressions.astype(np.float64).transpose(0, 3, 1, 2)
        samples.append(moved.reshape(-1, basis.shape[-1]))
    samples = np.concatenate(samples)
    if len(samples) < count:
        raise BadInput(
            f"{maps.folder}: {len(root) - 1} components give {len(samples)} modes at most, "
            f"generator.modes is {count}"
        )
    values, vectors = np.linalg.eigh(samples @ samples.T)
    best = np.argsort(-values)[:count]
    modes = (vectors[:, best] / np.sqrt(values[best])).T @ samples
    out: NDArray[np.float32] = modes.reshape(count, *maps.basis.shape[-2:]).astype(np.float32)
    return out


def read_expressions(path: str | Path, weight: float) -> NDArray[np.float64]:
    """Returns shape changes of ICT-FaceKit's expressions (E, M, M, 3), in widths of the face.

    The file is an ``.npz`` with ``neutral`` (M, M, 3) and ``expression`` (E, M, M, 3) in one unit,
    x right, y down, z towards the camera. ``weight`` scales them. Raises BadInput for other files.
    """
    data = read_arrays(path, ("neutral", "expression"))
    neutral, expression = data["neutral"], data["expression"]
    check_array(neutral, f"{path}: neutral", (None, neutral.shape[0] if neutral.ndim else None, 3))
    check_array(expression, f"{path}: expression", (None, *neutral.shape))
    width = np.ptp(neutral[..., 0])
    if not width > 0:
        raise BadInput(f"{path}: neutral is no face: its x does not vary")
    scaled: NDArray[np.float64] = expression.astype(np.float64) * (weight / width)
    return scaled


def set_basis_from(
    generator: EdgeGenerator, maps: FaceMaps, expressions: NDArray[np.floating[Any]] | None = None
) -> None:
    """Sets the modes of a new generator, and the mean and scale of its coefficients.

    Raises BadInput if the data is not a pack, or its maps have another size.
    """
    if not isinstance(maps, PackMaps):
        raise BadInput("the edge generator takes its basis from a position-map pack")
    if maps.basis.shape[-1] != generator.map_size:
        raise BadInput(f"the pack's maps are {maps.basis.shape[-1]} wide, map_size must be too")
    if expressions is not None and expressions.shape[1] != generator.map_size:
        raise BadInput(f"the expressions are {expressions.shape[1]} wide, map_size must be too")
    modes = scalar_modes(maps, generator.modes.shape[0], expressions)
    flat = modes.reshape(len(modes), -1)
    projected = maps.basis.reshape(len(maps.basis), 3, -1) @ flat.T
    coefficients = np.tensordot(maps.codes, projected, 1)
    std = np.sqrt((coefficients.std(axis=0) ** 2).mean(axis=0, keepdims=True))
    std = np.repeat(np.maximum(std, 1e-3 * std.max()), 3, axis=0)
    generator.set_basis(
        *(torch.from_numpy(a.astype(np.float32)) for a in (modes, coefficients.mean(0), std))
    )


@torch.no_grad()
def transfer(source: EdgeGenerator, target: EdgeGenerator) -> None:
    """Makes ``target``, which has another basis, compute the same maps as ``source``.

    The encoder is copied, and the last layer is projected on the new modes. The maps then differ
    only by what the new modes cannot represent. Weights of inputs that ``source`` does not have are
    set to zero. Raises BadInput if the encoders differ, or ``skip`` does where ``source`` has one.
    """
    own = target.state_dict()
    for name, value in source.state_dict().items():
        if name.startswith(("encoder.", "neck.", "skip.")):
            if name not in own or own[name].shape != value.shape:
                raise BadInput(
                    f"init: the encoders differ in {name}: keep stem, stages, neck and skip"
                )
            own[name].copy_(value)
    if source.fc1.out_features != target.fc1.out_features:
        raise BadInput("init: the generators differ in 'hidden'")
    width = source.fc1.in_features
    target.fc1.weight.zero_()
    target.fc1.weight[:, :width].copy_(source.fc1.weight)
    target.fc1.bias.copy_(source.fc1.bias)
    old, new = source.modes.double(), target.modes.double()
    into = torch.block_diag(*[old @ new.T] * 3)
    scale = source.coefficient_std.double()[:, None]
    weight = into.T @ (source.fc2.weight.double() * scale)
    bias = into.T @ (source.fc2.bias.double() * scale[:, 0] + source.coefficient_mean.double())
    std, mean = target.coefficient_std.double(), target.coefficient_mean.double()
    target.fc2.weight.copy_(weight / std[:, None])
    target.fc2.bias.copy_((bias - mean) / std)
