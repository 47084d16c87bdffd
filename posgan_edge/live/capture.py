"""Capture: reads a source on a thread of its own, so that slow processing adds no latency."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.closing import Closing
from posgan_edge.errors import BadInput, PosganError
from posgan_edge.faces.readers.base import FrameMemory
from posgan_edge.faces.values import Frame
from posgan_edge.live.clock import SteadyClock
from posgan_edge.live.sources.base import Source, SourceLost

#: Frames that may wait if none is dropped; one for pictures, which may be large.
_DEPTH, _DEPTH_STILL = 3, 1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
#: Frames in a row that cannot be decoded after which a live source counts as lost.
_MOST_SPOILT = 100
#: Seconds that closing waits for the thread: while frames come, and while there are none.
_CLOSE, _CLOSE_SILENT = 5.0, 0.5


@dataclass
class CaptureCounts:
    """``captured`` = frames passed on + ``dropped`` (a newer one came before they were processed) +
    ``thinned`` (left out to keep the rate that was asked for). ``spoilt`` frames, which cannot be
    decoded, are in none of them. ``lost``: how often the source failed; ``resized``: how often the
    size of its frames changed."""

    captured: int = 0
    dropped: int = 0
    thinned: int = 0
    spoilt: int = 0
    lost: int = 0
    resized: int = 0


class Capture(Closing):
    """Iterates over the frames of a source that a thread reads ahead.

    With ``drop`` (the default for live sources), at most one frame waits and a newer one replaces
    it; a file is then played at its own rate. Without it, every frame is kept and reading waits.
    ``rate``: at most so many frames a second. A live source that fails is opened again, with
    growing pauses, for ``patience`` seconds. ``notify`` is called with one line for each such
    event, ``wake`` when there may be a frame or the end. Call ``release`` with each frame that is
    no longer needed: its memory is used again. Frames are read into ``memory``, if it is set before
    the first one, while there is room.
    """

    def __init__(
        self,
        source: Source,
        drop: bool | None = None,
        rate: float | None = None,
        patience: float = 30.0,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.source, self.counts = source, CaptureCounts()
        self.drop = source.live if drop is None else drop
        self.memory: FrameMemory | None = None
        self._rate, self._patience, self._notify = rate, patience, notify
        self.wake: Callable[[], None] = lambda: None
        self._ready: deque[Frame] = deque()
        self._free: list[Image] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._size: tuple[int, ...] = ()
        self._unopened: SourceLost | None = None
        self._last_good, self._pause = 0.0, 0.0

    def take(self, timeout: float) -> Frame | None:
        """The next frame; None after ``timeout`` seconds without one, or at the end (``ended``).

        The first call starts the thread. An error of the source is raised after all frames before
        it were taken.
        """
        if self._thread is None and not self._ended:
            self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
            self._thread.start()
        with self._changed:
            if timeout > 0:
                self._changed.wait_for(lambda: self._ready or self._ended, timeout)
            if self._ready:
                frame = self._ready.popleft()
                self._changed.notify_all()
                return frame
            if self._failure is not None:
                raise self._failure
            return None

    @property
    def ended(self) -> bool:
        """Whether there are no more frames."""
        return self._ended and not self._ready

    def release(self, frame: Frame) -> None:
        """Says that the frame is no longer needed, so that its memory can be used again."""
        self._keep(frame.image)

    def _keep(self, image: Image) -> None:
        """Takes back memory of a frame."""
        with self._changed:
            given = self.memory is not None and self.memory.give(image)
            if not given and image.shape == self._size:
                self._free.append(image)

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.take(0.5)) is not None or not self.ended:
            if frame is not None:
                yield frame

    def open(self, wait: bool = False) -> None:
        """Opens the source. With ``wait``, a live source that cannot be opened now counts as lost:
        it is tried again for ``patience`` seconds once frames are taken."""
        try:
            self.source.open()
        except BadInput as error:
            if not (wait and self.source.live):
                raise
            self._unopened = SourceLost(str(error))

    def __enter__(self) -> Capture:
        self.open()
        return self

    def close(self) -> None:
        """Ends the thread. Frames that still wait are taken out of ``counts.captured``. A second
        call does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            # Opening or reading may block for seconds, and a driver may hang. The program must not
            # wait for that; the thread closes the source, or ends with the process.
            silent = self._pause or time.perf_counter() - self._last_good > 1
            self._thread.join(_CLOSE_SILENT if silent else _CLOSE)
        if self._thread is None or not self._thread.is_alive():
            self.source.close()
        with self._changed:
            self.counts.captured -= len(self._ready)
            while self._ready:
                self._keep(self._ready.pop().image)
            self._ended = True

    def _run(self) -> None:
        try:
            self._read_all()
        except PosganError as error:
            self._failure = error
        except Exception as error:  # of a driver, for example; it is raised by `take`
            self._failure = BadInput(f"{self.source.name}: {type(error).__name__}: {error}")
        finally:
            if self._stop.is_set():
                self.source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self.wake()

    def _read_all(self) -> None:
        start, next_due, position, spoilt = time.perf_counter(), 0.0, 0, 0
        clock: SteadyClock | None = None
        self._last_good = start
        while not self._stop.is_set():
            try:
                if self._unopened is not None:
                    unopened, self._unopened = self._unopened, None
                    raise unopened
                image = self._read()
                if image is not None and not image.size:
                    spoilt += 1
                    self.counts.spoilt += 1
                    if spoilt == 1:
                        self._notify(f"{self.source.name}: a broken frame was left out")
                    if self.source.live and spoilt >= _MOST_SPOILT:
                        raise SourceLost(f"{self.source.name}: gives broken frames only")
            except SourceLost as error:
                if not self.source.live or not self._reopened(error):
                    raise
                spoilt = 0
                continue
            if image is None:
                if not (self.counts.captured or self.source.still or self._stop.is_set()):
                    raise BadInput(f"{self.source.name}: gives no frame")
                return
            stamp = position / self.source.rate
            position += 1
            if not image.size:
                continue
            spoilt = 0
            if self.drop and not self.source.live:
                self._stop.wait(max(0.0, start + stamp - time.perf_counter()))
            now = time.perf_counter()
            if self.source.live:
                clock = clock or SteadyClock(self.source.rate)
                stamp = clock(now - start)
            self._see_good()
            self._see_size(image)
            number, name = self.source.label(self.counts.captured)
            self.counts.captured += 1
            if self._rate and stamp < next_due - 0.25 / self._rate:
                self.counts.thinned += 1
                self._keep(image)
                continue
            if self._rate:
                next_due = max(next_due + 1 / self._rate, stamp)
            if self.source.still:
                stamp = now = 0.0
            self._hand_on(Frame(image, number, stamp, name, now, self.drop))

    def _read(self) -> Image | None:
        """The source's next picture, in memory that is free if the source uses it."""
        into = self.memory.take(self._size) if self.memory is not None and self._size else None
        if into is None and self._free:
            into = self._free.pop()
        image = None
        try:
            image = self.source.read(into)
        finally:
            if into is not None and (image is None or not np.may_share_memory(image, into)):
                self._keep(into)
        return image

    def _hand_on(self, frame: Frame) -> None:
        with self._changed:
            if not self.drop:
                most = _DEPTH_STILL if self.source.still else _DEPTH
                self._changed.wait_for(lambda: len(self._ready) < most or self._stop.is_set())
            elif self._ready:
                self.counts.dropped += 1
                self._keep(self._ready.popleft().image)
            self._ready.append(frame)
            self._changed.notify_all()
        self.wake()

    def _see_size(self, image: Image) -> None:
        if self._size and image.shape != self._size and not self.source.still:
            self.counts.resized += 1
            (old_h, old_w), (new_h, new_w) = self._size[:2], image.shape[:2]
            self._notify(f"{self.source.name}: size changed, {old_w}x{old_h} to {new_w}x{new_h}")
        if image.shape != self._size:
            with self._changed:
                self._size = image.shape
                self._free.clear()

    def _reopened(self, error: SourceLost) -> bool:
        """Opens a lost source again, after a pause that grows; False when patience has ended."""
        if not self._pause:
            self.counts.lost += 1
            self._notify(f"{error}; trying again for {self._patience:.0f} s")
        while time.perf_counter() - self._last_good < self._patience:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
            self.source.close()
            if self._stop.wait(self._pause):
                return True
            with contextlib.suppress(BadInput):
                self.source.open()
                return True
        return False

    def _see_good(self) -> None:
        now = time.perf_counter()
        if self._pause:
            self._notify(f"{self.source.name}: back after {now - self._last_good:.1f} s")
        self._last_good, self._pause = now, 0.0
