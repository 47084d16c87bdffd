"""Training recipes: YAML files with the keys of these documents."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from posgan_edge.documents import Document, convert, parse_yaml, read
from posgan_edge.errors import BadInput

_Count = Annotated[int, Meta(ge=1, le=10**9)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Weight = Annotated[float, Meta(ge=0, le=1e6)]
# Not gt=0: msgspec tests for the smallest denormal, which training flushes to zero.
_Positive = Annotated[float, Meta(ge=1e-12, le=1e6)]
_Momentum = Annotated[float, Meta(ge=0, lt=1)]


class Augmentation(Document, frozen=True):
    """Probabilities, spreads (standard deviations) and ranges of the random changes."""

    flip: _Share = 0.5
    rotation_std: Annotated[float, Meta(ge=0, le=180)] = 18.0
    rotation_any: _Share = 0.12  # probability of an angle from the whole circle
    rotation_far: _Share = 0.0  # probability of 60-120 degrees either way (the original's roll)
    scale_std: _Share = 0.10
    shift_std: _Share = 0.04
    color: _Share = 0.8
    grey: _Share = 0.15
    blur: _Share = 0.10
    low_resolution: _Share = 0.15
    noise: _Share = 0.06
    erase: _Share = 0.30
    erase_most: Annotated[int, Meta(ge=1, le=100)] = 3


class Losses(Document, frozen=True):
    """Weights of the generator's loss terms."""

    map: _Weight = 1.0
    landmarks: _Weight = 1.0
    depth: _Weight = 0.3
    gaps: _Weight = 0.0  # between upper and lower lids, and between the inner lips
    eyes_and_mouth: _Positive = 1.0  # weight of their points in the landmark term
    relative: bool = True  # errors over sqrt(w x h) of the face, so that the loss is the NME
    landmark_weight: _Positive = 16.0  # of the 68 pixels inside the map term


class Optimizer(Document, frozen=True):
    """Optimiser (``adamw``, ``adam``, or ``muon``: Muon for matrices, AdamW for the rest)."""

    name: Literal["adamw", "adam", "muon"] = "adamw"
    lr: _Positive = 2e-3
    betas: tuple[_Momentum, _Momentum] = (0.9, 0.99)
    momentum: _Momentum = 0.95  # Muon's
    weight_decay: _Weight = 0.02
    schedule: Literal["cosine", "exponential"] = "cosine"  # exponential: by decay per epoch
    decay: Annotated[float, Meta(ge=1e-12, le=1)] = 0.9924
    warmup_steps: Annotated[int, Meta(ge=0, le=10**9)] = 300
    clip_norm: _Positive = 1.0


class Adversarial(Document, frozen=True):
    """BEGAN (Berthelot et al., 2017) as the original system uses it."""

    enabled: bool = False
    weight: _Weight = 0.1
    ngf: Annotated[int, Meta(ge=1, le=256)] = 16
    lr: _Positive = 2e-4
    gamma: _Positive = 0.5
    lambda_k: _Weight = 0.001
    pretrain_epochs: Annotated[int, Meta(ge=0, le=10**6)] = 1


class Recipe(Document, frozen=True):
    """One training run. ``generator`` holds the generator's name and its options."""

    kind: ClassVar[str] = "recipe"

    name: str
    generator: dict[str, Any]
    data_format: Literal["pack", "folder"] = (
        "pack"  # a position-map pack, or the original's folders
    )
    epochs: _Count = 40
    budget_minutes: _Weight = 0.0  # when set, the schedule follows the clock and ends there
    batch_size: Annotated[int, Meta(ge=1, le=1 << 16)] = 64
    seed: Annotated[int, Meta(ge=0, lt=2**63 - 1)] = 1
    workers: Annotated[int, Meta(ge=0, le=256)] = 1
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0  # 0: PyTorch's own choice
    ema: _Momentum = 0.999
    profiles: _Positive = 1.0  # how often a face of 60 degrees of yaw or more is drawn (frontal: 1)
    closed_eyes: _Positive = 1.0  # how often a face with a closed eye is drawn (others: 1)
    open_mouths: _Positive = 1.0  # the same for an open mouth
    checkpoint_every: _Count = 5
    init: str = ""  # weights to start from
    refit: bool = False  # give the network of 'init' a new basis, and the recipe's 'skip'
    expressions: str = ""  # .npz of ICT-FaceKit's shapes that the basis shall hold too
    expression_weight: _Weight = 0.2
    mixed_precision: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    losses: Losses = field(default_factory=Losses)
    optimizer: Optimizer = field(default_factory=Optimizer)
    adversarial: Adversarial = field(default_factory=Adversarial)


def load_recipe(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe from a file or the name of one that is shipped (``edge``, ``unet``).

    ``overrides`` are ``key=value`` or ``section.key=value``, with a value as YAML has it. Raises
    BadInput naming the file and the key for anything that is not understood.
    """
    folder = resources.files("posgan_edge.assets") / "recipes"
    shipped = [file.name.removesuffix(".yaml") for file in folder.iterdir()]
    if str(path) in shipped:
        content = parse_yaml((folder / f"{path}.yaml").read_text())
    elif os.path.exists(path):
        content = read(path, Recipe.kind)
    else:
        names = ", ".join(sorted(shipped))
        raise BadInput(f"{path}: no such recipe file, and no shipped recipe ({names})")
    for override in overrides:
        _override(content, override)
    return convert(content, Recipe, path)


def _override(content: Any, override: str) -> None:
    """Puts ``section.key=value`` into the content of a recipe."""
    place, equals, value = override.partition("=")
    if not equals:
        raise BadInput(f"{override}: not a change of a recipe: give key=value")
    *sections, key = place.split(".")
    for section in sections:
        content = content.setdefault(section, {}) if isinstance(content, dict) else None
    if not isinstance(content, dict):
        raise BadInput(f"{override}: {'.'.join(sections) or 'the recipe'} is not a mapping")
    try:
        content[key] = parse_yaml(value)
    except BadInput as error:
        raise BadInput(f"{override}: {error}") from error
