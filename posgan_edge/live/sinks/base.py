"""What every sink is to the loop, and the shared life of those that write one file.

Files are written under a temporary name and renamed when they are closed: whatever stopped the
run, what was written until then is whole and under its final name. Where nothing was, none is left.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.faces.values import Face, Frame
from posgan_edge.files import check_writable, temporary_name
from posgan_edge.live.sinks.outputs import Outputs

#: Bytes that must stay free for a file to be finished properly.
RESERVE = 8 << 20


@dataclass(frozen=True)
class Result:
    """One frame's faces. ``canvas`` is the drawn frame, where a sink asked for it;
    ``stages_ms`` how long each stage took; ``timings_ms`` how long the faces took to read (see
    ``FacePipeline`` and ``FaceTracker``); ``latency_ms`` from capture to the faces."""

    frame: Frame
    faces: Sequence[Face]
    canvas: Image | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    latency_ms: float = 0.0
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def drawn(self) -> Image:
        """The canvas. Raises BadInput where the frame was not drawn."""
        if self.canvas is None:
            raise BadInput("this result has no drawn frame: the sink must say that it draws")
        return self.canvas


class Sink:
    """Takes results one after the other. ``draws``: it needs the canvas; ``dense``: it needs
    position maps. Raises BadInput or OSError where something cannot be written; the caller then
    closes it and goes on without it. The memory of frame and canvas is used again once ``write``
    has returned: a sink that keeps them copies them."""

    name = "sink"
    draws = False
    dense = False

    def wants(self) -> bool:
        """Whether the next result would be used at all."""
        return True

    def write(self, result: Result) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Finishes what was written. Raises BadInput where it cannot be."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileSink(Sink):
    """A sink that writes one file; ``used`` once there is something in it.

    ``outputs`` keeps the other files of a run from harm; without it a file that is there is
    replaced.
    """

    used = False

    def __init__(self, path: str | Path, outputs: Outputs | None = None) -> None:
        self.path = check_writable((outputs or Outputs()).claim(path))
        self.name = str(path)
        self.temporary = temporary_name(self.path)
        self._open = True

    def finish(self) -> None:
        """Flushes and closes the temporary file."""

    def check_room(self, needed: int = 0) -> None:
        """Raises OSError where the disk has no room for ``needed`` bytes and a reserve in which
        the file can be finished."""
        if shutil.disk_usage(self.path.parent).free < RESERVE + needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

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
            self.temporary.unlink(missing_ok=True)
