"""A stand-in for a GPU, for testing what is put on a stream and in which order.

Memory is host memory; the kernels are their host path called through addresses.
"""

import ctypes
from contextlib import contextmanager
from typing import Any

import numpy as np
import posgan_edge_kernels as host

from posgan_edge.engines.device import DeviceEngine
from tests.helpers.capture import Capturing, Stream


def at(address, shape, dtype=np.float32):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory: Any = (ctypes.c_char * size).from_address(address)  # a buffer, which ctypes hides
    return np.frombuffer(memory, dtype).reshape(shape)


class Pinned:
    """What ``pagelocked_empty`` allocates; an array's ``base``."""

    def __init__(self, shape, dtype, flags):
        self.values, self.freed, self.flags = np.empty(shape, dtype), False, flags
        self.__array_interface__ = self.values.__array_interface__

    def get_device_pointer(self):
        assert self.flags & Cuda.host_alloc_flags.DEVICEMAP
        assert not self.freed
        return self.values.ctypes.data

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

    class host_alloc_flags:  # noqa: N801
        DEVICEMAP = 2

    def __init__(self, pinnable=1 << 40):
        self.allocated, self.pinned, self.waited = [], [], 0
        self.pinnable = pinnable
        outer = self

        class Context:
            @staticmethod
            def synchronize():
                outer.waited += 1

        self.Context = Context

    def mem_alloc(self, size):
        self.allocated.append(Memory(size))
        return self.allocated[-1]

    def pagelocked_empty(self, shape, dtype, mem_flags=0):
        pinned = Pinned(shape, dtype, mem_flags)
        if pinned.values.nbytes > self.pinnable:
            raise self.MemoryError("cuMemHostAlloc failed: out of memory")
        self.pinnable -= pinned.values.nbytes
        self.pinned.append(pinned)
        return np.asarray(self.pinned[-1])

    def _is_pinned(self, values):
        start = values.ctypes.data
        return any(
            0 <= start - p.values.ctypes.data <= p.values.nbytes - values.nbytes and not p.freed
            for p in self.pinned
        )

    def _room(self, address):
        """How many bytes of an allocation lie from an address on."""
        starts = [(m.bytes.ctypes.data, m.bytes.nbytes) for m in self.allocated if not m.freed]
        return max(start + size - address for start, size in starts if start <= address)

    def memcpy_htod(self, device, values):
        at(int(device), values.shape, values.dtype)[:] = values

    def memcpy_htod_async(self, device, values, stream):
        assert values.nbytes <= self._room(int(device))
        assert self._is_pinned(values)
        assert values.flags.c_contiguous
        stream.put(
            lambda: at(int(device), values.shape, values.dtype).__setitem__(slice(None), values),
            uploads=1, uploaded=values.nbytes,
        )  # fmt: skip

    def memcpy_dtoh_async(self, values, device, stream):
        assert self._is_pinned(values)
        stream.put(
            lambda: values.__setitem__(slice(None), at(int(device), values.shape, values.dtype)),
            downloads=1, downloaded=values.nbytes,
        )  # fmt: skip


class Kernels(Capturing):
    """``posgan_edge_kernels.cuda`` over the stand-in's memory."""

    def __init__(self, stream, graphs=True):
        super().__init__([stream], graphs)
        self.stream = stream

    def crop_normalize(self, *, place, transforms, out, faces, size, stream):
        def work():
            frame, pitch, height, width = at(place, (4,), np.int64).tolist()
            rows = at(frame, (height, pitch), np.uint8)[:, : 3 * width].reshape(height, width, 3)
            at(out, (faces, 3, size, size))[:] = host.crop_normalize(
                rows, at(transforms, (faces, 2, 3)), size
            )

        self.stream.put(work, kernels=1)

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

        self.stream.put(work, kernels=1)

    def pose_fit(self, *, points, mean, out, faces, count, stream):
        def work():
            fits = host.pose_fit(at(points, (faces, count, 3)), at(mean, (count, 3)))
            at(out, (faces, 14))[:] = fits

        self.stream.put(work, kernels=1)


class StandIn(DeviceEngine):
    """An ONNX Runtime engine whose input and output lie in the stand-in's memory."""

    def __init__(self, engine, batch, graphs=True, refuse=False, integrated=False, **limits):
        from dataclasses import replace

        self.engine, self.refuse, self.integrated = engine, refuse, integrated
        self.info = replace(engine.info, batch=batch)
        self.cuda, self.stream = Cuda(**limits), Stream()
        self.kernels = Kernels(self.stream, graphs)
        size, points = self.info.input_size, self.info.map_size
        self._image = self.cuda.mem_alloc(batch * 12 * size * size)
        self._map = self.cuda.mem_alloc(batch * 12 * points * points)
        self.image_address, self.map_address = int(self._image), int(self._map)
        self.networks = []

    @contextmanager
    def current(self):
        yield

    def network(self, count):
        self.networks.append(Network(self, count))
        return self.networks[-1]

    def launch(self, count):
        raise NotImplementedError

    def _infer(self, images):
        return self.engine.infer(images)


class Network:
    def __init__(self, engine, count):
        self.engine, self.count, self.closed = engine, count, False

    def enqueue(self):
        assert not self.closed
        engine, count = self.engine, self.count
        size, points = engine.info.input_size, engine.info.map_size

        def work():
            maps = engine.engine.infer(at(engine.image_address, (count, 3, size, size)).copy())
            at(engine.map_address, (count, 3, points, points))[:] = maps

        engine.stream.put(work)
        return not engine.refuse

    def capturable(self):
        return True

    def close(self):
        self.closed = True
