"""What every source of frames has, and a single picture as a frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.faces.values import Frame
from posgan_edge.images import read_image


class SourceLost(BadInput):
    """A live source that gave frames, or should, and gives none now."""


class Source:
    """Pictures one after the other; a context manager that opens and closes, and an iterator.

    ``live``: frames come whether they are taken or not; ``still``: they are single pictures that
    have nothing to do with each other. ``rate`` is in frames a second; ``frames_promised`` is what
    a header says, 0 where nothing does; files often hold fewer.
    """

    name: str
    live = False
    still = False
    rate = 30.0
    frames_promised = 0

    def open(self) -> None:
        """Raises BadInput or MissingRuntime where it cannot be; may be called again once closed."""

    def read(self, into: Image | None = None) -> Image | None:
        """The next picture (H, W, 3) uint8 BGR; None at the end; an empty array for one that was
        spoilt on the way.

        ``into`` is memory that may be used for it. Raises SourceLost where a live source fails.
        """
        raise NotImplementedError

    def label(self, count: int) -> tuple[int, str]:
        """Number and name of the frame that was read last; ``count`` frames came before it."""
        return count, self.name

    def files(self) -> list[str | int]:
        """The files that are read, by name or descriptor; none for a camera or stream."""
        return []

    @staticmethod
    def memory(into: Image | None, shape: tuple[int, int, int]) -> Image:
        """``into`` where it is of that shape, new memory otherwise."""
        return into if into is not None and into.shape == shape else np.empty(shape, np.uint8)

    def close(self) -> None:
        """Frees what ``open`` took."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames with time stamps of the constant rate."""
        index = 0
        while (image := self.read()) is not None:
            if image.size:
                number, name = self.label(index)
                yield Frame(image, number, 0.0 if self.still else index / self.rate, name)
            index += 1
        if index == 0:
            raise BadInput(f"{self.name}: gives no frame")

    def __enter__(self) -> Source:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def picture_frame(path: str | Path) -> Frame:
    """One picture as a frame. Raises BadInput when it cannot be read."""
    return Frame(read_image(path), name=str(path))
