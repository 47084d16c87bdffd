"""What all runs of ``posgan-edge run`` share: notes, the progress bar and the end."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import replaced

if TYPE_CHECKING:
    from posgan_edge.cli.options import DrawingOptions
    from posgan_edge.cli.run_outputs import OutputOptions
    from posgan_edge.engines.base import Engine
    from posgan_edge.geometry.layout import UvLayout
    from posgan_edge.live.loop import LiveSummary
    from posgan_edge.live.sinks import Sink


def conclude(summaries: Sequence[LiveSummary], output: OutputOptions) -> None:
    """Writes the summary; raises where a sink failed or a signal ended the run."""
    if output.summary is not None:
        document = asdict(summaries[0])
        if len(summaries) > 1:
            document = {"cameras": [asdict(summary) for summary in summaries]}
        with replaced(output.summary) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")
    # A sink that cameras share fails in each of them.
    failures = dict.fromkeys(line for summary in summaries for line in summary.failures)
    if failures:
        raise BadInput("; ".join(failures))
    received = summaries[0].signal
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    if received:
        sys.exit(128 + received)


def needs(
    sinks: Sequence[Sink], drawn: DrawingOptions, engine: Engine, layout: UvLayout
) -> tuple[bool, bool]:
    """Returns whether the sinks need position maps, and whether they need blendshapes.

    Raises UsageError if they need blendshapes and the engine has none.
    """
    dense = any(sink.dense or (sink.draws and not drawn.no_dense) for sink in sinks)
    expressions = any(sink.expressions for sink in sinks)
    if expressions and layout.name != "ict":
        raise UsageError(
            f"blendshapes need a model of UV layout 'ict', and {engine.info.name} has "
            f"{layout.name!r}: use --model edge, or leave out --blendshapes, --osc and a "
            "video's FILE.glb"
        )
    return dense, expressions


def tell(line: str) -> None:
    """Prints a note as one line on standard error."""
    click.echo(f"note: {' '.join(line.split())}", err=True)


@contextmanager
def progress_bar(
    name: str, total: int | None, quiet: bool = False, done: int = 0, unit: str = "frames"
) -> Iterator[Callable[[int], None]]:
    """Yields a function that is called with how much is done of ``total``.

    Shows it with the rate and the time left, if standard error is a terminal and not ``quiet``.
    ``done``: what was done before.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress as bars
    from rich.console import Console
    from rich.text import Text

    class Rate(bars.ProgressColumn):
        def render(self, task: bars.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f} {unit} a second")

    with bars.Progress(
        bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), Rate(),
        bars.TimeRemainingColumn(), bars.TextColumn("left"),
        console=Console(stderr=True), transient=True,
    ) as progress:  # fmt: skip
        task: Any = progress.add_task(name, total=total, completed=done)
        yield lambda count: progress.update(task, completed=count)
