"""The optional kernels (``cpp_ext``), and CUDA graphs captured with them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from importlib import import_module
from typing import Any

from posgan_edge.errors import BadInput


class NotEnqueued(BadInput):
    """Raised where a runtime does not accept work for its stream."""


def host_kernels() -> Any | None:
    """``posgan_edge_kernels``, on NumPy arrays, or None where it is not installed."""
    return _imported("posgan_edge_kernels")


def device_kernels() -> Any | None:
    """``posgan_edge_kernels.cuda``, or None where it is not installed or was built without CUDA."""
    return _imported("posgan_edge_kernels.cuda")


def _imported(name: str) -> Any | None:
    try:
        return import_module(name)
    except ImportError:
        return None


class Graphs:
    """Work on one stream, captured once for each key and launched as a graph from then on.

    Without kernels, or where CUDA cannot capture the work, it is put on the stream each time, and
    its key is in ``plain``. The work raises NotEnqueued if the runtime does not accept a part of
    it, and ``invalid`` (``pycuda.driver.Error``) if CUDA ended the capture.
    """

    def __init__(
        self, kernels: Any | None, stream: Any, invalid: type[Exception] = NotEnqueued
    ) -> None:
        self._kernels, self._stream, self._invalid = kernels, stream, invalid
        self._graphs: dict[Hashable, Any | None] = {}

    @property
    def plain(self) -> list[Hashable]:
        """Keys of the work that is not launched as a graph."""
        return [key for key, graph in self._graphs.items() if graph is None]

    def launch(
        self,
        key: Hashable,
        work: Callable[[], None],
        capturable: Callable[[], bool] = lambda: True,
    ) -> None:
        """Queues the work; the stream is waited for only when the key is new. ``capturable`` is
        asked after the first run."""
        if key not in self._graphs:
            # The first run with a new shape allocates memory, which a graph cannot record.
            work()
            self._stream.synchronize()
            kernels = self._kernels if capturable() else None
            self._graphs[key] = captured(kernels, int(self._stream.handle), work, self._invalid)
        graph = self._graphs[key]
        if graph is not None:
            graph.launch()
        else:
            work()

    def close(self) -> None:
        """Frees every graph."""
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs.clear()


def captured(
    kernels: Any | None,
    stream: int,
    work: Callable[[], None],
    invalid: type[Exception] = NotEnqueued,
) -> Any | None:
    """A graph of ``work`` on a stream handle; None without kernels, or if it cannot be captured.

    ``work`` must have run once before. It raises NotEnqueued if the runtime does not accept a part
    of it, and ``invalid`` if CUDA ended the capture.
    """
    if kernels is None:
        return None
    try:
        return kernels.Graph(stream, work)
    except (NotEnqueued, kernels.CudaError, invalid):
        return None
