"""The record of benchmarks/folder.py: how fast many pictures are done, and in how much memory."""

from __future__ import annotations

from typing import Any, ClassVar

from posgan_edge.documents import Document


class Rate(Document, frozen=True):
    """Runs of one method with a number of processes. ``seconds`` of each whole run."""

    method: str
    processes: int
    pictures: int
    faces: int
    seconds: list[float]
    faces_per_second: float
    pictures_per_second: float


class Memory(Document, frozen=True):
    """Memory of a long run: megabytes of all its processes together (PSS)."""

    pictures: int
    processes: int
    seconds: float
    peak_mb: float
    peak_mb_by_tenth: list[float]


class Folder(Document, frozen=True):
    """The recorded figures; ``memory`` is None if it was not measured."""

    kind: ClassVar[str] = "record of a folder run"

    machine: dict[str, Any]
    photos: int
    rounds: int
    rates: list[Rate]
    memory: Memory | None
