"""The figures and the Markdown tables of ``peers.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.expression import PARTS, score_points
from posgan_edge.evaluation.human68 import HUMAN, HumanFace
from posgan_edge.evaluation.metrics import bin_of
from posgan_edge.evaluation.peers import Figures, PeerSet, Scores
from posgan_edge.evaluation.report import NOT_MEASURED
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


def human_figures(row: Row, faces: Sequence[LabelledFace]) -> Figures:
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


def aflw_figures(row: Row, faces: Sequence[LabelledFace], label_set: str) -> Figures:
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


def scores(rows: Mapping[str, Row], faces: Sequence[LabelledFace], label_set: str) -> Scores:
    """Returns figures by method: on the faces that each found, and on those that all found."""
    shared = [f for f in faces if all(f.name in row.points for row in rows.values())]
    figures = {
        name: [_figures(row, own, label_set) if own else {} for own in (mine, shared)]
        for name, row in rows.items()
        for mine in [[f for f in faces if f.name in row.points]]
    }
    own, same = ({name: both[i] for name, both in figures.items() if both[i]} for i in (0, 1))
    return Scores(len(shared), own, same)


def _figures(row: Row, faces: Sequence[LabelledFace], label_set: str) -> Figures:
    if label_set == HUMAN:
        return human_figures(row, faces)
    return aflw_figures(row, faces, label_set)


def markdown(title: str, both: Scores, data: PeerSet) -> str:
    """Returns the tables of one set and label set."""
    parts = []
    for where, table in (
        ("faces that each found", both.own), (f"{both.faces} same faces", both.same),
    ):  # fmt: skip
        parts.append(f"\n## {title}, {where}\n")
        if not table:
            parts.append("no face")
            continue
        header = ["method", "found", *next(iter(table.values())), "ms a face"]
        parts += [f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1) + "|"]
        for name, figures in table.items():
            row = data.rows[name]
            cells = [name, f"{row.found} of {data.faces}"]
            cells += ["" if v is None else f"{v:.3f}" for v in figures.values()]
            cells.append(NOT_MEASURED if row.ms is None else f"{row.ms.median:.1f}")
            parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts)


def label_sets_of(faces: Sequence[LabelledFace]) -> list[str]:
    if any(isinstance(face, HumanFace) for face in faces):
        return [HUMAN]
    both = all(face.reannotated is not None for face in faces)
    return ["original", "reannotated"] if both else ["original"]
