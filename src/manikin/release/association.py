"""How columns hang together, in one number a pair: for heat maps, not for tests.

Two numeric columns: Spearman's rank correlation, -1 to 1. Two coded ones: Cramér's V with the
bias correction of Bergsma (J. Korean Stat. Soc. 2013), 0 to 1. One of each: the correlation ratio
η of the ranks, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.privacy.cells import SMALLEST_CELL, n_different, subjects_per_cell

__all__ = ["Associations", "associations", "matrix"]

MOST_COLUMNS = 40
DENSE = 1_000_000  # cells of a table of two columns that are counted one by one
ROWS = 10_000  # beyond as many, a random choice
CANDIDATES = 200  # columns looked at when there are more than can be shown
LARGEST = 10  # pairs listed by name

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Associations:
    """Association of every pair of the shown columns; None where it cannot be had."""

    columns: tuple[str, ...]
    real: tuple[tuple[float | None, ...], ...]
    synthetic: tuple[tuple[float | None, ...], ...]
    difference: tuple[tuple[float | None, ...], ...]  # synthetic - real
    largest: tuple[tuple[str, str, float, float], ...]  # pairs that differ most: real, synthetic
    n_columns: int  # of the data set, of which the shown ones are part
    mean_difference: float | None


def associations(real: Table, synthetic: Table) -> Associations | None:
    """Compare the two; when there are too many columns, those that differ most are shown.

    None when fewer than two columns or eleven subjects can be compared.
    """
    columns = list(real.schema.learned)[:CANDIDATES]
    if len(columns) < 2 or real.n_subjects < SMALLEST_CELL or not synthetic.n_rows:
        return None
    sides = [matrix(table, columns) for table in (real, synthetic)]
    sides[1] = np.where(np.isnan(sides[0]), np.nan, sides[1])
    gap = sides[1] - sides[0]
    kept = np.arange(len(columns))
    if len(columns) > MOST_COLUMNS:
        off = np.abs(np.where(np.eye(len(columns), dtype=bool), 0, np.nan_to_num(gap)))
        strength = np.nan_to_num(np.abs(sides[0])).sum(0) / len(columns)
        kept = np.sort(np.argsort(-(off.max(0) + strength), kind="stable")[:MOST_COLUMNS])
    shown = np.ix_(kept, kept)
    names = tuple(columns[i].name for i in kept)
    upper = [(i, j) for i in range(len(columns)) for j in range(i) if np.isfinite(gap[i, j])]
    upper.sort(key=lambda pair: -abs(gap[pair]))
    largest = tuple(
        (columns[j].name, columns[i].name, round(float(sides[0][i, j]), 2),
         round(float(sides[1][i, j]), 2))
        for i, j in upper[:LARGEST]
    )  # fmt: skip
    mean = round(float(np.mean([abs(gap[pair]) for pair in upper])), 4) if upper else None
    return Associations(
        names, _rounded(sides[0][shown]), _rounded(sides[1][shown]), _rounded(gap[shown]),
        largest, len(real.schema.learned), mean,
    )  # fmt: skip


def matrix(table: Table, columns: Sequence[Column]) -> Floats:
    """Return the association of each pair, (columns, columns); NaN where it cannot be had."""
    if table.n_rows > ROWS:
        chosen = generator(0, "release/association").choice(table.n_rows, ROWS, replace=False)
        table = table.rows(np.sort(chosen))
    values = [_prepared(column, table) for column in columns]
    found = np.full((len(columns), len(columns)), np.nan)
    alone = table.n_subjects == table.n_rows
    for i, (a, column_a) in enumerate(zip(values, columns, strict=True)):
        for j in range(i):
            b, column_b = values[j], columns[j]
            both = np.isfinite(a) & np.isfinite(b)
            # counting subjects is dear, and needless where everybody has one row
            n_both = int(both.sum()) if alone else n_different(table.subjects[both])
            if n_both < SMALLEST_CELL:
                continue
            x, y = a[both], b[both]
            if column_a.is_coded and column_b.is_coded:
                found[i, j] = found[j, i] = _cramers_v(x, y)
            elif column_a.is_coded or column_b.is_coded:
                groups, ranks = (x, y) if column_a.is_coded else (y, x)
                found[i, j] = found[j, i] = _eta(groups, ranks, table.subjects[both])
            else:
                found[i, j] = found[j, i] = _correlation(x, y)
    np.fill_diagonal(found, 1.0)
    return found


def _prepared(column: Column, table: Table) -> Floats:
    """Return codes as they are and numbers as ranks, (rows,), NaN for no value."""
    values = table.numbers(column.name)
    if column.is_coded:
        return values
    finite = np.isfinite(values)
    _, inverse, counts = np.unique(values[finite], return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # mid-ranks of ties
    ranks = np.full(values.shape, np.nan)
    ranks[finite] = middle[inverse]
    return ranks


def _correlation(x: Floats, y: Floats) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else np.nan


def _eta(groups: Floats, ranks: Floats, subjects: NDArray[np.int64]) -> float:
    """Return √(between / total sum of squares), shrunk for the number of groups (ε²)."""
    codes = groups.astype(np.int64)
    size = np.bincount(codes)
    # a level of few subjects would be its subjects' own ranks: levels below the rule are pooled
    small = subjects_per_cell(codes, subjects, len(size)) < SMALLEST_CELL
    codes = np.where(small[codes], len(size), codes)
    size = np.bincount(codes)
    total = float(((ranks - ranks.mean()) ** 2).sum())
    n, n_groups = ranks.size, int(np.count_nonzero(size))
    if total <= 0 or n_groups < 2 or n <= n_groups:
        return np.nan
    sums = np.bincount(codes, weights=ranks)
    means = sums / np.maximum(size, 1)
    between = float((size * (means - ranks.mean()) ** 2).sum())
    error = (total - between) / (n - n_groups)
    return float(np.sqrt(max(between - (n_groups - 1) * error, 0.0) / total))


def _cramers_v(x: Floats, y: Floats) -> float:
    a, b = x.astype(np.int64), y.astype(np.int64)
    share_a, share_b = np.bincount(a) / a.size, np.bincount(b) / b.size
    n, n_a, n_b = a.size, int(np.count_nonzero(share_a)), int(np.count_nonzero(share_b))
    if min(n_a, n_b) < 2 or n < 2:
        return np.nan
    # χ² / n = Σ p²/(p_a p_b) - 1 over the cells that occur, so wide tables stay cheap
    joint = a * share_b.size + b
    if share_a.size * share_b.size <= DENSE:
        counts = np.bincount(joint)
        cells = np.flatnonzero(counts)
        counts = counts[cells]
    else:
        cells, counts = np.unique(joint, return_counts=True)
    expected = share_a[cells // share_b.size] * share_b[cells % share_b.size]
    phi2 = float(((counts / n) ** 2 / expected).sum() - 1)
    phi2 = max(0.0, phi2 - (n_a - 1) * (n_b - 1) / (n - 1))
    least = min(n_a - (n_a - 1) ** 2 / (n - 1), n_b - (n_b - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(min(phi2 / least, 1.0))) if least > 0 else np.nan


def _rounded(values: NDArray[Any]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(None if np.isnan(v) else round(float(v), 2) for v in row) for row in values)
