"""Setting up a training run: device, generator, optimisers, sampling of faces."""

from __future__ import annotations

import os
import warnings

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from posgan_edge.errors import BadInput
from posgan_edge.models.checkpoints import load_generator
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.models.registry import Generator, build_generator
from posgan_edge.training.basis import read_expressions, set_basis_from, transfer
from posgan_edge.training.datasets import FaceMaps
from posgan_edge.training.muon import Muon, takes
from posgan_edge.training.recipe import Recipe

#: Openness (height over width) of an eye that is closed, and of a mouth that is open.
CLOSED_EYE, OPEN_MOUTH = 0.16, 0.3


def new_generator(recipe: Recipe, data: FaceMaps) -> Generator:
    """Returns a generator with new weights and a basis from the data, or that of ``recipe.init``.

    Raises BadInput for options that cannot be used.
    """
    options = {"layout": data.layout, **recipe.generator}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise BadInput(f"recipe {recipe.name}: generator needs the key 'name'")
    source = load_generator(recipe.init) if recipe.init else None
    if source is not None and (not isinstance(source, EdgeGenerator) or not recipe.refit):
        return source
    generator = build_generator(name, **options)
    if isinstance(generator, EdgeGenerator):
        expressions = None
        if recipe.expressions:
            expressions = read_expressions(recipe.expressions, recipe.expression_weight)
        set_basis_from(generator, data, expressions)
        if source is not None:
            transfer(source, generator)
    return generator


def device_here() -> torch.device:
    """Returns this process's GPU, or the CPU if there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def configure(recipe: Recipe, device: torch.device, world: int) -> None:
    """Sets up PyTorch and OpenCV in this process, and joins the process group if ``world`` > 1."""
    # The processes that load data are forked. Threads of OpenCV's pool do not exist in a fork, so
    # setting this there would wait for ever. Set it here, before the fork.
    cv2.setNumThreads(1)
    if device.type == "cpu":
        torch.set_flush_denormal(True)
        warnings.filterwarnings("ignore", "The value of the smallest subnormal")  # numpy's
    else:
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    if world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def shares_of(recipe: Recipe, data: FaceMaps) -> NDArray[np.float32] | None:
    """Returns how often each face is drawn relative to the others (n,) float32.

    None means that all are drawn equally often. Raises BadInput if the data lacks the values that
    the recipe needs.
    """
    shares = np.ones(len(data), np.float32)
    for name, values in (
        ("profiles", None if data.yaw is None else np.minimum(np.abs(data.yaw) / 60, 1)),
        ("closed_eyes", None if data.eyes is None else data.eyes.min(1) < CLOSED_EYE),
        ("open_mouths", None if data.mouth is None else data.mouth > OPEN_MOUTH),
    ):
        share = getattr(recipe, name)
        if share == 1:
            continue
        if values is None:
            raise BadInput(f"{name} = {share:g} needs a pack that holds its values: use 1")
        if share <= 0:
            raise BadInput(f"{name} = {share:g} is not above 0")
        shares *= 1 + (share - 1) * values
    return None if (shares == 1).all() else shares


def optimizers_of(generator: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Returns the optimisers of a generator; each parameter belongs to exactly one."""
    config, parameters = recipe.optimizer, list(generator.parameters())
    if config.name == "adam":
        return [torch.optim.Adam(parameters, lr=config.lr, betas=config.betas)]
    muon = [p for p in parameters if config.name == "muon" and takes(p)]
    taken = {id(p) for p in muon}
    rest = [p for p in parameters if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    if not muon:
        return [adamw]
    return [Muon(muon, config.lr, config.momentum, config.weight_decay), adamw]
