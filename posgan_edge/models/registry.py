"""The generators by name, and what they cost."""

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
    """A generator with fresh weights.

    Raises BadInput on an unknown name, an unknown option, one of the wrong kind, and a network
    that would be too large (see ``models.config``).
    """
    if name not in GENERATORS:
        raise BadInput(f"unknown generator {name!r}: use one of {', '.join(GENERATORS)}")
    generator, type_ = GENERATORS[name]
    options = convert(config, type_, f"generator {name!r}")
    return generator(**{key: getattr(options, key) for key in options.__struct_fields__})


def name_of(generator: nn.Module) -> str:
    """The registry name of a generator."""
    return next(name for name, (cls, _) in GENERATORS.items() if type(generator) is cls)


def to_memory_format(generator: Generator, memory_format: torch.memory_format) -> Generator:
    """The generator with its weights in another memory format (missing from torch's stubs)."""
    moved: Generator = cast(Any, generator).to(memory_format=memory_format)
    return moved


def count_parameters(model: nn.Module) -> int:
    """Trained parameters; fixed buffers such as the basis are not counted."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: Generator) -> int:
    """Multiply-adds for one face: convolutions, linear layers and the product with the basis."""
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
