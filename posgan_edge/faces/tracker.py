"""Following faces from frame to frame; on live frames the detector runs beside it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.closing import Closing
from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput
from posgan_edge.faces.assignment import assign
from posgan_edge.faces.detector import MOST_FACES, Detector, MediaPipeDetector, detected
from posgan_edge.faces.expression_track import ExpressionTrack
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.faces.presence import SAME_IOU, same_face, same_person
from posgan_edge.faces.readers import FrameMemory
from posgan_edge.faces.smoothing import FaceSmoother, Smoothing
from posgan_edge.faces.together import Answer, Request, Steps, drive, only
from posgan_edge.faces.track import Track
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import NO_FACE
from posgan_edge.geometry.values import FaceBox

__all__ = ["MOST_MISSES", "NO_FACE", "FaceTracker", "Track"]

#: A track ends after this many frames in a row without its face.
MOST_MISSES = 3
#: A detection that overlaps a track by less than this is not of its face.
LEAST_IOU = 0.2


class FaceTracker(Closing):
    """Faces of a video, each with an id that stays.

    In each frame, each face takes one crop and one pass of the network, at the place that its last
    landmarks and its speed predict. The detector runs on the first frame, when all faces are lost,
    and every ``redetect`` seconds while there are fewer faces than ``max_faces``. A track ends if
    the network finds no face in its crop, or the face of another track.

    With ``background`` True the detector runs on a thread of its own, and its faces come some
    frames later, depending on how fast the machine is. With False it runs within ``update``, and
    two runs give the same numbers. None, the default, runs it on its own thread for live frames
    only: those with ``Frame.live``, and pictures without a time stamp.

    ``engine`` is an ``Engine``, or a name or file for ``load_engine``; with ``detector`` None, a
    ``MediaPipeDetector`` is made. ``smooth`` False switches the filters off, ``dense`` False leaves
    out position maps; ``mirror``, ``layout`` and ``reader`` are those of ``FacePipeline``. With
    ``expressions``, faces have blendshapes (see ``Face.blendshapes``), measured from each person's
    resting face, which is learned during the track; this needs a model with UV layout ``ict``.

    After an ``update``, ``timings_ms`` holds its milliseconds (``crop``, ``network``,
    ``landmarks``, ``total``; empty if no crop was read), and ``detect_ms`` those of the detection
    whose result it used, 0 if none. A tracker is a context manager; it closes the engine and the
    detector only if it made them.

    Raises BadInput for an option of another type or value, for what ``FacePipeline`` refuses, and
    for ``expressions`` with another UV layout than ``ict``; MissingRuntime without MediaPipe if
    ``detector`` is None.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FaceTracker, GivenBoxes, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FaceTracker("edge", GivenBoxes([FaceBox(179, 88, 97, 90)])) as tracker:
    ...     for number in range(3):
    ...         faces = tracker.update(image, number / 30)
    >>> [face.id for face in faces], faces[0].landmarks.shape
    ([0], (68, 3))
    """

    def __init__(
        self,
        engine: Engine | str | Path = "edge",
        detector: Detector | None = None,
        max_faces: int = 1,
        redetect: float = 1.0,
        smooth: bool = True,
        smoothing: Smoothing | None = None,
        dense: bool = True,
        background: bool | None = None,
        mirror: bool = False,
        layout: UvLayout | None = None,
        reader: str | None = None,
        expressions: bool = False,
    ) -> None:
        max_faces = arrays.whole(max_faces, "max_faces", 1, MOST_FACES)
        redetect = arrays.number(redetect, "redetect", 0)
        smoothing = Smoothing() if smoothing is None else smoothing
        arrays.instance(smoothing, Smoothing, "smoothing")
        for name, value in (("smooth", smooth), ("dense", dense), ("expressions", expressions)):
            arrays.flag(value, name)
        background = None if background is None else arrays.flag(background, "background")
        self._made_detector: MediaPipeDetector | None = None
        if detector is None:
            detector = self._made_detector = MediaPipeDetector(thorough=False)
        self.pipeline = FacePipeline(
            engine,
            detector,
            mirror=mirror,
            dense=dense or expressions,
            workers=min(max_faces, os.cpu_count() or 1),
            layout=layout,
            reader=reader,
        )
        if expressions and self.pipeline.layout.name != "ict":
            self.pipeline.close()
            if self._made_detector is not None:
                self._made_detector.close()
            raise BadInput(
                "expressions need position maps of UV layout 'ict', not "
                f"{self.pipeline.layout.name!r}: use another model, or leave expressions out"
            )
        self._expressions = expressions
        self.detector, self.max_faces, self.redetect = detector, max_faces, redetect
        self.tracks: list[Track] = []
        self.detections, self.detect_ms = 0, 0.0
        self.timings_ms: dict[str, float] = {}
        self._smoothing = smoothing if smooth else None
        self._dense, self._index, self._next_id, self._closed = dense, 0, 0, False
        self._looked: float | None = None
        self._background = background
        self._pool = None if background is False else ThreadPoolExecutor(1, "detector")
        self._pending: Future[tuple[list[FaceBox], float]] | None = None

    def update(self, image: Image | Frame, timestamp: float | None = None) -> list[Face]:
        """The faces of the next frame or picture (H, W, 3) uint8 BGR, oldest track first.

        ``timestamp`` is in seconds and must rise from call to call; None takes that of a ``Frame``,
        or ``time.perf_counter()`` for a picture. Raises BadInput for an argument that is not a
        picture or a time, and if the tracker is closed; PosganError if the detector fails. After an
        error the tracker can still be used.
        """
        return only(drive([(self.pipeline, self.steps(image, timestamp))]))

    def steps(self, image: Image | Frame, timestamp: float | None = None) -> Steps:
        """``update`` as steps that wait for what their crops hold; see ``track_together``."""
        frame = self._next_frame(image, timestamp)
        beside = frame.live if self._background is None else self._background
        self.timings_ms, self.detect_ms = {}, 0.0
        faces = yield from self._follow(frame)
        boxes = self._look(frame, beside)
        if boxes:
            faces += yield from self._begin(frame, boxes)
        return faces

    @property
    def frame_memory(self) -> FrameMemory | None:
        """See ``FacePipeline``."""
        return self.pipeline.frame_memory

    def set_neutral(self, id: int | None = None) -> None:
        """Makes the last face of a track, or of every track, the resting face of its person.

        From the next frame on, blendshapes are measured from it. Raises BadInput if there is no
        such face, or if the tracker was made without ``expressions``.
        """
        if not self._expressions:
            raise BadInput(
                "the tracker was made without expressions: FaceTracker(expressions=True)"
            )
        id = None if id is None else arrays.whole(id, "id", 0, 1 << 62)
        tracks = [track for track in self.tracks if id is None or track.id == id]
        if not tracks:
            which = "no face is" if id is None else f"no face with id {id} is"
            raise BadInput(f"{which} followed now: the resting face cannot be set")
        for track in tracks:
            if track.expression is not None:
                track.expression.set_neutral()

    def _next_frame(self, image: Image | Frame, timestamp: float | None) -> Frame:
        if self._closed:
            raise BadInput("the tracker is closed: make another")
        index, self._index = self._index, self._index + 1
        if isinstance(image, Frame):
            return Frame.of(image, timestamp)
        return Frame.of(
            Frame(image, index, live=timestamp is None),
            time.perf_counter() if timestamp is None else timestamp,
        )

    def _read(
        self, frame: Frame, crops: Sequence[Crop], scores: Sequence[float], passes: int = 1
    ) -> Generator[Request, Answer, Sequence[Face | None]]:
        if not crops:
            return []
        answer = yield Request(frame, crops, scores, passes)
        for name, value in answer.timings_ms.items():
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + value
        return answer.faces

    def _follow(self, frame: Frame) -> Steps:
        """Reads the expected crops once. Tracks without a face for too long end."""
        now = frame.timestamp
        crops = [track.crop(now) for track in self.tracks]
        scores = [track.face.box.score for track in self.tracks]
        found = yield from self._read(frame, crops, scores)
        faces, kept = [], []
        for track, face in zip(self.tracks, found, strict=True):
            if face is None:
                track.misses += 1
                if track.misses < MOST_MISSES:
                    kept.append(track)
            elif not any(same_face(face, other.face) for other in kept):
                kept.append(track)
                faces.append(track.take(face, now))
        self.tracks = kept
        return faces

    def _look(self, frame: Frame, beside: bool) -> list[FaceBox]:
        """The boxes of a detection that has finished; starts a new one if it is time.

        ``beside``: it may run on its own thread.
        """
        now = frame.timestamp
        if self._pending is not None:
            if beside and not self._pending.done():
                return []
            # A result is used once, also if it is an error.
            pending, self._pending = self._pending, None
            boxes, self.detect_ms = pending.result()
            return boxes
        lost = not any(track.misses == 0 for track in self.tracks)
        first = self._looked is None
        # If time stamps jump back, the next detection must not wait for long.
        since = math.inf if self._looked is None else abs(now - self._looked)
        due = len(self.tracks) < self.max_faces and since >= self.redetect
        if not (due or (lost and since >= min(self.redetect, 0.2))):
            return []
        self._looked = now
        self.detections += 1
        if self._pool is None or first or not beside:
            boxes, self.detect_ms = self._detect(frame.image)
            return boxes
        # A copy, because the caller may use the picture's memory for the next frame.
        picture = frame.image.copy()
        self._pending = self._pool.submit(self._detect, picture)
        return []

    def _detect(self, picture: Image) -> tuple[list[FaceBox], float]:
        """Boxes and milliseconds. May run on the detector's thread, so it changes no attribute."""
        start = time.perf_counter()
        boxes = detected(self.detector, picture, self.max_faces)
        return boxes, (time.perf_counter() - start) * 1e3

    def _begin(self, frame: Frame, boxes: list[FaceBox]) -> Steps:
        """Starts tracks for the detections that belong to no track."""
        now = frame.timestamp
        if self.tracks:
            expected = [track.box(now) for track in self.tracks]
            overlap = np.array([[e.iou(box) for box in boxes] for e in expected], np.float64)
            taken = {j for i, j in assign(1 - overlap) if overlap[i, j] >= LEAST_IOU}
            taken |= {j for j in range(len(boxes)) if overlap[:, j].max() >= SAME_IOU}
            boxes = [box for j, box in enumerate(boxes) if j not in taken]
        boxes = boxes[: max(0, self.max_faces - len(self.tracks))]
        crops, scores = [Crop.from_box(box) for box in boxes], [box.score for box in boxes]
        faces = []
        found = yield from self._read(frame, crops, scores, 2)
        for face in found:
            if face is None or any(same_person(face, track.face) for track in self.tracks):
                continue
            filters = self._smoothing
            smoother = None if filters is None else FaceSmoother(filters, self._dense)
            expression = ExpressionTrack() if self._expressions else None
            track = Track(
                self._next_id, face, smoother, now, expression=expression, dense=self._dense
            )
            self._next_id += 1
            self.tracks.append(track)
            faces.append(track.take(face, now))
        return faces

    @property
    def rejected(self) -> int:
        """The number of crops so far that held no face; see ``FacePipeline.process``."""
        return self.pipeline.rejected

    def close(self) -> None:
        """Ends the threads, and closes the engine and the detector if the tracker made them. A
        second call does nothing."""
        if self._closed:
            return
        self._closed = True
        # First the thread, which may still use the detector.
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self.pipeline.close()
        if self._made_detector is not None:
            self._made_detector.close()
