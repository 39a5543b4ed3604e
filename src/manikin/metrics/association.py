"""How strongly any two columns of a table go together, whatever their kinds.

Numbers with numbers: Spearman's rank correlation, signed, or Pearson's. Categories with numbers:
the correlation ratio η (Fisher 1925), bias-corrected as ε (Kelley, PNAS 1935). Categories with
categories: Cramér's V with Bergsma's correction (J. Korean Stat. Soc. 2013). Rows where either
value is absent are left out, pair by pair.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from manikin.data.table import Table
from manikin.metrics.intervals import Floats

__all__ = ["association_matrix"]

FEWEST = 11  # rows in which both have a value; below, NaN


def association_matrix(
    table: Table, *, numbers: Literal["spearman", "pearson"] = "spearman"
) -> tuple[tuple[str, ...], Floats]:
    """Return the learned columns' names and their association, (columns, columns).

    Between -1 and 1 for two numbers, 0 and 1 otherwise; NaN where there is too little to tell.
    Ordered categories count as numbers by their rank.
    """
    columns = table.schema.learned
    names = tuple(column.name for column in columns)
    matrix = np.full((len(names), len(names)), np.nan)
    ranked = [i for i, c in enumerate(columns) if c.is_numeric or c.kind in ("ordinal", "boolean")]
    coded = [i for i in range(len(columns)) if i not in set(ranked)]
    values = np.column_stack([table.numbers(names[i]) for i in ranked] or [np.empty(0)])
    values = np.where(np.isfinite(values), values, np.nan)
    if ranked:
        if numbers == "spearman":
            for j in range(len(ranked)):
                known = ~np.isnan(values[:, j])
                values[known, j] = stats.rankdata(values[known, j])
        matrix[np.ix_(ranked, ranked)] = _correlations(values)
    codes = {i: table.columns[names[i]].astype(np.int64) for i in coded}
    for a in coded:
        if ranked:
            ratio = _ratios(codes[a], values)
            matrix[a, ranked] = matrix[ranked, a] = ratio
        for b in coded:
            if a < b:
                matrix[a, b] = matrix[b, a] = cramers_v(codes[a], codes[b])
        matrix[a, a] = 1.0 if np.unique(codes[a][codes[a] >= 0]).size > 1 else np.nan
    return names, matrix


def _correlations(values: Floats) -> Floats:
    """Return all pairwise-complete correlations through products of whole matrices."""
    known = ~np.isnan(values)
    centre = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    x = np.where(known, values - centre, 0)  # (rows, columns)
    mask = known.astype(np.float64)
    n = mask.T @ mask
    sums = x.T @ mask  # sum of the first over the rows where both are known
    squares = (x**2).T @ mask
    n_safe = np.maximum(n, 1)
    covariance = x.T @ x - sums * sums.T / n_safe
    spread = np.maximum(squares - sums**2 / n_safe, 0)  # of the row's column, among both
    scale = np.sqrt(spread * spread.T)
    found = np.full(n.shape, np.nan)
    enough = (n >= FEWEST) & (spread > 1e-12 * np.maximum(squares, 1e-300)) & (scale > 0)
    np.divide(covariance, scale, out=found, where=enough & enough.T)
    return np.asarray(np.clip(found, -1, 1))


def _ratios(codes: NDArray[np.int64], values: Floats) -> Floats:
    """Return the correlation ratio of one coded column with every number, (numbers,)."""
    found = np.full(values.shape[1], np.nan)
    for j in range(values.shape[1]):
        both = (codes >= 0) & ~np.isnan(values[:, j])
        if int(both.sum()) < FEWEST:
            continue
        group, x = codes[both], values[both, j] - values[both, j].mean()
        counts = np.bincount(group)
        sums = np.bincount(group, x)
        n, k = x.size, int((counts > 0).sum())
        total = float(x @ x)
        if k < 2 or k >= n or total <= 0:
            continue
        between = float(np.sum(sums[counts > 0] ** 2 / counts[counts > 0]))
        corrected = 1 - (1 - between / total) * (n - 1) / (n - k)
        found[j] = np.sqrt(min(1.0, max(0.0, corrected)))
    return found


def cramers_v(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return Cramér's V of two columns of codes, bias-corrected; NaN if either is constant."""
    both = (one >= 0) & (other >= 0)
    n = int(both.sum())
    if n < FEWEST:
        return float("nan")
    (_, a), (_, b) = (np.unique(side[both], return_inverse=True) for side in (one, other))
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    if rows < 2 or columns < 2:
        return float("nan")
    joint = np.bincount(a * columns + b, minlength=rows * columns).reshape(rows, columns)
    expected = np.outer(joint.sum(axis=1), joint.sum(axis=0)) / n
    phi2 = float(np.sum((joint - expected) ** 2 / expected)) / n
    corrected = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
    rows_corrected = rows - (rows - 1) ** 2 / (n - 1)
    columns_corrected = columns - (columns - 1) ** 2 / (n - 1)
    smaller = min(rows_corrected, columns_corrected) - 1
    return float(min(1.0, np.sqrt(corrected / smaller))) if smaller > 0 else float("nan")
