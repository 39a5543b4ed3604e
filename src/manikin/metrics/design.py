"""Columns as the terms of a regression, chosen on training rows alone.

A number is one term, standardised, its outermost half per cent at either end drawn in; a coded
column one for every frequent level but the commonest; a column that often lacks a value one more
for that. Terms that training rows cannot tell apart from earlier ones, or that fewer than eleven
training rows have or lack, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.spaces import frequent_levels
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["Design", "Term", "number_term"]

LEVELS = 8  # of a coded column that have a term of their own
DEPENDENT = 1e-4  # share of a term's length that earlier ones leave unexplained


@dataclass(frozen=True)
class Term:
    """One covariate: a standardised number, membership of some levels, or having no value."""

    column: str
    kind: Literal["number", "level", "absent"]
    label: str
    levels: tuple[int, ...] = ()
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0

    def of(self, table: Table) -> Floats:
        """Return the covariate, (rows,); NaN for a number that is not there."""
        values = table.numbers(self.column)
        if self.kind == "absent":
            return np.isnan(values).astype(np.float64)
        if self.kind == "level":
            return np.isin(values, self.levels).astype(np.float64)
        return np.asarray((np.clip(values, self.low, self.high) - self.mean) / self.deviation)


@dataclass(frozen=True)
class Design:
    """The terms of a regression, in a fixed order."""

    terms: tuple[Term, ...]

    @staticmethod
    def fit(train: Table, leave_out: frozenset[str] = frozenset()) -> Design:
        """Choose the terms; `leave_out` names columns that take no part."""
        found: list[Term] = []
        for column in train.schema.learned:
            if column.name not in leave_out:
                found += _terms(train, column)
        if not found:
            return Design(())
        found.sort(key=lambda term: term.kind == "absent")  # of two that say the same, the value
        every = Design(tuple(found))
        x = every.matrix(train)
        x = x - x.mean(axis=0)
        lengths = np.linalg.norm(x, axis=0)
        x = x / np.maximum(lengths, 1e-300)
        own = np.zeros(x.shape[1])
        left = np.abs(np.diagonal(np.linalg.qr(x, mode="r")))
        own[: left.size] = left
        return Design(tuple(t for t, o in zip(found, own, strict=True) if o > DEPENDENT))

    @property
    def labels(self) -> tuple[str, ...]:
        """What each term is."""
        return tuple(term.label for term in self.terms)

    def values(self, table: Table) -> Floats:
        """Return the terms, NaN for numbers that are not there, (rows, terms)."""
        if not self.terms:
            return np.zeros((table.n_rows, 0))
        return np.column_stack([term.of(table) for term in self.terms])

    def matrix(self, table: Table) -> Floats:
        """Return the terms with the training mean for numbers that are not there."""
        return np.nan_to_num(self.values(table), nan=0.0)


def number_term(train: Table, name: str) -> Term | None:
    """Return how a number is standardised, or None when it does not vary."""
    values = train.numbers(name)
    values = values[np.isfinite(values)]
    if values.size < 2:
        return None
    low, high = np.quantile(values, [0.005, 0.995])
    if low == high:  # nearly constant: the rare others are all there is to see
        low, high = values.min(), values.max()
    cut = np.clip(values, low, high)
    if cut.std() <= 1e-12 * max(1.0, abs(float(cut.mean()))):
        return None
    facts = (float(low), float(high), float(cut.mean()), float(cut.std()))
    return Term(name, "number", name, (), *facts)


def _terms(train: Table, column: Column) -> list[Term]:
    name, n = column.name, train.n_rows
    found: list[Term] = []
    if column.is_coded:
        cells = frequent_levels(train, column, LEVELS)
        codes = train.columns[name]
        counts = np.bincount(codes[codes >= 0], minlength=cells.size)
        reference = int(np.argmax(counts)) if counts.size else 0
        for cell in range(int(cells.max(initial=-1)) + 1):
            levels = np.flatnonzero(cells == cell)
            held = int(counts[levels].sum())
            if reference in levels or not SMALLEST_CELL <= held <= n - SMALLEST_CELL:
                continue
            label = "other levels"
            if levels.size == 1 and levels[0] < len(column.categories):
                label = column.categories[levels[0]]
            found.append(Term(name, "level", f"{name}={label}", tuple(map(int, levels))))
    else:
        term = number_term(train, name)
        found += [] if term is None else [term]
    missing = int(np.isnan(train.numbers(name)).sum())
    if SMALLEST_CELL <= missing <= n - SMALLEST_CELL:
        found.append(Term(name, "absent", f"{name} (no value)"))
    return found
