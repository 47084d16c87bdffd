"""The live loop: capture, tracking and sinks, each on a thread of its own."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.errors import PosganError
from posgan_edge.faces.tracker import FaceTracker
from posgan_edge.faces.values import Frame
from posgan_edge.live.capture import Capture, CaptureCounts
from posgan_edge.live.sinks import Result, Sink, WindowSink
from posgan_edge.live.stages import StageSummary, StageTimes
from posgan_edge.render.draw import draw_faces, draw_lines

#: Results that may wait for the sinks.
_WAITING = 3
_STALLED = 2.0  # seconds without a frame that are worth a line


@dataclass(frozen=True)
class Limits:
    """When a run ends by itself: after so many frames, or seconds; None for never."""

    frames: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Drawing:
    """How frames are drawn for the sinks that show them."""

    dense: bool = True
    overlay: bool = False
    scale: int = 1


@dataclass
class LiveReport:
    """What a live run did. ``processed`` frames + ``counts.dropped`` + ``counts.thinned`` =
    ``counts.captured``."""

    processed: int = 0
    with_face: int = 0
    detections: int = 0
    seconds: float = 0.0
    counts: CaptureCounts = field(default_factory=CaptureCounts)
    stages: dict[str, StageSummary] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    signal: int = 0


def run_live(
    capture: Capture,
    tracker: FaceTracker,
    sinks: Sequence[Sink],
    limits: Limits | None = None,
    drawing: Drawing | None = None,
    report: Callable[[str], None] = lambda _: None,
    on_frame: Callable[[LiveReport], None] = lambda _: None,
) -> LiveReport:
    """Runs until the source ends, a limit is reached, a window is closed, or SIGINT or SIGTERM.

    ``capture`` is entered by the caller. A sink that fails is closed and reported, the others go
    on; every sink is closed at the end. A source that fails ends the run. Both are in the report's
    ``failures``. ``report`` is told in one line of what happens, ``on_frame`` after each frame.
    """
    limits, answer, times = limits or Limits(), LiveReport(counts=capture.counts), StageTimes()
    worker = SinkWorker(sinks, capture.release, drawing or Drawing(), times, report)
    windows = [sink for sink in sinks if isinstance(sink, WindowSink)]
    start = silent_since = time.perf_counter()
    told = False
    try:
        with _stop_on_signals() as stopped:
            while not stopped and not _reached(limits, answer.processed, start):
                if not all(window.pump() for window in windows):
                    break
                waited = time.perf_counter()
                frame = capture.take(0.1)
                if frame is None:
                    if capture.ended:
                        break
                    if not told and time.perf_counter() - silent_since > _STALLED:
                        told = True
                        report(f"{capture.source.name}: no frame for {_STALLED:.0f} s")
                    continue
                taken = time.perf_counter()
                silent_since, told = taken, False
                times.add("wait for a frame", (taken - waited) * 1e3)
                result = _follow(frame, tracker, times, taken)
                answer.processed += 1
                answer.with_face += bool(result.faces)
                worker.put(result)
                on_frame(answer)
            answer.signal = stopped[0] if stopped else 0
    except PosganError as error:
        answer.failures.append(str(error))
    finally:
        capture.close()
        worker.close()
        answer.seconds = time.perf_counter() - start
        answer.detections, answer.stages = tracker.detections, times.summary()
        answer.failures += worker.failures
    return answer


def _follow(frame: Frame, tracker: FaceTracker, times: StageTimes, taken: float) -> Result:
    faces = tracker.update(frame)
    done = time.perf_counter()
    stages = {"track": (done - taken) * 1e3}
    if faces:
        stages |= {k: tracker.timings_ms[k] for k in ("crop", "network", "landmarks")}
    if tracker.detect_ms:
        stages["detect (beside)"] = tracker.detect_ms
    latency = (done - frame.captured) * 1e3
    for name, value in stages.items():
        if value:
            times.add(name, value)
    times.add("capture to result", latency)
    return Result(frame, faces, None, stages, latency, dict(tracker.timings_ms))


def _reached(limits: Limits, processed: int, start: float) -> bool:
    return (limits.frames is not None and processed >= limits.frames) or (
        limits.seconds is not None and time.perf_counter() - start >= limits.seconds
    )


class SinkWorker:
    """Draws results and hands them to the sinks, on its own thread.

    When the sinks are slower than the frames, ``put`` waits; a live capture then drops frames.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        release: Callable[[Frame], None],
        drawing: Drawing,
        times: StageTimes,
        report: Callable[[str], None],
    ) -> None:
        self.failures: list[str] = []
        self._sinks, self._release, self._drawing = list(sinks), release, drawing
        self._times, self._report = times, report
        self._queue: queue.Queue[Result | None] = queue.Queue(_WAITING)
        self._canvas: Image | None = None
        self._thread = threading.Thread(target=self._run, name="sinks", daemon=True)
        self._thread.start()

    def put(self, result: Result) -> None:
        self._queue.put(result)

    def close(self) -> None:
        """Waits for the results that were put, and closes every sink."""
        self._queue.put(None)
        self._thread.join()
        for sink in self._sinks:
            self._closed(sink)
        self._sinks.clear()

    def _run(self) -> None:
        while (result := self._queue.get()) is not None:
            self._hand_on(result)
            self._release(result.frame)

    def _hand_on(self, result: Result) -> None:
        wanted = [sink for sink in self._sinks if sink.wants()]
        # Whatever goes wrong here, the thread has to go on: the loop waits for it.
        if any(sink.draws for sink in wanted):
            start = time.perf_counter()
            try:
                result = replace(result, canvas=self._drawn(result))
            except Exception as error:
                for sink in [sink for sink in wanted if sink.draws]:
                    wanted.remove(sink)
                    self._failed(sink, error)
            self._times.add("draw", (time.perf_counter() - start) * 1e3)
        for sink in wanted:
            start = time.perf_counter()
            try:
                sink.write(result)
            except Exception as error:
                self._failed(sink, error)
            self._times.add(f"to {Path(sink.name).name}", (time.perf_counter() - start) * 1e3)

    def _drawn(self, result: Result) -> Image:
        drawing, image = self._drawing, result.frame.image
        shape = (image.shape[0] * drawing.scale, image.shape[1] * drawing.scale, 3)
        if self._canvas is None or self._canvas.shape != shape:
            self._canvas = np.empty(shape, np.uint8)
        canvas = draw_faces(
            image, result.faces, drawing.dense, scale=drawing.scale, out=self._canvas
        )
        if drawing.overlay:
            draw_lines(canvas, overlay_lines(result))
        return canvas

    def _failed(self, sink: Sink, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if not isinstance(error, (OSError, PosganError)):
            reason = f"{type(error).__name__}: {reason}"
        line = str(error) if sink.name in str(error) else f"{sink.name}: {reason}"
        self.failures.append(line)
        self._sinks.remove(sink)
        self._report(f"{line}; the run goes on without it")
        self._closed(sink)

    def _closed(self, sink: Sink) -> None:
        try:
            sink.close()
        except (OSError, PosganError) as error:
            line = f"{sink.name}: {error}" if sink.name not in str(error) else str(error)
            if line not in self.failures:
                self.failures.append(line)
                self._report(line)


def overlay_lines(result: Result) -> list[str]:
    """What the overlay says of a frame: its stages, and the time from capture to result."""
    lines = [f"{name} {value:.1f} ms" for name, value in result.stages_ms.items() if value]
    return [*lines, f"capture to result {result.latency_ms:.1f} ms"]


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """Yields a list that gets the number of SIGINT or SIGTERM; the second one interrupts."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
