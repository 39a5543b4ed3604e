"""Detection: can a classifier tell synthetic rows from held-out real ones?

A classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017) with histogram gradient-boosted
trees, cross-fitted over folds that keep a subject's rows together, at equal numbers of rows.
`auc` is the pooled out-of-fold area under the curve. `score` is the detection score of the
generative-model literature, 1 - mean over folds of (2 max(½, AUC) - 1), here against *held-out*
rows: against training rows a copier would be perfect. `auc_logistic` is the area of a logistic
regression on single columns, which sees shifted means and shares but no relation.

`p_value`, of each classifier, is for the null that it cannot tell them apart. Permuting the labels
of all out-of-fold scores at once would not be valid: a score's judge was trained on other labels of
the same set. Within one fold it is, because that fold's judge never saw its labels: given the
judge, subjects of the fold are exchangeable. The folds' p-values depend on each other, and K/j
times the j-th smallest of K is a p-value however they do (Rüger, Metrika 1978); j is half of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics import logistic
from manikin.metrics.embedding import Embedding, whitened
from manikin.metrics.intervals import Blocks, Floats, auc, auc_draws, blocks, recentred
from manikin.metrics.permutation import Sides, p_score, p_value
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import subsample
from manikin.metrics.trees import TreeFeatures, classifier

__all__ = ["detection"]

CARD = Card(
    title="Detection (C2ST)",
    family="fidelity",
    better="near ceiling",
    reads="How well boosted trees tell synthetic rows from real ones they have not seen. AUC 0.5 "
    "and score 1 mean that they cannot; AUC 1 and score 0 that they always can. The strictest "
    "fidelity number here: one wrong detail in one column is enough to be told apart, and being "
    "told apart need not matter for an analysis. `auc_logistic` is a logistic regression's, which "
    "sees no relation between columns; a `p_value` near 0 means that they are told apart, a high "
    "one only that so few rows do not show it.",
    profile="quick",
)
ROWS = 20_000  # a side; beyond as many, a random choice
FOLDS, FOLDS_OF_MANY = 5, 3
MANY = 5_000  # rows a side from which three folds leave enough to learn from
LOGISTIC_ROWS = 5_000  # a side, of those
ROWS_EACH = 10  # rows a feature of the logistic regression
FEWEST = 10  # rows a side
PERMUTATIONS = 999


def detection(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Train the judges on synthetic against held-out rows and score them out of fold."""
    names = tuple(f"fidelity/detection.{what}" for what in ("auc", "score", "auc_logistic"))
    rng = generator(seed, "fidelity/detection")
    n = min(trial.holdout.n_rows, trial.synthetic.n_rows, ROWS)
    if n < FEWEST or not trial.holdout.schema.learned:
        why = f"fewer than {FEWEST} rows a side" if n < FEWEST else "no column to look at"
        return tuple(not_estimable(name, why) for name in names)
    sides = [subsample(table, n, rng) for table in (trial.holdout, trial.synthetic)]
    if min(side.n_subjects for side in sides) < 2:
        return tuple(not_estimable(name, "fewer than two subjects a side") for name in names)
    trees = _by_trees(trial.train, sides, rng)
    area, detected = _areas(trees, [blocks(side.subjects, rng) for side in sides])
    scores = [
        Score(names[0], *area),
        Score(names[1], *detected),
        _p_value(trees, "trees", sides, rng),
    ]
    rng = generator(seed, "fidelity/detection logistic")
    sides = [subsample(side, LOGISTIC_ROWS, rng) for side in sides]
    if min(side.n_subjects for side in sides) < 2:
        return (*scores, not_estimable(names[2], "fewer than two subjects a side"))
    line = _by_logistic(trial.train, sides, rng)
    area, _ = _areas(line, [blocks(side.subjects, rng) for side in sides])
    return (*scores, Score(names[2], *area), _p_value(line, "logistic", sides, rng))


@dataclass(frozen=True)
class Judged:
    """Rows of both sides as a judge that did not see their fold scores them, real rows first."""

    scores: Floats  # (rows,)
    fake: NDArray[np.bool_]
    fold: NDArray[np.intp]


def _by_trees(train: Table, sides: list[Table], rng: np.random.Generator) -> Judged:
    fold, fake = _dealt(sides, rng)
    encoder = TreeFeatures.fit(train, written=True, seen=tuple(sides))
    features = np.concatenate([encoder.matrix(side) for side in sides])
    return Judged(_out_of_fold(features, fake, fold, encoder.unordered, rng), fake, fold)


def _by_logistic(train: Table, sides: list[Table], rng: np.random.Generator) -> Judged:
    fold, fake = _dealt(sides, rng)
    embedding = Embedding.fit(train)
    rows = np.concatenate([embedding.dense(side) for side in sides])
    features = whitened(rows, max(1, fake.size // ROWS_EACH))
    scores = np.empty(fake.size)
    for k in np.unique(fold):
        inside = fold == k
        line = logistic.fit(features[~inside], fake[~inside])
        scores[inside] = features[inside] @ line[1:]
    return Judged(scores, fake, fold)


def _dealt(
    sides: list[Table], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the fold of every row, and whether it is synthetic."""
    most = FOLDS_OF_MANY if min(side.n_rows for side in sides) >= MANY else FOLDS
    n_folds = min(most, *(side.n_subjects for side in sides))
    fold = np.concatenate([_folds(side.subjects, n_folds, rng) for side in sides])
    return fold, np.repeat([False, True], [side.n_rows for side in sides])


def _folds(subjects: NDArray[np.int64], n_folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the fold of every row: subjects dealt evenly, largest first, a subject in one fold."""
    _, of_row, sizes = np.unique(subjects, return_inverse=True, return_counts=True)
    shuffled = rng.permutation(sizes.size)
    by_size = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    dealt = np.empty(sizes.size, dtype=np.intp)
    dealt[by_size] = np.arange(sizes.size) % n_folds
    return np.asarray(dealt[of_row])


def _out_of_fold(
    features: Floats,
    fake: NDArray[np.bool_],
    fold: NDArray[np.intp],
    unordered: list[bool],
    rng: np.random.Generator,
) -> Floats:
    """Return every row's score from the judge that did not see its fold."""
    scores = np.empty(fake.size)
    for k in np.unique(fold):
        inside = fold == k
        truth = fake[~inside].astype(np.int64)
        seed = int(rng.integers(2**31))
        judge = classifier(features[~inside], truth, unordered, seed=seed)
        scores[inside] = judge(features[inside])[:, 1]
    return scores


Valued = tuple[float, tuple[float, float]]


def _areas(judged: Judged, dealt: list[Blocks]) -> tuple[Valued, Valued]:
    """Return the AUC of ranks within folds, pooled, and the detection score."""
    scores, fake = judged.scores, judged.fake
    both = dealt[0].beside(dealt[1])
    values, draws, sizes = [], [], []
    for k in np.unique(judged.fold):
        inside = judged.fold == k
        values.append(auc(scores[inside], fake[inside]))
        draws.append(auc_draws(scores[inside], fake[inside], both.among(inside)))
        sizes.append(int(inside.sum()))
    # judges of different folds are on different scales: pool areas, not scores
    share = np.array(sizes) / sum(sizes)
    area = float(share @ np.array(values))
    of_folds = np.array(values)
    detected = 1 - float(np.mean(2 * np.maximum(0.5, of_folds) - 1))
    area_draws = share @ np.array(draws)
    detected_draws = 1 - np.mean(2 * np.maximum(0.5, np.array(draws)) - 1, axis=0)
    # resampling holds the judges fixed; Nadeau and Bengio (Mach. Learn. 2003) add the variance of
    # training them: times 1 + folds × test share / training share
    widened = math.sqrt(1 + len(values) / (len(values) - 1)) if len(values) > 1 else 1.0
    return (
        (area, recentred(area, area_draws, 0, 1, widened=widened)),
        (detected, recentred(detected, detected_draws, 0, 1, widened=widened)),
    )


def _p_value(
    judged: Judged, classifier_name: str, tables: list[Table], rng: np.random.Generator
) -> Score:
    """Return the p-value of the rank-sum test, subjects permuted within each fold."""
    subjects = np.concatenate([table.subjects for table in tables])
    found = []
    for k in np.unique(judged.fold):
        inside = judged.fold == k
        real, fake = inside & ~judged.fake, inside & judged.fake
        sides = Sides.deal(subjects[real], subjects[fake], rng)
        ranks = rankdata(np.concatenate([judged.scores[real], judged.scores[fake]]))
        sums = sides.sums((ranks - ranks.mean())[:, None])[:, 0]
        null = sides.permuted(PERMUTATIONS, rng) @ sums
        found.append(p_value(float(sums[sides.fake].sum()), null))
    j = (len(found) + 1) // 2
    p = min(1.0, len(found) / j * float(np.sort(found)[j - 1]))
    group = f"classifier={classifier_name}"
    return p_score("fidelity/detection.p_value", p, PERMUTATIONS, group)
