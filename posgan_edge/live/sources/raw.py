"""Raw frames on standard input: what ``ffmpeg -f rawvideo -pix_fmt bgr24 -`` writes."""

from __future__ import annotations

import sys
from typing import BinaryIO

import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.live.sources.base import Source


class RawSource(Source):
    """Frames of ``size`` (width, height), BGR, 8 bits, one after the other without headers.

    An incomplete last frame counts as one that cannot be decoded.
    """

    name = "-"

    def __init__(self, size: tuple[int, int], rate: float | None = None) -> None:
        self._shape = (size[1], size[0], 3)
        self.rate = rate or 30.0
        if sys.stdin is None:
            raise BadInput("-: standard input is closed")
        if not hasattr(sys.stdin, "buffer"):  # a notebook's
            raise BadInput("-: standard input gives no bytes here")
        # Not the buffer, which a thread that waits in a read would keep from the exit.
        self._stream: BinaryIO = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)

    def files(self) -> list[str | int]:
        """See ``Source``: standard input, which may be a file."""
        try:
            return [self._stream.fileno()]
        except OSError:
            return []

    def read(self, into: Image | None = None) -> Image | None:
        image = self.memory(into, self._shape)
        memory = image.data.cast("B")
        filled = 0
        while filled < len(memory):
            count = self._stream.readinto(memory[filled:])  # type: ignore[attr-defined]
            if not count:
                return None if filled == 0 else np.empty((0, 0, 3), np.uint8)
            filled += count
        return image
