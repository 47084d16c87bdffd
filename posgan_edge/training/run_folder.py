"""The files of a training run: checkpoints, scores, history, TensorBoard events, a plot."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from posgan_edge.errors import BadInput
from posgan_edge.evaluation.report.plots import draw_history
from posgan_edge.files import check_writable, write_whole
from posgan_edge.images import write_plot
from posgan_edge.training.trainer import Trainer

_log = logging.getLogger(__name__)
#: Files that only a training run writes.
_FILES = ("last.pth", "checkpoint-*.pth", "history.json", "history.png")


def check_unused(folder: Path) -> None:
    """Raises BadInput if the folder holds a training run, or cannot be written."""
    check_writable(folder / "last.pth")
    found = sorted(file.name for pattern in _FILES for file in folder.glob(pattern))
    if found:
        raise BadInput(
            f"{folder}: holds a training run already ({', '.join(found[:3])}): "
            "resume it, or give another folder"
        )


class RunFolder:
    """Writes the results of a trainer to a folder. Only rank 0 writes. A context manager."""

    def __init__(self, trainer: Trainer, folder: Path, aflw2000: str | None = None) -> None:
        self.trainer, self.folder = trainer, folder
        self.last = check_writable(folder / "last.pth")
        self.scorer: Any = None
        self.writer: Any = None
        if trainer.rank:
            return
        if aflw2000:
            from posgan_edge.training.validation import FolderScorer

            self.scorer = FolderScorer(aflw2000)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"))
        except ImportError:
            _log.warning("tensorboard is not installed: no event files are written")

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._write_events(lambda writer: writer.close())

    def on_epoch(self) -> None:
        """Writes the results of the epoch that just ended. Raises BadInput if that fails.

        After a resume between two epochs it writes what a stopped process has not written of the
        epoch before. ``Trainer.request_stop`` ends the scoring.
        """
        trainer = self.trainer
        values, unscored = trainer.history[-1], False
        # First of all, so that a process that is killed here can be resumed.
        trainer.save(self.last)
        if trainer.epoch % trainer.recipe.checkpoint_every == 0 or trainer.done:
            if self.scorer is not None and "nme_original" not in values:
                scores = self.scorer.score(trainer.average, lambda: trainer.asked_to_stop > 0)
                values.update(scores or {})
                unscored = scores is None
                trainer.save(self.last)
            if not unscored:
                trainer.save(self.folder / f"checkpoint-{trainer.epoch:03d}.pth")
        if trainer.rank:
            return

        def add(writer: Any) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, trainer.epoch)
            writer.flush()

        self._write_events(add)
        write_whole(self.folder / "history.json", json.dumps(trainer.history, indent=1))
        plot_history(trainer.history, self.folder / "history.png")

    def _write_events(self, write: Any) -> None:
        if self.writer is None:
            return
        try:
            write(self.writer)
        except OSError as error:
            _log.warning("%s/tensorboard: no more event files: %s", self.folder, error.strerror)
            self.writer = None


def plot_history(history: list[dict[str, int | float | None]], path: Path) -> None:
    """Draws the NME of each epoch and checkpoint against the samples seen."""
    write_plot(path, (8, 4.5), lambda axes: draw_history(axes, history))
