"""``posgan-edge run`` on cameras, streams and videos."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict

import click

from posgan_edge.cli.progress import progress_bar, tell
from posgan_edge.cli.run_shared import Asked, Opened
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.live.capture import Capture
from posgan_edge.live.loop import Camera, LiveSummary, run_cameras
from posgan_edge.live.sinks import Outputs


class CameraJob:
    """A video, or cameras and streams that run together. See ``Job``."""

    def __init__(self, asked: Asked, stack: ExitStack) -> None:
        source, output = asked.source, asked.output
        for option, value in (
            ("--processes", asked.network.processes), ("--resume", output.resume),
        ):  # fmt: skip
            if value:
                raise UsageError(f"{option} is for pictures")
        self._asked, self._moving = asked, source.moving()
        files = [name for one in self._moving for name in one.files()]
        self.outputs = Outputs(files, output.overwrite)
        self._captures = [
            Capture(one, source.drop, source.fps, source.patience, tell) for one in self._moving
        ]
        _open(self._captures, stack)
        # The rate of a camera is known once it is open.
        self.sources = [(one.name, source.fps or one.rate) for one in self._moving]

    def run(self, opened: Opened, stack: ExitStack) -> list[LiveSummary]:
        """See ``Job``."""
        asked, several = self._asked, len(self._moving) > 1
        cameras = []
        for number, (capture, sinks) in enumerate(
            zip(self._captures, opened.sinks, strict=True), 1
        ):
            tracker = asked.faces.tracker(
                opened.engine, opened.layout, opened.dense, opened.expressions, stack
            )
            capture.memory = tracker.frame_memory
            cameras.append(Camera(capture, tracker, sinks, number if several else 0))
        first = self._moving[0]
        total = asked.source.max_frames or first.frames_promised or None
        quiet = several or first.live or asked.output.window
        show = stack.enter_context(progress_bar(first.name, total, quiet))
        return run_cameras(
            cameras, asked.source.limits(), asked.drawn.drawing(), tell,
            lambda run, _: show(run.processed),
        )  # fmt: skip

    def report(self, summaries: Sequence[LiveSummary]) -> None:
        """See ``Job``."""
        source = self._asked.source
        ends = source.max_frames or source.duration
        for one, summary in zip(self._moving, summaries, strict=True):
            promised = 0 if ends else one.frames_promised
            _print_counts(one.name, summary, promised, self._asked.output.lines_to_stdout)

    def check(self, summaries: Sequence[LiveSummary]) -> None:
        """See ``Job``."""
        if not any(summary.with_face for summary in summaries):
            names = ", ".join(source.name for source in self._moving)
            raise BadInput(f"{names}: no face was found in any frame")


def _open(captures: Sequence[Capture], stack: ExitStack) -> None:
    """Opens the sources; of several, all at once, and one that cannot be opened is waited for."""
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
        _print_stages(summary)


def _print_stages(summary: LiveSummary) -> None:
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
