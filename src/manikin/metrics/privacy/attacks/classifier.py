"""Classifier: boosted trees learn to tell synthetic from reference rows and then judge the target.

Stadler, Oprisanu, Troncoso (USENIX Security 2022) and the classifier attack of Houssiau et al.
(TAPAS, 2022), without shadow models: with p the probability that a row is synthetic, ln p/(1 - p)
estimates the DOMIAS log ratio, and trees see columns that distances drown.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows
from manikin.metrics.trees import classifier as trained

__all__ = ["classifier"]

ROWS = 3_000  # a side


def classifier(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the log odds that a target is synthetic."""
    n = min(ROWS, synthetic.n, reference.n)
    sides = [side.some(n, rng).features for side in (synthetic, reference)]
    if not sides[0].shape[1]:
        return np.zeros(targets.n)
    truth = np.repeat([1, 0], n)
    judge = trained(np.concatenate(sides), truth, targets.unordered, seed=int(rng.integers(2**31)))
    chance = np.clip(judge(targets.features)[:, 1], 1e-9, 1 - 1e-9)
    return np.asarray(np.log(chance) - np.log1p(-chance))
