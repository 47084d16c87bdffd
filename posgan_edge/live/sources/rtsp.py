"""RTSP streams through PyAV: opened without examining them first, and without old frames."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.live.sources.base import Source, SourceLost, shown

#: Seconds in which a stream must open, and in which the next packet must come.
_OPEN, _READ = 8.0, 3.0
#: Seconds in which a picture must come while packets do: from one complete picture to the next.
_PICTURE = 20.0
#: A stream of a stated length that stops earlier than so many seconds before its end was lost.
END = 1.0
#: The description of a stream names its codec, so FFmpeg need not read some seconds of it first.
_OPTIONS = {
    "rtsp_flags": "prefer_tcp", "fflags": "nobuffer", "analyzeduration": "1", "fpsprobesize": "0",
}  # fmt: skip


def has_av() -> bool:
    """Whether PyAV is installed."""
    try:
        return find_spec("av") is not None
    except ValueError:  # imported, and without a place
        return False


class RtspSource(Source):
    """``target``: an address of ``rtsp://`` or ``rtsps://``. Needs PyAV."""

    live = True

    def __init__(self, target: str, rate: float | None = None) -> None:
        self.name = shown(target)
        self._target, self._asked = target, rate
        self._container: Any = None
        self._packets: Iterator[Any] = iter(())
        self._pictures: deque[Any] = deque()
        self.position = 0.0

    def open(self) -> None:
        """See ``Source``."""
        import av

        self.close()
        try:
            self._container = av.open(self._target, options=_OPTIONS, timeout=(_OPEN, _READ))
            stream = self._container.streams.video[0]
        except (av.FFmpegError, IndexError, UnicodeError, ValueError) as error:
            self.close()
            raise BadInput(f"{self.name}: stream cannot be opened") from error
        rate = float(stream.guessed_rate or stream.average_rate or 0)
        self.rate = rate if 1 <= rate <= 1000 else self._asked or 30.0
        length = (self._container.duration or 0) / av.time_base
        self.frames_promised = max(0, round(length * self.rate))
        self._packets, self.position = self._container.demux(stream), 0.0

    def read(self, into: Image | None = None) -> Image | None:
        """See ``Source``."""
        import av

        if self._container is None:
            raise BadInput(f"{self.name}: is not open")
        start = time.perf_counter()
        while not self._pictures:
            try:
                packet = next(self._packets)
            except (av.FFmpegError, StopIteration) as error:
                if self._at_end():
                    return None
                raise SourceLost(f"{self.name}: gives no frame") from error
            with suppress(av.FFmpegError):  # pictures before the first complete one
                self._pictures.extend(packet.decode())
            if not self._pictures and time.perf_counter() - start > _PICTURE:
                raise SourceLost(f"{self.name}: gives no frame")
        picture = self._pictures.popleft()
        if picture.time is not None:
            self.position = picture.time
        image: Image = picture.to_ndarray(format="bgr24")
        return image

    def _at_end(self) -> bool:
        """Whether a stream of a stated length has reached its end; others have none."""
        left = self.frames_promised / self.rate - self.position
        return self.frames_promised > 0 and left < END

    def close(self) -> None:
        """See ``Source``."""
        self._pictures.clear()
        if self._container is not None:
            self._container.close()
            self._container = None
