"""TensorRT and TensorRT-RTX plans, with pycuda for memory and streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import EngineBase, EngineInfo
from posgan_edge.engines.cuda_graph import CudaGraph
from posgan_edge.engines.machine import gpu_here
from posgan_edge.engines.manifest import checked_manifest
from posgan_edge.engines.tensorrt_builder import load_tensorrt, runtime_version
from posgan_edge.errors import BadInput, missing


class TensorRtEngine(EngineBase):
    """A plan that its manifest vouches for, on the first GPU.

    Buffers for the largest batch are allocated once, host memory is pinned, and upload, network
    and download are captured as one CUDA graph per batch size; where that fails they are launched
    one by one, and ``describe`` says so. Raises BadInput when manifest, version, or GPU do not
    match (before the plan is deserialised), MissingRuntime without TensorRT, pycuda or a driver.
    """

    def __init__(self, path: str | Path) -> None:
        manifest = checked_manifest(path)
        trt = load_tensorrt(manifest.runtime)
        installed = ".".join(runtime_version(manifest.runtime).split(".")[:3])
        built = ".".join(manifest.runtime_version.split(".")[:3])
        if built != installed:
            raise BadInput(
                f"{path}: was built by {manifest.runtime} {built}, {installed} is installed; "
                f"rebuild it: {manifest.command}"
            )
        self._cuda = _pycuda()
        gpu, capability = gpu_here()
        wanted = manifest.compute_capability
        if wanted and capability and wanted != capability:
            raise BadInput(
                f"{path}: was built for compute capability {wanted}, this GPU ({gpu}) has "
                f"{capability}; rebuild it: {manifest.command}"
            )
        self._context = self._cuda.Device(0).retain_primary_context()
        self._context.push()
        try:
            self._open(trt, Path(path), max(1, manifest.batch))
        finally:
            self._context.pop()
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

    def _open(self, trt: Any, path: Path, batch: int) -> None:
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise BadInput(f"{path}: this GPU cannot run the plan; rebuild it on this machine")
        self._engine = engine
        self._execution = engine.create_execution_context()
        self._stream = self._cuda.Stream()
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in ("image", "position_map")}
        self._host, self._device = {}, {}
        self._graphs: dict[int, CudaGraph | None] = {}
        for name, shape in shapes.items():
            host = self._cuda.pagelocked_empty((batch, *shape[1:]), np.float32)
            self._host[name] = host
            self._device[name] = self._cuda.mem_alloc(host.nbytes)
            self._execution.set_tensor_address(name, int(self._device[name]))

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(images)
        if count > self.info.batch:
            raise BadInput(f"{self.info.name}: {count} images, the plan takes {self.info.batch}")
        self._context.push()
        try:
            self._host["image"][:count] = images
            if count not in self._graphs:
                self._graphs[count] = self._capture(count)
            graph = self._graphs[count]
            if not (graph.launch() if graph is not None else self._enqueue(count)):
                raise BadInput(f"{self.info.name}: TensorRT refused a batch of {count}")
            self._stream.synchronize()
            return np.array(self._host["position_map"][:count])
        finally:
            self._context.pop()

    def _enqueue(self, count: int) -> bool:
        """Upload, network and download of a batch, asynchronously on the engine's stream."""
        source, answer = self._host["image"][:count], self._host["position_map"][:count]
        self._execution.set_input_shape("image", source.shape)
        self._cuda.memcpy_htod_async(self._device["image"], source, self._stream)
        done = self._execution.execute_async_v3(self._stream.handle)
        self._cuda.memcpy_dtoh_async(answer, self._device["position_map"], self._stream)
        return bool(done)

    def _capture(self, count: int) -> CudaGraph | None:
        """A graph of one batch size, after one plain run: a new shape does work of its own."""
        if not self._enqueue(count):
            raise BadInput(f"{self.info.name}: TensorRT refused a batch of {count}")
        self._stream.synchronize()
        return CudaGraph.capture(int(self._stream.handle), lambda: self._enqueue(count))

    def describe(self) -> str:
        plain = [count for count, graph in self._graphs.items() if graph is None]
        return super().describe() + (f", no CUDA graph for batch {plain}" if plain else "")

    def close(self) -> None:
        self._context.push()
        try:
            for graph in self._graphs.values():
                if graph is not None:
                    graph.close()
            self._graphs.clear()
            for memory in self._device.values():
                memory.free()
            self._device.clear()
            del self._execution, self._engine, self._runtime
        finally:
            self._context.pop()


def _pycuda() -> Any:
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise missing("pycuda (with a CUDA driver)", "running TensorRT plans", "gpu") from error
    cuda.init()
    return cuda
