"""Saving and loading the whole state of a training run, so that it can continue exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import torch
from msgspec import Meta, field
from torch import Tensor

from posgan_edge.documents import Document, convert, plain
from posgan_edge.errors import BadInput
from posgan_edge.files import replaced
from posgan_edge.models.checkpoints import GeneratorState, fill, generator_state, load_torch_file
from posgan_edge.models.registry import Generator
from posgan_edge.training.began import Began
from posgan_edge.training.datasets import EpochBatches
from posgan_edge.training.recipe import Recipe

_Count = Annotated[int, Meta(ge=0)]
#: Attributes of a run that are saved as they are.
_PLAIN = ("epoch", "step", "samples", "elapsed", "history", "position", "pretrained")


class Run(Protocol):
    """The attributes of a training run that are saved (see ``Trainer``)."""

    recipe: Recipe
    device: torch.device
    generator: Generator
    average: Generator
    optimizers: list[torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    began: Began | None
    batches: EpochBatches
    epoch: int
    step: int
    samples: int
    elapsed: float
    position: int
    pretrained: int
    history: list[dict[str, int | float | None]]
    sums: dict[str, float]


class TrainingState(Document, frozen=True):
    """A training checkpoint.

    ``position`` is the number of finished batches in the current epoch, of ``batches``; ``sums``
    holds the sums of their values. ``pretrained`` counts the epochs that trained only the
    discriminator. Checkpoints of version 0.1 were written between epochs and have none of these.
    """

    kind: ClassVar[str] = "training checkpoint"

    recipe: dict[str, Any]
    epoch: _Count
    step: _Count
    samples: _Count
    elapsed: Annotated[float, Meta(ge=0)]
    history: list[dict[str, int | float | None]]
    generator: GeneratorState
    generator_ema: GeneratorState
    optimizers: list[dict[str, Any]]
    scaler: dict[str, Any]
    rng: Tensor
    cuda_rng: Tensor | None = None
    began: dict[str, Any] | None = None
    position: _Count = 0
    batches: _Count = 0
    pretrained: _Count = 0
    sums: dict[str, float] = field(default_factory=dict)


def save_state(path: Path, run: Run) -> None:
    """Writes everything that a resume needs, atomically.

    Raises BadInput if it cannot be written; an earlier file then stays.
    """
    state = _content(run)
    with replaced(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            raise OSError("not all of it fits: is the disk full?") from error


def _content(run: Run) -> dict[str, Any]:
    """Returns the content of a ``TrainingState`` as plain values."""
    state: dict[str, Any] = {
        **{name: getattr(run, name) for name in _PLAIN},
        "recipe": plain(run.recipe),
        "generator": generator_state(run.generator),
        "generator_ema": generator_state(run.average),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "scaler": run.scaler.state_dict(),
        "rng": torch.get_rng_state(),
        "batches": len(run.batches),
        "sums": dict(run.sums),
    }
    if run.device.type == "cuda":
        state["cuda_rng"] = torch.cuda.get_rng_state(run.device)
    if run.began is not None:
        state["began"] = run.began.state()
    return state


def load_state(path: Path) -> TrainingState:
    """Reads a checkpoint. Raises BadInput for any other file."""
    content = load_torch_file(path)
    if "optimizers" not in content:
        raise BadInput(f"{path}: not a training checkpoint (weights alone go into 'init')")
    return convert(content, TrainingState, path)


def resume(run: Run, state: TrainingState, path: Path) -> None:
    """Copies a state, read from ``path``, into a new run. Raises BadInput if it does not fit."""
    if state.position and state.batches != len(run.batches):
        raise BadInput(
            f"{path}: stopped inside an epoch of {state.batches} batches, this recipe and data "
            f"make {len(run.batches)}: resume with the same"
        )
    fill(run.generator, state.generator.weights, path)
    fill(run.average, state.generator_ema.weights, path)
    try:
        for optimizer, saved in zip(run.optimizers, state.optimizers, strict=True):
            _restore(optimizer, saved)
        run.scaler.load_state_dict(state.scaler)
        if run.began is not None and state.began is not None:
            run.began.load(state.began)
        torch.set_rng_state(state.rng)
        if state.cuda_rng is not None and run.device.type == "cuda":
            torch.cuda.set_rng_state(state.cuda_rng, run.device)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path}: the state of another optimiser or network: {reason}") from error
    for name in _PLAIN:
        setattr(run, name, getattr(state, name))
    run.sums.update(state.sums)


def _restore(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """As ``load_state_dict``, but raises ValueError for states of another shape too."""
    optimizer.load_state_dict(saved)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)}")
