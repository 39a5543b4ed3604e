"""Trends: does every pair of columns have the joint distribution it has in real rows?

1 - total variation distance of the pair's two-way table, a number being cut at its training
deciles and a missing value having a cell of its own; the mean over all pairs.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Bins, Codes, subsample

__all__ = ["agreement", "trends"]

CARD = Card(
    title="Pair trends",
    family="fidelity",
    better="higher",
    reads="How alike the joint distribution of two columns is in the synthetic and in held-out "
    "real rows, as a mean over all pairs: 1 is the same. Chance keeps it below 1 even for real "
    "rows, so read it beside its ceiling; it does not see relations of three columns or more.",
    profile="quick",
)
PAIRS = 2000  # beyond as many, a random choice of pairs
ROWS = 100_000  # beyond as many, a random choice of rows
DRAWS = 100


def trends(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare every pair of columns of the synthetic rows with the held-out ones."""
    name = "fidelity/trends"
    rng = generator(seed, name)
    tables = [subsample(table, ROWS, rng) for table in (trial.holdout, trial.synthetic)]
    if not all(table.n_rows for table in tables):
        return (not_estimable(name, "no rows to compare"),)
    bins = Bins.fit(trial.train)
    names = list(bins.sizes)
    pairs = list(combinations(range(len(names)), 2))
    if not pairs:
        return (not_estimable(name, "fewer than two columns: no pair"),)
    if len(pairs) > PAIRS:
        pairs = [pairs[i] for i in np.sort(rng.choice(len(pairs), PAIRS, replace=False))]
    sizes = [bins.sizes[column] for column in names]
    codes = [[bins.codes(table, column) for column in names] for table in tables]
    dealt = [blocks(table.subjects, rng, draws=DRAWS) for table in tables]
    value, draws = 0.0, np.zeros(DRAWS)
    for i, j in pairs:
        n_cells = sizes[i] * sizes[j]
        joint = [part[i] * sizes[j] + part[j] for part in codes]
        shared, replicates = agreement(joint, n_cells, dealt)
        value += shared / len(pairs)
        draws += replicates / len(pairs)
    return (Score(name, value, recentred(value, draws, 0, 1)),)


def agreement(joint: list[Codes], n_cells: int, dealt: list[Blocks]) -> tuple[float, Floats]:
    """Return 1 - total variation of one pair's tables: of the samples, and of every replicate."""
    shares, replicates = [], []
    for codes, part in zip(joint, dealt, strict=True):
        of_block = np.bincount(part.of_row * n_cells + codes, minlength=part.n * n_cells).reshape(
            part.n, n_cells
        )
        seen = of_block.any(axis=0)
        counts = np.zeros((part.weights.shape[0], n_cells), dtype=np.float32)
        counts[:, seen] = part.weights.astype(np.float32) @ of_block[:, seen].astype(np.float32)
        total = of_block.sum(axis=0)
        shares.append(total / total.sum())
        replicates.append(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-30))
    value = 1 - float(np.abs(shares[0] - shares[1]).sum()) / 2
    draws = 1 - np.abs(replicates[0] - replicates[1]).sum(axis=1, dtype=np.float64) / 2
    return value, draws
