"""Propensity: the pMSE ratio.

Real and synthetic rows are stacked, a logistic regression gives every row its probability p of
being synthetic, and pMSE is the mean of (p - c)², c being the synthetic share (Woo et al., J.
Privacy and Confidentiality 2009). Snoke, Raab, Nowok, Dibben and Slavkovic (J. R. Stat. Soc. A
2018, section 3) divide by its expectation under the null. Theirs, (k - 1)(1 - c)²c/N for k
parameters, is for rows synthesised from the very rows they are compared with; here they are
compared with held-out ones, both sides vary, and the expectation is (k - 1)(1 - c)c/N. That is
what permuting labels gives, and since subjects may have many rows it is taken from permutations of
subjects. Near the null the fit is one Newton step, p - c = X(X'X)⁻¹X'(t - c), so all permutations
cost one matrix product.

`ratio` has the columns' main effects, `ratio_pairs` also products of two columns.
"""

from __future__ import annotations

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics import logistic
from manikin.metrics.embedding import Embedding, whitened
from manikin.metrics.intervals import Floats, recentred
from manikin.metrics.permutation import Sides, p_score, p_value
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import subsample

__all__ = ["propensity"]

CARD = Card(
    title="Propensity (pMSE ratio)",
    family="fidelity",
    better="near ceiling",
    reads="How much better a logistic regression predicts which rows are synthetic than chance "
    "alone would make it: 1 is as fresh real rows, 10 means ten times the expected error of a "
    "perfect synthesizer. It grows with the number of rows, so ratios of tables of different size "
    "do not compare; `ratio` sees only means of single columns, `ratio_pairs` also products.",
)
ROWS = 5_000  # a side
PRODUCTS = 60  # of two columns, a random choice
FEWEST = 20  # rows a side
ROWS_EACH = 20  # rows a feature, so that chance fits little
PERMUTATIONS = 400
DRAWS = 200


def propensity(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Divide the pMSE of synthetic against held-out rows by its expectation under the null."""
    names = ("fidelity/propensity.ratio", "fidelity/propensity.ratio_pairs")
    rng = generator(seed, "fidelity/propensity")
    n = min(trial.holdout.n_rows, trial.synthetic.n_rows, ROWS)
    parts = [subsample(part, n, rng) for part in (trial.holdout, trial.synthetic)]
    if n < FEWEST or min(part.n_subjects for part in parts) < FEWEST or not trial.train.n_rows:
        return tuple(not_estimable(name, f"fewer than {FEWEST} subjects a side") for name in names)
    embedding = Embedding.fit(trial.train)
    rows = np.concatenate([embedding.dense(part) for part in parts])
    sides = Sides.deal(parts[0].subjects, parts[1].subjects, rng)
    scores = list(_ratio(names[0], "effects=main", rows, sides, rng))
    pairs = _products(rows, embedding, rng)
    if pairs.shape[1]:
        both = np.concatenate([rows, pairs], axis=1)
        scores += _ratio(names[1], "effects=pairs", both, sides, rng)
    return tuple(scores)


def _products(rows: Floats, embedding: Embedding, rng: np.random.Generator) -> Floats:
    """Return products of dimensions of two columns, a random choice, (rows, products)."""
    varies = np.flatnonzero(np.ptp(rows, axis=0) > 0)
    columns = np.unique(embedding.of_column[varies])
    if columns.size < 2:
        return np.zeros((rows.shape[0], 0))
    found = set()
    for _ in range(PRODUCTS):
        pair = np.sort(rng.choice(columns, 2, replace=False))
        found.add(tuple(int(rng.choice(varies[embedding.of_column[varies] == c])) for c in pair))
    left, right = np.array(sorted(found)).T
    return np.asarray(rows[:, left] * rows[:, right])


def _ratio(
    name: str, group: str, rows: Floats, sides: Sides, rng: np.random.Generator
) -> tuple[Score, ...]:
    fake = sides.fake[sides.of_row]
    features = whitened(rows, max(1, rows.shape[0] // ROWS_EACH))
    if not features.shape[1]:
        return (not_estimable(name, "every row is the same"),)
    share = float(fake.mean())
    fitted = logistic.predict(logistic.fit(features, fake), features)
    error = float(np.mean((fitted - share) ** 2))
    sums = sides.sums(features)  # (units, features), of mean 0
    sizes = sides.sums(np.ones((fake.size, 1)))[:, 0]

    def one_step(labels: Floats) -> Floats:
        """Return the pMSE of one Newton step from the null, for labels of units (draws, units)."""
        return np.asarray(np.sum((labels @ sums / fake.size) ** 2, axis=1))

    null = one_step(sides.permuted(PERMUTATIONS, rng).astype(np.float64))
    observed = float(one_step(sides.fake[None].astype(np.float64))[0])
    expected = float(null.mean())
    weights = sides.resampled(DRAWS, rng)
    means = []
    for side in (sides.fake, ~sides.fake):
        total = weights[:, side] @ sizes[side]
        means.append(weights[:, side] @ sums[side] / np.maximum(total, 1e-300)[:, None])
    draws = np.sum((share * (1 - share) * (means[0] - means[1])) ** 2, axis=1)
    ratio = error / expected
    spread = draws * (ratio / observed if observed > 0 else 1 / expected)
    band = float(np.quantile(null, 0.95)) / expected
    value = Score(
        name,
        ratio,
        recentred(ratio, spread, 0),
        note=f"95 of 100 permutations of the subjects' labels stay below {band:.2f}",
    )
    p = p_value(observed, null)
    return value, p_score("fidelity/propensity.p_value", p, PERMUTATIONS, group)
