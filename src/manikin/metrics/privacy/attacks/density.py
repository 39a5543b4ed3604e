"""Density of the synthetic rows at the target, from its k nearest ones.

Loftsgaarden and Quesenberry (Ann. Math. Stat. 1965): p(x) = k / (n V_d r_k(x)^d), so ln p is
-d ln r_k but for a constant; the mean over a few k is steadier. In logs: a Gaussian kernel
underflows to 0 for every row of a wide table, and its attack then scores all rows the same.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows, closest

__all__ = ["NEAREST", "density", "log_radius"]

NEAREST = (1, 2, 3, 5)  # ranks of the neighbours whose log radii are averaged
LEAST = 1e-4  # radius; below it rows coincide


def density(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the log density of synthetic rows, but for a constant."""
    return -np.asarray(np.mean([log_radius(targets, synthetic, k) for k in NEAREST], axis=0))


def log_radius(targets: Rows, others: Rows, k: int) -> Floats:
    """Return ln r_k, the log distance to the k-th nearest of `others`, (targets,)."""
    distances = closest(targets, others)[0]
    return np.log(np.maximum(distances[:, min(k, distances.shape[1]) - 1], LEAST))
