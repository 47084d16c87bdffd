"""A stand-in for a GPU, for testing what is put on a stream and in which order.

Memory is host memory; the kernels are their host path called through addresses. Work that is
captured is recorded and not run, and a launch repeats just what was recorded, as CUDA does.
"""

import ctypes
from contextlib import contextmanager
from typing import Any

import numpy as np
import posgan_edge_kernels as host

from posgan_edge.engines.device import DeviceEngine


def at(address, shape, dtype=np.float32):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory: Any = (ctypes.c_char * size).from_address(address)  # a buffer, which ctypes hides
    return np.frombuffer(memory, dtype).reshape(shape)


class Stream:
    handle = 77

    def __init__(self):
        self.recording = None
        self.uploads = 0

    def put(self, work):
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def synchronize(self):
        assert self.recording is None, "a stream that captures cannot be waited for"


class Pinned:
    """What ``pagelocked_empty`` allocates; an array's ``base``."""

    def __init__(self, shape, dtype):
        self.values, self.freed = np.empty(shape, dtype), False
        self.__array_interface__ = self.values.__array_interface__

    def free(self):
        assert not self.freed
        self.freed = True


class Memory:
    def __init__(self, size):
        self.bytes = np.full(size, 255, np.uint8)  # NaN, so that what is not written shows
        self.freed = False

    def __int__(self):
        assert not self.freed
        return self.bytes.ctypes.data

    def free(self):
        assert not self.freed
        self.freed = True


class Cuda:
    """The part of ``pycuda.driver`` that the package calls."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    class LogicError(Error):
        pass

    def __init__(self):
        self.allocated, self.pinned, self.waited = [], [], 0
        outer = self

        class Context:
            @staticmethod
            def synchronize():
                outer.waited += 1

        self.Context = Context

    def mem_alloc(self, size):
        self.allocated.append(Memory(size))
        return self.allocated[-1]

    def pagelocked_empty(self, shape, dtype):
        self.pinned.append(Pinned(shape, dtype))
        return np.asarray(self.pinned[-1])

    def memcpy_htod(self, device, values):
        at(int(device), values.shape, values.dtype)[:] = values

    def memcpy_htod_async(self, device, values, stream):
        assert values.nbytes <= device.bytes.nbytes

        def work():
            stream.uploads += values.nbytes
            at(int(device), values.shape, values.dtype)[:] = values

        stream.put(work)

    def memcpy_dtoh_async(self, values, device, stream):
        stream.put(
            lambda: values.__setitem__(slice(None), at(int(device), values.shape, values.dtype))
        )


class Kernels:
    """``posgan_edge_kernels.cuda`` over the stand-in's memory."""

    CudaError = RuntimeError

    def __init__(self, stream, graphs=True):
        self.stream, self.launches = stream, 0
        outer = self

        class Graph:
            def __init__(self, handle, work):
                assert handle == stream.handle
                if not graphs:
                    raise outer.CudaError("cannot be captured")
                stream.recording = []
                try:
                    work()
                finally:
                    self.steps, stream.recording = stream.recording, None

            def launch(self):
                outer.launches += 1
                for step in self.steps:
                    step()

            def close(self):
                self.steps = []

        self.Graph = Graph

    def crop_normalize(self, *, frame, transforms, out, shape, faces, size, stream):
        def work():
            height, width, pitch = shape
            rows = at(frame, (height, pitch), np.uint8)[:, : 3 * width].reshape(height, width, 3)
            at(out, (faces, 3, size, size))[:] = host.crop_normalize(
                rows, at(transforms, (faces, 2, 3)), size
            )

        self.stream.put(work)

    def extract_landmarks(
        self, *, maps, uv, transforms, points, facing, rest, shape, count, rest_count, stream
    ):  # fmt: skip
        def work():
            faces, height, width = shape
            found, cosines = host.extract_landmarks(
                at(maps, (faces, 3, height, width)), at(uv, (count + rest_count, 2)),
                at(transforms, (faces, 2, 3)), True,
            )  # fmt: skip
            at(points, (faces, count, 3))[:] = found[:, :count]
            at(rest, (faces, rest_count, 3))[:] = found[:, count:]
            at(facing, (faces, count))[:] = cosines[:, :count]

        self.stream.put(work)

    def pose_fit(self, *, points, mean, out, faces, count, stream):
        self.stream.put(
            lambda: at(out, (faces, 14)).__setitem__(
                slice(None), host.pose_fit(at(points, (faces, count, 3)), at(mean, (count, 3)))
            )
        )


class StandIn(DeviceEngine):
    """An ONNX Runtime engine whose input and output lie in the stand-in's memory."""

    def __init__(self, engine, batch, graphs=True, refuse=False):
        from dataclasses import replace

        self.engine, self.refuse = engine, refuse
        self.info = replace(engine.info, batch=batch)
        self.cuda, self.stream = Cuda(), Stream()
        self.kernels = Kernels(self.stream, graphs)
        size, points = self.info.input_size, self.info.map_size
        self._image = self.cuda.mem_alloc(batch * 12 * size * size)
        self._map = self.cuda.mem_alloc(batch * 12 * points * points)
        self.image_address, self.map_address = int(self._image), int(self._map)

    @contextmanager
    def current(self):
        yield

    def enqueue_network(self, count):
        size, points = self.info.input_size, self.info.map_size

        def work():
            maps = self.engine.infer(at(self.image_address, (count, 3, size, size)).copy())
            at(self.map_address, (count, 3, points, points))[:] = maps

        self.stream.put(work)
        return not self.refuse

    def launch(self, count):
        raise NotImplementedError

    def _infer(self, images):
        return self.engine.infer(images)
