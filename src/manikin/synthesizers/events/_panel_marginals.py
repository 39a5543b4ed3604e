"""Marginal distributions of channels: pieces that k subjects share, and normal scores.

A value that k subjects have is a piece of its own, so that decimals, digit preference and lattices
of converted units stay as they are. All other values are in pieces of k subjects at least, whose
ends are no one's value; of the outermost the mean is kept, so that no one's extreme is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

__all__ = ["Marginal"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

MOST_PIECES = 400
ENOUGH = 1500  # independent values (Kish's design effect) that need no smoothing
STEADY = 0.9  # least intraclass correlation of what is smoothed
MANY = 20  # different values, likewise
ATOMIC = 0.5  # share of values that k subjects hold, from which a channel is made of such values


@dataclass(frozen=True, eq=False)
class Marginal:
    """Pieces in ascending order: uniform from `low` to `high`, of probability `mass`."""

    low: Floats
    high: Floats
    mass: Floats
    decimals: int
    marks: Floats = field(default_factory=lambda: np.zeros(0))  # values near which all others lie

    @staticmethod
    def fit(values: Floats, whose: Ints, k: int, decimals: int) -> Marginal:
        """Learn from values, (n,), of which `whose` says the subject."""
        values = np.round(values, decimals) + 0.0
        each, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        pairs = np.unique(np.stack([inverse.ravel(), whose], 1), axis=0)[:, 0]
        held = np.bincount(pairs, minlength=each.size)
        shared = held >= k
        if not values.size:
            return Marginal(np.zeros(1), np.zeros(1), np.ones(1), decimals)
        atomic = counts[shared].sum() >= ATOMIC * values.size and shared.sum() <= MOST_PIECES
        same = alike(values, whose)
        worth = values.size / (1 + (values.size / np.unique(whose).size - 1) * same)
        if same >= STEADY and worth < ENOUGH and each.size > MANY:
            smooth = _smoothed(_pieces(values, whose, k, decimals), worth)
            return replace(smooth, marks=each[shared]) if atomic else smooth
        if atomic:
            return _atoms(each, counts.astype(np.float64), held, shared, k, decimals)
        return _pieces(values, whose, k, decimals)

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
        if self.marks.size > 1:
            right = np.clip(np.searchsorted(self.marks, found), 1, self.marks.size - 1)
            low, high = self.marks[right - 1], self.marks[right]
            near = np.where(found - low < high - found, low, high)
            usual = float(np.median(np.diff(self.marks)))
            found = np.where(np.abs(found - near) <= usual, near, found)
        return np.asarray(np.round(found, self.decimals) + 0.0)


def _atoms(
    each: Floats, counts: Floats, held: Ints, shared: NDArray[np.bool_], k: int, decimals: int
) -> Marginal:
    """Shared values as they stand; the others count for the nearest, or make a tail."""
    atoms, mass = each[shared], counts[shared].copy()
    low, high = [atoms], [atoms]
    masses: list[Floats] = []
    rest = ~shared
    tails = ((rest & (each < atoms[0]), -1), (rest & (each > atoms[-1]), 1))
    for tail, side in tails:
        if held[tail].sum() < 2 * k:  # subjects may hold several: half of that is k at least
            rest_of = np.flatnonzero(tail)
            mass[0 if side < 0 else -1] += counts[rest_of].sum()
            continue
        edge = atoms[0] if side < 0 else atoms[-1]
        mean = float(np.average(each[tail], weights=counts[tail]))
        ends = sorted((edge + side * 10.0**-decimals, 2 * mean - edge))
        low.insert(0 if side < 0 else len(low), np.array([ends[0]]))
        high.insert(0 if side < 0 else len(high), np.array([ends[1]]))
        masses.insert(0 if side < 0 else len(masses), np.array([counts[tail].sum()]))
    between = rest & ~tails[0][0] & ~tails[1][0]
    right = np.searchsorted(atoms, each[between])
    nearer = (
        each[between] - atoms[right - 1] < atoms[np.minimum(right, atoms.size - 1)] - each[between]
    )
    np.add.at(mass, right - nearer, counts[between])
    below = 1 if low[0] is not atoms else 0
    masses.insert(below, mass)
    return Marginal(np.concatenate(low), np.concatenate(high), np.concatenate(masses), decimals)


def _pieces(values: Floats, whose: Ints, k: int, decimals: int) -> Marginal:
    """Pieces between quantiles, each of k subjects at least, that touch each other."""
    order = np.argsort(values, kind="stable")
    values, whose = values[order], whose[order]
    n = min(MOST_PIECES, max(1, values.size // (2 * k)))
    cuts = np.unique(np.linspace(0, values.size, n + 1).astype(int)).tolist()
    kept = [0]
    for cut in cuts[1:]:
        if np.unique(whose[kept[-1] : cut]).size >= k:
            kept.append(cut)
    if len(kept) > 1:
        kept[-1] = values.size  # what is left over goes to the last
    else:
        kept = [0, values.size]
    ends = np.array(kept)
    middle = (values[ends[1:-1] - 1] + values[ends[1:-1]]) / 2
    edges = np.concatenate([[_end(values[: ends[1]], middle[:1], -1)], middle,
                            [_end(values[ends[-2] :], middle[-1:], 1)]])  # fmt: skip
    edges = np.maximum.accumulate(edges)
    return Marginal(edges[:-1], edges[1:], np.diff(ends).astype(np.float64), decimals)


def alike(values: Floats, whose: Ints) -> float:
    """Return the intraclass correlation of ranks: 1 where a subject's values never change."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    _, of, counts = np.unique(whose, return_inverse=True, return_counts=True)
    mean = np.bincount(of, rank) / counts
    within = float(((rank - mean[of]) ** 2).sum()) / max(1, values.size - counts.size)
    return float(np.clip(1 - within / max(float(rank.var()), 1e-9), 0.0, 1.0))


def _smoothed(rough: Marginal, worth: float) -> Marginal:
    """Return pieces along a smooth quantile function, of as many knots as the values are worth.

    Between the clusters of subjects who hardly change, quantiles are steep and flat by chance, and
    the same change of score would be a large or a small change of value.
    """
    if rough.mass.size < 6:
        return rough
    below = rough.cumulative
    edges = np.append(rough.low, rough.high[-1])
    z = ndtri(np.clip(below, 0.5 / worth, 1 - 0.5 / worth))
    knots = ndtri(np.linspace(0, 1, int(np.clip(worth / 30, 1, 30)) + 2)[1:-1])
    basis = _hinges(z, knots)
    weight = np.exp(-(z**2) / 4)[:, None]
    middle = float(np.interp(0.5, below, edges))
    skewed = edges[0] > 0 and edges[-1] - middle > 2 * (middle - edges[0])
    if skewed:
        edges = np.log(edges)
    ridge = np.diag([0.0, 0.0, *[1e-3] * (basis.shape[1] - 2)])
    gram = (basis * weight).T @ basis + ridge * len(z)
    fitted = basis @ np.linalg.solve(gram, (basis * weight).T @ edges[:, None])[:, 0]
    smooth = np.maximum.accumulate(np.exp(fitted) if skewed else fitted)
    return Marginal(smooth[:-1], smooth[1:], rough.mass, rough.decimals)


def _hinges(z: Floats, knots: Floats) -> Floats:
    """Return the basis of a natural quadratic curve: straight ends, bent between knots."""
    wide = 1.0
    bent = [np.sqrt((z - knot) ** 2 + wide**2) for knot in knots]
    return np.stack([np.ones_like(z), z, *bent], 1)


def _end(values: Floats, inner: Floats, side: int) -> float:
    """Return the outer end of a piece, so that the mean between both ends is the values' own."""
    mean = float(values.mean())
    if inner.size:
        return 2 * mean - float(inner[0])
    return mean + side * float(values.std()) * 3**0.5


def stacked(marginals: Sequence[Marginal]) -> tuple[Floats, Floats, Ints]:
    """Return marginals as arrays: pieces (all, 3), marks (all,); sizes and decimals of each."""
    whole = [np.stack([m.low, m.high, m.mass], 1) for m in marginals]
    sizes = [(len(m.mass), len(m.marks), m.decimals) for m in marginals]
    return (np.concatenate([np.zeros((0, 3)), *whole]),
            np.concatenate([np.zeros(0), *(m.marks for m in marginals)]),
            np.array(sizes, np.int64).reshape(-1, 3))  # fmt: skip


def unstacked(pieces: Floats, marks: Floats, sizes: Ints) -> tuple[Marginal, ...]:
    """Return the marginals that `stacked` took apart."""
    ends = np.cumsum(sizes[:, :2], 0)
    found = []
    for (end, stop), (size, many, places) in zip(ends, sizes, strict=True):
        low, high, mass = pieces[end - size : end].T.copy()
        found.append(Marginal(low, high, mass, int(places), marks[stop - many : stop].copy()))
    return tuple(found)
