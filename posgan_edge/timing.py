"""Timing several calls in turns within one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.progress import Progress, silent


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm_up: int = 5,
    progress: Progress = silent,
) -> dict[str, NDArray[np.float64]]:
    """Times (rounds,) in milliseconds of each call, one of each a round, in changing order."""
    times = {name: np.empty(rounds) for name in calls}
    names = list(calls)
    rng = np.random.default_rng(0)
    for round_ in range(-warm_up, rounds):
        for index in rng.permutation(len(names)):
            name = names[index]
            call = calls[name]
            start = time.perf_counter()
            call()
            taken = time.perf_counter() - start
            if round_ >= 0:
                times[name][round_] = taken * 1e3
        progress("calls in turns", round_ + warm_up + 1, rounds + warm_up)
    return times
