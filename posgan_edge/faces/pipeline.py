"""From a frame to faces: crop, engine, position map, landmarks and pose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import Engine
from posgan_edge.engines.frame_path import Located
from posgan_edge.engines.kernels import host_kernels
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.faces.detector import Detector
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.pose import fit_pose, pose_of_fit
from posgan_edge.geometry.sampling import surface_facing
from posgan_edge.geometry.values import FaceBox, PositionMap


class FacePipeline:
    """Faces of a frame. ``passes`` = 2 crops again round the first pass's landmarks, level.

    ``mirror`` averages each map with that of the mirrored crop (UV layouts are symmetric), which
    doubles the network's time.

    All faces of a frame go through the engine in one batch. The detector is not needed when
    boxes are given. ``dense`` False: faces carry no position map, which an engine on a GPU then
    need not send back. ``workers``: threads over which the faces of a frame are spread, where the
    engine allows it.
    """

    def __init__(
        self,
        engine: Engine,
        detector: Detector | None = None,
        passes: int = 2,
        mirror: bool = False,
        dense: bool = True,
        workers: int = 1,
    ) -> None:
        self.engine, self.detector = engine, detector
        self.passes, self.mirror, self.dense = passes, mirror, dense
        self.layout: UvLayout = load_layout(engine.info.layout)
        self._path = None if mirror else engine.frame_path(self.layout)
        self._workers = workers if engine.concurrent else 1
        self._pool = ThreadPoolExecutor(workers, "face") if self._workers > 1 else None
        self.use_kernels(host_kernels())
        self._mean = self.layout.mean_points * np.array([1, -1, 1], np.float32)

    def use_kernels(self, kernels: Any | None) -> None:
        """Reads landmarks and pose with ``posgan_edge_kernels``, or with numpy where None (what
        is installed decides by itself)."""
        self._kernels = kernels

    def close(self) -> None:
        """Ends the threads of ``workers``."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool, self._workers = None, 1

    def process(
        self, frame: Frame, boxes: Sequence[FaceBox] | None = None, max_faces: int = 1
    ) -> list[Face]:
        """The faces of a frame, best score first; ``boxes`` are landmark boxes in pixels."""
        start = time.perf_counter()
        if boxes is None:
            assert self.detector is not None, "give boxes or a detector"
            boxes = self.detector.detect(frame.image, max_faces)
        detect_ms = (time.perf_counter() - start) * 1e3
        crops = [Crop.from_box(box) for box in boxes]
        faces = self.at_crops(frame, crops, [box.score for box in boxes], self.passes)
        return [replace(f, timings_ms=_with_detection(f.timings_ms, detect_ms)) for f in faces]

    def at_crops(
        self,
        frame: Frame,
        crops: Sequence[Crop],
        scores: Sequence[float] | None = None,
        passes: int = 1,
        fresh: bool = True,
    ) -> list[Face]:
        """The faces under crops of a frame, one each.

        ``fresh`` False: the frame is that of the call before, so that it need not be uploaded.
        """
        start = time.perf_counter()
        timings = {"crop": 0.0, "network": 0.0}
        faces: list[Face] = []
        for number in range(passes if crops else 0):
            if number:
                crops = [Crop.from_landmarks(f.landmarks, f.pose.in_plane) for f in faces]
            located = self._locate(frame, crops, timings, fresh=fresh and number == 0)
            faces = [
                self._face(index, score, crop, located)
                for index, (crop, score) in enumerate(
                    zip(crops, scores or [1.0] * len(crops), strict=True)
                )
            ]
        timings["total"] = (time.perf_counter() - start) * 1e3
        timings["landmarks"] = timings["total"] - timings["crop"] - timings["network"]
        return [replace(face, timings_ms=timings) for face in faces]

    def _locate(
        self, frame: Frame, crops: Sequence[Crop], timings: dict[str, float], fresh: bool
    ) -> Located:
        if self._path is not None:
            start = time.perf_counter()
            located = self._path.locate(frame.image, crops, fresh, self.dense)
            timings["network"] += (time.perf_counter() - start) * 1e3
            return located
        maps = self._maps(frame, crops, timings)
        return self._read_with_kernels(maps, crops) if self._kernels else self._read(maps, crops)

    def _read(self, maps: NDArray[np.float32], crops: Sequence[Crop]) -> Located:
        read = zip(crops, self.layout.landmarks(maps), strict=True)
        return Located(
            landmarks=np.stack([crop.to_frame(points) for crop, points in read]),
            facing=surface_facing(maps, self.layout.landmark_uv),
            poses=[fit_pose(xyz, self.layout, crop) for crop, xyz in zip(crops, maps, strict=True)],
            maps=maps if self.dense else None,
        )

    def _read_with_kernels(self, maps: NDArray[np.float32], crops: Sequence[Crop]) -> Located:
        assert self._kernels is not None
        maps = np.ascontiguousarray(maps)
        matrices = np.stack([crop.matrix for crop in crops]).astype(np.float32)
        read = self._kernels.extract_landmarks
        landmarks, facing = read(maps, self.layout.landmark_uv, matrices, True)
        fits = self._kernels.pose_fit(read(maps, self.layout.mean_uv, matrices), self._mean)
        poses = [pose_of_fit(fit) for fit in fits]
        return Located(landmarks, facing, poses, maps if self.dense else None)

    def _maps(
        self, frame: Frame, crops: Sequence[Crop], timings: dict[str, float]
    ) -> NDArray[np.float32]:
        parts = min(self._workers, len(crops))
        if self._pool is None or parts == 1:
            maps, cut_ms, network_ms = self._part(frame, crops)
        else:
            share = -(-len(crops) // parts)
            groups = [crops[i : i + share] for i in range(0, len(crops), share)]
            done = list(self._pool.map(lambda group: self._part(frame, group), groups))
            maps = np.concatenate([part[0] for part in done])
            cut_ms, network_ms = max(p[1] for p in done), max(p[2] for p in done)
        timings["crop"] += cut_ms
        timings["network"] += network_ms
        return maps

    def _part(
        self, frame: Frame, crops: Sequence[Crop]
    ) -> tuple[NDArray[np.float32], float, float]:
        """Maps of some crops, and the milliseconds of cropping and of the network."""
        info = self.engine.info
        start = time.perf_counter()
        inputs = np.stack([extract_crop(frame.image, crop, info.input_size) for crop in crops])
        cut = time.perf_counter()
        if self.mirror:
            inputs = np.concatenate([inputs, inputs[..., ::-1]])
        limit = info.batch or len(inputs)
        parts = [self.engine.infer(inputs[i : i + limit]) for i in range(0, len(inputs), limit)]
        network = time.perf_counter()
        maps = parts[0] if len(parts) == 1 else np.concatenate(parts)
        maps = _averaged(maps) if self.mirror else maps
        return maps, (cut - start) * 1e3, (network - cut) * 1e3

    def _face(self, index: int, score: float, crop: Crop, located: Located) -> Face:
        landmarks, maps = located.landmarks[index], located.maps
        return Face(
            box=FaceBox.around(landmarks, score),
            crop=crop,
            position_map=None if maps is None else PositionMap(maps[index], self.layout.name),
            landmarks=landmarks,
            facing=located.facing[index],
            pose=located.poses[index],
            id=index,
        )


def _with_detection(timings: dict[str, float], detect_ms: float) -> dict[str, float]:
    return {"detect": detect_ms, **timings, "total": timings["total"] + detect_ms}


def _averaged(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps of N crops followed by those of their mirror images -> N averaged maps."""
    plain, mirrored = np.split(maps, 2)
    mirrored = mirrored[..., ::-1].copy()
    mirrored[:, 0] = 1.0 - mirrored[:, 0]
    return (plain + mirrored) / 2
