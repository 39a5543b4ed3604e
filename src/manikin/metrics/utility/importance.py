"""Importance: does a model of synthetic rows lean on the columns that a model of real rows does?

Permutation importance (Breiman, Mach. Learn. 2001; Fisher, Rudin and Dominici, JMLR 2019): how much
skill (AUC, or R² of a number) a model loses on held-out rows when one column is shuffled there. The
same shuffles for the model trained on synthetic rows and the one trained on real ones.

agreement   1 - total variation between the two divisions of the lost skill among columns
rank        Spearman's correlation of the two rankings of columns
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.target import contest

__all__ = ["importance"]

CARD = Card(
    title="Feature importance (TSTR against TRTR)",
    family="utility",
    better="near ceiling",
    reads="Whether models trained on synthetic and on real rows rely on the same columns. "
    "agreement 1 is the same division of importance among columns, 0 none in common; rank "
    "compares the order only, which chance decides among columns that matter little. It says "
    "what a model uses, not what causes the outcome.",
)
ROWS = 4_000  # to train on
TEST = 2_000
COLUMNS = 40  # beyond as many, those first in the schema
DRAWS = 100


def importance(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare permutation importances of models trained on synthetic and on real rows."""
    names = ("utility/importance.agreement", "utility/importance.rank")
    rng = generator(seed, "utility/importance")
    given = contest(trial, rng, rows=ROWS, test=TEST)
    if given is None:
        return ()
    if isinstance(given, str):
        return tuple(not_estimable(name, given) for name in names)
    columns = [c.name for c in given.features.columns][:COLUMNS]
    if len(columns) < 2:
        return tuple(not_estimable(name, "fewer than two columns to compare") for name in names)
    question, test = given.question, given.test
    dealt = blocks(test.subjects, rng, draws=DRAWS)
    truth = question.answers(test)
    model_seed = int(rng.integers(2**31))
    models = [
        question.learn(given.features, source, seed=model_seed)
        for source in (given.synthetic, given.train)
    ]
    orders = [rng.permutation(test.n_rows) for _ in columns]
    lost = np.zeros((2, 1 + DRAWS, len(columns)))
    for m, model in enumerate(models):
        value, draws = question.skill(truth, model(given.features.matrix(test)), dealt)
        for j, name in enumerate(columns):
            shuffled = model(given.features.matrix(_shuffled(test, name, orders[j])))
            worse, of_worse = question.skill(truth, shuffled, dealt)
            lost[m, 0, j], lost[m, 1:, j] = value - worse, draws - of_worse
    useless = [not np.any(lost[m, 0] > 0) for m in (0, 1)]
    if useless[1]:
        why = "no column predicts the target, even for a model of real rows"
        return tuple(not_estimable(name, why) for name in names)
    shared, ordered = _agreement(lost[0], lost[1]), _rank(lost[0], lost[1])
    if useless[0]:  # a model of synthetic rows that uses no column agrees in nothing
        shared, ordered = np.zeros_like(shared), np.zeros_like(ordered)
    return (
        Score(names[0], float(shared[0]), recentred(float(shared[0]), shared[1:], 0, 1)),
        Score(names[1], float(ordered[0]), recentred(float(ordered[0]), ordered[1:], -1, 1)),
    )


def _shuffled(test: Table, name: str, order: np.ndarray) -> Table:
    columns = {**test.columns, name: test.columns[name][order]}
    states = dict(test.states)
    if name in states:
        states[name] = states[name][order]
    return Table(test.schema, test.subjects, columns, states)


def _agreement(one: Floats, other: Floats) -> Floats:
    """Return 1 - total variation of the positive parts as shares, (replicates,)."""
    shares = []
    for part in (np.maximum(one, 0), np.maximum(other, 0)):
        shares.append(part / np.maximum(part.sum(axis=1, keepdims=True), 1e-300))
    return np.asarray(1 - np.abs(shares[0] - shares[1]).sum(axis=1) / 2)


def _rank(one: Floats, other: Floats) -> Floats:
    """Return Spearman's correlation of each replicate; 0 where one ranks nothing."""
    ranks = [stats.rankdata(np.nan_to_num(part), axis=1) for part in (one, other)]
    centred = [part - part.mean(axis=1, keepdims=True) for part in ranks]
    lengths = [np.sqrt((part**2).sum(axis=1)) for part in centred]
    product = np.maximum(lengths[0] * lengths[1], 1e-300)
    return np.asarray((centred[0] * centred[1]).sum(axis=1) / product)
