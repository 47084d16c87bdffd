"""The figures and the Markdown tables of ``peers.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.expression import PARTS, score_points
from posgan_edge.evaluation.human68 import HUMAN, HumanFace
from posgan_edge.evaluation.metrics import bin_of
from posgan_edge.geometry.metrics import box_size, nme


@dataclass
class Row:
    """The results of one method: points (68, 2) by face, and milliseconds per face."""

    points: dict[str, NDArray[Any]]
    ms: list[float]
    retried: int = 0


def without_bias(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> NDArray[Any]:
    """Errors (n, 68) in percent of the face of pairs (measured, truth), each (68, 2), once the
    mean offset of each point is taken out, along the line of the labelled eyes."""
    errors = []
    for measured, truth in pairs:
        eyes = truth[42:48].mean(0) - truth[36:42].mean(0)
        c, s = eyes / np.linalg.norm(eyes)
        errors.append((measured - truth) @ np.array([[c, -s], [s, c]]) * (100 / box_size(truth)))
    lengths: NDArray[Any] = np.linalg.norm(np.array(errors) - np.mean(errors, axis=0), axis=-1)
    return lengths


def human_figures(row: Row, faces: Sequence[LabelledFace]) -> dict[str, float | None]:
    """Returns the figures of one method on the faces with human points that it found."""
    pairs = [(row.points[f.name], f.original) for f in faces]
    scores = score_points({f.name: pair for f, pair in zip(faces, pairs, strict=True)})
    free = without_bias(pairs)
    return {
        "inner": scores.nme["inner"],
        "inner, without bias": float(free[:, list(PARTS["inner"])].mean()),
        "eyes": scores.nme["eyes"],
        "eyes, without bias": float(free[:, list(PARTS["eyes"])].mean()),
        "mouth": scores.nme["mouth"],
        "mouth, without bias": float(free[:, list(PARTS["mouth"])].mean()),
        "all 68": scores.nme["all"],
        "r eyes": scores.eyes.r,
        "r mouth": scores.mouth.r,
        "AUC closed": scores.closed.auc,
    }


def aflw_figures(
    row: Row, faces: Sequence[LabelledFace], label_set: str
) -> dict[str, float | None]:
    """Returns the figures of one method on the faces of AFLW2000-3D that it found."""
    pairs = [(row.points[f.name], f.labels(label_set)[:, :2]) for f in faces]
    errors = np.array([nme(*pair) for pair in pairs])
    bins = bin_of(np.array([f.angles[1] for f in faces if f.angles is not None]))
    means = [float(errors[bins == i].mean()) if (bins == i).any() else None for i in range(3)]
    whole = [m for m in means if m is not None]
    return {
        "mean of all": float(errors.mean()),
        "without bias": float(without_bias(pairs).mean()),
        **dict(zip(("yaw 0 to 30", "30 to 60", "60 to 90"), means, strict=True)),
        "mean of bins": float(np.mean(whole)) if len(whole) == 3 else None,
    }


def tables(
    rows: dict[str, Row], faces: Sequence[LabelledFace], label_sets: Sequence[str]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Returns figures by table and method: on the faces that each found, and on those that all
    found."""
    shared = [f for f in faces if all(f.name in row.points for row in rows.values())]
    result = {}
    for label_set in label_sets:
        for title, same in (("faces that each found", False), (f"{len(shared)} same faces", True)):
            table = {}
            for name, row in rows.items():
                own = shared if same else [f for f in faces if f.name in row.points]
                if own and label_set == HUMAN:
                    table[name] = human_figures(row, own)
                elif own:
                    table[name] = aflw_figures(row, own, label_set)
            result[f"{label_set} labels, {title}"] = table
    return result


def markdown(title: str, table: dict[str, dict[str, Any]], rows: dict[str, Row], n: int) -> str:
    if not table:
        return f"\n## {title}\n\nno face"
    header = ["method", "found", *next(iter(table.values())), "ms a face"]
    lines = [f"\n## {title}", "", f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1)]
    lines[-1] += "|"
    for name, figures in table.items():
        cells = ["" if v is None else f"{v:.3f}" for v in figures.values()]
        found = f"{len(rows[name].points)} of {n}"
        time_ = f"{np.median(rows[name].ms):.1f}"
        lines.append(f"| {' | '.join([name, found, *cells, time_])} |")
    return "\n".join(lines)


def label_sets_of(faces: Sequence[LabelledFace]) -> list[str]:
    if any(isinstance(face, HumanFace) for face in faces):
        return [HUMAN]
    both = all(face.reannotated is not None for face in faces)
    return ["original", "reannotated"] if both else ["original"]
