"""OpenVINO on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import Engine
from posgan_edge.engines.manifest import Manifest, has_manifest, read_checked
from posgan_edge.engines.signature import Port, check_signature, check_threads
from posgan_edge.errors import BadInput, needing, one_line
from posgan_edge.files import sha256

DEFAULT_THREADS = 1
#: Batches that a network is compiled for; others are put together from these.
BATCHES = (8, 4, 2, 1)
_TYPES = {"f32": "float32", "f16": "float16"}
#: Operators that may run without an end, and that no network of this package needs.
_LOOPS = {"Loop", "TensorIterator", "If"}


class OpenVinoEngine(Engine):
    """An ONNX file with input ``image`` and output ``position_map``, on the CPU.

    The network is compiled for each batch size of ``BATCHES`` when that is first needed. Raises
    BadInput if OpenVINO cannot run the file, MissingRuntime if OpenVINO is not installed.
    """

    def __init__(
        self, path: str | Path, threads: int | None = None, manifest: Manifest | None = None
    ) -> None:
        self.file = path = Path(path)
        check_threads(threads)
        openvino = load_openvino()
        self._core = openvino.Core()
        self._threads = threads or DEFAULT_THREADS
        try:
            if manifest is not None or has_manifest(path):
                manifest, data = read_checked(path, manifest)
                digest, self._model = manifest.engine_sha256, self._core.read_model(data)
            else:
                digest, self._model = sha256(path), self._core.read_model(str(path))
        except RuntimeError as error:
            raise BadInput(f"{path}: OpenVINO cannot read it: {one_line(error)}") from error
        try:
            inputs, outputs = _ports(self._model)
            metadata = _metadata(self._model)
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: a name in it is not UTF-8 text") from error
        found = check_signature(path, inputs, outputs, metadata)
        if loops := _LOOPS & {op.get_type_name() for op in self._model.get_ops()}:
            raise BadInput(f"{path}: holds {min(loops)}, which is not run on OpenVINO")
        self._type, self._fixed = np.dtype(found.type), found.batch
        self._requests: dict[int, Any] = {}
        runtime = f"openvino {version(openvino)} (cpu)"
        self.info = found.info(runtime, digest, self._threads)
        maps = self._infer(np.zeros((1, 3, found.input_size, found.input_size), np.float32))
        if maps.shape != (1, 3, found.map_size, found.map_size):
            raise BadInput(f"{path}: returns maps {maps.shape}, not what its file says")

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        maps = [self._run(part) for part in self._parts(images)]
        return maps[0] if len(maps) == 1 else np.concatenate(maps)

    def _parts(self, images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        if self._fixed:
            yield images
            return
        first = 0
        while first < len(images):
            size = next(batch for batch in BATCHES if batch <= len(images) - first)
            yield images[first : first + size]
            first += size

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs one call. A batch smaller than the network's fixed one is filled with zeros."""
        count, size = len(images), self._fixed or len(images)
        fed = np.zeros((size, *images.shape[1:]), self._type)
        fed[:count] = images
        try:
            if size not in self._requests:
                self._requests[size] = self._compiled(fed.shape)
            maps = self._requests[size].infer({"image": fed})["position_map"]
        except RuntimeError as error:
            raise BadInput(
                f"{self.info.name}: OpenVINO cannot run a batch of {count}: {one_line(error)}"
            ) from error
        return np.array(maps[:count], np.float32)

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        """An inference request of the network, compiled for one input shape."""
        model = self._model.clone()
        model.reshape({"image": list(shape)})
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self._threads,
            # By default, FP32 becomes BF16 on processors that support it.
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        return self._core.compile_model(model, "CPU", settings).create_infer_request()

    def _release(self) -> None:
        self._requests.clear()
        del self._model, self._core


def load_openvino() -> Any:
    """The ``openvino`` module, with its usage statistics switched off. Raises MissingRuntime if
    OpenVINO is not installed."""
    reporter, absent = "openvino_telemetry", object()
    before = sys.modules.get(reporter, absent)
    sys.modules[reporter] = None  # type: ignore[assignment]  # OpenVINO's own stub serves then
    try:
        with needing("openvino", "running a model on OpenVINO", "openvino"):
            import openvino
    finally:
        if before is absent:
            del sys.modules[reporter]
        else:
            sys.modules[reporter] = before  # type: ignore[assignment]
    return openvino


def version(openvino: Any) -> str:
    """``2026.4.1`` of a version that also names build and branch."""
    return str(openvino.__version__).split("-")[0]


def _ports(model: Any) -> tuple[list[Port], list[Port]]:
    return [_port(p) for p in model.inputs], [_port(p) for p in model.outputs]


def _port(port: Any) -> Port:
    shape, name = port.get_partial_shape(), port.get_element_type().get_type_name()
    sizes = None
    if shape.rank.is_static:
        sizes = tuple(size.get_length() if size.is_static else None for size in shape)
    # A port may have several names, or none.
    names = port.get_names()
    known = names & {"image", "position_map"}
    return Port(min(known or names, default="?"), _TYPES.get(name, name), sizes)


def _metadata(model: Any) -> dict[str, str]:
    """The metadata of the ONNX file."""
    try:
        entries = model.get_rt_info("framework").value
    except RuntimeError:
        return {}
    return {str(key): str(value) for key, value in entries.items()}
