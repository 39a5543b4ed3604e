"""What added rows are worth: models of them and of the real rows alone, on held-out real rows.

The area under the ROC curve and under the precision-recall curve (average precision) say whether a
model tells the class better; the Brier score (Monthly Weather Review 78, 1950) whether its chances
are right. That oversampling rarely helps the first and spoils the last: van den Goorbergh, van
Smeden, Timmerman & Van Calster, JAMIA 29 (2022). Held-out subjects are resampled, the same ones for
every model, so that a difference is surer than its two sides; that another split or another seed
would give another model is not in the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats, auc, auc_draws, blocks, recentred
from manikin.metrics.spaces import subsample
from manikin.metrics.target import Measured, Question, answered, leaks
from manikin.metrics.trees import TreeFeatures
from manikin.privacy.cells import SMALLEST_CELL, n_different

__all__ = ["REAL", "Gain", "average_precision", "downstream"]

REAL = "real rows only"
ROWS = 50_000  # to learn from, and to test on: beyond as many a random choice
RANGES = {"auc": (0.0, 1.0), "auprc": (0.0, 1.0), "brier": (0.0, 1.0)}


@dataclass(frozen=True)
class Gain:
    """How well a class is told by a model of some rows, and how much better than of real ones."""

    rows: str  # what was learned from
    level: str
    measure: str  # auc, auprc: higher is better; brier: lower
    value: float
    interval: tuple[float, float]
    gap: float  # value - that of the real rows only
    gap_interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """Return "better", "worse" or "" where chance may explain the difference."""
        low, high = self.gap_interval
        if self.rows == REAL or not (low > 0 or high < 0):
            return ""
        return "better" if (low > 0) != (self.measure == "brier") else "worse"


def downstream(
    arms: Mapping[str, Table], held: Table, target: str, levels: Sequence[str], *, seed: int
) -> tuple[Gain, ...]:
    """Learn each level of `target` from the rows of each arm, and test on held-out real rows.

    One arm is `REAL`. A level that fewer than eleven held-out subjects have, or lack, is left out.
    """
    rng = generator(seed, "augmentation")
    test = answered(subsample(held, ROWS, rng), target)
    sources = {name: answered(subsample(arm, ROWS, rng), target) for name, arm in arms.items()}
    real = sources[REAL]
    features = TreeFeatures.fit(real, leave_out=leaks(real.schema, target))
    if not features.columns:
        return ()
    dealt, model_seed = blocks(test.subjects, rng), int(rng.integers(2**31))
    x = features.matrix(test)
    found: list[Gain] = []
    for level in levels:
        question = Question(target, float(real.schema[target].categories.index(level)))
        yes = question.answers(test) > 0.5
        if min(n_different(test.subjects[yes]), n_different(test.subjects[~yes])) < SMALLEST_CELL:
            continue
        measured = {
            name: _measured(question.learn(features, source, seed=model_seed)(x), yes, dealt)
            for name, source in sources.items()
        }
        for name, own in measured.items():
            found += [_gain(name, level, what, own[what], measured[REAL][what]) for what in RANGES]
    return tuple(found)


def _gain(name: str, level: str, what: str, own: Measured, real: Measured) -> Gain:
    value, draws = own
    gap = value - real[0]
    around = recentred(gap, draws - real[1])
    return Gain(name, level, what, value, recentred(value, draws, *RANGES[what]), gap, around)


def _measured(
    chance: Floats, yes: np.ndarray[tuple[int], np.dtype[np.bool_]], dealt: Blocks
) -> dict[str, Measured]:
    wrong = (chance - yes) ** 2
    n = np.maximum(dealt.sums(np.ones(yes.size)), 1e-300)
    precision = average_precision(chance, yes, np.vstack([np.ones(yes.size), dealt.rows()]))
    return {
        "auc": (auc(chance, yes), auc_draws(chance, yes, dealt)),
        "auprc": (float(precision[0]), precision[1:]),
        "brier": (float(wrong.mean()), dealt.sums(wrong) / n),
    }


def average_precision(
    scores: Floats, yes: np.ndarray[tuple[int], np.dtype[np.bool_]], weights: Floats
) -> Floats:
    """Return the area under the precision-recall curve for each row of weights, (draws,).

    The sum over thresholds of precision times the recall gained there (no interpolation); rows of
    one score share a threshold. NaN where nobody is positive.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    heap = np.cumsum(weights[:, order], axis=1)[:, last]
    hits = np.cumsum(weights[:, order] * yes[order], axis=1)[:, last]
    gained = np.diff(hits, axis=1, prepend=0.0)
    precision = np.divide(hits, heap, out=np.zeros_like(hits), where=heap > 0)
    total = hits[:, -1]
    area = (gained * precision).sum(axis=1)
    whole: Floats = np.divide(area, total, out=np.full(total.shape, np.nan), where=total > 0)
    return whole
