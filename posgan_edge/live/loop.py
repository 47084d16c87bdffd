"""The live loop: capture, finding faces and sinks, each on a thread of its own."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from posgan_edge.errors import PosganError
from posgan_edge.faces.values import Frame
from posgan_edge.live.capture import Capture, CaptureCounts
from posgan_edge.live.finder import Finder
from posgan_edge.live.sinks import Result, Sink, WindowSink
from posgan_edge.live.stages import StageSummary, StageTimes
from posgan_edge.live.worker import Drawing, SinkWorker

__all__ = ["Drawing", "Limits", "LiveSummary", "run_live"]

#: Results that may wait for the sinks; one for pictures, which may be large.
_WAITING, _WAITING_STILL = 3, 1
_STALLED = 2.0  # seconds without a frame after which that is reported


@dataclass(frozen=True)
class Limits:
    """When a run ends by itself: after so many frames, or seconds; None for never."""

    frames: int | None = None
    seconds: float | None = None


@dataclass
class LiveSummary:
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
    finder: Finder,
    sinks: Sequence[Sink],
    limits: Limits | None = None,
    drawing: Drawing | None = None,
    notify: Callable[[str], None] = lambda _: None,
    on_frame: Callable[[LiveSummary, Result], None] = lambda *_: None,
    on_written: Callable[[Result], None] = lambda _: None,
) -> LiveSummary:
    """Runs until the source ends, a limit is reached, a window is closed, or SIGINT or SIGTERM.

    The caller enters ``capture`` (a context manager). ``finder`` is a ``FaceTracker``, or a
    ``PictureFinder`` for pictures. A sink that fails is closed and reported, and the others
    continue; all sinks are closed at the end. A source that fails ends the run. Both are listed in
    the returned ``failures``. ``notify`` is called with one line for each event, ``on_frame`` after
    each frame with the state of the run and the frame's result, and ``on_written``, on another
    thread, once every sink has written the result; no more after a sink has failed.
    """
    limits, run, times = limits or Limits(), LiveSummary(counts=capture.counts), StageTimes()
    waiting = _WAITING_STILL if capture.source.still else _WAITING
    worker = SinkWorker(
        sinks, capture.release, drawing or Drawing(), times, notify, waiting, on_written
    )
    windows = [sink for sink in sinks if isinstance(sink, WindowSink)]
    start = silent_since = time.perf_counter()
    told = False
    try:
        with stop_on_signals() as stopped:
            while not stopped and not _reached(limits, run.processed, start):
                if not all(window.pump() for window in windows):
                    break
                waited = time.perf_counter()
                frame = capture.take(0.1)
                if frame is None:
                    if capture.ended:
                        break
                    if not told and time.perf_counter() - silent_since > _STALLED:
                        told = True
                        notify(f"{capture.source.name}: no frame for {_STALLED:.0f} s")
                    continue
                taken = time.perf_counter()
                silent_since, told = taken, False
                times.add("wait for a frame", (taken - waited) * 1e3)
                result = find_in(frame, finder, taken)
                if result is None:
                    capture.release(frame)
                    continue
                for name, value in [
                    *result.stages_ms.items(),
                    ("capture to result", result.latency_ms),
                ]:
                    if value:
                        times.add(name, value)
                run.processed += 1
                run.with_face += bool(result.faces)
                worker.put(result)
                on_frame(run, result)
                if not _held(windows, worker):
                    break
            run.signal = stopped[0] if stopped else 0
    except PosganError as error:
        run.failures.append(str(error))
    finally:
        capture.close()
        worker.close()
        run.seconds = time.perf_counter() - start
        run.detections, run.stages = finder.detections, times.summary()
        run.failures += worker.failures
    return run


def find_in(frame: Frame, finder: Finder, taken: float) -> Result | None:
    """The faces of a frame that was taken at a time of ``time.perf_counter``, with the time of each
    stage; None if the frame cannot be used."""
    faces = finder.update(frame)
    if faces is None:
        return None
    done = time.perf_counter()
    stages = {"track": (done - taken) * 1e3}
    timings = dict(finder.timings_ms)
    if faces:
        stages |= {name: value for name, value in timings.items() if name != "total"}
    if finder.detect_ms:
        stages["detect (beside)"] = finder.detect_ms
    # A picture was not captured at any time: it has no latency.
    latency = (done - frame.captured) * 1e3 if frame.captured else 0.0
    return Result(frame, faces, None, stages, latency, timings)


def _held(windows: Sequence[WindowSink], worker: SinkWorker) -> bool:
    """Shows the frame in each window that holds it until a key is typed; False to end the run."""
    holding = [window for window in windows if window.hold]
    if holding:
        worker.wait()
    return all(window.pump(0) for window in holding)


def _reached(limits: Limits, processed: int, start: float) -> bool:
    return (limits.frames is not None and processed >= limits.frames) or (
        limits.seconds is not None and time.perf_counter() - start >= limits.seconds
    )


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
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
