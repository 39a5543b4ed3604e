"""Two sides, their labels permuted by subject: what a number is when there is no difference.

A permutation test is exact when the permuted units are exchangeable under the null (Lehmann and
Romano, Testing Statistical Hypotheses, 3rd ed., 2005, section 15.2). Rows of one subject are not,
so whole subjects are permuted; many subjects are first dealt at random into units of equal size,
so that a statistic made of sums is summed once a unit. That leaves the test's level as it is; but
where the sides differ, units of many subjects make the null wider than subjects would, so what is
divided by a null's mean takes subjects. Intervals resample units too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.metrics.intervals import Floats, binomial
from manikin.metrics.score import Score

__all__ = ["UNITS", "Sides", "p_score", "p_value"]

UNITS = 400  # of both sides together


@dataclass(frozen=True)
class Sides:
    """Real rows followed by synthetic ones, in units of subjects."""

    of_row: NDArray[np.int64]  # (rows,) the unit of every row
    fake: NDArray[np.bool_]  # (units,)

    @staticmethod
    def deal(
        real: NDArray[np.int64],
        synthetic: NDArray[np.int64],
        rng: np.random.Generator,
        *,
        most: int = UNITS,
    ) -> Sides:
        """Deal the subjects of real and of synthetic rows into at most `most` units of one size."""
        found = [np.unique(part, return_inverse=True) for part in (real, synthetic)]
        counts = [everyone.size for everyone, _ in found]
        size = max(1, math.ceil(sum(counts) / most))
        of_row, fake, start = [], [], 0
        for side, (n, (_, inverse)) in enumerate(zip(counts, found, strict=True)):
            n_units = max(1, n // size)
            of_row.append(start + (rng.permutation(n) % n_units)[inverse])
            fake += [bool(side)] * n_units
            start += n_units
        return Sides(np.concatenate(of_row).astype(np.int64), np.array(fake))

    @property
    def n(self) -> int:
        """Number of units."""
        return int(self.fake.size)

    def sums(self, rows: Floats) -> Floats:
        """Return each unit's sum over its rows (rows, dims), (units, dims)."""
        order = np.argsort(self.of_row, kind="stable")
        starts = np.searchsorted(self.of_row[order], np.arange(self.n))
        return np.asarray(np.add.reduceat(rows[order], starts, axis=0))

    def counts(self, codes: NDArray[np.integer], n_codes: int) -> Floats:
        """Return how often each code occurs in each unit, (units, codes)."""
        joint = self.of_row * n_codes + codes
        return np.bincount(joint, minlength=self.n * n_codes).reshape(self.n, n_codes).astype(float)

    def permuted(self, draws: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return which units are called synthetic in each permutation, (draws, units)."""
        return np.asarray(rng.permuted(np.tile(self.fake, (draws, 1)), axis=1))

    def resampled(self, draws: int, rng: np.random.Generator) -> Floats:
        """Return how often each replicate takes each unit of its side, (draws, units).

        NaN for a side of one unit, which nothing can be learnt from by resampling.
        """
        found = np.full((draws, self.n), np.nan)
        for side in (self.fake, ~self.fake):
            n = int(side.sum())
            if n > 1:
                found[:, side] = rng.multinomial(n, np.full(n, 1 / n), size=draws)
        return found


def p_value(observed: float, null: Floats) -> float:
    """Return the chance of a value as large under the null, the observed one counting as drawn."""
    slack = 1e-12 * max(1.0, abs(observed))
    return float((1 + np.count_nonzero(null >= observed - slack)) / (1 + null.size))


def p_score(metric: str, p: float, draws: int, group: str) -> Score:
    """Return a p-value as a score; its interval is the uncertainty of so many permutations."""
    low, high = binomial(p * (1 + draws), 1 + draws)
    note = f"from {draws} permutations of the subjects' labels"
    return Score(metric, p, (min(low, p), max(high, p)), group=group, note=note)
