"""Forests whose leaves make columns independent, and the adversary that judges their rows.

Watson, Blesch, Kapar, Wright (AISTATS 2023), Algorithm 1: permute every column; grow a forest on
real against permuted rows; draw new rows from its leaves, column by column; repeat until its
out-of-bag accuracy is no better than chance. Beside the paper's splits there are `by_columns`
ones: permuted rows have the same columns as real ones, so that no first split tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.synthesizers.table._splits import Tree, grow

__all__ = ["Forest", "adversary", "by_columns", "resample"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

OWN = 0.3  # weight of a column itself, beside what other columns say of it
RIDGE = 0.02  # added to the correlations' diagonal, with a row's worth for each feature
CURVED = 0.7  # weight of a column's squares beside its scores
COMMON = 0.05  # share of rows from which a column's commonest code is looked at by itself
TARGETS = 12  # principal components of what is explained that splits look at


@dataclass(frozen=True)
class Forest:
    """Trees, and how often they were right about rows they had not seen."""

    trees: tuple[Tree, ...]
    accuracy: float = 0.5


# ------------------------------------------------------------------ trees that make independent


def by_columns(
    real: Ints,
    *,
    trees: int,
    min_leaf: int,
    max_features: float,
    max_rows: int,
    weight: Floats,
    rng: np.random.Generator,
) -> Forest:
    """Grow trees whose splits on one column make all others more alike within the leaves.

    Their targets are what the other columns say of each column, so that a split on noise gains
    little, not even for the column that it splits. A column counts by its `weight`. A tree alone
    sees all rows, each of several a bootstrap of them.
    """
    n = len(real)
    size = min(n, max_rows)
    within = real if n == size else real[rng.permutation(n)[:size]]
    target = _explained(within, weight)
    grown = []
    for _ in range(trees):
        chosen = rng.integers(0, size, size) if trees > 1 else np.arange(size)
        grown.append(grow(
            within[chosen], target[chosen], min_leaf=max(2, min_leaf * size // n),
            max_features=max_features, rng=rng,
        ))  # fmt: skip
    return Forest(tuple(grown))


def _explained(real: Ints, weight: Floats) -> Floats:
    """Return what a ridge regression on all other columns says of each column, (rows, targets).

    A column has its normal scores, their squares and its commonest code for features. With the
    inverse covariance P of all features, those of column B are expected at F_B - (F P)_B / P_BB.
    Sums of squares about means hardly change when only the largest principal components are kept.
    """
    n = len(real)
    features, whose = [], []
    for j, places in enumerate(real.T):
        count = np.bincount(places)
        own = [ndtri((np.cumsum(count) - count / 2) / n)[places]]
        if np.count_nonzero(count) > 2:
            own.append(_scaled(own[0]) ** 2 - _scaled(own[0]) * (_scaled(own[0]) ** 3).mean())
            if count.max() > COMMON * n:
                own.append((places == count.argmax()).astype(float))
        features += [_scaled(f) * (CURVED if i == 1 else 1) for i, f in enumerate(own)]
        whose += [j] * len(own)
    table, column = np.stack(features, axis=1), np.array(whose)
    ridge = (RIDGE + len(whose) / n) * np.eye(len(whose))
    inverse = np.linalg.inv(table.T @ table / n + ridge)
    turned, expected = table @ inverse, table.copy()
    for j in range(real.shape[1]):
        block = np.flatnonzero(column == j)
        expected[:, block] -= turned[:, block] @ np.linalg.inv(inverse[np.ix_(block, block)])
    target = ((1 - OWN) * expected + OWN * table) * weight[column]
    _, axes = np.linalg.eigh(target.T @ target)
    return np.asarray(target @ axes[:, : -TARGETS - 1 : -1])


def _scaled(values: Floats) -> Floats:
    centred = values - values.mean()
    return np.asarray(centred / max(float(centred.std()), 1e-9))


# ------------------------------------------------------------------ the adversary


def adversary(
    real: Ints,
    false: Ints,
    *,
    trees: int,
    min_leaf: int,
    max_features: float,
    max_rows: int,
    rng: np.random.Generator,
) -> Forest:
    """Grow a forest on real against false rows, each tree on a bootstrap of at most `max_rows`."""
    n = len(real)
    seen = np.concatenate([real, false])
    label = np.repeat([1.0, 0.0], n)
    votes = np.zeros(2 * n)
    grown = []
    for _ in range(trees):
        size = min(n, max_rows)
        chosen = np.concatenate([rng.integers(0, n, size), n + rng.integers(0, n, size)])
        tree = grow(
            seen[chosen], label[chosen, None], min_leaf=min_leaf, max_features=max_features, rng=rng
        )
        node = tree.apply(seen[chosen])
        held = np.bincount(node, minlength=tree.n_nodes)
        share = np.bincount(node, weights=label[chosen], minlength=tree.n_nodes) / np.maximum(
            held, 1
        )
        out = np.ones(2 * n, bool)
        out[chosen] = False
        rows = np.flatnonzero(out)
        rows = rows if rows.size <= 2 * max_rows else rng.choice(rows, 2 * max_rows, replace=False)
        votes[rows] += share[tree.apply(seen[rows])] - 0.5
        grown.append(tree)
    judged = np.flatnonzero(votes)
    right = (votes[judged] > 0) == (label[judged] == 1)
    return Forest(tuple(grown), float(right.mean()) if judged.size else 0.5)


def resample(real: Ints, forest: Forest | None, rng: np.random.Generator) -> Ints:
    """Return as many false rows: every value of a real row of the same leaf of a random tree."""
    n, p = real.shape
    if forest is None:
        return np.stack([real[rng.permutation(n), j] for j in range(p)], axis=1)
    false = np.empty_like(real)
    which = rng.integers(0, len(forest.trees), n)
    for t, tree in enumerate(forest.trees):
        rows = np.flatnonzero(which == t)
        leaf = tree.apply(real)
        order = np.argsort(leaf, kind="stable")
        first = np.searchsorted(leaf[order], np.arange(tree.n_nodes + 1))
        mine = leaf[rng.integers(0, n, rows.size)]
        size = (first[mine + 1] - first[mine])[:, None]
        at = first[mine][:, None] + (rng.random((rows.size, p)) * size).astype(np.int64)
        false[rows] = real[order[at], np.arange(p)]
    return false
