"""What a training run saves to be continued exactly, and reads again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from msgspec import Meta, field
from torch import Tensor

from posgan_edge.documents import Document, convert
from posgan_edge.errors import BadInput
from posgan_edge.files import replaced
from posgan_edge.models.checkpoints import GeneratorState, load_torch_file

_Count = Annotated[int, Meta(ge=0)]


class TrainingState(Document, frozen=True):
    """A training checkpoint.

    ``position`` is how many batches of the pass that is under way are done, of ``batches``, and
    ``sums`` what their values add up to. ``pretrained`` counts passes that trained the
    discriminator alone. Checkpoints of version 0.1 were written between epochs and have none of
    these.
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


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes the plain content of a ``TrainingState``. Raises BadInput where it cannot; the
    earlier file then stays."""
    with replaced(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            raise OSError(f"{str(error).splitlines()[0]}: is the disk full?") from error


def load_state(path: Path) -> TrainingState:
    """Reads a checkpoint. Raises BadInput for any other file."""
    content = load_torch_file(path)
    if "optimizers" not in content:
        raise BadInput(f"{path}: not a training checkpoint (weights alone go into 'init')")
    return convert(content, TrainingState, path)


def restore(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """``load_state_dict`` that also refuses states of another shape. Raises ValueError."""
    optimizer.load_state_dict(saved)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)}")
