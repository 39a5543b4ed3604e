"""The shared encoder of linked tables: every table as one flat table that knows its context.

A patient's row is followed by how many rows hang on it in each table below. A row further down
comes with the columns of the rows that it hangs on, with its place among its siblings, and with the
sibling before it in time. Its own time is the interval since that sibling; of a first one, since
the row above from which first rows lie least widely spread, or the calendar's where they lie less
spread in that. Its other dates are intervals from its time. So every table's rows are drawn given
what is known when their turn comes, by any model of tables that draws some columns given others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.cohort import Cohort, counts, in_order, time_column
from manikin.data.links import CohortSchema, Tree
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import SchemaError
from manikin.synthesizers.cohort._habits import (
    coincide,
    coinciding,
    decimals_of,
    find_rounded,
    obey,
    round_to,
)

__all__ = ["CohortEncoding", "Layout", "paste"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

DAY_S = 86_400.0
UNITS_S = (DAY_S, 3600.0, 60.0, 1.0, 1e-6)  # resolutions a date may have
AS_GOOD = 1.25  # the nearest table above with at most so many times the least spread


@dataclass(frozen=True)
class Layout:
    """How the rows of one table lie in time."""

    time: str | None  # the column by which siblings are in order
    anchor: str | None  # the table from whose dates first intervals count; None: the calendar
    origin_s: float  # the beginning where a row above has no date
    units_s: Mapping[str, float]  # of each date column
    marks: tuple[int, ...] = ()  # which `CohortEncoding.references` its times often repeat
    rounded: tuple[str, ...] = ()  # columns of which a part is written with fewer decimals

    @staticmethod
    def fit(cohort: Cohort, name: str, above: Mapping[str, Layout]) -> Layout:
        """See which column tells the time, and how finely dates are written."""
        table = cohort.parts[name]
        time = time_column(table)
        dates = [c.name for c in table.schema.learned if c.kind == "datetime"]
        seconds = {n: table.numbers(n)[table.present(n)] for n in dates}
        centre = float(np.median(seconds[time])) if time in seconds else 0.0
        units = {n: next(u for u in UNITS_S if u == UNITS_S[-1] or not np.any(np.abs(
            v / u - np.rint(v / u)) > 1e-7)) for n, v in seconds.items()}  # fmt: skip
        dated = {a: str(above[a].time) for a in cohort.schema.tree.path(name) if above[a].dated}
        anchor = next(iter(dated), None)
        if dated and time in seconds:
            anchor = _nearest(cohort, name, time, dated)
        return Layout(time, anchor, float(np.rint(centre / DAY_S) * DAY_S), units)

    @property
    def dated(self) -> bool:
        """Whether the time is a date."""
        return self.time in self.units_s

    @property
    def unit(self) -> float:
        """The unit of intervals between siblings: seconds, or 1 where the time is a number."""
        return self.units_s.get(self.time or "", 1.0)


@dataclass(frozen=True)
class CohortEncoding:
    """A fitted encoder: `layouts[name]` is of every table."""

    schema: CohortSchema
    layouts: Mapping[str, Layout]

    @staticmethod
    def fit(cohort: Cohort) -> CohortEncoding:
        """Learn what lies in time, and how."""
        layouts: dict[str, Layout] = {}
        for name in cohort.schema.tree.order:
            layouts[name] = Layout.fit(cohort, name, layouts)
        plain = CohortEncoding(cohort.schema, dict(layouts))
        for name in cohort.schema.tree.order[1:]:
            layouts[name] = dataclasses.replace(
                layouts[name],
                marks=plain._marks(cohort, name),
                rounded=find_rounded(cohort.parts[name]),
            )
        return CohortEncoding(cohort.schema, layouts)

    def _marks(self, cohort: Cohort, name: str) -> tuple[int, ...]:
        time, flat = self.layouts[name].time, self.rows(cohort, name)
        if time is None:
            return ()
        others = [flat.numbers(other) for other in self.references(name)]
        return coinciding(flat.numbers(time), others, flat.subjects)

    @property
    def tree(self) -> Tree:
        """The tables' order."""
        return self.schema.tree

    # -------------------------------------------------------------- columns

    def own(self, name: str) -> tuple[Column, ...]:
        """Return the columns of a flat table that are drawn: its own, and counts of those below."""
        learned = self.schema.parts[name].learned
        taken = {column.name for column in self.schema.parts[name]}
        if name == self.tree.root:
            columns = list(learned)
        else:
            columns = [*self._habits(name, taken), *(self._interval(name, c) for c in learned)]
        for child in self.tree.children(name):
            columns.append(Column(_free(f"number of {child}", taken), "integer", minimum=0))
        return tuple(columns)

    def _habits(self, name: str, taken: set[str]) -> list[Column]:
        """Return the columns that say which time a row repeats, and how numbers are written."""
        layout, found = self.layouts[name], list[Column]()
        if layout.marks:
            levels = ("its own", *(f"reference {i}" for i in layout.marks))
            found.append(Column(_free("time is", taken), "categorical", categories=levels))
        for name_of in layout.rounded:
            most = self.schema.parts[name][name_of].decimals
            levels = tuple(map(str, range(most + 1)))
            called = _free(f"decimals of {name_of}", taken)
            found.append(Column(called, "ordinal", categories=levels))
        return found

    def references(self, name: str) -> tuple[str, ...]:
        """Return the given columns that a time may repeat: the beginning, and dates above."""
        return (self.known(name)[3].name, *self._moving(name))

    def known(self, name: str) -> tuple[Column, ...]:
        """Return the columns of a flat table that are given: rows above, place, sibling before."""
        above = [Column("place", "integer", minimum=0), Column("to come", "integer", minimum=0),
                 Column("siblings", "integer", minimum=1),
                 Column("back", "continuous", decimals=self._places(name))]  # fmt: skip
        for table in self.tree.path(name):
            for column in self.schema.parts[table].learned:
                if self._starts(name, table, column.name):
                    continue
                given = dataclasses.replace(column, name=f"{table}.{column.name}", roles=())
                above.append(_number(given) if column.kind == "datetime" else given)
        before = [
            dataclasses.replace(column, name=f"before.{column.name}") for column in self.own(name)
        ]
        taken = {column.name for column in (*self.own(name), *self.schema.parts[name])}
        fresh = [_free(column.name, taken) for column in (*above, *before)]
        renamed = zip((*above, *before), fresh, strict=True)
        return tuple(dataclasses.replace(column, name=new) for column, new in renamed)

    def flat(self, name: str) -> TableSchema:
        """Return the schema of a flat table; a root's has its own rules."""
        known = () if name == self.tree.root else self.known(name)
        schema = self.schema.parts[name]
        rules = schema.rules if name == self.tree.root else ()
        return TableSchema((*known, *self.own(name)), rules, schema.declared)

    def counted(self, name: str) -> dict[str, str]:
        """Return, for each table below, the column of a flat table that counts its rows."""
        below = self.tree.children(name)
        return dict(zip(below, (c.name for c in self.own(name)[-len(below) :]), strict=False))

    def _interval(self, name: str, column: Column) -> Column:
        plain = dataclasses.replace(column, roles=())
        if column.kind == "datetime":
            return _number(plain)
        if column.name == self.layouts[name].time:
            return dataclasses.replace(plain, minimum=None, maximum=None)
        return plain

    def _moving(self, name: str) -> list[str]:
        """Return the given columns that count from the sibling before: dates of rows above."""
        if not self.layouts[name].dated:
            return []
        above = [
            column
            for table in self.tree.path(name)
            for column in self.schema.parts[table].learned
            if not self._starts(name, table, column.name)
        ]
        named = zip(above, self.known(name)[4:], strict=False)
        return [known.name for column, known in named if column.kind == "datetime"]

    def _places(self, name: str) -> int:
        """Return the decimals of intervals between siblings."""
        layout = self.layouts[name]
        if layout.time is None or layout.dated:
            return 0
        return self.schema.parts[name][layout.time].decimals

    def _starts(self, name: str, table: str, column: str) -> bool:
        """Whether a column above is the one from which the first interval counts."""
        return table == self.layouts[name].anchor and column == self.layouts[table].time

    # -------------------------------------------------------------- to flat tables

    def roots(self, cohort: Cohort) -> Table:
        """Return the first table's rows with their counts."""
        root = self.tree.root
        made = dict(cohort.root.columns)
        for child, column in self.counted(root).items():
            made[column] = counts(cohort, child).astype(np.float64)
        return Table(self.flat(root), cohort.subjects, made, cohort.root.states)

    def rows(self, cohort: Cohort, name: str) -> Table:
        """Return every row of a table with what it is drawn by, in order, subjects as they are."""
        order = in_order(cohort, name, self.layouts[name].time)
        parent = cohort.above[name][order]
        first = np.diff(parent, prepend=-1) != 0
        drawn, elapsed = self._to_intervals(cohort, name, order, first)
        starts = np.flatnonzero(first)
        place = np.arange(order.size) - np.repeat(starts, np.diff([*starts, order.size]))
        siblings = counts(cohort, name)
        around = self.around(name, cohort.parts, cohort.above).rows(parent)
        drawn = self._with_habits(name, drawn, around, elapsed)
        before = drawn.rows(np.maximum(np.arange(order.size) - 1, 0))
        blank = _blanked(before, first)
        given = self.given(name, around, place, siblings[parent], elapsed, blank)
        return paste(self.flat(name), cohort.parts[name].subjects[order], given, drawn)

    def around(self, name: str, parts: Mapping[str, Table], above: Mapping[str, Ints]) -> Table:
        """Return what rows of a table know of the rows above them, one row a row of the parent."""
        link = self.tree.up[name]
        rows = np.arange(parts[link.parent].n_rows, dtype=np.int64)
        start, layout = self.starts(name, parts, above), self.layouts[name]
        columns, values, states = [], dict[str, Any](), dict[str, NDArray[np.int8]]()
        known = iter(self.known(name)[4:])
        for table in self.tree.path(name):
            for column in self.schema.parts[table].learned:
                if self._starts(name, table, column.name):
                    continue
                named = next(known)
                columns.append(named)
                found = parts[table].columns[column.name][rows]
                if column.kind == "datetime":
                    unit = layout.unit if layout.dated else DAY_S
                    found = np.rint((parts[table].numbers(column.name)[rows] - start) / unit)
                values[named.name] = found
                if len(column.tokens) > 1:
                    states[named.name] = parts[table].state(column.name)[rows]
            if table in above:
                rows = above[table][rows]
        schema = TableSchema(tuple(columns))
        return Table(schema, parts[link.parent].subjects, values, states)

    def given(
        self,
        name: str,
        around: Table,
        place: Ints,
        siblings: Ints,
        elapsed: Floats,
        before: Table,
    ) -> Table:
        """Return what is given for rows: what is around, their place, and the sibling before.

        `elapsed` are the units of time from the beginning to that sibling. What is given of time
        counts from it, so that a row at the very time of another column, or of the beginning, is
        one whose interval repeats a column that is given.
        """
        known = self.known(name)
        own = [column.name for column in self.own(name)]
        values: dict[str, Any] = {
            known[0].name: place.astype(np.float64),
            known[1].name: (siblings - 1.0) - place,
            known[2].name: siblings.astype(np.float64),
            **around.columns,
        }
        values |= self._since(name, around, elapsed)
        states = dict(around.states)
        for column, source in zip(known[len(known) - len(own) :], own, strict=True):
            values[column.name] = before.columns[source]
            if source in before.states:
                states[column.name] = before.states[source]
        return Table(TableSchema(known), np.arange(place.size), values, states)

    def _since(self, name: str, around: Table, elapsed: Floats) -> dict[str, Floats]:
        """Return what a time may repeat, counted from the sibling before."""
        back, *moving = self.references(name)
        found = {column: around.columns[column] - elapsed for column in moving}
        return {back: -np.asarray(elapsed, np.float64), **found}

    def _with_habits(self, name: str, drawn: Table, around: Table, elapsed: Floats) -> Table:
        """Return rows in order with the columns of their habits."""
        layout, schema, own = self.layouts[name], self.schema.parts[name], self.own(name)
        habits = iter(own)
        values: dict[str, Any] = dict(drawn.columns)
        if layout.marks:
            since = [*self._since(name, around, elapsed).values()]
            found = [since[i] for i in layout.marks]
            values[next(habits).name] = coincide(values[str(layout.time)], found)
        for column in layout.rounded:
            most = schema[column].decimals
            values[next(habits).name] = decimals_of(values[column], most)
        return Table(TableSchema(own), drawn.subjects, values, drawn.states)

    def obeying(self, name: str, drawn: Table, given: Table, rng: np.random.Generator) -> Table:
        """Return drawn rows whose times and numbers are as the columns of their habits say."""
        layout, schema = self.layouts[name], self.schema.parts[name]
        habits = iter(self.own(name))
        values: dict[str, Any] = dict(drawn.columns)
        if layout.marks:
            names, time = self.references(name), str(layout.time)
            found = [given.columns[names[i]] for i in layout.marks]
            place = given.columns[self.known(name)[0].name]
            values[time] = obey(values[time], values[next(habits).name], found, place)
        for column in layout.rounded:
            most, places = schema[column].decimals, values[next(habits).name]
            made = round_to(values[column], places, most, rng)
            values[column] = _bounded(made, schema[column])
        return Table(drawn.schema, drawn.subjects, values, drawn.states)

    def starts(self, name: str, parts: Mapping[str, Table], above: Mapping[str, Ints]) -> Floats:
        """Return the seconds since 1970 that first intervals count from, (rows of the parent,)."""
        layout = self.layouts[name]
        rows = np.arange(parts[self.tree.up[name].parent].n_rows, dtype=np.int64)
        for table in self.tree.path(name):
            if table == layout.anchor:
                found = parts[table].numbers(str(self.layouts[table].time))[rows]
                return np.where(np.isnan(found), layout.origin_s, found)
            rows = above[table][rows] if table in above else rows
        return np.full(rows.shape, layout.origin_s)

    def _to_intervals(
        self, cohort: Cohort, name: str, order: Ints, first: NDArray[Any]
    ) -> tuple[Table, Floats]:
        """Return a table's own columns in order, its dates as intervals, and counts below.

        Beside it, the time from the beginning to the sibling before, 0 for a first row.
        """
        table, layout = cohort.parts[name].rows(order), self.layouts[name]
        start = self.starts(name, cohort.parts, cohort.above)[cohort.above[name][order]]
        values: dict[str, Any] = dict(table.columns)
        begin = start if layout.dated else np.zeros(order.size)
        reached, elapsed = begin, np.zeros(order.size)
        if layout.time is not None:
            when = table.numbers(layout.time)
            last = _last_known(np.where(first & np.isnan(when), reached, when))
            earlier = np.where(first, reached, np.roll(last, 1))
            gap = (when - earlier) / layout.unit
            values[layout.time] = np.round(gap, self._places(name))
            elapsed = np.round((earlier - begin) / layout.unit, self._places(name))
            reached = last
        base = reached if layout.dated else start
        for column, unit in layout.units_s.items():
            if column != layout.time:
                values[column] = np.rint((table.numbers(column) - base) / unit)
        for child, column in self.counted(name).items():
            values[column] = counts(cohort, child)[order].astype(np.float64)
        plain = TableSchema(tuple(c for c in self.own(name) if c.name in values))
        return Table(plain, table.subjects, values, table.states), elapsed

    # -------------------------------------------------------------- and back

    def from_intervals(self, name: str, drawn: Table, start: Floats, first: NDArray[Any]) -> Table:
        """Return the table of drawn rows, siblings in order; `start` as `starts`, but a row."""
        layout, schema = self.layouts[name], self.schema.parts[name]
        values: dict[str, Any] = {c.name: drawn.columns[c.name] for c in schema.learned}
        base = start
        if layout.time is not None:
            gaps = np.nan_to_num(values[layout.time]) * layout.unit
            total = np.cumsum(gaps)
            opening = np.flatnonzero(first)
            before = np.repeat((total - gaps)[opening], np.diff([*opening, first.size]))
            reached = total - before + (start if layout.dated else 0.0)
            missing = np.isnan(values[layout.time])
            if layout.dated:
                base = reached
                values[layout.time] = _moments(np.where(missing, np.nan, reached), layout.unit)
            else:
                values[layout.time] = _bounded(
                    np.where(missing, np.nan, reached), schema[layout.time]
                )
        for column, unit in layout.units_s.items():
            if column != layout.time:
                values[column] = _moments(base + values[column] * unit, unit)
        states = {n: drawn.state(n) for n in values if len(schema[n].tokens) > 1}
        return Table(schema, drawn.subjects, values, states)


def _nearest(cohort: Cohort, name: str, time: str, dated: Mapping[str, str]) -> str | None:
    """Return the table above from whose dates first rows lie least spread; None: calendar."""
    order = in_order(cohort, name, time)
    first = order[np.diff(cohort.above[name][order], prepend=-1) != 0]
    when = cohort.parts[name].numbers(time)[first]
    spreads: dict[str | None, float] = {}
    for table, column in dated.items():
        spreads[table] = _spread(
            when - cohort.parts[table].numbers(column)[cohort.ancestors(name, table)[first]]
        )
    spreads[None] = _spread(when)
    least = min(spreads.values())
    return next(table for table, spread in spreads.items() if spread <= AS_GOOD * least)


def _spread(values: Floats) -> float:
    """Return the distance between the quartiles, infinite where there is no value."""
    known = values[np.isfinite(values)]
    if not known.size:
        return np.inf
    low, high = np.quantile(known, [0.25, 0.75])
    return float(high - low)


def paste(schema: TableSchema, subjects: Ints, *parts: Table) -> Table:
    """Put tables of the same rows side by side under one schema."""
    values = {name: found for part in parts for name, found in part.columns.items()}
    states = {name: found for part in parts for name, found in part.states.items()}
    return Table(schema, subjects, values, states)


def _number(column: Column) -> Column:
    """Return the column of whole intervals in place of one of dates."""
    return Column(column.name, "integer", missing=column.missing, special=column.special)


def _free(name: str, taken: set[str]) -> str:
    """Return a name that none has, and take it."""
    while name in taken:
        name = f"{name}'"
    taken.add(name)
    return name


def _blanked(table: Table, where: NDArray[np.bool_]) -> Table:
    """Return the table without a value in some rows."""
    values: dict[str, Any] = {}
    for name, found in table.columns.items():
        none: Any = -1 if found.dtype.kind == "i" else np.nan
        values[name] = np.where(where, none, found).astype(found.dtype)
    states = {n: np.where(where, 1, found).astype(np.int8) for n, found in table.states.items()}
    return Table(table.schema, table.subjects, values, states)


def _last_known(values: Floats) -> Floats:
    """Return every value, or the last one before it that is known."""
    at = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(values.size)))
    return values[at] if values.size else values


def _moments(seconds: Floats, unit: float) -> NDArray[Any]:
    """Return seconds since 1970 as moments on the grid of a unit."""
    missing = np.isnan(seconds)
    # within the years 1 to 9999, whatever was drawn
    grid = np.clip(np.rint(np.nan_to_num(seconds) / unit) * unit, -6.2e10, 2.53e11)
    whole = np.rint(grid * 1e6).astype(np.int64).astype("datetime64[us]")
    return np.where(missing, np.datetime64("NaT", "us"), whole)


def _bounded(values: Floats, column: Column) -> Floats:
    least = -np.inf if column.minimum is None else column.minimum
    most = np.inf if column.maximum is None else column.maximum
    return np.asarray(np.clip(np.round(values, column.decimals), least, most))


def check_flat(expected: TableSchema, found: TableSchema) -> None:
    """Raise SchemaError when a stored schema is not that of the flat table it stands for."""

    def shape(schema: TableSchema) -> list[tuple[object, ...]]:
        return [(c.name, c.kind, c.decimals, c.minimum, c.maximum, len(c.categories),
                 len(c.missing), len(c.special)) for c in schema]  # fmt: skip

    if shape(expected) != shape(found):
        raise SchemaError(
            "the model of a table has other columns than the table",
            "what the cohort's schema says",
            "use the model file as it was written",
        )
