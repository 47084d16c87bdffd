"""The base classes of sinks: of all, and of those that write one file.

A file is written under a temporary name and renamed when it is closed. So it is complete under its
final name, however the run ended. If nothing was written, no file is left.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from posgan_edge.arrays import Image
from posgan_edge.closing import Closing
from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput
from posgan_edge.faces.values import Face, Frame
from posgan_edge.files import check_writable, temporary_name
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.live.sinks.outputs import Outputs

#: Bytes of free space that are needed to finish a file.
RESERVE = 8 << 20


@dataclass(frozen=True)
class Result:
    """The faces of one frame. ``canvas`` is the drawn frame, if a sink needs it. Times in
    milliseconds: ``stages_ms`` of each stage, ``timings_ms`` of reading the faces (see
    ``FacePipeline`` and ``FaceTracker``), ``latency_ms`` from capture to the faces. ``camera`` is
    the camera's number, from 1 on; 0 if there is only one."""

    frame: Frame
    faces: Sequence[Face]
    canvas: Image | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    latency_ms: float = 0.0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    camera: int = 0

    @property
    def drawn(self) -> Image:
        """The canvas. Raises BadInput if the frame was not drawn."""
        if self.canvas is None:
            raise BadInput("this result has no drawn frame: set draws = True in the sink")
        return self.canvas


class Sink(Closing):
    """Takes results one after the other. ``draws``: it needs the canvas; ``dense``: it needs
    position maps; ``expressions``: it needs blendshapes. ``write`` raises BadInput or OSError if it
    cannot write; the caller then closes the sink and continues without it. The memory of frame and
    canvas is used again after ``write``: copy what you keep.

    ``portable``: the work can be shared with other processes. Each has a pickled copy of the sink,
    whose ``encode`` does all but what must be done in order; ``append`` of the sink itself does
    the rest.
    """

    name = "sink"
    draws = False
    dense = False
    expressions = False
    portable = False

    def start(self, engine: Engine, layout: UvLayout | None = None) -> None:
        """Called once before the first result, with the engine that the faces come from, and
        their UV layout if it is not the engine's own."""

    def wants(self) -> bool:
        """Whether the next result is needed."""
        return True

    def write(self, result: Result) -> None:
        """Takes one result."""
        self.append(self.encode(result), result.frame.name)

    def encode(self, result: Result) -> bytes:
        """What ``append`` takes of a result. May be called in another process."""
        raise NotImplementedError

    def append(self, data: bytes, name: str) -> None:
        """Takes what ``encode`` returned for the frame of that name."""

    def close(self) -> None:
        """Finishes the output. Raises BadInput if that fails."""


def _size_limit() -> int | None:
    """The largest file in bytes that this process may write (``ulimit -f``); None for any."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


class FileSink(Sink):
    """A sink that writes one file; ``used`` is True once something was written.

    ``outputs`` prevents that another file of the run is replaced; without it, an existing file is
    replaced.
    """

    used = False
    #: Whether the temporary file is kept if it cannot be renamed.
    kept = False

    def __init__(self, path: str | Path, outputs: Outputs | None = None) -> None:
        self.path = check_writable((outputs or Outputs()).claim(path))
        self.name = str(path)
        self.temporary = temporary_name(self.path)
        self._open = True

    def finish(self) -> None:
        """Finishes the temporary file."""

    def check_room(self, needed: int = 0) -> None:
        """Raises OSError if the disk has less space than ``needed`` bytes and the reserve to finish
        the file."""
        if shutil.disk_usage(self.path.parent).free < RESERVE + needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        limit = _size_limit()
        if limit is not None and self.temporary.exists():
            size = self.temporary.stat().st_size
            if size + needed > limit - min(RESERVE, limit // 4):
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            self.finish()
            if self.used:
                os.replace(self.temporary, self.path)
        except OSError as failure:
            raise BadInput(f"{self.path}: cannot be written ({failure.strerror})") from failure
        finally:
            if not self.kept:
                self.temporary.unlink(missing_ok=True)


class RecordSink(FileSink):
    """A sink whose file is made from records, which are collected in a file in their order.

    ``collected``: the suffix of that file, from which ``finish`` makes the output. If it is empty,
    the records are the output. If the run has a journal, the file is kept until the run is
    complete, so that an interrupted run can be resumed. Raises as ``FileSink`` and
    ``Journal.stream``.
    """

    portable = True
    collected = ""

    def __init__(self, path: str | Path, outputs: Outputs | None = None) -> None:
        super().__init__(path, outputs)
        journal = outputs.journal if outputs is not None else None
        self._journaled = journal is not None
        if journal is None:
            # Added to the whole name: outputs may differ in their suffix alone.
            self.records = self.temporary.with_name(self.temporary.name + self.collected)
            self._stream: BinaryIO = open(self.records, "wb", buffering=0)  # noqa: SIM115
        else:
            self.records = self.path.with_name(f".{self.path.name}.part{self.collected}")
            self._stream = journal.stream(self.path, self.records, not self.collected)
        if not self.collected:
            self.temporary = self.records
        self._whole = self._stream.tell()
        self.used = self._whole > 0

    @property
    def kept(self) -> bool:  # type: ignore[override]
        """See ``FileSink``."""
        return self._journaled and self.used and not self.collected

    def append(self, data: bytes, name: str) -> None:
        """See ``Sink``."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._stream.write(rest) or 0 :]
        self._whole += len(data)
        self.used = True

    def made(self) -> None:
        """Makes the temporary file from the records."""

    def finish(self) -> None:
        """See ``FileSink``."""
        # If the disk became full, the last record may be incomplete.
        self._stream.truncate(self._whole)
        if self.used and self.collected:
            self.made()

    def close(self) -> None:
        """See ``Sink``."""
        if not self._open:
            return
        try:
            super().close()
        finally:
            self._stream.close()
            if not (self._journaled and self.used):
                self.records.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        """The sink for another process: it can ``encode``, and has no file."""
        return self.__dict__ | {"_stream": None, "_open": False}
