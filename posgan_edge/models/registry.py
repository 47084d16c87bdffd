"""The generators by name, and their size."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from posgan_edge.documents import convert
from posgan_edge.errors import BadInput
from posgan_edge.models.config import EdgeConfig, UNetConfig
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.models.unet import UNetGenerator

Generator = EdgeGenerator | UNetGenerator
#: Each generator and the document of its options.
GENERATORS: dict[str, tuple[type[EdgeGenerator | UNetGenerator], type[EdgeConfig | UNetConfig]]] = {
    "edge": (EdgeGenerator, EdgeConfig),
    "unet": (UNetGenerator, UNetConfig),
}


def build_generator(name: str, /, **config: Any) -> Generator:
    """Builds a generator with new weights.

    Raises BadInput for an unknown name, an unknown option, a value of the wrong type, and a network
    that would be too large (see ``models.config``).
    """
    if name not in GENERATORS:
        raise BadInput(f"unknown generator {name!r}: use one of {', '.join(GENERATORS)}")
    generator, type_ = GENERATORS[name]
    options = convert(config, type_, f"generator {name!r}")
    return generator(**{key: getattr(options, key) for key in options.__struct_fields__})


def name_of(generator: nn.Module) -> str:
    """Returns the name of a generator, such as ``edge``."""
    return next(name for name, (cls, _) in GENERATORS.items() if type(generator) is cls)


def to_memory_format(generator: Generator, memory_format: torch.memory_format) -> Generator:
    """Returns the generator with its weights in another memory format."""
    moved: Generator = cast(Any, generator).to(memory_format=memory_format)
    return moved


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trained parameters, without fixed buffers such as the basis."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: Generator) -> int:
    """Returns the multiply-adds for one face: convolutions, linear layers, and the basis."""
    total = 0

    def hook(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    handles = [m.register_forward_hook(hook) for m in model.modules()]
    training = model.training
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, model.input_size, model.input_size))
    for handle in handles:
        handle.remove()
    model.train(training)
    return total + (3 * model.modes.numel() if isinstance(model, EdgeGenerator) else 0)
