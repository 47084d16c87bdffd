"""``posgan-edge run``."""

from __future__ import annotations

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
    """
    from posgan_edge.live.capture import Capture
    from posgan_edge.live.loop import run_live
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
    source = given.source()
    outputs = Outputs(source.files(), output.overwrite)
    with ExitStack() as stack:
        capture = Capture(source, given.drop, given.fps, given.patience, tell)
        stack.enter_context(capture)
        sinks = output.sinks(outputs, given.fps or source.rate, stack)
        engine = stack.enter_context(network.engine())
        layout = network.layout(engine.info.layout, output.masked())
        dense, expressions = needs(sinks, drawn, engine, layout)
        for sink in sinks:
            sink.start(engine, layout)
        # If frames may not be dropped, results must not depend on speed: detect between frames.
        finder = wanted.tracker(engine, layout, dense, expressions, capture.drop, stack)
        capture.memory = finder.frame_memory
        total = given.max_frames or source.frames_promised or None
        show = stack.enter_context(progress_bar(source.name, total, source.live or output.window))
        summary = run_live(
            capture, finder, sinks, given.limits(), drawn.drawing(), tell,
            lambda run, _: show(run.processed),
        )  # fmt: skip
    promised = 0 if given.max_frames or given.duration else source.frames_promised
    _print_counts(source.name, summary, promised, output.lines_to_stdout)
    conclude(summary, output)
    if not summary.with_face:
        raise BadInput(f"{source.name}: no face was found in any frame")


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
