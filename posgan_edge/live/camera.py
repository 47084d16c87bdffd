"""One camera of a live run: its frames, its finder, its sinks, and what became of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from posgan_edge.errors import PosganError
from posgan_edge.faces.values import Face, Frame
from posgan_edge.live.capture import Capture, CaptureCounts
from posgan_edge.live.finder import Finder
from posgan_edge.live.sinks import Result, Sink, WindowSink
from posgan_edge.live.stages import StageSummary, StageTimes
from posgan_edge.live.worker import Drawing, SinkWorker

#: Results that may wait for the sinks; one for pictures, which may be large.
_WAITING, _WAITING_STILL = 3, 1
_STALLED = 2.0  # seconds without a frame after which that is reported


@dataclass(frozen=True)
class Camera:
    """A source of a run. ``finder`` is a ``FaceTracker`` of this camera alone, or a
    ``PictureFinder`` for pictures. ``number`` stands in its results: from 1 on, 0 if there is only
    one camera."""

    capture: Capture
    finder: Finder
    sinks: Sequence[Sink] = ()
    number: int = 0


@dataclass
class LiveSummary:
    """What a live run did with one source. ``processed`` frames + ``counts.dropped`` +
    ``counts.thinned`` = ``counts.captured``."""

    processed: int = 0
    with_face: int = 0
    detections: int = 0
    seconds: float = 0.0
    counts: CaptureCounts = field(default_factory=CaptureCounts)
    stages: dict[str, StageSummary] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    signal: int = 0
    source: str = ""


class RunningCamera:
    """A camera while it runs. ``wake`` is called when there may be something to do: a new frame,
    the end of the source, or room for another result. Once ``stopping``, no sink is waited for
    that hangs."""

    def __init__(
        self,
        camera: Camera,
        drawing: Drawing,
        notify: Callable[[str], None],
        wake: Callable[[], None],
        written: Callable[[Result], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        capture = camera.capture
        self.camera, self._notify = camera, notify
        self.summary = LiveSummary(counts=capture.counts, source=capture.source.name)
        self.windows = [sink for sink in camera.sinks if isinstance(sink, WindowSink)]
        self.ended = False
        self._times = StageTimes()
        waiting = _WAITING_STILL if capture.source.still else _WAITING
        capture.wake = wake
        self._worker = SinkWorker(
            camera.sinks, capture.release, drawing, self._times, notify, waiting, wake, written,
            stopping,
        )  # fmt: skip
        self._closing: threading.Thread | None = None
        self._start = self._since = self._taken = time.perf_counter()
        self._told = False

    def take(self) -> Frame | None:
        """The next frame; None if there is none now, no room for its result, or never another."""
        if self._worker.full:
            return None
        capture = self.camera.capture
        try:
            frame = capture.take(0)
            if frame is None and capture.ended:
                capture.take(0)  # raises what ended the source
                self.end()
        except PosganError as error:
            self.end(error)
            return None
        now = time.perf_counter()
        if frame is None:
            if not (self._told or self.ended) and now - self._since > _STALLED:
                self._told = True
                self._notify(f"{capture.source.name}: no frame for {_STALLED:.0f} s")
            return None
        self._times.add("wait for a frame", (now - self._since) * 1e3)
        self._taken, self._told = now, False
        return frame

    def hand_on(self, frame: Frame, found: list[Face] | PosganError | None) -> Result | None:
        """Gives the faces of a frame to the sinks. Returns the result; None if there is none."""
        self._since = time.perf_counter()
        if isinstance(found, PosganError):
            self.end(found)
        if found is None or isinstance(found, PosganError):
            self.camera.capture.release(frame)
            return None
        result = self._result(frame, found)
        self.summary.processed += 1
        self.summary.with_face += bool(found)
        self._worker.put(result)
        self._since = time.perf_counter()
        return result

    def held(self) -> bool:
        """Shows the frame in each window that holds it until a key is typed. Returns whether the
        run continues."""
        holding = [window for window in self.windows if window.hold]
        if holding:
            self._worker.wait()
        return all(window.pump(0) for window in holding)

    def end(self, error: PosganError | None = None) -> None:
        """Takes no more frames."""
        self.ended = True
        if error is not None:
            self.summary.failures.append(str(error))

    def finish_beside(self) -> None:
        """Finishes the outputs on another thread; once for a camera that ended before others."""
        if self._closing is None and not self.windows:
            self._closing = threading.Thread(target=self._finish, name="finish", daemon=True)
            self._closing.start()

    def close(self) -> LiveSummary:
        """Ends the camera, finishes its outputs and returns what it did."""
        self.end()
        if self._closing is None:
            self._finish()
        else:
            self._closing.join()
        self.summary.detections = self.camera.finder.detections
        self.summary.stages = self._times.summary()
        self.summary.failures += self._worker.failures
        return self.summary

    def _finish(self) -> None:
        self.camera.capture.close()
        self._worker.close()
        self.summary.seconds = time.perf_counter() - self._start

    def _result(self, frame: Frame, faces: list[Face]) -> Result:
        camera = self.camera
        result = result_of(frame, faces, camera.finder, self._taken, self._since, camera.number)
        times = result.stages_ms | {"capture to result": result.latency_ms}
        for name, value in times.items():
            if value:
                self._times.add(name, value)
        return result


def result_of(
    frame: Frame, faces: list[Face], finder: Finder, taken: float, done: float, camera: int = 0
) -> Result:
    """The faces that a finder has found in a frame, with the time of each stage. ``taken`` and
    ``done``: when it began and ended, in the seconds of ``time.perf_counter``."""
    stages = {"track": (done - taken) * 1e3}
    timings = dict(finder.timings_ms)
    if faces:
        stages |= {name: value for name, value in timings.items() if name != "total"}
    if finder.detect_ms:
        stages["detect (beside)"] = finder.detect_ms
    # A picture was not captured at any time: it has no latency.
    latency = (done - frame.captured) * 1e3 if frame.captured else 0.0
    return Result(frame, faces, None, stages, latency, timings, camera)
