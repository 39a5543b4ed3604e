"""Traits of drawn subjects, in the form that moments and numbers are drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Own"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Own:
    """Traits of subjects; a place is the column of each code, -1 for none, (codes,)."""

    level: Floats  # (subjects, codes that have one) beside what factors say
    level_place: Ints
    trend: Floats  # over a whole record
    trend_place: Ints
    often: Floats  # logarithm of moments a day at which it is measured
    often_place: Ints
    regular: Floats  # (codes that have a rate) how evenly it is measured
    reached: Floats  # (codes that have a rate, shifts) log odds to be at any moment
    shifts: Floats  # of the log odds to be at a moment of a kind, ascending
    pace: Floats  # (subjects,) score of the gaps between moments, NaN where it is nobody's

    def shift(self, slot: Ints, share: Floats) -> Floats:
        """Return the shift of log odds by which codes are at such a share of all moments."""
        odds = np.log(share) - np.log1p(-share)
        found = np.zeros(slot.size)
        for j in range(len(self.reached)):
            rows = np.flatnonzero(slot == j)
            found[rows] = np.interp(odds[rows], self.reached[j], self.shifts)
        return found

    @staticmethod
    def at(
        values: Floats, place: Ints, subject: Ints, code: Ints
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the trait of pairs of subject and code, 0 where there is none, and which are."""
        column = place[code]
        there = column >= 0
        if not values.shape[1]:
            return np.zeros(code.size), there
        return np.where(there, values[subject, np.maximum(column, 0)], 0.0), there
