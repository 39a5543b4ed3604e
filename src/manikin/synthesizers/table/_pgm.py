"""The distribution that noisy counts speak of: a graphical model, fitted and read exactly.

Counts of few columns at a time, each with noise, are explained by one distribution over all
columns: of those that explain them best, the one of most entropy. It factors over the cliques of
the counted column sets, so everything is done on a junction tree.

Reference  McKenna, Sheldon and Miklau, "Graphical-model based estimation and inference for
           differential privacy", ICML 2019 (Private-PGM): the objective (§3.1, L2 loss), mirror
           descent with the marginals of a junction tree as its oracle (§4, Alg. 1 and 2);
           Koller and Friedman, "Probabilistic graphical models" (2009), §10.3 (calibration)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.privacy.rows import Groups
from manikin.synthesizers.table._net_search import Parents, elimination

__all__ = ["Fitted", "Measured", "cells_of", "fit", "junction_tree"]

Floats: TypeAlias = NDArray[np.float64]
Clique: TypeAlias = tuple[int, ...]  # columns, ascending

FLAT = 1e-9  # relative gain of a step below which the descent ends, a few times in a row
PATIENCE = 8


@dataclass(frozen=True)
class Measured:
    """Noisy counts of rows by the codes of some columns, and the noise's standard deviation."""

    columns: Clique
    counts: Floats  # shaped by the columns' sizes, or numbers of groups
    deviation: float
    groups: Groups = ()  # of each column's codes, where several were counted as one; (): of none

    @property
    def total(self) -> tuple[float, float]:
        """All rows as these counts have them, and the variance of that."""
        return float(self.counts.sum()), self.counts.size * self.deviation**2


@dataclass(frozen=True)
class Tree:
    """A junction tree: cliques in an order in which each one's parent comes before it."""

    cliques: tuple[Clique, ...]
    parent: tuple[int, ...]  # -1: a root

    @property
    def separators(self) -> tuple[Clique, ...]:
        """Columns that each clique shares with its parent."""
        return tuple(
            tuple(j for j in clique if above >= 0 and j in self.cliques[above])
            for clique, above in zip(self.cliques, self.parent, strict=True)
        )

    def holder(self, columns: Sequence[int]) -> int | None:
        """Return the smallest clique that holds all of the columns, None for none."""
        found = [i for i, clique in enumerate(self.cliques) if set(columns) <= set(clique)]
        return min(found, key=lambda i: len(self.cliques[i])) if found else None


def junction_tree(scopes: Sequence[Clique], sizes: Sequence[int]) -> Tree:
    """Return a junction tree whose cliques hold every scope, and every column."""
    wide = np.array(sizes, np.int64)
    every = [tuple(scope) for scope in scopes] + [(j,) for j in range(len(sizes))]
    found: list[frozenset[int]] = [frozenset((v, *near)) for v, near in elimination(every, wide)]
    maximal = [c for i, c in enumerate(found) if not any(c < d or (c == d and k < i)
               for k, d in enumerate(found))]  # fmt: skip
    cliques = sorted(tuple(sorted(clique)) for clique in maximal)
    left, order, parent = set(range(len(cliques))), [], {}
    best = {i: (-1, -1) for i in left}  # columns shared with the nearest clique that is in
    while left:  # Prim: a spanning tree of most shared columns has the running intersection
        i = max(sorted(left), key=lambda k: best[k][0])
        left.remove(i)
        parent[i] = best[i][1] if best[i][0] > 0 else -1
        order.append(i)
        for k in left:
            shared = len(set(cliques[i]) & set(cliques[k]))
            if shared > best[k][0]:
                best[k] = (shared, i)
    place = {i: n for n, i in enumerate(order)}
    return Tree(
        tuple(cliques[i] for i in order),
        tuple(place[parent[i]] if parent[i] >= 0 else -1 for i in order),
    )


def cells_of(scopes: Sequence[Clique], sizes: Sequence[int]) -> float:
    """Return how many numbers the junction tree of these scopes has to hold."""
    tree = junction_tree(scopes, sizes)
    return float(sum(math.prod(sizes[j] for j in clique) for clique in tree.cliques))


# ------------------------------------------------------------------ the model


@dataclass(frozen=True)
class Fitted:
    """A calibrated junction tree: `total` rows, spread over each clique's cells."""

    sizes: tuple[int, ...]
    tree: Tree
    potentials: tuple[Floats, ...]  # logarithms, a clique
    total: float

    @cached_property
    def marginals(self) -> tuple[Floats, ...]:
        """Return the shares of each clique's cells; each adds up to 1."""
        return calibrated(self.tree, self.potentials)

    def marginal(self, columns: Sequence[int]) -> Floats:
        """Return expected counts by the codes of any columns, shaped by their sizes."""
        within = self.tree.holder(columns)
        if within is not None:
            found, scope = self.marginals[within], self.tree.cliques[within]
            return self.total * _ordered(_kept(found, scope, columns), columns)
        return self.total * _ordered(self._across(tuple(columns)), columns)

    def network(self) -> tuple[Parents, tuple[Floats, ...]]:
        """Return the same distribution as columns given columns: P(own | parents), own last."""
        parents: list[tuple[int, ...]] = [() for _ in self.sizes]
        tables: list[Floats] = [np.ones(0) for _ in self.sizes]
        separators = self.tree.separators
        for i, clique in enumerate(self.tree.cliques):
            above = list(separators[i])
            for j in (j for j in clique if j not in separators[i]):
                scope = (*above, j)
                joint = _ordered(_kept(self.marginals[i], clique, scope), scope)
                whole = joint.sum(axis=-1, keepdims=True)
                even = np.full(joint.shape, 1 / joint.shape[-1])
                parents[j] = tuple(above)
                tables[j] = np.divide(joint, whole, out=even, where=whole > 0)
                above.append(j)
        return tuple(parents), tuple(tables)

    def _across(self, columns: Clique) -> Floats:
        """Return shares of columns that no clique holds: clique by clique along the tree."""
        needed = self._spanned(columns)
        wanted = set(columns)
        inward: dict[int, list[tuple[Clique, Floats]]] = {i: [] for i in needed}
        result = (tuple[int, ...](), np.ones(()))
        for i in sorted(needed, reverse=True):  # children before their parents
            clique, above = self.tree.cliques[i], self.tree.parent[i]
            scope, product = clique, self.marginals[i]
            for other, message in inward[i]:
                scope, product = _product(scope, product, other, message)
            inside = above in needed
            separator = self.tree.separators[i] if inside else ()
            keep = tuple(j for j in scope if j in wanted or j in separator)
            message = _kept(product, scope, keep)
            if inside:
                shared = _kept(self.marginals[i], clique, separator)
                scaled = _spread(shared, tuple(j for j in keep if j in separator), keep)
                quotient = np.divide(message, scaled, out=np.zeros_like(message), where=scaled > 0)
                inward[above].append((keep, quotient))
            else:
                result = _product(*result, keep, message)
        return result[1]

    def _spanned(self, columns: Clique) -> set[int]:
        """Return the cliques of the smallest subtrees that hold the columns."""
        holders = {next(i for i, c in enumerate(self.tree.cliques) if j in c) for j in columns}
        paths = [tuple(_upward(self.tree.parent, i)) for i in sorted(holders)]
        needed: set[int] = set()
        for path in paths:
            for other in paths:
                if path[-1] == other[-1]:  # one tree: both ways up to where they meet
                    meet = next(i for i in path if i in other)
                    needed |= set(path[: path.index(meet) + 1])
                    needed |= set(other[: other.index(meet) + 1])
        return needed


def _upward(parent: tuple[int, ...], i: int) -> Iterator[int]:
    while i >= 0:
        yield i
        i = parent[i]


# ------------------------------------------------------------------ fitting


def fit(
    sizes: Sequence[int],
    measured: Sequence[Measured],
    *,
    start: Fitted | None = None,
    steps: int = 500,
) -> Fitted:
    """Return the distribution that explains noisy counts best (mirror descent, Alg. 1 there).

    Every column needs a measurement of its own. `start` is where to begin, of fewer measurements.
    """
    total = _total(measured)
    tree = junction_tree([one.columns for one in measured], sizes)
    shapes = [tuple(sizes[j] for j in clique) for clique in tree.cliques]
    theta = [np.zeros(shape) for shape in shapes]
    if start is not None:
        _carry(start, tree, theta)
    loss = _Loss(tree, measured, total)
    mu = calibrated(tree, theta)
    value, slope = loss(mu)
    # curvature of the loss along a share is total² / σ²: the step that it allows at once
    rate = 2.0 / max(total**2 * max(1 / one.deviation**2 for one in measured), 1e-12)
    still = 0
    for _ in range(steps):
        for _ in range(30):
            moved = [t - rate * s for t, s in zip(theta, slope, strict=True)]
            ahead = calibrated(tree, moved)
            reached, steepness = loss(ahead)
            drop = sum(float((s * (m - a)).sum()) for s, m, a in zip(slope, mu, ahead, strict=True))
            if value - reached >= 0.5 * drop or rate * total**2 < 1e-12:
                break
            rate /= 2
        gained = value - reached
        if gained <= 0:
            break
        theta, mu, slope = moved, ahead, steepness
        still = still + 1 if gained <= FLAT * max(value, 1e-12) + 1e-4 else 0
        value, rate = reached, rate * 1.4
        if still >= PATIENCE:
            break
    return Fitted(tuple(sizes), tree, tuple(theta), total)


class _Loss:
    """Half the squared distance from the measurements, in units of their noise; and its slope."""

    def __init__(self, tree: Tree, measured: Sequence[Measured], total: float) -> None:
        self.shapes = tree
        self.total = total
        self.held: list[tuple[int, tuple[int, ...], dict[int, Floats], Floats, float]] = []
        for one in measured:
            i = tree.holder(one.columns)
            assert i is not None  # the tree was made from the measurements
            clique = tree.cliques[i]
            gone = tuple(a for a, j in enumerate(clique) if j not in one.columns)
            counted = dict(zip(sorted(one.columns), one.counts.shape, strict=True))
            shape = [counted.get(j, 1) for j in clique]
            onto = {
                clique.index(j): np.eye(counted[j])[of]  # (codes, groups), of ones and zeros
                for j, of in zip(one.columns, one.groups, strict=bool(one.groups))
                if of.size > counted[j]
            }
            self.held.append((i, gone, onto, one.counts.reshape(shape), 1 / one.deviation**2))

    def __call__(self, mu: Sequence[Floats]) -> tuple[float, list[Floats]]:
        value, slope = 0.0, [np.zeros_like(m) for m in mu]
        for i, gone, onto, counts, weight in self.held:
            expected = mu[i].sum(axis=gone, keepdims=True)
            for axis, of in onto.items():
                expected = _along(expected, of, axis)
            miss = self.total * expected - counts
            value += 0.5 * weight * float((miss**2).sum())
            for axis, of in onto.items():
                miss = _along(miss, of.T, axis)
            slope[i] += (weight * self.total) * miss
        return value, slope


def _along(table: Floats, matrix: Floats, axis: int) -> Floats:
    """Return the table with a matrix applied along one axis."""
    return np.moveaxis(np.tensordot(table, matrix, axes=(axis, 0)), -1, axis)


def calibrated(tree: Tree, potentials: Sequence[Floats]) -> tuple[Floats, ...]:
    """Return the shares of every clique's cells: messages to the roots and back."""
    separators = tree.separators
    gathered = list(potentials)
    sent: dict[int, Floats] = {}
    for i in range(len(tree.cliques) - 1, -1, -1):
        above = tree.parent[i]
        if above >= 0:
            sent[i] = _log_kept(gathered[i], tree.cliques[i], separators[i])
            gathered[above] = gathered[above] + _spread(sent[i], separators[i], tree.cliques[above])
    found: list[Floats] = []
    for i, clique in enumerate(tree.cliques):
        above = tree.parent[i]
        if above >= 0:
            whole = _log_kept(gathered[above], tree.cliques[above], separators[i])
            gathered[i] = gathered[i] + _spread(whole - sent[i], separators[i], clique)
        shares = np.exp(gathered[i] - gathered[i].max())
        found.append(shares / shares.sum())
    return tuple(found)


def _carry(start: Fitted, tree: Tree, theta: list[Floats]) -> None:
    """Add what a former fit knew to the cliques that now hold its cliques, in place."""
    for clique, potential in zip(start.tree.cliques, start.potentials, strict=True):
        i = tree.holder(clique)
        if i is not None:
            theta[i] += _spread(potential, clique, tree.cliques[i])


def _total(measured: Sequence[Measured]) -> float:
    """Return the number of rows: every measurement's own total, the surer the more it weighs."""
    totals = [one.total for one in measured]
    weight = sum(1 / variance for _, variance in totals)
    return max(1.0, sum(total / variance for total, variance in totals) / weight)


# ------------------------------------------------------------------ axes


def _kept(table: Floats, scope: Clique, columns: Sequence[int]) -> Floats:
    """Return the table summed over all columns of its scope but these, in the scope's order."""
    gone = tuple(a for a, j in enumerate(scope) if j not in columns)
    return np.asarray(table.sum(axis=gone)) if gone else table


def _log_kept(table: Floats, scope: Clique, columns: Clique) -> Floats:
    gone = tuple(a for a, j in enumerate(scope) if j not in columns)
    if not gone:
        return table
    top = table.max(axis=gone, keepdims=True)
    return np.asarray(np.log(np.exp(table - top).sum(axis=gone)) + top.squeeze(axis=gone))


def _spread(table: Floats, scope: Clique, onto: Clique) -> Floats:
    """Return the table with an axis of one for every column of `onto` that it has not."""
    sizes = dict(zip(scope, table.shape, strict=True))
    return table.reshape([sizes.get(j, 1) for j in onto])


def _ordered(table: Floats, columns: Sequence[int]) -> Floats:
    """Return a table over ascending columns with its axes as `columns` has them."""
    rank = {j: a for a, j in enumerate(sorted(columns))}
    return np.transpose(table, [rank[j] for j in columns])


def _product(one: Clique, table: Floats, other: Clique, second: Floats) -> tuple[Clique, Floats]:
    scope = tuple(sorted({*one, *other}))
    return scope, _spread(table, one, scope) * _spread(second, other, scope)
