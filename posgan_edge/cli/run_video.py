"""Videos, cameras and streams, for ``posgan-edge run``."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from posgan_edge.cli.run import Options
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import check_writable, replaced
from posgan_edge.live.capture import Capture
from posgan_edge.live.loop import Drawing, Limits, LiveReport, run_live
from posgan_edge.live.sinks import (
    DenseSink,
    ImagesSink,
    JsonLinesSink,
    MeshesSink,
    NpzSink,
    Sink,
    VideoSink,
    WindowSink,
)
from posgan_edge.live.sinks.pictures import VIDEO_CODECS
from posgan_edge.live.sources import open_source
from posgan_edge.system import has_display

if TYPE_CHECKING:
    from collections.abc import Iterator


def run_video(target: str, options: Options, camera: bool = False) -> LiveReport:
    """Runs the live loop over one source and tells what it did; raises BadInput at the end where
    a sink failed or no face was seen."""
    from posgan_edge.engines import load_engine
    from posgan_edge.faces.detector import GivenBoxes
    from posgan_edge.faces.tracker import FaceTracker

    source = open_source(target, _parse_size(options.size), options.fps, camera)
    boxes = options.boxes()
    if options.summary is not None:
        check_writable(options.summary)
    with ExitStack() as stack:
        capture = Capture(source, options.drop, options.fps, options.patience, _tell)
        stack.enter_context(capture)
        sinks = _sinks(options, options.fps or source.rate, stack)
        engine = load_engine(options.model, options.threads, options.provider)
        layout = options.layout(engine.info.layout)
        engine.warm_up()
        detector = options.detector() if boxes is None else GivenBoxes(boxes)
        drawn = any(sink.draws for sink in sinks) and options.dense
        tracker = stack.enter_context(
            FaceTracker(
                engine, detector, options.max_faces, options.redetect, options.smooth,
                dense=drawn or any(sink.meshes for sink in sinks), mirror=options.mirror,
                layout=layout,
                # Where no frame is lost, what is found should not depend on how fast things go.
                background=capture.drop,
            )
        )  # fmt: skip
        limits = Limits(options.max_frames, options.duration)
        drawing = Drawing(options.dense, options.overlay, options.scale)
        quiet = source.live or (options.window and has_display())
        total = options.max_frames or source.frames_promised or None
        with _progress(source.name, total, quiet) as on_frame:
            report = run_live(capture, tracker, sinks, limits, drawing, _tell, on_frame)
    _conclude(source.name, report, options, source.frames_promised)
    return report


def _sinks(options: Options, rate: float, stack: ExitStack) -> list[Sink]:
    """Every sink that was asked for; all are checked before the first frame."""
    sinks: list[Sink] = []

    def add(sink: Sink) -> Sink:
        # The loop closes them; this is for what fails before it starts.
        sinks.append(stack.enter_context(sink))
        return sink

    if options.save is not None:
        video = options.save.suffix.lower() in VIDEO_CODECS
        if options.save.suffix and not video and "%" in options.save.name:
            raise UsageError(f"{options.save}: give a folder; pictures are numbered by themselves")
        add(VideoSink(options.save, rate) if video else ImagesSink(options.save))
    if options.json is not None:
        add(JsonLinesSink(options.json, options.camera()))
    if options.npz is not None:
        add(NpzSink(options.npz))
    if options.mesh is not None:
        add(MeshesSink(options.mesh))
    for kind, path in options.dense_files():
        add(DenseSink(kind, path, options.mirror_texture))
    if options.serve is not None:
        from posgan_edge.live.sinks.live_page import LivePageSink

        page = LivePageSink(options.serve, options.token)
        add(page)
        click.echo(f"live page: {page.url}", err=True)
    if options.window and has_display():
        add(WindowSink())
    return sinks


def _conclude(name: str, report: LiveReport, options: Options, promised: int) -> None:
    counts = report.counts
    short = ""
    if promised > counts.captured and not (options.max_frames or options.duration):
        short = f" (its header promises {promised})"
    extra = "".join(
        f", {value} {what}" for what, value in asdict(counts).items()
        if value and what != "captured"
    )  # fmt: skip
    to_stderr = str(options.json) == "-"
    click.echo(
        f"{name}: {report.processed} frames{short}, a face in {report.with_face}{extra}",
        err=to_stderr,
    )
    print_stages(report)
    if options.summary is not None:
        with replaced(options.summary) as temporary:
            temporary.write_text(json.dumps(asdict(report), indent=1) + "\n")
    if report.failures:
        raise BadInput("; ".join(report.failures))
    if report.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if report.signal:
        sys.exit(128 + report.signal)
    if not report.with_face:
        raise BadInput(f"{name}: no face was found in any frame")


def print_stages(report: LiveReport) -> None:
    """The table of stages, on standard error."""
    from rich.console import Console
    from rich.table import Table

    rate = report.processed / report.seconds if report.seconds else 0.0
    table = Table(
        title=f"{report.processed} frames in {report.seconds:.1f} s, {rate:.1f} a second, "
        f"{report.detections} detections",
        title_justify="left",
    )
    table.add_column("milliseconds")
    for column in ("times", "mean", "median", "p90", "largest"):
        table.add_column(column, justify="right")
    for stage, s in report.stages.items():
        values = (f"{v:.1f}" for v in (s.mean, s.median, s.p90, s.largest))
        table.add_row(stage, str(s.count), *values)
    Console(stderr=True).print(table)


def _tell(line: str) -> None:
    click.echo(f"note: {' '.join(line.split())}", err=True)


@contextmanager
def _progress(name: str, total: int | None, quiet: bool) -> Iterator[Callable[[LiveReport], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task: Any = progress.add_task(name, total=total)
        yield lambda report: progress.update(task, completed=report.processed)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not all(8 <= int(v) <= 16384 for v in match.groups()):
        raise UsageError(f"--size {text}: give WIDTHxHEIGHT, 8 to 16384 each")
    return int(match[1]), int(match[2])
