"""The tables of a benchmark document, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posgan_edge.evaluation.document import Benchmark, EngineRow
from posgan_edge.evaluation.human68 import HUMAN
from posgan_edge.evaluation.latency import Latency
from posgan_edge.evaluation.report import NOT_MEASURED, expression, number

_BINS = {
    "yaw": ("0 to 30", "30 to 60", "60 to 90"),
    "pitch": ("0 to 30", "30 to 60", "60 to 90"),
    "roll": ("0 to 60", "60 to 120", "120 to 180"),
}

Table = dict[str, Any]
_Rows = Mapping[str, EngineRow]


def tables_of(document: Benchmark) -> list[Table]:
    """Returns the tables; each has title, header and rows of text."""
    engines = document.engines
    tables = [_summary(document)]
    for label_set in document.settings.label_sets:
        if label_set == HUMAN:
            tables += expression.tables(document)
        else:
            tables.append(_by_angle(engines, label_set))
    timed = {name: row for name, row in engines.items() if row.latency_ms is not None}
    if timed:
        tables += [_latency(timed), _stages(timed), _batches(timed), _machine(timed)]
        if any(row.threads_ms for row in timed.values()):
            threads = {name: row.threads_ms for name, row in timed.items()}
            tables.append(_sweep("CPU threads, one image", threads))
    return tables


def _summary(document: Benchmark) -> Table:
    engines, sets = document.engines, document.settings.label_sets
    base = next((row for row in engines.values() if row.reference), None)
    rows = []
    for name, row in engines.items():
        cells = [name, row.engine.precision]
        for label_set in sets:
            mean = row.labels[label_set].mean
            cells.append(f"{mean:.3f}")
            delta = mean - base.labels[label_set].mean if base and row is not base else None
            cells.append("" if delta is None else f"{delta:+.3f}")
        latency = row.latency_ms
        if latency is None:
            cells += [NOT_MEASURED] * 3
        else:
            cells += [f"{latency.median:.2f}", f"{latency.p90:.2f}", f"{1e3 / latency.median:.0f}"]
        rows.append([*cells, f"{row.megabytes:.2f}"])
    header = ["engine", "precision"]
    for label_set in sets:
        header += [f"NME {label_set}, %", "against reference"]
    header += ["p50, ms", "p90, ms", "faces/s", "MB"]
    return {"title": "Summary", "header": header, "rows": rows}


def _by_angle(engines: _Rows, label_set: str) -> Table:
    header = ["engine", "mean of all", "mean of yaw bins"]
    for angle, bins in _BINS.items():
        header += [f"{angle} {name}" for name in bins]
    header += ["AUC to 10 %", "failed, %", "3D-68", "pitch / yaw / roll, degrees", "px off (p99)"]
    rows = []
    for name, row in engines.items():
        scores, pose, off = row.labels[label_set], row.pose_mae, row.deviation_px
        cells = [name, f"{scores.mean:.3f}", number(scores.mean_of_yaw_bins)]
        for angle in _BINS:
            # A bin without faces has no mean; the last row says so.
            cells += ["" if v is None else f"{v:.3f}" for v in getattr(scores, angle)]
        cells += [f"{scores.auc:.3f}", f"{100 * scores.failure_rate:.2f}", number(row.nme_3d)]
        angles = [pose[k] for k in ("pitch", "yaw", "roll")] if pose else [None]
        cells += [" / ".join(number(v, ".2f") for v in angles)]
        cells += [NOT_MEASURED if off is None else f"{off.mean:.3f} ({off.p99:.3f})"]
        rows.append(cells)
    counts = next(iter(engines.values())).labels[label_set].counts
    faces = ["faces", str(sum(counts["yaw"])), ""]
    faces += [str(n) for angle in _BINS for n in counts[angle]] + [""] * 5
    return {
        "title": f"2D-68 NME by angle, {label_set} labels (%)",
        "header": header,
        "rows": [*rows, faces],
    }


def _latency(engines: _Rows) -> Table:
    keys = ("min", "median", "mean", "p90", "p95", "p99", "max")
    header = ["engine", "n", *keys, "variation", "time over the last (95 %)"]
    header += ["GPU compute", "device pipeline"]
    rows = []
    for name, row in engines.items():
        figures = row.latency_ms
        if figures is None:
            continue
        values = [getattr(figures, key) for key in keys]
        ratio = figures.ratio
        rows.append(
            [
                name,
                str(figures.n),
                *("too few" if value is None else f"{value:.2f}" for value in values),
                f"{100 * figures.variation:.1f} %{' unstable' * figures.unstable}",
                f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
                _pair(row.gpu_compute_ms, NOT_MEASURED),
                _pair(row.device_pipeline_ms, NOT_MEASURED),
            ]
        )
    return {"title": "Latency, host end to end, one image (ms)", "header": header, "rows": rows}


def _stages(engines: _Rows) -> Table:
    found = {name: row.stages_ms or {} for name, row in engines.items()}
    names = list(dict.fromkeys(stage for stages in found.values() for stage in stages))
    rows = [[name, *(_pair(stages.get(s)) for s in names)] for name, stages in found.items()]
    title = "Stages of a photo, two passes: median (p90), ms"
    return {"title": title, "header": ["engine", *names], "rows": rows}


def _batches(engines: _Rows) -> Table:
    return _sweep("Whole batches", {name: row.batch_ms for name, row in engines.items()})


def _sweep(title: str, found: Mapping[str, Mapping[str, Latency] | None]) -> Table:
    sizes = sorted({size for sweep in found.values() for size in sweep or ()}, key=int)
    rows = [
        [name, *(_pair((sweep or {}).get(size)) for size in sizes)] for name, sweep in found.items()
    ]
    return {"title": f"{title}: median (p90), ms", "header": ["engine", *sizes], "rows": rows}


def _pair(figures: Latency | None, absent: str = "") -> str:
    return absent if figures is None else f"{figures.median:.2f} ({figures.p90:.2f})"


def _machine(engines: _Rows) -> Table:
    rows = []
    for name, row in engines.items():
        cold, energy = row.cold_start, row.energy
        keys = ("import_seconds", "load_seconds", "first_seconds", "memory_mb")
        forms = (".2f", ".2f", ".2f", ".0f")
        values = [None if cold is None else getattr(cold, key) for key in keys]
        rows.append(
            [
                name,
                *(number(value, form) for value, form in zip(values, forms, strict=True)),
                number(row.jitter_percent),
                NOT_MEASURED if energy is None else f"{energy.joules:.4f} J ({energy.source})",
            ]
        )
    header = [
        "engine", "import, s", "load, s", "first face, s", "memory over imports, MB",
        "jitter, % of the face", "energy a face",
    ]  # fmt: skip
    return {"title": "Start, memory, steadiness, energy", "header": header, "rows": rows}
