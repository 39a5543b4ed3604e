"""Whether a budget is large enough for a table: noise beside the counts of single columns.

A column is told by the counts of its cells: its levels, or the two halves of its range, which is
the coarsest division of a number. Where noise is as large as a cell's mean count, nothing is told.
What is looked at was public (the schema) or has been paid for (noisy counts of single columns).

A number is counted in a few ranges, six at least where it has so many values: each half of its
range is a sum of half of them, and its noise by the square root of that larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from manikin.data.schema import Column, TableSchema
from manikin.errors import PrivacyError

__all__ = ["check_legible"]

RANGES = 6  # that a number is counted in, whatever noise says
DAY_S = 86400.0
MOST_NAMED = 8  # columns that an error lists


@dataclass(frozen=True)
class _Seen:
    """A column, the cells that it must be told by, and by how much its counts are noisier."""

    column: Column
    cells: int
    noisier: float

    @property
    def need(self) -> float:
        """Rows that noise of one row in a cell would hide."""
        return self.cells * self.noisier


def check_legible(schema: TableSchema, rows: float, noise: float) -> None:
    """Raise PrivacyError where noise hides the counts of more than half of the columns.

    `rows` is how many rows count, `noise` the standard deviation of one count of a single column,
    when all columns share the budget evenly.
    """
    every = sorted(map(_seen, schema.learned), key=lambda one: one.need)
    rows = max(rows, 1.0)
    hidden = [one for one in every if one.need * noise >= rows]
    if 2 * len(hidden) <= len(every):
        return
    n = len(every)

    def enough(more: float, kept: list[_Seen]) -> bool:
        return 2 * sum(one.need * noise * more < rows for one in kept) >= len(kept)

    kept = max((k for k in range(1, n) if enough(math.sqrt(k / n), every[:k])), default=0)
    cures = [_coarser(hidden, rows / noise), _fewer(every[kept:], kept), _more(every, enough)]
    raise PrivacyError(
        f"a budget too small for the table: counts of single columns have noise of {noise:.3g}"
        f" rows, and in {len(hidden)} of {n} columns a cell holds no more than that on average"
        f" (about {rows:.0f} rows count)",
        "noise below the mean count of a cell in half of the columns or more",
        "; or ".join(cure for cure in cures if cure),
    )


def _seen(column: Column) -> _Seen:
    if column.is_coded:
        return _Seen(column, max(len(column.categories), 1), 1.0)
    return _Seen(column, 2, math.sqrt(min(_values(column), RANGES) / 2))


def _values(column: Column) -> float:
    """Return how many values a number may have."""
    span = (column.maximum or 0.0) - (column.minimum or 0.0)
    unit = DAY_S if column.kind == "datetime" else 10.0**-column.decimals
    return max(2.0, span / unit + 1)


def _coarser(hidden: list[_Seen], cells: float) -> str:
    """Say how coarse columns must be, those of most cells first; nothing where none can be."""
    levels = math.ceil(cells) - 1
    values = math.ceil(cells**2 / 2) - 1  # so that noise stays below one half
    told: dict[str, list[str]] = {}
    for one in sorted(hidden, key=lambda one: -one.need):
        name = f"'{one.column.name}'"
        if one.column.is_coded and levels >= 2:
            told.setdefault(f"to {levels} levels or fewer", []).append(f"{name} (has {one.cells})")
        if not one.column.is_coded and values >= 3:
            told.setdefault(f"to {values} values or fewer, by bounds and decimals", []).append(name)
    return "coarsen " + ", ".join(f"{_few(n)} {to}" for to, n in told.items()) if told else ""


def _fewer(dropped: list[_Seen], kept: int) -> str:
    """Say which columns to drop, those of most cells first; nothing where that is not enough."""
    if not kept:
        return ""
    names = _few([f"'{one.column.name}'" for one in reversed(dropped)])
    return f"drop {names}, so that {kept} share the budget"


def _few(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _more(every: list[_Seen], enough: Callable[[float, list[_Seen]], bool]) -> str:
    """Say how many times larger the budget must be: noise falls about as ε grows."""
    times = 1.0
    while not enough(1 / times, every):
        times *= 1.1
    return f"give about {times:.1f} times the ε, or so many times the subjects"
