"""Progress bars for commands that do several things in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posgan_edge.progress import Progress


@contextmanager
def reporting() -> Iterator[Progress]:
    """Yields a function (what, done, total) that keeps one bar per thing."""
    from rich import progress as bars
    from rich.console import Console

    tasks = {}
    with bars.Progress(
        bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(),
        console=Console(stderr=True), transient=True,
    ) as shown:  # fmt: skip

        def report(what: str, done: int, total: int, /) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        yield report
