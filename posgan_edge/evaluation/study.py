"""One benchmark: all engines scored and timed on the same faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from posgan_edge.engines import Engine, load_engine
from posgan_edge.engines.loader import model_path
from posgan_edge.errors import BadInput, PosganError
from posgan_edge.evaluation import profile
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.document import Benchmark, EngineRow, Openness, Settings
from posgan_edge.evaluation.expression import score_expression
from posgan_edge.evaluation.human68 import HUMAN
from posgan_edge.evaluation.latency import Latency, Timing
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
from posgan_edge.geometry.layout import HUMAN_SET, UvLayout, load_layout
from posgan_edge.progress import Progress, silent
from posgan_edge.system import machine_block

#: Number of faces, spread over the set, on which jitter and stages are measured.
SOME = 32


@dataclass
class Study:
    """The result: the document, and the values that only the report's pictures need.

    ``predictions`` and ``times`` (n,), in milliseconds, are by engine.
    """

    document: Benchmark
    faces: Sequence[LabelledFace]
    predictions: dict[str, list[Prediction | None]]
    times: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def reference_model(name: str) -> str:
    """Returns the file of the shipped PyTorch weights for ``torch``, else ``name`` itself."""
    if name != "torch":
        return name
    return str(resources.files("posgan_edge.assets") / "edge.safetensors")


def run_study(
    settings: Settings,
    faces: Sequence[LabelledFace],
    detector: Detector | None,
    progress: Progress = silent,
) -> Study:
    """Scores and, if ``settings.rounds`` is above 0, times all engines.

    Raises BadInput if an engine finds no face at all, and PosganError for an engine that cannot be
    loaded.
    """
    models = {name: name for name in settings.engines}
    reference = f"reference: {settings.reference}"
    if settings.reference:
        models[reference] = reference_model(settings.reference)
    # One thread each, so that times do not depend on the load of the other cores.
    engines = {name: load_engine(model, threads=1) for name, model in models.items()}
    # The speed of a machine changes over minutes, so the engines are timed at three moments.
    blocks = [_timed_block(engines, settings, progress)]
    unreadable: dict[str, str] = {}
    layouts = {name: scored_layout(engine, settings) for name, engine in engines.items()}
    predictions = {
        name: _predict(engine, name, settings, faces, detector, unreadable, progress, layouts[name])
        for name, engine in engines.items()
    }
    rows: dict[str, EngineRow] = {}
    for name, engine in engines.items():
        found = predictions[name]
        if not any(found):
            raise BadInput(f"{name}: no face was found in any of {len(faces)} photos")
        scores = score(faces, found, settings.label_sets)
        rows[name] = EngineRow(
            engine=engine.info,
            megabytes=model_path(models[name]).stat().st_size / 1e6,
            reference=name == reference,
            faces=scores.faces,
            missed=[n for n in scores.missed if n not in unreadable],
            labels=scores.labels,
            nme_3d=scores.nme_3d,
            pose_mae=scores.pose_mae,
            per_face=scores.per_face,
            expression=(
                _openness(faces, found, scores.per_face) if HUMAN in settings.label_sets else None
            ),
            landmarks=layouts[name].landmark_set,
            deviation_px=deviation(found, predictions[reference]) if settings.reference else None,
        )
    document = Benchmark(
        settings=settings,
        machine=machine_block(),
        faces={face.name: _rounded(face.angles) for face in faces},
        unreadable=unreadable,
        engines=rows,
    )
    study = Study(document, faces, predictions)
    if settings.rounds:
        _measure(study, settings, models, engines, detector, blocks, progress)
    for engine in engines.values():
        engine.close()
    return study


def scored_layout(engine: Engine, settings: Settings) -> UvLayout:
    """Returns the engine's layout with the landmarks that are scored.

    Unless the settings name a set, people's points are compared with the set ``300w`` if the
    layout has it, and all others with ``aflw``. Raises BadInput for a set that the layout lacks.
    """
    layout = load_layout(engine.info.layout)
    if settings.landmarks is not None:
        return layout.with_landmarks(settings.landmarks)
    human = HUMAN in settings.label_sets and HUMAN_SET in layout.landmark_sets
    return layout.with_landmarks(HUMAN_SET) if human else layout


def _openness(
    faces: Sequence[LabelledFace],
    found: Sequence[Prediction | None],
    per_face: dict[str, dict[str, float]],
) -> Openness:
    """Returns the figures of human points. Adds the NME of each part to ``per_face``."""
    scores = score_expression(faces, found)
    for name, parts in scores.per_face.items():
        per_face[name] |= parts
    return Openness(**{key: getattr(scores, key) for key in Openness.__struct_fields__})


def _rounded(angles: NDArray[np.float64] | None) -> list[float]:
    return [] if angles is None else [round(float(a), 3) for a in angles]


def _predict(
    engine: Engine,
    name: str,
    settings: Settings,
    faces: Sequence[LabelledFace],
    detector: Detector | None,
    unreadable: dict[str, str],
    progress: Progress,
    layout: UvLayout,
) -> list[Prediction | None]:
    def scoring(_: str, done: int, total: int, /) -> None:
        progress(f"scoring {name}", done, total)

    def fail(face: LabelledFace, error: PosganError) -> None:
        unreadable[face.name] = str(error)

    if settings.crop == "gt" and settings.passes == 1 and not settings.mirror:
        return list(predict_from_labels(engine, faces, 16, scoring, fail, layout=layout))
    finder = detector if settings.crop == "detector" else None
    return list(
        predict_from_photos(
            engine, faces, finder, settings.passes, settings.mirror, scoring, fail, layout
        )
    )


def _measure(
    study: Study,
    settings: Settings,
    models: dict[str, str],
    engines: dict[str, Engine],
    detector: Detector | None,
    blocks: list[dict[str, NDArray[np.float64]]],
    progress: Progress,
) -> None:
    """Adds latency, jitter, memory and energy to the document."""
    blocks.append(_timed_block(engines, settings, progress))
    some = [f for f in study.faces if f.name not in study.document.unreadable]
    some = some[:: max(1, len(some) // SOME)][:SOME]
    rows: dict[str, EngineRow] = {}
    for index, (name, engine) in enumerate(engines.items()):
        progress("stages, sweeps, memory", index, len(engines))
        clocks = profile.gpu_clocks(engine, settings.rounds)
        on_gpu = {f"{clock}_ms": Latency.of(times) for clock, times in clocks.items()}
        rows[name] = replace(
            study.document.engines[name],
            jitter_percent=jitter(engine, some),
            batch_ms=_figures(profile.batch_sweep(engine)),
            threads_ms=_figures(profile.thread_sweep(models[name])) or None,
            stages_ms=_figures(profile.stages(engine, some, detector)),
            cold_start=cold_start(models[name]),
            energy=measure_energy(engine.warm_up, gpu=engine.on_gpu),
            **on_gpu,
        )
    progress("stages, sweeps, memory", len(engines), len(engines))
    blocks.append(_timed_block(engines, settings, progress))
    turns = profile.summed_up(blocks)
    study.times = turns.times
    for name, row in rows.items():
        latency = turns.latency[name]
        timing = Timing(
            clock="host, end to end, batch 1",
            **asdict(latency),
            ratio=turns.ratios[name],
        )
        rows[name] = replace(row, latency_ms=timing)
    study.document = replace(study.document, engines=rows)


def _timed_block(
    engines: dict[str, Engine], settings: Settings, progress: Progress
) -> dict[str, NDArray[np.float64]]:
    """Times the engines for a third of the rounds."""
    rounds = -(-settings.rounds // 3)
    return profile.engines_in_turns(engines, rounds, progress) if rounds else {}


def _figures(latencies: Mapping[Any, Latency]) -> dict[str, Latency]:
    return {str(key): latency for key, latency in latencies.items()}
