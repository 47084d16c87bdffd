"""The base class of engines whose input and output lie on a GPU."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Any

from posgan_edge.engines.base import Engine


class DeviceEngine(Engine):
    """An engine on a GPU. Other code may put work on its stream, before and after the network.

    ``cuda`` is ``pycuda.driver``, ``stream`` the stream that the network runs on, ``kernels``
    ``posgan_edge_kernels.cuda`` or None where it is not installed; ``image_address`` and
    ``map_address`` are the device addresses of the network's input (batch, 3, S, S) float32 and
    output (batch, 3, M, M) float32.
    """

    cuda: Any
    stream: Any
    kernels: Any | None
    image_address: int
    map_address: int

    @abstractmethod
    def current(self) -> AbstractContextManager[None]:
        """Makes the engine's CUDA context current."""

    @abstractmethod
    def enqueue_network(self, count: int) -> bool:
        """Queues the network alone on a batch that lies on the device. Returns False where the
        runtime refuses."""

    @abstractmethod
    def launch(self, count: int) -> None:
        """Queues upload, network and download of a batch."""
