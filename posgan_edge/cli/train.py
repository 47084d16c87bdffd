"""``posgan-edge train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from posgan_edge.errors import missing

if TYPE_CHECKING:
    from posgan_edge.training.tracking import Tracker
    from posgan_edge.training.trainer import Trainer


@click.command()
@click.argument("recipe")
@click.option("--data", required=True, help="Folder of the training set.")
@click.option("--output", required=True, help="Folder for checkpoints, plots and logs.")
@click.option("--aflw2000", default=None, help="AFLW2000-3D folder to score each checkpoint on.")
@click.option("--resume", is_flag=True, help="Continue from OUTPUT/last.pth.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
def command(
    recipe: str,
    data: str,
    output: str,
    aflw2000: str | None,
    resume: bool,
    overrides: tuple[str, ...],
) -> None:
    """Train a generator by RECIPE (a YAML file, or 'edge' or 'unet')."""
    try:
        from posgan_edge.training.trainer import Trainer
    except ImportError as error:
        raise missing("PyTorch", "training", "train") from error
    from posgan_edge.training.datasets import open_maps
    from posgan_edge.training.recipe import load_recipe
    from posgan_edge.training.tracking import Tracker

    loaded = load_recipe(recipe, overrides)
    training = open_maps(data, loaded.data_format)
    validation = open_maps(data, loaded.data_format, "val")
    trainer = Trainer(loaded, training, validation)
    folder = Path(output)
    if resume:
        trainer.resume(folder / "last.pth")
    with Tracker(trainer, folder, aflw2000) as tracker:
        _train(trainer, folder, tracker)


def _train(trainer: Trainer, folder: Path, tracker: Tracker) -> None:
    while not trainer.done:
        trainer.train(tracker.on_progress)
        if trainer.epoch % trainer.recipe.checkpoint_every == 0 or trainer.done:
            tracker.on_checkpoint()
            trainer.save(folder / f"checkpoint-{trainer.epoch:03d}.pth")
        trainer.save(folder / "last.pth")
        tracker.on_epoch()
