"""Landmarks and poses of a frame's crops on the GPU; maps stay there unless they are wanted.

One upload (frame and transforms), one graph launch (crop, network, landmarks, pose) and one small
download a batch, of 286 numbers a face. One CUDA graph per batch size and frame size.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.device import DeviceEngine, free_pinned
from posgan_edge.engines.kernels import Graphs, NotEnqueued
from posgan_edge.errors import BadInput
from posgan_edge.faces.readers.base import Reading
from posgan_edge.faces.values import Frame
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import Pose, pose_of_fit

_POINTS, _POSE = 68, 14
_PER_FACE = 3 * _POINTS + _POINTS + _POSE


class DeviceReader:
    """Reads faces with the CUDA kernels, on the stream of an engine on a GPU.

    A frame is uploaded once: a second ``read`` of the same ``Frame`` object finds it on the
    device. ``dense``: readings carry their maps, which are downloaded for that.
    """

    def __init__(self, engine: DeviceEngine, layout: UvLayout, dense: bool = True) -> None:
        if engine.kernels is None:
            raise BadInput(f"{engine.info.name}: reading on the device needs the CUDA kernels")
        self._engine, self._kernels, self._cuda = engine, engine.kernels, engine.cuda
        self._batch, self._dense = engine.info.batch, dense
        self._pose_points = len(layout.mean_points)
        with engine.current():
            self._uv = self._uploaded(np.concatenate([layout.landmark_uv, layout.mean_uv]))
            # Pose is fitted in the frame's axes, where y runs down.
            self._mean = self._uploaded(layout.mean_points * Y_UP)
            self._transforms = self._pair((self._batch, 2, 3), np.float32)
            self._result = self._pair((self._batch * _PER_FACE,), np.float32)
            self._fitted = self._cuda.mem_alloc(12 * self._batch * self._pose_points)
        self._picture: tuple[NDArray[np.uint8], Any] | None = None  # pinned, and on the device
        self._seen: weakref.ref[Frame] | None = None
        self._maps: NDArray[np.float32] | None = None
        self._graphs = Graphs(self._kernels, engine.stream, engine.cuda.Error)
        self._closed = False

    def read(self, frame: Frame, crops: Sequence[Crop], draft: bool = False) -> Reading:
        """See ``Reader``. Raises BadInput if the reader or the engine is closed."""
        self._engine.check_open()
        if self._closed:
            raise BadInput(f"{self._engine.info.name}: the reader is closed")
        start = time.perf_counter()
        with self._engine.current():
            upload = self._seen is None or self._seen() is not frame
            if upload:
                self._take(frame)
            parts = []
            for first in range(0, len(crops), self._batch):
                part = crops[first : first + self._batch]
                parts.append(self._run(part, upload and first == 0, self._dense and not draft))
            self._seen = weakref.ref(frame)
        network = (time.perf_counter() - start) * 1e3
        return _joined(parts, {"crop": 0.0, "network": network})

    def _run(
        self, crops: Sequence[Crop], upload: bool, dense: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], list[Pose], NDArray[np.float32] | None]:
        """Landmarks, facing, poses and maps of one batch; see ``Reading``."""
        count, stream = len(crops), self._engine.stream
        self._transforms[0][:count] = [crop.matrix for crop in crops]
        self._graphs.launch(
            (count, upload, dense),
            lambda: self._enqueue(count, upload, dense),
            lambda: self._engine.capturable(count),
        )
        stream.synchronize()
        landmarks, facing, fits = _sections(self._result[0], count)
        return (
            landmarks.reshape(count, _POINTS, 3).copy(),
            facing.reshape(count, _POINTS).copy(),
            [pose_of_fit(fit) for fit in fits.reshape(count, _POSE)],
            self._maps[:count].copy() if dense and self._maps is not None else None,
        )

    def _enqueue(self, count: int, upload: bool, dense: bool) -> None:
        """Everything from upload to download, asynchronously on the engine's stream."""
        assert self._picture is not None
        engine, cuda, stream = self._engine, self._cuda, self._engine.stream
        handle, info = int(stream.handle), engine.info
        (frame, frame_device), (transforms, matrices) = self._picture, self._transforms
        if upload:
            cuda.memcpy_htod_async(frame_device, frame, stream)
        cuda.memcpy_htod_async(matrices, transforms[:count], stream)
        height, width = frame.shape[:2]
        self._kernels.crop_normalize(
            frame=int(frame_device), transforms=int(matrices), out=engine.image_address,
            shape=(height, width, 3 * width), faces=count, size=info.input_size, stream=handle,
        )  # fmt: skip
        if not engine.enqueue_network(count):
            raise NotEnqueued(f"{info.name}: TensorRT refused a batch of {count}")
        result, device = self._result
        points, facing, fits = (
            int(device) + 4 * offset for offset in _offsets(count)[:3]
        )  # fmt: skip
        self._kernels.extract_landmarks(
            maps=engine.map_address, uv=int(self._uv), transforms=int(matrices), points=points,
            facing=facing, rest=int(self._fitted), count=_POINTS, rest_count=self._pose_points,
            shape=(count, info.map_size, info.map_size), stream=handle,
        )  # fmt: skip
        self._kernels.pose_fit(
            points=int(self._fitted), mean=int(self._mean), out=fits, faces=count,
            count=self._pose_points, stream=handle,
        )  # fmt: skip
        cuda.memcpy_dtoh_async(result[: count * _PER_FACE], device, stream)
        if dense:
            if self._maps is None:
                shape = (self._batch, 3, info.map_size, info.map_size)
                self._maps = cuda.pagelocked_empty(shape, np.float32)
            cuda.memcpy_dtoh_async(self._maps[:count], engine.map_address, stream)

    def _take(self, frame: Frame) -> None:
        """Copies a frame into pinned memory; a new size takes new buffers and graphs."""
        image = frame.image
        self._seen = None
        if self._picture is None or self._picture[0].shape != image.shape:
            self._forget()
            self._picture = self._pair(image.shape, np.uint8)
        np.copyto(self._picture[0], image)

    def _pair(self, shape: tuple[int, ...], dtype: Any) -> tuple[NDArray[Any], Any]:
        host = self._cuda.pagelocked_empty(shape, dtype)
        return host, self._cuda.mem_alloc(host.nbytes)

    def _uploaded(self, values: NDArray[np.float32]) -> Any:
        values = np.ascontiguousarray(values, np.float32)
        device = self._cuda.mem_alloc(values.nbytes)
        self._cuda.memcpy_htod(device, values)
        # The engine's stream does not wait for the default stream.
        self._cuda.Context.synchronize()
        return device

    def _forget(self) -> None:
        self._graphs.close()
        if self._picture is not None:
            free_pinned(self._picture[0])
            self._picture[1].free()
            self._picture = None

    def close(self) -> None:
        """Frees graphs and device memory. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with self._engine.current():
            self._forget()
            for memory in (
                self._uv, self._mean, self._transforms[1], self._result[1], self._fitted
            ):  # fmt: skip
                memory.free()
            for pinned in (self._transforms[0], self._result[0], self._maps):
                if pinned is not None:
                    free_pinned(pinned)
            self._maps = None


def _offsets(count: int) -> tuple[int, int, int, int]:
    """Where landmarks, facing and fits of a batch begin in the result, and its end, in floats."""
    facing = 3 * _POINTS * count
    fits = facing + _POINTS * count
    return 0, facing, fits, fits + _POSE * count


def _sections(result: NDArray[np.float32], count: int) -> list[NDArray[np.float32]]:
    offsets = _offsets(count)
    return [result[a:b] for a, b in pairwise(offsets)]


def _joined(parts: Sequence[tuple[Any, ...]], timings: dict[str, float]) -> Reading:
    landmarks, facing, poses, maps = zip(*parts, strict=True)
    return Reading(
        landmarks=np.concatenate(landmarks),
        facing=np.concatenate(facing),
        poses=[pose for part in poses for pose in part],
        maps=None if maps[0] is None else np.concatenate(maps),
        timings=timings,
    )
