"""Matching tracks with detections so that the total cost is least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.errors import BadInput


def assign(cost: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column) of a cost matrix (n, m), each row and column at most once, min(n, m)
    of them, with the least sum. The Hungarian method by shortest augmenting paths (Jonker and
    Volgenant, 1987), O(n^2 m). Raises BadInput unless it is a matrix of finite numbers.
    """
    if not isinstance(cost, np.ndarray) or cost.ndim != 2 or not arrays.finite(cost):
        raise BadInput(f"cost is {arrays.described(cost)}: give a matrix of finite numbers")
    rows, columns = cost.shape
    if rows > columns:
        return sorted((row, column) for column, row in assign(cost.T))
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    # Index `columns` stands for no column; owner[j] is the row that column j belongs to.
    owner = np.full(columns + 1, rows)
    for row in range(rows):
        owner[columns] = row
        at, best = columns, np.full(columns, np.inf)
        came_from, seen = np.full(columns, columns), np.zeros(columns + 1, bool)
        while True:
            seen[at] = True
            here = cost[owner[at]] - row_price[owner[at]] - column_price[:columns]
            free = ~seen[:columns]
            shorter = free & (here < best)
            best[shorter], came_from[shorter] = here[shorter], at
            following = int(np.argmin(np.where(free, best, np.inf)))
            step = best[following]
            row_price[owner[seen]] += step
            column_price[seen] -= step
            best[free] -= step
            at = following
            if owner[at] == rows:
                break
        while at != columns:
            before = int(came_from[at])
            owner[at] = owner[before]
            at = before
    return sorted((int(owner[j]), j) for j in range(columns) if owner[j] != rows)
