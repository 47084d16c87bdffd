"""The fixed basis of the `edge` decoder: scalar modes taken by PCA from a pack's maps."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from posgan_edge.errors import BadInput
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.training.datasets import FaceMaps, PackMaps


def scalar_modes(maps: PackMaps, count: int) -> NDArray[np.float32]:
    """(count, M, M) orthonormal modes of the pack's maps, channels stacked as samples.

    The principal axes of all x, y and z maps together and a constant, not centred, so that the
    span holds every rotation, scale and shift of the faces in it. As the maps are
    ``codes @ basis``, the second moment of the codes stands in for the maps themselves.
    """
    moment = maps.codes.T.astype(np.float64) @ maps.codes / len(maps)
    values, vectors = np.linalg.eigh(moment)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    basis = maps.basis.reshape(len(root), 3, -1).astype(np.float64)
    stacked = [root @ basis[:, channel] for channel in range(3)]
    samples = np.concatenate([*stacked, np.full((1, basis.shape[-1]), 0.5)])
    values, vectors = np.linalg.eigh(samples @ samples.T)
    best = np.argsort(-values)[:count]
    modes = (vectors[:, best] / np.sqrt(values[best])).T @ samples
    return modes.reshape(count, *maps.basis.shape[-2:]).astype(np.float32)


def set_basis_from(generator: EdgeGenerator, maps: FaceMaps) -> None:
    """Gives a fresh generator its modes and the whitening of its coefficients."""
    if not isinstance(maps, PackMaps):
        raise BadInput("the edge generator takes its basis from a position-map pack")
    if maps.basis.shape[-1] != generator.map_size:
        raise BadInput(f"the pack's maps are {maps.basis.shape[-1]} wide, map_size must be too")
    modes = scalar_modes(maps, generator.modes.shape[0])
    flat = modes.reshape(len(modes), -1)
    projected = maps.basis.reshape(len(maps.basis), 3, -1) @ flat.T
    coefficients = np.tensordot(maps.codes, projected, 1)
    std = np.sqrt((coefficients.std(axis=0) ** 2).mean(axis=0, keepdims=True))
    std = np.repeat(np.maximum(std, 1e-3 * std.max()), 3, axis=0)
    generator.set_basis(
        *(torch.from_numpy(a.astype(np.float32)) for a in (modes, coefficients.mean(0), std))
    )
