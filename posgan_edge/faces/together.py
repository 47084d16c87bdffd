"""Reading the crops of several trackers, of one frame each, in one batch."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from posgan_edge import arrays
from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput, PosganError
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.crop import Crop


@dataclass(frozen=True)
class Request:
    """Crops of a frame that a tracker needs read; see ``FacePipeline.look``."""

    frame: Frame
    crops: Sequence[Crop]
    scores: Sequence[float]
    passes: int = 1


@dataclass(frozen=True)
class Answer:
    """A face for each crop, or None, and the milliseconds of the batch that they were read in."""

    faces: Sequence[Face | None]
    timings_ms: Mapping[str, float]


#: What a tracker does with a frame: it yields requests for crops, is sent the faces in them, and
#: returns its faces.
Steps: TypeAlias = Generator[Request, Answer, list[Face]]


class Follower(Protocol):
    """What ``track_together`` takes: a ``FaceTracker``."""

    @property
    def pipeline(self) -> FacePipeline: ...

    def steps(self, image: Image | Frame, timestamp: float | None = None) -> Steps: ...


def track_together(
    trackers: Sequence[Follower], frames: Sequence[Frame | Image]
) -> list[list[Face] | PosganError]:
    """``FaceTracker.update`` for several cameras at once: a tracker and a frame for each.

    The crops of trackers that share an engine go through it in one batch; with the kernels on a
    GPU, frame by frame. Returns the faces of each frame. If a tracker fails, its error stands in
    their place, so that the others' faces are not lost. Raises BadInput if a tracker is given
    twice, or if there are not as many frames as trackers.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FaceTracker, GivenBoxes, load_engine, read_image
    >>> from posgan_edge import track_together
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> boxes = GivenBoxes([FaceBox(179, 88, 97, 90)])
    >>> with load_engine("edge") as engine:
    ...     with FaceTracker(engine, boxes) as left, FaceTracker(engine, boxes) as right:
    ...         found = track_together([left, right], [image, image])
    >>> [len(faces) for faces in found]
    [1, 1]
    """
    for values, name in ((trackers, "trackers"), (frames, "frames")):
        if not isinstance(values, (list, tuple)):
            raise BadInput(f"{name} is {arrays.described(values)}: give a list")
    for tracker in trackers:
        arrays.with_method(tracker, "steps", "a tracker")
    if len(trackers) != len(frames):
        raise BadInput(f"{len(frames)} frames for {len(trackers)} trackers: give one for each")
    if len({id(tracker) for tracker in trackers}) < len(trackers):
        raise BadInput("a tracker is given twice: each camera needs its own")
    return drive([(t.pipeline, t.steps(f)) for t, f in zip(trackers, frames, strict=True)])


def only(found: Sequence[list[Face] | PosganError]) -> list[Face]:
    """The faces of the only tracker. Raises its error."""
    (faces,) = found
    if isinstance(faces, PosganError):
        raise faces
    return faces


def drive(running: Sequence[tuple[FacePipeline, Steps]]) -> list[list[Face] | PosganError]:
    """Runs the steps of several trackers. Returns the faces of each, or the error that ended it.

    Each time, all requests of pipelines that agree (see ``FacePipeline.agrees``) are read in one
    batch.
    """
    ended: dict[int, list[Face] | PosganError] = {}
    waiting: dict[int, Request] = {}

    def go_on(index: int, answer: Answer | None, error: PosganError | None = None) -> None:
        steps = running[index][1]
        try:
            if error is not None:
                waiting[index] = steps.throw(error)
            elif answer is not None:
                waiting[index] = steps.send(answer)
            else:
                waiting[index] = next(steps)
        except StopIteration as end:
            ended[index] = end.value
        except PosganError as failure:
            ended[index] = failure

    for index in range(len(running)):
        go_on(index, None)
    while waiting:
        first = next(iter(waiting))
        pipeline, passes = running[first][0], waiting[first].passes
        group = [
            index for index, request in waiting.items()
            if request.passes == passes and pipeline.agrees(running[index][0])
        ]  # fmt: skip
        requests = [waiting.pop(index) for index in group]
        try:
            found = pipeline.look_all([(r.frame, r.crops, r.scores) for r in requests], passes)
        except PosganError as error:
            for index in group:
                go_on(index, None, error)
            continue
        times = pipeline.timings_ms
        for index, faces in zip(group, found, strict=True):
            running[index][0].rejected += faces.count(None)
            go_on(index, Answer(faces, times))
    return [ended[index] for index in range(len(running))]
