"""``posgan-edge run`` on pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from posgan_edge.cli import report_error
from posgan_edge.cli.groups import with_flags
from posgan_edge.cli.options import EngineOptions, FaceOptions
from posgan_edge.cli.progress import progress_bar, tell
from posgan_edge.cli.run_shared import Asked, Opened
from posgan_edge.engines.base import Engine
from posgan_edge.engines.loader import model_path
from posgan_edge.errors import BadInput, PosganError, UsageError
from posgan_edge.files import sha256
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.jobs.folder import Made, run_folder
from posgan_edge.live.capture import Capture
from posgan_edge.live.finder import Finder
from posgan_edge.live.loop import LiveSummary, run_live
from posgan_edge.live.sinks import Done, Journal, Outputs, Result, Sink
from posgan_edge.live.sources import PicturesSource
from posgan_edge.live.sources.base import is_web
from posgan_edge.live.sources.pictures import Picture, expanded
from posgan_edge.system import usable_cores

#: With fewer pictures for each process, another process is not worth its start.
_WORTH = 32
#: Options that change what is written, with those of the outputs.
_SAME = (
    "max_faces", "box", "passes", "mirror", "model", "provider", "uv_mask", "landmarks", "overlay",
    "scale", "no_dense", "json", "csv", "npz", "parquet", "save", "mesh", "depth", "mask",
    "texture", "mirror_texture", "intrinsics", "blendshapes",
)  # fmt: skip


class PictureJob:
    """Pictures, each on its own. A run over many that writes files can be resumed. See ``Job``."""

    def __init__(self, asked: Asked, stack: ExitStack) -> None:
        names, output = asked.source.given, asked.output
        self._asked = asked
        self._failed = self._without = 0  # pictures that failed; sources without any
        self._found = self._expanded(names)
        self._journal = _journal(self._found, asked, stack)
        self._before = Done() if self._journal is None else self._journal.done
        self._source = PicturesSource(self._found, self._fail, self._before.next)
        lists = [name[1:] for name in names if name.startswith("@")]
        self.outputs = Outputs(
            [*self._source.files(), *lists], output.overwrite, self._found, self._journal
        )
        self.sources = [("", 1.0)]

    def run(self, opened: Opened, stack: ExitStack) -> list[LiveSummary]:
        """See ``Job``."""
        asked, journal, before = self._asked, self._journal, self._before
        (sinks,) = opened.sinks
        if journal is not None:
            journal.begin(self.outputs.folders)
        if before.next:
            done = f"{before.next} of {len(self._found)} pictures are done"
            tell(f"{done}: the run continues after them")
        limits, drawing = asked.source.limits(), asked.drawn.drawing()
        left = min(len(self._found) - before.next, limits.frames or len(self._found))
        processes = _processes(asked.network, opened.engine, sinks, left)
        quiet = asked.output.window or len(self._found) < 2
        show = stack.enter_context(
            progress_bar("pictures", before.next + left, quiet, before.next, "pictures")
        )
        dense = opened.dense or opened.expressions
        if processes > 1:
            opening = _Opening(asked.network, asked.faces, asked.output.masked(), dense)

            def seen(_: LiveSummary, made: Made) -> None:
                if made.problem:
                    self._fail(made.problem)
                if made.faces:
                    self._print(made.name, made.faces, made.pose, made.times_ms)
                show(made.index + 1)

            summary = run_folder(
                self._found, processes, opening, sinks, drawing, limits, journal, tell, seen
            )
        else:
            finder = asked.faces.pictures(opened.engine, opened.layout, dense, self._fail, stack)
            capture = stack.enter_context(Capture(self._source, notify=tell))

            def found_in(_: LiveSummary, result: Result) -> None:
                if result.faces:
                    pose = result.faces[0].pose
                    angles = pose.pitch, pose.yaw, pose.roll
                    name, count = result.frame.name, len(result.faces)
                    self._print(name, count, angles, result.timings_ms)
                show(result.frame.index + 1)

            def written(result: Result) -> None:
                if journal is not None:
                    journal.commit(journal.done.after(result.frame.index, True, bool(result.faces)))

            summary = run_live(capture, finder, sinks, limits, drawing, tell, found_in, written)
        if journal is not None and not summary.signal and not summary.failures:
            journal.finish()
        summary.processed += before.processed
        summary.with_face += before.with_face
        return [summary]

    def report(self, summaries: Sequence[LiveSummary]) -> None:
        """See ``Job``: each picture was reported when it was done."""

    def check(self, summaries: Sequence[LiveSummary]) -> None:
        """See ``Job``."""
        count = self._failed + self._before.next - self._before.with_face
        if count:
            raise BadInput(f"{count} of {len(self._found) + self._without} pictures failed")

    def _fail(self, line: str) -> None:
        self._failed += 1
        report_error(BadInput(line))

    def _expanded(self, sources: Sequence[str]) -> list[Picture]:
        def without(line: str) -> None:
            self._fail(line)
            self._without += 1

        found: list[Picture] = []
        for source in sources:
            try:
                found += expanded(source, without)
            except BadInput as error:
                without(str(error))
        left = without_own(found, self._asked.output.folders())
        if len(left) < len(found):
            note = "pictures below the folders that this run writes to are left out"
            tell(f"{len(found) - len(left)} {note}")
        return left

    def _print(
        self, name: str, faces: int, pose: tuple[float, float, float], times_ms: Mapping[str, float]
    ) -> None:
        """Prints the line for a picture with faces."""
        pitch, yaw, roll = pose
        click.echo(
            f"{name}: {faces} face{'s' * (faces > 1)}, pitch {pitch:+.1f} yaw {yaw:+.1f} "
            f"roll {roll:+.1f}, {times_ms['total']:.0f} ms (detect {times_ms['detect']:.0f}, "
            f"network {times_ms['network']:.1f})",
            err=self._asked.output.lines_to_stdout,
        )


def without_own(pictures: Sequence[Picture], folders: Sequence[Path]) -> list[Picture]:
    """The pictures without those that an earlier run wrote to its own folders, where these lie
    below a folder or pattern of sources."""

    def own(picture: Picture) -> bool:
        if picture.member or is_web(picture.path):
            return False
        root, path = (Path(os.path.abspath(name)) for name in (picture.root, picture.path))
        return any(root in folder.parents and folder in path.parents for folder in absolute)

    absolute = [Path(os.path.abspath(folder)) for folder in folders]
    return [picture for picture in pictures if not (absolute and own(picture))]


@dataclass(frozen=True)
class _Opening:
    """Opens a network of one thread and a finder in another process; see ``jobs.folder``."""

    network: EngineOptions
    wanted: FaceOptions
    masked: Sequence[str]
    dense: bool

    def __call__(
        self, stack: ExitStack, notify: Callable[[str], None]
    ) -> tuple[Engine, UvLayout, Finder]:
        served = self.network.model.startswith("triton://")
        threads = self.network.threads or (None if served else 1)
        engine = stack.enter_context(replace(self.network, threads=threads).engine())
        layout = self.network.layout(engine.info.layout, self.masked)
        return engine, layout, self.wanted.pictures(engine, layout, self.dense, notify, stack)


def _journal(found: Sequence[Picture], asked: Asked, stack: ExitStack) -> Journal | None:
    """Returns the journal of a run that can be resumed; None for one picture or without files."""
    output = asked.output
    path = output.journal()
    if path is None or len(found) < 2:
        return None
    names = hashlib.sha256(os.fsencode("\0".join(picture.name for picture in found)))
    same: dict[str, Any] = {"pictures": len(found), "list of pictures": names.hexdigest()[:16]}
    options: dict[str, Any] = {}
    for group in (output, asked.faces, asked.network, asked.drawn):
        options |= asdict(group)
    for name in _SAME:
        value = options[name]
        plain = value is None or isinstance(value, (bool, int, float))
        same[f"--{name.replace('_', '-')}"] = value if plain else str(value)
    with suppress(PosganError):  # the engine says what is wrong with it
        same["model file"] = sha256(model_path(options["model"]))[:16]
    try:
        return stack.enter_context(Journal(path, same, output.resume, output.overwrite, tell))
    except UsageError as error:
        raise with_flags(error) from error


def _processes(network: EngineOptions, engine: Engine, sinks: Sequence[Sink], pictures: int) -> int:
    """Returns how many processes work on so many pictures."""
    alone = [sink.name for sink in sinks if not sink.portable]
    if network.processes is not None:
        if alone and network.processes > 1:
            raise UsageError(f"--processes is for files alone, not for {alone[0]}")
        return max(1, min(network.processes, pictures))
    # Each process would load the network to the GPU.
    return 1 if alone or engine.on_gpu else max(1, min(usable_cores(), pictures // _WORTH))
