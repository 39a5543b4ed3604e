"""Candidates of which some are drawn again by weight: a particle filter over columns.

Sequential importance resampling (Doucet, de Freitas and Gordon, "Sequential Monte Carlo Methods in
Practice" (2001)) with systematic draws; how many candidates count is Kong's effective number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cloud"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass
class Cloud:
    """Candidates, `each` a row, side by side."""

    each: int
    effective: Floats  # (rows,) the smallest number of them that ever counted
    evidence: Floats  # (rows,) log probability of what weighed them, as far as they were renewed

    def renew(self, weight: Floats, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """Return which candidate takes each one's place, and the log weights left.

        Where fewer than half of a row's candidates count, they are drawn again by weight.
        """
        share = self._shares(weight)
        effective = 1 / (share**2).sum(axis=1)
        self.effective = np.minimum(self.effective, effective)
        again = np.arange(weight.size).reshape(-1, self.each)
        few = np.flatnonzero(effective < self.each / 2)
        again[few] = self._drawn(share[few], self.each, few, rng)
        left = weight.reshape(-1, self.each).copy()
        self.evidence[few] += _mean(left[few])
        left[few] = 0.0
        return again.ravel(), left.ravel()

    def choose(self, weight: Floats, wanted: int, rng: np.random.Generator) -> Ints:
        """Return `wanted` candidates of each row, by weight and in no order, (rows * wanted,)."""
        share = self._shares(weight)
        self.evidence += _mean(weight.reshape(-1, self.each))
        best = self._drawn(share, wanted, np.arange(len(share)), rng)
        return rng.permuted(best, axis=1).ravel()

    def _shares(self, weight: Floats) -> Floats:
        own = weight.reshape(-1, self.each)
        share = np.exp(own - own.max(axis=1, keepdims=True))
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    def _drawn(self, share: Floats, n: int, rows: Ints, rng: np.random.Generator) -> Ints:
        """Return the places of `n` candidates a row, each about as often as is due."""
        upto = np.minimum(np.cumsum(share, axis=1), 1.0)
        upto[:, -1:] = 1.0
        heap = (np.arange(len(share))[:, None] + upto).ravel()
        due = (np.arange(n) + rng.random((len(share), 1))) / n
        at = np.searchsorted(heap, (np.arange(len(share))[:, None] + due).ravel(), side="right")
        at = at.reshape(-1, n) - np.arange(len(share))[:, None] * self.each
        return np.asarray(rows[:, None] * self.each + np.clip(at, 0, self.each - 1))

    @staticmethod
    def of(rows: int, each: int) -> Cloud:
        """Return candidates of which nothing is known yet."""
        return Cloud(each, np.full(rows, float(each)), np.zeros(rows))


def _mean(weight: Floats) -> Floats:
    """Return the logarithm of the mean of each row's exponentials."""
    most = weight.max(axis=1, initial=-1e300)
    return np.asarray(most + np.log(np.exp(weight - most[:, None]).mean(axis=1)))
