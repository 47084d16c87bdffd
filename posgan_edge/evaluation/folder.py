"""Records of benchmarks/folder.py and pictures.py: how fast pictures are done, in which memory."""

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


class PictureCost(Document, frozen=True):
    """Means over pictures of one kind, ``name``: ``faces`` in a picture, its size, and the
    milliseconds of one core that its stages take."""

    name: str
    pictures: int
    faces: float
    kilobytes: float
    megapixels: float
    decode_ms: float
    detect_ms: float
    read_ms: float
    rows_ms: float


class PictureCosts(Document, frozen=True):
    """What pictures cost on one core."""

    kind: ClassVar[str] = "record of what pictures cost"

    machine: dict[str, Any]
    rounds: int
    kinds: list[PictureCost]
