"""How long each stage of a live run takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Times kept for the percentiles of a stage; the newest replace the oldest.
_KEPT = 4096


@dataclass(frozen=True)
class StageSummary:
    """Milliseconds of one stage: how often, mean, median, 90th percentile and largest."""

    count: int
    mean: float
    median: float
    p90: float
    largest: float


class StageTimes:
    """Times by stage, in memory of fixed size."""

    def __init__(self) -> None:
        self._times: dict[str, NDArray[Any]] = {}
        self._counts: dict[str, int] = {}
        self._sums: dict[str, float] = {}
        self._largest: dict[str, float] = {}

    def add(self, stage: str, milliseconds: float) -> None:
        if stage not in self._times:
            self._times[stage] = np.zeros(_KEPT, np.float32)
            self._counts[stage], self._sums[stage], self._largest[stage] = 0, 0.0, 0.0
        self._times[stage][self._counts[stage] % _KEPT] = milliseconds
        self._counts[stage] += 1
        self._sums[stage] += milliseconds
        self._largest[stage] = max(self._largest[stage], milliseconds)

    def summary(self) -> dict[str, StageSummary]:
        """Each stage in the order in which it was first seen; percentiles are of the last times."""
        found = {}
        for stage, times in self._times.items():
            count = self._counts[stage]
            median, p90 = np.percentile(times[: min(count, _KEPT)], (50, 90))
            found[stage] = StageSummary(
                count, self._sums[stage] / count, float(median), float(p90), self._largest[stage]
            )
        return found
