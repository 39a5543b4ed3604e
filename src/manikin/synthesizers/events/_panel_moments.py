"""What scores of channels have in common over time: covariances by distance, and lively subjects.

Everything here is an average over pairs of visits of the same subject, computed alike for real and
for simulated panels, so that a model can be corrected until both agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "Pairs", "last_known"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

STEPS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40, 60, 90, 130, 200, 300, 450, 700)  # visits apart
BINS = 8


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of visits by distance in time; the first group is of each visit with itself."""

    edges: Floats  # (groups - 2,) distances between the later groups
    apart: Floats  # (groups,) mean distance

    @staticmethod
    def fit(whose: Ints, time: Ints) -> Pairs:
        """Choose groups of about equally many pairs."""
        apart = [(time[b] - time[a]).astype(np.float64) for a, b in _steps(whose)]
        every = np.concatenate([*apart, np.zeros(0)])
        if not every.size:
            return Pairs(np.zeros(0), np.zeros(1))
        inner = np.unique(np.quantile(every, np.linspace(0, 1, BINS + 1)[1:-1]))
        group = np.searchsorted(inner, every, side="right")
        total = np.bincount(group, minlength=inner.size + 1)
        mean = np.bincount(group, every, minlength=inner.size + 1) / np.maximum(total, 1)
        return Pairs(inner, np.concatenate([[0.0], mean]))


@dataclass(frozen=True, eq=False)
class Moments:
    """Averages over pairs of visits."""

    products: Floats  # (groups, channels, channels) at a visit; later groups: half of products
    # of differences (semivariances), which no subject's level takes part in
    pairs: Floats  # (groups, channels, channels) how many
    lively: Floats  # (channels, channels) log of what steps of a subject have in common
    steps: Floats  # (channels,) mean size of a step
    same: Floats  # (channels,) share of steps that repeat the value before
    again: Floats  # (channels,) share of pairs of a subject's steps of which both do

    @staticmethod
    def of(
        scores: Floats, cells: Floats, whose: Ints, time: Ints, pairs: Pairs, few: Mask
    ) -> Moments:
        """Average over the panel; `scores` are what is left beside the mean.

        Variances of steps are told by mean sizes (a Gaussian's), which outliers hardly move, but
        for channels of few values, (channels,), by squares.
        """
        known = ~np.isnan(scores)
        y = np.where(known, scores, 0.0)
        seen = known.astype(np.float64)
        n_groups, n = pairs.apart.size, scores.shape[1]
        products, many = np.zeros((n_groups, n, n)), np.zeros((n_groups, n, n))
        products[0], many[0] = y.T @ y, seen.T @ seen
        sizes = np.zeros((n_groups, n))
        for a, b in _steps(whose):
            group = 1 + np.searchsorted(pairs.edges, time[b] - time[a], side="right")
            for g in np.unique(group):
                own = group == g
                early, late = a[own], b[own]
                both = seen[early] * seen[late]
                step = (y[late] - y[early]) * both
                products[g] += step.T @ step / 2
                many[g] += both.T @ both
                sizes[g] += np.abs(step).sum(0)
        products /= np.maximum(many, 1.0)
        plain = np.einsum("gjj->gj", products[1:])
        typical = np.pi / 4 * (sizes[1:] / np.maximum(np.einsum("gjj->gj", many[1:]), 1.0)) ** 2
        scale = np.sqrt(np.where(few, 1.0, typical / np.maximum(plain, 1e-12)))
        products[1:] *= scale[:, :, None] * scale[:, None, :]
        size, repeats = _sizes(scores, cells, whose)
        return Moments(products, many, *_lively(size, whose), *_repeats(repeats, whose))


def last_known(values: Floats, whose: Ints) -> Floats:
    """Return the last value before each visit of the same subject, NaN for none."""
    n = len(values)
    found = np.full_like(values, np.nan)
    if n < 2:
        return found
    at = np.arange(n)
    starts = np.maximum.accumulate(np.where(np.diff(whose, prepend=-1) != 0, at, 0))
    for j in range(values.shape[1]):
        last = np.maximum.accumulate(np.where(np.isnan(values[:, j]), -1, at))
        before = np.concatenate([[-1], last[:-1]])
        own = before >= starts
        found[own, j] = values[before[own], j]
    return found


def _steps(whose: Ints) -> list[tuple[Ints, Ints]]:
    """Return pairs of visits of the same subject, so many visits apart."""
    found = []
    for step in STEPS:
        if step >= whose.size:
            break
        at = np.flatnonzero(whose[:-step] == whose[step:])
        if at.size:
            found.append((at, at + step))
    return found


def _sizes(scores: Floats, cells: Floats, whose: Ints) -> tuple[Floats, Floats]:
    """Return sizes of steps from the last known value, and which of them are none (1)."""
    size = np.abs(scores - last_known(scores, whose))
    step = cells - last_known(cells, whose)
    return size, np.where(np.isnan(step), np.nan, step == 0)


def _repeats(repeats: Floats, whose: Ints) -> tuple[Floats, Floats]:
    """Return the share of repeats, and of pairs of a subject's steps in which both are."""
    known = ~np.isnan(repeats)
    share = np.where(known, repeats, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    once, many = (
        _apart(np.where(known, values, 0.0), whose).diagonal()
        for values in (repeats, known.astype(np.float64))
    )
    return share, (once + 20 * share**2) / (many + 20)


def _apart(values: Floats, whose: Ints) -> Floats:
    """Return sums of products over pairs of a subject's rows that are no neighbours."""
    starts = np.flatnonzero(np.diff(whose, prepend=-1) != 0)
    total = np.add.reduceat(values, starts, 0) if starts.size else values
    follows = np.flatnonzero(np.diff(whose) == 0)
    beside = values[follows].T @ values[follows + 1]
    return np.asarray(total.T @ total - values.T @ values - beside - beside.T)


def _lively(size: Floats, whose: Ints) -> tuple[Floats, Floats]:
    """Return how much larger than by chance products of a subject's steps are: log, and sizes.

    Only steps that share no visit count, so that what makes one value stand out is left aside:
    for steps of size |d| exp(g) this is the covariance of g.
    """
    known = ~np.isnan(size)
    mean = np.where(known, size, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    root = np.sqrt(np.where(known, size, 0.0) / np.maximum(mean, 1e-9))
    root /= np.maximum(root.sum(0) / np.maximum(known.sum(0), 1), 1e-9)
    # of square roots, which outliers hardly move: their covariance is a quarter
    ratio = (_apart(root, whose) + 20.0) / (_apart(known.astype(np.float64), whose) + 20.0)
    return 4 * np.log(np.clip(ratio, 0.7, 1.6)), mean
