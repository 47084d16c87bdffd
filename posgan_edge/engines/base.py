"""The engine's base class: images in, position maps out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import described, in_batches, whole
from posgan_edge.closing import Closing
from posgan_edge.errors import BadInput


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is. ``batch`` is the largest batch it takes, 0 for any.

    >>> from posgan_edge import load_engine
    >>> with load_engine("edge") as engine:
    ...     engine.info.input_size, engine.info.map_size
    (128, 128)
    """

    name: str
    runtime: str
    layout: str
    input_size: int
    map_size: int
    precision: str = "fp32"
    batch: int = 0
    model_hash: str = ""
    threads: int = 0


@dataclass(frozen=True)
class Coefficients:
    """A network without its last step, the product with its modes.

    ``modes`` is (K, M * M) float32. ``infer`` takes images as ``Engine.infer`` does, of any number,
    and returns coefficients (N, 3, K) float32; their product with the modes is the map. It raises
    BadInput as ``Engine.infer`` does.
    """

    modes: NDArray[np.float32]
    infer: Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Engine(Closing, ABC):
    """Images (N, 3, S, S) float32 RGB in [0, 1] -> position maps (N, 3, M, M) float32.

    Maps are in units of the crop's side: x right, y down, z towards the camera. An engine is a
    context manager; ``close`` may be called more than once. To add a runtime, derive from this
    class, set ``info`` and implement ``_infer``.

    >>> import numpy as np
    >>> from posgan_edge import load_engine
    >>> with load_engine("edge") as engine:
    ...     engine.infer(np.zeros((2, 3, 128, 128), np.float32)).shape
    (2, 3, 128, 128)
    """

    info: EngineInfo
    #: Whether ``infer`` may be called from several threads at once.
    concurrent: bool = False
    #: Whether the network runs on a GPU.
    on_gpu: bool = False
    closed: bool = False
    #: The ONNX file that the engine runs.
    file: Path | None = None

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs one batch: images (N, 3, S, S) float32 to maps (N, 3, M, M) float32.

        Raises BadInput if the shape or the data type is wrong, if the batch is larger than
        ``info.batch``, or if the engine is closed.
        """
        self._check(images)
        if len(images) == 0:
            return np.empty((0, 3, self.info.map_size, self.info.map_size), np.float32)
        return self._infer(images)

    def _check(self, images: NDArray[np.float32]) -> None:
        """Raises BadInput if the engine is closed or cannot take the images."""
        self.check_open()
        size = self.info.input_size
        if not isinstance(images, np.ndarray):
            raise BadInput(f"{self.info.name}: images is {described(images)}: give float32 arrays")
        if images.ndim != 4 or images.shape[1:] != (3, size, size) or images.dtype != np.float32:
            raise BadInput(
                f"{self.info.name}: input is {images.dtype} {images.shape}, "
                f"the engine takes float32 (N, 3, {size}, {size})"
            )
        if self.info.batch and len(images) > self.info.batch:
            most = self.info.batch
            raise BadInput(f"{self.info.name}: {len(images)} images, the engine takes {most}")

    def infer_all(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """``infer`` of any number of images, in as many batches as the engine needs.

        Raises BadInput as ``infer`` does.
        """
        if not isinstance(images, np.ndarray) or not images.ndim:
            return self.infer(images)  # which refuses it
        return in_batches(self.infer, images, self.info.batch or len(images))

    @abstractmethod
    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """``infer`` of at least one image, already checked."""

    def modes(self) -> NDArray[np.float32] | None:
        """The modes (K, M * M) float32 that every map is a sum of, each axis with K coefficients of
        its own; None where the network has none, or its file does not contain them."""
        if self.file is None:
            return None
        from posgan_edge.engines.modes import onnx_modes

        return onnx_modes(self.file, self.info.map_size)

    def coefficients(self) -> Coefficients | None:
        """The network without its last step, for those who read only a few points of its maps;
        None where the engine cannot leave that step out."""
        return None

    def warm_up(self, batch: int = 1) -> None:
        """Runs once on random input, so that the first real call is not slow."""
        size, batch = self.info.input_size, whole(batch, "batch", 1, 1024)
        self.infer(np.random.default_rng(0).random((batch, 3, size, size), np.float32))

    def describe(self) -> str:
        """One line that says what runs where, for logs and reports."""
        i = self.info
        threads = f", {i.threads} thread{'s' * (i.threads != 1)}" if i.threads else ""
        return (
            f"{i.name}: {i.precision} on {i.runtime}{threads}, layout {i.layout}, "
            f"{i.input_size}x{i.input_size} -> {i.map_size}x{i.map_size}"
        )

    def check_open(self) -> None:
        """Raises BadInput if the engine is closed."""
        if self.closed:
            raise BadInput(f"{self.info.name}: the engine is closed: load it again")

    def close(self) -> None:
        """Frees what the runtime holds. A second call does nothing."""
        if not self.closed:
            self.closed = True
            self._release()

    def _release(self) -> None:
        """Frees what the runtime holds; called once."""
