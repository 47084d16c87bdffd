"""Plots of a benchmark document, as SVG in the text colour of the page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.errors import needing
from posgan_edge.evaluation.metrics import FAILURE, ROLL_BINS, bin_of, cumulative, wrap_roll

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from posgan_edge.evaluation.document import Benchmark

#: Placeholder for the page's text colour; replaced when the SVG is written.
_TEXT = "#123456"
_BINS = ("#2a9d8f", "#e9a23b", "#d1495b")
#: Colours of the lines of a plot, in turn.
LINES = ("#3a86c8", "#e07a3f", "#4caf7a", "#b05cc6", "#c2a83e", "#d1495b")
ANGLES = ("pitch", "yaw", "roll")


def figure(draw: Callable[[Axes], None], size: tuple[float, float] = (7.0, 3.2)) -> str:
    """Returns an SVG element with what ``draw`` draws on its axes.

    ``size`` is (width, height) in inches. Text has the colour ``currentColor``. Raises
    MissingRuntime without matplotlib.
    """
    with needing("matplotlib", "drawing the report", "benchmark"):
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    settings: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "posgan-edge", "font.family": "sans-serif",
        "font.size": 9, "text.color": _TEXT, "axes.labelcolor": _TEXT, "axes.edgecolor": _TEXT,
        "xtick.color": _TEXT, "ytick.color": _TEXT, "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
        "legend.frameon": False, "axes.facecolor": "none",
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        drawing = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(drawing)
        draw(drawing.add_subplot())
        stream = io.StringIO()
        drawing.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :].replace(_TEXT, "currentColor")


def errors_of(document: Benchmark, engine: str, label_set: str) -> tuple[list[str], NDArray[Any]]:
    """Returns names and NME (n,) in percent of the faces that an engine found."""
    per_face = document.engines[engine].per_face
    names = list(per_face)
    return names, np.array([per_face[name][label_set] for name in names])


def _angles(document: Benchmark, names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([document.faces[name] for name in names]).reshape(-1, 3)


def sorted_bars(document: Benchmark, engine: str, label_set: str, angle: str) -> str:
    """Returns an SVG: the NME of every face, sorted, coloured by the bin of one angle."""
    names, errors = errors_of(document, engine, label_set)
    degrees = _angles(document, names)[:, ANGLES.index(angle)]
    edges = ROLL_BINS if angle == "roll" else (30.0, 60.0)
    bins = bin_of(wrap_roll(degrees) if angle == "roll" else degrees, edges)
    order = np.argsort(errors)

    def draw(axes: Axes) -> None:
        top = min(float(errors.max()), 2.5 * FAILURE)
        for index in range(3):
            mine = np.flatnonzero(bins[order] == index)
            low = (0.0, *edges)[index]
            label = f"{low:g} to {edges[index]:g}" if index < 2 else f"above {low:g}"
            axes.vlines(
                mine, 0, np.minimum(errors[order][mine], top), color=_BINS[index],
                linewidth=max(0.4, 420 / max(1, len(errors))), label=f"|{angle}| {label}",
            )  # fmt: skip
        axes.axhline(errors.mean(), color=_TEXT, linewidth=0.8, linestyle="--")
        axes.annotate(f"mean {errors.mean():.2f} %", (0, errors.mean()), va="bottom")
        axes.set(xlabel="faces, best to worst", ylabel="NME, %", ylim=(0, top * 1.02))
        axes.legend(loc="upper left")

    return figure(draw)


def cumulative_curves(document: Benchmark, label_set: str) -> str:
    """Returns an SVG: the share of faces up to each NME, one line per engine."""

    def draw(axes: Axes) -> None:
        for index, (name, row) in enumerate(document.engines.items()):
            _, errors = errors_of(document, name, label_set)
            x, y = cumulative(errors, len(row.missed))
            style = ("-", "--", "-.", ":")[index % 4]
            color = LINES[index % len(LINES)]
            axes.plot(x, 100 * y, style, color=color, linewidth=1.6, label=name)
        axes.set(xlim=(0, FAILURE), ylim=(0, 101), xlabel="NME, %", ylabel="faces, %")
        axes.legend(loc="lower right")

    return figure(draw)


def against_angle(document: Benchmark, engine: str, label_set: str, angle: str) -> str:
    """Returns an SVG: the NME of each face against its angle, with the running median."""
    names, errors = errors_of(document, engine, label_set)
    degrees = wrap_roll(_angles(document, names)[:, ANGLES.index(angle)])

    def draw(axes: Axes) -> None:
        axes.scatter(degrees, errors, s=9, alpha=0.5, color=LINES[0], linewidths=0)
        order, window = np.argsort(degrees), max(5, len(degrees) // 20)
        if len(degrees) >= 2 * window:
            view = np.lib.stride_tricks.sliding_window_view
            across = np.median(view(degrees[order], window), 1)
            axes.plot(across, np.median(view(errors[order], window), 1), color=LINES[1])
        axes.set(
            xlabel=f"{angle}, degrees",
            ylabel="NME, %",
            ylim=(0, float(np.percentile(errors, 99.5))),
        )

    return figure(draw)


def latency_histograms(times: dict[str, NDArray[np.float64]]) -> str:
    """Returns an SVG: histograms of the times (n,) of each engine, in milliseconds."""

    def draw(axes: Axes) -> None:
        low = min(float(t.min()) for t in times.values())
        high = max(float(np.percentile(t, 99)) for t in times.values())
        edges = np.geomspace(low * 0.98, high * 1.05, 60)
        for index, (name, t) in enumerate(times.items()):
            axes.hist(
                t, list(edges), histtype="stepfilled", alpha=0.45, label=name,
                color=LINES[index % len(LINES)],
            )  # fmt: skip
        axes.set(xscale="log", xlabel="milliseconds, one image", ylabel="calls")
        ticks = np.geomspace(low, high, 5)
        axes.set_xticks(ticks, [f"{t:.0f}" if t >= 10 else f"{t:.2g}" for t in ticks])
        axes.minorticks_off()
        axes.legend()

    return figure(draw)


def tracking(history: list[dict[str, Any]]) -> str:
    """Returns an SVG: the NME of a training run against the samples seen."""
    return figure(lambda axes: draw_history(axes, history))


def draw_history(axes: Axes, history: list[dict[str, Any]]) -> None:
    """Draws the NME of each epoch and checkpoint against the samples seen."""
    from matplotlib.ticker import LogLocator, ScalarFormatter

    labels = {
        "nme": "training batches",
        "val_nme": "validation",
        "nme_original": "AFLW2000-3D, original labels",
        "nme_reannotated": "AFLW2000-3D, re-annotated",
    }
    for key, label in labels.items():
        points = [(h["samples"] / 1e3, h[key]) for h in history if h.get(key) is not None]
        if points:
            best = min(y for _, y in points)
            axes.plot(*zip(*points, strict=True), marker=".", label=f"{label} (best {best:.2f})")
    axes.set(xlabel="samples seen (thousands)", ylabel="NME, %", yscale="log")
    axes.yaxis.set_minor_locator(LogLocator(subs=(1.5, 2, 2.5, 3, 4, 5, 7)))
    for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis(ScalarFormatter())
    axes.grid(alpha=0.3, which="both")
    axes.legend()
