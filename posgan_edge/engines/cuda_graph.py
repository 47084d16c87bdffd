"""Capturing and replaying work on a CUDA stream, by the driver API (pycuda has no graphs)."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

from posgan_edge.errors import MissingRuntime

_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


class CudaGraph:
    """Work captured from a stream, to be launched as one. ``launch`` is asynchronous.

    ``capture`` answers None, and leaves the stream usable, when the work cannot be captured.
    """

    def __init__(self, driver: ctypes.CDLL, executable: ctypes.c_void_p, stream: int) -> None:
        self._driver, self._executable, self._stream = driver, executable, stream

    @classmethod
    def capture(cls, stream: int, work: Callable[[], bool]) -> CudaGraph | None:
        """Runs ``work`` in capture on a stream handle (not the default stream).

        ``work`` enqueues on that stream alone and answers whether it could.
        """
        driver, handle = _driver(), ctypes.c_void_p(stream)
        if driver.cuStreamBeginCapture_v2(handle, _CAPTURE_THREAD_LOCAL):
            return None
        try:
            enqueued = work()
        finally:
            graph = ctypes.c_void_p()
            failed = driver.cuStreamEndCapture(handle, ctypes.byref(graph))
        if failed or not graph:
            return None
        executable = ctypes.c_void_p()
        if enqueued:
            failed = driver.cuGraphInstantiateWithFlags(
                ctypes.byref(executable), graph, ctypes.c_ulonglong(0)
            )
        driver.cuGraphDestroy(graph)
        return None if failed or not enqueued else cls(driver, executable, stream)

    def launch(self) -> bool:
        """Launches the captured work on its stream; False when the driver refuses."""
        return not self._driver.cuGraphLaunch(self._executable, ctypes.c_void_p(self._stream))

    def close(self) -> None:
        """Frees the graph."""
        self._driver.cuGraphExecDestroy(self._executable)


def _driver() -> ctypes.CDLL:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise MissingRuntime("no CUDA driver on this machine: install NVIDIA's driver") from error
