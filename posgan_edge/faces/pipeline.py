"""From a frame to faces: detection, crops, reading, and a second look at level crops."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from posgan_edge.arrays import Image
from posgan_edge.engines.base import Engine
from posgan_edge.engines.loader import load_engine
from posgan_edge.errors import BadInput
from posgan_edge.faces.detector import Detector
from posgan_edge.faces.readers import Reading, make_reader
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.values import FaceBox, PositionMap


class FacePipeline:
    """The faces of single frames.

    ``engine`` is an engine or what ``load_engine`` takes. ``detector`` is not needed where boxes
    are given. ``passes`` = 2 reads the face, then reads it again from a level crop round the
    landmarks that the first pass found. ``mirror`` averages each map with that of the mirrored
    crop (UV layouts are symmetric), which doubles the network's time. ``dense`` False: faces carry
    no position map, which an engine on a GPU then need not send back. ``workers``: threads over
    which the faces of a frame are spread, where the engine allows it. ``layout`` takes the place
    of the built-in layout of the engine's name, one with a mask for example. ``reader`` is one of
    ``readers.READERS``; None takes the fastest that can be had.

    All faces of a frame go through the engine in one batch. ``timings_ms`` holds the milliseconds
    of the last call: ``crop``, ``network``, ``landmarks``, ``total``, and ``detect`` after
    ``process``. A pipeline is a context manager and closes the engine only where it loaded it.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, GivenBoxes, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge", GivenBoxes([FaceBox(179, 88, 97, 90)])) as pipeline:
    ...     (face,) = pipeline.process(image)
    >>> face.landmarks.shape, face.position_map.xyz.shape
    ((68, 3), (3, 128, 128))
    >>> abs(face.pose.yaw) < 12
    True
    """

    def __init__(
        self,
        engine: Engine | str | Path = "edge",
        detector: Detector | None = None,
        passes: int = 2,
        mirror: bool = False,
        dense: bool = True,
        workers: int = 1,
        layout: UvLayout | None = None,
        reader: str | None = None,
    ) -> None:
        self.engine: Engine = engine if isinstance(engine, Engine) else load_engine(engine)
        self._owned = None if engine is self.engine else self.engine
        self.detector, self.passes, self.dense = detector, passes, dense
        self.layout = _checked(layout, self.engine)
        self.timings_ms: dict[str, float] = {}
        self._reader = make_reader(self.engine, self.layout, dense, mirror, workers, reader)

    def process(
        self,
        frame: Frame | Image,
        boxes: Sequence[FaceBox] | None = None,
        max_faces: int = 1,
    ) -> list[Face]:
        """The faces of a frame or of a picture (H, W, 3) uint8 BGR, best score first.

        ``boxes`` are landmark boxes in pixels; None asks the detector for up to ``max_faces``.
        Raises BadInput where there is neither, and for what is not a picture.
        """
        frame = Frame.of(frame)
        start = time.perf_counter()
        if boxes is None:
            if self.detector is None:
                raise BadInput("no detector: give boxes, or make the pipeline with a detector")
            boxes = self.detector.detect(frame.image, max_faces)
        detect_ms = (time.perf_counter() - start) * 1e3
        crops = [Crop.from_box(box) for box in boxes]
        faces = self.at_crops(frame, crops, [box.score for box in boxes], self.passes)
        times = self.timings_ms
        self.timings_ms = {"detect": detect_ms, **times, "total": times["total"] + detect_ms}
        return faces

    def at_crops(
        self,
        frame: Frame | Image,
        crops: Sequence[Crop],
        scores: Sequence[float] | None = None,
        passes: int = 1,
    ) -> list[Face]:
        """The faces under crops of a frame, one each, in their order.

        ``scores`` (one for each crop, 1 where None) become those of the faces' boxes.
        """
        frame = Frame.of(frame)
        start = time.perf_counter()
        times = {"crop": 0.0, "network": 0.0}
        faces: list[Face] = []
        reading: Reading | None = None
        for left in reversed(range(passes if crops else 0)):
            if reading is not None:
                placed = zip(reading.landmarks, reading.poses, strict=True)
                crops = [Crop.from_landmarks(points, pose.in_plane) for points, pose in placed]
            reading = self._reader.read(frame, crops, draft=left > 0)
            for name in times:
                times[name] += reading.timings[name]
        if reading is not None:
            faces = self._faces(reading, crops, scores or [1.0] * len(crops))
        times["total"] = (time.perf_counter() - start) * 1e3
        times["landmarks"] = times["total"] - times["crop"] - times["network"]
        self.timings_ms = times
        return faces

    def _faces(
        self, reading: Reading, crops: Sequence[Crop], scores: Sequence[float]
    ) -> list[Face]:
        faces, maps, facing = [], reading.maps, reading.facing
        if facing is None:
            raise BadInput("a reader left out which landmarks face the camera")
        for index, (crop, score) in enumerate(zip(crops, scores, strict=True)):
            landmarks = reading.landmarks[index]
            face = Face(
                box=FaceBox.around(landmarks, score),
                crop=crop,
                position_map=None if maps is None else PositionMap(maps[index], self.layout),
                landmarks=landmarks,
                facing=facing[index],
                pose=reading.poses[index],
                id=index,
            )
            faces.append(face)
        return faces

    def close(self) -> None:
        """Frees what the pipeline made: threads, device memory, an engine that it loaded. A
        second call does nothing."""
        self._reader.close()
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> FacePipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _checked(layout: UvLayout | None, engine: Engine) -> UvLayout:
    """The layout of an engine, or the one given for it."""
    if layout is None:
        return load_layout(engine.info.layout)
    if layout.name != engine.info.layout:
        raise BadInput(
            f"{engine.info.name}: its maps have UV layout {engine.info.layout!r}, not "
            f"{layout.name!r}"
        )
    return layout
