"""Time of a frame on a GPU from pixels to landmarks and pose, with PyTorch instead of TensorRT.

    python benchmarks/frame_path.py [--rounds 300] [--json F] [--rehearse]

This is for a GPU that TensorRT-RTX does not support. Reader, kernels, copies and CUDA graphs are
those of the package; the network is the shipped one in PyTorch, FP16. It needs ``cuda.bindings``,
PyTorch with CUDA, and the kernels. --rehearse makes the same calls on the CPU, with the stand-in
for a GPU of the tests.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posgan_edge import Crop, Frame, load_engine, load_layout
from posgan_edge.engines.device import DeviceEngine, Network
from posgan_edge.evaluation.latency import Latency
from posgan_edge.faces.readers.device import DeviceReader
from posgan_edge.models.checkpoints import load_generator
from posgan_edge.models.registry import to_memory_format
from posgan_edge.system import machine_block
from posgan_edge.timing import take_turns

FACES, FRAMES = (1, 2, 8), ((720, 1280), (1080, 1920))


class Memory:
    """Device memory of PyTorch with the interface of pycuda's allocations."""

    def __init__(self, size: int) -> None:
        self._bytes: torch.Tensor | None = torch.empty(size, dtype=torch.uint8, device="cuda")
        self._address = self._bytes.data_ptr()

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._bytes = None


class Pinned:
    """Pinned host memory of PyTorch; it is the base of arrays on it."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._array = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        self.__array_interface__ = self._array.view(dtype).reshape(shape).__array_interface__

    def get_device_pointer(self) -> int:
        """With unified addressing, which every 64-bit system has, it is that of the host."""
        return int(self._array.ctypes.data)

    def free(self) -> None:
        """Nothing: the memory goes with the object."""


class Stream:
    def __init__(self) -> None:
        self.torch = torch.cuda.Stream()
        self.handle = self.torch.cuda_stream

    def synchronize(self) -> None:
        self.torch.synchronize()


class Cuda:
    """The part of ``pycuda.driver`` that the reader uses, made with ``cuda.bindings`` and
    PyTorch."""

    Error = RuntimeError

    class Context:
        @staticmethod
        def synchronize() -> None:
            torch.cuda.synchronize()

    def __init__(self) -> None:
        from cuda.bindings import runtime

        self._runtime = runtime

    def mem_alloc(self, size: int) -> Memory:
        return Memory(size)

    class host_alloc_flags:  # noqa: N801
        DEVICEMAP = 2

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any, mem_flags: int = 0) -> Any:
        return np.asarray(Pinned(shape, dtype))

    def memcpy_htod(self, device: Any, values: Any) -> None:
        self._copied(int(device), values.ctypes.data, values.nbytes, "HostToDevice", 0)
        torch.cuda.synchronize()

    def memcpy_htod_async(self, device: Any, values: Any, stream: Stream) -> None:
        kind = "HostToDevice"
        self._copied(int(device), values.ctypes.data, values.nbytes, kind, stream.handle)

    def memcpy_dtoh_async(self, values: Any, device: Any, stream: Stream) -> None:
        kind = "DeviceToHost"
        self._copied(values.ctypes.data, int(device), values.nbytes, kind, stream.handle)

    def _copied(self, to: int, origin: int, size: int, kind: str, stream: int) -> None:
        kinds = self._runtime.cudaMemcpyKind
        which = getattr(kinds, f"cudaMemcpy{kind}")
        (status,) = self._runtime.cudaMemcpyAsync(to, origin, size, which, stream)
        if int(status) != 0:
            raise RuntimeError(f"cudaMemcpyAsync: {status}")


class TorchDeviceEngine(DeviceEngine):
    """The shipped network in PyTorch, FP16, on a stream of its own."""

    def __init__(self, batch: int) -> None:
        from posgan_edge_kernels import cuda as kernels

        info = load_engine("edge").info
        self.info = replace(info, runtime="torch-cuda", precision="fp16", batch=batch)
        self.cuda, self.kernels, self.stream = Cuda(), kernels, Stream()
        network = load_generator("edge").cuda().half()
        self._network = to_memory_format(network, torch.channels_last)
        size, points = info.input_size, info.map_size
        self._image = torch.zeros(batch, 3, size, size, device="cuda")
        self._map = torch.zeros(batch, 3, points, points, device="cuda")
        self.image_address, self.map_address = self._image.data_ptr(), self._map.data_ptr()
        # What lies between the layers is in a pool of its own: a captured graph keeps using it.
        self._pool = torch.cuda.MemPool()

    @contextmanager
    def current(self) -> Iterator[None]:
        yield

    def network(self, count: int) -> Network:
        return _Batch(self, count)

    def run(self, count: int) -> None:
        with (
            torch.no_grad(),
            torch.cuda.stream(self.stream.torch),
            torch.cuda.use_mem_pool(self._pool),
        ):
            images = self._image[:count].half().contiguous(memory_format=torch.channels_last)
            self._map[:count].copy_(self._network(images))

    def launch(self, count: int) -> None:
        raise NotImplementedError("this engine is for a reader alone")

    def _infer(self, images: Any) -> Any:
        raise NotImplementedError("this engine is for a reader alone")


class _Batch:
    """The network for batches of one size; it has no state of its own."""

    def __init__(self, engine: TorchDeviceEngine, count: int) -> None:
        self._engine, self._count = engine, count

    def enqueue(self) -> bool:
        self._engine.run(self._count)
        return True

    def capturable(self) -> bool:
        return True

    def close(self) -> None:
        pass


def rehearsed(batch: int) -> DeviceEngine:
    """Yields the tests' stand-in for a GPU, on the CPU."""
    helpers: Any = import_module("tests.helpers.device")
    stand_in: DeviceEngine = helpers.StandIn(load_engine("edge"), batch)
    return stand_in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, times mean nothing")
    options = parser.parse_args()
    device = "the CPU, a rehearsal" if options.rehearse else torch.cuda.get_device_name(0)
    result: dict[str, Any] = {"machine": machine_block(), "device": device}
    engine = rehearsed(max(FACES)) if options.rehearse else TorchDeviceEngine(max(FACES))
    layout = load_layout("ict")
    result["deviation_px"] = deviation(engine, layout)
    for height, width in FRAMES:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        reader = DeviceReader(engine, layout, dense=False)
        calls = {
            f"{width}x{height}, {count} faces{how}": partial(_read, reader, source, crops(count))
            for how, source in (("", image), (", captured", _captured(reader, image)))
            for count in FACES
        }
        times = take_turns(calls, options.rounds, 10)
        result |= {name: asdict(Latency.of(values)) for name, values in times.items()}
        result[f"{width}x{height}, not captured"] = [str(key) for key in reader.not_captured]
        reader.close()
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def _read(reader: DeviceReader, image: Any, group: list[Crop]) -> None:
    reader.read(Frame(image), group)  # a new frame each time, so that it is uploaded


def _captured(reader: DeviceReader, image: Any) -> Any:
    """The picture in pinned memory of the reader, as ``run`` captures it."""
    memory = None
    while memory is None:
        memory = reader.memory.take(image.shape)
        _read(reader, image, crops(1))
    memory[:] = image
    return memory


def crops(count: int) -> list[Crop]:
    return [Crop(500 + 30 * i, 360, 181, 12 * i) for i in range(count)]


def deviation(engine: DeviceEngine, layout: Any) -> float:
    """Largest distance in pixels from landmarks read on the CPU (which cuts crops by another
    filter), with graphs captured."""
    from posgan_edge.faces.readers import make_reader
    from posgan_edge.images import read_image

    image = read_image(Path(__file__).parents[1] / "posgan_edge" / "assets" / "portrait.jpg")
    group = [Crop(224, 132, 150, angle) for angle in (0.0, 9.0, -20.0)]
    reader = DeviceReader(engine, layout, dense=False)
    for _ in range(3):
        found = reader.read(Frame(image), group)
    reader.close()
    expected = make_reader(load_engine("edge"), layout, name="host").read(Frame(image), group)
    return float(np.abs(found.landmarks - expected.landmarks).max())


if __name__ == "__main__":
    main()
