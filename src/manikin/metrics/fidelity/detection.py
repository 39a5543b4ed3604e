"""Detection: can a classifier tell synthetic rows from held-out real ones?

A classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017) with histogram gradient-boosted
trees, cross-fitted over folds that keep a subject's rows together, at equal numbers of rows.
`auc` is the pooled out-of-fold area under the curve. `score` is the detection score of the
generative-model literature, 1 - mean over folds of (2 max(½, AUC) - 1), here against *held-out*
rows: against training rows a copier would be perfect.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats, auc, auc_draws, blocks, recentred
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
    "told apart need not matter for an analysis.",
    profile="quick",
)
ROWS = 20_000  # a side; beyond as many, a random choice
FOLDS = 5
FEWEST = 10  # rows a side


def detection(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Train the judge on synthetic against held-out rows and score it out of fold."""
    names = ("fidelity/detection.auc", "fidelity/detection.score")
    rng = generator(seed, "fidelity/detection")
    n = min(trial.holdout.n_rows, trial.synthetic.n_rows, ROWS)
    if n < FEWEST or not trial.holdout.schema.learned:
        why = f"fewer than {FEWEST} rows a side" if n < FEWEST else "no column to look at"
        return tuple(not_estimable(name, why) for name in names)
    sides = [subsample(table, n, rng) for table in (trial.holdout, trial.synthetic)]
    n_folds = min(FOLDS, *(side.n_subjects for side in sides))
    if n_folds < 2:
        return tuple(not_estimable(name, "fewer than two subjects a side") for name in names)
    folds = [_folds(side.subjects, n_folds, rng) for side in sides]
    encoder = TreeFeatures.fit(trial.train, written=True)
    features = np.concatenate([encoder.matrix(side) for side in sides])
    fake = np.repeat([False, True], n)
    fold = np.concatenate(folds)
    scores = _out_of_fold(features, fake, fold, encoder.unordered, rng)
    dealt = [blocks(side.subjects, rng) for side in sides]
    return _scores(names, scores, fake, fold, dealt)


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


def _scores(
    names: tuple[str, str],
    scores: Floats,
    fake: NDArray[np.bool_],
    fold: NDArray[np.intp],
    dealt: list[Blocks],
) -> tuple[Score, ...]:
    """Return the AUC of ranks within folds, pooled, and the detection score."""
    weights = np.concatenate([part.rows() for part in dealt], axis=1)  # (draws, rows)
    values, draws, sizes = [], [], []
    for k in np.unique(fold):
        inside = fold == k
        values.append(auc(scores[inside], fake[inside]))
        draws.append(auc_draws(scores[inside], fake[inside], weights[:, inside]))
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
        Score(names[0], area, recentred(area, area_draws, 0, 1, widened=widened)),
        Score(names[1], detected, recentred(detected, detected_draws, 0, 1, widened=widened)),
    )
