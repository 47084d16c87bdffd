"""``posgan-edge run``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from posgan_edge.cli.groups import takes
from posgan_edge.cli.options import (
    DrawingOptions,
    EngineOptions,
    FaceOptions,
    SourceOptions,
)
from posgan_edge.cli.run_outputs import OutputOptions
from posgan_edge.cli.run_shared import conclude, needs, progress_bar, tell
from posgan_edge.errors import BadInput, UsageError

if TYPE_CHECKING:
    from posgan_edge.live.capture import Capture
    from posgan_edge.live.loop import LiveSummary


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

    SOURCE is a picture or its web address, a folder or zip archive of pictures, a pattern
    ('photos/**/*.jpg') or a list (@list.txt), a video file, frame-%04d.png, a camera's number,
    /dev/videoN, csi://N, rtsp://, http://, - (raw frames) or synthetic: (a moving portrait).
    Several cameras and streams run together.
    """
    from posgan_edge.live.capture import Capture
    from posgan_edge.live.loop import Camera, run_cameras
    from posgan_edge.live.sinks import Outputs

    pictures = given.check()
    output.check()
    wanted.boxes()
    if pictures:
        from posgan_edge.cli.run_pictures import run_pictures

        run_pictures(given, output, wanted, network, drawn)
        return
    for option, value in (("--processes", network.processes), ("--resume", output.resume)):
        if value:
            raise UsageError(f"{option} is for pictures")
    sources = given.moving()
    several = len(sources) > 1
    outputs = Outputs([f for source in sources for f in source.files()], output.overwrite)
    with ExitStack() as stack:
        captures = [
            Capture(source, given.drop, given.fps, given.patience, tell) for source in sources
        ]
        _open(captures, stack)
        rates = [(source.name, given.fps or source.rate) for source in sources]
        sinks_of = output.sinks(outputs, rates, stack)
        sinks = [sink for made in sinks_of for sink in made]
        engine = stack.enter_context(network.engine())
        layout = network.layout(engine.info.layout, output.masked())
        dense, expressions = needs(sinks, drawn, engine, layout)
        for sink in sinks:
            sink.start(engine, layout)
        cameras = []
        for number, (capture, made) in enumerate(zip(captures, sinks_of, strict=True), 1):
            tracker = wanted.tracker(engine, layout, dense, expressions, stack)
            capture.memory = tracker.frame_memory
            cameras.append(Camera(capture, tracker, made, number if several else 0))
        total = given.max_frames or sources[0].frames_promised or None
        quiet = several or sources[0].live or output.window
        show = stack.enter_context(progress_bar(sources[0].name, total, quiet))
        summaries = run_cameras(
            cameras, given.limits(), drawn.drawing(), tell, lambda run, _: show(run.processed)
        )
    for source, summary in zip(sources, summaries, strict=True):
        promised = 0 if given.max_frames or given.duration else source.frames_promised
        _print_counts(source.name, summary, promised, output.lines_to_stdout)
    conclude(summaries, output)
    if not any(summary.with_face for summary in summaries):
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
    if summary.stages:
        print_stages(summary)


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
