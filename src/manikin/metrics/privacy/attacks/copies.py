"""Copies: does the target read exactly like a synthetic row, more often than like reference rows?

The hitting attack of Chen et al. (GAN-Leaks, CCS 2020) at distance 0. Most targets score the same,
so that its area under the curve is known very closely: it is the attack that sees a copying of few
rows, which drowns in the scatter of all others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows

__all__ = ["copies"]


def copies(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the log ratio of the frequencies of equal rows; 0 where no synthetic row is equal."""
    there, here = (_count(targets.keys, side.keys) for side in (synthetic, reference))
    expected = (
        there * reference.keys.size / max(1, synthetic.keys.size)
    )  # as many rows as there are of reference
    return np.where(there > 0, np.maximum(np.log((expected + 1) / (here + 1)), 0.0), 0.0)


def _count(keys: NDArray[np.uint64], among: NDArray[np.uint64]) -> Floats:
    """Return how often each key occurs."""
    ordered = np.sort(among)
    right = np.searchsorted(ordered, keys, side="right")
    return (right - np.searchsorted(ordered, keys, side="left")).astype(np.float64)
