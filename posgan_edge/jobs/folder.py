"""A run over many pictures in several processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2

from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput, PosganError, picture_failure
from posgan_edge.faces.values import Frame
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.jobs.pool import Pool
from posgan_edge.live.capture import CaptureCounts
from posgan_edge.live.finder import Finder
from posgan_edge.live.loop import Limits, LiveSummary, find_in, stop_on_signals
from posgan_edge.live.sinks import FilesSink, Journal, Sink
from posgan_edge.live.sources.pictures import Picture, PictureReader
from posgan_edge.live.stages import StageTimes
from posgan_edge.live.worker import Canvas, Drawing, failure_line

#: Makes the engine, its layout and the finder; the finder calls the given function with a line
#: for each picture without a face. What it opens is closed by the stack.
Opening = Callable[[ExitStack, Callable[[str], None]], tuple[Engine, UvLayout, Finder]]


@dataclass(frozen=True)
class Task:
    """A picture, and its file for each ``FilesSink``."""

    index: int
    picture: Picture
    targets: tuple[Path, ...]


@dataclass(frozen=True)
class Made:
    """What was made of a picture.

    ``problem``: why it failed, or has no face. ``faces`` is the number of its faces, None if it
    could not be used; ``pose`` the pitch, yaw and roll of the first. ``records`` has what
    ``Sink.encode`` returned for each sink; ``failures`` the reason for each sink that failed.
    """

    index: int
    name: str
    problem: str = ""
    faces: int | None = None
    detections: int = 0
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    times_ms: dict[str, float] = field(default_factory=dict)
    stages_ms: dict[str, float] = field(default_factory=dict)
    records: dict[int, bytes] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenWorker:
    """Opens a ``Worker`` in another process; see ``Pool``."""

    opening: Opening
    sinks: tuple[Sink, ...]
    drawing: Drawing

    @contextmanager
    def __call__(self) -> Iterator[Worker]:
        cv2.setNumThreads(1)
        with ExitStack() as stack:
            yield Worker(self.opening, self.sinks, self.drawing, stack)


class Worker:
    """Does all of a picture that needs no order: reading, finding faces, drawing, encoding, and
    files of its own."""

    def __init__(
        self, opening: Opening, sinks: Sequence[Sink], drawing: Drawing, stack: ExitStack
    ) -> None:
        self._problems: list[str] = []
        engine, layout, self._finder = opening(stack, self._problems.append)
        self._reader = stack.enter_context(PictureReader())
        self._sinks, self._canvas = sinks, Canvas(drawing)
        for sink in sinks:
            sink.start(engine, layout)

    def __call__(self, task: Task) -> Made:
        name = task.picture.name
        try:
            return self._made(task, name)
        except Exception as error:  # also of a library
            return Made(task.index, name, picture_failure(name, error))

    def _made(self, task: Task, name: str) -> Made:
        self._problems.clear()
        frame = Frame(self._reader.read(task.picture), task.index, 0.0, name)
        looked = self._finder.detections
        result = find_in(frame, self._finder, time.perf_counter())
        looked = self._finder.detections - looked
        problem = next(iter(self._problems), "")
        if result is None:
            return Made(task.index, name, problem, detections=looked)
        stages = dict(result.stages_ms)
        if any(sink.draws for sink in self._sinks):
            start = time.perf_counter()
            result = self._canvas(result)
            stages["draw"] = (time.perf_counter() - start) * 1e3
        records, failures, targets = {}, {}, iter(task.targets)
        for number, sink in enumerate(self._sinks):
            start = time.perf_counter()
            try:
                if isinstance(sink, FilesSink):
                    sink.files.place(task.index, next(targets))
                records[number] = sink.encode(result)
            except Exception as error:
                failures[number] = failure_line(sink, error)
            stages[f"to {Path(sink.name).name}"] = (time.perf_counter() - start) * 1e3
        made = Made(task.index, name, problem, len(result.faces), looked,
                    times_ms=dict(result.timings_ms), stages_ms=stages, records=records,
                    failures=failures)  # fmt: skip
        if not result.faces:
            return made
        pose = result.faces[0].pose
        return replace(made, pose=(pose.pitch, pose.yaw, pose.roll))


def run_folder(
    pictures: Sequence[Picture],
    processes: int,
    opening: Opening,
    sinks: Sequence[Sink],
    drawing: Drawing,
    limits: Limits,
    journal: Journal | None = None,
    notify: Callable[[str], None] = lambda _: None,
    on_picture: Callable[[LiveSummary, Made], None] = lambda *_: None,
) -> LiveSummary:
    """Runs over the pictures that are not yet done, until a limit, SIGINT or SIGTERM.

    All ``sinks`` are ``portable``; they write in the order of the pictures, and are closed at the
    end. A sink that fails is closed and reported, and the others continue. A process that dies
    makes its picture fail. A signal ends the run after the pictures that have begun; a second one
    at once. ``on_picture`` is called after each picture.
    """
    return _Run(sinks, journal, notify).over(
        pictures, processes, opening, drawing, limits, on_picture
    )


class _Run:
    """A run in progress: the sinks that are left, and what was done."""

    def __init__(
        self, sinks: Sequence[Sink], journal: Journal | None, notify: Callable[[str], None]
    ) -> None:
        self._all = tuple(sinks)
        self._left = dict(enumerate(sinks))
        self._journal, self._notify = journal, notify
        self.summary, self._times = LiveSummary(counts=CaptureCounts()), StageTimes()

    def over(
        self, pictures: Sequence[Picture], processes: int, opening: Opening, drawing: Drawing,
        limits: Limits, on_picture: Callable[[LiveSummary, Made], None],
    ) -> LiveSummary:  # fmt: skip
        run, start = self.summary, time.perf_counter()
        first = self._journal.done.next if self._journal is not None else 0
        note = (lambda _: None) if self._journal is None else self._journal.note_process
        worker = OpenWorker(opening, self._all, drawing)
        files = [sink.files for sink in self._all if isinstance(sink, FilesSink)]
        tasks = (
            Task(index, pictures[index], tuple(names.target(index) for names in files))
            for index in range(first, len(pictures))
        )

        def more(waiting: int) -> bool:
            late = limits.seconds is not None and time.perf_counter() - start >= limits.seconds
            full = limits.frames is not None and run.processed + waiting >= limits.frames
            return not (stopped or late or full)

        try:
            with stop_on_signals() as stopped, Pool(processes, worker, _died, note) as pool:
                for made in pool.results(tasks, more):
                    self._add(made)
                    on_picture(run, made)
            run.signal = stopped[0] if stopped else 0
        except PosganError as error:
            run.failures.append(str(error))
        finally:
            for number in list(self._left):
                self._close(number)
            run.seconds = time.perf_counter() - start
            run.stages = self._times.summary()
        return run

    def _add(self, made: Made) -> None:
        run = self.summary
        run.detections += made.detections
        if made.faces is not None:
            run.counts.captured += 1
            run.processed += 1
            run.with_face += bool(made.faces)
            for stage, value in made.stages_ms.items():
                self._times.add(stage, value)
            for number, sink in list(self._left.items()):
                try:
                    if number in made.failures:
                        raise BadInput(made.failures[number])
                    sink.append(made.records[number], made.name)
                except (PosganError, OSError) as error:
                    self._fail(number, failure_line(sink, error))
        if self._journal is not None and not run.failures:
            read, face = made.faces is not None, bool(made.faces)
            self._journal.commit(self._journal.done.after(made.index, read, face))

    def _fail(self, number: int, line: str) -> None:
        self.summary.failures.append(line)
        self._notify(f"{line}; the run continues without it")
        self._close(number)

    def _close(self, number: int) -> None:
        sink = self._left.pop(number)
        try:
            sink.close()
        except (PosganError, OSError) as error:
            line = failure_line(sink, error)
            if line not in self.summary.failures:
                self.summary.failures.append(line)
                with suppress(OSError):
                    self._notify(line)


def _died(task: Any, reason: str) -> Made:
    name = task.picture.name
    problem = f"{name}: the process that worked on it died ({reason})"
    return Made(task.index, name, problem)
