"""The distribution that noisy counts speak of: a graphical model, fitted and read exactly.

Counts of few columns at a time, each with noise, are explained by one distribution over all
columns: of those that explain them best, the one of most entropy. It factors over the cliques of
the counted column sets, so everything is done on a junction tree.

Cells in which no row can be (structural zeros) have no mass from the first step to the last: what
noise was counted there says nothing, and what is left explains the other cells.

Reference  McKenna, Sheldon and Miklau, "Graphical-model based estimation and inference for
           differential privacy", ICML 2019 (Private-PGM): the objective (§3.1, L2 loss), mirror
           descent with the marginals of a junction tree as its oracle (§4, Alg. 1 and 2);
           Koller and Friedman, "Probabilistic graphical models" (2009), §10.3 (calibration);
           Bishop, Fienberg and Holland, "Discrete multivariate analysis" (1975), §5.1 (zeros)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from manikin.errors import ConditionError
from manikin.privacy.rows import Groups, grouped
from manikin.synthesizers.table._net_search import MAX_CLIQUE, Parents, elimination
from manikin.synthesizers.table._pgm_pairs import enlarged, shares_of_pairs

__all__ = ["Fitted", "Measured", "Zeros", "affordable", "cells_of", "fit", "junction_tree"]

Floats: TypeAlias = NDArray[np.float64]
Clique: TypeAlias = tuple[int, ...]  # columns, ascending
AnyScalar = TypeVar("AnyScalar", bound=np.generic)

FLAT = 1e-9  # relative gain of a step below which the descent ends, a few times in a row
PATIENCE = 8
FORBIDDEN = -1e9  # a potential whose exponential is 0 beside any other
CELLS = 200_000  # most numbers that the junction tree may grow to for the sake of zeros


@dataclass(frozen=True)
class Measured:
    """Noisy counts of rows by the codes of some columns, and the noise's standard deviation."""

    columns: Clique
    counts: Floats  # shaped by the columns' sizes, or numbers of groups
    deviation: float
    groups: Groups = ()  # of each column's codes, where several were counted as one; (): of none


@dataclass(frozen=True)
class Zeros:
    """Which cells of some columns can hold rows at all: a public fact."""

    columns: Clique  # ascending
    possible: NDArray[np.bool_]  # shaped by the columns' sizes


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

    def enlarged(self, sizes: Sequence[int]) -> Floats:
        """Return how many numbers it need hold when two columns share a clique, at most."""
        return enlarged(self.cliques, self.parent, sizes)

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

    @cached_property
    def pairs(self) -> Mapping[Clique, Floats]:
        """Return the shares of the codes of every pair of columns."""
        return shares_of_pairs(self.tree.cliques, self.tree.parent, self.marginals, self.sizes)

    def marginal(self, columns: Sequence[int]) -> Floats:
        """Return expected counts by the codes of any columns, shaped by their sizes."""
        within = self.tree.holder(columns)
        if within is not None:
            found, scope = self.marginals[within], self.tree.cliques[within]
            return self.total * _ordered(_kept(found, scope, columns), columns)
        if len(columns) == 2:  # who asks for one asks for many
            return self.total * _ordered(self.pairs[min(columns), max(columns)], columns)
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
                own = joint.reshape(-1, joint.shape[-1]).sum(axis=0)  # where parents never meet
                parents[j] = tuple(above)
                filled = np.broadcast_to(own / own.sum(), joint.shape).copy()
                tables[j] = np.divide(joint, whole, out=filled, where=whole > 0)
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
    zeros: Sequence[Zeros] = (),
    cells: float = CELLS,
    start: Fitted | None = None,
    steps: int = 500,
) -> Fitted:
    """Return the distribution that explains noisy counts best (mirror descent, Alg. 1 there).

    Every column needs a measurement of its own. `start` is where to begin, of fewer measurements.
    The distribution has no mass in `zeros`, as far as a tree of so many `cells` can hold them.
    Raises ConditionError when they leave nothing.
    """
    measured, total = _cleared(measured, zeros, sizes)
    scopes = [one.columns for one in measured]
    held = affordable(scopes, zeros, sizes, cells)
    tree = junction_tree([*scopes, *(one.columns for one in held)], sizes)
    shapes = [tuple(sizes[j] for j in clique) for clique in tree.cliques]
    theta = [np.zeros(shape) for shape in shapes]
    if start is not None:
        _carry(start, tree, theta)
    loss = _Loss(tree, measured, total)
    mu = _without(held, tree, theta)
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


# ------------------------------------------------------------------ zeros


def affordable(
    scopes: Sequence[Clique], zeros: Sequence[Zeros], sizes: Sequence[int], cells: float
) -> tuple[Zeros, ...]:
    """Return the zeros that a junction tree of these scopes can hold, smaller ones first.

    Those that would make it larger than so many cells are left out: drawn rows are looked through.
    """
    kept: list[Zeros] = []
    tree = junction_tree(scopes, sizes)
    now = list(scopes)
    for one in sorted(zeros, key=lambda zero: zero.possible.size):
        if tree.holder(one.columns) is None:
            larger = junction_tree([*now, one.columns], sizes)
            every = [math.prod(sizes[j] for j in clique) for clique in larger.cliques]
            if sum(every) > cells or max(every) > MAX_CLIQUE:
                continue
            tree = larger
            now.append(one.columns)
        kept.append(one)
    return tuple(kept)


def _without(zeros: Sequence[Zeros], tree: Tree, theta: list[Floats]) -> tuple[Floats, ...]:
    """Forbid cells in place, and return the shares. Raises ConditionError when none is left."""
    for one in zeros:
        i = tree.holder(one.columns)
        assert i is not None  # the tree was made to hold it
        barrier = np.where(one.possible, 0.0, FORBIDDEN)
        theta[i] = theta[i] + _spread(barrier, one.columns, tree.cliques[i])
    mu = calibrated(tree, theta)
    for one in zeros:
        i = tree.holder(one.columns)
        assert i is not None
        if (_kept(mu[i], tree.cliques[i], one.columns)[~one.possible] > 0).any():
            raise _nothing_left()  # the least forbidden of what is all forbidden
    return mu


def _cleared(
    measured: Sequence[Measured], zeros: Sequence[Zeros], sizes: Sequence[int]
) -> tuple[tuple[Measured, ...], float]:
    """Return measurements without what noise was counted where no row can be; and all rows.

    Every measurement has a total of its own: the surer it is, the more it weighs.
    """
    cleared, totals, weights = [], 0.0, 0.0
    for one in measured:
        able = np.ones([sizes[j] for j in one.columns], bool)
        for zero in zeros:
            shared = tuple(j for j in zero.columns if j in one.columns)
            if shared:
                gone = tuple(a for a, j in enumerate(zero.columns) if j not in shared)
                able &= _spread(np.asarray(zero.possible.any(axis=gone)), shared, one.columns)
        able = np.asarray(grouped(able.astype(np.int64), one.groups) > 0)
        if not able.any():
            raise _nothing_left()
        cleared.append(replace(one, counts=np.where(able, one.counts, 0.0)))
        weight = 1 / (able.sum() * one.deviation**2)
        totals, weights = totals + weight * float(cleared[-1].counts.sum()), weights + weight
    return tuple(cleared), max(1.0, totals / weights)


def _nothing_left() -> ConditionError:
    return ConditionError(
        "the declared rules together leave no combination of values",
        "rules that some row can obey together",
        "correct the rules in the schema",
    )


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


def _spread(table: NDArray[AnyScalar], scope: Clique, onto: Clique) -> NDArray[AnyScalar]:
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
