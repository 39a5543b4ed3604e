"""Propensity: the pMSE ratio.

Real and synthetic rows are stacked, a logistic regression gives every row its probability p of
being synthetic, and pMSE is the mean of (p - c)², c being the synthetic share (Woo et al., J.
Privacy and Confidentiality 2009). Snoke, Raab, Nowok, Dibben and Slavkovic (J. R. Stat. Soc. A
2018, section 3) divide by its expectation under the null. Theirs, (k - 1)(1 - c)²c/N for k
parameters, is for rows synthesised from the very rows they are compared with; here they are
compared with held-out ones, both sides vary, and the expectation is (k - 1)(1 - c)c/N. That is
what permuting labels gives. Near the null the fit is one Newton step, p - c = X(X'X)⁻¹X'(t - c),
whose mean over all permutations of whole subjects, who may have many rows, has a closed form, and
of which many permutations cost one matrix product.

`ratio` has the columns' main effects, `ratio_pairs` also products of two columns.
"""

from __future__ import annotations

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics import logistic
from manikin.metrics.embedding import Embedding, whitened
from manikin.metrics.intervals import Floats, recentred
from manikin.metrics.permutation import UNITS, Sides, p_score, p_value
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
    sides = [
        Sides.deal(parts[0].subjects, parts[1].subjects, rng, most=most)
        for most in (2 * ROWS, UNITS)
    ]
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
    name: str, group: str, rows: Floats, sides: list[Sides], rng: np.random.Generator
) -> tuple[Score, ...]:
    """Return the ratio and its p-value; `sides` are dealt to subjects, and to units of them."""
    of_subjects, of_units = sides
    fake = of_units.fake[of_units.of_row]
    features = whitened(rows, max(1, rows.shape[0] // ROWS_EACH))
    if not features.shape[1]:
        return (not_estimable(name, "every row is the same"),)
    n, share = fake.size, float(fake.mean())
    fitted = logistic.predict(logistic.fit(features, fake), features)
    error = float(np.mean((fitted - share) ** 2))

    # one Newton step: the pMSE is |Σ x over synthetic rows|² / N², x being white and of mean 0
    sums = of_subjects.sums(features)  # (subjects, features)
    c = float(of_subjects.fake.mean())
    expected = c * (1 - c) * of_subjects.n / (of_subjects.n - 1) * float(np.sum(sums**2)) / n**2
    labels = np.concatenate([of_subjects.fake[None], of_subjects.permuted(PERMUTATIONS, rng)])
    steps = np.sum((labels.astype(np.float64) @ sums / n) ** 2, axis=1)

    sums = of_units.sums(features)
    sizes = of_units.sums(np.ones((n, 1)))[:, 0]
    weights = of_units.resampled(DRAWS, rng)
    means = []
    for side in (of_units.fake, ~of_units.fake):
        total = weights[:, side] @ sizes[side]
        means.append(weights[:, side] @ sums[side] / np.maximum(total, 1e-300)[:, None])
    draws = np.sum((share * (1 - share) * (means[0] - means[1])) ** 2, axis=1)
    # replicates are of the one step: take their spread relative to it
    spread = draws * error / max(float(steps[0]), 1e-300) / expected
    ratio = error / expected
    p = p_value(float(steps[0]), steps[1:])
    return (
        Score(name, ratio, recentred(ratio, spread, 0)),
        p_score("fidelity/propensity.p_value", p, PERMUTATIONS, group),
    )
