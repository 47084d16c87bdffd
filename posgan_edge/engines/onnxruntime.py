"""ONNX Runtime on the CPU, or on a GPU through its CUDA and TensorRT providers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import Engine, EngineInfo
from posgan_edge.engines.manifest import manifest_path, vouched
from posgan_edge.errors import BadInput, MissingRuntime, missing
from posgan_edge.files import sha256

try:
    import onnxruntime as ort
except ImportError as _error:
    raise missing("onnxruntime", "running an ONNX model", "all") from _error

#: More intra-op threads than one slow these small networks down on the machines measured
#: (see benchmarks/README.md), and leave no core for capture and detection.
DEFAULT_THREADS = 1
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class OnnxRuntimeEngine(Engine):
    """An ONNX file with input ``image`` and output ``position_map``, as ``export`` writes it.

    ``provider`` is ``cpu``, ``cuda`` or ``tensorrt``; where it cannot be had MissingRuntime is
    raised; the CPU does not take its place.
    """

    def __init__(self, path: str | Path, threads: int | None = None, provider: str = "cpu") -> None:
        path = Path(path)
        # What a manifest vouches for is loaded from the bytes that were checked; other models by
        # their path, as their weights may lie in files beside them.
        model: str | bytes = str(path)
        if manifest_path(path).is_file():
            manifest, model = vouched(path)
            digest = manifest.engine_sha256
        else:
            digest = sha256(path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or DEFAULT_THREADS
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning workers take the cores that capture and detection need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = _provider(provider)
        try:
            self._session = ort.InferenceSession(model, options, providers=[wanted])
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            reason = " ".join(str(error).split())[:160]
            raise BadInput(f"{path}: not an ONNX model that can be run: {reason}") from error
        if self._session.get_providers()[0] != wanted:
            raise MissingRuntime(f"onnxruntime cannot start its {provider} provider here")
        inputs = {i.name: i.shape for i in self._session.get_inputs()}
        outputs = {o.name: o.shape for o in self._session.get_outputs()}
        metadata = self._session.get_modelmeta().custom_metadata_map
        if "image" not in inputs or "position_map" not in outputs or "layout" not in metadata:
            raise BadInput(
                f"{path}: not a posgan-edge model (input 'image', output 'position_map' and "
                f"'layout' metadata are needed; found {list(inputs)} -> {list(outputs)})"
            )
        self.concurrent = provider == "cpu"
        self._half = self._session.get_inputs()[0].type == "tensor(float16)"
        batch = inputs["image"][0]
        self.info = EngineInfo(
            name=metadata.get("name", path.stem),
            runtime=f"onnxruntime {ort.__version__} ({provider})",
            layout=metadata["layout"],
            input_size=int(inputs["image"][2]),
            map_size=int(outputs["position_map"][2]),
            precision=metadata.get("precision", "fp32"),
            batch=batch if isinstance(batch, int) else 0,
            model_hash=digest,
            threads=options.intra_op_num_threads if provider == "cpu" else 0,
        )

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        fed = images.astype(np.float16) if self._half else images
        (maps,) = self._session.run(["position_map"], {"image": fed})
        return np.asarray(maps, np.float32)

    def _release(self) -> None:
        del self._session


def _provider(name: str) -> str:
    if name not in PROVIDERS:
        raise BadInput(f"unknown provider {name!r}: use {', '.join(PROVIDERS)}")
    if PROVIDERS[name] not in ort.get_available_providers():
        raise MissingRuntime(
            f"this onnxruntime has no {name} provider: pip install onnxruntime-gpu in its place"
        )
    return PROVIDERS[name]
