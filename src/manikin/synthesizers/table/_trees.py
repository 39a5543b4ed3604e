"""Trees as arrays: grown by scikit-learn, pruned, kept as plain arrays, walked in compiled code.

A tree here is only its splits. What its leaves hold is the business of whoever grew it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.tree._tree import NODE_DTYPE, Tree

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Predictors: TypeAlias = NDArray[np.float32]

MOST_POOLED = 0.9  # at most this share of a node's rows is drawn from its parent


@dataclass(frozen=True)
class Splits:
    """A binary tree: a row goes left where its `feature` is at most `threshold`; leaves are -1."""

    left: NDArray[np.int32]  # (nodes,) -1 at a leaf
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: Floats
    n_features: int
    chance: Floats  # (nodes,) share of the rows at a node that are drawn from its parent instead
    _compiled: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def n_nodes(self) -> int:
        """Number of nodes, leaves included."""
        return int(self.left.size)

    def apply(self, predictors: Predictors) -> Ints:
        """Return the node at which each row of `predictors` (rows, features) ends."""
        if self.n_nodes == 1:
            return np.zeros(predictors.shape[0], np.int64)
        if not self._compiled:
            self._compiled.append(self._compile())
        return np.asarray(self._compiled[0].apply(predictors), dtype=np.int64)

    def _compile(self) -> Any:
        nodes = np.zeros(self.n_nodes, dtype=NODE_DTYPE)
        nodes["left_child"], nodes["right_child"] = self.left, self.right
        nodes["feature"], nodes["threshold"] = self.feature, self.threshold
        nodes["n_node_samples"], nodes["weighted_n_node_samples"] = 1, 1.0
        tree = Tree(self.n_features, np.ones(1, dtype=np.intp), 1)
        values = np.zeros((self.n_nodes, 1, 1))
        tree.__setstate__(
            {"node_count": self.n_nodes, "max_depth": 1, "nodes": nodes, "values": values}
        )
        return tree

    def pooled(self, node: Ints, size: Ints, rng: np.random.Generator) -> Ints:
        """Return the leaf from which each row draws: its own, or one beside it.

        `node` (rows,) are leaves, `size` (nodes,) how much each holds. A leaf is an estimate from
        few rows; the less its split exceeds chance, the oftener a row draws from all that is
        below the split (shrinkage of each node towards its parent, as by James and Stein, Proc.
        4th Berkeley Symposium (1961); along trees: Agarwal et al., ICML 2022).
        """
        if not self.chance.any():
            return node
        inner = np.flatnonzero(self.left >= 0)
        parent, last = np.zeros(self.n_nodes, np.int64), np.arange(self.n_nodes)
        parent[self.left[inner]] = parent[self.right[inner]] = inner
        for i in inner[::-1]:  # nodes are numbered depth first: those below one are in a row
            last[i] = last[self.right[i]]
        at, going = node.copy(), np.arange(node.size)
        while going.size:
            going = going[rng.random(going.size) < self.chance[at[going]]]
            at[going] = parent[at[going]]
        moved = np.flatnonzero(at != node)
        upto = np.concatenate([[0], np.cumsum(size)])
        low, high = upto[at[moved]], upto[last[at[moved]] + 1]
        sought = low + rng.random(moved.size) * (high - low)
        at[moved] = np.searchsorted(upto, sought, side="right") - 1
        return at

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the nodes for a model file."""
        return {
            name: getattr(self, name)
            for name in ("left", "right", "feature", "threshold", "chance")
        }

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]], n_features: int) -> Splits:
        """Rebuild the tree whose `arrays` these are. Raises ValueError where they are no tree."""
        splits = Splits(
            arrays["left"], arrays["right"], arrays["feature"], arrays["threshold"], n_features,
            arrays["chance"],
        )  # fmt: skip
        splits._check()
        return splits

    def check_pool(self, starts: NDArray[Any], pool: NDArray[Any]) -> None:
        """Raise ValueError unless `starts` (nodes + 1,) shares a pool out among the nodes."""
        if (
            starts.shape != (self.n_nodes + 1,)
            or starts.dtype.kind != "i"
            or pool.ndim != 1
            or starts[0] != 0
            or starts[-1] != pool.size
            or (np.diff(starts) < 0).any()
        ):
            raise ValueError("pool of a tree")

    def _check(self) -> None:
        """Refuse what the compiled walk would follow in a circle, or out of its memory."""
        kinds = {"left": "i4", "right": "i4", "feature": "i4", "threshold": "f8", "chance": "f8"}
        for name, kind in kinds.items():
            array = getattr(self, name)
            if array.dtype != np.dtype(kind) or array.shape != (self.n_nodes,) or not array.size:
                raise ValueError(f"{name} of a tree")
        inner = np.flatnonzero(self.left >= 0)
        children = np.concatenate([self.left[inner], self.right[inner]])
        outer = np.delete(self.left, inner), np.delete(self.right, inner)
        if (
            not np.array_equal(np.sort(children), np.arange(1, self.n_nodes))  # one parent each
            or (self.left[inner] <= inner).any()  # and that one comes before them
            or (self.right[inner] <= self.left[inner]).any()
            or any((side != -1).any() for side in outer)
        ):
            raise ValueError("branches of a tree")
        if not ((self.feature[inner] >= 0) & (self.feature[inner] < self.n_features)).all():
            raise ValueError("features of a tree")
        if not np.isfinite(self.threshold).all():
            raise ValueError("thresholds of a tree")
        if not ((self.chance >= 0) & (self.chance <= MOST_POOLED)).all() or self.chance[0] > 0:
            raise ValueError("chances of a tree")


def leaf(n_features: int) -> Splits:
    """Return the tree that does not split."""
    none = np.full(1, -1, np.int32)
    return Splits(none, none, none, np.zeros(1), n_features, np.zeros(1))


def grow(
    predictors: Predictors,
    target: NDArray[Any],
    *,
    classify: bool,
    min_leaf: int,
    evidence: float,
    pooling: float,
    max_features: float | None,
    seed: int,
) -> Splits:
    """Grow one tree on `target`: labels (rows,) to classify, or numbers (rows, outputs).

    A split stands if twice its log-likelihood ratio exceeds its degrees of freedom by `evidence`,
    or if a split below it does: noise is not followed, interactions without main effect are.
    `pooling` times the share of that ratio that chance accounts for is drawn from the parent.
    """
    n, p = predictors.shape
    if p == 0 or n < 2 * min_leaf:
        return leaf(p)
    settings: dict[str, Any] = {
        "min_samples_leaf": min_leaf, "random_state": seed, "max_features": max_features,
    }  # fmt: skip
    if classify:
        grown = DecisionTreeClassifier(criterion="entropy", **settings).fit(predictors, target)
        # levels that the node holds, rare ones in part
        held = grown.tree_.value[:, 0, :] * grown.tree_.n_node_samples[:, None]
        freedom = np.maximum((-np.expm1(-held / 2)).sum(axis=1), 2.0) - 1
    else:
        grown = DecisionTreeRegressor(**settings).fit(predictors, target)
        freedom = np.ones(grown.tree_.node_count)
    tree = grown.tree_
    left, right = tree.children_left.copy(), tree.children_right.copy()
    total = tree.n_node_samples * tree.impurity
    inner = np.flatnonzero(left >= 0)
    below = total[left[inner]] + total[right[inner]]
    gain = np.zeros(left.size)
    if classify:  # scikit-learn's entropy is in bits
        gain[inner] = 2 * np.log(2) * (total[inner] - below)
    else:
        tiny = 1e-12 * max(float(total[0]), 1e-300)
        ratio = np.maximum(total[inner], tiny) / np.maximum(below, tiny)
        gain[inner] = tree.n_node_samples[inner] * np.log(ratio)
    bar = freedom - 1 + evidence
    for node in inner[::-1]:  # children come after their parent
        if gain[node] < bar[node] and left[left[node]] < 0 and left[right[node]] < 0:
            left[node] = right[node] = -1
    chance = np.zeros(left.size)
    by_chance = pooling * freedom[inner] / np.maximum(gain[inner], 1e-300)
    chance[tree.children_left[inner]] = np.minimum(by_chance, MOST_POOLED)
    chance[tree.children_right[inner]] = np.minimum(by_chance, MOST_POOLED)
    return _without_orphans(left, right, tree.feature, tree.threshold, chance, p)


def _without_orphans(
    left: Ints, right: Ints, feature: Ints, threshold: Floats, chance: Floats, p: int
) -> Splits:
    keep = np.zeros(left.size, bool)
    keep[0] = True
    for node in range(left.size):
        if keep[node] and left[node] >= 0:
            keep[[left[node], right[node]]] = True
    number = np.append(np.cumsum(keep) - 1, -1)
    inner = left[keep] >= 0
    return Splits(
        number[left[keep]].astype(np.int32),
        number[right[keep]].astype(np.int32),
        np.where(inner, feature[keep], -2).astype(np.int32),
        np.where(inner, threshold[keep], -2.0).astype(np.float64),
        p,
        chance[keep],
    )
