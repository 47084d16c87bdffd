"""The optional kernels (``cpp_ext``), and CUDA graphs captured with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from posgan_edge.engines.device import DeviceEngine, Network
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
    """Work around the network of an engine: for each batch size one CUDA graph, and one execution
    context that no other graph uses.

    NVIDIA's documentation of TensorRT and TensorRT-RTX says why: a graph holds the state of the
    context that it was captured from (shape, addresses of buffers and of working memory), and must
    not be launched once that state was changed; so it recommends one context per captured graph,
    with working memory that the contexts share. Sharing is safe here because all work of an engine
    is on one stream.

    ``work(count, network)`` queues everything for a batch on the engine's stream, and calls
    ``network()``, which raises NotEnqueued if the runtime refuses. Without kernels, or where CUDA
    cannot capture the work, it is queued each time, and the batch size is in ``plain``.
    """

    def __init__(
        self, engine: DeviceEngine, work: Callable[[int, Callable[[], None]], None]
    ) -> None:
        self._engine, self._work = engine, work
        self._networks: dict[int, Network] = {}
        self._graphs: dict[int, Any | None] = {}

    @property
    def plain(self) -> list[int]:
        """Batch sizes whose work is not launched as a graph."""
        return [count for count, graph in self._graphs.items() if graph is None]

    def prepare(self, count: int) -> Network:
        """The execution context of a batch size, which is made if it is new."""
        if count not in self._networks:
            self._networks[count] = self._engine.network(count)
        return self._networks[count]

    def launch(self, count: int) -> None:
        """Queues the work; the stream is waited for only when the batch size is new."""
        network = self.prepare(count)
        if count not in self._graphs:
            # The first run with a new shape allocates memory, which a graph cannot record.
            self._queue(count)
            self._engine.stream.synchronize()
            kernels = self._engine.kernels if network.capturable() else None
            handle, invalid = int(self._engine.stream.handle), self._engine.cuda.Error
            self._graphs[count] = captured(kernels, handle, partial(self._queue, count), invalid)
        graph = self._graphs[count]
        if graph is not None:
            graph.launch()
        else:
            self._queue(count)

    def _queue(self, count: int) -> None:
        network, name = self._networks[count], self._engine.info.name

        def enqueue() -> None:
            if not network.enqueue():
                raise NotEnqueued(f"{name}: TensorRT refused a batch of {count}")

        self._work(count, enqueue)

    def close(self) -> None:
        """Frees every graph, then every execution context."""
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        for network in self._networks.values():
            network.close()
        self._graphs.clear()
        self._networks.clear()


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
