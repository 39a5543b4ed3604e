"""Marginal distributions of channels: pieces of a smooth distribution, and normal scores.

Heaps are pieces of their own, and so are the values of a coarse lattice (`_smooth`); of the
outermost values the mean is kept, so that no one's extreme is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from manikin.synthesizers.events._smooth import spread_of

__all__ = ["Marginal"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Marginal:
    """Pieces in ascending order: uniform from `low` to `high`, of probability `mass`."""

    low: Floats
    high: Floats
    mass: Floats
    decimals: int

    @staticmethod
    def fit(values: Floats, whose: Ints, k: int, decimals: int) -> Marginal:
        """Learn from values, (n,), of which `whose` says the subject."""
        if not values.size:
            return Marginal(np.zeros(1), np.zeros(1), np.ones(1), decimals)
        found = spread_of(values, whose, k, decimals)
        return Marginal(found.low, found.high, found.mass, decimals)

    @property
    def cumulative(self) -> Floats:
        """Probability below each piece, and 1: (pieces + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.mass) / self.mass.sum()])

    def scores(self, values: Floats) -> Floats:
        """Return normal scores of values, NaN where they are."""
        below = self.cumulative
        at = np.minimum(np.searchsorted(self.high, values - 1e-9), self.mass.size - 1)
        width = self.high[at] - self.low[at]
        inside = (values - self.low[at]) / np.where(width > 0, width, 1.0)
        inside = np.where(width > 0, np.clip(inside, 0.0, 1.0), 0.5)
        p = below[at] + (below[at + 1] - below[at]) * inside
        found: Floats = ndtri(np.clip(p, 5e-4, 1 - 5e-4))
        return np.where(np.isnan(values), np.nan, found)

    def values(self, scores: Floats) -> Floats:
        """Return the values of normal scores."""
        below = self.cumulative
        p = ndtr(scores)
        at = np.clip(np.searchsorted(below, p, side="right") - 1, 0, self.mass.size - 1)
        inside = np.clip((p - below[at]) / np.maximum(below[at + 1] - below[at], 1e-12), 0, 1)
        found = self.low[at] + inside * (self.high[at] - self.low[at])
        return np.asarray(np.round(found, self.decimals) + 0.0)


def stacked(marginals: Sequence[Marginal]) -> tuple[Floats, Ints]:
    """Return marginals as arrays: pieces (all, 3); how many, and decimals, of each."""
    whole = [np.stack([m.low, m.high, m.mass], 1) for m in marginals]
    sizes = [(len(m.mass), m.decimals) for m in marginals]
    return (np.concatenate([np.zeros((0, 3)), *whole]),
            np.array(sizes, np.int64).reshape(-1, 2))  # fmt: skip


def unstacked(pieces: Floats, sizes: Ints) -> tuple[Marginal, ...]:
    """Return the marginals that `stacked` took apart."""
    ends = np.cumsum(sizes[:, 0])
    found = []
    for end, (size, places) in zip(ends, sizes, strict=True):
        low, high, mass = pieces[end - size : end].T.copy()
        found.append(Marginal(low, high, mass, int(places)))
    return tuple(found)
