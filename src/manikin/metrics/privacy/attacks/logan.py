"""LOGAN: the discriminator of a generator that the attacker trains knows the members.

Hayes, Melis, Danezis, De Cristofaro. LOGAN: Membership inference attacks against generative
models. PoPETs 2019. §4.2, black-box with auxiliary knowledge: a discriminator that is trained with
synthetic rows as real ones and reference rows as fake ones scores the target.
Differs from the paper in: the discriminator minimises the least-squares loss (Mao et al., ICCV
2017) over random Fourier features (Rahimi and Recht, NeurIPS 2007), which has a closed form.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows

__all__ = ["logan"]

FEATURES = 200
ROWS = 5_000  # a side
RIDGE = 1e-2  # of the features' mean square


def logan(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the discriminator's value, 1 for synthetic and 0 for reference rows."""
    sides = [side.some(ROWS, rng).dense for side in (synthetic, reference)]
    d = max(1, targets.dense.shape[1])
    # bandwidth: the typical distance of two rows of d dimensions with unit variance
    frequency = rng.standard_normal((d, FEATURES)) / np.sqrt(2 * d)
    phase = rng.uniform(0, 2 * np.pi, FEATURES)
    one, other = (_features(side, frequency, phase) for side in sides)
    centre = (one.mean(axis=0) + other.mean(axis=0)) / 2
    # both classes weigh a half, whatever their numbers
    square = sum((f - centre).T @ (f - centre) / (2 * f.shape[0]) for f in (one, other))
    towards = (one.mean(axis=0) - other.mean(axis=0)) / 2
    ridge = RIDGE * float(np.trace(square)) / square.shape[0] + 1e-12
    weights = np.linalg.solve(square + ridge * np.eye(square.shape[0]), towards)
    return np.asarray((_features(targets.dense, frequency, phase) - centre) @ weights)


def _features(dense: np.ndarray, frequency: Floats, phase: Floats) -> Floats:
    """Return the rows and their random Fourier features, (rows, d + FEATURES)."""
    if not dense.shape[1]:
        return np.zeros((dense.shape[0], 1))
    rows = dense.astype(np.float64)
    return np.concatenate([rows, np.sqrt(2) * np.cos(rows @ frequency + phase)], axis=1)
