"""Readers: they turn frames and crops into landmarks, poses and position maps."""

from __future__ import annotations

from posgan_edge.arrays import described
from posgan_edge.engines.base import Engine
from posgan_edge.engines.device import DeviceEngine
from posgan_edge.engines.kernels import host_kernels
from posgan_edge.errors import BadInput, MissingRuntime
from posgan_edge.faces.readers.base import FrameMemory, Reader, Reading
from posgan_edge.geometry.layout import UvLayout

__all__ = ["READERS", "FrameMemory", "Reader", "Reading", "make_reader"]

#: The readers by name: on the engine's GPU, with the kernels on the host, with numpy.
READERS = ("device", "host", "numpy")


def make_reader(
    engine: Engine,
    layout: UvLayout,
    dense: bool = True,
    mirror: bool = False,
    workers: int = 1,
    name: str | None = None,
) -> Reader:
    """The reader called ``name`` in ``READERS``; None takes the first one that is available.

    See ``HostReader`` for the options; averaging with mirrored crops is done on the host. Raises
    BadInput for another name or a reader that the engine cannot use, MissingRuntime if the kernels
    are not installed.
    """
    if name is not None and (not isinstance(name, str) or name not in READERS):
        raise BadInput(f"unknown reader {described(name)}: use {', '.join(READERS)}")
    device = engine if isinstance(engine, DeviceEngine) and engine.kernels is not None else None
    if name == "device" and (device is None or mirror):
        raise BadInput(
            f"{engine.info.name}: no reading on the device: it needs a TensorRT engine, the CUDA "
            "kernels (pip install ./cpp_ext), and no averaging with mirrored crops"
        )
    if device is not None and not mirror and name in ("device", None):
        from posgan_edge.faces.readers.device import DeviceReader

        return DeviceReader(device, layout, dense)
    on_host = host_kernels() if name in ("host", None) else None
    if on_host is not None:
        from posgan_edge.faces.readers.host import CoefficientReader, KernelReader

        coefficients = None if dense or mirror else engine.coefficients()
        if coefficients is not None:
            return CoefficientReader(engine, layout, on_host, coefficients, workers)
        return KernelReader(engine, layout, on_host, dense=dense, mirror=mirror, workers=workers)
    if name == "host":
        raise MissingRuntime("the kernels are not installed: pip install ./cpp_ext")
    from posgan_edge.faces.readers.numpy import NumpyReader

    return NumpyReader(engine, layout, dense, mirror, workers)
