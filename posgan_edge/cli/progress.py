"""Progress bars and log messages of the library, on standard error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from posgan_edge.progress import Progress


@contextmanager
def reporting(values: Callable[[], str] = lambda: "") -> Iterator[Progress]:
    """Yields a function (what, done, total) that shows one progress bar for each ``what``.

    ``values`` returns text to show after the bar. Messages logged under ``posgan_edge`` are
    printed as lines that begin with ``note:``.
    """
    from rich import progress as bars
    from rich.console import Console

    tasks: dict[str, bars.TaskID] = {}
    with _notes(), bars.Progress(
        bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(), bars.TextColumn("{task.fields[values]}"),
        console=Console(stderr=True), transient=True,
    ) as shown:  # fmt: skip

        def report(what: str, done: int, total: int, /) -> None:
            if what not in tasks:
                for earlier in list(tasks.values())[:-3]:
                    shown.update(earlier, visible=False)
                tasks[what] = shown.add_task(what, total=total, values="")
            shown.update(tasks[what], completed=done, total=total, values=values())

        yield report


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"note: {' '.join(record.getMessage().split())}", err=True)


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
