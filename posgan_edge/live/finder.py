"""How the live loop finds faces: with a tracker, or for single pictures with a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from posgan_edge.errors import PosganError, picture_failure
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.faces.together import track_together
from posgan_edge.faces.tracker import FaceTracker
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.values import FaceBox


class Finder(Protocol):
    """Finds faces frame by frame; ``FaceTracker`` is one.

    After an ``update``, ``timings_ms`` holds its milliseconds by stage, ``detect_ms`` those of a
    detection that ran beside it (0: none), ``detections`` how often the detector has looked.
    """

    @property
    def timings_ms(self) -> Mapping[str, float]: ...
    @property
    def detect_ms(self) -> float: ...
    @property
    def detections(self) -> int: ...

    def update(self, frame: Frame, /) -> list[Face] | None:
        """The faces of a frame. None: the frame cannot be used, and is left out."""
        ...


def update_all(
    finders: Sequence[Finder], frames: Sequence[Frame]
) -> list[list[Face] | PosganError | None]:
    """``update`` for several finders, each with its frame: trackers in one batch, others one after
    the other. The error of a finder stands in place of its faces."""
    found: dict[int, list[Face] | PosganError | None] = {}
    pairs = list(enumerate(zip(finders, frames, strict=True)))
    trackers = [(i, f, frame) for i, (f, frame) in pairs if isinstance(f, FaceTracker)]
    if len(trackers) > 1:
        together = track_together([t for _, t, _ in trackers], [frame for *_, frame in trackers])
        found |= dict(zip((i for i, *_ in trackers), together, strict=True))
    for index, (finder, frame) in pairs:
        if index not in found:
            try:
                found[index] = finder.update(frame)
            except PosganError as error:
                found[index] = error
    return [found[index] for index, _ in pairs]


class PictureFinder:
    """Finds the faces of single pictures with a pipeline.

    ``boxes`` are those of every picture; None asks the pipeline's detector for up to
    ``max_faces``. ``notify`` is called with one line for each picture that has no face or fails.
    """

    detect_ms = 0.0

    def __init__(
        self,
        pipeline: FacePipeline,
        boxes: Sequence[FaceBox] | None = None,
        max_faces: int = 64,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.pipeline, self.boxes, self.max_faces = pipeline, boxes, max_faces
        self.detections = 0
        self._notify = notify

    @property
    def timings_ms(self) -> Mapping[str, float]:
        """Those of the pipeline's last picture."""
        return self.pipeline.timings_ms

    def update(self, frame: Frame, /) -> list[Face] | None:
        """See ``Finder``."""
        self.detections += self.boxes is None
        try:
            faces = self.pipeline.process(frame, self.boxes, self.max_faces)
        except PosganError as error:
            self._notify(picture_failure(frame.name, error))
            return None
        if not faces:
            self._notify(f"{frame.name}: no face was found")
        return faces
