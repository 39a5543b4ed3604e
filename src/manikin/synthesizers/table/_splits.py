"""Trees that explain many numbers at once, grown level by level on binned places.

CART (Breiman, Friedman, Olshen, Stone 1984, §8.4) with the sum of squares over all targets, and
candidate cuts between about `CUTS` bins of equal counts, as in LightGBM (Ke et al., NeurIPS 2017,
§2.1): all nodes of a level are split together, by counts in (node, column, bin).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tree", "grow"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

CUTS = 64  # bins of a column between which a split may fall
CELLS = 1_000_000  # (rows, columns) or (nodes, columns, bins) counted at a time


@dataclass(frozen=True)
class Tree:
    """A binary tree: a row goes left where it stands before `cut`; a leaf has -1 for `left`."""

    left: Ints  # (nodes,) children come after their parents
    right: Ints
    feature: Ints
    cut: Ints  # (nodes,) the first place of the right child

    @property
    def n_nodes(self) -> int:
        """Number of nodes, leaves included."""
        return int(self.left.size)

    def apply(self, places: Ints) -> Ints:
        """Return the leaf of each row (rows, columns)."""
        node = np.zeros(len(places), np.int64)
        rows = np.flatnonzero(self.left[node] >= 0)
        while rows.size:
            at = node[rows]
            right = places[rows, self.feature[at]] >= self.cut[at]
            node[rows] = np.where(right, self.right[at], self.left[at])
            rows = rows[self.left[node[rows]] >= 0]
        return node

    def boxes(self, limits: Ints) -> tuple[Ints, Ints]:
        """Return the first place of every node's box, the one after its last: (nodes, columns)."""
        low = np.zeros((self.n_nodes, limits.size), np.int64)
        high = np.repeat(limits[None, :], self.n_nodes, axis=0)
        level = np.zeros(1, np.int64)
        while level.size:
            level = level[self.left[level] >= 0]
            left, right = self.left[level], self.right[level]
            for child in (left, right):
                low[child], high[child] = low[level], high[level]
            high[left, self.feature[level]] = self.cut[level]
            low[right, self.feature[level]] = self.cut[level]
            level = np.concatenate([left, right])
        return low, high


def grow(
    places: Ints,
    target: Floats,
    *,
    min_leaf: int,
    max_features: float,
    rng: np.random.Generator,
) -> Tree:
    """Return the tree whose leaves, of `min_leaf` rows or more, explain the targets (rows, d)."""
    p = places.shape[1]
    edges = [_edges(column) for column in places.T]  # each a bin's first place, but the first's
    binned = np.stack(
        [np.searchsorted(e, c, side="right") for e, c in zip(edges, places.T, strict=True)], axis=1
    )
    n_bins = max(e.size for e in edges) + 1
    left, right, feature, cut = ([np.full(1, -1)] for _ in range(4))
    node = np.zeros(len(places), np.int64)  # number of each row's node in this level
    rows, first, size = np.arange(len(places)), 0, 1
    while rows.size:
        able = rng.random((size, p)).argsort(axis=1) < max(1, round(max_features * p))
        gain, column, bin_ = _best(binned[rows], target[rows], node, size, n_bins, min_leaf, able)
        splits = np.flatnonzero(gain > 1e-9)
        children = first + size + 2 * np.arange(splits.size)
        left[-1][splits], right[-1][splits] = children, children + 1
        feature[-1][splits] = column[splits]
        cut[-1][splits] = [edges[j][b] for j, b in zip(column[splits], bin_[splits], strict=True)]
        place = np.full(size, -1)
        place[splits] = 2 * np.arange(splits.size)
        kept = place[node] >= 0
        rows, node = rows[kept], node[kept]
        node = place[node] + (binned[rows, column[node]] > bin_[node])
        first, size = first + size, 2 * splits.size
        if size:
            for part in (left, right, feature, cut):
                part.append(np.full(size, -1))
    return Tree(*(np.concatenate(part) for part in (left, right, feature, cut)))


def _edges(places: Ints) -> Ints:
    """Return places at which a new bin begins: all, or about `CUTS` at equal counts."""
    count = np.bincount(places)
    held = np.flatnonzero(count)
    if held.size <= CUTS:
        return held[1:]
    upto = np.cumsum(count[held])
    bin_ = np.minimum((upto - count[held] / 2) * CUTS // upto[-1], CUTS - 1).astype(np.int64)
    return np.asarray(held[1:][np.diff(bin_) > 0])


def _best(
    binned: Ints,
    target: Floats,
    node: Ints,
    n_nodes: int,
    n_bins: int,
    min_leaf: int,
    able: NDArray[np.bool_],
) -> tuple[Floats, Ints, Ints]:
    """Return each node's best gain in sums of squares, its column, and the last bin on the left."""
    p = binned.shape[1]
    gain, column, last = np.zeros(n_nodes), np.zeros(n_nodes, int), np.zeros(n_nodes, int)
    step = max(1, min(CELLS // max(len(binned), 1), CELLS // (n_nodes * n_bins)))
    total = np.stack([np.bincount(node, weights=t, minlength=n_nodes) for t in target.T], axis=1)
    n_rows = np.bincount(node, minlength=n_nodes)
    for start in range(0, p, step):
        part = binned[:, start : start + step]
        width = part.shape[1]
        key = ((node[:, None] * width + np.arange(width)) * n_bins + part).ravel()
        shape = (n_nodes, width, n_bins)
        cells = n_nodes * width * n_bins
        held = np.bincount(key, minlength=cells).reshape(shape).cumsum(axis=2)
        beyond = n_rows[:, None, None] - held
        explained = np.zeros(shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            for d, values in enumerate(target.T):
                sums = np.bincount(key, weights=np.repeat(values, width), minlength=cells)
                upto = sums.reshape(shape).cumsum(axis=2)
                whole = total[:, d, None, None]
                explained += upto**2 / held + (whole - upto) ** 2 / beyond
        possible = (held >= min_leaf) & (beyond >= min_leaf) & able[:, start : start + step, None]
        explained -= ((total**2).sum(axis=1) / np.maximum(n_rows, 1))[:, None, None]
        flat = np.where(possible, explained, 0.0).reshape(n_nodes, -1)
        at = flat.argmax(axis=1)
        better = flat[np.arange(n_nodes), at] > gain
        gain = np.where(better, flat[np.arange(n_nodes), at], gain)
        column = np.where(better, start + at // n_bins, column)
        last = np.where(better, at % n_bins, last)
    return gain, column, last
