"""Tables of many rows a subject as histories and back, without loss.

A row (a visit, an hour on a ward, a day of a trial) becomes a visit: its number is the row's
place within its subject, and every cell that holds something is an event whose code is the name
of its column. Numbers and dates are values, levels and marks (NK, <0.5) are texts. A column that
never changes within a subject is a static fact. A row in which nothing stands is an event ROW.
What the table needs to come back (its schema, its time column and how its numbers stand for
times) is its `Panel`, so that histories which a model drew become a table of the same look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from manikin.data.cells import round_to
from manikin.data.codes import Clock, Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema, columns_of
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import SchemaError

__all__ = ["ROW", "Panel", "Step", "events_of", "table_of"]

Step = Literal["day", "hour", "minute", "second", "week", "month", "year"]
Index = NDArray[np.int64]

ROW = "ROW"  # code of a row in which nothing stands
ORIGIN = np.datetime64("2000-01-01", "us")  # the moment that a time of 0 stands for
_STEPS: dict[str, int] = {  # microseconds; months and years are of equal length, to be undone
    "second": 10**6, "minute": 60 * 10**6, "hour": 3600 * 10**6, "day": 86_400 * 10**6,
    "week": 7 * 86_400 * 10**6, "month": 2_629_746 * 10**6, "year": 31_556_952 * 10**6,
}  # fmt: skip
_LONGEST = 2.0**61  # microseconds from the origin that a time may be
_BIRTHS, _SEXES = ("birth", "birthdate", "birth_date", "dob", "date_of_birth"), ("sex", "gender")


@dataclass(frozen=True)
class Panel:
    """How the rows of a table stand for histories."""

    schema: TableSchema
    static: tuple[str, ...]  # columns that are told once a subject
    time: str = ""  # column that says when a row is; "" where rows are only in order
    step: Step = "day"  # what one is in a time column of numbers
    kept: bool = False  # whether the time column is among the events too, being no exact time

    def __post_init__(self) -> None:
        for name in (*self.static, *([self.time] if self.time else [])):
            if not self.schema[name].is_learned:
                raise _unfit(f"column '{name}', which is set aside", "a column that is learned")
        if self.time and self.time in self.static:
            raise _unfit("a time that is told once a subject", "a time of every row")
        if self.time and self.schema[self.time].kind not in ("datetime", "integer", "continuous"):
            raise _unfit(f"column '{self.time}' as the time", "a column of dates or of numbers")

    @property
    def measured(self) -> tuple[Column, ...]:
        """The columns whose cells are events."""
        left = {*self.static, "" if self.kept else self.time}
        return tuple(column for column in self.schema.learned if column.name not in left)

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "schema": self.schema.to_json(),
            "static": list(self.static),
            "time": self.time,
            "step": self.step,
            "kept": self.kept,
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Panel:
        """Build what `to_json` wrote. Raises SchemaError on anything else."""
        schema, static, time = (document.get(key) for key in ("schema", "static", "time"))
        step, kept = document.get("step"), document.get("kept")
        fits = isinstance(schema, Mapping) and isinstance(static, list) and isinstance(time, str)
        if not fits or step not in get_args(Step) or not isinstance(kept, bool):
            raise _unfit("a description that is none", "what was written with the histories")
        if not all(isinstance(name, str) for name in static or ()):
            raise _unfit("static columns that are no names", "names of columns")
        return Panel(TableSchema.from_json(schema or {}), tuple(static or ()), str(time),
                     step or "day", bool(kept))  # fmt: skip


def events_of(
    table: Table,
    *,
    time: str | None = None,
    static: Sequence[str] | None = None,
    step: Step = "day",
    panel: Panel | None = None,
) -> tuple[Events, Panel]:
    """Return the histories that the rows of a table tell, and how they come back to be rows.

    `time` names the column of when a row is: dates, or numbers of `step`s; None takes the column
    with the role, and where none has it, rows are taken in their order. `static` names what is
    told once a subject; None takes every column that never changes within a subject. With a
    `panel` the table is read as another one was. Raises SchemaError for what does not fit.
    """
    order = np.argsort(table.subjects, kind="stable")
    rows = table if np.array_equal(order, np.arange(order.size)) else table.rows(order)
    subjects, first, whose = np.unique(rows.subjects, return_index=True, return_inverse=True)
    if panel is None:
        panel = _find_panel(rows, whose, first, time, static, step)
    elif panel.schema != table.schema:
        raise _unfit("a table of another schema", "the schema with which the panel was found")
    for name in panel.static:
        if n := int((~_alike(rows, name, first[whose])).sum()):
            raise _unfit(
                f"{n:,} cells of '{name}' that are not like the first of their subject",
                "one value a subject in a static column",
            )
    moments = _moments(rows, whose, first, panel)
    facts = rows.rows(first)
    schema = _schema(panel, moments)
    told = Table(
        schema.static,
        subjects.astype(np.int64),
        {name: facts.columns[name] for name in panel.static},
        {name: facts.states[name] for name in panel.static if name in facts.states},
    )
    return _events(rows, panel, schema, told, whose, first, moments), panel


def table_of(events: Events, panel: Panel) -> Table:
    """Return the table whose rows the visits of histories are, as `events_of` found them.

    Rows are sorted by subject and number of visit, or time where visits have no number. Of
    several events of a column in a row the first one counts; events of no visit are left out.
    """
    row_of, whose, time = _rows(events)
    n = whose.size
    schema = panel.schema
    columns: dict[str, NDArray[Any]] = {}
    states: dict[str, NDArray[np.int8]] = {}
    static = events.static
    for name in panel.static:
        columns[name] = static.columns[name][whose]
        if name in static.states:
            states[name] = static.states[name][whose]
    for place, column in enumerate(panel.measured):
        found = np.flatnonzero((events.code == place) & (row_of >= 0))[::-1]  # the first one stays
        values, state = _cells(events, found, row_of[found], n, column)
        columns[column.name] = values
        if len(column.tokens) > 1:
            states[column.name] = state
    if panel.time and not panel.kept:
        column = schema[panel.time]
        columns[column.name] = _times(time, column, panel.step)
        if len(column.tokens) > 1:
            states[column.name] = np.isnat(time).astype(np.int8)
    named = {column.name: columns[column.name] for column in schema.learned}
    return Table(schema, events.subjects[whose], named, states)


# ------------------------------------------------------------------ how a table is laid out


def _find_panel(
    rows: Table, whose: Index, first: Index, time: str | None, static: Sequence[str] | None,
    step: Step,
) -> Panel:  # fmt: skip
    holder = rows.schema.holder("time")
    name = time if time is not None else holder.name if holder is not None else ""
    if static is None:
        head = first[whose]
        static = [
            column.name
            for column in rows.schema.learned
            if column.name != name and _alike(rows, column.name, head).all()
        ]
    panel = Panel(rows.schema, tuple(static), name, step)
    if not name:
        return panel
    # numbers of odd steps, and what is written for no time, are kept as they stand
    column = rows.schema[name]
    moments = _moments(rows, whose, first, panel)
    exact = _times(moments, column, step)
    values = rows.columns[name]
    same = np.array_equal(exact, values, equal_nan=True)
    return replace(panel, kept=not same or bool((rows.state(name) > 1).any()))


def _alike(rows: Table, name: str, head: Index) -> NDArray[np.bool_]:
    """Whether a cell is like the first of its subject, (rows,)."""
    values, state = rows.columns[name], rows.state(name)
    equal = values == values[head]
    if values.dtype.kind == "f":
        equal |= np.isnan(values) & np.isnan(values[head])
    elif values.dtype.kind == "M":
        equal |= np.isnat(values) & np.isnat(values[head])
    return np.asarray(equal & (state == state[head]))


def _moments(rows: Table, whose: Index, first: Index, panel: Panel) -> NDArray[np.datetime64]:
    """Return when each row is, datetime64[us] (rows,)."""
    if not panel.time:
        place = np.arange(whose.size) - first[whose]
        return ORIGIN + (place * _STEPS["day"]).astype("timedelta64[us]")
    values = rows.columns[panel.time]
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]")
    with np.errstate(over="ignore"):  # what is too far away is no time
        micro = values * float(_STEPS[panel.step])
    told = np.abs(np.nan_to_num(micro, nan=np.inf)) < _LONGEST
    whole = np.round(np.where(told, micro, 0)).astype(np.int64).astype("timedelta64[us]")
    return np.where(told, ORIGIN + whole, np.datetime64("NaT", "us"))


def _times(moments: NDArray[np.datetime64], column: Column, step: Step) -> NDArray[Any]:
    """Return moments as the time column has them."""
    if column.kind == "datetime":
        return moments.astype("datetime64[us]")
    gone = np.isnat(moments)
    micro = np.where(gone, np.timedelta64(0, "us"), moments - ORIGIN).astype(np.int64)
    whole, rest = np.divmod(micro, _STEPS[step])
    numbers = whole + rest / _STEPS[step]
    places = 0 if column.kind == "integer" else column.decimals
    return np.where(gone, np.nan, round_to(numbers, places))


def _schema(panel: Panel, moments: NDArray[np.datetime64]) -> EventSchema:
    schema = panel.schema
    once = {*panel.static}
    rules = tuple(rule for rule in schema.rules if columns_of(rule) <= once)
    static = TableSchema(
        tuple(schema[name] for name in panel.static), rules, declared=schema.declared
    )
    dates = [c.name for c in static if c.kind == "datetime" and c.name.lower() in _BIRTHS]
    sexes = [c.name for c in static if c.is_coded and c.name.lower() in _SEXES]
    codes = [_code(column) for column in panel.measured]
    row = ROW
    while row in {code.name for code in codes}:
        row += "_"
    return EventSchema(
        static,
        (*codes, Code(row, "visit")),
        schema.declared,
        dates[0] if dates else "",
        sexes[0] if sexes else "",
        _clock(panel, moments),
    )


def _code(column: Column) -> Code:
    if column.is_coded:
        levels = dict.fromkeys((*column.categories, *column.tokens[1:]))
        return Code(column.name, "observation", levels=tuple(levels))
    seconds = column.kind == "datetime"
    return Code(
        column.name, "observation" if seconds else "measurement",
        unit="s" if seconds else column.unit or "", numeric=True,
        minimum=column.minimum, maximum=column.maximum,
        decimals=6 if seconds else column.decimals, levels=column.tokens[1:],
    )  # fmt: skip


def _clock(panel: Panel, moments: NDArray[np.datetime64]) -> Clock:
    """Return the finest step of the times that rows have."""
    micro = moments[~np.isnat(moments)].view(np.int64)
    steps: tuple[Clock, ...] = ("day", "hour", "minute", "second")
    return next((name for name in steps if not (micro % _STEPS[name]).any()), "us")


# ------------------------------------------------------------------ cells and events


def _events(
    rows: Table, panel: Panel, schema: EventSchema, told: Table, whose: Index, first: Index,
    moments: NDArray[np.datetime64],
) -> Events:  # fmt: skip
    """Turn cells into events, sorted by subject, time and row, then in the order of columns."""
    texts: dict[str, int] = {}
    at, code, value, text = [], [], [], []
    filled = np.zeros(rows.n_rows, bool)
    for place, column in enumerate(panel.measured):
        numbers, said = _said(rows, column, texts)
        held = np.flatnonzero(~np.isnan(numbers) | (said >= 0))
        filled[held] = True
        at.append(held)
        code.append(np.full(held.size, place, np.int32))
        value.append(numbers[held])
        text.append(said[held])
    empty = np.flatnonzero(~filled)
    at.append(empty)
    code.append(np.full(empty.size, len(panel.measured), np.int32))
    value.append(np.full(empty.size, np.nan))
    text.append(np.full(empty.size, -1, np.int32))
    where = np.concatenate(at)
    by_time = np.lexsort((moments.view(np.int64), whose))  # no time comes first, as in Events
    rank = np.empty(by_time.size, np.int64)
    rank[by_time] = np.arange(by_time.size)
    order = np.argsort(rank[where], kind="stable")
    where = where[order]
    return Events.of(
        schema, told, whose[where], moments[where], np.concatenate(code)[order],
        np.concatenate(value)[order], np.concatenate(text)[order],
        visit=(where - first[whose[where]]).astype(np.int32), texts=tuple(texts),
    )  # fmt: skip


def _said(
    rows: Table, column: Column, texts: dict[str, int]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return a column's numbers, NaN for none, and its texts by their places, (rows,) each."""
    state = rows.state(column.name).astype(np.int64)
    marks = [-1, -1, *(texts.setdefault(token, len(texts)) for token in column.tokens[1:])]
    said = np.array(marks, np.int32)[state]
    values = rows.columns[column.name]
    if column.is_coded:
        levels = [texts.setdefault(level, len(texts)) for level in column.categories]
        lookup = np.array([*levels, -1], np.int32)[values]
        return np.full(rows.n_rows, np.nan), np.where((values >= 0) & (state == 0), lookup, said)
    if column.kind != "datetime":
        return np.asarray(values, np.float64), said
    micro = values.astype("datetime64[us]").view(np.int64)
    whole, rest = np.divmod(micro, 10**6)
    return np.where(np.isnat(values), np.nan, whole + rest / 1e6), said


def _cells(
    events: Events, found: Index, at: Index, n: int, column: Column
) -> tuple[NDArray[Any], NDArray[np.int8]]:
    """Return a column's values and states from its events and the rows that they are in."""
    state = np.ones(n, np.int8)
    tokens = {token: k for k, token in enumerate(column.tokens, start=1) if k > 1}
    place = {level: i for i, level in enumerate(column.categories)}
    marks = np.array([tokens.get(t, 0) for t in events.texts] + [0], np.int8)
    mark = marks[events.text[found]]
    if column.is_coded:
        codes = np.array([place.get(t, -1) for t in events.texts] + [-1], np.int32)
        levels = codes[events.text[found]]
        values: NDArray[Any] = np.full(n, -1, np.int32)
        values[at] = levels
        state[at] = np.where(levels >= 0, 0, np.maximum(mark, 1))
        return values, state
    numbers = events.value[found]
    state[at] = np.where(mark > 0, mark, np.where(np.isnan(numbers), 1, 0))
    if column.kind != "datetime":
        values = np.full(n, np.nan)
        values[at] = numbers
        return values, state
    whole = np.floor(numbers)
    told = np.abs(np.nan_to_num(whole, nan=np.inf)) < _LONGEST / 1e6
    seconds = np.where(told, whole, 0).astype(np.int64)
    rest = np.round(np.where(told, numbers - whole, 0) * 1e6).astype(np.int64)
    micro = (seconds * 10**6 + rest).astype("datetime64[us]")
    values = np.full(n, "NaT", "datetime64[us]")
    values[at] = np.where(told, micro, np.datetime64("NaT", "us"))
    return values, state


def _rows(events: Events) -> tuple[Index, Index, NDArray[np.datetime64]]:
    """Return the row of each event (-1: none), and whose and when each row is."""
    if not (events.visit >= 0).all():
        visits = visits_of(events)
        return visits.of, visits.whose, visits.start
    order = np.lexsort((events.visit, events.whose))  # stable: the first event of a row leads
    whose, visit = events.whose[order], events.visit[order]
    fresh = np.ones(order.size, bool)
    fresh[1:] = (whose[1:] != whose[:-1]) | (visit[1:] != visit[:-1])
    row_of = np.empty(order.size, np.int64)
    row_of[order] = np.cumsum(fresh) - 1
    return row_of, whose[fresh], events.time[order][fresh]


def _unfit(given: str, allowed: str) -> SchemaError:
    return SchemaError(f"a table as histories: {given}", allowed, "see docs/events.md")
