"""``posgan-edge benchmark``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from posgan_edge.cli.groups import Finite, Group, console, option, takes
from posgan_edge.errors import BadInput, MissingRuntime, UsageError

if TYPE_CHECKING:
    from posgan_edge.evaluation.aflw2000 import LabelledFace
    from posgan_edge.evaluation.document import Settings
    from posgan_edge.evaluation.study import Study
    from posgan_edge.faces.detector import Detector

_LABEL_SETS = ("original", "reannotated")


@dataclass(frozen=True)
class BenchmarkOptions(Group):
    """What is scored and timed, and where the figures go."""

    # fmt: off
    engines: tuple[str, ...] = option("--engine", "engines", multiple=True, default=("edge",),
        show_default=True, help="Shipped name or model file, or openvino:FILE, cuda:FILE, "
        "tensorrt:FILE; may be given many times.")
    reference: str = option("--reference", default="",
        help="Compare with 'torch' (the shipped weights) or a model file.")
    dataset: Path = option("--dataset", required=True, type=Path,
        help="AFLW2000-3D: folder or zip of NAME.jpg with NAME.mat, or the original's pre-cropped "
        "folder. Human 68 points: an .npz, or a folder of .pts.")
    reannotated: Path | None = option("--reannotated", type=Path,
        help="LS3D-W labels: .npz, .npy or folder of .t7.")
    labels: str | None = option("--labels", help="original, reannotated or both, by commas.")
    landmarks: str | None = option("--landmarks", type=click.Choice(["aflw", "300w"]),
        help="Landmark set that is scored.  [default: 300w on human points, else aflw]")
    crop: str = option("--crop", type=click.Choice(["gt", "detector"]), default="gt",
        show_default=True, help="Cut crops at the labels, or where the detector finds the face.")
    passes: int | None = option("--passes", type=click.IntRange(1, 3),
        help="Crops per face: 1 on gt, 2 with the detector unless given.")
    mirror: bool = option("--mirror", is_flag=True, help="Average with the mirrored crop.")
    turn: float = option("--turn", default=0.0, type=Finite(),
        help="Turn every photo by this many degrees first.")
    limit: int | None = option("--limit", type=click.IntRange(1),
        help="Score only the first faces, this many.")
    sample: int | None = option("--sample", type=click.IntRange(1),
        help="Score this many faces drawn at random.")
    seed: int = option("--seed", default=0, show_default=True, type=click.IntRange(0),
        help="Random seed of --sample.")
    exclude: Path | None = option("--exclude", type=Path,
        help="File of names that are not scored, one per line.")
    rounds: int | None = option("--rounds", type=click.IntRange(0, 100_000),
        help="Calls of each engine to time; 300 with --report, else none.")
    report: Path | None = option("--report", type=Path,
        help="Folder for report.html, .md and .json.")
    history: Path | None = option("--history", type=Path,
        help="A training run's history.json, for the report.")
    sensitivity: Path | None = option("--sensitivity", type=Path,
        help="PNG that calibrate --sensitivity drew, for the report.")
    peers: Path | None = option("--peers", type=Path,
        help="What benchmarks/peers.py --json wrote, for the report.")
    json: Path | None = option("--json", type=Path, help="Write the figures here.")
    baseline: Path | None = option("--baseline", type=Path,
        help="Earlier --json: fail if this run is worse.")
    fail_above: float = option("--fail-above", default=0.02, show_default=True, type=Finite(),
        help="Points of NME by which this run may be worse than --baseline.")
    # fmt: on

    def check(self) -> None:
        """Raises UsageError if options do not go together."""
        if self.limit is not None and self.sample is not None:
            raise UsageError(
                "--limit takes the first faces and --sample draws some: give one of them"
            )
        if self.report is None and (self.history or self.sensitivity) is not None:
            raise UsageError("--history and --sensitivity need --report")

    def chosen(self, faces: Sequence[LabelledFace]) -> list[LabelledFace]:
        """Returns the faces that are scored, not yet turned."""
        from posgan_edge.evaluation.datasets import sampled
        from posgan_edge.files import read_names

        left_out = set(read_names(self.exclude) or ())
        left = [face for face in faces if face.name not in left_out]
        return left[: self.limit] if self.sample is None else sampled(left, self.sample, self.seed)

    def settings(self, label_sets: Sequence[str]) -> Settings:
        """Returns what is measured, as the document says it."""
        from posgan_edge.evaluation.document import Settings

        default = 0 if self.report is None else 300
        return Settings(
            engines=self.engines,
            label_sets=tuple(label_sets),
            reference=self.reference,
            crop=self.crop,
            passes=self.passes or (1 if self.crop == "gt" else 2),
            mirror=self.mirror,
            turn=self.turn,
            excluded=self.exclude.name if self.exclude is not None else "",
            sample=self.sample,
            seed=None if self.sample is None else self.seed,
            landmarks=self.landmarks,
            rounds=default if self.rounds is None else self.rounds,
        )


@click.command()
@takes(BenchmarkOptions)
def command(asked: BenchmarkOptions) -> None:
    """Score and time engines on labelled faces, compared with a PyTorch reference."""
    from posgan_edge.cli.compare import report_changes
    from posgan_edge.cli.progress import reporting
    from posgan_edge.documents import save
    from posgan_edge.evaluation.aflw2000 import turned
    from posgan_edge.evaluation.compare import compare
    from posgan_edge.evaluation.datasets import open_faces
    from posgan_edge.evaluation.document import load_benchmark
    from posgan_edge.evaluation.peers import load_peers
    from posgan_edge.evaluation.study import run_study
    from posgan_edge.files import check_output

    asked.check()
    if asked.json is not None:
        check_output(asked.json, b'"label_sets"')
    if asked.report is not None:
        from posgan_edge.evaluation.report.write import check_report, write_report

        check_report(asked.report)
    written: list[Path] = []
    peers = load_peers(asked.peers) if asked.peers is not None else None
    before = load_benchmark(asked.baseline) if asked.baseline is not None else None
    with open_faces(asked.dataset, asked.reannotated) as every, reporting() as progress:
        faces = asked.chosen(every)
        settings = asked.settings(_label_sets(asked.labels, faces))
        if asked.turn:
            faces = [turned(face, asked.turn) for face in faces]
        study = run_study(settings, faces, _detector(asked.crop, settings.rounds), progress)
        if asked.json is not None:
            save(asked.json, study.document)
            written.append(asked.json)
        if asked.report is not None:
            progress("writing the report", 0, 1)
            written += write_report(study, asked.report, asked.history, asked.sensitivity, peers)
    _print(study)
    for path in written:
        click.echo(f"wrote {path}")
    if before is not None:
        report_changes(compare(before, study.document, asked.fail_above), str(asked.baseline))


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
    for name, row in study.document.engines.items():
        if row.missed:
            told.print(f"{name}: {len(row.missed)} not found: {', '.join(row.missed)}")
    for name, why in study.document.unreadable.items():
        click.echo(f"{name}: left out, cannot be read: {why}", err=True)
