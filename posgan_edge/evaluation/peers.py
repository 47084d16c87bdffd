"""The typed document of ``benchmarks/peers.py``: this package beside other methods, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from posgan_edge.documents import Document, load

#: Figures of each label set of AFLW2000-3D, and of human points, that the summary shows.
YAW = ("yaw 0 to 30", "30 to 60", "60 to 90")
HUMAN_NME = ("inner", "eyes", "mouth", "inner, without bias")
OPENNESS = ("r eyes", "r mouth", "AUC closed")

Figures = dict[str, float | None]


class PeerSettings(Document, frozen=True):
    """What was asked for: ``crop`` is ``gt`` or ``detector``, ``timed`` whether time counts."""

    crop: str
    limit: int | None
    sample: int | None
    seed: int | None
    timed: bool


class Milliseconds(Document, frozen=True):
    """Wall-clock time per face."""

    median: float
    p90: float


class PeerRow(Document, frozen=True):
    """One row of one set: how many faces were found, which were not, and how many were tried again.

    ``ms`` includes the attempts before; None where nothing was timed.
    """

    found: int
    retried: int
    missed: list[str]
    ms: Milliseconds | None


class Scores(Document, frozen=True):
    """Figures by row: on the faces that each found, and on the ``faces`` that all found."""

    faces: int
    own: dict[str, Figures]
    same: dict[str, Figures]


class PeerSet(Document, frozen=True):
    """One data set: rows by name, and scores by label set."""

    faces: int
    rows: dict[str, PeerRow]
    scores: dict[str, Scores]


class Method(Document, frozen=True):
    """One method over all sets. None means not measured.

    ``start_seconds`` is the time from the start of a process to the first face, ``memory_mb`` the
    peak of that process's resident memory; both are medians.
    """

    about: dict[str, Any]
    ms: Milliseconds | None
    start_seconds: float | None
    memory_mb: float | None


class Peers(Document, frozen=True):
    """A whole run. The first row of a method has the method's name."""

    kind: ClassVar[str] = "record of peers"

    machine: dict[str, Any]
    settings: PeerSettings
    methods: dict[str, Method]
    sets: dict[str, PeerSet]
    schema: int = 1


def load_peers(path: str | Path) -> Peers:
    """Reads what ``benchmarks/peers.py --json`` wrote. Raises BadInput for any other file."""
    return load(path, Peers)
