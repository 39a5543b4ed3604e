"""How near to the training rows a generator comes that is right in kind and fitted to few rows.

The population is normal with correlation .7 to the power of the columns' distance. The generator
is a normal distribution too, with the mean and covariance of the training rows, so it is wrong by
nothing but what few rows leave unknown. What it exceeds .5 by is therefore no copying, and no
method that learns all dependence from so few rows can be expected to stay below it.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from manikin.data.randomness import generator

__all__ = ["nearness"]

REPEATS = 60


def nearness(rows: int, columns: int, repeats: int = REPEATS) -> dict[str, tuple[float, float]]:
    """Return the mean and, over splits, the deviation of the share of rows nearer to training rows.

    Of the population itself ("truth"), of the mean and covariance of the training rows ("fitted"),
    and of their means and variances alone ("independent").
    """
    rng = generator(0, f"right model {rows} {columns}")
    apart = np.abs(np.subtract.outer(np.arange(columns), np.arange(columns)))
    root = np.linalg.cholesky(0.7**apart)
    found: dict[str, list[float]] = {"truth": [], "fitted": [], "independent": []}
    for _ in range(repeats):
        train, held = (rng.normal(size=(rows, columns)) @ root.T for _ in range(2))
        values, vectors = np.linalg.eigh(np.cov(train.T))
        fitted = vectors * np.sqrt(np.maximum(values, 0))
        noise = rng.normal(size=(rows, columns))
        drawn = {
            "truth": noise @ root.T,
            "fitted": noise @ fitted.T + train.mean(axis=0),
            "independent": noise * train.std(axis=0, ddof=1) + train.mean(axis=0),
        }
        for name, some in drawn.items():
            near, far = (cdist(some, real, "cityblock").min(axis=1) for real in (train, held))
            found[name].append(float(np.mean(near < far)))
    return {
        name: (round(float(np.mean(x)), 4), round(float(np.std(x, ddof=1)), 4))
        for name, x in found.items()
    }
