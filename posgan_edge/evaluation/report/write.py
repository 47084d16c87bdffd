"""Writing a study to ``report.html``, ``report.md`` and ``report.json``."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from posgan_edge.documents import LIMIT, read, save
from posgan_edge.errors import BadInput, needing
from posgan_edge.evaluation.document import Benchmark
from posgan_edge.evaluation.human68 import HUMAN
from posgan_edge.evaluation.peers import Peers
from posgan_edge.evaluation.report import expression, plots
from posgan_edge.evaluation.report.peers import peers_plot, peers_table
from posgan_edge.evaluation.report.sheets import FACES, contact_sheet, data_uri
from posgan_edge.evaluation.report.tables import Table, tables_of
from posgan_edge.evaluation.study import Study
from posgan_edge.files import check_output, read_limited, write_whole


def check_report(folder: Path) -> None:
    """Raises BadInput if the report cannot be written to ``folder``, and MissingRuntime without the
    packages that draw it."""
    with needing(None, "writing the report", "benchmark"):
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: is a file, the report needs a folder")
    for name in ("report.html", "report.md"):
        check_output(folder / name, b"posgan-edge benchmark")
    check_output(folder / "report.json", b'"label_sets"')


def write_report(
    study: Study,
    folder: Path,
    history: Path | None = None,
    sensitivity: Path | None = None,
    peers: Peers | None = None,
) -> list[Path]:
    """Writes the report. Returns its files.

    ``history`` is a training run's history.json, ``sensitivity`` a PNG, ``peers`` a comparison with
    other methods. Raises BadInput for a file that cannot be read or written.
    """
    pictures = dict(_pictures(study, history, sensitivity))
    document = study.document
    tables = tables_of(document)
    if peers is not None:
        tables.append(peers_table(peers))
        pictures["Beside other methods"] = peers_plot(peers)
    import jinja2

    source = (resources.files("posgan_edge.assets") / "report.html.j2").read_text()
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(source)
    html = template.render(document=document, tables=tables, pictures=pictures)
    written = []
    for name, text in (
        ("report.html", html),
        ("report.md", _markdown(document, tables)),
    ):
        write_whole(folder / name, text)
        written.append(folder / name)
    save(folder / "report.json", document)
    return [*written, folder / "report.json"]


def _pictures(
    study: Study, history: Path | None, sensitivity: Path | None
) -> Iterator[tuple[str, str]]:
    """Yields (title, SVG element or data URI) for each picture, in the report's order."""
    document = study.document
    sets = document.settings.label_sets
    engine = next(iter(document.engines))
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
        yield "Latency of every call", plots.latency_histograms(study.times)
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
            # Only faces that were found have an error.
            if (prediction := found[names[index]]) is not None:
                pairs.append((faces[names[index]], prediction, float(errors[index])))
        sheet = data_uri(contact_sheet(pairs, sets[0]))
        by = f" by {ranked} NME" if HUMAN in sets else ""
        yield f"The {len(pairs)} {title} of {engine}{by}: ground truth left, generator right", sheet


def _history(path: Path) -> list[dict[str, Any]]:
    content = read(path, "training history")
    if not isinstance(content, list) or not all(
        isinstance(entry, dict) and all(isinstance(v, int | float) for v in entry.values())
        and "samples" in entry
        for entry in content
    ):  # fmt: skip
        raise BadInput(f"{path}: not a training run's history.json")
    return content


def _embedded(path: Path) -> str:
    data = read_limited(path, LIMIT)
    if not data.startswith(b"\x89PNG"):
        raise BadInput(f"{path}: not a PNG picture")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _gpu(machine: dict[str, Any]) -> str:
    if "gpu" not in machine:
        return ""
    return f", {machine['gpu']}, driver {machine['driver']}, power mode {machine['power_mode']}"


def _markdown(document: Benchmark, tables: list[Table]) -> str:
    machine, settings = document.machine, document.settings
    sets = ", ".join(sorted({row.landmarks for row in document.engines.values()}))
    lines = [
        "# posgan-edge benchmark",
        "",
        f"{len(document.faces)} faces, crop {settings.crop}, {settings.passes} pass(es), "
        f"landmark set {sets}; "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python "
        f"{machine['python']}, posgan-edge {machine['posgan_edge']}{_gpu(machine)}.",
    ]
    for table in tables:
        numbers = "".join("---:|" for _ in table["header"][1:])
        lines += ["", f"## {table['title']}", "", f"| {' | '.join(table['header'])} |"]
        lines += [f"|---|{numbers}"]
        lines += [f"| {' | '.join(row)} |" for row in table["rows"]]
    lines += ["", "## Faces without a result", ""]
    for name, row in document.engines.items():
        lines.append(f"- {name}: {len(row.missed)} not found {', '.join(row.missed)}".rstrip())
    lines += [f"- {name}: cannot be read: {why}" for name, why in document.unreadable.items()]
    return "\n".join(lines) + "\n"
