"""Loading an engine by a shipped name or a file."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from posgan_edge.arrays import described
from posgan_edge.engines.base import Engine
from posgan_edge.engines.manifest import Manifest, has_manifest, load_manifest
from posgan_edge.engines.signature import check_threads
from posgan_edge.errors import BadInput
from posgan_edge.files import as_path

#: Models that are shipped inside the package.
SHIPPED = {"edge": "edge.onnx", "edge-int8": "edge-int8.onnx"}
#: Where ONNX models run: providers of ONNX Runtime, and OpenVINO.
PROVIDERS = ("cpu", "cuda", "tensorrt", "openvino")
#: The largest model file that is read, in bytes.
LARGEST = 2 << 30
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".safetensors")
_PLANS = (".engine", ".plan")


def load_engine(
    model: str | Path,
    threads: int | None = None,
    provider: str | None = None,
    verify: str | Path | None = None,
) -> Engine:
    """An engine from a shipped name or a file, by its suffix: ONNX, plan, checkpoint.

    ``edge`` is shipped, and ``edge-int8``, its INT8 form for ONNX Runtime and OpenVINO, which is
    faster where the processor has VNNI.

    ``threads`` is the number of CPU threads; None takes the runtime's ``DEFAULT_THREADS``.
    ``provider`` is where an ONNX model runs: ``cpu``, ``cuda`` or ``tensorrt`` of ONNX Runtime, or
    ``openvino``; the name ``openvino:edge`` says the same. None takes the one that the model's
    manifest names, else the CPU. ``verify`` is a public key (Ed25519, PEM): an engine whose
    manifest was not signed by its owner is refused. ``triton://HOST:PORT/NAME`` is a network on a
    Triton server.

    Raises BadInput if the file cannot be run, or if a provider is named for a file that is not
    ONNX; MissingRuntime if something has to be installed.

    >>> from posgan_edge import load_engine
    >>> with load_engine("edge") as engine:
    ...     engine.info.layout
    'ict'
    """
    check_threads(threads)
    as_path(model, "model")
    if provider is not None and (not isinstance(provider, str) or provider not in PROVIDERS):
        raise BadInput(f"unknown provider {described(provider)}: use {', '.join(PROVIDERS)}")
    if str(model).startswith("triton://"):
        if threads is not None or provider is not None:
            raise BadInput(f"{model}: the server chooses threads and provider: leave them out")
        if verify is not None:
            raise BadInput(f"{model}: what a server runs cannot be verified: give an engine file")
        from posgan_edge.engines.triton import TritonEngine

        return TritonEngine(str(model))
    named, _ = _named_provider(model)
    if named and provider not in (None, named):
        raise BadInput(f"{model}: names the provider {named}, but {provider} is given too")
    provider = provider or named
    path = model_path(model)
    manifest = None
    if verify is not None:
        from posgan_edge.engines.signing import signed_manifest

        manifest = signed_manifest(path, verify)
    if path.suffix == ".onnx":
        return _onnx_engine(path, threads, provider, manifest)
    known = path.suffix in (*_CHECKPOINTS, *_PLANS)
    if known and provider is not None:
        runtime = "PyTorch" if path.suffix in _CHECKPOINTS else "TensorRT"
        raise BadInput(
            f"{path}: runs on {runtime}, provider {provider!r} is for ONNX models: leave it out"
        )
    if path.suffix in _CHECKPOINTS:
        from posgan_edge.engines.torch import TorchEngine

        return TorchEngine.from_file(path, threads)
    if path.suffix in _PLANS:
        from posgan_edge.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(path, manifest)
    raise BadInput(
        f"{path}: unknown model type {path.suffix!r}: give .onnx, .engine, .plan, .pth, .pt, "
        ".ckpt or .safetensors"
    )


def _onnx_engine(
    path: Path, threads: int | None, provider: str | None, manifest: Manifest | None
) -> Engine:
    provider = provider or _built_for(path, manifest)
    if provider == "openvino":
        from posgan_edge.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, threads, manifest)
    from posgan_edge.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, threads, provider, manifest)


def _built_for(path: Path, manifest: Manifest | None) -> str:
    """The provider that an ONNX engine's manifest names."""
    if manifest is None and has_manifest(path):
        manifest = load_manifest(path)
    return "openvino" if manifest is not None and manifest.runtime == "openvino" else "cpu"


def _named_provider(model: str | Path) -> tuple[str | None, str]:
    """``openvino:edge`` -> (``openvino``, ``edge``); None for a name that names no provider."""
    provider, colon, rest = str(model).partition(":")
    if colon and provider in PROVIDERS and not os.path.isfile(model):
        return provider, rest
    return None, str(model)


def model_path(model: str | Path) -> Path:
    """The file of a shipped name or of a path, where a provider may come before it. Raises
    BadInput if there is none."""
    _, name = _named_provider(model)
    if name in SHIPPED:
        return Path(str(resources.files("posgan_edge.assets") / SHIPPED[name]))
    if name == "unet":
        raise BadInput("no unet weights are shipped: give a checkpoint file of one as the model")
    if not os.path.isfile(name):  # False for a folder, a pipe, and a name that is too long
        raise BadInput(f"{name}: no such model file (shipped models: {', '.join(SHIPPED)})")
    if not os.access(name, os.R_OK):
        raise BadInput(f"{name}: cannot be read: permission denied")
    if os.path.getsize(name) > LARGEST:
        raise BadInput(f"{name}: is larger than {LARGEST >> 30} GiB")
    return Path(name)
