"""Figures of times that were taken in turns.

Calls take turns within one run, so that what else the machine does falls on all of them alike;
two of them are compared by the ratio of their medians with a bootstrap interval, never by times
of different runs. The headline is p90, as MLPerf's single-stream scenario has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A coefficient of variation above this is called unstable.
UNSTABLE = 0.025
#: Samples from which a 99th percentile says something (MLPerf Inference rules: 1 % +- 0.75 %
#: of the samples at 95 % confidence).
P99_SAMPLES = 662

#: Blocks that a run is cut into for the interval of a ratio.
BLOCKS = 8


@dataclass(frozen=True)
class Latency:
    """Times of one call in milliseconds; ``p99`` is None below ``P99_SAMPLES`` samples.

    ``variation`` is the standard deviation over the mean.
    """

    n: int
    warm_up: int
    min: float
    median: float
    mean: float
    p90: float
    p95: float
    p99: float | None
    max: float
    variation: float

    @property
    def unstable(self) -> bool:
        return self.variation > UNSTABLE

    @classmethod
    def of(cls, times: NDArray[np.float64], warm_up: int = 0) -> Latency:
        """The figures of times (n,) in milliseconds."""
        p90, p95, p99 = (float(v) for v in np.percentile(times, [90, 95, 99]))
        return cls(
            n=len(times),
            warm_up=warm_up,
            min=float(times.min()),
            median=float(np.median(times)),
            mean=float(times.mean()),
            p90=p90,
            p95=p95,
            p99=p99 if len(times) >= P99_SAMPLES else None,
            max=float(times.max()),
            variation=float(times.std() / times.mean()),
        )


@dataclass(frozen=True)
class Ratio:
    """Median time of one call over that of another, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, times: NDArray[np.float64], reference: NDArray[np.float64]) -> Ratio:
        """From times (n,) taken in turns. Blocks of consecutive rounds are drawn again (a moving
        block bootstrap: Kuensch, 1989), since a machine is quick or slow for a while."""
        count = min(len(times), len(reference))
        block = max(1, count // BLOCKS)
        rng = np.random.default_rng(0)
        starts = rng.integers(0, count - block + 1, (1000, -(-count // block)))
        drawn = (starts[..., None] + np.arange(block)).reshape(len(starts), -1)
        medians = np.median(times[drawn], 1) / np.median(reference[drawn], 1)
        low, high = np.percentile(medians, [2.5, 97.5])
        return cls(float(np.median(times) / np.median(reference)), float(low), float(high))
