"""The TensorRT modules, loaded by the name of their target."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from posgan_edge.errors import MissingRuntime

#: Targets and the Python modules that serve them.
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


def load_tensorrt(target: str) -> Any:
    """The Python module of a target. Raises MissingRuntime with what to install."""
    try:
        return import_module(MODULES[target])
    except (ImportError, OSError) as error:
        raise MissingRuntime(
            f"{target} is not installed or its libraries are absent: "
            f"pip install 'posgan-edge[{target}]' (on a Jetson it comes with JetPack)"
        ) from error


def runtime_version(target: str) -> str:
    """The version of a target's library; of TensorRT as a plan's header states it. Raises
    MissingRuntime without it."""
    if target == "openvino":
        from posgan_edge.engines import openvino

        return openvino.version(openvino.load_openvino())
    if target == "onnxruntime":
        return str(import_module(target).__version__)
    version: str = load_tensorrt(target).__version__
    return version
