"""Marginals: are the cells of the target in pairs of columns commoner than in the population?

Golob, Pentyala, Maratkhan, De Cock (MAMA-MIA, 2024): marginal-based generators leak through the
marginals that they measured (focal points); the attack sums, over marginals q, the ratio of the
cell's frequency among synthetic and among reference rows.
Differs from the paper in: all pairs, or a random choice of them, stand for the learnt focal points,
and log ratios are summed, those of cells with few rows being drawn towards 0.
"""

from __future__ import annotations

import numpy as np

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows

__all__ = ["marginals"]

PAIRS = 150  # at most
PRIOR = 1.0  # rows a cell that are added to either side, dealt as both sides together are


def marginals(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the summed log ratio of the cells' frequencies."""
    n = len(targets.n_cells)
    pairs = np.array(
        [(i, j) for i in range(n) for j in range(i + 1, n)] or [(i, i) for i in range(n)]
    )
    if len(pairs) > PAIRS:
        pairs = pairs[rng.choice(len(pairs), PAIRS, replace=False)]
    total = np.zeros(targets.n)
    for i, j in pairs:
        size = targets.n_cells[i] * targets.n_cells[j]
        cells = [side.cells[i] * targets.n_cells[j] + side.cells[j]
                 for side in (targets, synthetic, reference)]  # fmt: skip
        there, here = (np.bincount(cell, minlength=size) for cell in cells[1:])
        share = (there + here + 1e-6) / (synthetic.n + reference.n)
        prior = PRIOR * size
        ratio = np.log((there + prior * share) / (synthetic.n + prior))
        ratio -= np.log((here + prior * share) / (reference.n + prior))
        total += ratio[cells[0]]
    return total
