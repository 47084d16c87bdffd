"""What a training run shows: a progress line, TensorBoard, history as JSON, the tracking plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from posgan_edge.evaluation.report.plots import draw_history
from posgan_edge.files import check_writable, replaced
from posgan_edge.training.trainer import Trainer


class Tracker:
    """Follows a trainer; a context manager. Rank 0 alone writes."""

    def __init__(self, trainer: Trainer, folder: Path, aflw2000: str | None) -> None:
        check_writable(folder / "last.pth")
        self.trainer, self.folder = trainer, folder
        self.scorer = None
        if aflw2000 and trainer.rank == 0:
            from posgan_edge.training.validation import FolderScorer

            self.scorer = FolderScorer(aflw2000)
        self.console = Console()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal or trainer.rank > 0,
        )
        self.task = self.progress.add_task("epoch 0")
        self.writer: Any = None
        if trainer.rank == 0:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self.writer = SummaryWriter(str(folder / "tensorboard"))
            except ImportError:
                self.console.print("tensorboard is not installed: no event files are written")

    def __enter__(self) -> Tracker:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        if self.writer is not None:
            self.writer.close()

    def on_progress(self, epoch: int, step: int, steps: int, values: dict[str, float]) -> None:
        shown = " ".join(f"{k} {v:.3g}" for k, v in values.items() if k in ("nme", "lr", "k"))
        self.progress.update(
            self.task, total=steps, completed=step, description=f"epoch {epoch + 1} {shown}"
        )

    def on_checkpoint(self) -> None:
        """Scores the averaged weights on the AFLW2000-3D folder, where one was given."""
        if self.scorer is not None and self.trainer.rank == 0:
            scores = self.scorer.score(self.trainer.average)
            self.trainer.history[-1].update(scores)

    def on_epoch(self) -> None:
        if self.trainer.rank:
            return
        values = self.trainer.history[-1]
        self.console.print(" ".join(f"{k} {v:.5g}" for k, v in values.items()), highlight=False)
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, self.trainer.epoch)
            self.writer.flush()
        with replaced(self.folder / "history.json") as temporary:
            temporary.write_text(json.dumps(self.trainer.history, indent=1))
        plot_tracking(self.trainer.history, self.folder / "tracking.png")


def plot_tracking(history: list[dict[str, float]], path: Path) -> None:
    """The NME of every checkpoint and epoch against samples seen (the original's tracking plot)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    draw_history(figure.subplots(), history)
    with replaced(path) as temporary:
        figure.savefig(temporary)
