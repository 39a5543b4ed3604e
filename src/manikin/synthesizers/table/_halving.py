"""The codes of a column as the leaves of a binary tree that halves the rows again and again.

A draw of one of many codes becomes a handful of draws of one of two: first the missing marks apart
from the values, then the lower half of the rows from the upper, and so on (hierarchical bins). A
step that nothing is known of costs nothing, and codes that lie near each other share all but the
last steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Halving", "even"]

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

MOST_STEPS = 60  # no code lies deeper: fifty steps halve more rows than there are people


@dataclass(frozen=True)
class Halving:
    """A binary tree over codes: node 0 is the root, every child comes after its parent."""

    children: Ints  # (nodes, 2) the lower and the upper child: a node, or ~code
    n_codes: int
    level: Ints = field(init=False)  # (nodes,) steps from the root
    rank: Ints = field(init=False)  # (nodes,) place among the nodes of its level
    steps: Codes = field(init=False)  # (codes, levels) the node at each level, -1: drawn already
    sides: NDArray[np.bool_] = field(init=False)  # (codes, levels) whether it is above there

    def __post_init__(self) -> None:
        """Follow every code from the root; raise ValueError unless each is met once."""
        level, rank, steps, sides = _follow(self.children, self.n_codes)
        for name, value in (("level", level), ("rank", rank), ("steps", steps), ("sides", sides)):
            object.__setattr__(self, name, value)

    @staticmethod
    def fit(counts: Ints, *, tokens: int, order: Ints) -> Halving:
        """Halve the codes in `order`, by rows; the first `tokens` of it stand apart first."""
        heap = np.concatenate([[0.0], np.cumsum(counts[order] + 0.5)])
        children: list[list[int]] = []
        waiting = [(0, order.size, -1, 0, tokens)] if order.size > 1 else []
        for low, high, parent, side, first in waiting:
            node = len(children)
            children.append([0, 0])
            if parent >= 0:
                children[parent][side] = node
            cut = low + first
            if not low < cut < high:
                middle = (heap[low] + heap[high]) / 2
                inner = heap[low + 1 : high]
                cut = low + 1 + int(np.argmin(np.abs(inner - middle)))
            for at, (a, b) in enumerate(((low, cut), (cut, high))):
                if b - a > 1:  # the list grows while it is gone through: level by level
                    waiting.append((a, b, node, at, 0))
                else:
                    children[node][at] = ~int(order[a])
        return Halving(np.array(children, np.int64).reshape(-1, 2), int(order.size))

    @property
    def n_levels(self) -> int:
        """Most steps to a code."""
        return int(self.level.max(initial=-1)) + 1

    def rows(self, counts: NDArray[Any]) -> Floats:
        """Return the rows below each side of each node, (nodes, 2), when codes have `counts`."""
        held = np.zeros(self.children.shape)
        for level in range(self.n_levels):
            codes = np.flatnonzero(self.steps[:, level] >= 0)
            at = (self.steps[codes, level], self.sides[codes, level].astype(np.int64))
            np.add.at(held, at, counts[codes])
        return held


def _follow(children: Ints, n_codes: int) -> tuple[Ints, Ints, Codes, NDArray[np.bool_]]:
    n_nodes = len(children)
    if n_codes < 1 or children.shape != (n_nodes, 2) or n_nodes != n_codes - 1:
        raise ValueError("a tree of codes has one node fewer than codes")
    inner = np.sort(children[children >= 0])
    leaves = np.sort(~children[children < 0])
    once = np.array_equal(inner, np.arange(1, n_nodes))
    if n_nodes and not (once and np.array_equal(leaves, np.arange(n_codes))):
        raise ValueError("nodes and codes of a tree of codes")
    if (children[children >= 0] <= np.nonzero(children >= 0)[0]).any():
        raise ValueError("a child before its parent in a tree of codes")
    level, rank = np.zeros(n_nodes, np.int64), np.zeros(n_nodes, np.int64)
    now, nodes_at, number = np.zeros(min(n_nodes, 1), np.int64), [], 0
    while now.size:
        if number >= MOST_STEPS:
            raise ValueError("a tree of codes that is too deep")
        level[now], rank[now] = number, np.arange(now.size)
        nodes_at.append(now)
        below = children[now].ravel()
        now, number = below[below >= 0], number + 1
    parent = np.full(n_nodes, -1, np.int64)
    above = np.zeros(n_nodes, bool)
    of, side = np.nonzero(children >= 0)
    parent[children[of, side]], above[children[of, side]] = of, side > 0
    steps = np.full((n_codes, number), -1, np.int32)
    sides = np.zeros((n_codes, number), bool)
    of, side = np.nonzero(children < 0)
    codes, at, up = ~children[of, side], of, side > 0
    while codes.size:  # all codes at once, one step towards the root after another
        steps[codes, level[at]], sides[codes, level[at]] = at, up
        going = parent[at] >= 0
        codes, up, at = codes[going], above[at[going]], parent[at[going]]
    return level, rank, steps, sides


def even(chance: Floats, group: Ints, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return one draw a row, true with its `chance`, spread evenly over rows of like chance.

    Systematic sampling along the chances of each group: among rows of any range of chances, as
    many are drawn as are due, give or take one. Independent draws would add their own noise to
    that of the sample, which is what a judge sees first.
    """
    shuffled = rng.permutation(chance.size)
    order = shuffled[np.lexsort((chance[shuffled], group[shuffled]))]
    upto = np.cumsum(chance[order]) + rng.random()
    drawn = np.empty(chance.size, bool)
    drawn[order] = np.diff(np.floor(upto), prepend=np.floor(upto[:1] - chance[order[:1]])) > 0
    return drawn
