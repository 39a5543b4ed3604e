"""What a schema leaves open, bought with a share of a budget: ranges of numbers, names of levels.

A number's range is told from noisy counts over public ranges that double in width, of both signs; a
date's over the decades of a public calendar. Where noise alone would hardly ever count so many, the
range holds somebody. A level is named where its noisy count passes a threshold that a level of one
subject passes with a chance of δ; what is not named becomes one public level, or a missing mark.
One row of each subject counts, chosen at random. What cannot be told from counts (kinds, decimals,
date formats, the order of levels) is asked of a person.

Reference  Wilson, Zhang, Lam, Desfontaines, Simmons-Marengo and Gipson, "Differentially private
           SQL with bounded user contribution", PoPETs 2020(2), §5.1.1 (approximate bounds, Alg. 3);
           Desfontaines, Voss, Gipson and Mandayam, "Differentially private partition selection",
           PoPETs 2022(1) (thresholds); here with Gaussian noise: it costs least of what adds up
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.dates import is_clock
from manikin.data.rules import Combinations, IfThen
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.privacy.account import Account, measuring
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Release
from manikin.privacy.rows import at_most, paid

__all__ = ["OTHER", "USUAL", "Discovery", "Found", "OneEach", "discover", "left_open", "told"]

USUAL = 0.1  # share of a budget
LEAST_SHARE, MOST_SHARE = 0.001, 0.5
OTHER = "(other)"  # the level of all that are not named: public, and there whether anybody has it
DOUBLINGS = 40  # of a number's last place: ranges up to 2^40 of it; what lies beyond counts there
DECADES = np.array([f"{year}-01-01" for year in range(1800, 2101, 10)], "datetime64[s]")
EMPTY = 1e-4  # chance that any range of a column that nobody is in counts as one that somebody is
DOUBLINGS_TOGETHER, DECADES_TOGETHER = 4, 16  # neighbours that may stand out together
BESIDE = 2.0  # standard deviations that do for a range beside one that holds somebody
DAY_S = 86400.0


@dataclass(frozen=True)
class Discovery:
    """A share of a budget that buys what a schema leaves open."""

    budget: Budget
    share: float = USUAL

    def __post_init__(self) -> None:
        if not LEAST_SHARE <= self.share <= MOST_SHARE:
            raise PrivacyError(
                f"a share of {self.share:g} of the budget for what the schema leaves open",
                f"{LEAST_SHARE:g} to {MOST_SHARE:g}; the rest is for the model",
                f"{USUAL:g} suits most tables",
            )


@dataclass(frozen=True)
class Found:
    """A table under a schema that leaves nothing open, and what was paid for it."""

    table: Table
    releases: tuple[Release, ...]


class OneEach:
    """One row of each subject, chosen at random; read only for a release that has been paid for."""

    def __init__(self, table: Table) -> None:
        with measuring():
            self._table = table.rows(at_most(np.asarray(table.subjects), 1))

    @property
    def table(self) -> Table:
        """The rows. Raises PrivacyError unless they are read for a release."""
        return paid(self._table)

    def __repr__(self) -> str:
        return f"OneEach(columns={len(self._table.columns)})"


def left_open(schema: TableSchema) -> tuple[Column, ...]:
    """Return the columns whose range or levels can be bought."""
    return tuple(
        column
        for column in schema.learned
        if (column.kind == "categorical" and not column.categories)
        or (column.is_numeric and None in (column.minimum, column.maximum))
    )


def discover(read: Table, schema: TableSchema, discovery: Discovery) -> Found:
    """Buy what `schema` leaves open, and return the table under a schema that leaves nothing.

    `read` has the same columns; its own schema lists every level that any row has, and is as
    private as the rows are. Raises PrivacyError where noise hides all of a column.
    """
    wanted = left_open(schema)
    account = Account(discovery.budget, names=sum(column.is_coded for column in wanted))
    rows = OneEach(read)
    rho = discovery.share * account.rho / max(len(wanted), 1)
    hidden: list[str] = []
    for column in wanted:
        if column.is_coded:
            found = _named(rows, column, account, rho, _spelled(schema, column.name))
        else:
            found = _bounded(rows, column, account, rho)
        if found is None:
            hidden.append(column.name)
        else:
            schema = schema.replace(found)
    if hidden:
        raise PrivacyError(
            f"columns of which noise hides everything: {', '.join(hidden)}",
            "ranges and levels that so many subjects have that their counts stand out",
            "say in the schema what they may hold, leave them out, or give a larger share of the"
            " budget (--discover)",
        )
    with measuring():
        table = _under(read, schema)
    return Found(table, tuple(account.releases))


def told(schema: TableSchema) -> tuple[str, ...]:
    """Say which columns came out with no level named."""
    empty = [f"'{column.name}'" for column in schema if column.categories == (OTHER,)]
    if not empty:
        return ()
    return (
        f"No level of {', '.join(empty)} is held by so many subjects that it may be named: all"
        f" come out as '{OTHER}'. Declare the categories, or leave the column out.",
    )


# ---------------------------------------------------------------------------- levels


def _named(
    rows: OneEach, column: Column, account: Account, rho: float, public: frozenset[str]
) -> Column | None:
    """Return the column with the levels that may be named; None where none may, nor any other.

    Those that are `public` already are named whatever their counts.
    """
    with measuring():
        levels = rows.table.schema[column.name].categories
        codes = np.asarray(rows.table.columns[column.name])
        counts = np.bincount(codes[codes >= 0], minlength=len(levels))
        kept, _ = account.named(
            counts.astype(np.int64), keys_a_subject=1, rho=rho, what=f"levels of '{column.name}'"
        )
        named = sorted(({levels[i] for i in kept} | public) - {OTHER})
    if _takes_text(column):
        return dataclasses.replace(column, categories=(*named, OTHER))
    if not named:
        return None
    # numbers have no room for a word: what is not named is missing
    return dataclasses.replace(column, categories=tuple(named), missing=column.missing or ("",))


def _spelled(schema: TableSchema, name: str) -> frozenset[str]:
    """Return the levels of a column that declared rules spell: a person knew them beforehand."""
    found: set[str] = set()
    for rule in schema.rules:
        if isinstance(rule, IfThen):
            for condition in (*rule.when, *rule.then):
                if condition.column == name:
                    found |= {value for value in condition.values if isinstance(value, str)}
        elif isinstance(rule, Combinations) and name in rule.columns:
            at = rule.columns.index(name)
            found |= {row[at] for row in rule.allowed or ()}
    return frozenset(found)


def _takes_text(column: Column) -> bool:
    return column.dtype is None or column.dtype.startswith(("String", "Categorical", "Enum"))


# ---------------------------------------------------------------------------- ranges


def _bounded(rows: OneEach, column: Column, account: Account, rho: float) -> Column | None:
    """Return the column with a range for the ends that it leaves open, None where none is seen."""
    if column.kind == "datetime" and column.date_format and is_clock(column.date_format):
        return _ends(column, 0.0, DAY_S - 1)  # a day has no more: nothing to buy
    with measuring():
        values = rows.table.numbers(column.name)
        values = values[~np.isnan(values)]
        within, low, high = (
            _decades(values) if column.kind == "datetime" else _doubling(values, _unit(column))
        )
        counts = np.bincount(within, minlength=low.size).astype(np.int64)
        noisy = account.sums(counts, sensitivity=1.0, rho=rho, what=f"range of '{column.name}'")
    widest = DECADES_TOGETHER if column.kind == "datetime" else DOUBLINGS_TOGETHER
    seen = _seen(noisy, 1 / math.sqrt(2 * rho), widest)
    if seen is None:
        return None
    return _ends(column, float(low[seen[0]]), float(high[seen[1]]))


def _seen(noisy: NDArray[np.int64], deviation: float, widest: int) -> tuple[int, int] | None:
    """Return the first and the last range that hold somebody, by noisy counts; None for none.

    Where no range stands out by itself, neighbours may together, `widest` at most. Then as far as
    ranges beside count more than noise usually has it, and no farther.
    """
    widths = [2**i for i in range(widest.bit_length())]  # 1, 2, 4 …
    far = -NormalDist().inv_cdf(EMPTY / (noisy.size * len(widths)))
    running = np.concatenate([[0], np.cumsum(noisy)])
    for width in widths:
        together = running[width:] - running[:-width]
        found = np.flatnonzero(together > far * deviation * math.sqrt(width))
        if found.size:
            break
    else:
        return None
    first, last = int(found[0]), int(found[-1]) + width - 1
    likely = noisy > BESIDE * deviation
    if likely[first : last + 1].any():
        inside = first + np.flatnonzero(likely[first : last + 1])
        first, last = int(inside[0]), int(inside[-1])
    while first > 0 and likely[first - 1]:
        first -= 1
    while last < noisy.size - 1 and likely[last + 1]:
        last += 1
    return first, last


def _doubling(
    values: NDArray[np.float64], unit: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return which range each value is in, and each range's ends: 0, ±1, ±2 to 3, ±4 to 7 … units.

    The ranges are in increasing order, of both signs.
    """
    most = 2.0 ** (DOUBLINGS - 1)
    units = np.rint(np.clip(values / unit, -most, most))
    doublings = np.frexp(np.abs(units))[1]  # 0: 0; 1: 1; 2, 3: 2; 4 to 7: 3
    within = (np.sign(units) * doublings).astype(np.int64) + DOUBLINGS
    near = np.concatenate([[0.0], 2.0 ** np.arange(DOUBLINGS)])
    far = np.concatenate([[0.0], 2.0 ** np.arange(1, DOUBLINGS + 1) - 1])
    low = np.concatenate([-far[:0:-1], near])
    high = np.concatenate([-near[:0:-1], far])
    return within, low * unit, high * unit


def _decades(
    seconds: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return which decade each moment is in, and the first and last second of each."""
    starts = DECADES.astype(np.int64).astype(np.float64)
    within = np.searchsorted(starts, seconds, side="right") - 1
    return np.clip(within, 0, starts.size - 2), starts[:-1], starts[1:] - 1


def _unit(column: Column) -> float:
    return 10.0 ** -(column.decimals if column.kind == "continuous" else 0)


def _ends(column: Column, low: float, high: float) -> Column:
    """Fill in the ends that are open; one that is declared stays, and the other is not beyond."""
    places = column.decimals if column.kind == "continuous" else 0
    if column.minimum is not None:
        low, high = column.minimum, max(column.minimum, high)
    if column.maximum is not None:
        low, high = min(low, column.maximum), column.maximum
    return dataclasses.replace(column, minimum=round(low, places), maximum=round(high, places))


# ---------------------------------------------------------------------------- the table


def _under(read: Table, schema: TableSchema) -> Table:
    """Return the table under a schema that names fewer levels."""
    columns, states = dict(read.columns), dict(read.states)
    for column in schema.learned:
        before = read.schema[column.name].categories
        if not column.is_coded or before == column.categories:
            continue
        unnamed = column.categories.index(OTHER) if OTHER in column.categories else -1
        lookup = _lookup(before, column.categories, unnamed)
        codes = np.asarray(read.columns[column.name])
        columns[column.name] = np.where(codes < 0, -1, lookup[codes]).astype(np.int32)
        if column.name in states:
            gone = (codes >= 0) & (columns[column.name] < 0)
            states[column.name] = np.where(gone, 1, states[column.name]).astype(np.int8)
    return Table(schema, read.subjects, columns, states)


def _lookup(before: Sequence[str], after: Sequence[str], unnamed: int) -> NDArray[Any]:
    """Return the code after of each code before; the last is for no code."""
    place = {level: i for i, level in enumerate(after)}
    return np.array([*(place.get(level, unnamed) for level in before), -1])
