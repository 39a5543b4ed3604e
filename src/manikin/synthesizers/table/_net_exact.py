"""Exact inference in a discrete network: variable elimination, and drawing backwards through it.

Zhang & Poole, "Exploiting causal independence in Bayesian network inference", JAIR 5 (1996),
sec. 3, for elimination; rows are drawn in the reverse order, each variable given those that were
its neighbours when it was summed out. Known variables are no axis of any table: tables are
gathered at the known values, once for each combination that occurs in the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.errors import ConditionError
from manikin.synthesizers.table._binning import stratified
from manikin.synthesizers.table._net_search import Parents, elimination, topological

__all__ = ["complete", "posterior"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

MOST_CELLS = 2**22  # of one table with all its combinations of known values


class _TooLarge(Exception):
    """The rows have too many combinations of known values to be solved at once."""


@dataclass(frozen=True)
class _Factor:
    """A table over hidden variables for each combination of known values that occurs."""

    hidden: tuple[int, ...]
    which: Ints  # (rows,) the combination of each row
    table: Floats  # (combinations, *hidden)


@dataclass(frozen=True)
class _Bucket:
    """A variable, its neighbours when it was summed out, and its weights given them."""

    variable: int
    near: tuple[int, ...]
    which: Ints
    table: Floats  # (combinations, *near, variable)


def complete(
    parents: Parents,
    tables: tuple[Floats, ...],
    known: Ints,
    likely: Mapping[int, Floats],
    rng: np.random.Generator,
) -> Ints:
    """Draw what is not known (-1) of rows (rows, variables), given what is.

    `likely` weights the values of variables where they are not known. Raises ConditionError when
    nothing is possible.
    """
    whole = known.copy()
    masks, which = np.unique(known >= 0, axis=0, return_inverse=True)
    for i, mask in enumerate(masks):
        rows = np.flatnonzero(which.reshape(-1) == i)
        if rows.size:
            whole[rows] = _alike(parents, tables, known[rows], mask, likely, rng)
    return whole


def posterior(
    parents: Parents,
    tables: tuple[Floats, ...],
    known: Ints,
    likely: Mapping[int, Floats],
    variable: int,
) -> Floats:
    """Return P(variable | what is known) of each row (rows, values); all know the same ones."""
    mask = np.asarray((known >= 0).all(axis=0))
    hidden = _relevant(parents, mask, {*likely, variable}) & ~mask
    buckets = _eliminated(parents, tables, known, mask, hidden, likely, last=variable)
    found = buckets[-1]
    share = found.table.reshape(len(found.table), -1)
    return np.asarray((share / share.sum(axis=1, keepdims=True))[found.which])


def _alike(
    parents: Parents,
    tables: tuple[Floats, ...],
    known: Ints,
    mask: NDArray[np.bool_],
    likely: Mapping[int, Floats],
    rng: np.random.Generator,
) -> Ints:
    """Draw the rest of rows that know the same variables."""
    whole = known.copy()
    asked = {j: weight for j, weight in likely.items() if not mask[j]}
    hidden = _relevant(parents, mask, set(asked)) & ~mask
    if hidden.any() or asked:
        order = np.lexsort(known[:, mask].T) if mask.any() else np.arange(len(known))
        for rows in _parts(parents, tables, known, mask, hidden, asked, order):
            part, buckets = whole[rows[0]], rows[1]
            for bucket in reversed(buckets):
                part[:, bucket.variable] = _drawn(bucket, part, rng)
            whole[rows[0]] = part
    for j in topological(parents):
        if not mask[j] and not hidden[j]:
            cell = np.zeros(len(whole), np.int64)
            for i in parents[j]:
                cell = cell * tables[i].shape[-1] + whole[:, i]
            flat = tables[j].reshape(-1, tables[j].shape[-1])
            whole[:, j] = _chosen(flat, cell, rng)
    return whole


def _parts(
    parents: Parents,
    tables: tuple[Floats, ...],
    known: Ints,
    mask: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
    likely: Mapping[int, Floats],
    order: Ints,
) -> list[tuple[Ints, list[_Bucket]]]:
    """Return rows with their buckets, in as many parts as memory needs."""
    if not order.size:
        return []
    try:
        return [(order, _eliminated(parents, tables, known[order], mask, hidden, likely))]
    except _TooLarge:
        half = order.size // 2
        return [
            part
            for some in (order[:half], order[half:])
            for part in _parts(parents, tables, known, mask, hidden, likely, some)
        ]


def _relevant(parents: Parents, mask: NDArray[np.bool_], asked: set[int]) -> NDArray[np.bool_]:
    """Return which variables are known or asked, or above one that is: all others sum to one."""
    found = mask.copy()
    found[list(asked)] = True
    for j in reversed(topological(parents)):
        if found[j]:
            found[list(parents[j])] = True
    return found


def _eliminated(
    parents: Parents,
    tables: tuple[Floats, ...],
    known: Ints,
    mask: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
    likely: Mapping[int, Floats],
    last: int = -1,
) -> list[_Bucket]:
    """Sum out the hidden variables one by one, and return what each was drawn from."""
    factors = [
        _at_known((*parents[j], j), tables[j], known, mask)
        for j in range(len(parents))
        if hidden[j] or (mask[j] and hidden[list(parents[j])].any())
    ]
    factors += [
        _Factor((j,), np.zeros(len(known), np.int64), weight[None, :])
        for j, weight in likely.items()
        if hidden[j]
    ]
    sizes = np.array([table.shape[-1] for table in tables], np.int64)
    buckets = []
    for v, near in elimination([factor.hidden for factor in factors], sizes, last):
        mine = [factor for factor in factors if v in factor.hidden]
        factors = [factor for factor in factors if v not in factor.hidden]
        bucket = _joined(mine, v, near, sizes)
        message = bucket.table.sum(axis=-1)
        top = message.reshape(len(message), -1).max(axis=1)
        if not (top > 0).all():
            raise ConditionError(
                "nothing is possible given what is known",
                "values that occur together",
                "loosen a condition, or leave a given column out",
            )
        message = message / top.reshape(-1, *[1] * len(near))
        buckets.append(bucket)
        if near:
            factors.append(_Factor(near, bucket.which, message))
    return buckets


def _at_known(
    scope: tuple[int, ...], table: Floats, known: Ints, mask: NDArray[np.bool_]
) -> _Factor:
    """Return a table at the known values of each row."""
    fixed = [axis for axis, v in enumerate(scope) if mask[v]]
    free = [axis for axis, v in enumerate(scope) if not mask[v]]
    turned = table.transpose(*fixed, *free)
    shape = tuple(table.shape[axis] for axis in free)
    cell = np.zeros(len(known), np.int64)
    for axis in fixed:
        cell = cell * table.shape[axis] + known[:, scope[axis]]
    occurring, which = np.unique(cell, return_inverse=True)
    hidden = tuple(scope[axis] for axis in free)
    if occurring.size * np.prod(shape, dtype=float) > MOST_CELLS and len(known) > 1:
        raise _TooLarge
    return _Factor(hidden, which.reshape(-1), turned.reshape(-1, *shape)[occurring])


def _joined(factors: list[_Factor], v: int, near: tuple[int, ...], sizes: Ints) -> _Bucket:
    """Multiply tables to one over the neighbours and the variable, of each combination."""
    which = factors[0].which
    for factor in factors[1:]:
        which = which * len(factor.table) + factor.which
        which = np.unique(which, return_inverse=True)[1].reshape(-1)
    _, example = np.unique(which, return_index=True)  # a row of each combination
    scope = (*near, v)
    cells = example.size * np.prod(sizes[list(scope)], dtype=float)
    if cells > MOST_CELLS and example.size > 1:
        raise _TooLarge
    product = np.ones((example.size, *(int(sizes[u]) for u in scope)))
    for factor in factors:
        places = sorted(range(len(factor.hidden)), key=lambda k: scope.index(factor.hidden[k]))
        turned = factor.table.transpose(0, *(1 + k for k in places))
        shape = [int(sizes[u]) if u in factor.hidden else 1 for u in scope]
        at = factor.which[example] if len(factor.table) > 1 else np.zeros(1, np.int64)
        product = product * turned[at].reshape(-1, *shape)
    return _Bucket(v, near, which, product)


def _drawn(bucket: _Bucket, rows: Ints, rng: np.random.Generator) -> Ints:
    cell = bucket.which
    for axis, u in enumerate(bucket.near):
        cell = cell * bucket.table.shape[1 + axis] + rows[:, u]
    return _chosen(bucket.table.reshape(-1, bucket.table.shape[-1]), cell, rng)


def _chosen(weights: Floats, at: Ints, rng: np.random.Generator) -> Ints:
    """Draw a value for each row from the weights (cells, values) at its cell, evenly."""
    occurring, at = np.unique(at, return_inverse=True)
    at = at.reshape(-1)
    heap = np.cumsum(weights[occurring], axis=1)
    heap = heap / heap[:, -1:]
    # cells one after another in one long heap; a value without weight is never met
    sought = at + stratified(at, rng)
    found = np.searchsorted((heap + np.arange(len(heap))[:, None]).reshape(-1), sought, "right")
    top = (heap < 1.0).sum(axis=1)  # the last value with a weight
    return np.asarray(np.minimum(found - at * heap.shape[1], top[at]))
