"""Groupwise: fidelity, utility and calibration for every group of patients by itself.

trends       1 - total variation of two-way tables within the group, mean over pairs of columns
utility_gap  AUC of a model trained on real rows minus that of one trained on synthetic rows, on
             held-out rows of the group (of a number: R²)
calibration  mean chance given by the synthetic rows' model minus the share of yes, in the group
             (of a number: in standard deviations); above 0 its risk is overstated
optimism     mean distance between the group's Kaplan-Meier curves over follow-up, above 0 where
             its synthetic patients live longer (as `utility/survival` of everyone)

Shapes and frequency of groups are in `subgroups`; their privacy is judged by the attacks' strata.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.analyses import OUTCOME
from manikin.metrics.groups import groupings
from manikin.metrics.intervals import Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Bins, Codes, subsample
from manikin.metrics.target import Contest, contest
from manikin.metrics.utility.survival import FollowUp, curve_scores
from manikin.privacy.cells import SMALLEST_CELL, n_different

__all__ = ["groupwise"]

CARD = Card(
    title="Fidelity and utility by group",
    family="fairness",
    better="near ceiling",
    reads="Whether what holds for all patients holds for each group: its pairs of columns (trends, "
    "1 is the same; small groups score lower by chance, so read the ceiling), what is lost in "
    "predicting its patients (utility_gap, 0 is nothing) and whether its risk is over- or "
    "understated (calibration, 0 is right) or its survival (optimism, 0 is right). It says "
    "nothing of groups of fewer than 20 subjects, or of how often each occurs (see subgroups).",
)
FEWEST = 20  # subjects a side
ROWS = 6_000  # to train on
TEST = 8_000
INSIDE = 4_000  # rows of a group whose pairs are compared
PAIRS = 60
DRAWS = 100


def groupwise(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Score every group's pairs of columns, prediction and calibration."""
    found = groupings(trial.train)
    if not found or not trial.holdout.n_rows or not trial.synthetic.n_rows:
        return ()
    rng = generator(seed, "fairness/groupwise")
    bins = Bins.fit(trial.train, n_bins=5, most_levels=6)
    pairs = list(combinations(sorted(bins.sizes), 2))
    if len(pairs) > PAIRS:
        pairs = [pairs[i] for i in np.sort(rng.choice(len(pairs), PAIRS, replace=False))]
    given = contest(trial, rng, rows=ROWS, test=TEST)
    said = _said(given, rng) if isinstance(given, Contest) else None
    time, event = (trial.train.schema.holder(role) for role in OUTCOME)
    followed = time is not None and event is not None and time.is_learned and event.is_learned
    scores: list[Score] = []
    for grouping in found:
        sides = [(part, grouping.of(part)) for part in (trial.holdout, trial.synthetic)]
        for k, label in enumerate(grouping.labels):
            group = f"{grouping.column}={label}"
            inside = [part.rows(of_row == k) for part, of_row in sides]
            scores.append(_trends(inside, bins, pairs, group, rng))
            if time is not None and event is not None and followed:
                if grouping.column not in (time.name, event.name):
                    scores.append(_optimism(inside, time.name, event.name, group, rng))
            if isinstance(given, str):
                scores.append(not_estimable("fairness/groupwise.utility_gap", given, group))
            elif given is not None and said is not None:
                member = grouping.of(given.test) == k
                if grouping.column != given.question.name:
                    scores += _predictions(given, said, member, group, rng)
    return tuple(scores)


# ── Pairs of columns ───────────────────────────────────────────────────────────────────────────


def _trends(
    inside: list[Table],
    bins: Bins,
    pairs: list[tuple[str, str]],
    group: str,
    rng: np.random.Generator,
) -> Score:
    name = "fairness/groupwise.trends"
    why = _too_few(inside)
    if why or not pairs:
        return not_estimable(name, why or "fewer than two columns: no pair", group)
    inside = [subsample(part, INSIDE, rng) for part in inside]
    dealt = [blocks(part.subjects, rng, draws=DRAWS) for part in inside]
    names = {column for pair in pairs for column in pair}
    codes: list[dict[str, Codes]] = [{c: bins.codes(p, c) for c in names} for p in inside]
    values, drawn = [], np.zeros(DRAWS)
    for one, other in pairs:
        n = bins.sizes[one] * bins.sizes[other]
        shares = []
        for part, deal in zip(codes, dealt, strict=True):
            joint = part[one] * bins.sizes[other] + part[other]
            once = np.bincount(joint, minlength=n)[None, :].astype(np.float64)
            counts = np.concatenate([once, deal.counts(joint, n)])
            shares.append(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300))
        agreed = 1 - np.abs(shares[0] - shares[1]).sum(axis=1) / 2
        values.append(float(agreed[0]))
        drawn += agreed[1:] / len(pairs)
    value = float(np.mean(values))
    return Score(name, value, recentred(value, drawn, 0, 1), group=group)


def _too_few(inside: list[Table]) -> str:
    for part, what in zip(inside, ("held-out", "synthetic"), strict=True):
        n = n_different(part.subjects)
        if n < FEWEST:
            few = SMALLEST_CELL if n < SMALLEST_CELL else FEWEST
            return f"not assessable: fewer than {few} {what} subjects"
    return ""


def _optimism(
    inside: list[Table], time: str, event: str, group: str, rng: np.random.Generator
) -> Score:
    name = "fairness/groupwise.optimism"
    real, synthetic = (FollowUp.of(part, time, event) for part in inside)
    why = _too_few([real.table, synthetic.table])
    if not why and n_different(real.table.subjects[real.event]) < SMALLEST_CELL:
        why = f"not assessable: fewer than {SMALLEST_CELL} held-out subjects with the event"
    if why:
        return not_estimable(name, why, group)
    sides = (real.table.subjects, synthetic.table.subjects)
    dealt = (blocks(sides[0], rng, draws=DRAWS), blocks(sides[1], rng, draws=DRAWS))
    return replace(curve_scores(real, synthetic, dealt)[1], metric=name, group=group)


# ── Predictions ────────────────────────────────────────────────────────────────────────────────


def _said(given: Contest, rng: np.random.Generator) -> list[Floats]:
    """Return what the models of synthetic and of real rows say of the test rows."""
    seed = int(rng.integers(2**31))
    x = given.features.matrix(given.test)
    return [
        given.question.learn(given.features, source, seed=seed)(x)
        for source in (given.synthetic, given.train)
    ]


def _predictions(
    given: Contest,
    said: list[Floats],
    member: NDArray[np.bool_],
    group: str,
    rng: np.random.Generator,
) -> list[Score]:
    names = ("fairness/groupwise.utility_gap", "fairness/groupwise.calibration")
    test = given.test.rows(member)
    n = n_different(test.subjects)
    if n < FEWEST:
        few = SMALLEST_CELL if n < SMALLEST_CELL else FEWEST
        why = f"not assessable: fewer than {few} held-out subjects with a known target"
        return [not_estimable(name, why, group) for name in names]
    truth = given.question.answers(test)
    theirs, ours = (part[member] for part in said)
    dealt = blocks(test.subjects, rng)
    scale = 1.0
    if given.question.is_number:
        scale = max(float(given.question.answers(given.train).std()), 1e-300)
    off = (theirs - truth) / scale
    value = float(off.mean())
    drawn = dealt.sums(off) / np.maximum(dealt.sums(np.ones(off.size)), 1e-300)
    calibrated = Score(names[1], value, recentred(value, drawn), group=group)
    few_of_one = not given.question.is_number and min(
        n_different(test.subjects[truth == answer]) for answer in (0, 1)
    ) < SMALLEST_CELL  # fmt: skip
    if few_of_one:
        why = f"not assessable: fewer than {SMALLEST_CELL} held-out subjects of one answer"
        return [not_estimable(names[0], why, group), calibrated]
    (tstr, of_tstr), (trtr, of_trtr) = (
        given.question.skill(truth, part, dealt) for part in (theirs, ours)
    )
    gap = trtr - tstr
    if math.isnan(gap):
        why = "the group's held-out target takes one value only"
        return [not_estimable(names[0], why, group), calibrated]
    return [Score(names[0], gap, recentred(gap, of_trtr - of_tstr), group=group), calibrated]
