"""The one engine protocol, and loading by name or file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from posgan_edge.errors import BadInput

if TYPE_CHECKING:
    from posgan_edge.engines.frame_path import FramePath
    from posgan_edge.geometry.layout import UvLayout

#: Models that are shipped inside the package.
SHIPPED = {"edge": "edge.onnx"}


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is. ``batch`` is the largest batch it takes, 0 for any."""

    name: str
    runtime: str
    layout: str
    input_size: int
    map_size: int
    precision: str = "fp32"
    batch: int = 0
    model_hash: str = ""
    threads: int = 0


class Engine(Protocol):
    """Images (N, 3, S, S) float32 RGB in [0, 1] -> position maps (N, 3, M, M) float32.

    Maps are in units of the crop's side: x right, y down, z towards the camera.
    """

    info: EngineInfo
    #: Whether ``infer`` may be called from several threads at once.
    concurrent: bool

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs one batch. Raises BadInput when the shape or dtype is not the engine's."""
        ...

    def frame_path(self, layout: UvLayout) -> FramePath | None:
        """The engine's own way from a frame to its faces, where it has one."""
        ...

    def gpu_clocks(self, rounds: int) -> dict[str, NDArray[np.float64]]:
        """Times (rounds,) in milliseconds on the GPU's own clock, one image: ``gpu_compute`` of
        the network, ``device_pipeline`` with upload and download; empty without a GPU."""
        ...

    def warm_up(self, batch: int = 1) -> None:
        """Runs once on random input, so that the first real call is not slow."""
        ...

    def close(self) -> None:
        """Frees what the runtime holds."""
        ...

    def describe(self) -> str:
        """One line for people."""
        ...


class EngineBase:
    """What every engine shares: input checks, warm-up, description."""

    info: EngineInfo
    concurrent = False

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        size = self.info.input_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size) or images.dtype != np.float32:
            raise BadInput(
                f"{self.info.name}: input is {images.dtype} {images.shape}, "
                f"the engine takes float32 (N, 3, {size}, {size})"
            )
        if len(images) == 0:
            return np.empty((0, 3, self.info.map_size, self.info.map_size), np.float32)
        return self._infer(images)

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError

    def frame_path(self, layout: UvLayout) -> FramePath | None:
        return None

    def gpu_clocks(self, rounds: int) -> dict[str, NDArray[np.float64]]:
        return {}

    def warm_up(self, batch: int = 1) -> None:
        size = self.info.input_size
        self.infer(np.random.default_rng(0).random((batch, 3, size, size), np.float32))

    def close(self) -> None:
        """Nothing to free unless a runtime says otherwise."""

    def describe(self) -> str:
        i = self.info
        threads = f", {i.threads} thread{'s' * (i.threads != 1)}" if i.threads else ""
        return (
            f"{i.name}: {i.precision} on {i.runtime}{threads}, layout {i.layout}, "
            f"{i.input_size}x{i.input_size} -> {i.map_size}x{i.map_size}"
        )


def load_engine(model: str | Path, threads: int | None = None, provider: str = "cpu") -> Engine:
    """An engine from a shipped name (``edge``) or a file, by its suffix: ONNX, plan, checkpoint.

    ``threads`` is the number of CPU threads; None lets the runtime's file choose what was
    measured best. ``provider`` is ONNX Runtime's: cpu, cuda or tensorrt. Raises BadInput or
    MissingRuntime in one line.
    """
    name = str(model)
    if name in SHIPPED:
        path = Path(str(resources.files("posgan_edge.assets") / SHIPPED[name]))
    else:
        path = Path(name)
        if name == "unet":
            raise BadInput("no unet weights are shipped: give a checkpoint file of one to --model")
    if not path.is_file():
        known = ", ".join(SHIPPED)
        raise BadInput(f"{path}: no such model file (shipped models: {known})")
    if path.suffix == ".onnx":
        from posgan_edge.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(path, threads, provider)
    if path.suffix in (".pth", ".pt", ".ckpt", ".safetensors"):
        from posgan_edge.engines.torch import TorchEngine

        return TorchEngine.from_file(path, threads)
    if path.suffix in (".engine", ".plan"):
        from posgan_edge.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(path)
    known = ".onnx, .engine, .plan, .pth, .pt, .ckpt or .safetensors"
    raise BadInput(f"{path}: unknown model type {path.suffix!r}: give {known}")
