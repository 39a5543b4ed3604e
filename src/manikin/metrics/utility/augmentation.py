"""Augmentation: do synthetic rows help where real ones are few?

Boosted trees trained on 1, 5, 10 and 100 % of the real training subjects, alone and with all
synthetic rows added, tested on the same held-out rows. The gain is the skill (AUC, or R² of a
number) with them minus that without.
"""

from __future__ import annotations

import math

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.target import contest

__all__ = ["augmentation"]

CARD = Card(
    title="Augmentation gain",
    family="utility",
    better="near ceiling",
    reads="How much better a model predicts for held-out patients when synthetic rows are added "
    "to 1, 5, 10 or 100 % of the real training rows; below 0 they do harm. The synthetic rows "
    "come from a generator that saw all training rows, so the gain at 1 % is what they bring to a "
    "place that has few patients of its own, not what a generator fitted to those few would.",
)
SHARES = (0.01, 0.05, 0.10, 1.0)
ROWS = 4_000  # real rows, and synthetic ones, to train on at most
TEST = 4_000
FEWEST = 20  # subjects to train on


def augmentation(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare models trained on shares of the real rows with and without the synthetic rows."""
    name = "utility/augmentation.gain"
    rng = generator(seed, "utility/augmentation")
    given = contest(trial, rng, rows=ROWS, test=TEST)
    if given is None:
        return ()
    if isinstance(given, str):
        return (not_estimable(name, given),)
    question, features, test = given.question, given.features, given.test
    dealt = blocks(test.subjects, rng)
    truth, x = question.answers(test), features.matrix(test)
    model_seed = int(rng.integers(2**31))
    everyone = rng.permutation(np.unique(given.train.subjects))
    scores = []
    for share in SHARES:
        group = f"real rows={100 * share:g} %"
        n = round(share * everyone.size)
        if n < FEWEST:
            why = f"fewer than {FEWEST} real subjects to train on"
            scores.append(not_estimable(name, why, group))
            continue
        few = given.train.take(everyone[:n])
        found = []
        for source in (few, Table.concatenate([few, given.synthetic])):
            model = question.learn(features, source, seed=model_seed)
            found.append(question.skill(truth, model(x), dealt))
        (alone, of_alone), (both, of_both) = found
        gain = both - alone
        if math.isnan(gain):
            scores.append(not_estimable(name, "the held-out target takes one value only", group))
        else:
            scores.append(Score(name, gain, recentred(gain, of_both - of_alone), group=group))
    return tuple(scores)
