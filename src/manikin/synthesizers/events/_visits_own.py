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
    often: Floats  # shift of the log odds to be at a moment
    often_place: Ints
    pace: Floats  # (subjects,) score of the gaps between moments, NaN where it is nobody's

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
