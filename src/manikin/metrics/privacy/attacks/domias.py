"""DOMIAS: the ratio of the synthetic density to that of the population.

van Breugel, Sun, Qian, van der Schaar. Membership inference attacks against synthetic data through
overfitting detection. AISTATS 2023. Eq. (2): a member is where p_G(x) / p_R(x) is large.
Differs from the paper in: densities come from nearest neighbours, in logs, in place of kernels or
flows: kernels underflow on wide tables. With r the distance to the k-th nearest row, and the mean
of ln r over a few k for a steadier estimate, ln p_G - ln p_R = d (ln r_R - ln r_G) + constant.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.density import NEAREST, log_radius
from manikin.metrics.privacy.attacks.rows import Rows

__all__ = ["domias"]


def domias(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the log ratio of the two densities, but for a constant."""
    in_reference, in_synthetic = (
        np.mean([log_radius(targets, side, k) for k in NEAREST], axis=0)
        for side in (reference, synthetic)
    )
    return np.asarray(in_reference - in_synthetic)
