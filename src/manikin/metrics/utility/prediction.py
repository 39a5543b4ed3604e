"""Prediction: does a model trained on synthetic rows predict for real patients?

Train on synthetic, test on real (TSTR) beside train on real, test on real (TRTR): histogram
gradient-boosted trees, the same held-out rows, the target from the schema's role. A target of
categories gives the AUC (one against the rest, mean over classes) and macro-F1, a number R². The
gap is TRTR - TSTR: what is lost by not having the real rows. Follow-up time and event predict
nothing: they are known only when the target is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from manikin.data.randomness import generator
from manikin.data.schema import Role, TableSchema
from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats, auc, auc_draws, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Codes, subsample
from manikin.metrics.trees import TreeFeatures, classifier, regressor

__all__ = ["prediction"]

CARD = Card(
    title="Prediction (TSTR against TRTR)",
    family="utility",
    better="near ceiling",
    reads="How well a model trained on synthetic rows predicts the target of held-out real "
    "patients (tstr), beside one trained on real rows (trtr). The gap is what is lost; 0 is none, "
    "and a small one may lie within its interval. It speaks of this target and this kind of model.",
    profile="quick",
)
ROWS = 50_000  # to train on, and to test on; beyond as many, a random choice
CLASSES = 12  # rarer classes are one
OUTCOME: tuple[Role, Role] = ("time", "event")


def prediction(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Train on synthetic and on real rows, and compare the predictions for held-out ones."""
    target = trial.train.schema.holder("target")
    if target is None or not target.is_learned:
        return ()
    rng = generator(seed, "utility/prediction")
    test, *sources = (
        _answered(subsample(part, ROWS, rng), target.name)
        for part in (trial.holdout, trial.synthetic, trial.train)
    )
    classes = _Classes.fit(trial.train, target.name)
    what = ("r2",) if classes is None else ("auc", "f1")
    names = [f"utility/prediction.{w}_{s}" for w in what for s in ("tstr", "trtr", "gap")]
    if not test.n_rows or not all(source.n_rows for source in sources):
        return tuple(not_estimable(name, "no row with a known target") for name in names)
    features = TreeFeatures.fit(sources[1], leave_out=_leaks(trial.train.schema, target.name))
    if not features.columns:
        return tuple(not_estimable(name, "no column to predict from") for name in names)
    task = _Task(features, test, target.name, int(rng.integers(2**31)))
    dealt = blocks(test.subjects, rng)
    if classes is None:
        truth = test.numbers(target.name)
        return _paired("r2", [_r2(truth, task.numbers(s), dealt) for s in sources], -math.inf)
    answers = classes.of(test)
    found = [task.probabilities(source, classes) for source in sources]
    areas = _paired("auc", [_macro_auc(answers, p, dealt) for p in found], 0)
    chosen = [p.argmax(axis=1) for p in found]
    f1 = _paired("f1", [_macro_f1(answers, c, classes.n, dealt) for c in chosen], 0)
    return (*areas, *f1)


@dataclass(frozen=True)
class _Task:
    """Predicting one column of the test rows from whatever rows a model is trained on."""

    features: TreeFeatures
    test: Table
    target: str
    seed: int

    def numbers(self, source: Table) -> Floats:
        """Return the predictions of a regression trained on `source`, (test rows,)."""
        truth = source.numbers(self.target)
        features, unordered = self.features.matrix(source), self.features.unordered
        predict = regressor(features, truth, unordered, seed=self.seed)
        return predict(self.features.matrix(self.test))

    def probabilities(self, source: Table, classes: _Classes) -> Floats:
        """Return the class probabilities of a model trained on `source`, (test rows, classes)."""
        truth = classes.of(source)
        seen = np.unique(truth)
        found = np.zeros((self.test.n_rows, classes.n))
        if seen.size == 1:  # nothing to learn: always the one class there is
            found[:, seen] = 1
            return found
        features, unordered = self.features.matrix(source), self.features.unordered
        predict = classifier(features, truth, unordered, seed=self.seed)
        found[:, seen] = predict(self.features.matrix(self.test))
        return found


def _answered(table: Table, target: str) -> Table:
    values = table.numbers(target)
    known = np.isfinite(values)
    return table if known.all() else table.rows(known)


def _leaks(schema: TableSchema, target: str) -> frozenset[str]:
    """Return what must not predict: the target, and the outcome that is known only afterwards."""
    return frozenset({target} | {c.name for r in OUTCOME for c in schema.holders(r)})


@dataclass(frozen=True)
class _Classes:
    """The classes of a target: by its level, or by the side of a cut that its number is on."""

    name: str
    of_level: Codes | None
    cut: float
    n: int

    @staticmethod
    def fit(train: Table, target: str) -> _Classes | None:
        """Return the classes, rare levels being one, or None for a number to regress on.

        A number with two values is two classes: a 0/1 column.
        """
        values = train.numbers(target)
        values = values[np.isfinite(values)]
        if not train.schema[target].is_coded:
            unique = np.unique(values)
            return _Classes(target, None, float(unique.mean()), 2) if unique.size == 2 else None
        n_levels = max(1, len(train.schema[target].categories))
        counts = np.bincount(values.astype(np.int64), minlength=n_levels)
        present = int((counts > 0).sum())
        own = np.argsort(-counts, kind="stable")[: present if present <= CLASSES else CLASSES - 1]
        of_level = np.full(counts.size, own.size, dtype=np.int64)  # unseen levels: the rest
        of_level[own] = np.arange(own.size)
        return _Classes(target, of_level, math.nan, int(own.size) + 1)

    def of(self, table: Table) -> Codes:
        """Return the class of every row."""
        values = table.numbers(self.name)
        if self.of_level is None:
            return (values > self.cut).astype(np.int64)
        return self.of_level[np.clip(values.astype(np.int64), 0, self.of_level.size - 1)]


Measured = tuple[float, Floats]


def _macro_auc(truth: Codes, probabilities: Floats, dealt: Blocks) -> Measured:
    weights = dealt.rows()
    found = [
        (auc(probabilities[:, k], truth == k), auc_draws(probabilities[:, k], truth == k, weights))
        for k in np.unique(truth)
        if 0 < int((truth == k).sum()) < truth.size
    ]
    if not found:
        return math.nan, np.full(weights.shape[0], np.nan)
    if np.unique(truth).size == 2:  # the two areas are one
        found = found[-1:]
    return float(np.mean([v for v, _ in found])), np.mean([d for _, d in found], axis=0)


def _macro_f1(truth: Codes, chosen: Codes, n_classes: int, dealt: Blocks) -> Measured:
    """Return the mean F1 over the classes that occur in the truth or among the predictions."""
    joint = truth * n_classes + chosen
    once = np.bincount(joint, minlength=n_classes**2)[None, :].astype(np.float64)
    tables = np.concatenate([once, dealt.counts(joint, n_classes**2)]).reshape(
        -1, n_classes, n_classes
    )
    hits = np.diagonal(tables, axis1=1, axis2=2)
    either = tables.sum(axis=1) + tables.sum(axis=2)
    f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
    occurring = np.maximum((either > 0).sum(axis=1), 1)
    mean = f1.sum(axis=1) / occurring
    return float(mean[0]), np.where(np.isnan(dealt.weights[:, 0]), np.nan, mean[1:])


def _r2(truth: Floats, predicted: Floats, dealt: Blocks) -> Measured:
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


def _paired(what: str, found: list[Measured], low: float) -> tuple[Score, ...]:
    """Return the scores of TSTR, TRTR and their gap, each replicate on the same subjects."""
    (synthetic, of_synthetic), (real, of_real) = found
    prefix = f"utility/prediction.{what}"
    if math.isnan(synthetic) or math.isnan(real):
        why = "the held-out target takes one value only"
        return tuple(not_estimable(f"{prefix}_{s}", why) for s in ("tstr", "trtr", "gap"))
    gap = real - synthetic
    return (
        Score(f"{prefix}_tstr", synthetic, recentred(synthetic, of_synthetic, low, 1)),
        Score(f"{prefix}_trtr", real, recentred(real, of_real, low, 1)),
        Score(f"{prefix}_gap", gap, recentred(gap, of_real - of_synthetic)),
    )
