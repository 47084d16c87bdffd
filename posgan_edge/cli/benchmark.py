"""``posgan-edge benchmark``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posgan_edge.errors import BadInput, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from posgan_edge.engines import Engine
    from posgan_edge.evaluation.aflw2000 import LabelledFace
    from posgan_edge.evaluation.scoring import LabelScores, Prediction, Scores

_LABEL_SETS = ("original", "reannotated")
_ANGLES = ("0-30", "30-60", "60-90")
_ROLLS = ("0-60", "60-120", "120-180")


@click.command()
@click.option("--engine", "engines", multiple=True, default=("edge",), show_default=True,
              help="Shipped name or model file; may be given many times.")  # fmt: skip
@click.option("--dataset", required=True, help="AFLW2000-3D folder (NAME.jpg with NAME.mat).")
@click.option("--labels", default=None, help="original, reannotated or both, by commas.")
@click.option("--crop", type=click.Choice(["gt", "detector"]), default="gt", show_default=True)
@click.option("--passes", default=None, type=click.IntRange(1, 3),
              help="Crops per face: 1 on gt, 2 with the detector unless given.")  # fmt: skip
@click.option("--mirror", is_flag=True, help="Average with the mirrored crop.")
@click.option("--turn", default=0.0, help="Turn every photo by this many degrees first.")
@click.option("--limit", default=None, type=click.IntRange(1), help="Score this many faces only.")
@click.option("--exclude", type=Path, help="File of names that are not scored, one per line.")
@click.option("--json", "json_path", type=Path, help="Write the scores here.")
def command(
    engines: tuple[str, ...],
    dataset: str,
    labels: str | None,
    crop: str,
    passes: int | None,
    mirror: bool,
    turn: float,
    limit: int | None,
    exclude: Path | None,
    json_path: Path | None,
) -> None:
    """Score engines on AFLW2000-3D: NME by label set and angle, 3D NME, head pose."""
    from rich.progress import Progress

    from posgan_edge.engines import load_engine
    from posgan_edge.engines.machine import machine_block
    from posgan_edge.evaluation.aflw2000 import load_aflw2000, turned
    from posgan_edge.evaluation.scoring import score
    from posgan_edge.files import check_writable, read_names, replaced

    if json_path is not None:
        check_writable(json_path)
    faces = load_aflw2000(dataset, limit)
    if exclude is not None:
        left_out = set(read_names(exclude) or ())
        faces = [face for face in faces if face.name not in left_out]
    if turn:
        faces = [turned(face, turn) for face in faces]
    label_sets = _label_sets(labels, faces)
    results: dict[str, Any] = {}
    with Progress(transient=True) as progress:
        for name in engines:
            engine = load_engine(name)
            start = time.perf_counter()
            predictions = _predict(engine, faces, crop, passes, mirror, progress)
            scores = score(faces, predictions, label_sets)
            seconds = time.perf_counter() - start
            results[name] = {"engine": asdict(engine.info), "seconds": seconds, **asdict(scores)}
            progress.console.print(engine.describe(), highlight=False)
            _print(scores)
    if json_path is not None:
        with replaced(json_path) as temporary:
            document = {
                "schema": 1,
                "crop": crop,
                "passes": passes or (1 if crop == "gt" else 2),
                "mirror": mirror,
                "turn": turn,
                "excluded": exclude.name if exclude is not None else None,
                "machine": machine_block(),
                "engines": results,
            }
            temporary.write_text(json.dumps(document, indent=1) + "\n")


def _predict(
    engine: Engine,
    faces: list[LabelledFace],
    crop: str,
    passes: int | None,
    mirror: bool,
    progress: Progress,
) -> list[Prediction | None]:
    from posgan_edge.evaluation.scoring import predict_from_labels, predict_from_photos

    task = progress.add_task(engine.info.name, total=len(faces))

    def advance() -> None:
        progress.advance(task)

    if crop == "gt" and passes in (None, 1) and not mirror:
        return list(predict_from_labels(engine, faces, on_face=advance))
    detector = None
    if crop == "detector":
        from posgan_edge.vision.detector import MediaPipeDetector

        detector = MediaPipeDetector()
    count = passes or (1 if crop == "gt" else 2)
    return list(predict_from_photos(engine, faces, detector, count, mirror, advance))


def _label_sets(labels: str | None, faces: list[LabelledFace]) -> list[str]:
    if labels is None:
        both = all(face.reannotated is not None for face in faces)
        return list(_LABEL_SETS) if both else ["original"]
    chosen = labels.split(",")
    if wrong := [label for label in chosen if label not in _LABEL_SETS]:
        raise UsageError(f"--labels {wrong[0]}: use original, reannotated or both by a comma")
    if "reannotated" in chosen and all(face.reannotated is None for face in faces):
        raise BadInput("no reannotated.npz beside the photos: use --labels original")
    return chosen


def _print(scores: Scores) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"2D-68 NME (%), {scores.faces} faces, {len(scores.missed)} not found")
    table.add_column("faces")
    for name in scores.labels:
        table.add_column(name, justify="right")
    for title, *values in zip(*map(_column, scores.labels.values()), strict=True):
        table.add_row(title[0], *(f"{v[1]:.3f}" for v in (title, *values)))
    console = Console()
    console.print(table)
    pose = scores.pose_mae
    console.print(
        f"3D-68 NME {scores.nme_3d:.3f} %, head pose error (degrees): pitch {pose['pitch']:.2f}, "
        f"yaw {pose['yaw']:.2f}, roll {pose['roll']:.2f}, mean {pose['mean']:.2f}",
        highlight=False,
    )


def _column(labels: LabelScores) -> list[tuple[str, float]]:
    """One label set's figures by name, in the table's order."""
    return [
        ("mean of all", labels.mean),
        ("mean of yaw bins", labels.mean_of_yaw_bins),
        *((f"yaw {n}", v) for n, v in zip(_ANGLES, labels.yaw, strict=True)),
        *((f"pitch {n}", v) for n, v in zip(_ANGLES, labels.pitch, strict=True)),
        *((f"roll {n}", v) for n, v in zip(_ROLLS, labels.roll, strict=True)),
    ]
