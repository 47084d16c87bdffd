"""The pipeline for single frames: detection, crops, reading, and a second pass on better crops."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, cast

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.closing import Closing
from posgan_edge.engines.base import Engine
from posgan_edge.engines.loader import load_engine
from posgan_edge.errors import BadInput
from posgan_edge.faces.detector import Detector, detected
from posgan_edge.faces.presence import distinct, is_face
from posgan_edge.faces.readers import FrameMemory, Reading, make_reader
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.values import FaceBox, PositionMap

#: A frame or picture, crops of it, and the score of each; None for 1.
Part: TypeAlias = tuple[Frame | Image, Sequence[Crop], Sequence[float] | None]


class FacePipeline(Closing):
    """The faces of single frames.

    Options:

    - ``engine``: an ``Engine``, or a name or file for ``load_engine``.
    - ``detector``: finds the faces; not needed if boxes are given.
    - ``passes``: with 2, the face is read again from a crop that fits the landmarks of the first
      pass, turned so that the head is upright in it.
    - ``mirror``: averages each map with that of the mirrored crop, in twice the network's time.
    - ``dense``: with False, faces have no position map, and a GPU need not send it back.
    - ``workers``: threads that share the faces of a frame, if the engine allows it.
    - ``layout``: used instead of the engine's built-in layout; it may have another mask.
    - ``reader``: one of ``readers.READERS``; None takes the fastest one that is available.

    All faces of a frame go through the engine in one batch. ``timings_ms`` holds the milliseconds
    of the last call: ``crop``, ``network``, ``landmarks``, ``total``, and ``detect`` after
    ``process``. ``rejected`` counts the crops so far that held no face (see ``process``). A
    pipeline is a context manager; it closes the engine only if it loaded it.

    Raises BadInput for an option of another type or value, for an engine that cannot be loaded, for
    a layout whose name is not that of the engine's maps, and for a reader that does not exist;
    MissingRuntime for an engine or a reader that needs something to be installed.

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
        dense, mirror = arrays.flag(dense, "dense"), arrays.flag(mirror, "mirror")
        if detector is not None:
            arrays.with_method(detector, "detect", "detector")
        self.engine: Engine = engine if isinstance(engine, Engine) else load_engine(engine)
        self._owned = None if engine is self.engine else self.engine
        self.detector, self.dense = detector, dense
        self.passes = arrays.whole(passes, "passes", 1, 100)
        workers = arrays.whole(workers, "workers", 1, 256)
        self.layout = _checked(layout, self.engine)
        self._mirror = mirror
        self.rejected = 0
        self.timings_ms: dict[str, float] = {}
        self._reader = make_reader(self.engine, self.layout, dense, mirror, workers, reader)

    @property
    def frame_memory(self) -> FrameMemory | None:
        """Memory that frames are best read into (``Capture.memory``): pinned memory for a GPU; None
        where any will do."""
        return self._reader.memory

    def process(
        self,
        frame: Frame | Image,
        boxes: Sequence[FaceBox] | None = None,
        max_faces: int = 1,
        keep_all: bool = False,
    ) -> list[Face]:
        """The faces of a frame or of a picture (H, W, 3) uint8 BGR, best score first.

        ``boxes`` are landmark boxes in pixels; None asks the detector for up to ``max_faces``.
        A result that is not a face is left out and counted in ``rejected``: ``Face.presence`` is
        below 0.5, it lies outside the picture, or its numbers are not finite. If a face is found
        twice, the better result is kept. ``keep_all`` True keeps one face for each box, for
        measuring on faces whose boxes are known.

        Raises BadInput without boxes and detector, for arguments that are not a picture or boxes,
        and with ``keep_all`` if numbers are not finite; PosganError if the detector fails.
        """
        frame, keep_all = Frame.of(frame), arrays.flag(keep_all, "keep_all")
        start = time.perf_counter()
        if boxes is None:
            if self.detector is None:
                raise BadInput("no detector: give boxes, or make the pipeline with a detector")
            boxes = detected(self.detector, frame.image, max_faces)
        detect_ms = (time.perf_counter() - start) * 1e3
        crops = [Crop.from_box(box) for box in arrays.instances(boxes, FaceBox, "boxes")]
        scores = [box.score for box in boxes]
        if keep_all:
            faces = self.at_crops(frame, crops, scores, self.passes)
        else:
            found = self.look(frame, crops, scores, self.passes)
            faces = distinct([face for face in found if face is not None])
            faces = [replace(face, id=index) for index, face in enumerate(faces)]
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
        """What the network finds in crops of a frame: one ``Face`` for each, in their order,
        whether it is a face or not.

        ``scores``, one for each crop, become the scores of the faces' boxes; None means 1. Raises
        BadInput if the network's numbers are not finite, and for arguments of other types.
        """
        (faces,) = self._at([(Frame.of(frame), crops, scores)], passes)
        for index, face in enumerate(faces):
            if face is None:
                raise BadInput(
                    f"{self.engine.info.name}: under crop {index} the network's position map is "
                    "not finite, or all its points are at one place"
                )
        return cast("list[Face]", faces)

    def look(
        self,
        frame: Frame | Image,
        crops: Sequence[Crop],
        scores: Sequence[float] | None = None,
        passes: int = 1,
    ) -> list[Face | None]:
        """``at_crops``, with None for a crop without a face, which is counted in ``rejected``."""
        (found,) = self.look_all([(frame, crops, scores)], passes)
        self.rejected += found.count(None)
        return found

    def look_all(self, parts: Sequence[Part], passes: int = 1) -> list[list[Face | None]]:
        """``look`` for several frames, each with its crops and scores; nothing is counted in
        ``rejected``. All crops go through the engine in one batch. Several frames need a reader
        that mixes them; see ``agrees``."""
        checked = [(Frame.of(frame), crops, scores) for frame, crops, scores in parts]
        return [
            [face if face is not None and is_face(face, *_size(frame)) else None for face in faces]
            for (frame, _, _), faces in zip(checked, self._at(checked, passes), strict=True)
        ]

    def agrees(self, other: FacePipeline) -> bool:
        """Whether crops of another pipeline can be read in one batch with those of this one."""
        return self is other or (
            self._reader.mixes
            and self.engine is other.engine
            and self.layout is other.layout
            and (self.dense, self._mirror, type(self._reader))
            == (other.dense, other._mirror, type(other._reader))
        )

    def _at(
        self, parts: Sequence[tuple[Frame, Sequence[Crop], Sequence[float] | None]], passes: int
    ) -> list[list[Face | None]]:
        """For each frame one face for each crop; None if its numbers are not finite."""
        start = time.perf_counter()
        passes = arrays.whole(passes, "passes", 1, 100)
        marks = [_scores(crops, scores) for _, crops, scores in parts]
        times = {"crop": 0.0, "network": 0.0}
        faces: list[list[Face | None]] = [[None] * len(crops) for _, crops, _ in parts]
        left = {which: dict(enumerate(crops)) for which, (_, crops, _) in enumerate(parts)}
        for number in range(passes):
            left = {which: crops for which, crops in left.items() if crops}
            if not left:
                break
            last = number + 1 == passes
            readings = self._reader.read_all(
                [(parts[which][0], list(crops.values())) for which, crops in left.items()],
                draft=not last,
            )
            _add_times(times, readings)
            for (which, crops), reading in zip(left.items(), readings, strict=True):
                if not last:
                    left[which] = _placed(reading, crops)
                    continue
                for row, (index, crop) in enumerate(crops.items()):
                    score = marks[which][index]
                    faces[which][index] = self._face(reading, row, crop, score, index)
        times["total"] = (time.perf_counter() - start) * 1e3
        times["landmarks"] = times["total"] - times["crop"] - times["network"]
        self.timings_ms = times
        return faces

    def _face(
        self, reading: Reading, row: int, crop: Crop, score: float, index: int
    ) -> Face | None:
        maps, facing = reading.maps, reading.facing
        if facing is None:
            raise BadInput("a reader left out which landmarks face the camera")
        if maps is not None and not arrays.finite(maps[row]):
            return None
        landmarks = reading.landmarks[row]
        try:
            return Face(
                box=FaceBox.around(landmarks, score),
                crop=crop,
                position_map=None if maps is None else PositionMap(maps[row], self.layout),
                landmarks=landmarks,
                facing=facing[row],
                pose=reading.poses[row],
                id=index,
            )
        except BadInput:  # numbers that are not finite, or far outside
            return None

    def close(self) -> None:
        """Frees threads and device memory, and closes an engine that the pipeline loaded. A second
        call does nothing."""
        self._reader.close()
        if self._owned is not None:
            self._owned.close()


def _size(frame: Frame) -> tuple[int, int]:
    """Height and width in pixels."""
    height, width = frame.image.shape[:2]
    return height, width


def _scores(crops: Sequence[Crop], scores: Sequence[float] | None) -> Sequence[float]:
    """One score for each crop. Raises BadInput for arguments of other types or lengths."""
    arrays.instances(crops, Crop, "crops")
    scores = [1.0] * len(crops) if scores is None else scores
    for score in arrays.sequence(scores, "scores"):
        arrays.number(score, "score")
    if len(scores) != len(crops):
        raise BadInput(f"{len(scores)} scores for {len(crops)} crops: give one for each")
    return scores


def _add_times(times: dict[str, float], readings: Sequence[Reading]) -> None:
    """Adds the times of a batch, which each reading of it carries; on a device each has its own."""
    distinct = {id(reading.timings): reading.timings for reading in readings}
    for timings in distinct.values():
        for name in times:
            times[name] += timings[name]


def _placed(reading: Reading, crops: dict[int, Crop]) -> dict[int, Crop]:
    """New crops around the landmarks that were read, without those that have no size."""
    placed = {}
    for index, points, pose in zip(crops, reading.landmarks, reading.poses, strict=True):
        with suppress(BadInput):
            placed[index] = Crop.from_landmarks(points, pose.in_plane)
    return placed


def _checked(layout: UvLayout | None, engine: Engine) -> UvLayout:
    """The layout of an engine, or the one given for it."""
    if layout is None:
        return load_layout(engine.info.layout)
    if arrays.instance(layout, UvLayout, "layout").name != engine.info.layout:
        raise BadInput(
            f"{engine.info.name}: its maps have UV layout {engine.info.layout!r}, not "
            f"{layout.name!r}"
        )
    return layout
