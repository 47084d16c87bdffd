"""Putting a study into ``report.html``, ``report.md`` and ``report.json``."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from posgan_edge.errors import BadInput, missing
from posgan_edge.evaluation.human68 import HUMAN
from posgan_edge.evaluation.report import expression, plots
from posgan_edge.evaluation.report.sheets import FACES, contact_sheet, data_uri
from posgan_edge.evaluation.study import NOT_MEASURED, Study
from posgan_edge.files import check_writable, replaced

_BINS = {
    "yaw": ("0 to 30", "30 to 60", "60 to 90"),
    "pitch": ("0 to 30", "30 to 60", "60 to 90"),
    "roll": ("0 to 60", "60 to 120", "120 to 180"),
}


def check_report(folder: Path) -> None:
    """Refuses a folder that the report cannot go into, and a machine that cannot draw it."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise missing(error.name or "Jinja2", "writing the report", "benchmark") from error
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: is a file; --report names a folder")
    check_writable(folder / "report.html")


def write_report(
    study: Study, folder: Path, history: Path | None = None, sensitivity: Path | None = None
) -> list[Path]:
    """Writes the report and answers its files."""
    pictures = dict(_pictures(study, history, sensitivity))
    document = study.document
    tables = tables_of(document)
    import jinja2

    source = (resources.files("posgan_edge.assets") / "report.html.j2").read_text()
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(source)
    html = template.render(document=document, tables=tables, pictures=pictures)
    written = []
    for name, text in (
        ("report.html", html),
        ("report.md", _markdown(document, tables)),
        ("report.json", json.dumps(document, indent=1) + "\n"),
    ):
        with replaced(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def _pictures(
    study: Study, history: Path | None, sensitivity: Path | None
) -> Iterator[tuple[str, str]]:
    """Title and SVG element or data URI of each picture, in the report's order."""
    document = study.document
    sets = document["settings"]["label_sets"]
    engine = next(iter(document["engines"]))
    for label_set in sets:
        yield f"Cumulative error, {label_set} labels", plots.cumulative_curves(document, label_set)
    angles = () if HUMAN in sets else plots.ANGLES
    if HUMAN in sets:
        yield from expression.pictures(document, engine)
    for angle in angles:
        drawn = plots.sorted_bars(document, engine, sets[0], angle)
        yield f"Every face of {engine}, coloured by {angle}", drawn
    for angle in angles:
        drawn = plots.against_angle(document, engine, sets[0], angle)
        yield f"Error of {engine} against {angle}", drawn
    if study.times:
        yield "How latency lies", plots.latency_histograms(study.times)
    if history is not None:
        yield "NME of the checkpoints in training", plots.tracking(_history(history))
    if sensitivity is not None:
        yield "What each layer costs in INT8", _embedded(sensitivity)
    ranked = "inner" if HUMAN in sets else sets[0]
    names, errors = plots.errors_of(document, engine, ranked)
    faces = {face.name: face for face in study.faces}
    found = dict(zip(faces, study.predictions[engine], strict=True))
    order = sorted(range(len(names)), key=errors.__getitem__)
    for title, chosen in (("best", order[:FACES]), ("worst", order[: -FACES - 1 : -1])):
        pairs = []
        for index in chosen:
            prediction = found[names[index]]
            assert prediction is not None
            pairs.append((faces[names[index]], prediction, float(errors[index])))
        sheet = data_uri(contact_sheet(pairs, sets[0]))
        by = f" by {ranked} NME" if HUMAN in sets else ""
        yield f"The {len(pairs)} {title} of {engine}{by}: ground truth left, generator right", sheet


def _history(path: Path) -> list[dict[str, Any]]:
    try:
        history = json.loads(path.read_text())
        return [dict(entry, samples=int(entry["samples"])) for entry in history]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path}: not a training run's history.json: {error}") from error


def _embedded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    if not data.startswith(b"\x89PNG"):
        raise BadInput(f"{path}: not a PNG picture")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


Table = dict[str, Any]


def tables_of(document: dict[str, Any]) -> list[Table]:
    """Title, header and rows of text of each table."""
    engines = document["engines"]
    tables = [_summary(document)]
    for label_set in document["settings"]["label_sets"]:
        if label_set == HUMAN:
            tables += expression.tables(document)
        else:
            tables.append(_by_angle(engines, label_set))
    timed = {name: row for name, row in engines.items() if "latency_ms" in row}
    if timed:
        tables += [_latency(timed), _stages(timed), _sweep(timed, "batch"), _machine(timed)]
        if any(row["threads_ms"] != NOT_MEASURED for row in timed.values()):
            tables.append(_sweep(timed, "threads"))
    return tables


def _summary(document: dict[str, Any]) -> Table:
    engines, sets = document["engines"], document["settings"]["label_sets"]
    base = next((row for row in engines.values() if row["reference"]), None)
    rows = []
    for name, row in engines.items():
        cells = [name, row["engine"]["precision"]]
        for label_set in sets:
            mean = row["labels"][label_set]["mean"]
            cells.append(f"{mean:.3f}")
            delta = mean - base["labels"][label_set]["mean"] if base and row is not base else None
            cells.append("" if delta is None else f"{delta:+.3f}")
        latency = row.get("latency_ms")
        cells += (
            [f"{latency['median']:.2f}", f"{latency['p90']:.2f}", f"{1e3 / latency['median']:.0f}"]
            if latency
            else [NOT_MEASURED] * 3
        )
        rows.append([*cells, f"{row['megabytes']:.2f}"])
    header = ["engine", "precision"]
    for label_set in sets:
        header += [f"NME {label_set}, %", "against reference"]
    header += ["p50, ms", "p90, ms", "faces/s", "MB"]
    return {"title": "Summary", "header": header, "rows": rows}


def _by_angle(engines: dict[str, Any], label_set: str) -> Table:
    header = ["engine", "mean of all", "mean of yaw bins"]
    for angle, bins in _BINS.items():
        header += [f"{angle} {name}" for name in bins]
    header += ["AUC to 10 %", "failed, %", "3D-68", "pitch / yaw / roll, degrees", "px off (p99)"]
    rows = []
    for name, row in engines.items():
        scores, pose, off = row["labels"][label_set], row["pose_mae"], row["deviation_px"]
        cells = [name, f"{scores['mean']:.3f}", f"{scores['mean_of_yaw_bins']:.3f}"]
        for angle in _BINS:
            cells += ["" if v != v else f"{v:.3f}" for v in scores[angle]]
        cells += [f"{scores['auc']:.3f}", f"{100 * scores['failure_rate']:.2f}"]
        cells += [f"{row['nme_3d']:.3f}"]
        cells += [" / ".join(f"{pose[k]:.2f}" for k in ("pitch", "yaw", "roll"))]
        cells += [off if off == NOT_MEASURED else f"{off['mean']:.3f} ({off['p99']:.3f})"]
        rows.append(cells)
    counts = next(iter(engines.values()))["labels"][label_set]["counts"]
    faces = ["faces", str(sum(counts["yaw"])), ""]
    faces += [str(n) for angle in _BINS for n in counts[angle]] + [""] * 5
    return {
        "title": f"2D-68 NME by angle, {label_set} labels (%)",
        "header": header,
        "rows": [*rows, faces],
    }


def _latency(engines: dict[str, Any]) -> Table:
    keys = ("min", "median", "mean", "p90", "p95", "p99", "max")
    header = ["engine", "n", *keys, "variation", "time over the last (95 %)"]
    header += ["GPU compute", "device pipeline"]
    rows = []
    for name, row in engines.items():
        figures = row["latency_ms"]
        ratio = figures["ratio"]
        cells = [name, str(figures["n"])]
        cells += [f"{figures[k]:.2f}" if figures[k] is not None else "too few" for k in keys]
        cells += [f"{100 * figures['variation']:.1f} %{' unstable' * figures['unstable']}"]
        cells += [f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"]
        for clock in ("gpu_compute_ms", "device_pipeline_ms"):
            cells.append(row[clock] if row[clock] == NOT_MEASURED else _pair(row[clock]))
        rows.append(cells)
    return {"title": "Latency, host end to end, one image (ms)", "header": header, "rows": rows}


def _stages(engines: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(k for row in engines.values() for k in row["stages_ms"]))
    rows = [
        [name, *(_pair(row["stages_ms"].get(stage)) for stage in names)]
        for name, row in engines.items()
    ]
    title = "Stages of a photo, two passes: median (p90), ms"
    return {"title": title, "header": ["engine", *names], "rows": rows}


def _sweep(engines: dict[str, Any], what: str) -> Table:
    key = f"{what}_ms"
    sizes = {k for row in engines.values() if isinstance(row[key], dict) for k in row[key]}
    ordered = sorted(sizes, key=int)
    rows = [
        [name, *(_pair(row[key].get(s)) if isinstance(row[key], dict) else "" for s in ordered)]
        for name, row in engines.items()
    ]
    title = {"batch": "Whole batches", "threads": "CPU threads, one image"}[what]
    return {"title": f"{title}: median (p90), ms", "header": ["engine", *ordered], "rows": rows}


def _pair(figures: dict[str, Any] | None) -> str:
    return "" if figures is None else f"{figures['median']:.2f} ({figures['p90']:.2f})"


def _machine(engines: dict[str, Any]) -> Table:
    rows = []
    for name, row in engines.items():
        cold, energy = row["cold_start"], row["energy"]
        seconds = [f"{cold[k]:.2f}" for k in ("import_seconds", "load_seconds", "first_seconds")]
        rows.append(
            [
                name,
                *seconds,
                f"{cold['memory_mb']:.0f}",
                f"{row['jitter_percent']:.3f}",
                energy
                if energy == NOT_MEASURED
                else f"{energy['joules']:.4f} J ({energy['source']})",
            ]
        )
    header = [
        "engine", "import, s", "load, s", "first face, s", "memory over imports, MB",
        "jitter, % of the face", "energy a face",
    ]  # fmt: skip
    return {"title": "Start, memory, steadiness, energy", "header": header, "rows": rows}


def _gpu(machine: dict[str, Any]) -> str:
    if "gpu" not in machine:
        return ""
    return f", {machine['gpu']}, driver {machine['driver']}, power mode {machine['power_mode']}"


def _markdown(document: dict[str, Any], tables: list[Table]) -> str:
    machine, settings = document["machine"], document["settings"]
    lines = [
        "# posgan-edge benchmark",
        "",
        f"{len(document['faces'])} faces, crop {settings['crop']}, {settings['passes']} pass(es); "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python "
        f"{machine['python']}, posgan-edge {machine['posgan_edge']}{_gpu(machine)}.",
    ]
    for table in tables:
        numbers = "".join("---:|" for _ in table["header"][1:])
        lines += ["", f"## {table['title']}", "", f"| {' | '.join(table['header'])} |"]
        lines += [f"|---|{numbers}"]
        lines += [f"| {' | '.join(row)} |" for row in table["rows"]]
    lines += ["", "## Faces without a result", ""]
    for name, row in document["engines"].items():
        lines.append(
            f"- {name}: {len(row['missed'])} not found {', '.join(row['missed'])}".rstrip()
        )
    lines += [f"- {name}: cannot be read: {why}" for name, why in document["unreadable"].items()]
    return "\n".join(lines) + "\n"
