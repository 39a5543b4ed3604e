"""Judges of whole patients, scored on those they were not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.metrics.histories import Side
from manikin.metrics.intervals import Floats, auc, auc_draws, recentred
from manikin.metrics.score import Score

__all__ = ["Predict", "Trained", "out_of_fold", "some_of"]

DRAWS = 200

Predict: TypeAlias = Callable[[NDArray[np.int64]], Floats]  # of which rows → their scores
Trained: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.bool_], int], Predict]


def some_of(side: Side, n: int, rng: np.random.Generator) -> Side:
    """Return a side with `n` of its subjects."""
    if side.events.n_subjects == n:
        return side
    chosen = np.sort(rng.permutation(side.events.subjects)[:n])
    return Side(side.events.take(chosen))


def out_of_fold(
    name: str, both: list[Side], trained: Trained, rng: np.random.Generator, *, folds: int
) -> Score:
    """Return the AUC within folds, pooled over them, of judges that never saw the fold.

    Rows are real subjects, then as many synthetic ones. `trained` is given the rows to learn from,
    which of these are synthetic, and a seed.
    """
    n = both[0].events.n_subjects
    fake = np.repeat([False, True], n)
    fold = np.concatenate([rng.permutation(n) % folds, rng.permutation(n) % folds])
    dealt = both[0].dealt(rng, DRAWS).beside(both[1].dealt(rng, DRAWS))
    values, draws, sizes = [], [], []
    for k in range(folds):
        inside, others = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        judge = trained(others, fake[others], int(rng.integers(2**31)))
        scores = judge(inside)
        values.append(auc(scores, fake[inside]))
        draws.append(auc_draws(scores, fake[inside], dealt.among(inside)))
        sizes.append(inside.size)
    share = np.array(sizes) / sum(sizes)
    value = float(share @ np.array(values))
    # as in fidelity/detection: Nadeau and Bengio (2003) for the training of the judges
    widened = math.sqrt(1 + folds / (folds - 1))
    return Score(name, value, recentred(value, share @ np.array(draws), 0, 1, widened=widened))
