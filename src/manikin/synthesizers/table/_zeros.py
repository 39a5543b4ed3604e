"""Which combinations of bins no row can be in: declared rules as structural zeros.

A rule of the schema is a public fact. Where every value that the bins of some columns stand for
breaks it, no row is there, whatever noise says; a bin of which one value may obey is left open, so
nothing is forbidden that could be. What a bin stands for: a level, a mark, or all that lies between
the ends of its cells; codes that are never drawn from it do not count.

Reference  Bishop, Fienberg and Holland, "Discrete multivariate analysis" (1975), §5.1;
           McKenna, Miklau and Sheldon, J. Privacy and Confidentiality 11(3), 2021, §3.4
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.rules import Combinations, Condition, IfThen, Inequality, Range, Rule, Sum
from manikin.data.schema import Column, TableSchema, columns_of
from manikin.errors import ConditionError, PrivacyError
from manikin.knowledge import conditions, constraints
from manikin.knowledge.repair import compare
from manikin.synthesizers.table._cells import NumericCells
from manikin.synthesizers.table._net_bins import Bins
from manikin.synthesizers.table._net_search import MAX_CLIQUE
from manikin.synthesizers.table._pgm import Measured, Zeros, fit
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["check", "of_rules"]

Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]

TRIED = 12  # parts of each column in which rules are tried before anything is paid for


def of_rules(
    encoding: Encoding, bins: Sequence[Bins]
) -> tuple[tuple[Bins, ...], tuple[Zeros, ...]]:
    """Return bins from which no code is drawn that breaks a rule by itself, and the zeros.

    Rules of so many columns or bins that no clique could hold them are left to drawn rows. Raises
    ConditionError for a rule that no row can obey.
    """
    sides = _sides(encoding, bins)
    named = encoding.schema.rules
    alone = [rule for rule in named if len(columns_of(rule)) == 1]
    for rule in alone:
        (name,) = columns_of(rule)
        sides[name] = sides[name].narrowed(_allowed(rule, sides[name]), rule)
    found = [side.zeros for side in sides.values() if side.zeros is not None]
    for rule in named:
        if rule not in alone:
            zeros = _zeros(rule, sides)
            if zeros is not None and not zeros.possible.all():
                found.append(zeros)
    return tuple(side.bins for side in sides.values()), _merged(found)


def check(encoding: Encoding) -> None:
    """Raise ConditionError for rules of which the schema alone tells that no row obeys them.

    Raises PrivacyError for a rule that would be read off the rows.
    """
    constraints.check_rules(encoding.schema)
    if not encoding.schema.rules:
        return
    for rule in encoding.schema.rules:
        if isinstance(rule, Combinations) and rule.allowed is None:
            raise PrivacyError(
                f"a privacy budget, and {constraints.describe(rule)}",
                "combinations that are listed: those that occur in the rows are private",
                "list them under 'allowed', or leave the rule out",
            )
    even = []
    for cells in encoding.cells:
        values = cells.size - cells.n_tokens
        parts = min(values, TRIED) if cells.ordered else values
        of = np.concatenate([
            np.arange(cells.n_tokens), cells.n_tokens + np.arange(values) * parts // max(values, 1)
        ])  # fmt: skip
        even.append(Bins(of, 1.0 / np.bincount(of)[of]))
    sizes = [one.size for one in even]
    flat = [Measured((j,), np.ones(size), 1.0) for j, size in enumerate(sizes)]
    fit(sizes, flat, zeros=of_rules(encoding, even)[1], steps=0)


# ------------------------------------------------------------------ one column


@dataclass(frozen=True)
class _Side:
    """A column: its bins, and the values that each of its codes may stand for."""

    at: int
    column: Column
    bins: Bins
    numbers: Floats  # (codes, points) ends of each code, and both sides of values that rules name
    states: NDArray[np.int8]  # (codes, points)
    zeros: Zeros | None = None  # bins that rules on this column alone leave empty

    @cached_property
    def drawn(self) -> Bools:
        """Codes that are drawn from their bin, (codes,)."""
        return self.bins.share > 0

    def every(self, codes: Bools) -> Bools:
        """Return the bins all of whose codes are among these."""
        other = self.bins.of[self.drawn & ~codes]
        return np.asarray(np.bincount(other, minlength=self.bins.size) == 0)

    def some(self, codes: Bools) -> Bools:
        """Return the bins one of whose codes is among these."""
        return ~self.every(~codes)

    def admitted(self, wanted: Iterable[Condition]) -> Bools:
        """Return which points satisfy all of these conditions, (codes, points)."""
        fits = np.ones(self.numbers.shape, bool)
        for condition in wanted:
            fits &= conditions.admits(condition, self.column, self.numbers, self.states)
        return fits

    def standing_for(self, value: float) -> Bools:
        """Return the codes that a value may have, (codes,)."""
        least, most = self.span
        slack = 1e-9 * max(abs(value), 1.0)
        return (least <= value + slack) & (most >= value - slack)

    def holding(self, value: float) -> NDArray[np.int64]:
        """Return the bins from which a value may be drawn."""
        return np.unique(self.bins.of[self.standing_for(value) & self.drawn])

    @cached_property
    def span(self) -> tuple[Floats, Floats]:
        """Least and most value of each code; NaN for a mark."""
        return self.numbers.min(axis=1), self.numbers.max(axis=1)

    @cached_property
    def open(self) -> Bools:
        """Bins that hold a missing mark: comparisons with it are never broken."""
        return self.some(np.asarray(np.isnan(self.numbers).any(axis=1)))

    @cached_property
    def ends(self) -> tuple[Floats, Floats]:
        """Least and most value of each bin; NaN where it has none."""
        least, most = np.full(self.bins.size, np.inf), np.full(self.bins.size, -np.inf)
        valued = self.drawn & ~np.isnan(self.numbers[:, 0])
        np.minimum.at(least, self.bins.of[valued], self.numbers[valued].min(axis=1))
        np.maximum.at(most, self.bins.of[valued], self.numbers[valued].max(axis=1))
        none = least > most
        return np.where(none, np.nan, least), np.where(none, np.nan, most)

    def narrowed(self, codes: Bools, rule: Rule) -> _Side:
        """Return the column with no share of a bin for other codes, and bins of none forbidden."""
        possible = self.some(codes)
        if self.zeros is not None:
            possible = possible & self.zeros.possible
        if not possible.any():
            raise _nothing(rule)
        share = np.where(codes | ~possible[self.bins.of], self.bins.share, 0.0)
        whole = np.bincount(self.bins.of, weights=share, minlength=self.bins.size)
        bins = replace(self.bins, share=share / whole[self.bins.of])
        zeros = None if possible.all() else Zeros((self.at,), possible)
        return _Side(self.at, self.column, bins, self.numbers, self.states, zeros)


def _sides(encoding: Encoding, bins: Sequence[Bins]) -> dict[str, _Side]:
    """Return every column with the values of its codes."""
    schema = encoding.schema
    found = {}
    for j, (name, cells) in enumerate(zip(encoding.names, encoding.cells, strict=True)):
        column = schema[name]
        codes = np.arange(cells.size, dtype=np.int32)
        numbers, states = cells.decode(codes, generator(0, "zeros"))
        low, high = numbers.copy(), numbers.copy()
        if isinstance(cells, NumericCells):
            wide = np.flatnonzero(~cells.atoms)
            low[wide], high[wide] = (ends[wide - cells.n_tokens] for ends in _spans(cells))
        if column.kind == "datetime":
            low, high = (encoding.dates.to_seconds(name, ends, None) for ends in (low, high))
        corners = [] if cells.atoms.all() else sorted(_named(schema.rules, column))
        points = np.stack([low, *(np.clip(c, low, high) for c in corners), high], axis=1)
        between = (points[:, 1:] + points[:, :-1]) / 2  # conditions do not change in between
        points = np.concatenate([points, between], axis=1)
        several = np.broadcast_to(states[:, None], points.shape)
        found[name] = _Side(j, column, bins[j], points, several)
    return found


def _spans(cells: NumericCells) -> tuple[Floats, Floats]:
    """Return the least and the most number of the column's decimals that is coded as each cell."""
    unit = 10.0 ** (1 - cells.decimals.shape[1])
    low = np.ceil(cells.low / unit - 1e-6) * unit
    high = np.maximum(low, np.ceil(cells.high / unit - 1e-6) * unit - unit)  # an end is the next's
    high[-1] = cells.high[-1]
    return np.clip(low, cells.least, cells.most), np.clip(high, cells.least, cells.most)


def _named(rules: Iterable[Rule], column: Column) -> set[float]:
    """Return the values of a column that rules name."""
    asked: list[Condition] = []
    for rule in rules:
        match rule:
            case Range(column=name, minimum=low, maximum=high) if name == column.name:
                asked += [Condition(name, "=", (end,)) for end in (low, high) if end is not None]
            case IfThen(when=when, then=then):
                asked += [one for one in (*when, *then) if one.column == column.name]
    schema = TableSchema((column,))
    return {
        conditions.number(value, column)
        for one in asked
        for value in conditions.check(one, schema).values
        if column.is_coded or value not in column.special
    }


def _on(side: _Side, wanted: Iterable[Condition]) -> list[Condition]:
    """Return the conditions on a column, checked."""
    schema = TableSchema((side.column,))
    return [conditions.check(one, schema) for one in wanted if one.column == side.column.name]


# ------------------------------------------------------------------ rules


def _allowed(rule: Rule, side: _Side) -> Bools:
    """Return the codes that may obey a rule on one column, (codes,)."""
    match rule:
        case Range(column=name, minimum=low, maximum=high):
            ends = [Condition(name, ">=", (low,))] if low is not None else []
            ends += [Condition(name, "<=", (high,))] if high is not None else []
            fits = side.admitted(_on(side, ends))
            return np.asarray((fits | np.isnan(side.numbers)).any(axis=1))
        case IfThen(when=when, then=then):
            asked, owed = (side.admitted(_on(side, part)) for part in (when, then))
            return np.asarray((~asked | owed).any(axis=1))
        case Combinations(allowed=allowed) if allowed is not None:
            values = constraints.combination_numbers(rule, TableSchema((side.column,)))
            codes = np.isnan(side.numbers[:, 0])
            for value in np.unique(values):
                codes |= side.standing_for(value)
            return codes
    return np.ones(len(side.numbers), bool)


def _zeros(rule: Rule, sides: dict[str, _Side]) -> Zeros | None:
    """Return the cells of several columns that may obey a rule; None where it is left open."""
    mine = sorted((sides[name] for name in columns_of(rule)), key=lambda side: side.at)
    shape = tuple(side.bins.size for side in mine)
    if math.prod(shape) > MAX_CLIQUE or (isinstance(rule, Combinations) and rule.allowed is None):
        return None
    grid = _Grid({side.column.name: a for a, side in enumerate(mine)})
    if isinstance(rule, IfThen):
        possible = ~_broken(rule, mine, grid)
    else:
        possible = _together(rule, sides, grid, shape)
        for side in mine:
            possible |= grid.along(side.column.name, side.open)
    if not possible.any():
        raise _nothing(rule)
    return Zeros(tuple(side.at for side in mine), possible)


@dataclass(frozen=True)
class _Grid:
    """The axes of several columns."""

    axis: dict[str, int]

    def along(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Return values of a column's bins on its axis."""
        return values.reshape([-1 if a == self.axis[name] else 1 for a in range(len(self.axis))])


def _broken(rule: IfThen, sides: Sequence[_Side], grid: _Grid) -> Bools:
    """Return the cells all of whose values meet `when`, and none of them `then`."""
    asked, owed = np.ones((), bool), np.zeros((), bool)
    for side in sides:
        asks, owes = (side.admitted(_on(side, part)) for part in (rule.when, rule.then))
        met = side.every(np.asarray(asks.all(axis=1)))
        missed = side.every(np.asarray(~owes.any(axis=1)))
        asked = asked & grid.along(side.column.name, met)
        owed = owed | grid.along(side.column.name, missed)
    return np.asarray(asked & owed)


def _together(rule: Rule, sides: dict[str, _Side], grid: _Grid, shape: tuple[int, ...]) -> Bools:
    """Return the cells in which values that are all there may obey a rule on numbers or levels."""
    possible = np.zeros(shape, bool)
    match rule:
        case Inequality(left=left, operator=operator, right=right):
            at = (
                0 if operator[0] == "<" else 1
            )  # the least of the left beside the most of the right
            one = grid.along(left, sides[left].ends[at])
            two = grid.along(right, sides[right].ends[1 - at])
            one, two = np.broadcast_arrays(one, two)
            possible |= compare(one, operator, two) & ~np.isnan(one) & ~np.isnan(two)
        case Sum(total=total, parts=parts):
            low, high = (grid.along(total, end) for end in sides[total].ends)
            unit = 10.0 ** -sides[total].column.decimals
            slack = unit / 2 + 1e-9 * np.maximum(np.abs(high), unit)
            least, most = np.zeros(shape), np.zeros(shape)
            for name in parts:
                least += grid.along(name, sides[name].ends[0])
                most += grid.along(name, sides[name].ends[1])
            possible |= (least <= high + slack) & (most >= low - slack)
        case Combinations(columns=names):
            schema = TableSchema(tuple(sides[name].column for name in names))
            values = constraints.combination_numbers(rule, schema)
            order = sorted(range(len(names)), key=lambda k: grid.axis[names[k]])
            known = [
                {value: sides[name].holding(value) for value in np.unique(values[:, k])}
                for k, name in enumerate(names)
            ]
            for entry in values:
                possible[np.ix_(*(known[k][entry[k]] for k in order))] = True
    return possible


def _merged(found: Iterable[Zeros]) -> tuple[Zeros, ...]:
    """Return one statement for each set of columns. Raises ConditionError when one leaves none."""
    whole: dict[tuple[int, ...], Bools] = {}
    for one in found:
        whole[one.columns] = one.possible & whole.get(one.columns, True)
        if not whole[one.columns].any():
            raise _nothing()
    return tuple(Zeros(columns, possible) for columns, possible in whole.items())


def _nothing(*rules: Rule) -> ConditionError:
    named = "".join(f" '{constraints.describe(rule)}'" for rule in rules)
    return ConditionError(
        f"declared rules{named} that leave no combination of values within the columns' bounds",
        "rules that some row can obey",
        "correct the rules, or the bounds, in the schema",
    )
