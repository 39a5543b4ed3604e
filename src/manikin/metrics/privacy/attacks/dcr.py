"""Distance to the closest synthetic row.

Hayes et al. (LOGAN, PoPETs 2019) and Chen et al. (GAN-Leaks, CCS 2020, §5.2, black-box attack):
a generator reproduces its training rows more closely than rows it never saw. It confuses rows in
crowded places with members; `dcr_difference` and `domias` correct for that.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows, closest

__all__ = ["dcr"]


def dcr(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return minus the distance to the nearest synthetic row."""
    return -closest(targets, synthetic)[0][:, 0]
