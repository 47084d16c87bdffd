"""What changed between two benchmark documents, and whether it became worse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posgan_edge.errors import BadInput
from posgan_edge.evaluation.study import SCHEMA

#: Points of NME by which a mean may rise before it counts as worse.
TOLERANCE = 0.02
#: By how much a correlation may fall.
R_TOLERANCE = 0.02


@dataclass(frozen=True)
class Change:
    """One figure of one engine before and after. ``worse`` only where it fails a comparison."""

    engine: str
    figure: str
    before: float
    after: float
    worse: bool = False

    @property
    def delta(self) -> float:
        return self.after - self.before


def load_document(path: str | Path) -> dict[str, Any]:
    """A document that ``benchmark --json`` wrote. Raises BadInput for any other file."""
    try:
        document = json.loads(Path(path).read_text())
        schema = document["schema"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path}: not a benchmark's JSON: {type(error).__name__} {error}") from error
    if schema != SCHEMA:
        raise BadInput(f"{path}: benchmark schema {schema}, not {SCHEMA}: run the benchmark again")
    return dict(document)


def compare(
    before: dict[str, Any],
    after: dict[str, Any],
    fail_above: float = TOLERANCE,
    slower_above: float | None = None,
) -> list[Change]:
    """Figures of the engines in both, by name.

    Worse: an NME that rises by more than ``fail_above`` points, a correlation of eye or mouth
    openness that falls by more than ``R_TOLERANCE``, more faces missed, and with
    ``slower_above`` a p90 latency of more than that times the old one (two runs on one quiet
    machine; else it says little). Raises BadInput where other faces were scored, in another way,
    or the documents share no engine.
    """
    for key in ("crop", "passes", "mirror", "turn"):
        old, new = before["settings"][key], after["settings"][key]
        if old != new:
            raise BadInput(f"cannot be compared: {key} is {old} in one and {new} in the other")
    if before["faces"].keys() != after["faces"].keys():
        raise BadInput(
            f"cannot be compared: {len(before['faces'])} faces in one, {len(after['faces'])} in "
            "the other, or others"
        )
    shared = [name for name in before["engines"] if name in after["engines"]]
    if not shared:
        raise BadInput(
            f"no engine in common: {', '.join(before['engines'])} and {', '.join(after['engines'])}"
        )
    changes: list[Change] = []
    for name in shared:
        old, new = before["engines"][name], after["engines"][name]
        figures = _figures(old), _figures(new)
        for figure in figures[0].keys() & figures[1].keys():
            a, b = figures[0][figure], figures[1][figure]
            worse = (
                (figure.startswith("NME") and b - a > fail_above)
                or (figure.startswith("r of") and a - b > R_TOLERANCE)
                or (figure == "faces missed" and b > a)
            )
            if figure == "p90, ms" and slower_above is not None:
                worse = b > a * slower_above
            changes.append(Change(name, figure, a, b, worse))
    return sorted(changes, key=lambda c: (shared.index(c.engine), c.figure))


def _figures(row: dict[str, Any]) -> dict[str, float]:
    figures = {"faces missed": float(len(row["missed"])), "megabytes": row["megabytes"]}
    for label_set, scores in row["labels"].items():
        figures[f"NME {label_set}, mean of all"] = scores["mean"]
        if scores["mean_of_yaw_bins"] is not None:
            figures[f"NME {label_set}, mean of yaw bins"] = scores["mean_of_yaw_bins"]
    if row["pose_mae"] is not None:
        figures["head pose, degrees"] = row["pose_mae"]["mean"]
    if row.get("expression") is not None:
        figures |= _expression(row["expression"])
    if isinstance(row.get("deviation_px"), dict):
        figures["deviation from the reference, px"] = row["deviation_px"]["mean"]
    if "latency_ms" in row:
        figures["p90, ms"] = row["latency_ms"]["p90"]
        figures["jitter, %"] = row["jitter_percent"]
    return {name: value for name, value in figures.items() if value == value}


def _expression(scores: dict[str, Any]) -> dict[str, float]:
    """The figures of a set with human points. A correlation that does not exist counts as 0."""
    figures = {"NME human, inner points": scores["nme"]["inner"]}
    figures |= {f"{part}: NME, %": scores["nme"][part] for part in ("eyes", "mouth")}
    figures |= {f"r of {part} openness": scores[part]["r"] or 0.0 for part in ("eyes", "mouth")}
    if scores["closed"]["auc"] is not None:
        figures["closed eyes, area under the ROC"] = scores["closed"]["auc"]
    return figures
