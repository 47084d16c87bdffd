"""The readers' interface, and the base class of the readers that run on the CPU."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.faces.values import Frame
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import Pose


@dataclass(frozen=True)
class Reading:
    """What was read of the faces under N crops of a frame.

    ``landmarks`` (N, 68, 3) float32 in frame pixels; ``facing`` (N, 68) float32 (see ``Face``),
    which a draft may leave out; ``poses`` N of them; ``maps`` (N, 3, M, M) float32 in crop units,
    None where they were not asked for; ``timings``: milliseconds of ``crop`` and ``network``.
    """

    landmarks: NDArray[np.float32]
    facing: NDArray[np.float32] | None
    poses: Sequence[Pose]
    maps: NDArray[np.float32] | None
    timings: Mapping[str, float] = field(default_factory=dict)


class FrameMemory(Protocol):
    """Memory for frames, from which a reader takes them without a copy. Any thread may use it."""

    def take(self, shape: tuple[int, ...]) -> Image | None:
        """Memory for a picture (H, W, 3) uint8; None while there is none."""
        ...

    def give(self, image: Image) -> bool:
        """Takes back memory of ``take`` that is not used any more. Returns False for other
        memory."""
        ...


class Reader(Protocol):
    """Reads faces from a frame. ``close`` may be called more than once."""

    @property
    def memory(self) -> FrameMemory | None:
        """Where frames are best read into; None where any memory will do."""
        ...

    @property
    def mixes(self) -> bool:
        """Whether crops of several frames can be read in one batch."""
        ...

    def read(self, frame: Frame, crops: Sequence[Crop], draft: bool = False) -> Reading:
        """The faces under at least one crop of a frame. ``draft``: only landmarks and poses are
        needed, to place the next crops."""
        ...

    def read_all(
        self, parts: Sequence[tuple[Frame, Sequence[Crop]]], draft: bool = False
    ) -> list[Reading]:
        """``read`` for several frames, each with at least one crop; more than one only if the
        reader ``mixes`` them in one batch."""
        ...

    def close(self) -> None:
        """Frees what the reader made."""
        ...


@dataclass(frozen=True)
class Points:
    """What is read from maps: see ``Reading``."""

    landmarks: NDArray[np.float32]
    facing: NDArray[np.float32] | None
    poses: Sequence[Pose]


class HostReader:
    """Cuts crops on the host, runs the engine and reads its maps; a base class.

    ``dense``: readings carry their maps. ``mirror`` averages each map with that of the mirrored
    crop. ``workers``: threads over which the crops of a frame are spread, where the engine allows
    it.
    """

    memory: FrameMemory | None = None
    mixes = True

    def __init__(
        self,
        engine: Engine,
        layout: UvLayout,
        dense: bool = True,
        mirror: bool = False,
        workers: int = 1,
    ) -> None:
        self.engine, self.layout, self.dense, self.mirror = engine, layout, dense, mirror
        self._workers = workers if engine.concurrent else 1
        self._pool = ThreadPoolExecutor(workers, "face") if self._workers > 1 else None

    def read(self, frame: Frame, crops: Sequence[Crop], draft: bool = False) -> Reading:
        """See ``Reader``."""
        (reading,) = self.read_all([(frame, crops)], draft)
        return reading

    def read_all(
        self, parts: Sequence[tuple[Frame, Sequence[Crop]]], draft: bool = False
    ) -> list[Reading]:
        """See ``Reader``."""
        places = [(frame.image, crop) for frame, crops in parts for crop in crops]
        maps, cut_ms, network_ms = self._maps(places)
        points = self._points(maps, [crop for _, crop in places], not draft)
        readings, first = [], 0
        timings = {"crop": cut_ms, "network": network_ms}
        for _, crops in parts:
            rows = slice(first, first + len(crops))
            first += len(crops)
            readings.append(
                Reading(
                    points.landmarks[rows],
                    None if points.facing is None else points.facing[rows],
                    points.poses[rows],
                    maps[rows] if self.dense and not draft else None,
                    timings,
                )
            )
        return readings

    def close(self) -> None:
        """Ends the threads of ``workers``."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool, self._workers = None, 1

    @abstractmethod
    def _points(self, maps: NDArray[np.float32], crops: Sequence[Crop], facing: bool) -> Points:
        """Landmarks, facing and poses of maps (N, 3, M, M); ``facing`` False leaves that out."""

    def _maps(
        self, places: Sequence[tuple[Image, Crop]]
    ) -> tuple[NDArray[np.float32], float, float]:
        """Maps of crops of pictures, and the milliseconds of cropping and of the network."""
        parts = min(self._workers, len(places))
        if self._pool is None or parts == 1:
            return self._part(places)
        share = -(-len(places) // parts)
        groups = [places[i : i + share] for i in range(0, len(places), share)]
        done = list(self._pool.map(self._part, groups))
        maps = np.concatenate([part[0] for part in done])
        return maps, max(p[1] for p in done), max(p[2] for p in done)

    def _part(
        self, places: Sequence[tuple[Image, Crop]]
    ) -> tuple[NDArray[np.float32], float, float]:
        start = time.perf_counter()
        size = self.engine.info.input_size
        parts = [extract_crop(image, crop, size) for image, crop in places]
        inputs = np.stack(parts) if len(parts) > 1 else parts[0][None]
        cut = time.perf_counter()
        found = self._run(inputs)
        return found, (cut - start) * 1e3, (time.perf_counter() - cut) * 1e3

    def _run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network returns for crops (N, 3, S, S): maps (N, 3, M, M)."""
        if self.mirror:
            inputs = np.concatenate([inputs, inputs[..., ::-1]])
        maps = arrays.maps(self.engine.infer_all(inputs), f"{self.engine.info.name}: the map")
        if maps.shape[:2] != (len(inputs), 3):
            raise BadInput(
                f"{self.engine.info.name}: maps are {maps.shape} for {len(inputs)} crops: "
                "an engine returns (N, 3, M, M)"
            )
        return _averaged(maps) if self.mirror else maps


def _averaged(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps of N crops followed by those of their mirror images -> N averaged maps."""
    plain, mirrored = np.split(maps, 2)
    mirrored = mirrored[..., ::-1].copy()
    mirrored[:, 0] = 1.0 - mirrored[:, 0]
    return (plain + mirrored) / 2
