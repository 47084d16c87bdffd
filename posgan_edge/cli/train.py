"""``posgan-edge train``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from posgan_edge.cli.groups import Group, argument, option, takes
from posgan_edge.errors import needing

if TYPE_CHECKING:
    from posgan_edge.training.run_folder import RunFolder
    from posgan_edge.training.trainer import Trainer


@dataclass(frozen=True)
class TrainOptions(Group):
    """What is trained on what."""

    # fmt: off
    recipe: str = argument("recipe")
    data: str = option("--data", required=True, help="Folder of the training set.")
    output: Path = option("--output", required=True, type=Path,
        help="Folder for checkpoints, plots and logs.")
    aflw2000: str | None = option("--aflw2000",
        help="AFLW2000-3D folder to score each checkpoint on.")
    resume: bool = option("--resume", is_flag=True, help="Continue from OUTPUT/last.pth.")
    overrides: tuple[str, ...] = option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
        help="Change a value of the recipe.")
    # fmt: on


@click.command()
@takes(TrainOptions)
def command(asked: TrainOptions) -> None:
    """Train a generator with RECIPE (a YAML file, or 'edge' or 'unet').

    Ctrl-C and SIGTERM stop it after the current step; --resume continues from there.
    """
    with needing("PyTorch", "training", "train"):
        from posgan_edge.training.trainer import Trainer
    from posgan_edge.training.datasets import open_maps
    from posgan_edge.training.recipe import load_recipe
    from posgan_edge.training.run_folder import RunFolder, check_unused

    loaded = load_recipe(asked.recipe, asked.overrides)
    if not asked.resume:
        check_unused(asked.output)
    training = open_maps(asked.data, loaded.data_format)
    validation = open_maps(asked.data, loaded.data_format, "val")
    trainer = Trainer(loaded, training, validation)
    if asked.resume:
        trainer.resume(asked.output / "last.pth")
    with RunFolder(trainer, asked.output, asked.aflw2000) as folder:
        _train(trainer, folder)


def _train(trainer: Trainer, folder: RunFolder) -> None:
    from posgan_edge.cli.progress import reporting

    with _stopped_by_signals(trainer), reporting(lambda: _shown(trainer.latest)) as progress:
        if trainer.epoch and not trainer.position:
            folder.on_epoch()
        while not trainer.done and not trainer.stopped_by:
            trainer.train(progress, folder.last)
            if trainer.stopped_by:
                trainer.save(folder.last)
                trainer.wait_for_others()
            else:
                folder.on_epoch()
                if not trainer.rank:
                    values = trainer.history[-1].items()
                    click.echo(" ".join(f"{k} {v:.5g}" for k, v in values if v is not None))
    # A signal after the last epoch, while it was scored, reaches the process that scores.
    if stopped_by := trainer.stopped_by or trainer.asked_to_stop:
        if not trainer.rank:
            place = f"in epoch {trainer.epoch + 1}, after {trainer.position} batches"
            place = "after the last epoch" if trainer.done else place
            click.echo(f"stopped {place}; --resume continues {folder.last}", err=True)
        sys.exit(128 + stopped_by)


def _shown(values: dict[str, float]) -> str:
    return " ".join(f"{k} {v:.3g}" for k, v in values.items() if k in ("nme", "lr", "k"))


@contextmanager
def _stopped_by_signals(trainer: Trainer) -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM stop training after the current step."""
    earlier = {
        number: signal.signal(number, lambda got, _: trainer.request_stop(got))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
