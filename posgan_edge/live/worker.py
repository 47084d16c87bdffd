"""The thread that draws results and hands them to the sinks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.errors import PosganError
from posgan_edge.faces.values import Frame
from posgan_edge.live.sinks import Result, Sink
from posgan_edge.live.stages import StageTimes
from posgan_edge.render.draw import draw_faces, draw_lines

#: Seconds that a sink may take for one result when the run stops.
_PATIENCE = 5.0


@dataclass(frozen=True)
class Drawing:
    """How frames are drawn for the sinks that show them."""

    dense: bool = True
    overlay: bool = False
    scale: int = 1


class Canvas:
    """Draws results; the memory of one is used again for the next."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._memory: Image | None = None

    def __call__(self, result: Result) -> Result:
        """The result with its canvas."""
        drawing, image = self._drawing, result.frame.image
        shape = (image.shape[0] * drawing.scale, image.shape[1] * drawing.scale, 3)
        if self._memory is None or self._memory.shape != shape:
            self._memory = np.empty(shape, np.uint8)
        canvas = draw_faces(
            image, result.faces, drawing.dense, scale=drawing.scale, out=self._memory
        )
        if drawing.overlay:
            draw_lines(canvas, overlay_lines(result))
        return replace(result, canvas=canvas)


class SinkWorker:
    """Draws results and hands them to the sinks, on its own thread.

    When the sinks are slower than the frames, ``put`` waits; a live capture then drops frames.
    ``room``: see ``full``.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        release: Callable[[Frame], None],
        drawing: Drawing,
        times: StageTimes,
        notify: Callable[[str], None],
        waiting: int = 3,
        room: Callable[[], None] = lambda: None,
        written: Callable[[Result], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.failures: list[str] = []
        self._sinks, self._release, self._written = list(sinks), release, written
        self._times, self._notify, self._room = times, notify, room
        self._awaited, self._stopping = False, stopping
        self._busy: Sink | None = None
        self._moved = time.monotonic()
        self._queue: queue.Queue[Result | None] = queue.Queue(waiting)
        self._canvas = Canvas(drawing)
        self._thread = threading.Thread(target=self._run, name="sinks", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether ``put`` would wait. If so, ``room`` is called once it would not."""
        self._awaited = True  # before the look, so that a place that becomes free now is noticed
        self._awaited = self._queue.full()
        return self._awaited

    def put(self, result: Result | None) -> None:
        """Waits for a free place; once ``stopping``, gives up where a sink hangs."""
        while not self._hangs():
            with suppress(queue.Full):
                self._queue.put(result, timeout=0.2)
                return

    def wait(self) -> None:
        """Waits until every result that was put has been written."""
        self._queue.join()

    def close(self) -> None:
        """Waits for the results that were put, and closes every sink. Once ``stopping``, a sink
        that hangs (a pipe that nobody reads) is left as it is, and reported."""
        self.put(None)
        while self._thread.is_alive() and not self._hangs():
            self._thread.join(0.2)
        if self._thread.is_alive() and (hung := self._busy) in self._sinks:
            self._sinks.remove(hung)
            self.failures.append(f"{hung.name}: takes nothing for {_PATIENCE:.0f} s: given up")
        while self._sinks:
            self._closed(self._sinks.pop(0))

    def _hangs(self) -> bool:
        """Whether the run stops and a sink has been busy with one result for too long."""
        busy = self._busy is not None and time.monotonic() - self._moved > _PATIENCE
        return busy and self._stopping()

    def _run(self) -> None:
        # The loop waits for this thread, so it continues after any error of a sink.
        while (result := self._queue.get()) is not None:
            if self._awaited:
                self._room()
            self._hand_on(result)
            if not self.failures:
                self._written(result)
            self._release(result.frame)
            self._queue.task_done()

    def _wanted(self) -> list[Sink]:
        wanted = []
        for sink in list(self._sinks):
            try:
                if sink.wants():
                    wanted.append(sink)
            except BaseException as error:
                self._failed(sink, error)
        return wanted

    def _hand_on(self, result: Result) -> None:
        wanted = self._wanted()
        if any(sink.draws for sink in wanted):
            start = time.perf_counter()
            try:
                result = self._canvas(result)
            except BaseException as error:
                for sink in [sink for sink in wanted if sink.draws]:
                    wanted.remove(sink)
                    self._failed(sink, error)
            self._times.add("draw", (time.perf_counter() - start) * 1e3)
        for sink in wanted:
            start = time.perf_counter()
            self._busy, self._moved = sink, time.monotonic()
            try:
                if sink in self._sinks:  # not if `close` has closed it
                    sink.write(result)
            except BaseException as error:
                self._failed(sink, error)
            self._busy = None
            self._times.add(f"to {Path(sink.name).name}", (time.perf_counter() - start) * 1e3)

    def _failed(self, sink: Sink, error: BaseException) -> None:
        if sink not in self._sinks:  # given up by `close`
            return
        line = failure_line(sink, error)
        self.failures.append(line)
        self._sinks.remove(sink)
        self._tell(f"{line}; the run continues without it")
        self._closed(sink)

    def _closed(self, sink: Sink) -> None:
        try:
            sink.close()
        except BaseException as error:
            line = failure_line(sink, error)
            if line not in self.failures:
                self.failures.append(line)
                self._tell(line)
            # Ctrl-C while the main thread closes a sink must reach the program.
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() != self._thread:
                raise

    def _tell(self, line: str) -> None:
        # If it cannot be reported (a closed terminal), the line is still in `failures`.
        with suppress(Exception):
            self._notify(line)


def failure_line(sink: Sink, error: BaseException) -> str:
    """Why a sink failed, in one line that names it."""
    reason = str(error)
    if isinstance(error, OSError):
        reason = error.strerror or reason
    elif not isinstance(error, PosganError):
        reason = f"{type(error).__name__}: {reason}"
    elif sink.name in reason:
        return reason
    return f"{sink.name}: {reason}"


def overlay_lines(result: Result) -> list[str]:
    """The overlay's lines: the time of each stage, and the time from capture to result."""
    lines = [f"{name} {value:.1f} ms" for name, value in result.stages_ms.items() if value]
    return [*lines, f"capture to result {result.latency_ms:.1f} ms"]
