"""The live loop: capture, finding faces and sinks, each on a thread of its own."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from posgan_edge.errors import PosganError
from posgan_edge.faces.values import Frame
from posgan_edge.live.camera import Camera, LiveSummary, RunningCamera, result_of
from posgan_edge.live.capture import Capture
from posgan_edge.live.finder import Finder, update_all
from posgan_edge.live.sinks import Result, Sink
from posgan_edge.live.worker import Drawing

__all__ = ["Camera", "Drawing", "Limits", "LiveSummary", "run_cameras", "run_live"]


@dataclass(frozen=True)
class Limits:
    """When a run ends by itself: after so many frames of each camera, or seconds; None: never."""

    frames: int | None = None
    seconds: float | None = None


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
    """``run_cameras`` for one source. ``finder`` is a ``FaceTracker``, or a ``PictureFinder`` for
    pictures."""
    (summary,) = run_cameras(
        [Camera(capture, finder, sinks)], limits, drawing, notify, on_frame, on_written
    )  # fmt: skip
    return summary


def run_cameras(
    cameras: Sequence[Camera],
    limits: Limits | None = None,
    drawing: Drawing | None = None,
    notify: Callable[[str], None] = lambda _: None,
    on_frame: Callable[[LiveSummary, Result], None] = lambda *_: None,
    on_written: Callable[[Result], None] = lambda _: None,
) -> list[LiveSummary]:
    """Runs until all sources end, a limit is reached, a window is closed, or SIGINT or SIGTERM.

    The caller opens each ``capture`` (a context manager). Frames that are there at the same time
    are read in one batch where the cameras' trackers share an engine. A sink that fails is closed
    and reported, and the others continue; all sinks are closed at the end. A source that fails ends
    its camera, and the others continue. Both are listed in the ``failures`` of the camera's
    summary. ``notify`` is called with one line for each event, ``on_frame`` after each frame with
    the state of the camera and the frame's result, and ``on_written``, on another thread, once
    every sink has written the result; no more after a sink of that camera has failed. Returns a
    summary for each camera.
    """
    limits, bell = limits or Limits(), threading.Event()
    drawing = drawing or Drawing()
    start = time.perf_counter()
    with stop_on_signals() as stopped:
        running = [
            RunningCamera(one, drawing, notify, bell.set, on_written, lambda: bool(stopped))
            for one in cameras
        ]
        try:
            while not stopped and not _reached(limits, start):
                active = [one for one in running if not one.ended]
                windows = [window for one in active for window in one.windows]
                if not active or not all(window.pump() for window in windows):
                    break
                bell.clear()
                ready = [(one, frame) for one in active if (frame := one.take()) is not None]
                if ready and not _process(ready, limits, on_frame):
                    break
                if gone := [one for one in active if one.ended]:
                    _let_go(gone, len(active) > len(gone), notify)
                elif not ready:
                    bell.wait(0.1)
        except PosganError as error:
            running[0].end(error)
        finally:
            stopped.closing = True
            summaries = [one.close() for one in running]
        for summary in summaries:
            summary.signal = stopped[0] if stopped else 0
    return summaries


def _process(
    ready: Sequence[tuple[RunningCamera, Frame]],
    limits: Limits,
    on_frame: Callable[[LiveSummary, Result], None],
) -> bool:
    """Finds the faces of frames and hands them on. Returns whether the run continues."""
    found = update_all([one.camera.finder for one, _ in ready], [frame for _, frame in ready])
    goes_on = True
    for (one, frame), faces in zip(ready, found, strict=True):
        result = one.hand_on(frame, faces)
        if result is None:
            continue
        on_frame(one.summary, result)
        goes_on = one.held() and goes_on
        if limits.frames is not None and one.summary.processed >= limits.frames:
            one.end()
    return goes_on


def find_in(frame: Frame, finder: Finder, taken: float) -> Result | None:
    """The faces of a frame that was taken at a time of ``time.perf_counter``, with the time of each
    stage; None if the frame cannot be used."""
    faces = finder.update(frame)
    return None if faces is None else result_of(frame, faces, finder, taken, time.perf_counter())


def _let_go(gone: Sequence[RunningCamera], others: bool, notify: Callable[[str], None]) -> None:
    """Finishes the outputs of cameras that ended while others continue, and says why they ended."""
    for one in gone if others else ():
        for line in one.summary.failures:
            notify(f"{line}; the other cameras continue")
        one.finish_beside()


def _reached(limits: Limits, start: float) -> bool:
    return limits.seconds is not None and time.perf_counter() - start >= limits.seconds


class Stopped(list[int]):
    """The SIGINTs and SIGTERMs that came; ``closing``: files are being finished."""

    closing = False


@contextmanager
def stop_on_signals() -> Iterator[Stopped]:
    """Yields a list that gets the numbers of SIGINT and SIGTERM. The second one raises
    KeyboardInterrupt, unless the list is marked as ``closing``."""
    received = Stopped()

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1 and not received.closing:
            received.closing = True
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
