"""The target as one question that every utility and fairness judge asks in the same way.

A number is predicted as it is. Categories become yes or no: the second of two levels, or the
commonest of several against the rest. Everything is decided on training rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.metrics.analyses import OUTCOME
from manikin.metrics.intervals import Blocks, Floats, auc, auc_draws
from manikin.metrics.score import Trial
from manikin.metrics.spaces import subsample
from manikin.metrics.trees import BRISK, Boosting, Predict, TreeFeatures, classifier, regressor

__all__ = ["Contest", "Measured", "Question", "answered", "contest", "leaks", "r_squared"]

Measured: TypeAlias = "tuple[float, Floats]"
"""A number and its replicates (draws,)."""


@dataclass(frozen=True)
class Question:
    """What is asked of a row: the target's number, or whether it is `yes`."""

    name: str
    yes: float | None  # None: the number itself

    @staticmethod
    def of(train: Table) -> Question | None:
        """Return the question that the target's role poses, or None when it has no two answers."""
        target = train.schema.holder("target")
        if target is None or not target.is_learned:
            return None
        values = train.numbers(target.name)
        unique, counts = np.unique(values[np.isfinite(values)], return_counts=True)
        if unique.size == 2:
            return Question(target.name, float(unique[1]))
        if target.is_coded and unique.size:
            return Question(target.name, float(unique[np.argmax(counts)]))
        return Question(target.name, None)

    @property
    def is_number(self) -> bool:
        """Whether the answer is a number rather than yes or no."""
        return self.yes is None

    def answers(self, table: Table) -> Floats:
        """Return the number, or 1 for yes and 0 for no, (rows,); every row has a target."""
        values = table.numbers(self.name)
        return values if self.yes is None else (values == self.yes).astype(np.float64)

    def learn(
        self, features: TreeFeatures, source: Table, *, seed: int, how: Boosting = BRISK
    ) -> Predict:
        """Train boosted trees on `source`: features (rows, p) → number or chance of yes (rows,)."""
        truth = self.answers(source)
        if np.ptp(truth) == 0:  # nothing to learn: always the one answer there is
            only = float(truth[0])
            return lambda rows: np.full(rows.shape[0], only)
        x = features.matrix(source)
        if self.is_number:
            return regressor(x, truth, features.unordered, seed=seed, how=how)
        model = classifier(x, truth.astype(np.int64), features.unordered, seed=seed, how=how)
        return lambda rows: model(rows)[:, 1]

    def skill(self, truth: Floats, predicted: Floats, dealt: Blocks) -> Measured:
        """Return R² of numbers, the AUC of chances."""
        if self.is_number:
            return r_squared(truth, predicted, dealt)
        yes = truth > 0.5
        return auc(predicted, yes), auc_draws(predicted, yes, dealt)


@dataclass(frozen=True)
class Contest:
    """Learning from synthetic rows against learning from real ones, tested on held-out ones."""

    question: Question
    features: TreeFeatures
    test: Table
    synthetic: Table
    train: Table


def contest(
    trial: Trial[Table], rng: np.random.Generator, *, rows: int, test: int
) -> Contest | str | None:
    """Set the contest up with at most so many rows to learn from and to test on.

    None when there is no target; a reason when there is nothing to learn or to test.
    """
    target = trial.train.schema.holder("target")
    if target is None or not target.is_learned:
        return None
    held, synthetic, train = (
        answered(subsample(part, n, rng), target.name)
        for part, n in ((trial.holdout, test), (trial.synthetic, rows), (trial.train, rows))
    )
    if not (held.n_rows and synthetic.n_rows and train.n_rows):
        return "no row with a known target"
    question = Question.of(train)
    features = TreeFeatures.fit(train, leave_out=leaks(train.schema, target.name))
    if not features.columns:
        return "no column to predict from"
    if question is None or np.ptp(question.answers(held)) == 0:
        return "the held-out target takes one value only"
    return Contest(question, features, held, synthetic, train)


def answered(table: Table, target: str) -> Table:
    """Return the rows whose target is known."""
    known = np.isfinite(table.numbers(target))
    return table if known.all() else table.rows(known)


def leaks(schema: TableSchema, target: str) -> frozenset[str]:
    """Return what must not predict: the target, and the outcome that is known only afterwards."""
    return frozenset({target} | {c.name for role in OUTCOME for c in schema.holders(role)})


def r_squared(truth: Floats, predicted: Floats, dealt: Blocks) -> Measured:
    """Return the share of variance explained, NaN where there is none."""
    if truth.size < 2 or np.ptp(truth) == 0:
        return math.nan, np.full(dealt.weights.shape[0], np.nan)
    centred = truth - truth.mean()
    n, total, squares, residual = (
        dealt.sums(v) for v in (np.ones(truth.size), centred, centred**2, (truth - predicted) ** 2)
    )
    spread = squares - total**2 / np.maximum(n, 1)
    draws = np.full(n.shape, np.nan)
    np.divide(residual, spread, out=draws, where=spread > 0)
    return 1 - float(np.sum((truth - predicted) ** 2) / np.sum(centred**2)), 1 - draws
