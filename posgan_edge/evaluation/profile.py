"""Timing engines in turns, the stages of a photo, batches and threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import Engine
from posgan_edge.engines.device import DeviceEngine
from posgan_edge.engines.kernels import Graphs
from posgan_edge.engines.loader import load_engine, model_path
from posgan_edge.errors import PosganError
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.latency import Latency, Ratio
from posgan_edge.faces.detector import Detector
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.faces.values import Frame
from posgan_edge.geometry.values import FaceBox
from posgan_edge.progress import Progress, silent
from posgan_edge.render.draw import draw_faces
from posgan_edge.timing import take_turns

BATCHES = (1, 2, 4, 8, 16)
STAGES = ("detect", "crop", "network", "landmarks", "draw")
_ROUNDS = 40  # calls for each batch size or thread count


@dataclass(frozen=True)
class Turns:
    """Engines timed in turns, one image per call: times (n,) in milliseconds and statistics."""

    times: dict[str, NDArray[np.float64]]
    latency: dict[str, Latency]
    ratios: dict[str, Ratio]  # to the last engine, which is the reference if there is one


def engines_in_turns(
    engines: Mapping[str, Engine], rounds: int, progress: Progress = silent
) -> dict[str, NDArray[np.float64]]:
    """Returns times (rounds,) in milliseconds for each engine: host clock, end to end, batch 1."""
    calls = {name: _call(engine, 1) for name, engine in engines.items()}
    return take_turns(calls, rounds, 10, progress)


def summed_up(blocks: Sequence[Mapping[str, NDArray[np.float64]]]) -> Turns:
    """Returns the statistics of several results of ``engines_in_turns`` taken together."""
    times = {name: np.concatenate([s[name] for s in blocks]) for name in blocks[0]}
    base = list(times.values())[-1]
    return Turns(
        times=times,
        latency={name: Latency.of(t, 10) for name, t in times.items()},
        ratios={name: Ratio.of(t, base) for name, t in times.items()},
    )


def _call(engine: Engine, batch: int) -> Callable[[], Any]:
    size = engine.info.input_size
    images = np.random.default_rng(0).random((batch, 3, size, size), np.float32)
    return lambda: engine.infer(images)


def batch_sweep(engine: Engine, rounds: int = _ROUNDS) -> dict[int, Latency]:
    """Returns the latency of a whole batch for each batch size that the engine takes."""
    sizes = [n for n in BATCHES if not engine.info.batch or n <= engine.info.batch]
    times = take_turns({str(n): _call(engine, n) for n in sizes}, rounds, 3)
    return {int(n): Latency.of(t, 3) for n, t in times.items()}


def thread_sweep(model: str, rounds: int = _ROUNDS) -> dict[int, Latency]:
    """Returns the latency of an ONNX model for each number of CPU threads, timed in turns.

    The result is empty for engines without this setting.
    """
    if model_path(model).suffix != ".onnx":
        return {}
    counts = [n for n in (1, 2, 4, 8, 16) if n <= (os.cpu_count() or 1)]
    with ExitStack() as opened:
        engines = {}
        for count in counts:
            engines[count] = opened.enter_context(load_engine(model, threads=count))
            if engines[count].info.threads != count:  # on a GPU
                return {}
        times = take_turns({str(n): _call(e, 1) for n, e in engines.items()}, rounds, 3)
    return {int(n): Latency.of(t, 3) for n, t in times.items()}


def gpu_clocks(engine: Engine, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Returns times (rounds,) in milliseconds on the GPU's clock, for one image.

    ``gpu_compute`` is the network alone; ``device_pipeline`` includes upload and download. Each
    runs as a CUDA graph if possible. The result is empty for an engine without a GPU.
    """
    if not isinstance(engine, DeviceEngine):
        return {}
    engine.warm_up()
    graphs = Graphs(engine, lambda _, network: network())
    works: dict[str, Callable[[], object]] = {
        "gpu_compute": lambda: graphs.launch(1),
        "device_pipeline": lambda: engine.launch(1),
    }
    times = {name: np.empty(rounds) for name in works}
    with engine.current():
        for round_ in range(-1, rounds):
            for name, work in works.items():
                start, end = engine.cuda.Event(), engine.cuda.Event()
                start.record(engine.stream)
                work()
                end.record(engine.stream)
                end.synchronize()
                times[name][max(0, round_)] = start.time_till(end)
        graphs.close()
    return times


def stages(
    engine: Engine, faces: Sequence[LabelledFace], detector: Detector | None
) -> dict[str, Latency]:
    """Returns the latency of each stage of ``run`` on photos: two passes, with drawing.

    Without a detector, the label boxes are used and the stage ``detect`` is left out. Photos that
    cannot be read are skipped.
    """
    pipeline = FacePipeline(engine, detector)
    taken: dict[str, list[float]] = {name: [] for name in (*STAGES, "total")}
    for face in faces:
        try:
            image = face.image()
        except PosganError:
            continue
        boxes = None if detector is not None else [FaceBox.around(face.original)]
        found = pipeline.process(Frame(image), boxes, keep_all=boxes is not None)
        if not found:
            continue
        start = time.perf_counter()
        draw_faces(image, found)
        drawn = (time.perf_counter() - start) * 1e3
        times = {**pipeline.timings_ms, "draw": drawn}
        times["total"] += drawn
        for name, value in times.items():
            taken[name].append(value)
    if detector is None:
        del taken["detect"]
    return {name: Latency.of(np.array(t)) for name, t in taken.items() if t}
