"""The expression part of a report: tables and plots of a set with human points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from posgan_edge.evaluation.expression import EYES, PARTS
from posgan_edge.evaluation.report import number
from posgan_edge.evaluation.report.plots import LINES, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from posgan_edge.evaluation.document import Benchmark, Openness


def tables(document: Benchmark) -> list[dict[str, Any]]:
    """Returns the tables (title, header and rows of text): NME by part, and openness."""
    rows = _openness(document)
    parts = [
        [name, document.engines[name].landmarks, *(f"{row.nme[part]:.3f}" for part in PARTS)]
        for name, row in rows.items()
    ]
    openness = []
    for name, row in rows.items():
        cells = [name]
        for agreement in (row.eyes, row.mouth):
            cells += [number(agreement.r), number(agreement.mae)]
        closed = row.closed
        cells += [
            number(closed.auc),
            f"{closed.closed} of {closed.closed + closed.open}",
        ]
        openness.append(cells)
    below = next(iter(rows.values())).closed.below
    return [
        {
            "title": "2D NME by part of the face, human points (%)",
            "header": ["engine", "landmarks", *PARTS],
            "rows": parts,
        },
        {
            "title": "Openness beside the human ratios",
            "header": [
                "engine", "eyes: r", "eyes: mean error", "mouth: r", "mouth: mean error",
                "closed eyes: area under the ROC", f"eyes below {below:g}",
            ],
            "rows": openness,
        },
    ]  # fmt: skip


def _openness(document: Benchmark) -> dict[str, Openness]:
    return {n: row.expression for n, row in document.engines.items() if row.expression}


def pictures(document: Benchmark, engine: str) -> Iterator[tuple[str, str]]:
    """Yields (title, SVG): openness of one engine against the human one, and the ROC of all."""
    row = _openness(document)[engine]
    for what, keys in (("eyes", EYES), ("mouth", ("mouth",))):
        yield f"Openness of the {what}, {engine} against people", _scatter(row, what, keys)
    yield "Telling closed eyes by their openness", _roc_curves(document)


def _scatter(row: Openness, what: str, keys: tuple[str, ...]) -> str:
    pairs = [(row.human[n][k], row.ours[n][k]) for n in row.human for k in keys]

    def draw(axes: Axes) -> None:
        x, y = zip(*pairs, strict=True)
        top = max(*x, *y, 0.1) * 1.03
        axes.plot([0, top], [0, top], color=LINES[1], linewidth=0.8)
        axes.scatter(x, y, s=9, alpha=0.5, color=LINES[0], linewidths=0)
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axes.set(xlabel="height over width, human points", ylabel="measured")
        r = (row.eyes if what == "eyes" else row.mouth).r
        if r is not None:
            axes.set_title(f"r = {r:.3f}", loc="left", fontsize=9)

    return figure(draw, (4.6, 4.2))


def _roc_curves(document: Benchmark) -> str:
    def draw(axes: Axes) -> None:
        for index, (name, row) in enumerate(_openness(document).items()):
            closed = row.closed
            if closed.auc is not None:
                axes.plot(
                    closed.false_alarms, closed.hits, color=LINES[index % len(LINES)],
                    linewidth=1.6, label=f"{name}: {closed.auc:.3f}",
                )  # fmt: skip
        axes.plot([0, 1], [0, 1], ":", color=LINES[-1], linewidth=0.8, label="chance: 0.500")
        axes.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
        axes.set(xlabel="open eyes called closed", ylabel="closed eyes found")
        axes.legend(loc="lower right", title="area")

    return figure(draw, (4.6, 4.2))
