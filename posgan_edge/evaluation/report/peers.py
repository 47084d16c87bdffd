"""The table and the plot of a comparison with other methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from posgan_edge.evaluation.human68 import HUMAN
from posgan_edge.evaluation.peers import HUMAN_NME, OPENNESS, YAW, Figures, Peers, PeerSet
from posgan_edge.evaluation.report import number
from posgan_edge.evaluation.report.plots import LINES, figure
from posgan_edge.evaluation.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Beside other methods, in one run (errors: of the faces that all found)"
_LABELS = {"original": "original labels", "reannotated": "re-annotated", HUMAN: "human points"}
_NAMES = {
    "r eyes": "openness of the eyes, r", "r mouth": "openness of the mouth, r",
    "AUC closed": "closed eyes, area under the ROC",
    "inner": "inner points", "inner, without bias": "inner, the bias of each point removed",
}  # fmt: skip


def peers_table(document: Peers) -> Table:
    """Returns one table (title, header and rows of text): a column for each method.

    Its rows are: found, NME by yaw or part, openness, time, memory, start.
    """
    methods = document.methods
    rows = []
    for name, data in document.sets.items():
        found = [f"{data.rows[method].found} of {data.faces}" for method in methods]
        rows.append([f"found, {_title(name, data)}", *found])
        for title, key, label_set in _figures(data):
            rows.append([title, *(_cell(data.scores[label_set].same, m, key) for m in methods)])
    ms = [number(m.ms.median if m.ms else None, ".1f") for m in methods.values()]
    rows.append(["milliseconds per face", *ms])
    memory = [number(m.memory_mb, ".0f") for m in methods.values()]
    rows.append(["peak memory, MB", *memory])
    start = [number(m.start_seconds, ".2f") for m in methods.values()]
    rows.append(["from a new process to the first face, seconds", *start])
    return {"title": TITLE, "header": ["", *methods], "rows": rows}


def _title(name: str, data: PeerSet) -> str:
    kind = "human points" if HUMAN in data.scores else "AFLW2000-3D"
    shared = next(iter(data.scores.values())).faces
    return f"{kind} ({name}; {shared} found by all)"


def _figures(data: PeerSet) -> Iterator[tuple[str, str, str]]:
    """Yields (title, key of the figure, label set) for each line of a set."""
    for label_set in data.scores:
        human = label_set == HUMAN
        for key in HUMAN_NME if human else YAW:
            yield f"NME, {_LABELS[label_set]}, {_part(key, label_set)}, %", key, label_set
        for key in OPENNESS if human else ():
            yield _NAMES[key], key, label_set


def _part(key: str, label_set: str) -> str:
    return _NAMES.get(key, key) if label_set == HUMAN else f"yaw {key.removeprefix('yaw ')}"


def _cell(rows: dict[str, Figures], method: str, key: str) -> str:
    return number(rows.get(method, {}).get(key), ".3f" if key in OPENNESS else ".2f")


def peers_plot(document: Peers) -> str:
    """Returns an SVG element: bars of the NME by yaw and label set, and by part of the face.

    Raises MissingRuntime without matplotlib.
    """
    groups = [
        (f"{_part(key, label_set)}\n{_LABELS[label_set]}",
         {m: data.scores[label_set].same.get(m, {}).get(key) for m in document.methods})
        for data in document.sets.values()
        for _, key, label_set in _figures(data)
        if key in (*YAW, *HUMAN_NME[:3])
    ]  # fmt: skip

    def draw(axes: Axes) -> None:
        width = 0.8 / len(document.methods)
        for index, method in enumerate(document.methods):
            places = [i + (index + 0.5) * width - 0.4 for i in range(len(groups))]
            heights = [values[method] or 0.0 for _, values in groups]
            color = LINES[index % len(LINES)]
            bars = axes.bar(places, heights, width * 0.92, label=method, color=color)
            axes.bar_label(bars, [f"{h:.1f}" if h else "" for h in heights], fontsize=7)
        axes.set_xticks(range(len(groups)), [name for name, _ in groups], fontsize=8)
        axes.grid(visible=False, axis="x")
        axes.set(ylabel="NME, %")
        axes.legend(loc="upper right")

    return figure(draw, (max(5.0, 1.15 * len(groups)), 3.2))
