"""The base class of sources, and a single picture as a frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.closing import Closing
from posgan_edge.errors import BadInput
from posgan_edge.faces.values import Frame
from posgan_edge.images import read_image


def is_web(uri: str) -> bool:
    """Whether a name is a web address (http:// or https://)."""
    return uri.lower().startswith(("http://", "https://"))


def shown(uri: str) -> str:
    """An address as it may be printed: without its user name and password."""
    return re.sub(r"(?<=://)[^/]*@", "***@", uri)


class SourceLost(BadInput):
    """Raised if a live source gives no frames any more."""


class Source(Closing):
    """Gives pictures one after the other; a context manager that opens and closes, and an iterator.

    ``live``: frames arrive whether they are read or not. ``still``: they are single pictures, not a
    video. ``rate`` is in frames a second. ``frames_promised`` is the number in a file's header, 0
    if it has none; files often hold fewer.
    """

    name: str
    live = False
    still = False
    rate = 30.0
    frames_promised = 0

    def open(self) -> None:
        """Opens the source, also again after ``close``. Raises BadInput or MissingRuntime."""

    def read(self, into: Image | None = None) -> Image | None:
        """The next picture (H, W, 3) uint8 BGR; None at the end; an empty array for a frame that
        cannot be decoded.

        ``into`` is memory that may be used for it. Raises SourceLost if a live source fails.
        """
        raise NotImplementedError

    def label(self, count: int) -> tuple[int, str]:
        """Number and name of the last frame that was read, before which ``count`` were read."""
        return count, self.name

    def files(self) -> list[str | int]:
        """The files that are read, by name or descriptor; none for a camera or stream."""
        return []

    @staticmethod
    def memory(into: Image | None, shape: tuple[int, int, int]) -> Image:
        """``into`` if it has that shape, otherwise new memory."""
        return into if into is not None and into.shape == shape else np.empty(shape, np.uint8)

    def close(self) -> None:
        """Closes the source. May be called more than once."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames, with time stamps at the constant ``rate``."""
        index = 0
        while (image := self.read()) is not None:
            if image.size:
                number, name = self.label(index)
                stamp = 0.0 if self.still else index / self.rate
                yield Frame(image, number, stamp, name, live=self.live)
            index += 1
        if index == 0:
            raise BadInput(f"{self.name}: gives no frame")

    def __enter__(self) -> Source:
        self.open()
        return self


def picture_frame(path: str | Path) -> Frame:
    """One picture as a frame. Raises BadInput if it cannot be read."""
    return Frame(read_image(path), name=str(path))
