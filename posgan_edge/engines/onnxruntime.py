"""ONNX Runtime on the CPU, or on a GPU through its CUDA and TensorRT providers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines import onnxruntime_gpu as gpu
from posgan_edge.engines.base import Coefficients, Engine
from posgan_edge.engines.manifest import Manifest, has_manifest, read_checked
from posgan_edge.engines.modes import coefficient_model, modes_of
from posgan_edge.engines.signature import Port, Signature, check_signature, check_threads
from posgan_edge.errors import BadInput, MissingRuntime, needing, one_line
from posgan_edge.files import sha256

with needing("onnxruntime", "running an ONNX model", "all"):
    import onnxruntime as ort

#: More intra-op threads than one slow these small networks down on the machines measured
#: (see benchmarks/README.md), and leave no core for capture and detection.
DEFAULT_THREADS = 1
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
#: Seconds that the first call may take on the CPU: a file may hold a loop without an end.
FIRST_CALL_SECONDS = 60.0
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


class OnnxRuntimeEngine(Engine):
    """An ONNX file with input ``image`` and output ``position_map``, as ``export`` writes it.

    ``provider`` is ``cpu``, ``cuda`` or ``tensorrt``. MissingRuntime is raised if it is not
    available; the CPU is never used instead. The network runs once while it is loaded. BadInput is
    raised if that fails, or takes longer than ``FIRST_CALL_SECONDS`` on the CPU.
    """

    _bound: gpu.Bound | None = None
    _cut: ort.InferenceSession | None = None

    def __init__(
        self,
        path: str | Path,
        threads: int | None = None,
        provider: str = "cpu",
        manifest: Manifest | None = None,
    ) -> None:
        self.file = path = Path(path)
        check_threads(threads)
        # A model with a manifest is loaded from the bytes that were checked, any other by its
        # path, because its weights may be in files beside it.
        model: str | bytes = str(path)
        if manifest is not None or has_manifest(path):
            manifest, model = read_checked(path, manifest)
            digest = manifest.engine_sha256
        else:
            digest = sha256(path)
        wanted = _provider(provider)
        found = self._open(path, model, threads or DEFAULT_THREADS, "cpu")
        if provider != "cpu":
            gpu.load_libraries(ort)
            chosen = gpu.options(provider, found, digest)
            self._open(path, model, DEFAULT_THREADS, provider, chosen)
            self._bound = gpu.Bound(ort, self._session, found)
        if self._session.get_providers()[0] != wanted:
            raise MissingRuntime(
                f"onnxruntime cannot start its {provider} provider here: it needs an NVIDIA driver "
                "and the libraries that this onnxruntime-gpu was built for"
            )
        self.on_gpu = provider != "cpu"
        self.concurrent = not self.on_gpu
        self._type, self._fixed = np.dtype(found.type), found.batch
        runtime = f"onnxruntime {ort.__version__} ({provider}{gpu.precision_note(provider)})"
        on_cpu = (threads or DEFAULT_THREADS) if provider == "cpu" else 0
        self.info = found.info(runtime, digest, on_cpu, 0 if on_cpu else gpu.BATCH)
        self._try(FIRST_CALL_SECONDS if provider == "cpu" else None)

    def _open(
        self,
        path: Path,
        model: str | bytes,
        threads: int,
        provider: str,
        chosen: dict[str, str] | None = None,
    ) -> Signature:
        """Makes the session. Returns what the network takes and returns, once checked."""
        try:
            self._session = ort.InferenceSession(
                model,
                _options(threads),
                providers=[(PROVIDERS[provider], chosen or {})],
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            reason = one_line(error)
            if provider != "cpu":
                raise MissingRuntime(
                    f"onnxruntime cannot start its {provider} provider here: {reason}"
                ) from error
            raise BadInput(f"{path}: not an ONNX model that can be run: {reason}") from error
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            inputs = _ports(self._session.get_inputs())
            outputs = _ports(self._session.get_outputs())
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: a name in it is not UTF-8 text") from error
        return check_signature(path, inputs, outputs, metadata)

    def _try(self, seconds: float | None) -> None:
        """Runs the network once, for at most so many seconds. Raises BadInput if that fails."""
        options = ort.RunOptions()
        options.log_severity_level = 4  # errors are raised, and need not be printed too
        ended = Timer(seconds or 0, setattr, (options, "terminate", True))
        ended.daemon = True
        if seconds is not None:
            ended.start()
        info = self.info
        images = np.zeros((1, 3, info.input_size, info.input_size), np.float32)
        try:
            maps = self._infer(images, options)
        except BadInput as error:
            if options.terminate:
                raise BadInput(f"{info.name}: the first call took over {seconds:g} s") from error
            raise
        finally:
            ended.cancel()
        if maps.shape != (1, 3, info.map_size, info.map_size):
            raise BadInput(
                f"{info.name}: returns maps {maps.shape}, its file says "
                f"(1, 3, {info.map_size}, {info.map_size})"
            )

    def coefficients(self) -> Coefficients | None:
        """See ``Engine``; None on a GPU, and if the file has changed since it was loaded. Raises
        BadInput if the engine is closed."""
        self.check_open()
        if self.on_gpu or self._fixed or self._type != np.float32 or self.file is None:
            return None
        try:
            model = self.file.read_bytes()
            modes = modes_of(model, self.info.map_size)
            cut = None if modes is None else coefficient_model(model, len(modes))
        except (OSError, IndexError, ValueError):
            return None
        if (
            modes is None
            or cut is None
            or hashlib.sha256(model).hexdigest() != self.info.model_hash
        ):
            return None
        model, name = cut

        def infer(images: NDArray[np.float32]) -> NDArray[np.float32]:
            self._check(images)
            return np.asarray(self._run(self._cut, name, images), np.float32)

        image = np.random.default_rng(0).random((1, 3, *[self.info.input_size] * 2), np.float32)
        try:
            self._cut = self._cut or ort.InferenceSession(
                model, _options(self.info.threads), providers=[PROVIDERS["cpu"]]
            )
            maps = (infer(image) @ modes).reshape(1, 3, *[self.info.map_size] * 2)
            # A file may use these names for something else.
            same = np.allclose(maps, self.infer(image), rtol=1e-4, atol=1e-5)
        except Exception:  # onnxruntime's own classes derive from Exception alone
            same = False
        return Coefficients(modes, infer) if same else None

    def _infer(self, images: NDArray[np.float32], options: Any = None) -> NDArray[np.float32]:
        count = len(images)
        fed = images.astype(self._type, copy=False)
        if self._fixed > count:
            fed = np.concatenate([fed, np.zeros((self._fixed - count, *fed.shape[1:]), fed.dtype)])
        maps = self._run(self._session, "position_map", fed, options)
        return np.asarray(maps, np.float32)[:count]

    def _run(self, session: Any, output: str, images: NDArray[Any], options: Any = None) -> Any:
        try:
            if self._bound is not None:
                return self._bound.run(images)
            return session.run([output], {"image": images}, options)[0]
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            raise BadInput(
                f"{self.info.name}: onnxruntime cannot run a batch of {len(images)}: "
                f"{one_line(error)}"
            ) from error

    def _release(self) -> None:
        if self._bound is not None:
            self._bound.close()
        self._cut = None
        del self._session


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait in a busy loop would take the cores that capture and detection need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _ports(found: Any) -> list[Port]:
    """The inputs or outputs of a session; symbolic and unknown sizes become None."""
    return [
        Port(
            port.name,
            _TYPES.get(port.type, port.type.removeprefix("tensor(").removesuffix(")")),
            tuple(size if isinstance(size, int) and size > 0 else None for size in port.shape),
        )
        for port in found
    ]


def _provider(name: str) -> str:
    if name not in PROVIDERS:
        raise BadInput(f"unknown provider {name!r}: use {', '.join(PROVIDERS)}")
    if PROVIDERS[name] not in ort.get_available_providers():
        raise MissingRuntime(
            f"this onnxruntime has no {name} provider: pip install onnxruntime-gpu in its place"
        )
    return PROVIDERS[name]
