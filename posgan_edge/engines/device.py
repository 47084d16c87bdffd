"""The base class of engines whose input and output lie on a GPU, and what they need of pycuda."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from numpy.typing import NDArray

from posgan_edge.engines.base import Engine
from posgan_edge.errors import INSTALL_GPU, BadInput, MissingRuntime, one_line

#: CU_STREAM_NON_BLOCKING: the stream does not wait for CUDA's default stream.
NON_BLOCKING = 1


class Network(Protocol):
    """A network for batches of one size, with state of its own: what one CUDA graph captures."""

    def enqueue(self) -> bool:
        """Queues the network on the engine's stream, on a batch that lies on the device. Returns
        False where the runtime refuses."""
        ...

    def capturable(self) -> bool:
        """Whether ``enqueue`` may be captured in a CUDA graph, once it ran."""
        ...

    def close(self) -> None:
        """Frees the state; graphs of it must be gone. A second call does nothing."""
        ...


class DeviceEngine(Engine):
    """An engine on a GPU. Other code may put work on its stream, before and after the network.

    ``cuda`` is ``pycuda.driver``, ``stream`` the stream that the network runs on, ``kernels``
    ``posgan_edge_kernels.cuda`` or None where it is not installed; ``image_address`` and
    ``map_address`` are the device addresses of the network's input (batch, 3, S, S) float32 and
    output (batch, 3, M, M) float32. ``integrated``: the GPU shares the processor's memory, as on a
    Jetson.
    """

    on_gpu = True
    integrated = False
    cuda: Any
    stream: Any
    kernels: Any | None
    image_address: int
    map_address: int

    @abstractmethod
    def current(self) -> AbstractContextManager[None]:
        """Makes the engine's CUDA context current."""

    @abstractmethod
    def network(self, count: int) -> Network:
        """The network for batches of this size, for one graph. Raises BadInput if memory is
        short."""

    @abstractmethod
    def launch(self, count: int) -> None:
        """Queues upload, network and download of a batch."""


def first_gpu() -> Any:
    """``pycuda.driver``, once there is a GPU. Raises MissingRuntime without pycuda, without a
    driver and without a GPU."""
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise MissingRuntime(
            "pycuda (with a CUDA driver) is not installed, and running TensorRT plans needs it: "
            f"{INSTALL_GPU}"
        ) from error
    try:
        cuda.init()
        count = cuda.Device.count()
    except cuda.Error as error:
        raise MissingRuntime(
            f"no NVIDIA GPU can be used here, and TensorRT plans need one: {one_line(error)}"
        ) from error
    if not count:
        raise MissingRuntime("no NVIDIA GPU is here, and TensorRT plans need one")
    return cuda


@contextmanager
def one_line_errors(cuda: Any, name: str) -> Iterator[None]:
    """Turns pycuda's errors into BadInput with the engine's name."""
    try:
        yield
    except cuda.MemoryError as error:
        raise BadInput(f"{name}: the GPU has too little free memory: {one_line(error)}") from error
    except cuda.Error as error:
        raise BadInput(f"{name}: the GPU failed: {one_line(error)}") from error


def mapped(cuda: Any, shape: tuple[int, ...], dtype: Any) -> tuple[NDArray[Any], int]:
    """Pinned memory on the host that the GPU can read and write too, and its address there."""
    array = cuda.pagelocked_empty(shape, dtype, mem_flags=cuda.host_alloc_flags.DEVICEMAP)
    return array, int(array.base.get_device_pointer())


def free_pinned(array: NDArray[Any]) -> None:
    """Frees what ``pagelocked_empty`` allocated; the array must not be used after that."""
    allocation: Any = array.base
    allocation.free()
