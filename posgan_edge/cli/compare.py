"""``posgan-edge compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from posgan_edge.cli.groups import Finite, console
from posgan_edge.errors import BudgetMissed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posgan_edge.evaluation.compare import Change


@click.command()
@click.argument("before", type=Path)
@click.argument("after", type=Path)
@click.option(
    "--fail-above",
    default=0.02,
    show_default=True,
    type=Finite(),
    help="Points of NME by which a mean may rise.",
)
@click.option("--fail-slower", default=None, type=Finite(min=1.0),
              help="Fail where p90 is more than this many times the old one.")  # fmt: skip
def command(before: Path, after: Path, fail_above: float, fail_slower: float | None) -> None:
    """Print what changed between two benchmark --json files.

    Exits with code 1 if a figure became worse.
    """
    from posgan_edge.evaluation.compare import compare
    from posgan_edge.evaluation.document import load_benchmark

    documents = load_benchmark(before), load_benchmark(after)
    report_changes(compare(*documents, fail_above, fail_slower), str(before))


def report_changes(changes: Sequence[Change], before: str) -> None:
    """Prints changes. Raises BudgetMissed if one of them is worse."""
    from rich.table import Table

    table = Table(title=f"against {before}")
    for name in ("engine", "figure", "before", "after", "change"):
        table.add_column(name, justify="left" if name in ("engine", "figure") else "right")
    for change in changes:
        style = "bold red" if change.worse else None
        table.add_row(
            change.engine, change.figure, f"{change.before:.3f}", f"{change.after:.3f}",
            f"{change.delta:+.3f}", style=style,
        )  # fmt: skip
    console().print(table)
    if worse := [c for c in changes if c.worse]:
        named = "; ".join(f"{c.engine}: {c.figure} {c.before:.3f} -> {c.after:.3f}" for c in worse)
        raise BudgetMissed(f"worse than {before}: {named}")
