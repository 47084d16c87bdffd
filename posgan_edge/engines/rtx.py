"""TensorRT-RTX compiles kernels on the machine that runs them: when, and where they are kept."""

from __future__ import annotations

import contextlib
from typing import Any

from posgan_edge.errors import PosganError
from posgan_edge.files import private_cache, replaced


class RtxRuntime:
    """What TensorRT-RTX needs besides a plan; does nothing for TensorRT (``needed`` False).

    Kernels for a shape are compiled when it is first run (by default RTX does that later and
    beside, so that a CUDA graph would hold the slow ones, or could not be captured), and kept in
    a file of the user's cache, so that the next start need not compile them.
    """

    def __init__(self, trt: Any, engine: Any, plan_hash: str, needed: bool) -> None:
        self.needed = needed
        if not needed:
            return
        self._engine = engine
        self._config = engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        self._config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._cache = self._config.create_runtime_cache()
        self._name, self._kept = f"{plan_hash[:32]}.cache", b""
        with contextlib.suppress(OSError, PosganError):
            self._kept = (private_cache("tensorrt-rtx") / self._name).read_bytes()
        if self._kept and not self._cache.deserialize(self._kept):
            self._kept = b""  # of another GPU or driver
        self._config.set_runtime_cache(self._cache)

    def execution(self) -> Any:
        """A new execution context, or None."""
        return self._engine.create_execution_context(self._config)

    def capturable(self, execution: Any, stream: int) -> bool:
        """Whether what a context would run may be captured in a CUDA graph."""
        return not self.needed or bool(execution.is_stream_capturable(stream))

    def save(self) -> None:
        """Writes the kernels where there are new ones."""
        if not self.needed:
            return
        kernels = bytes(self._cache.serialize())
        if kernels == self._kept:
            return
        # A full disk, or a cache that cannot be written, costs the next start some seconds.
        with (
            contextlib.suppress(OSError, PosganError),
            replaced(private_cache("tensorrt-rtx") / self._name) as temporary,
        ):
            temporary.write_bytes(kernels)
