"""Forests whose leaves make columns independent, and the adversary that judges their rows.

Watson, Blesch, Kapar, Wright (AISTATS 2023), Algorithm 1: permute every column; grow a forest on
real against permuted rows; draw new rows from its leaves, column by column; repeat until its
out-of-bag accuracy is no better than chance. Beside the paper's splits there are `by_columns`
ones: permuted rows have the same columns as real ones, so that no first split tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from manikin.synthesizers.table._leaves import Bars, Leaves

__all__ = ["Column", "Forest", "adversary", "by_columns", "mixture", "resample"]

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Seen: TypeAlias = NDArray[np.float32]

OWN = 0.3  # weight of a column itself, beside what other columns say of it
RIDGE = 0.02  # added to the correlations' diagonal, with a row's worth for each feature
CURVED = 0.7  # weight of a column's squares beside its scores
COMMON = 0.05  # share of rows from which a column's commonest code is looked at by itself


@dataclass(frozen=True)
class Column:
    """What the leaves know of a column."""

    place: Ints  # (codes,) where each code stands
    share: Floats  # (codes,) of all rows, by place
    loose: Mask  # (codes,) by place: neighbours may stand in for it


@dataclass(frozen=True)
class Forest:
    """Trees of scikit-learn, and how often they were right about rows they had not seen."""

    trees: tuple[Any, ...]
    accuracy: float = 0.5


# ------------------------------------------------------------------ trees that make independent


def by_columns(
    real: Seen,
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
    little, not even for the column that it splits. A column counts by its `weight`.
    """
    n = len(real)
    size = min(n, max_rows)
    within = real if n == size else real[rng.permutation(n)[:size]]
    target = _explained(within, weight)
    grown = []
    for _ in range(trees):
        chosen = rng.integers(0, size, size)
        tree = DecisionTreeRegressor(
            min_samples_leaf=max(2, min_leaf * size // n), max_features=max_features,
            random_state=int(rng.integers(2**31)),
        ).fit(within[chosen], target[chosen])  # fmt: skip
        grown.append(tree.tree_)
    return Forest(tuple(grown))


def _explained(real: Seen, weight: Floats) -> Floats:
    """Return what a ridge regression on all other columns says of each column, (rows, features).

    A column has its normal scores, their squares and its commonest code for features. With the
    inverse covariance P of all features, those of column B are expected at F_B - (F P)_B / P_BB.
    """
    n = len(real)
    features, whose = [], []
    for j, places in enumerate(real.T.astype(np.int64)):
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
    return np.asarray(((1 - OWN) * expected + OWN * table) * weight[column])


def _scaled(values: Floats) -> Floats:
    centred = values - values.mean()
    return np.asarray(centred / max(float(centred.std()), 1e-9))


# ------------------------------------------------------------------ the adversary


def adversary(
    real: Seen,
    false: Seen,
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
    label = np.repeat([1, 0], n)
    votes = np.zeros(2 * n)
    grown = []
    for _ in range(trees):
        size = min(n, max_rows)
        chosen = np.concatenate([rng.integers(0, n, size), n + rng.integers(0, n, size)])
        tree = DecisionTreeClassifier(
            min_samples_leaf=min_leaf, max_features=max_features,
            random_state=int(rng.integers(2**31)),
        ).fit(seen[chosen], label[chosen])  # fmt: skip
        out = np.ones(2 * n, bool)
        out[chosen] = False
        rows = np.flatnonzero(out)
        rows = rows if rows.size <= 2 * max_rows else rng.choice(rows, 2 * max_rows, replace=False)
        if rows.size:
            votes[rows] += tree.predict_proba(seen[rows])[:, -1] - 0.5
        grown.append(tree.tree_)
    judged = np.flatnonzero(votes)
    right = (votes[judged] > 0) == (label[judged] == 1)
    return Forest(tuple(grown), float(right.mean()) if judged.size else 0.5)


def resample(real: Seen, forest: Forest | None, rng: np.random.Generator) -> Seen:
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
        first = np.searchsorted(leaf[order], np.arange(tree.node_count + 1))
        mine = leaf[rng.integers(0, n, rows.size)]
        size = (first[mine + 1] - first[mine])[:, None]
        at = first[mine][:, None] + (rng.random((rows.size, p)) * size).astype(np.int64)
        false[rows] = real[order[at], np.arange(p)]
    return false


# ------------------------------------------------------------------ from trees to densities


def mixture(
    places: Ints,
    seen: Seen,
    forest: Forest,
    columns: tuple[Column, ...],
    *,
    floor: int,
    rows_a_bar: int,
    reach: float,
    prior: float,
) -> Leaves:
    """Return the mixture over all leaves that hold real rows; `places` are (rows, columns)."""
    weights: list[Floats] = []
    sizes: list[Ints] = []
    parts: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in columns]
    limits = np.array([column.share.size for column in columns])
    for tree in forest.trees:
        leaf, own, row, low, high = _components(tree, seen, floor, limits)
        weights.append(own / (len(places) * len(forest.trees)))
        sizes.append(np.bincount(leaf, minlength=own.size))
        for j, column in enumerate(columns):
            box = low[:, j], high[:, j]
            parts[j].append((*_bars(leaf, places[row, j], *box, column, rows_a_bar, reach), *box))
    bars = []
    for column, part in zip(columns, parts, strict=True):
        held, begin, end, mass, least, most = (
            np.concatenate(each) for each in zip(*part, strict=True)
        )
        bars.append(
            Bars(
                column.place, column.share, np.concatenate([[0], np.cumsum(held)]),
                begin.astype(np.int32), end.astype(np.int32), mass.astype(np.float32),
                least.astype(np.int32), most.astype(np.int32),
            )
        )  # fmt: skip
    size = np.concatenate(sizes)
    return Leaves(np.concatenate(weights), np.asarray(prior / (size + prior)), tuple(bars))


def _components(
    tree: Any, seen: Seen, floor: int, limits: Ints
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Return (leaf, row) pairs, leaves in order, rows that are each leaf's own, and their boxes.

    A leaf with fewer than `floor` rows is described by the rows of the first node above it that
    has as many, as far as they lie in its box, column by column.
    """
    nodes = tree.apply(seen)
    count = np.bincount(nodes, minlength=tree.node_count).astype(np.int64)
    left, right = tree.children_left, tree.children_right
    inner = np.flatnonzero(left >= 0)
    parent = np.full(tree.node_count, -1, np.int64)
    parent[left[inner]] = parent[right[inner]] = inner
    leaves = np.flatnonzero(count > 0)  # only leaves hold rows; numbered depth first
    own = count[leaves]
    first, last = np.full(tree.node_count, leaves.size), np.full(tree.node_count, -1)
    number = np.arange(leaves.size)
    first[leaves] = last[leaves] = number
    at, moving = parent[leaves], number
    while moving.size:
        at, moving = at[at >= 0], moving[at >= 0]
        np.add.at(count, at, own[moving])
        np.minimum.at(first, at, moving)
        np.maximum.at(last, at, moving)
        at = parent[at]
        moving = moving if at.size else moving[:0]
    source = leaves.copy()
    while True:
        small = (count[source] < floor) & (parent[source] >= 0)
        if not small.any():
            break
        source[small] = parent[source[small]]
    order = np.argsort(nodes, kind="stable")
    upto = np.concatenate([[0], np.cumsum(own)])
    begin, size = upto[first[source]], upto[last[source] + 1] - upto[first[source]]
    leaf = np.repeat(number, size)
    row = order[begin[leaf] + np.arange(leaf.size) - np.repeat(np.cumsum(size) - size, size)]
    low, high = _boxes(tree, limits)
    return leaf, own, row, low[leaves], high[leaves]


def _boxes(tree: Any, limits: Ints) -> tuple[Ints, Ints]:
    """Return the first place of every node's box, and the one after its last, (nodes, columns)."""
    low = np.zeros((tree.node_count, limits.size), np.int64)
    high = np.repeat(limits[None, :], tree.node_count, axis=0)
    level = np.zeros(1, np.int64)
    while level.size:
        level = level[tree.children_left[level] >= 0]
        left, right = tree.children_left[level], tree.children_right[level]
        feature, cut = tree.feature[level], np.floor(tree.threshold[level]).astype(np.int64) + 1
        for child in (left, right):
            low[child], high[child] = low[level], high[level]
        high[left, feature] = cut
        low[right, feature] = cut
        level = np.concatenate([left, right])
    return low, high


def _bars(
    leaf: Ints,
    place: Ints,
    low: Ints,
    high: Ints,
    column: Column,
    rows_a_bar: int,
    reach: float,
) -> tuple[Ints, Ints, Ints, Floats]:
    """Return how many bars each leaf has, where each begins and ends, and its mass.

    Loose codes share a bar until it holds `rows_a_bar` rows; a bar of loose codes reaches half
    way to the next one, not beyond a code that is not loose nor `reach` of all rows away.
    """
    inside = (place >= low[leaf]) & (place < high[leaf])
    leaf, place = leaf[inside], place[inside]
    size = column.share.size
    keys, count = np.unique(leaf * size + place, return_counts=True)
    leaf, place = keys // size, keys % size
    upto = np.concatenate([[0.0], np.cumsum(column.share)])
    tight = np.concatenate([[0], np.cumsum(~column.loose)])  # tight codes before each place
    alone = ~column.loose[place] | (count >= rows_a_bar)
    opens = np.concatenate([[True], leaf[1:] != leaf[:-1]])
    before = np.cumsum(count) - count
    nth = (before - before[opens][np.cumsum(opens) - 1]) // rows_a_bar
    new = opens.copy()
    new[1:] |= alone[1:] | alone[:-1] | (nth[1:] != nth[:-1])
    new[1:] |= tight[place[1:]] != tight[place[:-1] + 1]
    new[1:] |= upto[place[1:]] - upto[place[:-1] + 1] > reach
    at = np.flatnonzero(new)
    whose, begin = leaf[at], place[at]
    end = place[np.append(at[1:], keys.size) - 1] + 1
    mass = np.add.reduceat(count, at).astype(float)
    mass /= np.bincount(whose, weights=mass, minlength=low.size)[whose]
    begin, end = _widened(whose, begin, end, low, high, column, upto, tight, reach)
    return np.bincount(whose, minlength=low.size), begin, end, mass


def _widened(
    leaf: Ints,
    begin: Ints,
    end: Ints,
    low: Ints,
    high: Ints,
    column: Column,
    upto: Floats,
    tight: Ints,
    reach: float,
) -> tuple[Ints, Ints]:
    able = column.loose[begin]
    same = leaf[1:] == leaf[:-1]
    middle = np.searchsorted(upto, (upto[end[:-1]] + upto[begin[1:]]) / 2)
    middle = np.clip(middle, end[:-1], begin[1:])
    left, right = low[leaf].copy(), high[leaf].copy()
    left[1:] = np.where(same, middle, left[1:])
    right[:-1] = np.where(same, middle, right[:-1])
    left = np.maximum(left, np.searchsorted(upto, upto[begin] - reach))
    right = np.minimum(right, np.searchsorted(upto, upto[end] + reach, side="right") - 1)
    edge = np.searchsorted(tight, tight[begin], side="left")  # after the last tight code before
    left = np.maximum(left, edge)
    right = np.minimum(right, np.searchsorted(tight, tight[end], side="right") - 1)
    left, right = np.minimum(left, begin), np.maximum(right, end)
    return np.where(able, left, begin), np.where(able, right, end)
