"""TensorRT and TensorRT-RTX plans, with pycuda for memory and streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import EngineInfo
from posgan_edge.engines.device import DeviceEngine
from posgan_edge.engines.kernels import Graphs, NotEnqueued, device_kernels
from posgan_edge.engines.manifest import vouched
from posgan_edge.engines.runtimes import load_tensorrt, runtime_version
from posgan_edge.errors import BadInput, missing
from posgan_edge.system import gpu_here


class TensorRtEngine(DeviceEngine):
    """A TensorRT plan on the first GPU. Its SHA-256 must be that of its manifest.

    Buffers for the largest batch are allocated once, in pinned memory on the host. With the kernels
    of ``cpp_ext``, upload, network and download are one CUDA graph for each batch size. Without
    them, or if CUDA cannot capture the graph, they are launched one by one, as ``describe`` says.

    Raises BadInput if manifest, version or GPU do not match, before the plan is read by TensorRT;
    MissingRuntime without TensorRT, pycuda or a driver.
    """

    def __init__(self, path: str | Path) -> None:
        manifest, plan = vouched(path)
        trt = load_tensorrt(manifest.runtime)
        installed = ".".join(runtime_version(manifest.runtime).split(".")[:3])
        built = ".".join(manifest.runtime_version.split(".")[:3])
        if built != installed:
            raise BadInput(
                f"{path}: was built by {manifest.runtime} {built}, {installed} is installed; "
                f"rebuild it: {manifest.command}"
            )
        self.cuda = _pycuda()
        gpu, capability = gpu_here()
        wanted = manifest.compute_capability
        if wanted and capability and wanted != capability:
            raise BadInput(
                f"{path}: was built for compute capability {wanted}, this GPU ({gpu}) has "
                f"{capability}; rebuild it: {manifest.command}"
            )
        self.kernels = device_kernels()
        self._context = self.cuda.Device(0).retain_primary_context()
        with self.current():
            self._open(trt, Path(path), plan, max(1, manifest.batch))
        self.info = EngineInfo(
            name=manifest.name,
            runtime=f"{manifest.runtime} {manifest.runtime_version}",
            layout=manifest.layout,
            input_size=manifest.input_size,
            map_size=manifest.map_size,
            precision=manifest.precision,
            batch=max(1, manifest.batch),
            model_hash=manifest.onnx_sha256,
        )

    def _open(self, trt: Any, path: Path, plan: bytes, batch: int) -> None:
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BadInput(f"{path}: this GPU cannot run the plan; rebuild it on this machine")
        self._engine = engine
        self._execution = engine.create_execution_context()
        self.stream = self.cuda.Stream()
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in ("image", "position_map")}
        self._host, self._device = {}, {}
        self._graphs = Graphs(self.kernels, self.stream)
        for name, shape in shapes.items():
            host = self.cuda.pagelocked_empty((batch, *shape[1:]), np.float32)
            self._host[name] = host
            self._device[name] = self.cuda.mem_alloc(host.nbytes)
            self._execution.set_tensor_address(name, int(self._device[name]))
        self.image_address = int(self._device["image"])
        self.map_address = int(self._device["position_map"])

    @contextmanager
    def current(self) -> Iterator[None]:
        """See ``DeviceEngine``."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def enqueue_network(self, count: int) -> bool:
        """See ``DeviceEngine``."""
        shape = (count, 3, self.info.input_size, self.info.input_size)
        self._execution.set_input_shape("image", shape)
        return bool(self._execution.execute_async_v3(self.stream.handle))

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(images)
        with self.current():
            self._host["image"][:count] = images
            self.launch(count)
            self.stream.synchronize()
            return np.array(self._host["position_map"][:count])

    def launch(self, count: int) -> None:
        """See ``DeviceEngine``."""
        self._graphs.launch(count, lambda: self._enqueue(count))

    def _enqueue(self, count: int) -> None:
        """Upload, network and download of a batch, asynchronously on the engine's stream."""
        source, maps = self._host["image"][:count], self._host["position_map"][:count]
        self.cuda.memcpy_htod_async(self._device["image"], source, self.stream)
        if not self.enqueue_network(count):
            raise NotEnqueued(f"{self.info.name}: TensorRT refused a batch of {count}")
        self.cuda.memcpy_dtoh_async(maps, self._device["position_map"], self.stream)

    def describe(self) -> str:
        plain = self._graphs.plain
        return super().describe() + (f", no CUDA graph for batch {plain}" if plain else "")

    def _release(self) -> None:
        with self.current():
            self._graphs.close()
            for memory in self._device.values():
                memory.free()
            self._device.clear()
            del self._execution, self._engine, self._runtime


def _pycuda() -> Any:
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise missing("pycuda (with a CUDA driver)", "running TensorRT plans", "gpu") from error
    cuda.init()
    return cuda
