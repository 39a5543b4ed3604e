"""From trees to densities: one histogram a column in each leaf (Watson et al. 2023, Algorithm 2).

A bar is a stretch of places on which codes lie in proportion to their shares in the whole table.
Part of a leaf's mass, `prior` rows' worth, is spread over its whole box in that proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.table._leaves import Steps
from manikin.synthesizers.table._splits import Tree

__all__ = ["Column", "describe"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

LEAST = 1e-6  # weight of a last leaf that holds everything: nothing has no probability at all


@dataclass(frozen=True)
class Column:
    """What the leaves know of a column."""

    place: Ints  # (codes,) where each code stands
    share: Floats  # (codes,) of all rows, by place
    loose: Mask  # (codes,) by place: neighbours may stand in for it


def describe(
    places: Ints,
    trees: Sequence[Tree],
    columns: tuple[Column, ...],
    *,
    floor: int,
    rows_a_bar: int,
    reach: float,
    prior: float,
) -> tuple[Floats, tuple[Steps, ...], tuple[Ints, ...]]:
    """Return the leaves' weights, their columns, and each row's leaf by tree.

    The leaves are all those of all trees that hold rows, and last one that holds everything.
    """
    limits = np.array([column.share.size for column in columns])
    weights: list[Floats] = []
    parts: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in columns]
    own_leaf, before = [], 0
    for tree in trees:
        leaf, row, own, number, low, high = _rows(tree, places, floor, limits)
        weights.append((1 - LEAST) * own / (len(places) * len(trees)))
        own_leaf.append(before + number)
        before += own.size
        size = np.bincount(leaf, minlength=own.size)
        for j, column in enumerate(columns):
            box = low[:, j], high[:, j]
            bars = _bars(leaf, places[row, j], *box, column, rows_a_bar, reach)
            parts[j].append(_steps(*bars, *box, np.asarray(prior / (size + prior), float), column))
    found = []
    for column, part in zip(columns, parts, strict=True):
        part.append((np.array([2]), np.array([0, column.share.size]), np.array([0.0, 1.0])))
        held, edge, upto = (np.concatenate(each) for each in zip(*part, strict=True))
        start = np.concatenate([[0], np.cumsum(held)])
        found.append(Steps(column.place, column.share, start, edge.astype(np.int32), upto))
    return np.concatenate([*weights, [LEAST]]), tuple(found), tuple(own_leaf)


def _rows(
    tree: Tree, places: Ints, floor: int, limits: Ints
) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    """Return (leaf, row) pairs, rows that are each leaf's own, each row's leaf, leaves' boxes.

    A leaf with fewer than `floor` rows is described by the rows of the first node above it that
    has as many, as far as they lie in its box, column by column.
    """
    nodes = tree.apply(places)
    count = np.bincount(nodes, minlength=tree.n_nodes)
    parent, below = np.full(tree.n_nodes, -1), (count > 0).astype(np.int64)
    inner = np.flatnonzero(tree.left >= 0)
    parent[tree.left[inner]] = parent[tree.right[inner]] = inner
    for node in inner[::-1]:  # children come after their parents
        pair = [tree.left[node], tree.right[node]]
        count[node], below[node] = count[pair].sum(), below[pair].sum()
    first = np.zeros(tree.n_nodes, np.int64)  # depth first, how many leaves come before a node's
    for node in inner:
        first[tree.left[node]] = first[node]
        first[tree.right[node]] = first[node] + below[tree.left[node]]
    leaves = np.flatnonzero((tree.left < 0) & (count > 0))
    leaves = leaves[np.argsort(first[leaves])]
    number = first[nodes]
    source = leaves.copy()
    while True:
        small = (count[source] < floor) & (parent[source] >= 0)
        if not small.any():
            break
        source[small] = parent[source[small]]
    order = np.argsort(number, kind="stable")
    upto = np.concatenate([[0], np.cumsum(count[leaves])])
    begin, size = upto[first[source]], count[source]
    leaf = np.repeat(np.arange(leaves.size), size)
    row = order[begin[leaf] + np.arange(leaf.size) - np.repeat(np.cumsum(size) - size, size)]
    low, high = tree.boxes(limits)
    return leaf, row, count[leaves], number, low[leaves], high[leaves]


def _steps(
    held: Ints,
    begin: Ints,
    end: Ints,
    mass: Floats,
    low: Ints,
    high: Ints,
    background: Floats,
    column: Column,
) -> tuple[Ints, Ints, Floats]:
    """Return how many edges each leaf has, where they are, and how much lies before each."""
    within = np.concatenate([[0.0], np.cumsum(column.share)])
    width = column.share.size + 1
    leaf = np.repeat(np.arange(held.size), held)
    all_leaves = np.arange(held.size)
    keys = [leaf * width + begin, leaf * width + end, all_leaves * width + low,
            all_leaves * width + high]  # fmt: skip
    key = np.unique(np.concatenate(keys))
    whose, edge = key // width, key % width
    mine = np.zeros(key.size)
    mine[np.searchsorted(key, keys[0])] = mass * (1 - background[leaf])
    density = background / (within[high] - within[low])
    same = np.append(whose[1:] == whose[:-1], False)
    step = within[np.append(edge[1:], 0)] - within[edge]
    mine = np.where(same, mine + step * density[whose], 0.0)
    upto = np.concatenate([[0.0], np.cumsum(mine)[:-1]])
    first = np.searchsorted(whose, all_leaves)
    last = np.append(first[1:], key.size) - 1
    upto -= upto[first][whose]
    upto /= upto[last][whose]
    upto[last] = 1.0
    return np.bincount(whose, minlength=held.size), edge, np.clip(upto, 0.0, 1.0)


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
