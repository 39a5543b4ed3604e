"""Triples: does every three columns have the joint distribution they have in real rows?

1 - total variation distance of the three-way table, the mean over a seeded sample of column
triples, a number being cut at its training quintiles, a category at its commonest levels and a
missing value having a cell of its own. This is the "k-marginal" score at k = 3 of NIST's synthetic
data challenges and of its SDNist tool (Task et al., SDNist v2, 2023), which scale the same
distance to 0-1000.

A triple's distance grows with its number of cells even for real rows, so the worst ones are named
by how far they lie below what training rows score in the same place.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Floats, recentred
from manikin.metrics.permutation import Sides
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Bins, Codes, subsample

__all__ = ["triples"]

CARD = Card(
    title="Column triples (3-way marginals)",
    family="fidelity",
    better="higher",
    reads="How alike the joint distribution of three columns is in the synthetic and in held-out "
    "real rows, as a mean over triples: 1 is the same. Chance keeps it below 1 even for real "
    "rows, so read it beside its ceiling. The triples that fall furthest below fresh real rows "
    "are named. Numbers are cut at quintiles: what differs within a fifth is not seen.",
)
TRIPLES = 100  # beyond as many, a random choice of triples
ROWS = 25_000  # a side; beyond as many, a random choice of rows
BINS = 5
LEVELS = 8
DRAWS = 60
WORST = 5  # triples that are named


def triples(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare triples of columns of the synthetic rows with the held-out ones."""
    name = "fidelity/triples"
    rng = generator(seed, name)
    parts = [subsample(part, ROWS, rng) for part in (trial.holdout, trial.synthetic, trial.train)]
    if not all(part.n_rows for part in parts):
        return (not_estimable(name, "no rows to compare"),)
    bins = Bins.fit(trial.train, n_bins=BINS, most_levels=LEVELS)
    names = list(bins.sizes)
    if len(names) < 3:
        return (not_estimable(name, "fewer than three columns: no triple"),)
    chosen = _chosen(len(names), rng)
    codes = [[bins.codes(part, column) for column in names] for part in parts]
    sides = Sides.deal(parts[0].subjects, parts[1].subjects, rng)
    weights = sides.resampled(DRAWS, rng)
    sizes = [bins.sizes[column] for column in names]
    values, draws, excess = [], [], []
    for i, j, k in chosen:
        cells = [(part[i] * sizes[j] + part[j]) * sizes[k] + part[k] for part in codes]
        value, replicates, fresh = _agreement(cells, sides, weights)
        values.append(value)
        draws.append(replicates)
        excess.append(fresh - value)
    mean = float(np.mean(values))
    scores = [Score(name, mean, recentred(mean, np.mean(draws, axis=0), 0, 1))]
    for at in np.argsort(-np.array(excess), kind="stable")[:WORST]:
        group = "columns=" + " × ".join(names[column] for column in chosen[at])
        note = f"training rows score {values[at] + excess[at]:.3f} here"
        interval = recentred(values[at], draws[at], 0, 1)
        scores.append(Score(name, values[at], interval, group=group, note=note))
    return tuple(scores)


def _chosen(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all triples of `n` columns, or a random choice of them, (triples, 3)."""
    n_triples = n * (n - 1) * (n - 2) // 6
    if n_triples <= 5000:
        every = np.array(list(combinations(range(n), 3)))
        if n_triples <= TRIPLES:
            return every
        return np.asarray(every[np.sort(rng.choice(n_triples, TRIPLES, replace=False))])
    drawn = np.sort(rng.permuted(np.tile(np.arange(n), (4 * TRIPLES, 1)), axis=1)[:, :3], axis=1)
    return np.asarray(np.unique(drawn, axis=0)[rng.permutation(len(np.unique(drawn, axis=0)))])[
        :TRIPLES
    ]


def _agreement(cells: list[Codes], sides: Sides, weights: Floats) -> tuple[float, Floats, float]:
    """Return 1 - total variation: of the samples, of the replicates, and of training rows."""
    seen, joint = np.unique(np.concatenate(cells), return_inverse=True)
    ends = np.cumsum([part.size for part in cells])
    real, fake, known = np.split(joint, ends[:-1])
    shares = [np.bincount(part, minlength=seen.size) / part.size for part in (real, fake, known)]
    value, fresh = (1 - float(np.abs(shares[0] - part).sum()) / 2 for part in shares[1:])
    units = sides.counts(np.concatenate([real, fake]), seen.size).astype(np.float32)
    drawn = []
    for side in (sides.fake, ~sides.fake):
        counts = weights[:, side].astype(np.float32) @ units[side]
        drawn.append(counts / counts.sum(axis=1, keepdims=True))
    gaps = np.abs(drawn[0] - drawn[1]).sum(axis=1, dtype=np.float64)
    return value, 1 - gaps / 2, fresh
