"""The typed document of a benchmark. ``compare`` and the report read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from msgspec import field

from posgan_edge.documents import Document, load, nan_to_none
from posgan_edge.engines.base import EngineInfo
from posgan_edge.errors import BadInput
from posgan_edge.evaluation.expression import Agreement, Roc
from posgan_edge.evaluation.latency import Latency, Timing
from posgan_edge.evaluation.power import Energy
from posgan_edge.evaluation.probe import ColdStart
from posgan_edge.evaluation.scoring import LabelScores
from posgan_edge.evaluation.stability import Deviation

SCHEMA = 2
#: Version 0.1 wrote this text for a figure that was not measured; now it is None.
_NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Settings:
    """What is measured.

    ``reference`` is the model that the others are compared with, or empty. ``turn`` is in degrees.
    ``landmarks`` is the landmark set asked for; None means the one that fits the labels.
    """

    engines: tuple[str, ...]
    label_sets: tuple[str, ...]
    reference: str = ""
    crop: str = "gt"
    passes: int = 1
    mirror: bool = False
    turn: float = 0.0
    excluded: str = ""
    sample: int | None = None  # number of faces chosen at random
    seed: int | None = None  # random seed of the sample
    rounds: int = 0  # timed calls of each engine; 0: no latency is measured
    landmarks: str | None = None


def _check_keys(values: Mapping[str, object], name: str, *keys: str) -> None:
    if absent := [key for key in keys if key not in values]:
        raise ValueError(f"key {absent[0]!r} is missing in {name}")


class Openness(Document, frozen=True):
    """Figures of a set with human points (see ``expression.Expression``)."""

    nme: dict[str, float]
    eyes: Agreement
    mouth: Agreement
    closed: Roc
    ours: dict[str, dict[str, float]]
    human: dict[str, dict[str, float]]

    def __post_init__(self) -> None:
        _check_keys(self.nme, "nme", "inner", "eyes", "mouth")


class EngineRow(Document, frozen=True):
    """Figures of one engine (see ``scoring.Scores``). None means not measured.

    ``megabytes`` is the size of its file; ``jitter_percent`` is in percent of the face's size.
    ``landmarks`` is the landmark set that was scored (see ``UvLayout``).
    """

    engine: EngineInfo
    megabytes: float
    reference: bool
    faces: int
    missed: list[str]
    labels: dict[str, LabelScores]
    nme_3d: float | None
    pose_mae: dict[str, float | None] | None
    per_face: dict[str, dict[str, float]]
    expression: Openness | None = None
    deviation_px: Deviation | None = None
    jitter_percent: float | None = None
    gpu_compute_ms: Latency | None = None
    device_pipeline_ms: Latency | None = None
    batch_ms: dict[str, Latency] | None = None
    threads_ms: dict[str, Latency] | None = None
    stages_ms: dict[str, Latency] | None = None
    cold_start: ColdStart | None = None
    energy: Energy | None = None
    latency_ms: Timing | None = None
    landmarks: str = "aflw"

    def __post_init__(self) -> None:
        if self.pose_mae is not None:
            _check_keys(self.pose_mae, "pose_mae", "mean")


class Benchmark(Document, frozen=True):
    """A whole benchmark.

    ``faces`` maps names to labelled angles in degrees (pitch, yaw, roll), or to an empty list if
    there are no such labels. ``unreadable`` maps names of photos to the reason.
    """

    kind: ClassVar[str] = "benchmark"

    settings: Settings
    machine: dict[str, Any]
    faces: dict[str, list[float]]
    engines: dict[str, EngineRow]
    unreadable: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


def load_benchmark(path: str | Path) -> Benchmark:
    """Reads a document that ``benchmark --json`` wrote, in this version or in 0.1.

    Raises BadInput for any other file.
    """

    def upgrade(content: Any) -> Any:
        if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
            raise BadInput(
                f"{path}: benchmark schema {content['schema']}, not {SCHEMA}: "
                "run the benchmark again"
            )
        content = nan_to_none(content)
        engines = content.get("engines") if isinstance(content, dict) else None
        for row in engines.values() if isinstance(engines, dict) else ():
            if isinstance(row, dict):
                row.update({k: None for k, value in row.items() if value == _NOT_MEASURED})
        return content

    return load(path, Benchmark, upgrade)
