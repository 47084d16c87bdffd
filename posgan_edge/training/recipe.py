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

    flip: _Share = 0.5  # probability of mirroring
    rotation_std: Annotated[float, Meta(ge=0, le=180)] = 18.0  # spread of the turn, degrees
    rotation_any: _Share = 0.12  # probability of a turn by any angle
    # probability of a turn by 60 to 120 degrees either way (the original's roll)
    rotation_far: _Share = 0.0
    scale_std: _Share = 0.10  # spread of the logarithm of the scale
    shift_std: _Share = 0.04  # spread of the shift in x and y, parts of the crop's side
    color: _Share = 0.8  # probability of other gains and offsets of the colours
    grey: _Share = 0.15  # probability of a grey picture
    blur: _Share = 0.10  # probability of a Gaussian blur over 3 or 5 pixels
    low_resolution: _Share = 0.15  # probability of a picture made smaller and larger again
    noise: _Share = 0.06  # probability of noise of 2 to 10 grey levels
    erase: _Share = 0.30  # probability of rectangles of one colour
    erase_most: Annotated[int, Meta(ge=1, le=100)] = 3  # most rectangles in one picture


class Losses(Document, frozen=True):
    """Weights of the generator's loss terms."""

    map: _Weight = 1.0  # weight of the L1 distance of the whole map
    landmarks: _Weight = 1.0  # weight of the distance of the 68 landmarks in x and y
    depth: _Weight = 0.3  # weight of the L1 distance of the landmarks in z
    # weight of the distances between upper and lower lids, and between the inner lips
    gaps: _Weight = 0.0
    # weight of the points of eyes and mouth within the landmark term; others: 1
    eyes_and_mouth: _Positive = 1.0
    # divide errors by sqrt(w x h) of the face, so that the landmark term is the NME
    relative: bool = True
    # largest weight of a pixel within the map term (pixels with landmarks: 16)
    landmark_weight: _Positive = 16.0


class Optimizer(Document, frozen=True):
    """Optimiser (``adamw``, ``adam``, or ``muon``: Muon for matrices, AdamW for the rest)."""

    # `adamw`, `adam`, or `muon` (Muon for matrices, AdamW for the rest)
    name: Literal["adamw", "adam", "muon"] = "adamw"
    lr: _Positive = 2e-3  # highest learning rate
    betas: tuple[_Momentum, _Momentum] = (0.9, 0.99)  # Adam's two averaging factors
    momentum: _Momentum = 0.95  # Muon's momentum
    weight_decay: _Weight = 0.02  # decoupled weight decay (not with `adam`)
    # how the learning rate falls: to zero as a cosine, or by `decay` each epoch
    schedule: Literal["cosine", "exponential"] = "cosine"
    # factor of the learning rate for each epoch of `exponential`
    decay: Annotated[float, Meta(ge=1e-12, le=1)] = 0.9924
    # steps in which the learning rate rises from zero
    warmup_steps: Annotated[int, Meta(ge=0, le=10**9)] = 300
    clip_norm: _Positive = 1.0  # largest norm of the gradient


class Adversarial(Document, frozen=True):
    """BEGAN (Berthelot et al., 2017) as the original system uses it."""

    enabled: bool = False  # train with a discriminator
    weight: _Weight = 0.1  # weight of the adversarial term
    ngf: Annotated[int, Meta(ge=1, le=256)] = 16  # width of the discriminator
    lr: _Positive = 2e-4  # the discriminator's learning rate
    gamma: _Positive = 0.5  # BEGAN's ratio of the generated and the real loss
    lambda_k: _Weight = 0.001  # step of BEGAN's balance k
    # epochs of the discriminator alone before the first
    pretrain_epochs: Annotated[int, Meta(ge=0, le=10**6)] = 1


class Recipe(Document, frozen=True):
    """One training run. ``generator`` holds the generator's name and its options."""

    kind: ClassVar[str] = "recipe"

    name: str  # name of the run
    generator: dict[str, Any]  # `name` (`edge` or `unet`) and that network's own options
    # a position-map pack, or the original's folders
    data_format: Literal["pack", "folder"] = "pack"
    epochs: _Count = 40  # how often the whole training set is drawn
    # if above 0, the schedule follows the clock, and the run ends after that time
    budget_minutes: _Weight = 0.0
    batch_size: Annotated[int, Meta(ge=1, le=1 << 16)] = 64  # faces in a step, for each process
    # seed of the weights, the order and the random changes
    seed: Annotated[int, Meta(ge=0, lt=2**63 - 1)] = 1
    workers: Annotated[int, Meta(ge=0, le=256)] = 1  # processes that load pictures
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0  # threads of PyTorch; 0: its own choice
    ema: _Momentum = 0.999  # factor of the averaged weights; 0: the weights themselves
    # how often a face with 60 degrees of yaw or more is drawn (a frontal one: 1)
    profiles: _Positive = 1.0
    closed_eyes: _Positive = 1.0  # how often a face with a closed eye is drawn (others: 1)
    open_mouths: _Positive = 1.0  # how often a face with an open mouth is drawn (others: 1)
    checkpoint_every: _Count = 5  # epochs between two checkpoints
    init: str = ""  # file of weights to start from
    refit: bool = False  # give the network of `init` a new basis, and the `skip` of this recipe
    expressions: str = ""  # .npz of ICT-FaceKit's shapes that the basis must represent too
    expression_weight: _Weight = 0.2  # weight of those shapes beside the maps of the pack
    mixed_precision: bool = True  # bfloat16 on a GPU
    augmentation: Augmentation = field(default_factory=Augmentation)
    losses: Losses = field(default_factory=Losses)
    optimizer: Optimizer = field(default_factory=Optimizer)
    adversarial: Adversarial = field(default_factory=Adversarial)


def load_recipe(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Reads a recipe: a file, or the name of a shipped one (``edge``, ``unet``).

    ``overrides`` are ``key=value`` or ``section.key=value``, with a YAML value. Raises BadInput
    naming the file and the key for an unknown key or a bad value.
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
    """Sets ``section.key=value`` in the content of a recipe."""
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
