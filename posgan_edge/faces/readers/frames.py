"""Where the GPU finds a frame: which rows of it are sent, from where and to where."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.device import DeviceEngine, free_pinned, mapped
from posgan_edge.faces.readers.pinned import PinnedFrames
from posgan_edge.faces.values import Frame
from posgan_edge.geometry.crop import Crop

#: Largest filter radius of the crop kernel, in frame pixels.
_WIDEST = 64.0
#: Crops that are larger or farther away are not narrowed down: float32 is too coarse for that.
_FAR = 1e5


class DeviceFrames:
    """Makes frames readable for the crop kernel.

    Of a frame, the rows that its crops touch are sent, once: a second call with the same ``Frame``
    object sends only what is missing. A frame in a buffer of ``ring`` is sent from there; other
    frames are first copied to pinned memory, again only those rows. Where the GPU shares the
    processor's memory (``DeviceEngine.integrated``), nothing is sent: it reads the pinned memory.
    Buffers only grow, so that smaller frames take no new ones.
    """

    def __init__(self, engine: DeviceEngine) -> None:
        self._engine, self._cuda = engine, engine.cuda
        self.ring = PinnedFrames(engine.cuda)
        self._pinned: tuple[NDArray[np.uint8], int] | None = None  # and its address on the GPU
        self._device: tuple[Any, int] | None = None  # and its size in bytes
        self._seen: weakref.ref[Frame] | None = None
        self._rows = (0, 0)  # of that frame, those that are there: first, and last + 1

    def place(self, frame: Frame, crops: Sequence[Crop]) -> tuple[int, int, int, int]:
        """Sends what is missing, asynchronously on the engine's stream.

        Returns where the frame lies: its address on the GPU, bytes per row, height and width. Only
        the rows under the crops hold its pixels. A frame counts as known once ``done`` was called.
        """
        image = frame.image
        height, width = image.shape[:2]
        if self._seen is None or self._seen() is not frame:
            self._seen, self._rows = None, (0, 0)
        wanted = rows_touched(crops, self._engine.info.input_size, height)
        captured = self.ring.device_address(image)
        if captured is None:
            buffer, address = self._pinned_memory(image.nbytes)
            pixels = buffer[: image.nbytes].reshape(image.shape)
        else:
            pixels, address = image, captured
        integrated = self._engine.integrated
        if not integrated:
            address = self._device_memory(image.nbytes)
        pitch = 3 * width
        for first, end in _missing(self._rows, wanted):
            if captured is None:
                np.copyto(pixels[first:end], image[first:end])
            if not integrated:
                to = address + first * pitch
                self._cuda.memcpy_htod_async(to, pixels[first:end], self._engine.stream)
        self._rows = _hull(self._rows, wanted)
        return address, pitch, height, width

    def done(self, frame: Frame) -> None:
        """Says that the stream was waited for: what was sent of the frame is there."""
        self._seen = weakref.ref(frame)
        self.ring.grow()

    def _pinned_memory(self, size: int) -> tuple[NDArray[np.uint8], int]:
        if self._pinned is None or self._pinned[0].nbytes < size:
            self._free_pinned()
            self._pinned = mapped(self._cuda, (size,), np.uint8)
        return self._pinned

    def _device_memory(self, size: int) -> int:
        if self._device is None or self._device[1] < size:
            self._free_device()
            self._device = self._cuda.mem_alloc(size), size
        return int(self._device[0])

    def _free_pinned(self) -> None:
        if self._pinned is not None:
            free_pinned(self._pinned[0])
            self._pinned = None

    def _free_device(self) -> None:
        if self._device is not None:
            self._device[0].free()
            self._device = None

    def close(self) -> None:
        """Frees all memory. A second call does nothing."""
        self._seen = None
        self._free_pinned()
        self._free_device()
        self.ring.close()


def rows_touched(crops: Sequence[Crop], size: int, height: int) -> tuple[int, int]:
    """The rows of a frame that the crop kernel reads for crops of ``size`` pixels, or some more.

    Returns the first row and the last + 1, both 0 if the crops lie outside the frame.
    """
    first, end = height, 0
    for crop in crops:
        if max(abs(crop.center_x), abs(crop.center_y), crop.side) > _FAR:
            return 0, height
        angle = math.radians(crop.angle)
        half = 0.5 * crop.side * (abs(math.sin(angle)) + abs(math.cos(angle)))
        # The filter reaches that far from a pixel's centre; two rows more for rounding.
        reach = min(max(1.0, crop.side / size), _WIDEST) + 2.0
        first = min(first, math.floor(crop.center_y - half - reach))
        end = max(end, math.ceil(crop.center_y + half + reach))
    first, end = max(first, 0), min(end, height)
    return (first, end) if first < end else (0, 0)


def _hull(here: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """The rows from the first to the last of both."""
    parts = [rows for rows in (here, wanted) if rows[0] < rows[1]]
    return (min(p[0] for p in parts), max(p[1] for p in parts)) if parts else (0, 0)


def _missing(here: tuple[int, int], wanted: tuple[int, int]) -> list[tuple[int, int]]:
    """The rows to send, so that all of ``_hull`` is there: one piece, or one on either side."""
    first, end = _hull(here, wanted)
    pieces = [(first, end)] if here[0] == here[1] else [(first, here[0]), (here[1], end)]
    return [(a, b) for a, b in pieces if a < b]
