"""Gen-LRA: how much likelier the synthetic rows near a target are if it was in the training rows.

Ward, Wang, Cheng (2025), Privacy auditing synthetic data release through local likelihood attacks.
For the synthetic rows s nearest to the target x: Σ_s ln p(s | R ∪ {x}) - ln p(s | R), with p a
kernel density. The kernel at s is Gaussian with a bandwidth h of 0.3 times the distance to its
nearest reference row; its constants cancel, and with a = Σ_r exp(-r²/2h²) over the nearest
reference rows and b = exp(-|s - x|²/2h²), the term is ln(1 + b/a) + constant. Everything stays in
logs, so that no density underflows on wide tables. Of the nearest rows two are taken: with more,
or a wider kernel, rows that were copied outright drown in their neighbours' terms.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows, closest

__all__ = ["gen_lra"]

LOCAL = 2  # synthetic rows a target
WIDTH = 0.3  # of the distance to the nearest reference row
LEAST = 1e-4  # bandwidth


def gen_lra(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the log likelihood ratio of the local synthetic rows with and without the target."""
    distances, places = closest(targets, synthetic)
    local = places[:, :LOCAL]
    used, at = np.unique(local, return_inverse=True)
    around = closest(synthetic.take(used), reference)[0]  # (used, k)
    bandwidth = np.maximum(WIDTH * around[:, :1], LEAST)
    without = logsumexp(-0.5 * (around / bandwidth) ** 2, axis=1)  # (used,)
    at = at.reshape(local.shape)
    kernel = -0.5 * (distances[:, :LOCAL] / bandwidth[:, 0][at]) ** 2
    return np.asarray(np.logaddexp(0.0, kernel - without[at]).sum(axis=1))
