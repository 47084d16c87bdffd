"""Statistics of latencies.

The calls that are compared take turns within one run, so that other load on the machine affects all
of them equally. Two of them are compared by the ratio of their medians, with a bootstrap interval;
times of different runs are never compared. The main figure is p90, as in MLPerf's single-stream
scenario.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A coefficient of variation above this is called unstable.
UNSTABLE = 0.025
#: Fewest samples for a meaningful 99th percentile (MLPerf Inference rules: 1 % +- 0.75 %
#: of the samples at 95 % confidence).
P99_SAMPLES = 662

#: Number of blocks into which a run is divided for the interval of a ratio.
BLOCKS = 8


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Times of one call in milliseconds; ``p99`` is None below ``P99_SAMPLES`` samples.

    ``variation`` is the standard deviation over the mean; ``unstable``: it is above ``UNSTABLE``.
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
    unstable: bool = False

    @classmethod
    def of(cls, times: NDArray[np.float64], warm_up: int = 0) -> Latency:
        """Returns the statistics of times (n,) in milliseconds."""
        p90, p95, p99 = (float(v) for v in np.percentile(times, [90, 95, 99]))
        variation = float(times.std() / times.mean())
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
            variation=variation,
            unstable=variation > UNSTABLE,
        )


@dataclass(frozen=True)
class Ratio:
    """Median time of one call divided by that of another, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, times: NDArray[np.float64], reference: NDArray[np.float64]) -> Ratio:
        """Returns the ratio for times (n,) that were taken in turns.

        The interval comes from a moving block bootstrap (Kuensch, 1989): the speed of a machine
        changes slowly, so consecutive rounds are resampled together.
        """
        count = min(len(times), len(reference))
        block = max(1, count // BLOCKS)
        rng = np.random.default_rng(0)
        starts = rng.integers(0, count - block + 1, (1000, -(-count // block)))
        drawn = (starts[..., None] + np.arange(block)).reshape(len(starts), -1)
        medians = np.median(times[drawn], 1) / np.median(reference[drawn], 1)
        low, high = np.percentile(medians, [2.5, 97.5])
        return cls(float(np.median(times) / np.median(reference)), float(low), float(high))


@dataclass(frozen=True, kw_only=True)
class Timing(Latency):
    """A latency, the clock that measured it, and its ratio to the last engine's."""

    clock: str
    ratio: Ratio
