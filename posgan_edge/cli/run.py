"""``posgan-edge run``."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from posgan_edge.cli import report_error
from posgan_edge.cli.groups import takes
from posgan_edge.cli.options import (
    DrawingOptions,
    EngineOptions,
    FaceOptions,
    SourceOptions,
)
from posgan_edge.cli.run_outputs import OutputOptions
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import replaced

if TYPE_CHECKING:
    from posgan_edge.live.capture import Capture
    from posgan_edge.live.finder import Finder
    from posgan_edge.live.loop import LiveSummary
    from posgan_edge.live.sinks import Result
    from posgan_edge.live.sources.pictures import Picture


@click.command()
@takes(SourceOptions, OutputOptions, FaceOptions, EngineOptions, DrawingOptions)
def command(
    given: SourceOptions,
    output: OutputOptions,
    wanted: FaceOptions,
    network: EngineOptions,
    drawn: DrawingOptions,
) -> None:
    """Find faces and draw them or write them to files.

    SOURCE is a picture, a folder of them, a pattern ('photos/**/*.jpg') or a list (@list.txt), a
    video file, frame-%04d.png, a camera's number, /dev/videoN, csi://N, rtsp://, http://,
    - (raw frames) or synthetic: (a moving portrait). Several cameras and streams run together.
    """
    from posgan_edge.live.capture import Capture
    from posgan_edge.live.loop import Camera, run_cameras
    from posgan_edge.live.sinks import Outputs
    from posgan_edge.live.sources import PicturesSource

    pictures = given.check()
    output.check()
    wanted.boxes()
    failed = _Failures()
    found = _expanded(given.given, failed) if pictures else None
    lists = [name[1:] for name in given.given if name.startswith("@")]
    sources = [PicturesSource(found, failed)] if found is not None else given.moving()
    files = [file for source in sources for file in source.files()]
    outputs = Outputs([*files, *lists], output.overwrite, found)
    with ExitStack() as stack:
        captures = [
            Capture(source, given.drop, given.fps, given.patience, _tell) for source in sources
        ]
        _open(captures, stack)
        rates = [(source.name, given.fps or source.rate) for source in sources]
        sinks_of = output.sinks(outputs, rates, stack)
        sinks = [sink for made in sinks_of for sink in made]
        engine = stack.enter_context(network.engine())
        for sink in sinks:
            sink.start(engine)
        layout = network.layout(engine.info.layout, output.masked())
        dense = any(sink.dense or (sink.draws and not drawn.no_dense) for sink in sinks)
        expressions = any(sink.expressions for sink in sinks)
        if expressions and layout.name != "ict":
            raise UsageError(
                f"blendshapes need a model of UV layout 'ict', and {engine.info.name} has "
                f"{layout.name!r}: use --model edge, or leave out --blendshapes, --osc and a "
                "video's FILE.glb"
            )
        finders: list[Finder] = []
        for capture in captures:
            if pictures:
                finder = wanted.pictures(engine, layout, dense or expressions, failed, stack)
                finders.append(finder)
            else:
                tracker = wanted.tracker(engine, layout, dense, expressions, stack)
                capture.memory = tracker.frame_memory
                finders.append(tracker)
        several = len(sources) > 1
        if pictures:
            watch = _lines(output.lines_to_stdout)
        else:
            total = given.max_frames or sources[0].frames_promised or None
            quiet = several or sources[0].live or output.window
            watch = stack.enter_context(_progress(sources[0].name, total, quiet))
        cameras = [
            Camera(capture, finder, made, number if several else 0)
            for number, (capture, finder, made) in enumerate(
                zip(captures, finders, sinks_of, strict=True), 1
            )
        ]
        summaries = run_cameras(cameras, given.limits(), drawn.drawing(), _tell, watch)
    for source, summary in zip(sources, summaries, strict=True) if not pictures else ():
        promised = 0 if given.max_frames or given.duration else source.frames_promised
        _print_counts(source.name, summary, promised, output.lines_to_stdout)
    _conclude(summaries, output)
    if failed.lines:
        total = len(found or ()) + failed.before
        raise BadInput(f"{len(failed.lines)} of {total} pictures failed")
    if not pictures and not any(summary.with_face for summary in summaries):
        names = ", ".join(source.name for source in sources)
        raise BadInput(f"{names}: no face was found in any frame")


def _open(captures: Sequence[Capture], stack: ExitStack) -> None:
    """Opens the sources; of several, all at once, and one that cannot be opened is waited for."""
    from concurrent.futures import ThreadPoolExecutor

    if len(captures) == 1:
        stack.enter_context(captures[0])
        return
    for capture in captures:
        stack.callback(capture.close)
    with ThreadPoolExecutor(len(captures), "open") as pool:
        list(pool.map(lambda capture: capture.open(wait=True), captures))


class _Failures:
    """Prints each failure of a picture, and collects the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.before = 0  # sources without any picture

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        report_error(BadInput(line))


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


def _lines(to_stderr: bool) -> Callable[[LiveSummary, Result], None]:
    """Prints one line for each picture with a face."""

    def line(_: LiveSummary, result: Result) -> None:
        if result.faces:
            pose, times = result.faces[0].pose, result.timings_ms
            click.echo(
                f"{result.frame.name}: {len(result.faces)} face{'s' * (len(result.faces) > 1)}, "
                f"pitch {pose.pitch:+.1f} yaw {pose.yaw:+.1f} roll {pose.roll:+.1f}, "
                f"{times['total']:.0f} ms (detect {times['detect']:.0f}, "
                f"network {times['network']:.1f})",
                err=to_stderr,
            )

    return line


def _print_counts(name: str, summary: LiveSummary, promised: int, to_stderr: bool) -> None:
    counts = summary.counts
    short = f" (its header promises {promised})" if promised > counts.captured else ""
    extra = "".join(
        f", {value} {what}" for what, value in asdict(counts).items()
        if value and what != "captured"
    )  # fmt: skip
    click.echo(
        f"{name}: {summary.processed} frames{short}, a face in {summary.with_face}{extra}",
        err=to_stderr,
    )
    print_stages(summary)


def _conclude(summaries: Sequence[LiveSummary], output: OutputOptions) -> None:
    """Writes the summary; raises where a sink failed or a signal ended the run."""
    if output.summary is not None:
        document = asdict(summaries[0])
        if len(summaries) > 1:
            document = {"cameras": [asdict(summary) for summary in summaries]}
        with replaced(output.summary) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")
    # A sink that cameras share fails in each of them.
    failures = dict.fromkeys(line for summary in summaries for line in summary.failures)
    if failures:
        raise BadInput("; ".join(failures))
    received = summaries[0].signal
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    if received:
        sys.exit(128 + received)


def print_stages(summary: LiveSummary) -> None:
    """Prints the table of stage times on standard error."""
    from rich.console import Console
    from rich.table import Table

    rate = summary.processed / summary.seconds if summary.seconds else 0.0
    table = Table(
        title=f"{summary.processed} frames in {summary.seconds:.1f} s, {rate:.1f} a second, "
        f"{summary.detections} detections",
        title_justify="left",
    )
    table.add_column("milliseconds")
    for column in ("times", "mean", "median", "p90", "largest"):
        table.add_column(column, justify="right")
    for stage, s in summary.stages.items():
        values = (f"{v:.1f}" for v in (s.mean, s.median, s.p90, s.largest))
        table.add_row(stage, str(s.count), *values)
    Console(stderr=True).print(table)


def _tell(line: str) -> None:
    click.echo(f"note: {' '.join(line.split())}", err=True)


@contextmanager
def _progress(
    name: str, total: int | None, quiet: bool
) -> Iterator[Callable[[LiveSummary, Result], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task: Any = progress.add_task(name, total=total)
        yield lambda summary, _: progress.update(task, completed=summary.processed)
