"""Nearest: do synthetic rows lie closer to the training rows than to held-out ones?

The share of synthetic rows whose nearest real row is a training row rather than one of an equal
number of held-out rows, ties counting half (the "DCR share"). Data that pass it can still be open
to membership inference (Yao et al., "The DCR Delusion", 2025), so it is a smoke test for
overfitting and never a gate. The interval resamples synthetic subjects; the real rows stay.
"""

from __future__ import annotations

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Space, subsample
from manikin.metrics.spaces import nearest as distance_to_nearest

__all__ = ["nearest"]

CARD = Card(
    title="Nearest row in training (overfitting smoke test)",
    family="privacy",
    better="near ceiling",
    reads="The share of synthetic rows that lie closer to a training row than to any of as many "
    "held-out rows: about 0.5 is expected, more means that training rows were followed too "
    "closely. A smoke test for overfitting: this is not privacy evidence.",
    profile="quick",
)
QUERIES = 4_000
REFERENCES = 20_000  # a side


def nearest(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare every synthetic row's distance to training and to equally many held-out rows."""
    name = "privacy/nearest"
    rng = generator(seed, name)
    n = min(trial.train.n_rows, trial.holdout.n_rows, REFERENCES)
    if not n or not trial.synthetic.n_rows:
        return (not_estimable(name, "no rows to compare"),)
    space = Space.fit(trial.train)
    queries = subsample(trial.synthetic, QUERIES, rng)
    points = space.points(queries)
    to_train, to_holdout = (
        distance_to_nearest(points, space.points(subsample(side, n, rng)))
        for side in (trial.train, trial.holdout)
    )
    closer = (to_train < to_holdout) + (to_train == to_holdout) / 2
    value = float(closer.mean())
    dealt = blocks(queries.subjects, rng)
    draws = dealt.sums(closer) / dealt.sums(np.ones(closer.size))
    return (Score(name, value, recentred(value, draws, 0, 1)),)
