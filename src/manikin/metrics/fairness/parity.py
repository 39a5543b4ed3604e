"""Parity: does a model trained on synthetic rows treat groups of real patients less alike?

Boosted trees trained on synthetic rows (TSTR) and on real ones (TRTR) say yes or no of the same
held-out rows, each saying yes as often as the training rows do. For every column whose role is
sensitive or quasi-identifier:

parity   demographic parity difference: the largest minus the smallest share of yes among groups
odds     equalised-odds difference (Hardt, Price and Srebro, NeurIPS 2016): the larger of the same
         difference in true and in false positive rates
error    the same difference in the share of wrong answers

Of a target that is a number: parity of mean predictions and error of mean absolute errors, both in
standard deviations of the training target.

Parity in the data is not parity of the model (Bhanot et al., Entropy 2021): hence real rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.groups import Grouping, groupings
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.target import Measured, contest
from manikin.privacy.cells import n_different

__all__ = ["parity"]

CARD = Card(
    title="Parity of downstream models",
    family="fairness",
    better="near ceiling",
    reads="Whether a model trained on synthetic rows says yes to groups of real patients more "
    "unequally than one trained on real rows: gap is TSTR - TRTR, above 0 is less fair. parity "
    "compares how often it says yes, odds how often rightly and wrongly, error how often it errs "
    "(of a number: mean predictions and errors). Groups truly differ in risk, so 0 is not the aim "
    "for either model; and groups of fewer than 20 subjects with each answer "
    "are not compared. It speaks of this kind of model and this share of yes.",
)
ROWS = 6_000  # to train on
TEST = 8_000
FEWEST = 20  # subjects with either answer, for a group to be compared


def parity(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare the inequality of two models' answers between groups of held-out rows."""
    rng = generator(seed, "fairness/parity")
    grouped = [g for g in groupings(trial.train) if len(g.labels) > 1]
    given = contest(trial, rng, rows=ROWS, test=TEST)
    if not grouped or given is None:
        return ()
    if isinstance(given, str):
        return (not_estimable("fairness/parity.parity_gap", given),)
    test, question = given.test, given.question
    truth, x = question.answers(test), given.features.matrix(test)
    dealt = blocks(test.subjects, rng)
    real = question.answers(given.train)
    model_seed = int(rng.integers(2**31))
    rates = []
    for source in (given.synthetic, given.train):
        said = question.learn(given.features, source, seed=model_seed)(x)
        if question.is_number:
            rates.append(_of_numbers(said, truth, max(float(real.std()), 1e-300)))
        else:
            rates.append(_of_answers(yes_as_often(said, float(real.mean())), truth > 0.5))
    # the subjects that a group must have enough of: those of either answer
    needed = [np.ones(truth.size, np.bool_)]
    if not question.is_number:
        needed = [truth > 0.5, truth < 0.5]
    scores: list[Score] = []
    for grouping in grouped:
        if grouping.column != question.name:
            scores += _of_column(grouping, test, needed, rates, dealt)
    return tuple(scores)


Rates: TypeAlias = "Mapping[str, list[tuple[Floats, NDArray[np.bool_]]]]"
"""For each number, what is averaged (rows,) and over which rows; the worst of several counts."""


def _of_answers(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Rates:
    yes, everyone = said.astype(np.float64), np.ones(truth.size, np.bool_)
    return {
        "parity": [(yes, everyone)],
        "odds": [(yes, truth), (yes, ~truth)],
        "error": [((said != truth).astype(np.float64), everyone)],
    }


def _of_numbers(said: Floats, truth: Floats, scale: float) -> Rates:
    everyone = np.ones(truth.size, np.bool_)
    return {
        "parity": [(said / scale, everyone)],
        "error": [(np.abs(said - truth) / scale, everyone)],
    }


def yes_as_often(chance: Floats, share: float) -> NDArray[np.bool_]:
    """Say yes to the rows of highest chance, as many as `share` asks; none where all are alike."""
    if not chance.size or np.ptp(chance) == 0:
        return np.full(chance.size, bool(chance.size and chance[0] > 0.5))
    return np.asarray(chance > np.quantile(chance, 1 - share, method="lower"))


def _of_column(
    grouping: Grouping,
    test: Table,
    needed: list[NDArray[np.bool_]],
    rates: list[Rates],
    dealt: Blocks,
) -> list[Score]:
    group = f"column={grouping.column}"
    of_row = grouping.of(test)
    members = [of_row == k for k in range(len(grouping.labels))]
    members = [
        member
        for member in members
        if all(n_different(test.subjects[member & among]) >= FEWEST for among in needed)
    ]
    scores: list[Score] = []
    for what in rates[0]:
        names = [f"fairness/parity.{what}_{side}" for side in ("tstr", "trtr", "gap")]
        if len(members) < 2:
            with_each = " with each answer" if len(needed) > 1 else ""
            why = f"not assessable: fewer than two groups have {FEWEST} subjects{with_each}"
            scores += [not_estimable(name, why, group) for name in names]
            continue
        tstr, trtr = (spread(of[what], members, dealt) for of in rates)
        gap = (tstr[0] - trtr[0], tstr[1] - trtr[1])
        for name, (value, draws), low in zip(
            names, (tstr, trtr, gap), (0.0, 0.0, -math.inf), strict=True
        ):
            scores.append(Score(name, value, recentred(value, draws, low), group=group))
    return scores


def spread(
    rates: list[tuple[Floats, NDArray[np.bool_]]], members: list[NDArray[np.bool_]], dealt: Blocks
) -> Measured:
    """Return the largest minus the smallest mean among groups; of several, the worst."""
    differences = []
    for values, among in rates:
        means = np.stack([_mean(values, member & among, dealt) for member in members])
        differences.append(np.nanmax(means, axis=0) - np.nanmin(means, axis=0))
    worst = np.max(differences, axis=0)
    return float(worst[0]), worst[1:]


def _mean(values: Floats, among: NDArray[np.bool_], dealt: Blocks) -> Floats:
    """Return the mean over these rows, and in every replicate, (1 + draws,)."""
    once = float(values[among].mean())
    total, n = dealt.sums(values * among), dealt.sums(among.astype(np.float64))
    drawn = np.where(n > 0, total / np.maximum(n, 1e-300), once)
    return np.concatenate([[once], drawn])
