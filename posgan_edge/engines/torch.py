"""The PyTorch reference engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import Engine, EngineInfo
from posgan_edge.errors import needing

with needing("PyTorch", "this model file", "torch"):
    import torch

if TYPE_CHECKING:
    from posgan_edge.models.registry import Generator


class TorchEngine(Engine):
    """A PyTorch generator in FP32, on the device that holds its weights."""

    def __init__(self, generator: Generator, name: str, model_hash: str = "") -> None:
        self.generator = generator.eval()
        self.device = next(generator.parameters()).device
        self.on_gpu = self.device.type != "cpu"
        self.info = EngineInfo(
            name=name,
            runtime=f"torch {torch.__version__} ({self.device.type})",
            layout=generator.layout,
            input_size=generator.input_size,
            map_size=generator.map_size,
            model_hash=model_hash,
            threads=torch.get_num_threads() if self.device.type == "cpu" else 0,
        )

    @classmethod
    def from_file(cls, path: str | Path, threads: int | None = None) -> TorchEngine:
        """From a checkpoint file; see ``models.checkpoints.load_generator``."""
        from posgan_edge.files import sha256
        from posgan_edge.models.checkpoints import load_generator
        from posgan_edge.models.registry import to_memory_format

        if threads:
            torch.set_num_threads(threads)
        generator = to_memory_format(load_generator(path), torch.channels_last)
        return cls(generator, Path(path).name, sha256(path))

    def modes(self) -> NDArray[np.float32] | None:
        found = getattr(self.generator, "modes", None)
        return None if found is None else found.detach().cpu().numpy()

    @torch.inference_mode()
    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        x = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
        maps: NDArray[np.float32] = self.generator(x).float().cpu().contiguous().numpy()
        return maps
