"""Sinks that fail, and what other processes of a run over pictures open in tests."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from posgan_edge.engines import load_engine
from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.values import FaceBox
from posgan_edge.live.finder import Finder, PictureFinder
from posgan_edge.live.sinks import CsvSink
from tests.helpers.data import PORTRAIT_BOX


class _DyingFinder(PictureFinder):
    deadly: tuple[str, ...] = ()

    def update(self, frame: Frame, /) -> list[Face] | None:
        if frame.name.endswith(self.deadly):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update(frame)


class FullCsvSink(CsvSink):
    """The disk is full when the fourth picture is written."""

    def append(self, data: bytes, name: str) -> None:
        if name.endswith("p3.jpg"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().append(data, name)


@dataclass(frozen=True)
class Opening:
    """Opens a finder whose process dies on pictures with one of the ``deadly`` endings, and cannot
    be opened if ``refused``."""

    deadly: tuple[str, ...] = ()
    refused: str = ""

    def __call__(
        self, stack: ExitStack, notify: Callable[[str], None]
    ) -> tuple[Engine, UvLayout, Finder]:
        if self.refused == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.refused:
            raise BadInput(self.refused)
        engine = stack.enter_context(load_engine("edge"))
        pipeline = stack.enter_context(FacePipeline(engine))
        finder = _DyingFinder(pipeline, [FaceBox(*PORTRAIT_BOX)], 1, notify)
        finder.deadly = self.deadly
        return engine, pipeline.layout, finder
