"""TensorRT and TensorRT-RTX plans, with pycuda for memory and streams."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import EngineInfo
from posgan_edge.engines.device import (
    NON_BLOCKING,
    DeviceEngine,
    Network,
    first_gpu,
    free_pinned,
    one_line_errors,
)
from posgan_edge.engines.kernels import Graphs, device_kernels
from posgan_edge.engines.manifest import Manifest, read_checked
from posgan_edge.engines.rtx import RtxRuntime
from posgan_edge.engines.runtimes import MODULES, load_tensorrt, runtime_version
from posgan_edge.engines.signature import MOST_IMAGES
from posgan_edge.errors import BadInput
from posgan_edge.system import gpu_here

_NAMES = ("image", "position_map")


class TensorRtEngine(DeviceEngine):
    """A TensorRT plan on the first GPU. Its SHA-256 must be that of its manifest.

    Buffers for the largest batch are allocated once, in pinned memory on the host. With the kernels
    of ``cpp_ext``, upload, network and download are one CUDA graph for each batch size. Without
    them, or if CUDA cannot capture the graph, they are launched one by one, as ``describe`` says.
    Each graph has its own execution context (``Graphs`` says why); all contexts share one piece of
    device memory.

    Raises BadInput if manifest, version or GPU do not match, before the plan is read by TensorRT,
    or if memory runs out; MissingRuntime without TensorRT, pycuda, a driver or a GPU.
    """

    def __init__(self, path: str | Path, manifest: Manifest | None = None) -> None:
        path = Path(path)
        manifest, plan = read_checked(path, manifest)
        trt = _matching_runtime(path, manifest)
        if not 1 <= manifest.batch <= MOST_IMAGES:
            raise BadInput(f"{path}: its manifest says a batch of {manifest.batch}")
        self.cuda = first_gpu()
        _check_gpu(path, manifest)
        self.info = EngineInfo(
            name=manifest.name,
            runtime=f"{manifest.runtime} {manifest.runtime_version}",
            layout=manifest.layout,
            input_size=manifest.input_size,
            map_size=manifest.map_size,
            precision=manifest.precision,
            batch=manifest.batch,
            model_hash=manifest.onnx_sha256,
        )
        self.kernels = device_kernels()
        with one_line_errors(self.cuda, self.info.name):
            device = self.cuda.Device(0)
            self.integrated = bool(device.get_attribute(self.cuda.device_attribute.INTEGRATED))
            self._context = device.retain_primary_context()
        with self.current(), ExitStack() as self._undo:
            self._open(trt, path, plan)
            plan_hash, is_rtx = hashlib.sha256(plan).hexdigest(), manifest.runtime != "tensorrt"
            self._rtx = RtxRuntime(trt, self._engine, plan_hash, is_rtx)
            self._graphs.prepare(1)
            self._undo = self._undo.pop_all()

    def _open(self, trt: Any, path: Path, plan: bytes) -> None:
        """Reads the plan and makes stream and buffers. What was made is undone if this fails."""
        self._trt, info = trt, self.info
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BadInput(f"{path}: this GPU cannot run the plan; rebuild it on this machine")
        self._engine = engine
        sizes = {"image": info.input_size, "position_map": info.map_size}
        self._check_tensors(path, sizes)
        # Work on other streams, as TensorRT's own, does not hold this one up.
        self.stream = self.cuda.Stream(NON_BLOCKING)
        self._graphs = Graphs(self, self._enqueue)
        self._executions: set[_Execution] = set()
        self._host: dict[str, NDArray[np.float32]] = {}
        self._device: dict[str, Any] = {}
        for name, size in sizes.items():
            self._host[name] = self.cuda.pagelocked_empty((info.batch, 3, size, size), np.float32)
            self._undo.callback(free_pinned, self._host[name])
            self._device[name] = self._allocated(self._host[name].nbytes)
        self._scratch_bytes = max(1, int(engine.device_memory_size_v2))
        self._scratch = self._allocated(self._scratch_bytes)
        self._undo.callback(self._drop_executions)  # before the memory that they use
        self.image_address, self.map_address = (int(self._device[name]) for name in _NAMES)

    def _check_tensors(self, path: Path, sizes: dict[str, int]) -> None:
        """Raises BadInput if the plan's inputs and outputs are not what the manifest says."""
        engine, rebuild = self._engine, "rebuild it with this version"
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        if sorted(names) != sorted(sizes):
            raise BadInput(f"{path}: has inputs and outputs {names}, not {list(sizes)}: {rebuild}")
        for name, size in sizes.items():
            shape, type_ = tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name)
            if type_ != self._trt.float32:
                raise BadInput(f"{path}: {name} is {type_}, not float32: {rebuild}")
            if shape[1:] != (3, size, size) or shape[0] not in (-1, self.info.batch):
                wanted = (self.info.batch, 3, size, size)
                raise BadInput(f"{path}: {name} is {shape}, its manifest says {wanted}: {rebuild}")

    def _allocated(self, size: int) -> Any:
        memory = self.cuda.mem_alloc(size)
        self._undo.callback(memory.free)
        return memory

    def network(self, count: int) -> Network:
        """See ``DeviceEngine``."""
        memory = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        execution = (
            self._rtx.execution()
            if self._rtx.needed
            else self._engine.create_execution_context(memory)
        )
        if execution is None:
            raise BadInput(
                f"{self.info.name}: no execution context for a batch of {count}: "
                "usually the GPU has too little free memory"
            )
        execution.set_device_memory(int(self._scratch), self._scratch_bytes)
        size = self.info.input_size
        execution.set_input_shape("image", (count, 3, size, size))
        for name in _NAMES:
            execution.set_tensor_address(name, int(self._device[name]))
        made = _Execution(self._executions, execution, self.stream.handle, self._rtx)
        self._executions.add(made)
        return made

    def _drop_executions(self) -> None:
        for made in list(self._executions):
            made.close()

    @contextmanager
    def current(self) -> Iterator[None]:
        """See ``DeviceEngine``."""
        with one_line_errors(self.cuda, self.info.name):
            self._context.push()
            try:
                yield
            finally:
                self._context.pop()

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(images)
        with self.current():
            self._host["image"][:count] = images
            self.launch(count)
            self.stream.synchronize()
            return np.array(self._host["position_map"][:count])

    def launch(self, count: int) -> None:
        """See ``DeviceEngine``."""
        self._graphs.launch(count)

    def _enqueue(self, count: int, network: Callable[[], None]) -> None:
        """Upload, network and download of a batch, asynchronously on the engine's stream."""
        source, maps = self._host["image"][:count], self._host["position_map"][:count]
        self.cuda.memcpy_htod_async(self._device["image"], source, self.stream)
        network()
        self.cuda.memcpy_dtoh_async(maps, self._device["position_map"], self.stream)

    def describe(self) -> str:
        plain = self._graphs.plain
        return super().describe() + (f", no CUDA graph for batch {plain}" if plain else "")

    def _release(self) -> None:
        with self.current():
            self._graphs.close()
            self._rtx.save()
            self._undo.close()
            self._device.clear()
            self._host.clear()
            del self._rtx, self._engine, self._runtime


class _Execution:
    """An execution context with its shape and addresses set."""

    def __init__(
        self, alive: set[_Execution], execution: Any, stream: int, runtime: RtxRuntime
    ) -> None:
        self._alive, self._execution = alive, execution
        self._stream, self._rtx = stream, runtime

    def enqueue(self) -> bool:
        return bool(self._execution.execute_async_v3(self._stream))

    def capturable(self) -> bool:
        return self._rtx.capturable(self._execution, self._stream)

    def close(self) -> None:
        self._execution = None
        self._alive.discard(self)


def _matching_runtime(path: Path, manifest: Manifest) -> Any:
    """The module that runs a plan, in the version that built it."""
    if manifest.runtime not in MODULES:
        raise BadInput(
            f"{path}: its manifest says it was built for {manifest.runtime}: give such an engine "
            "a name that ends in .onnx"
        )
    trt = load_tensorrt(manifest.runtime)
    installed = ".".join(runtime_version(manifest.runtime).split(".")[:3])
    built = ".".join(manifest.runtime_version.split(".")[:3])
    if built != installed:
        raise BadInput(
            f"{path}: was built by {manifest.runtime} {built}, {installed} is installed; "
            f"rebuild it: {manifest.command}"
        )
    return trt


def _check_gpu(path: Path, manifest: Manifest) -> None:
    gpu, capability = gpu_here()
    wanted = manifest.compute_capability
    if wanted and capability and wanted != capability:
        raise BadInput(
            f"{path}: was built for compute capability {wanted}, this GPU ({gpu}) has "
            f"{capability}; rebuild it: {manifest.command}"
        )
