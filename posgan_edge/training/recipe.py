"""Training recipes: YAML files checked key by key against these dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from posgan_edge.errors import BadInput


@dataclass(frozen=True)
class Augmentation:
    """Probabilities, spreads (standard deviations) and ranges of the random changes."""

    flip: float = 0.5
    rotation_std: float = 18.0
    rotation_any: float = 0.12  # probability of an angle from the whole circle
    rotation_far: float = 0.0  # probability of 60-120 degrees either way (the original's roll)
    scale_std: float = 0.10
    shift_std: float = 0.04
    color: float = 0.8
    grey: float = 0.15
    blur: float = 0.10
    low_resolution: float = 0.15
    noise: float = 0.06
    erase: float = 0.30
    erase_most: int = 3


@dataclass(frozen=True)
class Losses:
    """Weights of the generator's loss terms."""

    map: float = 1.0
    landmarks: float = 1.0
    depth: float = 0.3
    gaps: float = 0.0  # between upper and lower lids, and between the inner lips
    eyes_and_mouth: float = 1.0  # weight of their points in the landmark term
    relative: bool = True  # errors over sqrt(w x h) of the face, so that the loss is the NME
    landmark_weight: float = 16.0  # of the 68 pixels inside the map term


@dataclass(frozen=True)
class Optimizer:
    """Optimiser (``adamw``, ``adam``, or ``muon``: Muon for matrices, AdamW for the rest)."""

    name: str = "adamw"
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95  # Muon's
    weight_decay: float = 0.02
    schedule: str = "cosine"  # or "exponential", by decay per epoch
    decay: float = 0.9924
    warmup_steps: int = 300
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Adversarial:
    """BEGAN (Berthelot et al., 2017) as the original system uses it."""

    enabled: bool = False
    weight: float = 0.1
    ngf: int = 16
    lr: float = 2e-4
    gamma: float = 0.5
    lambda_k: float = 0.001
    pretrain_epochs: int = 1


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    name: str
    generator: dict[str, Any]
    data_format: str = "pack"  # or "folder"
    epochs: int = 40
    budget_minutes: float = 0.0  # when set, the schedule follows the clock and ends there
    batch_size: int = 64
    seed: int = 1
    workers: int = 1
    threads: int = 0  # 0: PyTorch's own choice
    ema: float = 0.999
    profiles: float = 1.0  # how often a face of 60 degrees of yaw or more is drawn (frontal: 1)
    closed_eyes: float = 1.0  # how often a face with a closed eye is drawn (others: 1)
    open_mouths: float = 1.0  # the same for an open mouth
    checkpoint_every: int = 5
    init: str = ""  # weights to start from
    refit: bool = False  # give the network of 'init' a new basis, and the recipe's 'skip'
    expressions: str = ""  # .npz of ICT-FaceKit's shapes that the basis shall hold too
    expression_weight: float = 0.2
    mixed_precision: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    losses: Losses = field(default_factory=Losses)
    optimizer: Optimizer = field(default_factory=Optimizer)
    adversarial: Adversarial = field(default_factory=Adversarial)


def load_recipe(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """A recipe from a file or the name of one that is shipped (``edge``, ``unet``).

    ``overrides`` are ``key=value`` or ``section.key=value``. Raises BadInput naming the file and
    the key for anything that is not understood.
    """
    import yaml

    shipped = resources.files("posgan_edge.assets") / "recipes" / f"{path}.yaml"
    try:
        text = shipped.read_text() if shipped.is_file() else Path(path).read_text()
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: no such recipe file, and no shipped recipe: {error}") from error
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: a recipe is a mapping of keys to values")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise BadInput(f"--set {override}: give key=value")
        target = content
        *parents, last = key.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = yaml.safe_load(value)
    return _build(Recipe, content, str(path))


def _build(cls: type, content: dict[str, Any], where: str) -> Any:
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise BadInput(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in content.items():
        hint = hints[key]
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, dict):
                raise BadInput(f"{where}: {key} must be a mapping")
            values[key] = _build(hint, value, f"{where}: {key}")
        else:
            values[key] = _convert(value, hint, f"{where}: {key}")
    try:
        return cls(**values)
    except TypeError as error:
        raise BadInput(f"{where}: {error}") from error


def _convert(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 2e-3 as text
        except ValueError as error:
            raise BadInput(f"{where} = {value!r} is not a number") from error
    if hint == tuple[float, float]:
        return tuple(float(v) for v in value)
    if hint in (int, bool, str) and type(value) is not hint:
        raise BadInput(f"{where} = {value!r} is not of type {hint.__name__}")
    return value
