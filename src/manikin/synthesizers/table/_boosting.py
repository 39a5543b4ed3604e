"""Boosted trees for one yes or no: grown by scikit-learn, kept as plain arrays, scored in numpy.

Newton boosting of the log-likelihood (Friedman, Annals of Statistics 29 (2001); Chen and Guestrin,
KDD 2016, eq. 5-7) on binned predictors with native categories (Ke et al., NIPS 2017). Trees have
at most eight leaves, so that the leaves a row can still reach are the bits of one byte: a split
clears some of them, and the lowest bit left is the row's leaf (QuickScorer: Lucchese et al., SIGIR
2015). Nothing is walked, so nothing that a file holds can lead a walk astray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble._hist_gradient_boosting.grower import TreeGrower

__all__ = ["BINS", "Booster", "Growth", "grow"]

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

BINS = 128  # bins of a predictor; the last is never used
LEAVES = 8
BLOCK = 2_000_000  # rows times trees that are scored together
FARTHEST = 12.0  # log odds beyond which no row is certain
WAIT = 5  # idle trees before growth stops, at least; one more for each hundred rows
GAIN = 0.1  # nats of all held-out rows together that count as a gain
LOWEST = np.array([(i & -i).bit_length() - 1 if i else 0 for i in range(256)], np.uint8)


@dataclass(frozen=True)
class Growth:
    """How trees are grown."""

    rounds: int  # most
    rate: float
    leaf: int
    penalty: float
    patience: int


@dataclass(frozen=True)
class Booster:
    """A sum of trees: what is added to the log odds of a row."""

    feature: Ints  # (splits,)
    tree: Ints  # (splits,)
    right: Bytes  # (splits, BINS / 8) the bins that go right, as bits
    keeps: Bytes  # (splits,) the leaves that a row which goes right can still reach, as bits
    values: NDArray[np.float32]  # (trees, LEAVES)

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.values)

    def scores(self, seen: Bytes) -> Floats:
        """Return the sum over trees for rows of bins (rows, features)."""
        total = np.zeros(len(seen))
        if not self.n_trees or not self.feature.size:
            return total
        used, at = np.unique(self.feature, return_inverse=True)
        reach = np.full((used.size, BINS, self.n_trees), 255, np.uint8)
        kept = np.where(np.unpackbits(self.right, axis=1) > 0, self.keeps[:, None], np.uint8(255))
        where = (at[:, None], np.arange(BINS)[None, :], self.tree[:, None])
        np.bitwise_and.at(reach, where, kept)
        flat, start = self.values.ravel(), np.arange(self.n_trees) * LEAVES
        step = max(1, BLOCK // self.n_trees)
        for first in range(0, len(seen), step):
            rows = seen[first : first + step]
            left = reach[0][rows[:, used[0]]]  # (rows, trees)
            for i in range(1, used.size):
                left &= reach[i][rows[:, used[i]]]
            total[first : first + step] = flat[LOWEST[left] + start].sum(axis=1, dtype=np.float64)
        return total

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays for a model file."""
        names = ("feature", "tree", "right", "keeps", "values")
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]], n_features: int) -> Booster:
        """Rebuild a booster; raise ValueError where its arrays are none."""
        made = Booster(**{n: arrays[n] for n in ("feature", "tree", "right", "keeps", "values")})
        splits, trees = made.feature.size, len(made.values)
        shapes = (
            made.feature.shape == made.tree.shape == made.keeps.shape == (splits,)
            and made.right.shape == (splits, BINS // 8)
            and made.values.shape == (trees, LEAVES)
        )
        kinds = made.right.dtype == made.keeps.dtype == np.uint8
        whole = made.feature.dtype.kind == made.tree.dtype.kind == "i"
        if not (shapes and kinds and whole and made.values.dtype == np.float32):
            raise ValueError("arrays of boosted trees")
        for index, end in ((made.feature, n_features), (made.tree, trees)):
            if ((index < 0) | (index >= end)).any():
                raise ValueError("splits of boosted trees")
        if not (np.abs(made.values) <= FARTHEST).all():
            raise ValueError("leaves of boosted trees")
        return made


def none() -> Booster:
    """Return the booster of no trees."""
    empty = np.zeros(0, np.int64)
    return Booster(empty, empty, np.zeros((0, BINS // 8), np.uint8), np.zeros(0, np.uint8),
                   np.zeros((0, LEAVES), np.float32))  # fmt: skip


def grow(
    seen: Bytes,
    target: NDArray[np.bool_],
    start: Floats,
    held: NDArray[np.bool_],
    nominal: NDArray[np.bool_],
    growth: Growth,
    rng: np.random.Generator,
) -> Booster:
    """Grow trees on all rows of bins (rows, features), as many as predict the `held` rows best.

    `start` (rows,) are the log odds that are known beforehand.
    """
    fitted, kept = np.flatnonzero(~held), np.flatnonzero(held)
    if min(fitted.size, kept.size) < 1 or fitted.size < 2 * growth.leaf or not seen.shape[1]:
        return none()
    predictors = _Boosting(seen[fitted], target[fitted], start[fitted], nominal, growth, rng)
    other, margin = np.asfortranarray(seen[kept]), start[kept].copy()
    best, rounds = _loss(margin, target[kept]), 0
    patience = min(growth.patience, WAIT + len(seen) // 100)  # few rows show nothing but noise
    while len(predictors.trees) < growth.rounds and predictors.step():
        margin += predictors.trees[-1].predict_binned(other, BINS - 1, 1)
        loss = _loss(margin, target[kept])
        if loss < best - GAIN:
            best, rounds = loss, len(predictors.trees)
        elif len(predictors.trees) - rounds >= patience:
            break
    if not rounds:
        return none()
    again = _Boosting(seen, target, start, nominal, growth, rng)
    while len(again.trees) < rounds and again.step():
        pass
    return _as_arrays(again.trees)


def _loss(margin: Floats, target: NDArray[np.bool_]) -> float:
    return float(np.logaddexp(0.0, np.where(target, -margin, margin)).sum())


class _Boosting:
    """Trees in the making."""

    def __init__(
        self, seen: Bytes, target: NDArray[np.bool_], start: Floats,
        nominal: NDArray[np.bool_], growth: Growth, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.seen, self.target, self.margin = np.asfortranarray(seen), target, start.copy()
        self.nominal, self.growth, self.rng = nominal, growth, rng
        self.trees: list[Any] = []
        self.places = np.tile(np.arange(BINS, dtype=np.float64), (seen.shape[1], 1))

    def step(self) -> bool:
        """Add a tree; return whether there was one to add."""
        chance = expit(self.margin)
        grower = TreeGrower(
            self.seen,
            (chance - self.target).astype(np.float32),
            np.maximum(chance * (1 - chance), 1e-6).astype(np.float32),
            max_leaf_nodes=LEAVES, min_samples_leaf=self.growth.leaf, n_bins=BINS,
            n_bins_non_missing=BINS - 1, is_categorical=self.nominal.astype(np.uint8),
            l2_regularization=self.growth.penalty, shrinkage=self.growth.rate, rng=self.rng,
            n_threads=1,
        )  # fmt: skip
        grower.grow()
        if grower.n_nodes < 3:
            return False
        self.trees.append(grower.make_predictor(self.places))
        self.margin += self.trees[-1].predict_binned(self.seen, BINS - 1, 1)
        np.clip(self.margin, -FARTHEST, FARTHEST, out=self.margin)
        return True


def _as_arrays(trees: list[Any]) -> Booster:
    """Return scikit-learn's trees as splits and leaves."""
    feature, tree, right, keeps = [], [], [], []
    values = np.zeros((len(trees), LEAVES), np.float32)
    for t, grown in enumerate(trees):
        nodes, n_leaves = grown.nodes, 0
        below: dict[int, int] = {}  # node → its leaves, as bits
        for node, is_right in _in_order(nodes):
            if nodes["is_leaf"][node]:
                values[t, n_leaves] = np.clip(nodes["value"][node], -FARTHEST, FARTHEST)
                below[node] = 1 << n_leaves
                n_leaves += 1
            elif is_right:  # both its sides are known
                lower, upper = int(nodes["left"][node]), int(nodes["right"][node])
                below[node] = below[lower] | below[upper]
                feature.append(int(nodes["feature_idx"][node]))
                tree.append(t)
                right.append(_bins_right(grown, node))
                keeps.append(255 ^ below[lower])
    packed = np.packbits(np.array(right, bool).reshape(-1, BINS), axis=1)
    return Booster(np.array(feature, np.int64), np.array(tree, np.int64), packed,
                   np.array(keeps, np.uint8), values)  # fmt: skip


def _in_order(nodes: NDArray[Any]) -> list[tuple[int, bool]]:
    """Return nodes from left to right, inner ones again (True) after what is below them."""
    found, waiting = [], [(0, False)]
    while waiting:
        node, done = waiting.pop()
        found.append((node, done))
        if not done and not nodes["is_leaf"][node]:
            below = (int(nodes["right"][node]), int(nodes["left"][node]))
            waiting += [(node, True), (below[0], False), (below[1], False)]
    return found


def _bins_right(grown: Any, node: int) -> NDArray[np.bool_]:
    bins = np.arange(BINS)
    if not grown.nodes["is_categorical"][node]:
        return np.asarray(bins > grown.nodes["bin_threshold"][node], dtype=np.bool_)
    bits = grown.binned_left_cat_bitsets[grown.nodes["bitset_idx"][node]]  # (8,) 32 bins each
    left = (bits[bins // 32] >> (bins % 32).astype(np.uint32)) & 1
    return np.asarray(left == 0, dtype=np.bool_)
