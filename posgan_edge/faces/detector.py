"""Finding faces with MediaPipe's bundled detectors."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.closing import Closing
from posgan_edge.errors import BadInput, PosganError, needing, one_line
from posgan_edge.faces.tiles import moved, scaled, shrunk, starts, unturned
from posgan_edge.geometry.values import FaceBox

#: Landmark box from MediaPipe's box and key points, fitted on the training pack's labels:
#: side of the landmark box over that of the detector's box, and where its centre lies, in sides
#: of the detector's box along the face's own axes.
BOX_TO_LANDMARKS = (0.96, 0.0, 0.02)
#: With a lower score of the short-range model, turned pictures are searched too: upside-down faces
#: are found as upright ones with scores around 0.65, and with 0.9 when the picture is turned.
TRUSTED_SCORE = 0.85
#: Two boxes are one face if they overlap by more than this.
SAME_FACE_IOU = 0.4
#: Pixels of the smallest tile; a face is small in a tile of more than so many times its width.
LEAST_TILE, SMALL_IN_TILE = 160, 4
#: Faces beside others that are seen in tiles alone are trusted from this score on: of 1,000 photos
#: of one or two people, ears, hands and the like score up to 0.7.
TILE_SCORE = 0.75
#: Pictures with fewer pixels along a side, or longer by more than this, are not looked at.
LEAST_SIDE, MOST_ASPECT = 8, 32
#: A picture is padded in this size at most; MediaPipe ends the process on very large ones.
LARGEST_PADDED = 4096
#: The largest number of faces that may be asked for.
MOST_FACES = 100_000
_SHORT_RANGE, _FULL_RANGE = 0, 1
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class Detector(Protocol):
    """Finds faces in a BGR frame (H, W, 3) uint8. Any object with such a ``detect`` is one.

    >>> from posgan_edge import FaceBox, FacePipeline
    >>> class Whole:
    ...     def detect(self, frame, max_faces=1):
    ...         height, width = frame.shape[:2]
    ...         return [FaceBox(0, 0, width, height)]
    >>> with FacePipeline("edge", Whole()) as pipeline:
    ...     pipeline.detector.__class__.__name__
    'Whole'
    """

    def detect(self, frame: Image, max_faces: int = 1) -> list[FaceBox]:
        """Returns landmark boxes in frame pixels with roll and score, best first."""
        ...


def detected(detector: Detector, frame: Image, max_faces: int) -> list[FaceBox]:
    """Runs a detector. Returns at most ``max_faces`` boxes.

    Raises PosganError if the detector fails or returns other things; its own PosganError is
    passed on.
    """
    max_faces = arrays.whole(max_faces, "max_faces", 1, MOST_FACES)
    name = type(detector).__name__
    try:
        boxes = detector.detect(frame, max_faces)
    except PosganError:
        raise
    except Exception as error:
        raise PosganError(f"{name} failed: {type(error).__name__}: {one_line(error)}") from error
    try:
        return list(arrays.instances(boxes, FaceBox, "boxes"))[:max_faces]
    except BadInput as error:
        raise PosganError(f"{name} did not return a list of FaceBox: {error}") from error


class GivenBoxes:
    """A detector that returns the given boxes for every frame.

    Raises BadInput for what is no sequence of boxes; ``detect`` for a count that is not above 0.

    >>> import numpy as np
    >>> from posgan_edge import FaceBox, GivenBoxes
    >>> detector = GivenBoxes([FaceBox(179, 88, 97, 90)])
    >>> detector.detect(np.zeros((480, 640, 3), np.uint8))[0].center
    (227.5, 133.0)
    """

    def __init__(self, boxes: Sequence[FaceBox]) -> None:
        self.boxes = list(arrays.instances(boxes, FaceBox, "boxes"))

    def detect(self, frame: Image, max_faces: int = 1) -> list[FaceBox]:
        """See ``Detector``."""
        return self.boxes[: arrays.whole(max_faces, "max_faces", 1, MOST_FACES)]


class MediaPipeDetector(Closing):
    """MediaPipe's two face detectors, tried in turn until a face is found with a high score.

    The short-range model looks first, then the full-range one, then both at turned, padded and
    enlarged pictures; where more than one face is asked for, also at tiles, for small faces.
    ``thorough`` False (live video) stops after the two models on the frame as it is. Faces scored
    below ``min_score`` are left out. A detector is a context manager.

    Raises MissingRuntime if mediapipe is not installed.

    >>> from posgan_edge import MediaPipeDetector, read_image
    >>> with MediaPipeDetector() as detector:                        # doctest: +SKIP
    ...     boxes = detector.detect(read_image("photo.jpg"))
    """

    def __init__(self, min_score: float = 0.5, thorough: bool = True) -> None:
        min_score = arrays.number(min_score, "min_score", 0, 1)
        self.thorough = arrays.flag(thorough, "thorough")
        self._models: dict[tuple[int, float], Any] = {}
        self.min_score = min_score
        self._closed = False
        self._model(_SHORT_RANGE, min_score)

    def detect(self, frame: Image, max_faces: int = 1) -> list[FaceBox]:
        """See ``Detector``. The picture is never changed; one of less than 8 pixels a side, or more
        than 32 times as long as wide, has no face. Raises BadInput once closed."""
        if self._closed:
            raise BadInput("the detector is closed: make another")
        max_faces = arrays.whole(max_faces, "max_faces", 1, MOST_FACES)
        least, most = sorted(np.shape(arrays.image(frame, "frame"))[:2])
        if least < LEAST_SIDE or most > MOST_ASPECT * least:
            return []
        rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        faces = _distinct(self._run(rgb, _SHORT_RANGE, self.min_score))
        sure = bool(faces) and faces[0].score >= TRUSTED_SCORE
        if len(faces) < max_faces:
            faces = _distinct([*faces, *self._run(rgb, _FULL_RANGE, self.min_score)])
        if self.thorough and not sure:
            faces = _distinct([*faces, *self._turned(rgb, tuple(_TURNS))])
        if self.thorough and not faces:
            faces = next(filter(None, self._last_attempts(rgb)), [])
        if self.thorough and max_faces > 1:
            faces = self._with_small(rgb, faces, max_faces)
        return faces[:max_faces]

    def detect_turned(self, frame: Image, degrees: Sequence[int]) -> list[FaceBox]:
        """One search of the short-range model for each angle.

        The frame (H, W, 3) uint8 BGR is turned clockwise by each of ``degrees``: 0, 90, 180 or 270.
        Returns boxes in pixels of the frame as given, unsorted; a face may be found more than once.
        Raises BadInput for other angles, and once the detector is closed.
        """
        if self._closed:
            raise BadInput("the detector is closed: make another")
        for angle in arrays.instances(degrees, int, "degrees"):
            arrays.whole(angle, "degrees", 0, 270)
        if wrong := [angle for angle in degrees if angle not in (0, *_TURNS)]:
            raise BadInput(f"degrees: {wrong[0]} is not 0, 90, 180 or 270")
        rgb = cv2.cvtColor(arrays.image(frame, "frame"), cv2.COLOR_BGR2RGB)
        return self._turned(rgb, degrees)

    def close(self) -> None:
        """Frees the models. A second call does nothing."""
        self._closed = True
        for model in self._models.values():
            model.close()
        self._models.clear()

    def _turned(self, rgb: Image, degrees: Sequence[int]) -> list[FaceBox]:
        height, width = rgb.shape[:2]
        found = []
        for angle in degrees:
            turned = cv2.rotate(rgb, _TURNS[angle]) if angle else rgb
            for box in self._run(turned, _SHORT_RANGE, self.min_score):
                found.append(unturned(box, angle, width, height) if angle else box)
        return found

    def _last_attempts(self, rgb: Image) -> Iterator[list[FaceBox]]:
        """Further searches if no face was found, the fastest first."""
        # With a border, a face that fills the frame is complete.
        small, scale = shrunk(rgb, LARGEST_PADDED)
        pad = max(small.shape[:2]) // 3
        padded = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
        found = self._run(padded, _SHORT_RANGE, self.min_score)
        yield [scaled(moved(b, -pad, -pad), scale) for b in found]
        for model in (_SHORT_RANGE, _FULL_RANGE):
            yield _distinct(self._run(rgb, model, self.min_score * 0.4))
        # Overlapping quarters of the frame, where a small face is twice as large.
        height, width = rgb.shape[:2]
        yield _distinct(self._tiles(rgb, (height + 1) // 2, (width + 1) // 2, self.min_score))

    def _with_small(self, rgb: Image, faces: list[FaceBox], max_faces: int) -> list[FaceBox]:
        """Small faces too: square tiles of half the picture's longer side, then of a quarter, and
        so on while there are faces that are small in a tile; to an eighth where there is none."""
        whole = max(rgb.shape[:2])
        side = whole // 2
        while side >= (LEAST_TILE if faces else max(LEAST_TILE, whole // 8)):
            if len(faces) >= max_faces:
                break
            new = _distinct(self._tiles(rgb, side, side, max(self.min_score, TILE_SCORE)))
            known = list(faces)
            faces += [f for f in new if all(f.iou(face) < SAME_FACE_IOU for face in known)]
            if faces and all(face.width * SMALL_IN_TILE > side for face in faces):
                break
            side //= 2
        return sorted(faces, key=lambda face: -face.score)

    def _tiles(self, rgb: Image, height: int, width: int, min_score: float) -> list[FaceBox]:
        """Faces of tiles that overlap by half or more."""
        return [
            moved(box, left, top)
            for top in starts(rgb.shape[0], height)
            for left in starts(rgb.shape[1], width)
            for box in self._run(
                rgb[top : top + height, left : left + width], _SHORT_RANGE, self.min_score
            )
            if box.score >= min_score
        ]

    def _run(self, rgb: Image, kind: int, min_score: float) -> list[FaceBox]:
        height, width = rgb.shape[:2]
        if min(height, width) < LEAST_SIDE:
            return []
        result = self._model(kind, min_score).process(np.ascontiguousarray(rgb))
        return [_landmark_box(d, width, height) for d in result.detections or []]

    def _model(self, kind: int, min_score: float) -> Any:
        key = (kind, min_score)
        if key not in self._models:
            with quiet_stderr():
                with needing("mediapipe", "finding faces", "detect"):
                    from mediapipe.python.solutions.face_detection import FaceDetection
                self._models[key] = FaceDetection(min_score, kind)
                self._models[key].process(np.zeros((128, 128, 3), np.uint8))
        return self._models[key]


def _landmark_box(detection: Any, width: int, height: int) -> FaceBox:
    """MediaPipe's detection as the box of the 68 landmarks, with roll from its key points."""
    location = detection.location_data
    box = location.relative_bounding_box
    points = np.array([(p.x * width, p.y * height) for p in location.relative_keypoints])
    right_eye, left_eye, _, mouth = points[:4]
    # In profile, the line from the eyes to the mouth is more stable than that between the eyes.
    along = mouth - (right_eye + left_eye) / 2
    roll = math.degrees(math.atan2(-along[0], along[1]))
    eyes = left_eye - right_eye
    if np.linalg.norm(eyes) > 0.6 * np.linalg.norm(along):
        roll = math.degrees(math.atan2(eyes[1], eyes[0]))
    scale, shift_x, shift_y = BOX_TO_LANDMARKS
    base = (box.width * width + box.height * height) / 2
    c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    x = (box.xmin + box.width / 2) * width + (c * shift_x - s * shift_y) * base
    y = (box.ymin + box.height / 2) * height + (s * shift_x + c * shift_y) * base
    side = base * scale
    return FaceBox(x - side / 2, y - side / 2, side, side, float(detection.score[0]), roll)


def _distinct(faces: list[FaceBox]) -> list[FaceBox]:
    kept: list[FaceBox] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(face.iou(other) < SAME_FACE_IOU for other in kept):
            kept.append(face)
    return kept


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Suppresses what native code writes to standard error when it starts."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
