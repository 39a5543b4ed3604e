"""Quantiles of many groups at once, none of which is a value that fewer than k subjects have.

A knot is the mean of the k or more values about its rank; where the one in the middle is a value
that k subjects share, it is that value. So heaps (7 days, 30 days) come back exactly, and neither
the least nor the greatest value of anybody is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.synthesizers.events._parts import array

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
    values: Floats, group: Ints, groups: int, owners: Ints, k: int, *, least: int = 0
) -> Quantiles:
    """Return the quantiles of each group; one of fewer than `least` values has those of all.

    `least` is 4 k if it is not given.
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
    use = np.where(n >= (least or 4 * k), np.arange(groups + 1), groups)[:groups]
    begin, n = starts[use][:, None], n[use][:, None]
    half = np.maximum(k, n / KNOTS) / 2.0
    centre = np.linspace(0.0, 1.0, KNOTS)[None] * n
    low = np.clip(np.floor(centre - half), 0, np.maximum(n - k, 0)).astype(np.int64)
    high = np.clip(np.ceil(centre + half), np.minimum(k, n), n).astype(np.int64)
    middle = begin + np.clip((low + high) // 2, 0, n - 1)
    total = np.concatenate([[0.0], np.cumsum(whole)])
    mean = (total[begin + high] - total[begin + low]) / np.maximum(high - low, 1)
    heaped = shared[middle]
    knots = np.maximum.accumulate(np.where(heaped, whole[middle], mean), axis=1)
    heaped &= knots == whole[middle]
    return Quantiles(knots, heaped)


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
