"""Loading an engine by a shipped name or a file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput

#: Models that are shipped inside the package.
SHIPPED = {"edge": "edge.onnx"}
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".safetensors")
_PLANS = (".engine", ".plan")


def load_engine(model: str | Path, threads: int | None = None, provider: str = "cpu") -> Engine:
    """An engine from a shipped name (``edge``) or a file, by its suffix: ONNX, plan, checkpoint.

    ``threads`` is the number of CPU threads; None lets the runtime's file choose what was
    measured best. ``provider`` is ONNX Runtime's: cpu, cuda or tensorrt. Raises BadInput where
    the file cannot be run or does not run on ONNX Runtime and a provider is named, MissingRuntime
    where something has to be installed.

    >>> with load_engine("edge") as engine:
    ...     engine.info.layout
    'ict'
    """
    path = model_path(model)
    if path.suffix == ".onnx":
        from posgan_edge.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(path, threads, provider)
    known = path.suffix in (*_CHECKPOINTS, *_PLANS)
    if known and provider != "cpu":
        runtime = "PyTorch" if path.suffix in _CHECKPOINTS else "TensorRT"
        raise BadInput(
            f"{path}: runs on {runtime}, provider {provider!r} is for ONNX models: leave it out"
        )
    if path.suffix in _CHECKPOINTS:
        from posgan_edge.engines.torch import TorchEngine

        return TorchEngine.from_file(path, threads)
    if path.suffix in _PLANS:
        from posgan_edge.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(path)
    raise BadInput(
        f"{path}: unknown model type {path.suffix!r}: give .onnx, .engine, .plan, .pth, .pt, "
        ".ckpt or .safetensors"
    )


def model_path(model: str | Path) -> Path:
    """The file of a shipped name or of a path. Raises BadInput where there is none."""
    name = str(model)
    if name in SHIPPED:
        return Path(str(resources.files("posgan_edge.assets") / SHIPPED[name]))
    if name == "unet":
        raise BadInput("no unet weights are shipped: give a checkpoint file of one as the model")
    if not Path(name).is_file():
        raise BadInput(f"{name}: no such model file (shipped models: {', '.join(SHIPPED)})")
    return Path(name)
