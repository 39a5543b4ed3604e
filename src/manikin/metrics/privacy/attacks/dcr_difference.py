"""Distance to the closest reference row minus that to the closest synthetic row.

Chen et al. (GAN-Leaks, CCS 2020, §5.6): the reconstruction error is calibrated by that of rows
drawn from the population, so that a row is not called a member because it is a common one.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows, closest

__all__ = ["dcr_difference"]


def dcr_difference(
    targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator
) -> Floats:
    """Return how much nearer the nearest synthetic row is than the nearest reference row."""
    return closest(targets, reference)[0][:, 0] - closest(targets, synthetic)[0][:, 0]
