"""One sink for the results of several cameras."""

from __future__ import annotations

import threading

from posgan_edge.engines.base import Engine
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.live.sinks.base import Result, Sink


class SharedSink(Sink):
    """Gives the results of several cameras to one sink, one at a time.

    It stands in the list of each of ``cameras`` cameras; the last of them closes the sink.
    """

    def __init__(self, sink: Sink, cameras: int) -> None:
        self._sink, self._left = sink, cameras
        self._lock = threading.Lock()
        self.name, self.draws = sink.name, sink.draws
        self.dense, self.expressions = sink.dense, sink.expressions
        self._started = False

    def start(self, engine: Engine, layout: UvLayout | None = None) -> None:
        if not self._started:
            self._started = True
            self._sink.start(engine, layout)

    def wants(self) -> bool:
        return self._sink.wants()

    def write(self, result: Result) -> None:
        with self._lock:
            self._sink.write(result)

    def close(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._sink.close()
