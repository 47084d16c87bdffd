"""Scoring landmarks against human points: inner points, eyes and mouth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.scoring import Prediction
from posgan_edge.geometry.landmarks import openness
from posgan_edge.geometry.metrics import box_size

#: iBUG-68 indices of the parts of the face that are scored separately.
PARTS: dict[str, tuple[int, ...]] = {
    "inner": tuple(range(17, 68)),
    "eyes": tuple(range(36, 48)),
    "mouth": tuple(range(48, 68)),
    "nose": tuple(range(27, 36)),
    "brows": tuple(range(17, 27)),
    "all": tuple(range(68)),
}
#: The human ratio of height to width below which an eye counts as closed.
CLOSED = 0.15
EYES = ("right_eye", "left_eye")


@dataclass(frozen=True)
class Agreement:
    """Measured openness compared with the human one.

    ``n`` is the number of pairs. ``r`` is the Pearson correlation, None if one side does not vary.
    ``mae`` is the mean absolute error, None if ``n`` is 0.
    """

    n: int
    r: float | None
    mae: float | None


@dataclass(frozen=True)
class Roc:
    """ROC curve of detecting closed eyes by the measured ratio of height to width.

    An eye is truly closed if its human ratio is below ``below``. ``auc`` is the probability that a
    closed eye has a lower ratio than an open one, ties counted half; None if there are no closed
    or no open eyes. The lists hold the corners of the curve. ``thresholds``: the ratio up to which
    an eye is called closed (None: no eye is). ``false_alarms`` and ``hits``: the shares of open
    and of closed eyes that are then called closed.
    """

    below: float
    closed: int
    open: int
    auc: float | None
    thresholds: list[float | None] = field(default_factory=list)
    false_alarms: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Expression:
    """Figures over the faces that were found.

    ``nme`` is in percent by part (see ``PARTS``). ``eyes`` holds both eyes together. ``per_face``
    maps names to the NME of each part; ``ours`` and ``human`` map them to openness ratios.
    """

    nme: dict[str, float]
    eyes: Agreement
    mouth: Agreement
    closed: Roc
    per_face: dict[str, dict[str, float]]
    ours: dict[str, dict[str, float]]
    human: dict[str, dict[str, float]]


def score_expression(
    faces: Sequence[LabelledFace], predictions: Sequence[Prediction | None]
) -> Expression:
    """Returns the scores of predictions, one per face, against the labels ``original``.

    A prediction is None if the face was not found; at least one must be found.
    """
    pairs = zip(faces, predictions, strict=True)
    return score_points({f.name: (p.landmarks, f.original) for f, p in pairs if p is not None})


def score_points(points: Mapping[str, tuple[FloatArray, FloatArray]]) -> Expression:
    """Returns the scores of landmarks.

    ``points`` maps names of faces, at least one, to (measured, human), each (68, 2 or 3) in
    pixels. Only x and y are used, because human points have no depth.
    """
    per_face = {name: part_nme(*pair) for name, pair in points.items()}
    ours = {name: openness(measured[:, :2]) for name, (measured, _) in points.items()}
    human = {name: openness(truth[:, :2]) for name, (_, truth) in points.items()}
    eyes, human_eyes = (_ratios(by, EYES) for by in (ours, human))
    mouth, human_mouth = (_ratios(by, ("mouth",)) for by in (ours, human))
    return Expression(
        nme={part: float(np.mean([row[part] for row in per_face.values()])) for part in PARTS},
        eyes=agreement(eyes, human_eyes),
        mouth=agreement(mouth, human_mouth),
        closed=roc(eyes, human_eyes),
        per_face=per_face,
        ours=ours,
        human=human,
    )


def _ratios(by_face: Mapping[str, Mapping[str, float]], keys: Sequence[str]) -> NDArray[np.float64]:
    return np.array([ratios[key] for ratios in by_face.values() for key in keys])


def part_nme(measured: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Returns the 2D NME of each part of one face, in percent.

    Both arrays are (68, 2 or 3) in pixels. The NME is the mean distance divided by the
    ``box_size`` of all 68 true points.
    """
    distance = np.linalg.norm(measured[:, :2] - truth[:, :2], axis=1)
    size = box_size(truth)
    return {p: float(100 * distance[list(i)].mean() / size) for p, i in PARTS.items()}


def agreement(measured: FloatArray, human: FloatArray) -> Agreement:
    """Returns how well ratios (n,) agree with human ones (n,)."""
    mae = float(np.abs(measured - human).mean()) if len(human) else None
    return Agreement(len(human), pearson(measured, human), mae)


def pearson(a: FloatArray, b: FloatArray) -> float | None:
    """Returns the Pearson correlation of (n,) and (n,), or None if one of them does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def roc(measured: FloatArray, human: FloatArray, below: float = CLOSED) -> Roc:
    """Returns the ROC curve for measured ratios (n,) and human ones (n,) of the same eyes."""
    shut = human < below
    closed, opened = int(shut.sum()), int((~shut).sum())
    if not closed or not opened:
        return Roc(below, closed, opened, None)
    levels, places = np.unique(measured, return_inverse=True)
    hits = _shares(places[shut], len(levels))
    alarms = _shares(places[~shut], len(levels))
    auc = float((np.diff(alarms) * (hits[1:] + hits[:-1]) / 2).sum())
    corners = _corners(alarms * opened, hits * closed)
    return Roc(
        below,
        closed,
        opened,
        auc,
        [None if i == 0 else float(levels[i - 1]) for i in corners],
        alarms[corners].tolist(),
        hits[corners].tolist(),
    )


def _shares(places: NDArray[np.integer[Any]], count: int) -> NDArray[np.float64]:
    """Returns (count + 1,): the shares of values in the first 0, 1, 2 ... levels."""
    return np.concatenate([[0.0], np.cumsum(np.bincount(places, minlength=count)) / len(places)])


def _corners(x: FloatArray, y: FloatArray) -> NDArray[np.int64]:
    """Returns the indices of the first point, the last, and those where the path changes
    direction. Steps are whole numbers."""
    steps = np.round(np.stack([np.diff(x), np.diff(y)]))
    bends = steps[0, 1:] * steps[1, :-1] != steps[0, :-1] * steps[1, 1:]
    return np.flatnonzero(np.concatenate([[True], bends, [True]]))
