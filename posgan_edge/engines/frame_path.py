"""From a frame and crops to landmarks and poses without the map leaving the device.

One upload (frame and transforms), one graph launch (crop, network, landmarks, pose) and one small
download a batch, of 286 numbers a face. One CUDA graph per batch size and frame size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import Image
from posgan_edge.engines.kernels import Graphs, NotEnqueued
from posgan_edge.errors import BadInput
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import Pose, pose_of_fit

if TYPE_CHECKING:
    from posgan_edge.engines.tensorrt import TensorRtEngine

_POINTS, _POSE = 68, 14


@dataclass(frozen=True)
class Located:
    """Faces in a frame: landmarks (N, 68, 3) float32 in frame pixels, ``facing`` (N, 68) float32
    (see ``Face``), poses, and maps (N, 3, M, M) float32 in crop units where they were asked for."""

    landmarks: NDArray[np.float32]
    facing: NDArray[np.float32]
    poses: list[Pose]
    maps: NDArray[np.float32] | None


class FramePath(Protocol):
    """An engine's own way from frame to faces."""

    def locate(self, image: Image, crops: Sequence[Crop], fresh: bool, dense: bool) -> Located:
        """The faces under the crops of a BGR frame (H, W, 3) uint8.

        ``fresh`` False: the frame is that of the call before, still on the device.
        """
        ...


class DeviceFramePath:
    """The frame path of a TensorRT engine, with the CUDA kernels."""

    def __init__(self, engine: TensorRtEngine, layout: UvLayout, kernels: Any) -> None:
        self._engine, self._kernels, self._cuda = engine, kernels, engine.cuda
        self._batch = engine.info.batch
        self._pose_points = len(layout.mean_points)
        with engine.current():
            self._uv = self._uploaded(np.concatenate([layout.landmark_uv, layout.mean_uv]))
            # Pose is fitted in the frame's axes, where y runs down.
            self._mean = self._uploaded(layout.mean_points * np.array([1, -1, 1], np.float32))
            self._transforms = self._pair((self._batch, 2, 3), np.float32)
            self._result = self._pair((self._batch * _PER_FACE,), np.float32)
            self._fitted = self._cuda.mem_alloc(12 * self._batch * self._pose_points)
        self._frame: tuple[Any, Any] | None = None
        self._maps: NDArray[np.float32] | None = None
        self._graphs = Graphs(kernels, engine.stream)

    def locate(
        self, image: Image, crops: Sequence[Crop], fresh: bool = True, dense: bool = False
    ) -> Located:
        with self._engine.current():
            if fresh:
                self._take(image)
            if self._frame is None or self._frame[0].shape != image.shape:
                raise BadInput(f"{self._engine.info.name}: no frame of this size on the device")
            parts = []
            for start in range(0, len(crops), self._batch):
                part = crops[start : start + self._batch]
                parts.append(self._run(part, fresh and start == 0, dense))
        return _joined(parts, dense)

    def _run(self, crops: Sequence[Crop], upload: bool, dense: bool) -> Located:
        count, stream = len(crops), self._engine.stream
        self._transforms[0][:count] = [crop.matrix for crop in crops]
        self._graphs.launch((count, upload, dense), lambda: self._enqueue(count, upload, dense))
        stream.synchronize()
        landmarks, facing, fits = _sections(self._result[0], count)
        return Located(
            landmarks=landmarks.reshape(count, _POINTS, 3).copy(),
            facing=facing.reshape(count, _POINTS).copy(),
            poses=[pose_of_fit(fit) for fit in fits.reshape(count, _POSE)],
            maps=self._maps[:count].copy() if dense and self._maps is not None else None,
        )

    def _enqueue(self, count: int, upload: bool, dense: bool) -> None:
        """Everything from upload to download, asynchronously on the engine's stream."""
        assert self._frame is not None
        engine, cuda, stream = self._engine, self._cuda, self._engine.stream
        handle, info = int(stream.handle), engine.info
        (frame, frame_device), (transforms, matrices) = self._frame, self._transforms
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
        sampled = {
            "maps": engine.map_address, "transforms": int(matrices),
            "shape": (count, info.map_size, info.map_size), "stream": handle,
        }  # fmt: skip
        self._kernels.extract_landmarks(
            uv=int(self._uv), points=points, facing=facing, count=_POINTS, **sampled
        )
        self._kernels.extract_landmarks(
            uv=int(self._uv) + 8 * _POINTS, points=int(self._fitted), count=self._pose_points,
            **sampled,
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

    def _take(self, image: Image) -> None:
        """Copies a frame into pinned memory; a new size takes new buffers and graphs."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise BadInput(f"frame is {image.dtype} {image.shape}: give uint8 (H, W, 3)")
        if self._frame is None or self._frame[0].shape != image.shape:
            self._forget()
            self._frame = self._pair(image.shape, np.uint8)
        np.copyto(self._frame[0], image)

    def _pair(self, shape: tuple[int, ...], dtype: Any) -> tuple[NDArray[Any], Any]:
        host = self._cuda.pagelocked_empty(shape, dtype)
        return host, self._cuda.mem_alloc(host.nbytes)

    def _uploaded(self, values: NDArray[np.float32]) -> Any:
        values = np.ascontiguousarray(values, np.float32)
        device = self._cuda.mem_alloc(values.nbytes)
        self._cuda.memcpy_htod(device, values)
        return device

    def _forget(self) -> None:
        self._graphs.close()
        if self._frame is not None:
            self._frame[1].free()
            self._frame = None

    def close(self) -> None:
        """Frees graphs and device memory, in the engine's context."""
        self._forget()
        for memory in (self._uv, self._mean, self._transforms[1], self._result[1], self._fitted):
            memory.free()


_PER_FACE = 3 * _POINTS + _POINTS + _POSE


def _offsets(count: int) -> tuple[int, int, int, int]:
    """Where landmarks, facing and fits of a batch begin in the result, and its end, in floats."""
    facing = 3 * _POINTS * count
    fits = facing + _POINTS * count
    return 0, facing, fits, fits + _POSE * count


def _sections(result: NDArray[np.float32], count: int) -> list[NDArray[np.float32]]:
    offsets = _offsets(count)
    return [result[a:b] for a, b in pairwise(offsets)]


def _joined(parts: Sequence[Located], dense: bool) -> Located:
    maps = [part.maps for part in parts if part.maps is not None]
    return Located(
        landmarks=np.concatenate([part.landmarks for part in parts]),
        facing=np.concatenate([part.facing for part in parts]),
        poses=[pose for part in parts for pose in part.poses],
        maps=np.concatenate(maps) if dense else None,
    )
