"""What a report shows of one column: real and synthetic side by side, in cells of many subjects."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.privacy.cells import (
    SMALLEST_CELL,
    hidden,
    merge_small,
    n_different,
    quantiles_of_many,
    subjects_per_cell,
)

__all__ = ["Bin", "ColumnSummary", "Moments", "nice_step", "summarize"]

MOST_BINS = 20
SUBJECTS_PER_BIN = 30  # fewer bins for fewer subjects, so that few need merging
MOST_LEVELS = 12  # categories shown by name
SKEWED = 0.4  # share of rows in one range from which ranges grow with the values
HEAP = 0.1  # share of rows from which a single value gets a bin of its own
OTHER = "other"


@dataclass(frozen=True)
class Bin:
    """One cell of a column: a range of values, a category or a mark, and its share of rows."""

    label: str
    real: float
    synthetic: float
    low: float | None = None  # None: open below, or no range
    high: float | None = None  # not included; None: open above, or no range
    pooled: int = 0  # levels that are not named: this cell holds all of them


@dataclass(frozen=True)
class Moments:
    """Location and spread; quantiles are means over the eleven nearest subjects."""

    mean: float
    sd: float
    q1: float
    median: float
    q3: float


@dataclass(frozen=True)
class ColumnSummary:
    """One column of the real data (train and holdout together) beside the synthetic."""

    name: str
    kind: str
    roles: tuple[str, ...]
    unit: str | None
    missing_real: float | None  # share of rows; None: between 1 and 10 subjects
    missing_synthetic: float | None
    real: Moments | None
    synthetic: Moments | None
    bins: tuple[Bin, ...]
    likeness: float | None = None  # 1 - total variation, or the shape score where there is one
    likeness_interval: tuple[float, float] | None = None
    likeness_ceiling: float | None = None
    note: str = ""


def summarize(column: Column, real: Table, synthetic: Table) -> ColumnSummary:
    """Summarize one column under the small-cell rule."""
    facts: dict[str, Any] = {
        "name": column.name,
        "kind": column.kind,
        "roles": column.roles,
        "unit": column.unit,
    }
    if not column.is_learned:
        note = "set aside: neither learned from nor compared"
        return ColumnSummary(
            **facts, missing_real=None, missing_synthetic=None, real=None, synthetic=None, bins=(),
            note=note,
        )  # fmt: skip
    sides = _Sides(column, real, synthetic)
    facts["missing_real"] = sides.missing_share(real)
    facts["missing_synthetic"] = float(np.mean(sides.missing(synthetic)))
    if sides.n_present < SMALLEST_CELL:
        note = f"fewer than {SMALLEST_CELL} real subjects have a value: not shown"
        return ColumnSummary(**facts, real=None, synthetic=None, bins=(), note=note)
    bins = _level_bins(sides) if column.is_coded else _range_bins(sides)
    distance = sum(abs(b.real - b.synthetic) for b in bins) / 2
    moments: list[Moments | None] = [None, None]
    if column.is_numeric and column.kind != "datetime":
        moments = [_moments(column, table) for table in (real, synthetic)]
    return ColumnSummary(
        **facts, real=moments[0], synthetic=moments[1], bins=bins, likeness=1 - distance
    )


class _Sides:
    """The cells of one column on both sides: values, and the marks that are no value."""

    def __init__(self, column: Column, real: Table, synthetic: Table) -> None:
        self.column, self.real, self.synthetic = column, real, synthetic
        present = ~self.missing(real)
        self.n_present = n_different(real.subjects[present])

    def missing(self, table: Table) -> NDArray[np.bool_]:
        """Return where the cell says that there is no value; special marks say something."""
        state = table.state(self.column.name)
        return np.asarray((state > 0) & (state <= len(self.column.missing)))

    def missing_share(self, table: Table) -> float | None:
        """Return the share of rows without a value, None when it speaks of too few subjects."""
        missing = self.missing(table)
        for part in (missing, ~missing):
            if hidden(n_different(table.subjects[part])):
                return None
        return _share(float(np.mean(missing)))


# ---------------------------------------------------------------------------- categories
def _level_bins(sides: _Sides) -> tuple[Bin, ...]:
    """Return the commonest levels by name, the rest together."""
    column = sides.column
    n_levels = len(column.categories)
    codes = sides.real.columns[column.name]
    counts = subjects_per_cell(codes, sides.real.subjects, n_levels)
    ranked = np.argsort(-counts, kind="stable")
    named = [int(code) for code in ranked[:MOST_LEVELS] if counts[code] >= SMALLEST_CELL]
    if len(named) < len(ranked):
        # the pooled levels too must hold eleven subjects or none
        while named and hidden(_pooled(codes, sides.real.subjects, named, n_levels)):
            named.pop()
    if column.kind != "categorical":
        named.sort()
    cell_of = np.full(n_levels + 1, len(named), np.int64)  # last entry: code -1, no value
    cell_of[named] = np.arange(len(named))
    cell_of[-1] = -1
    n_pooled = n_levels - len(named)
    labels = [column.categories[code] for code in named]
    if n_pooled:
        labels.append(f"{OTHER} ({n_pooled} level{'s' if n_pooled > 1 else ''})")
    shares = [_shares(cell_of[t.columns[column.name]], len(labels)) for t in _tables(sides)]
    named_bins = [
        Bin(label, _share(shares[0][i]), _share(shares[1][i])) for i, label in enumerate(labels)
    ]
    if n_pooled:
        named_bins[-1] = dataclasses.replace(named_bins[-1], pooled=n_pooled)
    return tuple(named_bins)


def _pooled(
    codes: NDArray[Any], subjects: NDArray[np.int64], named: list[int], n_levels: int
) -> int:
    others = np.ones(n_levels + 1, bool)
    others[[*named, n_levels]] = False
    return n_different(subjects[others[codes]])


# ---------------------------------------------------------------------------- numbers and dates
def _range_bins(sides: _Sides) -> tuple[Bin, ...]:
    """Return ranges between round numbers, outermost ones open, and the special marks."""
    column = sides.column
    n_missing = len(column.missing)
    marks = [
        (f"{mark}", n_missing + 1 + i)
        for i, mark in enumerate(column.special)
        if n_different(sides.real.subjects[sides.real.state(column.name) == n_missing + 1 + i])
        >= SMALLEST_CELL
    ]
    values = [_values(column, table) for table in _tables(sides)]
    finite = np.isfinite(values[0])
    if n_different(sides.real.subjects[finite]) < SMALLEST_CELL:
        edges, labels = np.zeros(0), []
        goes_to = np.zeros(0, np.int64)
    else:
        edges, dated = _edges(column, values[0][finite], sides.n_present)
        cells = np.where(finite, np.searchsorted(edges, values[0], side="right"), -1)
        merged = merge_small(cells, sides.real.subjects, len(edges) + 1)
        goes_to = merged if merged is not None else np.zeros(len(edges) + 1, np.int64)
        edges = edges[np.flatnonzero(np.diff(goes_to))]
        labels = [_label(column, *pair, dated) for pair in _pairs(edges)]
    offset = len(labels)
    shares = []
    for table, own in zip(_tables(sides), values, strict=True):
        cells = np.where(np.isfinite(own), np.searchsorted(edges, own, side="right"), -1)
        if not labels:
            cells = np.full(cells.shape, -1)
        for i, (_, state) in enumerate(marks):
            cells = np.where(table.state(column.name) == state, offset + i, cells)
        shares.append(_shares(cells, offset + len(marks)))
    spans = _pairs(edges) if labels else []
    ranges = [*spans, *[(None, None)] * len(marks)]
    return tuple(
        Bin(label, _share(shares[0][i]), _share(shares[1][i]), *ranges[i])
        for i, label in enumerate([*labels, *[mark for mark, _ in marks]])
    )


def _values(column: Column, table: Table) -> NDArray[np.float64]:
    """Return the column as numbers; dates as months since 1970."""
    if column.kind != "datetime":
        return table.numbers(column.name)
    stamps = table.columns[column.name]
    months = stamps.astype("datetime64[M]").astype(np.int64).astype(np.float64)
    return np.where(np.isnat(stamps), np.nan, months)


def _edges(
    column: Column, values: NDArray[np.float64], n_subjects: int
) -> tuple[NDArray[np.float64], int]:
    """Return round edges between the outer percentiles, and for dates the months of a bin."""
    n_bins = int(np.clip(n_subjects // SUBJECTS_PER_BIN, 3, MOST_BINS))
    low, high = np.quantile(values, [0.01, 0.99])
    if column.kind == "datetime":
        months = next((m for m in (1, 3, 12, 60, 120) if (high - low) / m <= n_bins), 1200)
        first = math.floor(low / months + 1) * months
        return np.arange(first, high + 1, months), months
    unit = 10.0**-column.decimals if column.kind == "continuous" else 1.0
    step = max(nice_step((high - low) / n_bins), unit)
    edges = np.arange(math.floor(low / step + 1), math.floor(high / step) + 1) * step
    common, counts = np.unique(values, return_counts=True)
    single = values[np.isin(values, common[counts < HEAP * values.size])]
    tallest = np.bincount(np.searchsorted(edges, single, side="right"))
    if low >= 0 and step > unit and tallest.size and tallest.max() > SKEWED * values.size:
        edges = _spreading(float(np.quantile(values[values > 0], 0.02)), high, unit)
    heaps = common[counts >= HEAP * values.size]
    if step > unit and heaps.size <= 5:
        edges = np.concatenate([edges, heaps, heaps + unit])
    edges = np.unique(np.round(edges, max(column.decimals, 0)))
    return edges, 0


def _spreading(low: float, high: float, unit: float) -> NDArray[np.float64]:
    """Return edges 1, 2, 5, 10, 20, … for what is packed at its low end."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    edges = np.array([m * 10.0**power for power in powers for m in (1, 2, 5)])
    return edges[(edges >= max(low, unit)) & (edges <= high)]


def nice_step(width: float) -> float:
    """Return the least of 1, 2, 5 times a power of ten that is not below `width`."""
    if not width > 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(width))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= width * (1 - 1e-9))


def _pairs(edges: NDArray[np.float64]) -> list[tuple[float | None, float | None]]:
    inner = [float(edge) for edge in edges]
    return list(zip([None, *inner], [*inner, None], strict=True))


def _label(column: Column, low: float | None, high: float | None, months: int) -> str:
    if months:
        first, end = _month(low, months), _month(high, months)
        if low is None or high is None:
            return f"before {end}" if high is not None else f"from {first}" if first else "all"
        return first if high - low == months else f"{first} to before {end}"
    unit = 10.0**-column.decimals if column.kind == "continuous" else 1.0
    # an edge just above a heap is told by the heap: "> 0", not "≥ 0.0000001"
    below, above = _told(low, unit, "> ", "≥ "), _told(high, unit, "≤ ", "< ")
    if low is None or high is None:
        return above or below or "all values"
    if high - low <= unit * 1.001:
        return _number(low)
    return f"{below.removeprefix('≥ ')} to {above}"


def _told(edge: float | None, unit: float, heap: str, plain: str) -> str:
    if edge is None:
        return ""
    before = _number(round(edge - unit, 12))
    return heap + before if len(before) < len(_number(edge)) - 1 else plain + _number(edge)


def _month(value: float | None, months: int) -> str:
    if value is None:
        return ""
    year, month = divmod(int(value), 12)
    year += 1970
    if months >= 12:
        return f"{year}"
    return f"{year} Q{month // 3 + 1}" if months == 3 else f"{year}-{month + 1:02d}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.10g}".replace(",", "\u202f")


def _moments(column: Column, table: Table) -> Moments | None:
    values = table.numbers(column.name)
    finite = np.isfinite(values)
    kept, subjects = values[finite], table.subjects[finite]
    quartiles = quantiles_of_many(kept, subjects, (0.25, 0.5, 0.75))
    if not quartiles:
        return None
    scale = float(np.abs(kept).max()) or 1.0  # squares of huge values must not overflow
    mean, spread = scale * float((kept / scale).mean()), scale * float((kept / scale).std(ddof=1))
    numbers = (mean, spread, *quartiles)
    return Moments(*[significant(value) for value in numbers])


def significant(value: float, digits: int = 4) -> float:
    """Round to so many significant digits: more would speak of single rows."""
    return float(f"{value:.{digits}g}")


# ---------------------------------------------------------------------------- shares
def _tables(sides: _Sides) -> tuple[Table, Table]:
    return sides.real, sides.synthetic


def _shares(cells: NDArray[Any], n_cells: int) -> NDArray[np.float64]:
    counts = np.bincount(cells[cells >= 0].astype(np.int64), minlength=n_cells)
    return np.asarray(counts / max(counts.sum(), 1), dtype=np.float64)


def _share(value: float) -> float:
    return round(float(value), 4)
