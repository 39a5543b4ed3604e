"""Private rows beside a public distribution: noisy distances, each a single number.

The total variation distance of a table of counts from shares that are public, times the number of
rows, changes by one at most when one row comes or goes: of the counts one cell changes by one, and
every expected count by its share, 1/2 (1 - s_j + sum of the others) = 1 - s_j. So a distance needs
the noise of one count, however many cells it has, and so does the mean of any number of distances.
Noisy counts of the cells would need as much noise in each, and would all look far away by it.

Reference  Dwork and Roth, "The algorithmic foundations of differential privacy" (2014), §3.3 (noise
           by sensitivity); the bound is the one above
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.errors import PrivacyError
from manikin.privacy.account import measuring
from manikin.privacy.rows import Rows

__all__ = ["Compared", "Expected", "deviation"]

UNITS = 1000  # steps in which a row's worth of distance is counted: noise is over integers
SUM = 1e-6  # how far shares may add up to other than one


@dataclass(frozen=True)
class Expected:
    """The shares that rows of some columns would have, shaped by the columns' sizes: public."""

    columns: tuple[int, ...]
    shares: NDArray[np.float64]

    def __post_init__(self) -> None:
        # not a number is in no range; other shares would change by more than one
        if not (self.shares.min(initial=1.0) >= 0 and abs(self.shares.sum() - 1) <= SUM):
            raise PrivacyError(
                "expected shares that are no shares", "none below 0, and 1 together",
                "report this: it is a fault of the method, and nothing was released",
            )  # fmt: skip


class Compared(Rows):
    """Rows that are compared with public distributions."""

    def distances(
        self, means: Sequence[Sequence[Expected]], *, rho: float, what: str
    ) -> NDArray[np.float64]:
        """Return noisy sums over rows: of each mean of distances, times the number of rows.

        All are one release; `deviation` is what noise has in each.
        """
        with measuring():
            exact = [UNITS * sum(map(self._far, every)) / len(every) for every in means]
            far = self.most_rows * _most(len(means))
            whole = np.rint(np.array(exact)).astype(np.int64)
            return self.account.sums(whole, sensitivity=far, rho=rho, what=what) / UNITS

    def _far(self, expected: Expected) -> float:
        counts = self._exact(expected.columns)
        return float(np.abs(counts - counts.sum() * expected.shares).sum()) / 2


def deviation(n: int, rho: float, most_rows: int = 1) -> float:
    """Return the standard deviation of noise in each of `n` distances, in rows."""
    return most_rows * _most(n) / UNITS / math.sqrt(2 * rho)


def _most(n: int) -> float:
    """Return by how much a row changes `n` numbers, in units: rounding may add one, floats one."""
    return (UNITS + 2) * math.sqrt(n)
