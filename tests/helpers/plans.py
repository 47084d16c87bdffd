"""Stand-ins for TensorRT and pycuda that plans are loaded with; the network returns its input."""

import sys
import types
from contextlib import contextmanager
from enum import Enum
from typing import Any

from posgan_edge.engines.manifest import Manifest
from posgan_edge.files import sha256
from tests.helpers import device
from tests.helpers.capture import Capturing, Stream
from tests.helpers.device import at

PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(100)
RTX_PLAN = b"vtrt" + bytes(20) + bytes([1, 7, 1, 116]) + bytes(100)


class Driver(device.Cuda):
    """``pycuda.driver`` with one device and one stream."""

    class device_attribute(Enum):  # noqa: N801
        INTEGRATED = 18

    def __init__(self, devices=1, init_fails="", memory=1 << 30, integrated=0):
        super().__init__()
        self.streams, self.flags, self.depth, self.left = [], [], 0, memory
        outer = self

        class Device:
            def __init__(self, index):
                assert index < devices

            @staticmethod
            def count():
                return devices

            def name(self):
                return "NVIDIA Stand-in"

            def compute_capability(self):
                return 8, 9

            def get_attribute(self, attribute):
                return {outer.device_attribute.INTEGRATED: integrated}[attribute]

            def retain_primary_context(self):
                return outer

        self.Device, self._init_fails = Device, init_fails

    def init(self):
        if self._init_fails:
            raise self.LogicError(self._init_fails)

    def push(self):
        self.depth += 1

    def pop(self):
        self.depth -= 1

    class Event:
        def record(self, stream):
            assert stream.recording is None

        def synchronize(self):
            pass

        def time_till(self, other):
            return 1.0

    def Stream(self, flags=0):  # noqa: N802
        self.flags.append(flags)
        self.streams.append(Stream())
        return self.streams[-1]

    def mem_alloc(self, size):
        assert self.depth
        self.left -= size
        if self.left < 0:
            raise self.MemoryError("cuMemAlloc failed: out of memory\nsecond line")
        return super().mem_alloc(size)


class TensorRt(types.ModuleType):
    """``tensorrt`` or ``tensorrt_rtx``."""

    class ExecutionContextAllocationStrategy(Enum):
        STATIC, USER_MANAGED = 0, 2

    class DynamicShapesKernelSpecializationStrategy(Enum):
        LAZY, EAGER = 0, 1

    class Logger:
        ERROR = 1

        def __init__(self, severity):
            pass

    float32, float16 = "DataType.FLOAT", "DataType.HALF"

    def __init__(self, driver, version, **changes):
        super().__init__("tensorrt")
        self.__version__ = version
        self.driver, self.contexts, self.cache = driver, [], b""
        self.types = {"image": self.float32, "position_map": self.float32}
        self.shapes = {"image": (-1, 3, 16, 16), "position_map": (-1, 3, 16, 16)}
        self.context_fails = self.not_capturable = self.plan_fails = False
        self.break_capture = self.refuse = False
        self.specialised = None
        for name, value in changes.items():
            setattr(self, name, value)
        outer = self

        class Runtime:
            def __init__(self, logger):
                pass

            def deserialize_cuda_engine(self, plan):
                assert isinstance(plan, bytes)
                return None if outer.plan_fails else Engine(outer)

        self.Runtime = Runtime


class Engine:
    device_memory_size_v2 = 4096

    def __init__(self, trt):
        self.trt = trt
        self.num_io_tensors = len(trt.types)

    def get_tensor_name(self, index):
        return list(self.trt.types)[index]

    def get_tensor_dtype(self, name):
        return self.trt.types[name]

    def get_tensor_shape(self, name):
        return self.trt.shapes[name]

    def create_runtime_config(self):
        return Config(self.trt)

    def create_execution_context(self, how):
        strategy = how.strategy if isinstance(how, Config) else how
        assert strategy is TensorRt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.trt.context_fails:
            return None
        self.trt.contexts.append(Execution(self.trt))
        return self.trt.contexts[-1]


class Config:
    """``IRuntimeConfig`` with its runtime cache."""

    dynamic_shapes_kernel_specialization_strategy = None

    def __init__(self, trt):
        self.trt = trt

    def set_execution_context_allocation_strategy(self, strategy):
        self.strategy = strategy

    def create_runtime_cache(self):
        return self

    def deserialize(self, kernels):
        self.trt.cache = kernels
        return kernels.startswith(b"kernels")

    def serialize(self):
        return b"kernels of " + str(len(self.trt.contexts)).encode()

    def set_runtime_cache(self, cache):
        self.trt.specialised = self.dynamic_shapes_kernel_specialization_strategy


class Execution:
    """An execution context: it copies its input to its output, on the stream of its call.

    Once a graph was captured from it, nothing may be asked of it.
    """

    def __init__(self, trt):
        self.trt, self.addresses, self.memory, self.captured = trt, {}, None, False

    def set_device_memory(self, address, size):
        assert not self.captured
        self.memory = address, size

    def set_input_shape(self, name, shape):
        assert name == "image"
        assert not self.captured
        self.shape = shape

    def set_tensor_address(self, name, address):
        assert not self.captured
        self.addresses[name] = address

    def is_stream_capturable(self, stream):
        return not self.trt.not_capturable

    def execute_async_v3(self, handle):
        (stream,) = (s for s in self.trt.driver.streams if s.handle == handle)
        if self.trt.break_capture and stream.recording is not None:
            raise self.trt.driver.LogicError("cuMemcpyHtoDAsync failed: capture invalidated")
        assert not self.captured
        self.captured = stream.recording is not None

        def work():
            source, maps = (at(self.addresses[n], self.shape) for n in ("image", "position_map"))
            maps[:] = source

        stream.put(work)
        return not self.trt.refuse


@contextmanager
def gpu(monkeypatch, folder, rtx=False, driver=None, kernels=True, **changes):
    """A machine with the stand-ins: (module, driver, kernels)."""
    driver = driver or Driver()
    name, version = ("tensorrt_rtx", "1.7.1.116") if rtx else ("tensorrt", "10.3.0.26")
    trt = TensorRt(driver, version, **changes)
    package: Any = types.ModuleType("pycuda")
    package.driver = driver
    found = Capturing(driver.streams) if kernels else None
    monkeypatch.setitem(sys.modules, name, trt)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setattr("posgan_edge.engines.tensorrt.device_kernels", lambda: found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    yield trt, driver, found


def write_plan(folder, rtx=False, content=None, **values):
    """A plan and its manifest."""
    path = folder / "n.engine"
    path.write_bytes(content or (RTX_PLAN if rtx else PLAN))
    runtime = ("tensorrt-rtx", "1.7.1.116") if rtx else ("tensorrt", "10.3.0.26")
    about = dict(
        engine_sha256=sha256(path), onnx_sha256="0", runtime=runtime[0],
        runtime_version=runtime[1], precision="fp16", name="n", layout="ict", input_size=16,
        map_size=16, batch=4, command="posgan-edge build-engine --x",
    )  # fmt: skip
    Manifest(**{**about, **values}).save(path)
    return path
