"""Local neighbourhood: the share of synthetic rows among the nearest ones of both kinds.

Houssiau et al. (TAPAS, 2022), local neighbourhood attack: the share of a ball around the target
that is synthetic. The ball is the smallest that holds k rows, synthetic and reference in equal
numbers; a nearer neighbour counts more, so that scores differ among rows with equal shares.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows, closest

__all__ = ["neighbourhood"]

K = 10


def neighbourhood(
    targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator
) -> Floats:
    """Return the weighted share of synthetic rows in the ball."""
    sides = [closest(targets, side)[0] for side in (synthetic, reference)]
    distances = np.concatenate(sides, axis=1)
    synthetic_here = np.arange(distances.shape[1]) < sides[0].shape[1]
    # each reference row stands for as many synthetic ones as there are more of these
    each = np.where(synthetic_here, 1.0, synthetic.n / max(1, reference.n))
    order = np.argsort(distances, axis=1, kind="stable")[:, :K]
    ball = np.take_along_axis(distances, order[:, -1:], axis=1)
    weight = each[order] / (np.take_along_axis(distances, order, axis=1) + 0.02 * ball + 1e-4)
    return np.asarray((weight * synthetic_here[order]).sum(axis=1) / weight.sum(axis=1))
