"""Quantiles of many groups at once, none of which is a value that fewer than k subjects have.

A knot is the mean of the values of k or more subjects about its rank; where the one in the middle
is a value that k subjects share, it is that value. So heaps (7 days, 30 days) come back exactly,
and neither the least nor the greatest value of anybody is kept. Numbers on a fine lattice are
smoothed instead (`_smooth`): there, what k subjects share is chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.synthesizers.events._parts import array
from manikin.synthesizers.events._smooth import Pieces, spread_of

__all__ = ["KNOTS", "Quantiles", "normal_scores", "quantiles"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

KNOTS = 129


@dataclass(frozen=True)
class Quantiles:
    """The distribution of a number in each of several groups."""

    knots: Annotated[Floats, array("groups", KNOTS, low=-1e300, high=1e300)]
    heaped: Annotated[
        NDArray[np.bool_], array("groups", KNOTS, kind="b")
    ]  # a value that many share

    def at(self, group: Ints, share: Floats) -> Floats:
        """Return the value below which such a share of a group lies."""
        place = np.clip(share, 0.0, 1.0) * (KNOTS - 1)
        low = np.minimum(place.astype(np.int64), KNOTS - 2)
        part = place - low
        a, b = self.knots[group, low], self.knots[group, low + 1]
        jump = self.heaped[group, low] | self.heaped[group, low + 1]
        return np.asarray(np.where(jump, np.where(part < 0.5, a, b), a + part * (b - a)))

    def share(self, group: Ints, values: Floats) -> Floats:
        """Return which share of a group lies below a value, in the middle of a heap."""
        found = np.full(values.shape, 0.5)
        order = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[order], np.arange(len(self.knots) + 1))
        for g in np.flatnonzero(np.diff(bounds)):
            rows = order[bounds[g] : bounds[g + 1]]
            left = np.searchsorted(self.knots[g], values[rows], side="left")
            right = np.searchsorted(self.knots[g], values[rows], side="right")
            found[rows] = (left + right - 1) / 2 / (KNOTS - 1)
        return np.asarray(np.clip(found, 0.5 / KNOTS, 1 - 0.5 / KNOTS))


def quantiles(
    values: Floats, group: Ints, groups: int, owners: Ints, k: int, *, least: int = 0,
    decimals: Ints | None = None,
) -> Quantiles:  # fmt: skip
    """Return the quantiles of each group; one of fewer than `least` values has those of all.

    `least` is 4 k if it is not given. With `decimals` of each group, numbers are smoothed
    (`_smooth`), and only heaps come back exactly.
    """
    if values.size == 0:
        return Quantiles(np.zeros((groups, KNOTS)), np.zeros((groups, KNOTS), bool))
    # the group behind all others is everything
    whole = np.concatenate([values, values])
    to = np.concatenate([group, np.full(values.size, groups)])
    whose = np.concatenate([owners, owners])
    order = np.lexsort((whole, to))
    whole, to, whose = whole[order], to[order], whose[order]
    shared = _shared(whole, to, whose, k)
    starts = np.searchsorted(to, np.arange(groups + 2))
    n = np.diff(starts)
    held = np.bincount(_once(to, whose), minlength=groups + 1)
    enough = (n >= (least or 4 * k)) & (held >= k)
    used, use = np.unique(np.where(enough, np.arange(groups + 1), groups)[:groups],
                          return_inverse=True)  # fmt: skip
    begin, n = starts[used][:, None], n[used][:, None]
    low, high = _windows(begin, n, _earlier(whose), k)
    middle = begin + np.clip((low + high) // 2, 0, n - 1)
    total = np.concatenate([[0.0], np.cumsum(whole)])
    mean = (total[begin + high] - total[begin + low]) / np.maximum(high - low, 1)
    heaped = shared[middle]
    knots = np.maximum.accumulate(np.where(heaped, whole[middle], mean), axis=1)
    heaped &= knots == whole[middle]
    knots, heaped = knots[use.ravel()], heaped[use.ravel()]
    if decimals is not None:
        for g in np.flatnonzero(enough[:groups]):
            own = slice(starts[g], starts[g + 1])
            knots[g], heaped[g] = _knots(spread_of(whole[own], whose[own], k, int(decimals[g])))
    return Quantiles(knots, heaped)


def _once(group: Ints, owners: Ints) -> Ints:
    """Return the group of each pair of a group and an owner in it."""
    size = int(owners.max()) + 1
    return np.asarray(np.unique(group * size + owners) // size)


def _earlier(owners: Ints) -> Ints:
    """Return where the owner of each value has the one before it, -1 for the first."""
    order = np.argsort(owners, kind="stable")
    found = np.full(owners.size, -1, np.int64)
    again = np.flatnonzero(owners[order[1:]] == owners[order[:-1]])
    found[order[again + 1]] = order[again]
    return found


def _windows(begin: Ints, n: Ints, earlier: Ints, k: int) -> tuple[Ints, Ints]:
    """Return the ends of the values about each knot, (groups, KNOTS): of `k` owners or more."""
    half = np.maximum(k, n / KNOTS) / 2.0 * np.ones((1, KNOTS))
    centre = np.linspace(0.0, 1.0, KNOTS)[None] * n
    while True:
        low = np.clip(np.floor(centre - half), 0, np.maximum(n - k, 0)).astype(np.int64)
        high = np.clip(np.ceil(centre + half), np.minimum(k, n), n).astype(np.int64)
        few = _few((begin + low).ravel(), (begin + high).ravel(), earlier, k).reshape(low.shape)
        few &= high - low < n
        if not few.any():
            return low, high
        half = np.where(few, 1.5 * half, half)


def _few(low: Ints, high: Ints, earlier: Ints, k: int) -> NDArray[np.bool_]:
    """Return which stretches of values, (stretches,), are those of fewer than `k` owners.

    An owner counts at its first value within: where the one before it is not. Long stretches are
    looked at from their beginning, until `k` owners are seen.
    """
    few = np.ones(low.size, bool)
    left, look = np.arange(low.size), 8 * k
    while left.size:
        size = np.minimum(high[left] - low[left], look)
        which = np.repeat(np.arange(left.size), size)
        at = np.arange(which.size) - np.repeat(np.cumsum(size) - size, size) + low[left][which]
        seen = np.bincount(which[earlier[at] < low[left][which]], minlength=left.size) >= k
        few[left[seen]] = False
        left = left[~seen & (size < high[left] - low[left])]
        look *= 8
    return few


def _knots(pieces: Pieces) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the knots of a distribution, and which are values of more than a knot's share."""
    below = np.concatenate([[0.0], np.cumsum(pieces.mass) / pieces.mass.sum()])
    share = np.linspace(0.0, 1.0, KNOTS)
    at = np.clip(np.searchsorted(below, share, side="right") - 1, 0, pieces.mass.size - 1)
    own = below[at + 1] - below[at]
    part = np.clip((share - below[at]) / np.where(own > 0, own, 1.0), 0.0, 1.0)
    knots = pieces.low[at] + part * (pieces.high[at] - pieces.low[at])
    point = (pieces.low == pieces.high)[at] & (own >= 1 / KNOTS)
    return np.maximum.accumulate(knots), np.asarray(point)


def _shared(values: Floats, group: Ints, owners: Ints, k: int) -> NDArray[np.bool_]:
    """Return which values are those of `k` owners or more of their group; sorted by both."""
    new = np.ones(values.size, bool)
    new[1:] = (np.diff(values) != 0) | (np.diff(group) != 0)
    run = np.cumsum(new) - 1
    pairs = np.unique(run * (int(owners.max()) + 1) + owners) // (int(owners.max()) + 1)
    return np.asarray(np.bincount(pairs, minlength=int(run[-1]) + 1)[run] >= k)


def normal_scores(values: Floats, group: Ints) -> Floats:
    """Return what a standard normal variable would be at the middle rank of each value."""
    if not values.size:
        return np.zeros(0)
    order = np.lexsort((values, group))
    v, g = values[order], group[order]
    rank = np.arange(v.size, dtype=np.float64)
    new = np.ones(v.size, bool)
    new[1:] = (np.diff(v) != 0) | (np.diff(g) != 0)
    run = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    last = np.append(first[1:], v.size) - 1
    middle = (rank[first] + rank[last])[run] / 2
    begin = np.searchsorted(g, g, side="left")
    size = np.searchsorted(g, g, side="right") - begin
    found = np.empty(v.size)
    found[order] = ndtri((middle - begin + 0.5) / size)
    return found
