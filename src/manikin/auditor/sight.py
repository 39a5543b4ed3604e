"""What every check of the audit looks at: the table, its cells, and a sample for slow questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.privacy.cells import subjects_per_cell

if TYPE_CHECKING:
    import polars

__all__ = ["Audited", "Sight", "bins"]

SAMPLE_ROWS = 20_000  # associations between columns are looked for in this many rows
BINS = 24
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Audited(Protocol):
    """Something to audit: what `manikin.io.tables.open_table` returns."""

    @property
    def table(self) -> Table:
        """The table as read by its schema."""

    @property
    def cells(self) -> polars.DataFrame | None:
        """The cells as they stand in the source, if at hand."""

    @property
    def renamed(self) -> tuple[str, ...]:
        """Columns whose own name in the source is empty or another column's."""


@dataclass(frozen=True)
class Sight:
    """A table and its cells, with whose row each one is."""

    table: Table
    cells: polars.DataFrame | None
    renamed: tuple[str, ...] = ()

    @cached_property
    def who(self) -> NDArray[np.int64]:
        """Subject of each row, numbered 0 to n - 1, (rows,)."""
        return np.unique(self.table.subjects, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def n_subjects(self) -> int:
        """Number of different subjects."""
        return int(self.who.max()) + 1 if self.who.size else 0

    def subjects_by_code(self, codes: NDArray[Any], n_codes: int) -> NDArray[np.int64]:
        """Return the number of different subjects of each code (negative: left out), (codes,)."""
        return subjects_per_cell(codes, self.who, n_codes)

    @cached_property
    def sample(self) -> Sight:
        """Whole subjects with about `SAMPLE_ROWS` rows, for questions that pairs of columns ask."""
        if self.table.n_rows <= SAMPLE_ROWS:
            return self
        n = max(2, int(self.n_subjects * SAMPLE_ROWS / self.table.n_rows))
        chosen = np.zeros(self.n_subjects, dtype=bool)
        chosen[generator(0, "audit").permutation(self.n_subjects)[:n]] = True
        return Sight(self.table.rows(np.flatnonzero(chosen[self.who])), None)

    def text(self, name: str) -> polars.Series | None:
        """Return a column's cells as text without empty ones, or None when not at hand."""
        import polars as pl

        if self.cells is None or name not in self.cells.columns:
            return None
        cells = self.cells.get_column(name)
        if cells.dtype != pl.String:
            cells = cells.cast(pl.String, strict=False)
        cells = cells.drop_nulls().str.strip_chars()
        return cells.filter(cells.str.len_chars() > 0)

    def codes(self, column: Column) -> NDArray[np.int64]:
        """Return a learned column as small codes of its values, -1 for no value, (rows,)."""
        if column.is_coded:
            return np.asarray(self.table.columns[column.name], dtype=np.int64)
        values = self.table.numbers(column.name)
        present = ~np.isnan(values)
        codes = np.full(values.shape, -1, dtype=np.int64)
        codes[present] = np.unique(values[present], return_inverse=True)[1]
        return codes

    def combined(self, columns: Sequence[Column]) -> NDArray[np.int64]:
        """Number the different combinations of columns' values, 0 to n - 1, (rows,)."""
        mixed = np.zeros(self.table.n_rows, dtype=np.uint64)
        for column in columns:
            values = self.table.numbers(column.name) + 0.0  # -0.0 and 0.0 are one value
            values[np.isnan(values)] = np.nan  # and so are all kinds of NaN
            mixed = (mixed ^ values.view(np.uint64)) * _MULTIPLIER
            mixed ^= mixed >> np.uint64(29)  # two rows meet by chance once in 2^64 / rows^2
        return np.unique(mixed, return_inverse=True)[1].astype(np.int64)


def bins(values: NDArray[np.float64], most: int = BINS) -> NDArray[np.int64]:
    """Return quantile bins 0 to `most`, the last for no value, of any numbers, (rows,)."""
    present = ~np.isnan(values)
    coded = np.full(values.shape, most, dtype=np.int64)
    if present.any():
        distinct = np.unique(values[present])
        if distinct.size > most:
            edges = np.unique(np.quantile(values[present], np.linspace(0, 1, most + 1)[1:-1]))
        else:
            edges = distinct[1:]
        coded[present] = np.searchsorted(edges, values[present], side="right")
    return coded
