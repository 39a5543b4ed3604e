"""Prediction: does a model trained on synthetic rows predict for real patients?

Train on synthetic, test on real (TSTR) beside train on real, test on real (TRTR): histogram
gradient-boosted trees, the same held-out rows, the target from the schema's role. A target of
categories gives the AUC (one against the rest, mean over classes) and macro-F1, a number R². The
gap is TRTR - TSTR: what is lost by not having the real rows. TRTS, train on real, test on synthetic
(Esteban, Hyland and Rätsch 2017), tells whether synthetic targets follow from the rest as real ones
do; its real rows are the held-out ones, for a model of the training rows knows their copies by
heart. Follow-up time and event predict nothing: they are known only when the target is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats, auc, auc_draws, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Codes, subsample
from manikin.metrics.target import Measured, answered, leaks, r_squared
from manikin.metrics.trees import BRISK, Predict, TreeFeatures, classifier, regressor

__all__ = ["prediction"]

CARD = Card(
    title="Prediction (TSTR against TRTR)",
    family="utility",
    better="near ceiling",
    reads="How well a model trained on synthetic rows predicts the target of held-out real "
    "patients (tstr), beside one trained on real rows (trtr). The gap is what is lost; 0 is none, "
    "and a small one may lie within its interval. trts tests a model of held-out rows on synthetic "
    "ones: below its ceiling their targets are too random, above it too easy. It speaks of this "
    "target and this kind of model.",
    profile="quick",
)
ROWS = 50_000  # to test on; beyond as many, a random choice
TRAIN = 10_000  # to train on, of either source: fifty small trees gain little from more
TEST = 10_000  # held-out rows to train on, and synthetic ones to test on, the other way round
CLASSES = 12  # rarer classes are one
PARTS = ("tstr", "trtr", "gap", "trts")


def prediction(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Train on synthetic and on real rows, and compare the predictions for held-out ones."""
    target = trial.train.schema.holder("target")
    if target is None or not target.is_learned:
        return ()
    rng = generator(seed, "utility/prediction")
    test, *sources = (
        answered(subsample(part, most, rng), target.name)
        for part, most in ((trial.holdout, ROWS), (trial.synthetic, TRAIN), (trial.train, TRAIN))
    )
    classes = _Classes.fit(trial.train, target.name)
    what = ("r2",) if classes is None else ("auc", "f1")
    names = [f"utility/prediction.{w}_{s}" for w in what for s in PARTS]
    if not test.n_rows or not all(source.n_rows for source in sources):
        return tuple(not_estimable(name, "no row with a known target") for name in names)
    features = TreeFeatures.fit(sources[1], leave_out=leaks(trial.train.schema, target.name))
    if not features.columns:
        return tuple(not_estimable(name, "no column to predict from") for name in names)
    model_seed = int(rng.integers(2**31))
    dealt = blocks(test.subjects, rng)
    own, teacher = subsample(sources[0], TEST, rng), subsample(test, TEST, rng)
    of_own = blocks(own.subjects, rng)
    if classes is None:
        models = [_regression(features, s, target.name, model_seed) for s in sources]
        truth, theirs = test.numbers(target.name), own.numbers(target.name)
        pair = [r_squared(truth, model(features.matrix(test)), dealt) for model in models]
        taught = _regression(features, teacher, target.name, model_seed)
        swapped = r_squared(theirs, taught(features.matrix(own)), of_own)
        return _paired("r2", pair, swapped, -math.inf)
    answers, their = classes.of(test), classes.of(own)
    judges = [_classification(features, s, classes, model_seed) for s in sources]
    found = [judge(features.matrix(test)) for judge in judges]
    taught = _classification(features, teacher, classes, model_seed)
    of_theirs = taught(features.matrix(own))
    areas = _paired(
        "auc",
        [_macro_auc(answers, p, dealt) for p in found],
        _macro_auc(their, of_theirs, of_own),
        0,
    )
    f1 = _paired(
        "f1",
        [_macro_f1(answers, p.argmax(axis=1), classes.n, dealt) for p in found],
        _macro_f1(their, of_theirs.argmax(axis=1), classes.n, of_own),
        0,
    )
    return (*areas, *f1)


def _regression(features: TreeFeatures, source: Table, target: str, seed: int) -> Predict:
    known = source.numbers(target)
    return regressor(features.matrix(source), known, features.unordered, seed=seed, how=BRISK)


def _classification(features: TreeFeatures, source: Table, classes: _Classes, seed: int) -> Predict:
    """Return the model of `source`: features (rows, p) → probabilities (rows, classes)."""
    truth = classes.of(source)
    seen = np.unique(truth)
    if seen.size > 1:
        model = classifier(features.matrix(source), truth, features.unordered, seed=seed, how=BRISK)

    def probabilities(rows: Floats) -> Floats:
        found = np.zeros((rows.shape[0], classes.n))
        # one class is nothing to learn: always the one there is
        found[:, seen] = model(rows) if seen.size > 1 else 1
        return found

    return probabilities


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


def _macro_auc(truth: Codes, probabilities: Floats, dealt: Blocks) -> Measured:
    found = [
        (auc(probabilities[:, k], truth == k), auc_draws(probabilities[:, k], truth == k, dealt))
        for k in np.unique(truth)
        if 0 < int((truth == k).sum()) < truth.size
    ]
    if not found:
        return math.nan, np.full(dealt.weights.shape[0], np.nan)
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


def _paired(what: str, found: list[Measured], swapped: Measured, low: float) -> tuple[Score, ...]:
    """Return the scores of TSTR, TRTR, their gap on the same subjects, and TRTS."""
    (synthetic, of_synthetic), (real, of_real) = found
    prefix = f"utility/prediction.{what}"
    if math.isnan(synthetic) or math.isnan(real):
        why = "the held-out target takes one value only"
        return tuple(not_estimable(f"{prefix}_{s}", why) for s in PARTS)
    gap = real - synthetic
    trts, of_trts = swapped
    last = Score(f"{prefix}_trts", trts, recentred(trts, of_trts, low, 1))
    if math.isnan(trts):
        last = not_estimable(f"{prefix}_trts", "the synthetic target takes one value only")
    return (
        Score(f"{prefix}_tstr", synthetic, recentred(synthetic, of_synthetic, low, 1)),
        Score(f"{prefix}_trtr", real, recentred(real, of_real, low, 1)),
        Score(f"{prefix}_gap", gap, recentred(gap, of_real - of_synthetic)),
        last,
    )
