"""What a junction tree says of every pair of columns, and how it grows when one is put together.

Adaptive methods ask both of all pairs, round after round: of a hundred columns five thousand times.
From the cliques of a column one walks the tree outwards, carrying its joint table with what the
next clique shares; what has been carried once serves every column further on.

Reference  Koller and Friedman, "Probabilistic graphical models" (2009), §10.3.3 (queries outside a
           clique), §9.4.3 (what an elimination leaves: cliques along a path)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.table._net_search import MAX_CLIQUE

__all__ = ["enlarged", "shares_of_pairs"]

Floats: TypeAlias = NDArray[np.float64]
Clique: TypeAlias = tuple[int, ...]  # columns, ascending
Near: TypeAlias = list[list[tuple[int, Clique]]]  # a clique: neighbours, and what it shares


def enlarged(cliques: Sequence[Clique], parent: Sequence[int], sizes: Sequence[int]) -> Floats:
    """Return how many numbers a tree need hold when two columns share a clique, (columns, columns).

    Each clique on the way from one column to the other gives a new one: what it shares with those
    beside it, and the first column. Infinite where one would be too large for exact inference.
    """
    near, sets = _near(cliques, parent), [frozenset(clique) for clique in cliques]
    held = [math.prod(sizes[j] for j in clique) for clique in cliques]
    apart = np.array(sizes, float)
    found = np.multiply.outer(apart, apart)  # in two trees: a clique of these two joins them
    for part in _parts(parent):
        inside = sorted({j for i in part for j in cliques[i]})
        found[np.ix_(inside, inside)] = np.inf
    for v, size in enumerate(sizes):

        def new(scope: frozenset[int], at: int) -> float:
            cells = size * math.prod(sizes[j] for j in scope)  # noqa: B023
            return math.inf if cells > MAX_CLIQUE else cells - held[at] * (scope == sets[at])

        ways = []
        for i in (i for i, clique in enumerate(sets) if v in clique):
            found[v, cliques[i]] = 0.0
            ways += [
                (k, i, frozenset(shared), -float(held[i]) * (sets[i] == {v, *shared}))
                for k, shared in near[i]
                if v not in shared
            ]
        while ways:
            at, before, entered, cost = ways.pop()
            for j in sets[at] - entered:
                found[v, j] = cost + new(entered | {j}, at)
            ways += [
                (k, at, frozenset(shared), cost + new(entered | set(shared), at))
                for k, shared in near[at]
                if k != before
            ]
    return np.asarray(sum(held) + np.minimum(found, found.T))


def shares_of_pairs(
    cliques: Sequence[Clique],
    parent: Sequence[int],
    marginals: Sequence[Floats],
    sizes: Sequence[int],
) -> Mapping[Clique, Floats]:
    """Return the shares of the codes of every pair of columns, (of the first, of the second)."""
    near = _near(cliques, parent)
    found: dict[Clique, Floats] = {}
    alone: dict[int, Floats] = {}
    for clique, table in zip(cliques, marginals, strict=True):
        for j in clique:
            alone.setdefault(j, _summed(table, clique, (j,)))
        for pair in combinations(clique, 2):
            if pair not in found:
                found[pair] = _summed(table, clique, pair)
    given = _Given(cliques, marginals)
    for v in range(len(sizes)):
        ways = [
            (k, i, shared, _carried(marginals[i], cliques[i], v, shared))
            for i, clique in enumerate(cliques)
            if v in clique
            for k, shared in near[i]
            if v not in shared
        ]
        while ways:
            at, before, entered, table = ways.pop()  # table: (of v, *entered)
            for j in cliques[at]:
                if j > v and j not in entered:
                    found[v, j] = given(at, entered, (j,), table)
            ways += [
                (k, at, shared, given(at, entered, shared, table))
                for k, shared in near[at]
                if k != before
            ]
    for pair in combinations(range(len(sizes)), 2):
        if pair not in found:  # in two trees
            found[pair] = np.multiply.outer(alone[pair[0]], alone[pair[1]])
    return found


class _Given:
    """The joint table of a column and a separator, carried through a clique to other columns."""

    def __init__(self, cliques: Sequence[Clique], marginals: Sequence[Floats]) -> None:
        self.cliques, self.marginals = cliques, marginals
        self.known: dict[tuple[int, Clique, Clique], Floats] = {}

    def __call__(self, at: int, entered: Clique, wanted: Clique, table: Floats) -> Floats:
        both = tuple(j for j in entered if j in wanted)
        gone = tuple(j for j in entered if j not in wanted)
        fresh = tuple(j for j in wanted if j not in entered)
        key = at, entered, wanted
        sizes = dict(zip(self.cliques[at], self.marginals[at].shape, strict=True))
        shape = [math.prod(sizes[j] for j in part) for part in (both, gone, fresh)]
        if key not in self.known:
            scope = tuple(sorted((*entered, *fresh)))
            joint = _turned(_summed(self.marginals[at], self.cliques[at], scope), scope,
                            (*both, *gone, *fresh)).reshape(shape)  # fmt: skip
            whole = joint.sum(axis=-1, keepdims=True)
            self.known[key] = np.divide(joint, whole, out=np.zeros(shape), where=whole > 0)
        turned = np.moveaxis(_turned(table, (-1, *entered), (*both, -1, *gone)), len(both), 0)
        carried = turned.reshape(len(table), shape[0], shape[1]).swapaxes(0, 1) @ self.known[key]
        ordered = carried.swapaxes(0, 1).reshape(
            len(table), *(sizes[j] for j in both), *(sizes[j] for j in fresh)
        )
        return _turned(ordered, (-1, *both, *fresh), (-1, *wanted))


def _near(cliques: Sequence[Clique], parent: Sequence[int]) -> Near:
    near: Near = [[] for _ in cliques]
    for i, above in enumerate(parent):
        if above >= 0:
            shared = tuple(j for j in cliques[i] if j in cliques[above])
            near[i].append((above, shared))
            near[above].append((i, shared))
    return near


def _parts(parent: Sequence[int]) -> list[list[int]]:
    """Return the cliques of each tree; a clique's parent comes before it."""
    parts: list[list[int]] = []
    of: dict[int, list[int]] = {}
    for i, above in enumerate(parent):
        if above < 0:
            parts.append([])
        of[i] = parts[-1] if above < 0 else of[above]
        of[i].append(i)
    return parts


def _carried(table: Floats, clique: Clique, v: int, shared: Clique) -> Floats:
    scope = tuple(sorted((v, *shared)))
    return _turned(_summed(table, clique, scope), scope, (v, *shared))


def _summed(table: Floats, scope: Clique, columns: Clique) -> Floats:
    return np.asarray(table.sum(axis=tuple(a for a, j in enumerate(scope) if j not in columns)))


def _turned(table: Floats, scope: Clique, onto: Clique) -> Floats:
    return np.transpose(table, [scope.index(j) for j in onto])
