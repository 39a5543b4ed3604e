"""Tracing: does the target lean the way in which the synthetic means differ from the population's?

Homer et al. (PLoS Genetics 2008) and Dwork, Smith, Steinke, Ullman, Vadhan (Robust traceability
from trace amounts, FOCS 2015): Σ_j (x_j - μ_R,j)(μ_S,j - μ_R,j) / σ_j², over columns and their
indicators. It reads single cells and means alone, so it finds what generators leak that only know
marginals.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows

__all__ = ["tracing"]


def tracing(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the inner product of the target with the difference of the means."""
    known = reference.dense.astype(np.float64)
    mean, variance = known.mean(axis=0), known.var(axis=0)
    drift = synthetic.dense.mean(axis=0, dtype=np.float64) - mean
    weight = np.divide(drift, variance, out=np.zeros_like(drift), where=variance > 1e-9)
    return np.asarray((targets.dense - mean) @ weight)
