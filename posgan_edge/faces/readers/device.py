"""Landmarks and poses of a frame's crops on the GPU; maps stay there unless they are wanted.

For a batch of faces: one copy of the rows under its crops (none where the GPU shares the
processor's memory) and one launch of a CUDA graph (crop, network, landmarks, pose). The graph reads
the frame's place and the crops' transforms from mapped pinned memory, and writes its results there,
286 numbers a face; so there is one graph for each batch size, whatever the frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.device import DeviceEngine, free_pinned, mapped
from posgan_edge.engines.kernels import Graphs
from posgan_edge.errors import BadInput
from posgan_edge.faces.readers.base import FrameMemory, Reading
from posgan_edge.faces.readers.frames import DeviceFrames
from posgan_edge.faces.values import Frame
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import Pose, pose_of_fit

_POINTS, _POSE = 68, 14
_PER_FACE = 3 * _POINTS + _POINTS + _POSE
#: int64 of a frame's place, and of the transform (2, 3) float32 of a face.
_PLACE, _TRANSFORM = 4, 3


class DeviceReader:
    """Reads faces with the CUDA kernels, on the stream of an engine on a GPU.

    Of a frame, only rows under crops are sent, and a second ``read`` of the same ``Frame`` object
    sends only what is missing (see ``DeviceFrames``). ``memory`` is a ring of pinned buffers:
    frames in them need no copy on the host. ``dense``: readings carry their maps, which are
    downloaded for that.
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
            self._fitted = self._cuda.mem_alloc(12 * self._batch * self._pose_points)
            self._asked = mapped(self._cuda, (_PLACE + _TRANSFORM * self._batch,), np.int64)
            self._result = mapped(self._cuda, (self._batch * _PER_FACE,), np.float32)
        self._frames = DeviceFrames(engine)
        self._maps: NDArray[np.float32] | None = None
        self._graphs = Graphs(engine, self._enqueue)
        self._closed = False

    mixes = False

    @property
    def memory(self) -> FrameMemory:
        """See ``Reader``."""
        return self._frames.ring

    @property
    def not_captured(self) -> list[int]:
        """Batch sizes that run without a CUDA graph, because the runtime cannot capture them."""
        return self._graphs.plain

    def read(self, frame: Frame, crops: Sequence[Crop], draft: bool = False) -> Reading:
        """See ``Reader``. Raises BadInput if the reader or the engine is closed."""
        self._engine.check_open()
        if self._closed:
            raise BadInput(f"{self._engine.info.name}: the reader is closed")
        start = time.perf_counter()
        with self._engine.current():
            self._asked[0][:_PLACE] = self._frames.place(frame, crops)
            parts = []
            for first in range(0, len(crops), self._batch):
                part = crops[first : first + self._batch]
                parts.append(self._run(part, self._dense and not draft))
            self._frames.done(frame)
        network = (time.perf_counter() - start) * 1e3
        return _joined(parts, {"crop": 0.0, "network": network})

    def read_all(
        self, parts: Sequence[tuple[Frame, Sequence[Crop]]], draft: bool = False
    ) -> list[Reading]:
        """See ``Reader``."""
        return [self.read(frame, crops, draft) for frame, crops in parts]

    def _run(
        self, crops: Sequence[Crop], dense: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], list[Pose], NDArray[np.float32] | None]:
        """Landmarks, facing, poses and maps of one batch; see ``Reading``."""
        count, stream = len(crops), self._engine.stream
        transforms = self._asked[0][_PLACE:].view(np.float32).reshape(self._batch, 2, 3)
        transforms[:count] = [crop.matrix for crop in crops]
        self._graphs.launch(count)
        if dense:
            maps = self._map_memory()[:count]
            self._cuda.memcpy_dtoh_async(maps, self._engine.map_address, stream)
        stream.synchronize()
        landmarks, facing, fits = _sections(self._result[0], count)
        return (
            landmarks.reshape(count, _POINTS, 3).copy(),
            facing.reshape(count, _POINTS).copy(),
            [pose_of_fit(fit) for fit in fits.reshape(count, _POSE)],
            maps.copy() if dense else None,
        )

    def _enqueue(self, count: int, network: Callable[[], None]) -> None:
        """From the frame to results, asynchronously on the engine's stream."""
        engine, info = self._engine, self._engine.info
        handle, (_, place), (_, result) = int(engine.stream.handle), self._asked, self._result
        transforms = place + 8 * _PLACE
        self._kernels.crop_normalize(
            place=place, transforms=transforms, out=engine.image_address, faces=count,
            size=info.input_size, stream=handle,
        )  # fmt: skip
        network()
        points, facing, fits = (result + 4 * offset for offset in _offsets(count)[:3])
        self._kernels.extract_landmarks(
            maps=engine.map_address, uv=int(self._uv), transforms=transforms, points=points,
            facing=facing, rest=int(self._fitted), count=_POINTS, rest_count=self._pose_points,
            shape=(count, info.map_size, info.map_size), stream=handle,
        )  # fmt: skip
        self._kernels.pose_fit(
            points=int(self._fitted), mean=int(self._mean), out=fits, faces=count,
            count=self._pose_points, stream=handle,
        )  # fmt: skip

    def _map_memory(self) -> NDArray[np.float32]:
        if self._maps is None:
            size = self._engine.info.map_size
            self._maps = self._cuda.pagelocked_empty((self._batch, 3, size, size), np.float32)
        return self._maps

    def _uploaded(self, values: NDArray[np.float32]) -> Any:
        values = np.ascontiguousarray(values, np.float32)
        device = self._cuda.mem_alloc(values.nbytes)
        self._cuda.memcpy_htod(device, values)
        # The engine's stream does not wait for the default stream.
        self._cuda.Context.synchronize()
        return device

    def close(self) -> None:
        """Frees graphs and device memory. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with self._engine.current():
            self._graphs.close()
            self._frames.close()
            for memory in (self._uv, self._mean, self._fitted):
                memory.free()
            for pinned in (self._asked[0], self._result[0], self._maps):
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
