"""Progress bars, and notes on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from posgan_edge.progress import Progress


def tell(line: str) -> None:
    """Prints a note as one line on standard error."""
    click.echo(f"note: {' '.join(line.split())}", err=True)


@contextmanager
def reporting(values: Callable[[], str] = lambda: "") -> Iterator[Progress]:
    """Yields a function (what, done, total) that shows one progress bar for each ``what``.

    ``values`` returns text to show after the bar. Messages logged under ``posgan_edge`` are
    printed as notes.
    """
    from rich.progress import TimeRemainingColumn

    tasks: dict[str, Any] = {}
    with (
        _notes(),
        _bars(TimeRemainingColumn(), _column(lambda task: str(task.fields["values"]))) as shown,
    ):

        def report(what: str, done: int, total: int, /) -> None:
            if what not in tasks:
                for earlier in list(tasks.values())[:-3]:
                    shown.update(earlier, visible=False)
                tasks[what] = shown.add_task(what, total=total, values="")
            shown.update(tasks[what], completed=done, total=total, values=values())

        yield report


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
    from rich.progress import TextColumn, TimeRemainingColumn

    def rate(task: Any) -> str:
        speed = task.finished_speed or task.speed
        return "" if speed is None else f"{speed:.1f} {unit} a second"

    with _bars(_column(rate), TimeRemainingColumn(), TextColumn("left")) as shown:
        task = shown.add_task(name, total=total, completed=done)
        yield lambda count: shown.update(task, completed=count)


def _bars(*after: Any) -> Any:
    """Progress bars on standard error; ``after`` are the columns after the counts."""
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    return bars.Progress(*columns, *after, console=Console(stderr=True), transient=True)


def _column(text: Callable[[Any], str]) -> Any:
    """A column that shows what ``text`` returns for its task."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Column(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(text(task))

    return Column()


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(record.getMessage())


@contextmanager
def _notes() -> Iterator[None]:
    logger, handler = logging.getLogger("posgan_edge"), _Notes(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
