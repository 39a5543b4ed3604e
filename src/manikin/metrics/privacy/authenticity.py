"""Authenticity: do synthetic rows lie closer to a training row than its own neighbours do?

Alaa, van Breugel, Saveliev and van der Schaar (ICML 2022, section 3.3): a synthetic row s whose
nearest training row is t counts as authentic when it lies farther from t than the nearest other
training row does. The published code reads t's own neighbour distance at the place of the wrong
row: distances indexed by training row are looked up with indices of synthetic ones. Here the two
are kept apart. The dense space is `metrics/embedding.py`.
"""

from __future__ import annotations

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.embedding import Embedding, squared_distances
from manikin.metrics.intervals import Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import subsample

__all__ = ["authenticity"]

CARD = Card(
    title="Authenticity (overfitting diagnostic)",
    family="privacy",
    better="near ceiling",
    reads="The share of synthetic rows that are farther from their nearest training row than that "
    "row's nearest fellow is. Fresh real rows score about a half, not 1, and copies score 0, so "
    "read it beside its ceiling. A diagnostic of overfitting: this is not privacy evidence, and a "
    "generator that draws at random from too wide a range scores best.",
)
QUERIES = 2_000
REFERENCES = 6_000
FEWEST = 20  # rows


def authenticity(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare each synthetic row's distance to training with the training rows' own."""
    name = "privacy/authenticity"
    rng = generator(seed, name)
    if min(trial.train.n_rows, trial.synthetic.n_rows) < FEWEST or not trial.train.schema.learned:
        return (not_estimable(name, f"fewer than {FEWEST} rows, or no column to look at"),)
    embedding = Embedding.fit(trial.train)
    queries = subsample(trial.synthetic, QUERIES, rng)
    known = subsample(trial.train, REFERENCES, rng)
    authentic = _authentic(embedding.dense(known), embedding.dense(queries))
    value = float(authentic.mean())
    dealt = blocks(queries.subjects, rng)
    draws = dealt.sums(authentic) / dealt.sums(np.ones(authentic.size))
    return (Score(name, value, recentred(value, draws, 0, 1)),)


def _authentic(known: Floats, queries: Floats) -> Floats:
    """Return 1 for each query farther from its nearest row than that row's fellow, (queries,)."""
    across = squared_distances(queries, known)
    nearest = across.argmin(axis=1)  # of each query: a row of `known`
    distance = across[np.arange(nearest.size), nearest]
    asked, place = np.unique(nearest, return_inverse=True)
    within = squared_distances(known[asked], known)
    within[np.arange(asked.size), asked] = np.inf
    fellow = within.min(axis=1)[place]
    return np.asarray(distance > fellow * (1 + 1e-9) + 1e-12, dtype=np.float64)
