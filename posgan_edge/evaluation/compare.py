"""Comparing two benchmark documents."""

from __future__ import annotations

from dataclasses import dataclass

from posgan_edge.errors import BadInput
from posgan_edge.evaluation.document import Benchmark, EngineRow, Openness

#: Points of NME by which a mean may rise before it counts as worse.
TOLERANCE = 0.02
#: By how much a correlation may fall before it counts as worse.
R_TOLERANCE = 0.02


@dataclass(frozen=True)
class Change:
    """One figure of one engine before and after. ``worse``: the comparison fails because of it."""

    engine: str
    figure: str
    before: float
    after: float
    worse: bool = False

    @property
    def delta(self) -> float:
        """``after`` minus ``before``."""
        return self.after - self.before


def compare(
    before: Benchmark,
    after: Benchmark,
    fail_above: float = TOLERANCE,
    slower_above: float | None = None,
) -> list[Change]:
    """Returns the change of every figure of the engines that are in both documents.

    If no name is in both and each document has one engine, these two are compared. Worse are: an
    NME that rises by more than ``fail_above`` points, a correlation of eye or mouth openness that
    falls by more than ``R_TOLERANCE``, and more faces missed. With ``slower_above``, a p90 latency
    of more than that times the old one is worse too; this makes sense only for two runs on the
    same idle machine. Raises BadInput if the faces or settings differ, or no engines can be
    compared.
    """
    for key in ("crop", "passes", "mirror", "turn"):
        old, new = getattr(before.settings, key), getattr(after.settings, key)
        if old != new:
            raise BadInput(f"cannot be compared: {key} is {old} in one and {new} in the other")
    if before.faces.keys() != after.faces.keys():
        raise BadInput(
            f"cannot be compared: {len(before.faces)} faces in one, {len(after.faces)} in "
            "the other, or others"
        )
    pairs = {name: name for name in before.engines if name in after.engines}
    if not pairs:
        pairs = _only(before, after)
    changes: list[Change] = []
    for name, other in pairs.items():
        sets = before.engines[name].landmarks, after.engines[other].landmarks
        if sets[0] != sets[1]:
            raise BadInput(
                f"cannot be compared: {name}: the landmark set is {sets[0]} in one and {sets[1]} "
                "in the other"
            )
        figures = _figures(before.engines[name]), _figures(after.engines[other])
        shown = name if name == other else f"{name} -> {other}"
        for figure in sorted(figures[0].keys() & figures[1].keys()):
            a, b = figures[0][figure], figures[1][figure]
            worse = (
                (figure.startswith("NME") and b - a > fail_above)
                or (figure.startswith("r of") and a - b > R_TOLERANCE)
                or (figure == "faces missed" and b > a)
            )
            if figure == "p90, ms" and slower_above is not None:
                worse = b > a * slower_above
            changes.append(Change(shown, figure, a, b, worse))
    return changes


def _only(before: Benchmark, after: Benchmark) -> dict[str, str]:
    """Returns the names of the only engine of each document, references not counted."""
    names = [
        [name for name, row in document.engines.items() if not row.reference]
        for document in (before, after)
    ]
    if [len(found) for found in names] != [1, 1]:
        both = (", ".join(document.engines) or "none" for document in (before, after))
        raise BadInput(f"no engine in common: {' and '.join(both)}")
    return {names[0][0]: names[1][0]}


def _figures(row: EngineRow) -> dict[str, float]:
    figures: dict[str, float | None] = {
        "faces missed": float(len(row.missed)),
        "megabytes": row.megabytes,
    }
    for label_set, scores in row.labels.items():
        figures[f"NME {label_set}, mean of all"] = scores.mean
        figures[f"NME {label_set}, mean of yaw bins"] = scores.mean_of_yaw_bins
    if row.pose_mae is not None:
        figures["head pose, degrees"] = row.pose_mae["mean"]
    if row.expression is not None:
        figures |= _expression(row.expression)
    if row.deviation_px is not None:
        figures["deviation from the reference, px"] = row.deviation_px.mean
    if row.latency_ms is not None:
        figures["p90, ms"] = row.latency_ms.p90
        figures["jitter, %"] = row.jitter_percent
    return {name: value for name, value in figures.items() if value is not None}


def _expression(scores: Openness) -> dict[str, float]:
    """Returns the figures of a set with human points. A correlation of None counts as 0."""
    figures = {"NME human, inner points": scores.nme["inner"]}
    figures |= {f"{part}: NME, %": scores.nme[part] for part in ("eyes", "mouth")}
    for part, agreement in (("eyes", scores.eyes), ("mouth", scores.mouth)):
        figures[f"r of {part} openness"] = agreement.r or 0.0
    if scores.closed.auc is not None:
        figures["closed eyes, area under the ROC"] = scores.closed.auc
    return figures
