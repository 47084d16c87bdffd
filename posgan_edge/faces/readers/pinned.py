"""Pinned memory that frames are captured into, so that a GPU takes them from where they lie."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import Image
from posgan_edge.engines.device import free_pinned, mapped

#: Buffers at most: a frame that is read, some that wait, one at the network, some at the sinks.
_MOST = 10


class PinnedFrames:
    """A ring of pinned buffers that the GPU can read too.

    ``take`` and ``give`` may be called by any thread, and call no function of CUDA. A buffer is
    made by ``grow``, after a ``take`` that found none; one that is too small is replaced by it.
    """

    def __init__(self, cuda: Any, most: int = _MOST) -> None:
        self._cuda, self._most = cuda, most
        self._lock = threading.Lock()
        self._buffers: dict[int, tuple[NDArray[np.uint8], int]] = {}  # by address: itself, device
        self._free: list[int] = []
        self._wanted = 0

    def take(self, shape: tuple[int, ...]) -> Image | None:
        """Memory for a picture (H, W, 3) uint8; None while there is none."""
        size = math.prod(shape)
        with self._lock:
            for address in self._free:
                buffer = self._buffers[address][0]
                if buffer.nbytes >= size:
                    self._free.remove(address)
                    return buffer[:size].reshape(shape)
            self._wanted = size
        return None

    def give(self, image: Image) -> bool:
        """Takes back memory of ``take`` that is not used any more. Returns False for other
        memory."""
        address = _start(image)
        with self._lock:
            if address not in self._buffers:
                return False
            if address not in self._free:
                self._free.append(address)
            return True

    def device_address(self, image: Image) -> int | None:
        """The address on the GPU of a picture that lies in one of the buffers; None for others."""
        with self._lock:
            _, device = self._buffers.get(_start(image), (None, None))
        return device if image.flags.c_contiguous else None

    def grow(self) -> None:
        """Makes a buffer if one was wanted. Where memory is short, the ring stays as it is."""
        with self._lock:
            size, self._wanted = self._wanted, 0
            small = [a for a in self._free if self._buffers[a][0].nbytes < size]
            if not size or len(self._buffers) - len(small) >= self._most:
                return
            for address in small:
                self._free.remove(address)
            outgrown = [self._buffers.pop(address) for address in small]
        for buffer, _ in outgrown:
            free_pinned(buffer)
        try:
            buffer, device = mapped(self._cuda, (size,), np.uint8)
        except self._cuda.Error:
            self._most = len(self._buffers)
            return
        with self._lock:
            address = _start(buffer)
            self._buffers[address] = buffer, device
            self._free.append(address)

    def close(self) -> None:
        """Frees the buffers. One that is still in use is freed with the last picture in it."""
        with self._lock:
            free = [self._buffers[address][0] for address in self._free]
            self._free.clear()
            self._buffers.clear()
            self._most = 0
        for buffer in free:
            free_pinned(buffer)


def _start(image: NDArray[np.uint8]) -> int:
    address: int = image.__array_interface__["data"][0]
    return address
