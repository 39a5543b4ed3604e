"""From tables to what judges compute on: bins, points with a distance, keys.

Everything that is fitted here is fitted on training rows, and merely applied to all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.intervals import Floats

__all__ = [
    "Bins",
    "Codes",
    "Points",
    "Space",
    "frequent_levels",
    "nearest",
    "row_keys",
    "subsample",
]

Codes = NDArray[np.int64]


def subsample(table: Table, n: int, rng: np.random.Generator) -> Table:
    """Return `n` rows drawn without replacement in their present order, or the table if smaller."""
    if table.n_rows <= n:
        return table
    return table.rows(np.sort(rng.choice(table.n_rows, n, replace=False)))


# ── Bins: every column as a few codes ──────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Bins:
    """Every learned column cut into few cells: quantile bins or frequent levels, then its tokens.

    A numeric column has at most `n_bins` bins with training quantiles as edges; a coded one its
    `most_levels` commonest training levels and one cell for the rest. Each token (no value, "<0.5")
    is a cell of its own, after these.
    """

    edges: Mapping[str, Floats]
    cell_of_level: Mapping[str, Codes]
    n_values: Mapping[str, int]  # cells before the tokens'
    sizes: Mapping[str, int]

    @staticmethod
    def fit(train: Table, *, n_bins: int = 10, most_levels: int = 20) -> Bins:
        """Find the cells of every column in the training rows."""
        edges, cell_of_level, n_values, sizes = {}, {}, {}, {}
        for column in train.schema.learned:
            name = column.name
            if column.is_coded:
                cell_of_level[name] = frequent_levels(train, column, most_levels)
                n_values[name] = int(cell_of_level[name].max(initial=0)) + 1
            else:
                edges[name] = _edges(train.numbers(name), n_bins)
                n_values[name] = edges[name].size + 1
            sizes[name] = n_values[name] + max(1, len(column.tokens))
        return Bins(edges, cell_of_level, n_values, sizes)

    def codes(self, table: Table, name: str) -> Codes:
        """Return the cell of every row in one column, 0 to `sizes[name]` - 1."""
        state = table.state(name).astype(np.int64)
        if name in self.cell_of_level:
            levels = self.cell_of_level[name]
            known = np.clip(table.columns[name].astype(np.int64), 0, max(0, levels.size - 1))
            cells = levels[known] if levels.size else np.zeros(table.n_rows, np.int64)
        else:
            cells = np.searchsorted(self.edges[name], table.numbers(name), side="right")
        last = self.sizes[name] - 1
        return np.where(state > 0, np.minimum(self.n_values[name] - 1 + state, last), cells)


def _edges(values: Floats, n_bins: int) -> Floats:
    """Return the quantiles that part the bins, each half way to the next value that occurs."""
    unique = np.unique(values[np.isfinite(values)])
    if unique.size < 2:
        return np.empty(0)
    inner = np.arange(1, n_bins) / n_bins
    below = np.unique(np.quantile(values[np.isfinite(values)], inner, method="lower"))
    at = np.searchsorted(unique, below)
    at = at[at + 1 < unique.size]
    return np.asarray(unique[at] / 2 + unique[at + 1] / 2)


def frequent_levels(train: Table, column: Column, most: int) -> Codes:
    """Return the cell of every level: the `most` commonest have their own, the rest share one."""
    values = train.columns[column.name]
    n_levels = max(len(column.categories), int(values.max(initial=-1)) + 1)
    counts = np.bincount(values[values >= 0], minlength=n_levels)
    cells = np.full(n_levels, min(most, n_levels), dtype=np.int64)
    common = np.argsort(-counts, kind="stable")[:most]
    cells[np.sort(common)] = np.arange(common.size)
    return cells


# ── Points and their distance ──────────────────────────────────────────────────────────────────

TILE = (64, 8192)  # queries × references at a time: every buffer stays in the cache


@dataclass(frozen=True)
class Points:
    """Rows as small integers, one array row a dimension."""

    numbers: NDArray[np.int16]  # (numbers, rows), 0 to `scale`
    codes: NDArray[np.int16]  # (codes, rows)
    scale: int
    n_columns: int

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.numbers.shape[1])


@dataclass(frozen=True)
class Space:
    """A distance between rows in the manner of Gower (Biometrics 1971), 0 the same to 1.

    The mean over columns of: the difference of training ranks for numbers and ordered levels; 0 or
    1 for unordered ones; for a value beside none, between a half and 1.
    """

    schema: TableSchema
    knots: Mapping[str, tuple[Floats, Floats]]  # sorted values of numeric columns, their ranks

    @staticmethod
    def fit(train: Table) -> Space:
        """Learn the ranks of numbers from the training rows."""
        knots = {}
        for column in train.schema.learned:
            if column.is_numeric or column.kind == "ordinal":
                values = train.numbers(column.name)
                unique, counts = np.unique(values[np.isfinite(values)], return_counts=True)
                ranks = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
                knots[column.name] = (unique, ranks)
        return Space(train.schema, knots)

    def points(self, table: Table) -> Points:
        """Place rows in the space."""
        n_columns = max(1, len(self.schema.learned))
        scale = max(2, min(1000, 60_000 // n_columns))  # so that sums fit 16 bits
        numbers, codes = [], []
        for column in self.schema.learned:
            name = column.name
            if name not in self.knots:
                codes.append(table.columns[name].astype(np.int16))
                continue
            values, (unique, ranks) = table.numbers(name), self.knots[name]
            missing = np.isnan(values)
            # a column with one value or none in training: the middle, whatever comes
            placed = (
                np.interp(values, unique, ranks) if unique.size > 1 else np.full(len(values), 0.5)
            )
            steep = ~(np.isfinite(placed) | missing)  # no slope between 1e-310s
            if steep.any():
                at = np.searchsorted(unique, values[steep])
                placed[steep] = ranks[np.minimum(at, unique.size - 1)]
            numbers.append(np.where(missing, scale // 2, np.rint(placed * scale)))
            if missing.any() or len(column.tokens) > 1:
                numbers.append(np.where(missing, scale // 2, 0))
            else:
                numbers.append(np.zeros(len(values)))
        empty = np.zeros((0, table.n_rows), np.int16)
        return Points(
            np.asarray(numbers, dtype=np.int16) if numbers else empty,
            np.asarray(codes, dtype=np.int16) if codes else empty,
            scale,
            n_columns,
        )


def nearest(queries: Points, references: Points) -> Floats:
    """Return each query's distance to its nearest reference, exactly, (queries,)."""
    best = np.full(queries.n, np.iinfo(np.uint16).max, dtype=np.uint16)
    for start in range(0, queries.n, TILE[0]):
        rows = slice(start, start + TILE[0])
        for at in range(0, references.n, TILE[1]):
            tile = _tile(queries, references, rows, slice(at, at + TILE[1]))
            best[rows] = np.minimum(best[rows], tile.min(axis=1))
    found = best / (queries.scale * queries.n_columns)
    return np.where(references.n > 0, found, np.nan)


def _tile(queries: Points, references: Points, rows: slice, against: slice) -> NDArray[np.uint16]:
    """Return the distances of a block of queries to a block of references."""
    left, right = queries.numbers[:, rows], references.numbers[:, against]
    shape = (left.shape[1], right.shape[1])
    total = np.zeros(shape, dtype=np.uint16)
    gap = np.empty(shape, dtype=np.int16)
    for one, other in zip(left, right, strict=True):
        np.subtract(one[:, None], other[None, :], out=gap)
        np.abs(gap, out=gap)
        total += gap.view(np.uint16)
    left, right = queries.codes[:, rows], references.codes[:, against]
    unequal = np.empty(shape, dtype=np.bool_)
    for first in range(0, left.shape[0], 255):  # so that counts fit 8 bits
        count = np.zeros(shape, dtype=np.uint8)
        for one, other in zip(left[first : first + 255], right[first : first + 255], strict=True):
            np.not_equal(one[:, None], other[None, :], out=unequal)
            count += unequal.view(np.uint8)
        total += count.astype(np.uint16) * np.uint16(queries.scale)
    return total


# ── Keys ───────────────────────────────────────────────────────────────────────────────────────


def row_keys(table: Table, names: tuple[str, ...] | None = None) -> NDArray[np.uint64]:
    """Return one 64-bit key a row, equal for rows that read the same in these columns (or all).

    Numbers count as equal when they are written alike, to the column's decimals.
    """
    keys = np.zeros(table.n_rows, dtype=np.uint64)
    chosen = names if names is not None else tuple(c.name for c in table.schema.learned)
    for name in chosen:
        for bits in _bits(table, table.schema[name]):
            keys = _mixed(keys ^ _mixed(bits + np.uint64(0x9E3779B97F4A7C15)))
    return keys


def _bits(table: Table, column: Column) -> list[NDArray[np.uint64]]:
    values: NDArray[Any] = table.columns[column.name]
    if values.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            written = np.round(values, column.decimals) + 0.0  # + 0.0 makes -0 be 0
        written = np.where(np.isfinite(written), written, values)
        exact = np.where(np.isnan(written), np.nan, written).astype(np.float64).view(np.uint64)
    elif values.dtype.kind == "M":
        exact = values.astype("datetime64[us]").view(np.uint64)
    else:
        exact = values.astype(np.int64).view(np.uint64)
    if len(column.tokens) > 1:
        return [exact, table.state(column.name).astype(np.uint64)]
    return [exact]


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64 bits (the finaliser of SplitMix64: Steele, Lea and Flood, OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
