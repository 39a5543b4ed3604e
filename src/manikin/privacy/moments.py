"""How features of one column go with those of another: noisy sums of products, bought at once.

Every code of a column has public features, whole numbers. A row's features make products, one for
each pair of features of two columns; where all of them together are longer than a public norm, the
row counts for less. Everything is added up in whole numbers, so the most that a subject changes is
exact, and whoever fits a model weighs its rows in the same way: the clipping biases nothing.

Reference  Dwork, Talwar, Thakurta and Zhang, "Analyze Gauss", STOC 2014 (a noisy second-moment
           matrix); rows shortened to a norm: Biswas, Dong, Kamath and Ullman, NeurIPS 2020
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.privacy.account import measuring
from manikin.privacy.rows import Rows

__all__ = ["Features"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

UNIT = 64  # of features: one of 1.0 is so many
WEIGHT = 256  # of a row that counts wholly
BLOCK = 50_000  # rows whose products are added at a time


@dataclass(frozen=True)
class Features:
    """Public features of codes, and the norm to which a row's products are shortened."""

    tables: tuple[Floats, ...]  # a column: (codes, features), whole numbers
    norm: float  # in squares of the unit

    @staticmethod
    def of(tables: Sequence[Floats], norm: float) -> Features:
        """Return features, 1.0 of which is a typical one; `norm` is in their squares."""
        whole = tuple(np.rint(table * UNIT) for table in tables)
        return Features(whole, norm * UNIT**2)

    @property
    def width(self) -> int:
        """Features of all columns."""
        return sum(table.shape[1] for table in self.tables)

    def apart(self) -> NDArray[np.bool_]:
        """Return the pairs of features that are of two columns, (width, width)."""
        of = np.repeat(np.arange(len(self.tables)), [t.shape[1] for t in self.tables])
        return np.asarray(of[:, None] != of[None, :])

    def weighed(self, codes: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """Return rows' features, (rows, width), and weights, (rows,), in their units."""
        every = [t[codes[:, j]] for j, t in enumerate(self.tables)]
        whole = np.concatenate(every, axis=1) if every else np.zeros((len(codes), 0))
        square = np.array([(f**2).sum(1) for f in every]).reshape(len(every), -1)
        long = np.sqrt(np.maximum(square.sum(0) ** 2 - (square**2).sum(0), 0.0) / 2)
        weight = np.minimum(1.0, self.norm * (1 - 1e-9) / np.maximum(long, 1e-9))
        return whole, WEIGHT * weight

    def sums(self, codes: NDArray[np.int32]) -> Floats:
        """Return the sum of rows' products, (width, width), in the upper half; exact."""
        found = np.zeros((self.width, self.width))
        for start in range(0, len(codes), BLOCK):
            whole, weight = self.weighed(codes[start : start + BLOCK])
            # towards nought: no product is longer than the row's share of the norm
            found += np.trunc(whole * weight[:, None]).T @ whole
        return np.triu(found * self.apart())

    def mean(self, codes: NDArray[np.int32]) -> Floats:
        """Return the mean of rows' products, in squares of features of 1.0: symmetric."""
        return self._scaled(self.sums(codes), max(len(codes), 1))

    def bought(self, rows: Rows, n: float, *, rho: float, what: str) -> tuple[Floats, float]:
        """Return the noisy mean over `n` rows, as `mean` has it, and its noise's deviation."""
        upper = np.triu_indices(self.width)
        kept = self.apart()[upper]
        far = rows.most_rows * WEIGHT * self.norm
        with measuring():
            exact = self.sums(rows.codes)[upper][kept].astype(np.int64)
            noisy = rows.account.sums(exact, sensitivity=far, rho=rho, what=what)
        found = np.zeros((self.width, self.width))
        found[upper[0][kept], upper[1][kept]] = noisy
        return self._scaled(found, n), far / math.sqrt(2 * rho) / (n * WEIGHT * UNIT**2)

    def slopes(self, codes: NDArray[np.int32], z: Floats) -> Floats:
        """Return how `mean` grows with correlations of `z`, (rows, width), about."""
        whole, weight = self.weighed(codes)
        own = (whole * z).mean(0) / UNIT
        return np.asarray(np.outer(own, own) * weight.mean() / WEIGHT)

    def _scaled(self, sums: Floats, n: float) -> Floats:
        return np.asarray((sums + sums.T) / (n * WEIGHT * UNIT**2))
