"""``posgan-edge benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posgan_edge.cli.groups import Finite, console
from posgan_edge.errors import BadInput, MissingRuntime, UsageError

if TYPE_CHECKING:
    from posgan_edge.evaluation.aflw2000 import LabelledFace
    from posgan_edge.evaluation.document import Benchmark
    from posgan_edge.evaluation.study import Study
    from posgan_edge.faces.detector import Detector

_LABEL_SETS = ("original", "reannotated")


@click.command()
@click.option("--engine", "engines", multiple=True, default=("edge",), show_default=True,
              help="Shipped name or model file, or openvino:FILE, cuda:FILE, tensorrt:FILE; may "
              "be given many times.")  # fmt: skip
@click.option("--reference", default="", help="Compare with 'torch' (the shipped weights) or a "
              "model file.")  # fmt: skip
@click.option("--dataset", required=True, type=Path,
              help="AFLW2000-3D: folder or zip of NAME.jpg with NAME.mat, or the original's "
              "pre-cropped folder. Human 68 points: an .npz, or a folder of .pts.")  # fmt: skip
@click.option("--reannotated", type=Path, help="LS3D-W labels: .npz, .npy or folder of .t7.")
@click.option("--labels", default=None, help="original, reannotated or both, by commas.")
@click.option(
    "--landmarks",
    type=click.Choice(["aflw", "300w"]),
    help="Landmark set that is scored.  [default: 300w on human points, else aflw]",
)
@click.option("--crop", type=click.Choice(["gt", "detector"]), default="gt", show_default=True)
@click.option("--passes", default=None, type=click.IntRange(1, 3),
              help="Crops per face: 1 on gt, 2 with the detector unless given.")  # fmt: skip
@click.option("--mirror", is_flag=True, help="Average with the mirrored crop.")
@click.option(
    "--turn", default=0.0, type=Finite(), help="Turn every photo by this many degrees first."
)
@click.option(
    "--limit", default=None, type=click.IntRange(1), help="Score only the first faces, this many."
)
@click.option("--sample", default=None, type=click.IntRange(1),
              help="Score this many faces drawn at random.")  # fmt: skip
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Random seed of --sample."
)
@click.option("--exclude", type=Path, help="File of names that are not scored, one per line.")
@click.option("--rounds", default=None, type=click.IntRange(0, 100_000),
              help="Calls of each engine to time; 300 with --report, else none.")  # fmt: skip
@click.option("--report", "report_path", type=Path, help="Folder for report.html, .md and .json.")
@click.option("--history", type=Path, help="A training run's history.json, for the report.")
@click.option("--sensitivity", type=Path, help="PNG that calibrate --sensitivity drew.")
@click.option("--peers", "peers_path", type=Path,
              help="What benchmarks/peers.py --json wrote, for the report.")  # fmt: skip
@click.option("--json", "json_path", type=Path, help="Write the figures here.")
@click.option("--baseline", type=Path, help="Earlier --json: fail if this run is worse.")
@click.option("--fail-above", default=0.02, show_default=True, type=Finite(),
              help="Points of NME by which this run may be worse than --baseline.")  # fmt: skip
def command(
    engines: tuple[str, ...],
    reference: str,
    dataset: Path,
    reannotated: Path | None,
    labels: str | None,
    landmarks: str | None,
    crop: str,
    passes: int | None,
    mirror: bool,
    turn: float,
    limit: int | None,
    sample: int | None,
    seed: int,
    exclude: Path | None,
    rounds: int | None,
    report_path: Path | None,
    history: Path | None,
    sensitivity: Path | None,
    peers_path: Path | None,
    json_path: Path | None,
    baseline: Path | None,
    fail_above: float,
) -> None:
    """Score and time engines on labelled faces, compared with a PyTorch reference."""
    from posgan_edge.cli.compare import report_changes
    from posgan_edge.cli.progress import reporting
    from posgan_edge.documents import save
    from posgan_edge.evaluation.aflw2000 import turned
    from posgan_edge.evaluation.compare import compare
    from posgan_edge.evaluation.datasets import open_faces, sampled
    from posgan_edge.evaluation.document import Settings, load_benchmark
    from posgan_edge.evaluation.peers import load_peers
    from posgan_edge.evaluation.study import run_study
    from posgan_edge.files import check_output, read_names

    if limit is not None and sample is not None:
        raise UsageError("--limit takes the first faces and --sample draws some: give one of them")
    if report_path is None and (history or sensitivity) is not None:
        raise UsageError("--history and --sensitivity need --report")
    if json_path is not None:
        check_output(json_path, b'"label_sets"')
    if report_path is not None:
        from posgan_edge.evaluation.report.write import check_report, write_report

        check_report(report_path)
    written: list[Path] = []
    peers = load_peers(peers_path) if peers_path is not None else None
    before = load_benchmark(baseline) if baseline is not None else None
    with open_faces(dataset, reannotated) as every, reporting() as progress:
        faces = list(every)
        if exclude is not None:
            left_out = set(read_names(exclude) or ())
            faces = [face for face in faces if face.name not in left_out]
        faces = faces[:limit] if sample is None else sampled(faces, sample, seed)
        label_sets = tuple(_label_sets(labels, faces))
        if turn:
            faces = [turned(face, turn) for face in faces]
        settings = Settings(
            engines=engines,
            label_sets=label_sets,
            reference=reference,
            crop=crop,
            passes=passes or (1 if crop == "gt" else 2),
            mirror=mirror,
            turn=turn,
            excluded=exclude.name if exclude is not None else "",
            sample=sample,
            seed=None if sample is None else seed,
            landmarks=landmarks,
            rounds=rounds if rounds is not None else (300 if report_path is not None else 0),
        )
        study = run_study(settings, faces, _detector(crop, settings.rounds), progress)
        if json_path is not None:
            save(json_path, study.document)
            written.append(json_path)
        if report_path is not None:
            progress("writing the report", 0, 1)
            written += write_report(study, report_path, history, sensitivity, peers)
    _print(study)
    for path in written:
        click.echo(f"wrote {path}")
    if before is not None:
        report_changes(compare(before, study.document, fail_above), str(baseline))


def _detector(crop: str, rounds: int) -> Detector | None:
    """The detector that finds the faces, or that is timed if it is installed; else None."""
    if crop == "gt" and not rounds:
        return None
    from posgan_edge.faces.detector import MediaPipeDetector

    try:
        return MediaPipeDetector()
    except MissingRuntime:
        if crop == "detector":
            raise
        return None


def _label_sets(labels: str | None, faces: list[LabelledFace]) -> list[str]:
    from posgan_edge.evaluation.human68 import HUMAN, HumanFace

    if any(isinstance(face, HumanFace) for face in faces):
        if labels not in (None, HUMAN):
            raise UsageError(f"--labels {labels}: the set has human points alone")
        return [HUMAN]
    if labels is None:
        both = all(face.reannotated is not None for face in faces)
        return list(_LABEL_SETS) if both else ["original"]
    chosen = labels.split(",")
    if wrong := [label for label in chosen if label not in _LABEL_SETS]:
        raise UsageError(f"--labels {wrong[0]}: use original, reannotated or both by a comma")
    if "reannotated" in chosen:
        without = [face.name for face in faces if face.reannotated is None]
        if len(without) == len(faces):
            raise BadInput("no re-annotation beside the photos: give --reannotated, or --labels "
                           "original")  # fmt: skip
        if without:
            raise BadInput(
                f"{len(without)} of {len(faces)} faces have no re-annotation ({without[0]} first): "
                "--labels original, or the whole label set"
            )
    return chosen


def _print(study: Study) -> None:
    from rich.table import Table

    from posgan_edge.evaluation.report.tables import tables_of

    told = console()
    for content in tables_of(study.document):
        table = Table(title=content["title"])
        # Many columns fit a terminal better as rows.
        for index, name in enumerate(row[0] for row in [content["header"], *content["rows"]]):
            table.add_column(name, justify="right" if index else "left")
        for cells in zip(content["header"], *content["rows"], strict=True):
            if cells[0] != content["header"][0]:
                table.add_row(*cells)
        told.print(table)
    _print_missing(study.document, told)


def _print_missing(document: Benchmark, console: Any) -> None:
    for name, row in document.engines.items():
        if row.missed:
            console.print(f"{name}: {len(row.missed)} not found: {', '.join(row.missed)}")
    for name, why in document.unreadable.items():
        click.echo(f"{name}: left out, cannot be read: {why}", err=True)
