"""Calibration: are the chances right that a model trained on synthetic rows gives real patients?

Boosted trees trained on synthetic rows (TSTR) and on real ones (TRTR), on the same held-out rows.
Of yes or no: the slope and intercept of a logistic regression of the outcome on the log odds given
(Cox, Biometrika 1958; 1 and 0 are calibrated), the expected calibration error in ten equal groups
(Naeini, Cooper and Hauskrecht, AAAI 2015) and the Brier score. Of a number: slope and intercept of
the linear regression on the number predicted, in standard deviations of the training target.
"""

from __future__ import annotations

import math

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.regression import linear, logistic
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.target import Measured, contest

__all__ = ["calibration"]

CARD = Card(
    title="Calibration (TSTR against TRTR)",
    family="utility",
    better="near ceiling",
    reads="Whether a model trained on synthetic rows gives real patients the right chances. Slope "
    "1 and intercept 0 are right; a slope below 1 means chances too extreme. ece is the mean gap "
    "between chance and truth, brier the squared error: lower is better. A model may rank "
    "patients well (see prediction) and still be wrong here. It speaks of this kind of model.",
)
ROWS = 6_000  # to train on
TEST = 6_000
GROUPS = 10  # of equal size, by the chance given
EXTREME = 1e-4  # chances beyond are taken for this one


def calibration(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare how well models of synthetic and of real rows are calibrated on held-out rows."""
    rng = generator(seed, "utility/calibration")
    given = contest(trial, rng, rows=ROWS, test=TEST)
    if given is None:
        return ()
    if isinstance(given, str):
        return (not_estimable("utility/calibration.slope_tstr", given),)
    question, test = given.question, given.test
    truth, x = question.answers(test), given.features.matrix(test)
    dealt = blocks(test.subjects, rng)
    model_seed = int(rng.integers(2**31))
    found: list[dict[str, Measured]] = []
    for source in (given.synthetic, given.train):
        predicted = question.learn(given.features, source, seed=model_seed)(x)
        if question.is_number:
            scale = max(float(question.answers(given.train).std()), 1e-300)
            found.append(_of_numbers(truth, predicted, scale, test, dealt))
        else:
            found.append(of_chances(truth, predicted, test, dealt))
    scores: list[Score] = []
    for what in found[0]:
        scores += _paired(what, found[0][what], found[1][what])
    return tuple(scores)


def of_chances(truth: Floats, chance: Floats, test: Table, dealt: Blocks) -> dict[str, Measured]:
    """Return slope, intercept, expected calibration error and Brier score of chances of yes."""
    cut = np.clip(chance, EXTREME, 1 - EXTREME)
    fit = logistic(np.log(cut / (1 - cut))[:, None], truth > 0.5, test.subjects)
    draws = fit.draws(dealt)
    n = dealt.sums(np.ones(truth.size))
    squared = (chance - truth) ** 2
    return {
        "slope": (float(fit.value[1]), draws[:, 1]),
        "intercept": (float(fit.value[0]), draws[:, 0]),
        "ece": expected_error(truth, chance, dealt),
        "brier": (float(squared.mean()), dealt.sums(squared) / np.maximum(n, 1e-300)),
    }


def expected_error(truth: Floats, chance: Floats, dealt: Blocks) -> Measured:
    """Return the mean over equal groups, by chance, of |mean chance - share of yes|."""
    order = np.argsort(chance, kind="stable")
    group = np.empty(truth.size, dtype=np.int64)
    group[order] = np.arange(truth.size) * GROUPS // truth.size
    off = chance - truth
    once = np.abs(np.bincount(group, off, minlength=GROUPS)).sum() / truth.size
    drawn = np.zeros(dealt.weights.shape[0])
    for g in range(GROUPS):
        drawn += np.abs(dealt.sums(np.where(group == g, off, 0.0)))
    return float(once), drawn / np.maximum(dealt.sums(np.ones(truth.size)), 1e-300)


def _of_numbers(
    truth: Floats, predicted: Floats, scale: float, test: Table, dealt: Blocks
) -> dict[str, Measured]:
    fit = linear(predicted[:, None] / scale, truth / scale, test.subjects)
    slope, drawn = float(fit.value[0]), fit.draws(dealt)[:, 0]
    n = np.maximum(dealt.sums(np.ones(truth.size)), 1e-300)
    means = [dealt.sums(part / scale) / n for part in (truth, predicted)]
    # calibration in the large: what is left on average when the slope is taken for 1
    whole = float((truth - predicted).mean() / scale)
    return {"slope": (slope, drawn), "intercept": (whole, means[0] - means[1])}


def _paired(what: str, synthetic: Measured, real: Measured) -> tuple[Score, ...]:
    """Return TSTR, TRTR and TRTR - TSTR, each replicate on the same subjects."""
    names = [f"utility/calibration.{what}_{s}" for s in ("tstr", "trtr", "gap")]
    low, high = (0.0, 1.0) if what in ("ece", "brier") else (-math.inf, math.inf)
    scores = []
    gap = (real[0] - synthetic[0], real[1] - synthetic[1])
    for name, (value, draws), (least, most) in zip(
        names,
        (synthetic, real, gap),
        ((low, high), (low, high), (-math.inf, math.inf)),
        strict=True,
    ):
        if math.isnan(value):
            scores.append(not_estimable(name, "a model gives every patient the same chance"))
        else:
            scores.append(Score(name, value, recentred(value, draws, least, most)))
    return tuple(scores)
