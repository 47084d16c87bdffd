"""``posgan-edge run`` on pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from posgan_edge.cli import report_error
from posgan_edge.cli.groups import with_flags
from posgan_edge.cli.options import DrawingOptions, EngineOptions, FaceOptions, SourceOptions
from posgan_edge.cli.run_outputs import OutputOptions
from posgan_edge.cli.run_shared import conclude, needs, progress_bar, tell
from posgan_edge.errors import BadInput, PosganError, UsageError
from posgan_edge.files import sha256
from posgan_edge.system import usable_cores

if TYPE_CHECKING:
    from posgan_edge.engines.base import Engine
    from posgan_edge.geometry.layout import UvLayout
    from posgan_edge.jobs.folder import Made
    from posgan_edge.live.finder import Finder
    from posgan_edge.live.loop import LiveSummary
    from posgan_edge.live.sinks import Journal, Result, Sink
    from posgan_edge.live.sources.pictures import Picture

#: With fewer pictures for each process, another process is not worth its start.
_WORTH = 32
#: Options that change what is written, with those of the outputs.
_SAME = (
    "max_faces", "box", "passes", "mirror", "model", "provider", "uv_mask", "overlay", "scale",
    "no_dense", "json", "csv", "npz", "parquet", "save", "mesh", "depth", "mask", "texture",
    "mirror_texture", "intrinsics", "blendshapes",
)  # fmt: skip


def run_pictures(
    given: SourceOptions,
    output: OutputOptions,
    wanted: FaceOptions,
    network: EngineOptions,
    drawn: DrawingOptions,
) -> None:
    """Finds the faces of pictures, and writes them."""
    from posgan_edge.jobs.folder import run_folder
    from posgan_edge.live.capture import Capture
    from posgan_edge.live.loop import run_live
    from posgan_edge.live.sinks import Done, Outputs
    from posgan_edge.live.sources import PicturesSource

    failed = _Failures()
    found = _expanded(given.given, failed)
    lists = [name[1:] for name in given.given if name.startswith("@")]
    with ExitStack() as stack:
        options = [asdict(group) for group in (output, wanted, network, drawn)]
        journal = _journal(found, output, {k: v for o in options for k, v in o.items()}, stack)
        before = Done() if journal is None else journal.done
        source = PicturesSource(found, failed, before.next)
        outputs = Outputs([*source.files(), *lists], output.overwrite, found, journal)
        (sinks,) = output.sinks(outputs, [("", 1.0)], stack)
        engine = stack.enter_context(network.engine())
        layout = network.layout(engine.info.layout, output.masked())
        dense, expressions = needs(sinks, drawn, engine, layout)
        for sink in sinks:
            sink.start(engine, layout)
        if journal is not None:
            journal.begin(outputs.folders)
        if before.next:
            tell(f"{before.next} of {len(found)} pictures are done: the run goes on after them")
        left = min(len(found) - before.next, given.max_frames or len(found))
        processes = _processes(network, engine, sinks, left)
        quiet = output.window or len(found) < 2
        show = stack.enter_context(
            progress_bar("pictures", before.next + left, quiet, before.next, "pictures")
        )
        limits, drawing = given.limits(), drawn.drawing()
        if processes > 1:
            opening = _Opening(network, wanted, output.masked(), dense or expressions)

            def seen(_: LiveSummary, made: Made) -> None:
                if made.problem:
                    failed(made.problem)
                if made.faces:
                    _print(output, made.name, made.faces, made.pose, made.times_ms)
                show(made.index + 1)

            summary = run_folder(
                found, processes, opening, sinks, drawing, limits, journal, tell, seen
            )
        else:
            finder = wanted.pictures(engine, layout, dense or expressions, failed, stack)
            capture = stack.enter_context(Capture(source, notify=tell))

            def found_in(_: LiveSummary, result: Result) -> None:
                if result.faces:
                    pose = result.faces[0].pose
                    angles = pose.pitch, pose.yaw, pose.roll
                    name, count = result.frame.name, len(result.faces)
                    _print(output, name, count, angles, result.timings_ms)
                show(result.frame.index + 1)

            def written(result: Result) -> None:
                if journal is not None:
                    done, face = journal.done, bool(result.faces)
                    journal.commit(
                        Done(result.frame.index + 1, done.processed + 1, done.with_face + face)
                    )

            summary = run_live(capture, finder, sinks, limits, drawing, tell, found_in, written)
        if journal is not None and not summary.signal and not summary.failures:
            journal.finish()
    summary.processed += before.processed
    summary.with_face += before.with_face
    conclude([summary], output)
    count = len(failed.lines) + before.next - before.with_face
    if count:
        raise BadInput(f"{count} of {len(found) + failed.before} pictures failed")


class _Failures:
    """Prints each failure of a picture, and collects the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.before = 0  # sources without any picture

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        report_error(BadInput(line))


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


def _expanded(sources: list[str], failed: _Failures) -> list[Picture]:
    from posgan_edge.live.sources.pictures import expanded

    found: list[Picture] = []
    for source in sources:
        try:
            found += expanded(source)
        except BadInput as error:
            failed(str(error))
            failed.before += 1
    return found


def _journal(
    found: Sequence[Picture], output: OutputOptions, options: Mapping[str, Any], stack: ExitStack
) -> Journal | None:
    """Returns the journal of a run that can be resumed; None for one picture or without files."""
    from posgan_edge.engines.loader import model_path
    from posgan_edge.live.sinks import Journal

    path = output.journal()
    if path is None or len(found) < 2:
        return None
    names = hashlib.sha256(os.fsencode("\0".join(picture.name for picture in found)))
    same: dict[str, Any] = {"pictures": len(found), "list of pictures": names.hexdigest()[:16]}
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


def _print(
    output: OutputOptions, name: str, faces: int, pose: tuple[float, float, float],
    times_ms: Mapping[str, float],
) -> None:  # fmt: skip
    """Prints the line for a picture with faces."""
    pitch, yaw, roll = pose
    click.echo(
        f"{name}: {faces} face{'s' * (faces > 1)}, pitch {pitch:+.1f} yaw {yaw:+.1f} "
        f"roll {roll:+.1f}, {times_ms['total']:.0f} ms (detect {times_ms['detect']:.0f}, "
        f"network {times_ms['network']:.1f})",
        err=output.lines_to_stdout,
    )
