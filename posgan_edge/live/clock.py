"""Time stamps for the frames of a camera."""

from __future__ import annotations


class SteadyClock:
    """Time stamps for a camera: smoothed arrival times, each later than the one before.

    A stamp is the last one plus a whole number of frame periods, moved towards the arrival by a
    tenth of the difference. The period is estimated from the arrivals.
    """

    def __init__(self, rate: float) -> None:
        self._period = 1.0 / rate
        self._last: float | None = None

    def __call__(self, arrival: float) -> float:
        """The stamp of a frame that arrived now, both in seconds."""
        if self._last is None:
            self._last = arrival
            return arrival
        gap = arrival - self._last
        periods = max(1, round(gap / self._period))
        if periods > 30:
            stamp = arrival
        else:
            self._period += (
                0.05 * (min(2.0, max(0.5, gap / periods / self._period)) - 1) * (self._period)
            )
            expected = self._last + periods * self._period
            stamp = expected + 0.1 * (arrival - expected)
        self._last = max(stamp, self._last + 1e-4)
        return self._last
