"""Near copies: is a synthetic row nearer to the target than one ever is to a row it does not know?

The hitting attack of Chen et al. (GAN-Leaks, CCS 2020) with the distance taken relative to that of
the nearest reference row, which is what a stranger would have. Reference rows against each other
say how small that ratio gets by chance: whatever is not among their smallest hundredth scores 0,
so that few copies do not drown in the scatter of all other rows.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows, closest

__all__ = ["near_copies"]

CHANCE = 0.01
PROBES = 1_000  # reference rows
LEAST = 1e-4


def near_copies(
    targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator
) -> Floats:
    """Return how far the ratio of distances is below what chance gives; 0 where it is not."""
    probes = reference.some(PROBES, rng)
    itself = closest(probes, reference)[0]
    others = itself[:, min(1, itself.shape[1] - 1)]  # a probe's nearest reference row is itself
    known = np.sort((closest(probes, synthetic)[0][:, 0] + LEAST) / (others + LEAST))
    threshold = min(1.0, known[int(CHANCE * known.size)])
    sides = (closest(targets, side)[0][:, 0] + LEAST for side in (synthetic, reference))
    to_synthetic, to_reference = sides
    return np.asarray(np.maximum(0.0, threshold - to_synthetic / to_reference))
