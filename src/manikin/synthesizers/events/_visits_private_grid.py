"""Distributions of numbers under a budget: noisy counts on public steps, smoothed, as quantiles.

Reference  Hay, Rastogi, Miklau and Suciu, PVLDB 3 (2010) (what noisy histograms become once they
           are made consistent)
Idea       days have public steps, one a day up to two months and wider ones behind; a group's
           distribution is that of all, moved as its own counts of a few coarse parts ask
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._quantiles import KNOTS, Quantiles
from manikin.synthesizers.events._visits_private_classes import trusted
from manikin.synthesizers.events._visits_private_purse import Purse, Told
from manikin.synthesizers.events.encoding import Histories

__all__ = ["DAYS", "SHARES", "Grid", "bought_quantiles", "knots_of", "smoothed"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

PARTS = 6  # coarse parts by which groups differ
WINDOW = 7  # steps over which counts are smoothed
FINE = 0.6  # share of what a distribution costs that goes to all groups together


@dataclass(frozen=True, eq=False)
class Grid:
    """Public steps: each from `low` to `high`."""

    low: Floats
    high: Floats

    @property
    def size(self) -> int:
        """Number of steps."""
        return self.low.size

    def place(self, values: Floats) -> Ints:
        """Return the step of each value; what is beyond counts in the last."""
        found = np.searchsorted(self.low, values, side="right") - 1
        return np.asarray(np.clip(found, 0, self.size - 1), np.int64)

    @staticmethod
    def even(low: float, high: float, n: int) -> Grid:
        """Return `n` steps of the same width."""
        edges = np.linspace(low, high, n + 1)
        return Grid(edges[:-1], edges[1:])


def _days() -> Grid:
    """Return nothing, parts of a day, whole days, and from two months on 5 % more each step."""
    early = np.array([1e-6, 1 / 24, 2 / 24, 4 / 24, 8 / 24, 0.5, 0.75])
    late = 60.5 * 1.05 ** np.arange(86)
    edges = np.concatenate([early, np.arange(1.5, 60.0, 1.0), late])
    return Grid(np.concatenate([[0.0], edges[:-1]]), np.concatenate([[0.0], edges[1:]]))


DAYS = _days()
SHARES = Grid.even(0.0, 1.0, 24)


def bought_quantiles(
    purse: Purse,
    tell: Callable[[Histories], tuple[Ints, Ints, Floats]],
    grid: Grid,
    groups: int,
    *,
    norm: float,
    share: str,
    what: str,
    part: float = 1.0,
) -> Quantiles:
    """Return noisy quantiles of each group; `tell` gives whose, of which group, and the value."""
    several = groups > 1

    def every(h: Histories) -> Told:
        whose, _, value = tell(h)
        return Told(whose, grid.place(value))

    found = purse.buy(every, grid.size, norm=norm, share=share, what=what,
                      part=part * (FINE if several else 1.0))  # fmt: skip
    whole = smoothed(found.value, found.noise)
    if not several:
        return Quantiles(knots_of(whole[None], grid), np.zeros((1, KNOTS), bool))
    coarse = np.minimum((np.cumsum(whole) - whole / 2) * PARTS, PARTS - 1).astype(np.int64)

    def by_group(h: Histories) -> Told:
        whose, group, value = tell(h)
        return Told(whose, group * PARTS + coarse[grid.place(value)])

    own = purse.buy(by_group, groups * PARTS, norm=norm, share=share, what=f"{what} by class",
                    part=part * (1 - FINE)).shaped(groups, PARTS)  # fmt: skip
    usual = np.bincount(coarse, weights=whole, minlength=PARTS)
    size = np.maximum(own.value.sum(axis=1, keepdims=True), own.noise)
    told = size * usual + trusted(own.value - size * usual, own.noise)
    factor = np.maximum(told / size, 0.02 * usual) / np.maximum(usual, 1e-12)
    mass = whole[None] * factor[:, coarse]
    return Quantiles(knots_of(mass, grid), np.zeros((groups, KNOTS), bool))


def smoothed(count: Floats, noise: float) -> Floats:
    """Return shares of steps: what stands out of its neighbours stays, what noise made goes."""
    width = min(WINDOW, count.size)
    kernel = np.ones(width)
    near = np.convolve(count, kernel, "same") / np.convolve(np.ones(count.size), kernel, "same")
    excess = count - near
    found = near + excess * excess**2 / np.maximum(excess**2 + 4 * noise**2, 1e-12)
    dim = (found < 2 * noise) & (near < 2 * noise / np.sqrt(width))
    found = np.where(dim, 0.0, np.maximum(found, 0.0))
    if not found.any():
        found = np.maximum(count, 0.0) + max(noise, 1.0)
    return np.asarray(found / found.sum())


def knots_of(mass: Floats, grid: Grid) -> Floats:
    """Return the quantiles of rows of masses on a grid, (rows, KNOTS)."""
    ranks = np.linspace(0.0, 1.0, KNOTS)
    found = np.empty((len(mass), KNOTS))
    ends = np.stack([grid.low, grid.high], axis=1).ravel()
    for i, row in enumerate(mass):
        share = row / row.sum()
        above = np.cumsum(share)
        below = np.stack([above - share, above], axis=1).ravel()
        some = np.repeat(share > 1e-9, 2)
        found[i] = np.interp(ranks, below[some] + 1e-13 * np.arange(int(some.sum())), ends[some])
    return found
