"""The same operations on device memory, given by addresses and shapes. Nothing is copied.

Addresses are integers (``int(allocation)`` of pycuda, ``tensor.data_ptr()`` of PyTorch,
``array.data.ptr`` of CuPy), streams the integer handle (``stream.handle``; 0 is the default
stream). Work is queued on the stream in the current CUDA context; calls do not wait for it. Sizes,
alignment, addresses and the stream are checked before each launch: ValueError names the argument;
``CudaError`` carries CUDA's message. An invalid transform (zero scale, not finite) gives NaN
in all results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import posgan_edge_kernels._native as _native

if not _native.with_cuda:
    raise ImportError(
        f"posgan_edge_kernels was built without CUDA, {_native.built}: install the CUDA toolkit "
        "(nvcc 12 or later) and build it again"
    )

CudaError: type[RuntimeError] = _native.CudaError
#: Compute capabilities with compiled code: ``("7.5", ... "12.0")``. The last also as PTX.
ARCHITECTURES: tuple[str, ...] = tuple(
    f"{name.split('-')[0][:-1]}.{name.split('-')[0][-1]}"
    for name in _native.cuda.architectures.split(",")
)


def device_count() -> tuple[int, str]:
    """Returns the number of devices, and CUDA's reason if it is 0."""
    count: tuple[int, str] = _native.cuda.device_count()
    return count


def extract_landmarks(
    *,
    maps: int,
    uv: int,
    transforms: int,
    points: int,
    shape: tuple[int, int, int],
    count: int,
    facing: int = 0,
    rest: int = 0,
    rest_count: int = 0,
    dtype: str = "float32",
    stream: int = 0,
) -> None:
    """As ``posgan_edge_kernels.extract_landmarks``, in one kernel launch.

    ``shape`` is (N, H, W) of ``maps`` (N, 3, H, W) in ``dtype`` float32 or float16; ``count`` is
    P. ``facing`` 0: not computed. With ``rest_count`` R, ``uv`` (P + R, 2) holds R more points,
    which are written to ``rest`` (N, R, 3), without facing.
    """
    _native.cuda.extract_landmarks(
        maps=maps, uv=uv, transforms=transforms, points=points, facing=facing, rest=rest,
        shape=shape, count=count, rest_count=rest_count, dtype=dtype, stream=stream,
    )  # fmt: skip


def crop_normalize(
    *,
    transforms: int,
    out: int,
    faces: int,
    size: int,
    dtype: str = "float32",
    frame: int = 0,
    shape: tuple[int, int, int] = (0, 0, 0),
    place: int = 0,
    border: tuple[float, float, float] = (0, 0, 0),
    stream: int = 0,
) -> None:
    """As ``posgan_edge_kernels.crop_normalize``, in one kernel launch.

    ``shape`` is (H, W, bytes per row) of ``frame``. In place of both, ``place`` is the address of
    four int64 that the kernel reads when it runs: address of the frame, bytes per row, H, W. So a
    captured graph serves frames at any address and of any size; these values are not checked.
    """
    _native.cuda.crop_normalize(
        frame=frame, place=place, transforms=transforms, out=out, shape=shape, faces=faces,
        size=size, dtype=dtype, border=list(border), stream=stream,
    )  # fmt: skip


def crop_normalize_nv12(
    *,
    luma: int,
    chroma: int,
    transforms: int,
    out: int,
    shape: tuple[int, int, int],
    chroma_pitch: int,
    faces: int,
    size: int,
    dtype: str = "float32",
    border: tuple[float, float, float] = (0, 0, 0),
    matrix: str = "bt601",
    full_range: bool = False,
    stream: int = 0,
) -> None:
    """As ``posgan_edge_kernels.crop_normalize_nv12``, in one kernel launch.

    ``shape`` is (H, W, bytes per row) of ``luma``; ``chroma_pitch`` is in bytes per row.
    """
    _native.cuda.crop_normalize_nv12(
        luma=luma, chroma=chroma, transforms=transforms, out=out, shape=shape,
        chroma_pitch=chroma_pitch, faces=faces, size=size, dtype=dtype, border=list(border),
        matrix=matrix, full_range=full_range, stream=stream,
    )  # fmt: skip


def pose_fit(
    *,
    points: int,
    mean: int,
    out: int,
    faces: int,
    count: int,
    stride: int = 0,
    iterations: int = 4,
    stream: int = 0,
) -> None:
    """As ``posgan_edge_kernels.pose_fit``, in one kernel launch.

    ``points`` is (faces, ``stride``, 3), of which the first ``count`` of each face are fitted
    (``stride`` 0: all); ``out`` (faces, 14).
    """
    _native.cuda.pose_fit(
        points=points, mean=mean, out=out, faces=faces, count=count, stride=stride,
        iterations=iterations, stream=stream,
    )  # fmt: skip


class Graph:
    """A CUDA graph: work that was captured from a stream (not the default stream).

    ``work`` is called once during the capture, and must enqueue on that stream only. Raises
    CudaError if CUDA cannot capture it, and any error that ``work`` raises; the stream stays
    usable. The memory that the work uses must stay allocated while the graph is in use.
    """

    def __init__(self, stream: int, work: Callable[[], Any]) -> None:
        self._stream = stream
        self._native = _native.cuda.Graph(stream, work)

    def launch(self) -> None:
        """Queues the captured work on its stream."""
        self._native.launch(self._stream)

    def close(self) -> None:
        """Frees the graph. A second call does nothing."""
        self._native.close()
