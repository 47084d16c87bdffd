"""What ONNX Runtime needs on an NVIDIA GPU: libraries, options, and arrays that stay there."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.signature import Signature
from posgan_edge.files import private_cache

#: The largest batch: TensorRT's profile ends here, and buffers are made up to it.
BATCH = 8


def load_libraries(ort: Any) -> None:
    """Loads CUDA and cuDNN from their wheels, where they are installed as such."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()


def options(provider: str, found: Signature, digest: str) -> dict[str, str]:
    """Options of the provider ``cuda`` or ``tensorrt`` for a model with that hash.

    CUDA computes FP32 without TF32. TensorRT keeps its engines, which take minutes to build, in a
    folder for each model, and builds them for batches from 1 to ``BATCH``.
    """
    if provider == "cuda":
        return {"device_id": "0", "use_tf32": "0"}
    cache = str(private_cache("tensorrt", digest[:32]))
    chosen = {
        "device_id": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
    }
    if not found.batch:
        shape = f"3x{found.input_size}x{found.input_size}"
        for name, batch in (("min", 1), ("opt", 1), ("max", BATCH)):
            chosen[f"trt_profile_{name}_shapes"] = f"image:{batch}x{shape}"
    return chosen


def precision_note(provider: str) -> str:
    """What an engine's description says of FP32: ONNX Runtime cannot forbid TensorRT to use TF32,
    the variable of NVIDIA's libraries can."""
    if provider == "tensorrt" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
        return ", TF32 allowed"
    return ""


class Bound:
    """A session with its input and output on a device, one pair for each batch size."""

    def __init__(self, ort: Any, session: Any, found: Signature, device: str = "cuda") -> None:
        self._ort, self._session, self._found, self._device = ort, session, found, device
        self._pairs: dict[int, tuple[Any, Any, Any]] = {}

    def run(self, images: NDArray[Any]) -> NDArray[Any]:
        """Maps (N, 3, M, M) of images (N, 3, S, S), both of the network's type."""
        if len(images) not in self._pairs:
            self._pairs[len(images)] = self._pair(len(images))
        binding, image, maps = self._pairs[len(images)]
        image.update_inplace(np.ascontiguousarray(images))
        self._session.run_with_iobinding(binding)
        return np.array(maps.numpy())  # on some devices it is a view, which the next call fills

    def _pair(self, count: int) -> tuple[Any, Any, Any]:
        sizes, type_ = (self._found.input_size, self._found.map_size), np.dtype(self._found.type)
        image, maps = (
            self._ort.OrtValue.ortvalue_from_shape_and_type(
                [count, 3, size, size], type_, self._device, 0
            )
            for size in sizes
        )
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("image", image)
        binding.bind_ortvalue_output("position_map", maps)
        return binding, image, maps

    def close(self) -> None:
        """Frees the arrays."""
        self._pairs.clear()
