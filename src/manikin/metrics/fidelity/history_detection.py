"""Detection of whole patients: can a classifier tell a synthetic history from a held-out one?

Classifier two-sample tests with the subject as the unit, against histories that were not trained
on, out of fold, at equal numbers:
summaries  boosted trees on one row a subject (data/summaries)
forest     a random forest on the same rows, as longitudinal benchmarks do
sequences  boosted trees on the order of things: how often each common pair of codes stands at one
           visit and the next, how gaps and codes follow one another, and how steadily values go
Static facts are left out of `sequences`: what it tells apart is the history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.summaries import plan
from manikin.metrics.histories import Side, no_histories, sides, steps
from manikin.metrics.intervals import Floats
from manikin.metrics.out_of_fold import Trained, out_of_fold, some_of
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.trees import BRISK, Predict, TreeFeatures, classifier

__all__ = ["history_detection"]

CARD = Card(
    title="Detection of whole patients (C2ST)",
    family="fidelity",
    better="near ceiling",
    reads="How well classifiers tell a synthetic patient's whole history from a held-out real one: "
    "AUC 0.5 that they cannot, 1 that they always can. `summaries` and `forest` see what a record "
    "comes to (counts, gaps, means, spreads, changes), `sequences` what follows what. Strict: one "
    "wrong detail in everybody is enough.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/history_detection"
SUBJECTS = 2_000  # a side; of more, a random choice
FOLDS = 5
FEWEST = 10
TREES = 60
GRAMS = 60  # pairs of codes that follow each other
SHOWN = 40  # codes in the features of sequences

Learner: TypeAlias = Callable[[Floats, NDArray[np.bool_], int], Predict]


def history_detection(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Train judges on synthetic against held-out subjects and score them out of fold."""
    whats = ("summaries", "forest", "sequences")
    names = {what: f"{NAME}.{what}" for what in whats}
    if not isinstance(trial.train, Events):
        return no_histories(names["summaries"])
    rng = generator(seed, NAME)
    train, *others = sides(trial, seed=seed)
    n = min(*(side.events.n_subjects for side in others), SUBJECTS)
    if n < FEWEST:
        few = f"fewer than {FEWEST} subjects a side"
        return tuple(not_estimable(name, few) for name in names.values())
    both = [some_of(side, n, rng) for side in others]
    summed = plan(train.events)
    tables = [summed.of(side.events) for side in (train, *both)]
    seen = TreeFeatures.fit(tables[0], written=True, seen=tuple(tables[1:]))
    rows = np.concatenate([seen.matrix(table) for table in tables[1:]])
    judges = [("summaries", _of(rows, _boosting(seen.unordered)))]
    numbers = [
        np.column_stack([table.numbers(c.name) for c in table.schema.learned])
        if table.schema.learned
        else np.zeros((n, 1))
        for table in tables[1:]
    ]
    judges.append(("forest", _of(np.concatenate(numbers), _forest)))
    grams = _Grams(train)
    features = np.concatenate([grams.of(side) for side in both])
    judges.append(("sequences", _of(features, _boosting([False] * features.shape[1]))))
    return tuple(
        out_of_fold(names[what], both, trained, rng, folds=FOLDS) for what, trained in judges
    )


def _of(features: Floats, learner: Learner) -> Trained:
    """Return how a learner is trained on some of these rows and asked of others."""

    def trained(
        rows: NDArray[np.int64], fake: NDArray[np.bool_], seed: int
    ) -> Callable[[NDArray[np.int64]], Floats]:
        judge = learner(features[rows], fake, seed)
        return lambda others: judge(features[others])

    return trained


def _forest(features: Floats, fake: NDArray[np.bool_], seed: int) -> Predict:
    from sklearn.ensemble import RandomForestClassifier

    known = np.isfinite(features)
    middle = np.array([
        np.median(column[there]) if there.any() else 0.0
        for column, there in zip(features.T, known.T, strict=True)
    ])  # fmt: skip
    absent = np.flatnonzero(~known.all(axis=0))

    def filled(rows: Floats) -> Floats:
        there = np.isfinite(rows)
        return np.column_stack([np.where(there, rows, middle), ~there[:, absent]])

    model = RandomForestClassifier(TREES, min_samples_leaf=2, random_state=seed, n_jobs=1)
    model.fit(filled(features), fake)
    return lambda rows: np.asarray(model.predict_proba(filled(rows)))[:, 1]


def _boosting(unordered: list[bool]) -> Learner:
    def trained(features: Floats, fake: NDArray[np.bool_], seed: int) -> Predict:
        model = classifier(features, fake.astype(np.int64), unordered, seed=seed, how=BRISK)
        return lambda rows: model(rows)[:, 1]

    return trained


class _Grams:
    """Which features of order there are: chosen on training histories."""

    def __init__(self, train: Side) -> None:
        n = len(train.events.schema)
        common = np.asarray(train.of_subjects.sum(axis=0)).ravel()
        self.codes = np.argsort(-common, kind="stable")[: min(SHOWN, n)]
        keys, _ = self._pairs(train)
        sizes = np.bincount(keys, minlength=max(1, self.codes.size) ** 2)
        self.pairs = np.argsort(-sizes, kind="stable")[: min(GRAMS, sizes.size)]

    def _pairs(self, side: Side) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of common codes at a visit and the next, and whose each is."""
        later = side.following
        at = side.at_visits[:, self.codes]
        before, after = at[later - 1].tocsr(), at[later].tocsr()
        n, whose = self.codes.size, side.visits.whose[later]
        left = np.diff(before.indptr)
        # every code before, repeated for each code after at the same place
        row = np.repeat(np.arange(later.size), left)
        right = np.diff(after.indptr)[row]
        key = np.repeat(before.indices.astype(np.int64), right) * n
        first = np.repeat(after.indptr[:-1][row], right)
        within = np.arange(right.sum()) - np.repeat(np.cumsum(right) - right, right)
        key += after.indices[first + within]
        return key, np.repeat(whose[row], right)

    def of(self, side: Side) -> Floats:
        """Return the features of order, (subjects, features)."""
        n, steps_n = side.events.n_subjects, np.maximum(side.visits.counts - 1, 1)
        keys, whose = self._pairs(side)
        place = np.full(max(1, self.codes.size) ** 2, -1, np.int64)
        place[self.pairs] = np.arange(self.pairs.size)
        kept = place[keys] >= 0
        m = self.pairs.size
        counts = np.bincount(whose[kept] * m + place[keys[kept]], minlength=n * m).reshape(n, m)
        return np.column_stack([counts / steps_n[:, None], _rhythm(side), _steadiness(side, self)])


def _rhythm(side: Side) -> Floats:
    """Return how gaps and sizes of visits follow one another, (subjects, 5)."""
    n, later = side.events.n_subjects, side.following
    whose = side.visits.whose[later]
    gaps = np.log1p(side.visits.gaps_days()[later])
    size = np.bincount(side.visits.of[side.visits.of >= 0], minlength=side.visits.n)
    grown = np.diff(size, prepend=0)[later].astype(np.float64)
    again = (np.diff(whose) == 0) & (np.diff(later) == 1)
    turned = np.abs(np.diff(gaps))[again]
    # how many codes of a visit were at the one before
    shared = side.at_visits[later].multiply(side.at_visits[later - 1]).sum(axis=1)
    kept = np.asarray(shared).ravel() / np.maximum(size[later], 1)
    parts = [(gaps, whose), (turned, whose[1:][again]), (grown, whose), (np.abs(grown), whose),
             (kept, whose)]  # fmt: skip
    return np.column_stack([_mean(values, of, n) for values, of in parts])


def _steadiness(side: Side, grams: _Grams) -> Floats:
    """Return how far values turn back, and how often they stay, of common numbers."""
    events, n = side.events, side.events.n_subjects
    later, before = steps(events, grams.codes)
    step = events.value[later] - events.value[before]
    # steps follow each other in order of subject, code and time
    chained = before[1:] == later[:-1]
    product = np.sign(step[1:]) * np.sign(step[:-1])
    whose = events.whose[later]
    return np.column_stack([
        _mean((step == 0).astype(np.float64), whose, n),
        _mean(product[chained], whose[1:][chained], n),
    ])  # fmt: skip


def _mean(values: Floats, whose: NDArray[np.int64], n: int) -> Floats:
    size = np.bincount(whose, minlength=n)
    total = np.bincount(whose, values, minlength=n)
    found = np.full(n, np.nan)
    np.divide(total, size, out=found, where=size > 0)
    return found
