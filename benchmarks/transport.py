"""Wasserstein distance and coverage of small tables, as ForestFlow's authors measure them.

Jolicoeur-Martineau, Fatras, Kachman (AISTATS 2024; script_generation.py of their repository
ForestDiffusion): numbers are min-max scaled by the training rows, categories one-hot and halved,
and rows compared by city-block distance, so that two rows are as far apart as Gower says. Here a
missing number differs by 1 from a present one, as a level of its own would.
"""

from __future__ import annotations

import numpy as np
from coding import Coded

__all__ = ["coverage", "distances", "wasserstein"]

NEIGHBOURS = 5  # Naeem et al. (ICML 2020), §4: the value at which real rows are 97 % covered


def distances(ones: Coded, others: Coded, like: Coded) -> np.ndarray:
    """Return the (rows, rows) sums over columns of Gower's distance, in ranges of `like`."""
    found = np.zeros((len(ones.values), len(others.values)))
    for column, numeric in enumerate(like.numeric):
        a, b = ones.values[:, column, None], others.values[None, :, column]
        if not numeric:
            found += a != b
            continue
        seen = like.values[:, column]
        seen = seen[np.isfinite(seen)]
        width = float(np.ptp(seen)) if seen.size else 0.0
        apart = np.abs(a - b) / (width or 1.0)
        found += np.where(np.isnan(a) & np.isnan(b), 0.0, np.where(np.isnan(apart), 1.0, apart))
    return found


def wasserstein(drawn: Coded, real: Coded, like: Coded) -> float:
    """Return W1 between two tables: the mean cost of the cheapest matching of their rows.

    With as many rows on either side a matching is an optimal plan (Birkhoff), so no more general
    solver is needed; the longer table is cut to the shorter.
    """
    from scipy.optimize import linear_sum_assignment

    size = min(len(drawn.values), len(real.values))
    cost = distances(drawn, real, like)[:size, :size]
    return float(cost[linear_sum_assignment(cost)].mean())


def coverage(drawn: Coded, real: Coded, like: Coded, neighbours: int = NEIGHBOURS) -> float:
    """Return the share of real rows with a drawn row nearer than their k-th real neighbour.

    Naeem, Oh, Uh, Choi, Yoo, Reliable Fidelity and Diversity Metrics (ICML 2020), eq. 9.
    """
    among = distances(real, real, like)
    np.fill_diagonal(among, np.inf)
    nth = min(neighbours, len(among) - 1) - 1
    radius = np.partition(among, nth, axis=1)[:, nth]
    nearest = distances(real, drawn, like).min(axis=1)
    return float(np.mean(nearest < radius))
