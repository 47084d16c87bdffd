"""What all runs of ``posgan-edge run`` share: the options, what is opened, and the end."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from posgan_edge.cli.options import DrawingOptions, EngineOptions, FaceOptions, SourceOptions
from posgan_edge.cli.run_outputs import OutputOptions
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import write_whole

if TYPE_CHECKING:
    from posgan_edge.engines.base import Engine
    from posgan_edge.geometry.layout import UvLayout
    from posgan_edge.live.loop import LiveSummary
    from posgan_edge.live.sinks import Outputs, Sink


@dataclass(frozen=True)
class Asked:
    """The options of a run, by group."""

    source: SourceOptions
    output: OutputOptions
    faces: FaceOptions
    network: EngineOptions
    drawn: DrawingOptions


@dataclass(frozen=True)
class Opened:
    """The engine of a run, its layout, and the sinks of each source. ``dense`` and
    ``expressions``: whether the sinks need position maps and blendshapes."""

    engine: Engine
    layout: UvLayout
    sinks: list[list[Sink]]
    dense: bool
    expressions: bool


class Job(Protocol):
    """What a run works on: pictures, or cameras, streams and videos.

    ``sources`` are their names, and rates in frames a second, for the sinks.
    """

    outputs: Outputs
    sources: list[tuple[str, float]]

    def run(self, opened: Opened, stack: ExitStack) -> list[LiveSummary]:
        """Runs to the end. Returns a summary for each source; ``stack`` closes what is opened."""
        ...

    def report(self, summaries: Sequence[LiveSummary]) -> None:
        """Prints what was done."""
        ...

    def check(self, summaries: Sequence[LiveSummary]) -> None:
        """Raises BadInput if the sources are not as they should be: a picture failed, for
        example."""
        ...


def opened(asked: Asked, sinks: list[list[Sink]], stack: ExitStack) -> Opened:
    """Loads the engine and starts the sinks. ``stack`` closes the engine.

    Raises PosganError if it cannot be loaded, and UsageError if the sinks need blendshapes and the
    engine has none.
    """
    every = [sink for made in sinks for sink in made]
    engine = stack.enter_context(asked.network.engine())
    layout = asked.network.layout(engine.info.layout, asked.output.masked())
    dense = any(sink.dense or (sink.draws and not asked.drawn.no_dense) for sink in every)
    expressions = any(sink.expressions for sink in every)
    if expressions and layout.name != "ict":
        raise UsageError(
            f"blendshapes need a model of UV layout 'ict', and {engine.info.name} has "
            f"{layout.name!r}: use --model edge, or leave out --blendshapes, --osc and a "
            "video's FILE.glb"
        )
    for sink in every:
        sink.start(engine, layout)
    return Opened(engine, layout, sinks, dense, expressions)


def conclude(summaries: Sequence[LiveSummary], output: OutputOptions) -> None:
    """Writes the summary; raises where a sink failed or a signal ended the run."""
    if output.summary is not None:
        document = asdict(summaries[0])
        if len(summaries) > 1:
            document = {"cameras": [asdict(summary) for summary in summaries]}
        write_whole(output.summary, json.dumps(document, indent=1) + "\n")
    # A sink that cameras share fails in each of them.
    failures = dict.fromkeys(line for summary in summaries for line in summary.failures)
    if failures:
        raise BadInput("; ".join(failures))
    received = summaries[0].signal
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    if received:
        sys.exit(128 + received)
