"""The optional CUDA kernels (``cpp_ext``), and graphs captured with them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from posgan_edge.errors import BadInput


class NotEnqueued(BadInput):
    """Work that the runtime would not put on its stream."""


def device_kernels() -> Any | None:
    """``posgan_edge_kernels.cuda``, or None where it is not installed or was built without CUDA."""
    try:
        return import_module("posgan_edge_kernels.cuda")
    except ImportError:
        return None


def captured(kernels: Any | None, stream: int, work: Callable[[], None]) -> Any | None:
    """A graph of ``work`` on a stream handle; None where there are no kernels or it cannot be.

    ``work`` raises NotEnqueued where a part of it refuses; it must have run once before.
    """
    if kernels is None:
        return None
    try:
        return kernels.Graph(stream, work)
    except (NotEnqueued, kernels.CudaError):
        return None
