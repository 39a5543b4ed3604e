"""Monte-Carlo counting: how many synthetic rows lie within a small ball around the target.

Hilprecht, Härterich, Bernau. Monte Carlo and reconstruction membership inference attacks against
generative models. PoPETs 2019. §4.1, eq. (6), with the radius of its median heuristic: the median
over targets of the distance to the nearest synthetic row. Counts stop at the neighbours
that are looked up.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows, closest

__all__ = ["monte_carlo"]


def monte_carlo(
    targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator
) -> Floats:
    """Return the count of synthetic rows in the ball."""
    distances = closest(targets, synthetic)[0]
    radius = float(np.median(distances[:, 0]))
    return np.asarray(np.sum(distances <= radius, axis=1), dtype=np.float64)
