"""One benchmark: every engine scored, timed and weighed on the same faces, as one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines import Engine, load_engine
from posgan_edge.engines.loader import model_path
from posgan_edge.errors import BadInput, PosganError
from posgan_edge.evaluation import profile
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.expression import score_expression
from posgan_edge.evaluation.human68 import HUMAN
from posgan_edge.evaluation.latency import Latency
from posgan_edge.evaluation.power import measure_energy
from posgan_edge.evaluation.probe import cold_start
from posgan_edge.evaluation.scoring import (
    Prediction,
    predict_from_labels,
    predict_from_photos,
    score,
)
from posgan_edge.evaluation.stability import deviation, jitter
from posgan_edge.faces.detector import Detector
from posgan_edge.system import machine_block

SCHEMA = 2
NOT_MEASURED = "not measured"
#: Faces that jitter and stages are measured on, spread over the set.
SOME = 32

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """What is measured. ``reference`` is a model that the others are compared with, or empty."""

    engines: tuple[str, ...]
    label_sets: tuple[str, ...]
    reference: str = ""
    crop: str = "gt"
    passes: int = 1
    mirror: bool = False
    turn: float = 0.0
    excluded: str = ""
    sample: int | None = None  # faces drawn at random
    seed: int | None = None  # of the draw
    rounds: int = 0  # of latency; 0: accuracy alone


@dataclass
class Study:
    """What came out: the document for JSON, and what only the report's pictures need."""

    document: dict[str, Any]
    faces: Sequence[LabelledFace]
    predictions: dict[str, list[Prediction | None]]
    times: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def reference_model(name: str) -> str:
    """The file of ``torch``, the shipped weights run by PyTorch, or the model itself."""
    if name != "torch":
        return name
    return str(resources.files("posgan_edge.assets") / "edge.safetensors")


def run_study(
    settings: Settings,
    faces: Sequence[LabelledFace],
    detector: Detector | None,
    report: Report = lambda what, done, total: None,
) -> Study:
    """Measures everything. Raises BadInput where an engine finds no face at all."""
    models = {name: name for name in settings.engines}
    reference = f"reference: {settings.reference}"
    if settings.reference:
        models[reference] = reference_model(settings.reference)
    # One thread each, so that times compare, and do not hang on what the other core does.
    engines = {name: load_engine(model, threads=1) for name, model in models.items()}
    # The machine is quick or slow for minutes, so the engines are timed in three sittings.
    sittings = [_sitting(engines, settings, report)]
    unreadable: dict[str, str] = {}
    predictions = {
        name: _predict(engine, name, settings, faces, detector, unreadable, report)
        for name, engine in engines.items()
    }
    rows: dict[str, Any] = {}
    for name, engine in engines.items():
        found = predictions[name]
        if not any(found):
            raise BadInput(f"{name}: no face was found in any of {len(faces)} photos")
        scores = score(faces, found, settings.label_sets)
        row = {"engine": asdict(engine.info), "megabytes": _megabytes(models[name])}
        row |= {"reference": name == reference, **asdict(scores)}
        if HUMAN in settings.label_sets:
            _add_expression(row, faces, found)
        row["missed"] = [n for n in scores.missed if n not in unreadable]
        compared = deviation(found, predictions[reference]) if settings.reference else None
        row["deviation_px"] = asdict(compared) if compared else NOT_MEASURED
        rows[name] = row
    document = {
        "schema": SCHEMA,
        "settings": asdict(settings),
        "machine": machine_block(),
        "faces": {face.name: _rounded(face.angles) for face in faces},
        "unreadable": unreadable,
        "engines": rows,
    }
    study = Study(document, faces, predictions)
    if settings.rounds:
        _measure(study, settings, models, engines, detector, sittings, report)
    for engine in engines.values():
        engine.close()
    return study


def _add_expression(
    row: dict[str, Any], faces: Sequence[LabelledFace], found: Sequence[Prediction | None]
) -> None:
    expression = asdict(score_expression(faces, found))
    for name, parts in expression.pop("per_face").items():
        row["per_face"][name] |= parts
    row["expression"] = expression


def _rounded(angles: NDArray[np.float64] | None) -> list[float]:
    return [] if angles is None else [round(float(a), 3) for a in angles]


def _predict(
    engine: Engine,
    name: str,
    settings: Settings,
    faces: Sequence[LabelledFace],
    detector: Detector | None,
    unreadable: dict[str, str],
    report: Report,
) -> list[Prediction | None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        report(f"scoring {name}", done, len(faces))

    def fail(face: LabelledFace, error: PosganError) -> None:
        unreadable[face.name] = str(error)

    if settings.crop == "gt" and settings.passes == 1 and not settings.mirror:
        return list(predict_from_labels(engine, faces, 16, advance, fail))
    finder = detector if settings.crop == "detector" else None
    return list(
        predict_from_photos(engine, faces, finder, settings.passes, settings.mirror, advance, fail)
    )


def _measure(
    study: Study,
    settings: Settings,
    models: dict[str, str],
    engines: dict[str, Engine],
    detector: Detector | None,
    sittings: list[dict[str, NDArray[np.float64]]],
    report: Report,
) -> None:
    """Latency, jitter, memory and energy, into the document."""
    sittings.append(_sitting(engines, settings, report))
    some = [f for f in study.faces if f.name not in study.document["unreadable"]]
    some = some[:: max(1, len(some) // SOME)][:SOME]
    for index, (name, engine) in enumerate(engines.items()):
        report("stages, sweeps, memory", index, len(engines))
        row = study.document["engines"][name]
        row["jitter_percent"] = jitter(engine, some)
        clocks = profile.gpu_clocks(engine, settings.rounds)
        for clock in ("gpu_compute", "device_pipeline"):
            times = clocks.get(clock)
            row[f"{clock}_ms"] = NOT_MEASURED if times is None else asdict(Latency.of(times))
        row["batch_ms"] = _figures(profile.batch_sweep(engine))
        row["threads_ms"] = _figures(profile.thread_sweep(models[name])) or NOT_MEASURED
        row["stages_ms"] = _figures(profile.stages(engine, some, detector))
        row["cold_start"] = asdict(cold_start(models[name]))
        energy = measure_energy(lambda e=engine: e.warm_up(), gpu=engine.on_gpu)  # type: ignore[misc]
        row["energy"] = asdict(energy) if energy else NOT_MEASURED
    report("stages, sweeps, memory", len(engines), len(engines))
    sittings.append(_sitting(engines, settings, report))
    turns = profile.summed_up(sittings)
    study.times = turns.times
    for name, row in study.document["engines"].items():
        row["latency_ms"] = {
            "clock": "host, end to end, batch 1",
            **asdict(turns.latency[name]),
            "unstable": turns.latency[name].unstable,
            "ratio": asdict(turns.ratios[name]),
        }


def _sitting(
    engines: dict[str, Engine], settings: Settings, report: Report
) -> dict[str, NDArray[np.float64]]:
    """A third of the rounds."""
    done, rounds = 0, -(-settings.rounds // 3)

    def advance() -> None:
        nonlocal done
        done += 1
        report("engines in turns", done, rounds + 10)

    return profile.engines_in_turns(engines, rounds, advance) if rounds else {}


def _figures(latencies: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): asdict(latency) for key, latency in latencies.items()}


def _megabytes(model: str) -> float:
    return model_path(model).stat().st_size / 1e6
