"""How sure a score is: resampling subjects, exact binomial intervals, areas under the curve.

Subjects are dealt at random into at most `MOST` blocks and whole blocks are resampled (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993; delete-a-group variants: Kott, J. Off. Stat.
2001). Up to `MOST` subjects this is the plain bootstrap by subject; beyond it every statistic that
is a sum over rows is summed once a block, and a thousand replicates cost one matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "Blocks",
    "Floats",
    "auc",
    "auc_draws",
    "binomial",
    "blocks",
    "difference",
    "recentred",
    "share",
]

Floats = NDArray[np.float64]
Pair = tuple[float, float]

MOST = 200  # blocks; the interval's width is then known to about 5 %
DRAWS = 300  # bootstrap replicates
CHUNK = 50  # blocks whose wins are counted together
NOT_KNOWN: Pair = (math.nan, math.nan)


@dataclass(frozen=True)
class Blocks:
    """Subjects dealt into blocks: the block of every row, and how often each replicate takes it."""

    of_row: NDArray[np.intp]  # (rows,)
    weights: Floats  # (draws, blocks)

    @property
    def n(self) -> int:
        """Number of blocks."""
        return int(self.weights.shape[1])

    def among(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Blocks:
        """Return the same blocks of some of the rows only."""
        return Blocks(self.of_row[rows], self.weights)

    def beside(self, other: Blocks) -> Blocks:
        """Return the blocks of these rows followed by another side's, resampled apart."""
        both = np.concatenate([self.of_row, self.n + other.of_row])
        return Blocks(both, np.concatenate([self.weights, other.weights], axis=1))

    def rows(self) -> Floats:
        """Return the weight of every row in every replicate, (draws, rows)."""
        return np.ascontiguousarray(self.weights[:, self.of_row])

    def sums(self, values: Floats) -> Floats:
        """Return each replicate's weighted sum of `values` (rows,), (draws,)."""
        return np.asarray(self.weights @ np.bincount(self.of_row, values, minlength=self.n))

    def counts(self, codes: NDArray[np.integer], n_codes: int) -> Floats:
        """Return how often each code occurs in each replicate, (draws, codes)."""
        joint = self.of_row.astype(np.int64) * n_codes + codes
        table = np.bincount(joint, minlength=self.n * n_codes).reshape(self.n, n_codes)
        return np.asarray(self.weights @ table.astype(np.float64))


def blocks(subjects: NDArray[np.int64], rng: np.random.Generator, *, draws: int = DRAWS) -> Blocks:
    """Deal the subjects of these rows into blocks and draw the replicates."""
    everyone, of_row = np.unique(subjects, return_inverse=True)
    n = max(1, min(MOST, everyone.size))
    dealt = rng.permutation(everyone.size) % n
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    if n == 1:  # one subject, or none: nothing to resample, and no replicate is a number
        weights[:] = np.nan
    return Blocks(dealt[of_row] if everyone.size else np.empty(0, np.intp), weights)


def recentred(
    value: float,
    draws: Floats,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    widened: float = 1.0,
) -> Pair:
    """Return the 95 % interval of `value` from its replicates, within [low, high].

    Distances between samples are larger in a replicate than in the sample it came from, because
    resampling adds noise; so the replicates' spread is laid around the value, not their place.
    `widened` multiplies the spread, for what resampling leaves out.
    """
    kept = draws[np.isfinite(draws)]
    if not math.isfinite(value) or kept.size < max(2, draws.size // 2) or np.ptp(kept) == 0:
        return NOT_KNOWN if not math.isfinite(value) or kept.size < 2 else (value, value)
    below, above = widened * (np.quantile(kept, [0.025, 0.975]) - kept.mean())
    lower = min(value, max(low, value + float(below)))
    return lower, max(value, min(high, value + float(above)))


def binomial(hits: float, n: float, level: float = 0.95) -> Pair:
    """Return the exact interval of a share (Clopper and Pearson, Biometrika 1934).

    `hits` and `n` may be fractions: an effective sample size. (0, 1) when n is 0.
    """
    if n <= 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    lower = 0.0 if hits <= 0 else float(stats.beta.ppf(tail, hits, n - hits + 1))
    upper = 1.0 if hits >= n else float(stats.beta.ppf(1 - tail, hits + 1, n - hits))
    return lower, upper


def share(hits: NDArray[np.bool_], subjects: NDArray[np.int64]) -> tuple[float, Pair]:
    """Return the share of rows that are hits, and its exact interval.

    Where subjects have several rows, n is divided by the design effect of that clustering (Rao
    and Scott, Biometrics 1992), never less than 1.
    """
    n = hits.size
    if n == 0:
        return math.nan, NOT_KNOWN
    p = float(hits.mean())
    _, of_row = np.unique(subjects, return_inverse=True)
    sizes = np.bincount(of_row)
    effect = 1.0
    if sizes.size < n and sizes.size > 1 and 0 < p < 1:
        residuals = np.bincount(of_row, hits.astype(np.float64)) - p * sizes
        variance = sizes.size / (sizes.size - 1) * float(np.sum(residuals**2)) / n**2
        effect = max(1.0, variance / (p * (1 - p) / n))
    elif sizes.size < n:  # all or none: every subject's rows may be one observation
        effect = n / sizes.size
    return p, binomial(p * n / effect, n / effect)


def difference(one: float, of_one: Pair, other: float, of_other: Pair) -> Pair:
    """Return the interval of `one` - `other` from their own (Newcombe, Stat. Med. 1998, no. 10)."""
    below = math.hypot(one - of_one[0], of_other[1] - other)
    above = math.hypot(of_one[1] - one, other - of_other[0])
    return one - other - below, one - other + above


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive outscores a negative, ties half; NaN for one class."""
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if not n_positive or not n_negative:
        return math.nan
    ranks = stats.rankdata(scores)
    won = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2
    return won / (n_positive * n_negative)


def auc_draws(scores: Floats, positive: NDArray[np.bool_], dealt: Blocks) -> Floats:
    """Return the AUC in each replicate, (draws,).

    A replicate takes whole blocks, so how often positives of one block outscore negatives of
    another, (blocks, blocks), is counted once and weighted in each.
    """
    order = np.argsort(scores[~positive], kind="stable")
    negatives, own = scores[~positive][order], dealt.of_row[~positive][order]
    winners, theirs = scores[positive], dealt.of_row[positive]
    at = [np.searchsorted(negatives, winners, side) for side in ("left", "right")]
    by_block = np.argsort(theirs, kind="stable")
    opening = np.flatnonzero(np.diff(theirs[by_block], prepend=-1))
    won = np.zeros((dealt.n, dealt.n))
    for first in range(0, dealt.n, CHUNK):
        blocks_of = np.arange(first, min(first + CHUNK, dealt.n))
        below = np.zeros((negatives.size + 1, blocks_of.size))
        np.cumsum(own[:, None] == blocks_of, axis=0, out=below[1:])
        beaten = (below[at[0]] + below[at[1]])[by_block] / 2  # (positives, blocks)
        if opening.size:
            won[theirs[by_block][opening], first : first + CHUNK] = np.add.reduceat(
                beaten, opening, axis=0
            )
    sizes = [np.bincount(dealt.of_row[side], minlength=dealt.n) for side in (positive, ~positive)]
    total = (dealt.weights @ sizes[0]) * (dealt.weights @ sizes[1])
    found = np.full(len(dealt.weights), np.nan)
    pairs = np.einsum("di,ij,dj->d", dealt.weights, won, dealt.weights, optimize=True)
    np.divide(pairs, total, out=found, where=total > 0)
    return found
