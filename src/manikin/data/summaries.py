"""One row a subject: what a history comes to in a few dozen numbers.

The summaries by which whole patients are told apart: static facts; how many visits and events, how
long the record is, the gaps between visits; whether each common code is ever there; of each number
its mean, standard deviation, mean absolute step and last minus first; shares of levels. What judges
and audits of one table can be asked of histories is asked of this.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema, columns_of
from manikin.data.table import Table
from manikin.data.visits import Visits, visits_of
from manikin.errors import SchemaError

__all__ = ["Plan", "plan", "same_codes", "summaries"]

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

MOST_CODES = 40  # codes of which it is said whether a subject has them
MOST_NUMBERS = 20  # codes whose values are summed up, four columns each
MOST_LEVELS = 20  # shares of levels
FEWEST = 11  # subjects that have a code or a level, and that lack it, for it to have a column
YEAR_DAYS = 365.25
OF_A_NUMBER = ("mean", "sd", "step", "change")


@dataclass(frozen=True, eq=False)
class Plan:
    """Which summaries there are: chosen on some histories, and the same for all others."""

    schema: EventSchema  # of the histories that it was chosen on
    has: tuple[int, ...]  # places of codes
    numbers: tuple[int, ...]
    decimals: tuple[int, ...]  # that the summaries of each number are written with
    levels: tuple[tuple[int, str], ...]  # place of a code, and one of its levels
    table: TableSchema = field(init=False)
    names: tuple[str, ...] = field(init=False)  # of the columns beside the static ones

    def __post_init__(self) -> None:
        static = self.schema.static
        columns = list(static.learned)
        taken = {column.name for column in columns}
        names = []
        for column in self._columns():
            free = column.name
            while free in taken:
                free = f"{free}'"
            taken.add(free)
            names.append(free)
            columns.append(dataclasses.replace(column, name=free))
        held = {column.name for column in static.learned}
        rules = tuple(rule for rule in static.rules if set(columns_of(rule)) <= held)
        object.__setattr__(self, "table", TableSchema(tuple(columns), rules, static.declared))
        object.__setattr__(self, "names", tuple(names))

    def _columns(self) -> list[Column]:
        """Return the columns beside the static ones, in the order in which they are computed."""
        found = [Column("visits", "integer", minimum=0), Column("events", "integer", minimum=0)]
        found += [
            Column(name, "continuous", decimals=2, unit="d", minimum=0)
            for name in ("record length", "gap mean", "gap sd", "gap max")
        ]
        if self.schema.birth:
            found.append(Column("age at start", "continuous", decimals=2, unit="a"))
        found += [
            Column(f"has {called(self.schema, place)}", "boolean", categories=("no", "yes"))
            for place in self.has
        ]
        for place, decimals in zip(self.numbers, self.decimals, strict=True):
            name = called(self.schema, place)
            unit = self.schema.codes[place].unit or None
            found += [
                Column(f"{name} {what}", "continuous", decimals=decimals, unit=unit)
                for what in OF_A_NUMBER
            ]
        found += [
            Column(f"{called(self.schema, place)} share {level}", "continuous", decimals=4)
            for place, level in self.levels
        ]
        return found

    def of(self, events: Events) -> Table:
        """Return the summaries of histories, one row a subject in their order.

        Raises SchemaError when their static facts are not those of the plan.
        """
        if events.static.schema.learned != self.schema.static.learned:
            raise SchemaError(
                "histories with other static facts than those compared with",
                "static columns of the same names, kinds and categories",
                "read both with one schema",
            )
        place = same_codes(events.schema, self.schema)[events.code]
        parts: list[NDArray[Any]] = [
            *_of_time(events, visits_of(events)),
            *self._of_birth(events),
            *_has(events, place, self.has),
            *_of_numbers(events, place, self.numbers, self.decimals),
            *_shares(events, place, self.levels),
        ]
        values: dict[str, NDArray[Any]] = dict(events.static.columns)
        values.update(zip(self.names, parts, strict=True))
        return Table(self.table, events.subjects, values, events.static.states)

    def _of_birth(self, events: Events) -> list[Floats]:
        if not self.schema.birth:
            return []
        return [np.round(_days(_ends(events)[0] - events.births()) / YEAR_DAYS, 2)]


def summaries(events: Events, like: Events) -> Table:
    """Return one row a subject; which columns there are is seen from `like` alone.

    Give the training histories as `like`, so that held-out and synthetic ones are summed up in the
    same way. Raises SchemaError when static facts differ.
    """
    return plan(like).of(events)


def plan(like: Events) -> Plan:
    """Choose the summaries: the codes, numbers and levels that most subjects have."""
    schema, n = like.schema, like.n_subjects
    holders = _holders(like.code, like.whose, len(schema))
    varies = np.where(holders <= n - FEWEST, holders, 0)
    has = _most(varies, FEWEST, MOST_CODES)
    known = np.isfinite(like.value)
    numbers = _most(_holders(like.code[known], like.whose[known], len(schema)), 1, MOST_NUMBERS)
    decimals = tuple(_decimals(like.value[known & (like.code == p)], schema, p) for p in numbers)
    named = [(place, level) for place, code in enumerate(schema.codes) for level in code.levels]
    level, events = _level_of(like, like.code.astype(np.int64), named)
    with_level = _holders(level, like.whose[events], len(named))
    chosen = _most(with_level, FEWEST, MOST_LEVELS)
    return Plan(schema, has, numbers, decimals, tuple(named[i] for i in chosen))


def called(schema: EventSchema, place: int) -> str:
    """Return the name of a code, with its unit or domain where another code has the same name."""
    code = schema.codes[place]
    same = schema.named[code.name]
    if len(same) == 1:
        return code.name
    units = {schema.codes[other].unit for other in same}
    return f"{code.name} [{code.unit}]" if len(units) == len(same) else f"{code.name} #{place}"


def same_codes(schema: EventSchema, other: EventSchema) -> Places:
    """Return the place in `other` of each code of `schema`, -1 for none, (codes,)."""
    if schema is other or schema.codes == other.codes:
        return np.arange(len(schema))
    return np.array([other.place.get(code.key, -1) for code in schema.codes], np.int64)


def _holders(code: NDArray[Any], whose: Places, n: int) -> Places:
    """Return how many subjects have each code, (codes,)."""
    if not code.size:
        return np.zeros(n, np.int64)
    pairs = np.unique(whose * n + code)
    return np.bincount(pairs % n, minlength=n)


def _most(sizes: Places, fewest: int, most: int) -> tuple[int, ...]:
    """Return the places of the largest sizes, the largest first, in order of place among equals."""
    order = np.argsort(-sizes, kind="stable")[:most]
    return tuple(int(i) for i in order if sizes[i] >= fewest)


def _decimals(values: Floats, schema: EventSchema, place: int) -> int:
    """Return two decimals more than the values have, and never so few that they become one."""
    spread = float(np.std(values)) if values.size else 0.0
    needed = 3 - math.floor(math.log10(spread)) if spread > 0 and math.isfinite(spread) else 0
    return min(max(schema.codes[place].decimals + 2, needed), 12)


def _ends(events: Events) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    """Return the first and last known time of each subject, NaT for none, (subjects,)."""
    time = np.append(events.time.astype("datetime64[us]"), np.datetime64("NaT", "us"))
    last = np.where(events.counts > 0, events.starts[1:] - 1, events.n_events)
    # events without a time come first within their subject
    unknown = np.bincount(events.whose[np.isnat(events.time)], minlength=events.n_subjects)
    first = np.where(events.counts > unknown, events.starts[:-1] + unknown, events.n_events)
    return time[first], time[last]


def _days(spans: NDArray[Any]) -> Floats:
    """Return spans of time in days, NaN for none."""
    return np.asarray(spans / np.timedelta64(1, "D"), np.float64)


def _of_time(events: Events, visits: Visits) -> list[Floats]:
    """Return the number of visits and events, the record's length, and gaps in days."""
    first, last = _ends(events)
    gaps = visits.gaps_days()
    later = np.flatnonzero(~np.isnan(gaps))
    mean, sd = _moments(gaps[later], visits.whose[later], events.n_subjects)
    longest = np.full(events.n_subjects, -np.inf)
    np.maximum.at(longest, visits.whose[later], gaps[later])
    days = [_days(last - first), mean, sd, np.where(np.isfinite(longest), longest, np.nan)]
    counted = [visits.counts.astype(np.float64), events.counts.astype(np.float64)]
    return [*counted, *(np.round(part, 2) for part in days)]


def _moments(values: Floats, group: Places, n: int) -> tuple[Floats, Floats]:
    """Return the mean of each group and its standard deviation (n - 1), NaN where there is none."""
    size = np.bincount(group, minlength=n)
    mean = np.full(n, np.nan)
    np.divide(np.bincount(group, values, n), size, out=mean, where=size > 0)
    squares = np.bincount(group, (values - mean[group]) ** 2, n)
    variance = np.full(n, np.nan)
    np.divide(squares, size - 1, out=variance, where=size > 1)
    return mean, np.sqrt(variance)


def _slots(place: Places, chosen: Sequence[int], n: int) -> tuple[Places, Places]:
    """Return which of the chosen codes each event is, and the events that are one of them."""
    slot = np.full(n + 1, -1, np.int64)  # the last for codes that are not there
    slot[list(chosen)] = np.arange(len(chosen))
    of = slot[place]
    kept = np.flatnonzero(of >= 0)
    return of[kept], kept


def _has(events: Events, place: Places, chosen: Sequence[int]) -> list[NDArray[np.int32]]:
    """Return whether each subject has each code."""
    slot, kept = _slots(place, chosen, _size(place, chosen))
    found = np.zeros((len(chosen), events.n_subjects), np.int32)
    found[slot, events.whose[kept]] = 1
    return list(found)


def _size(place: Places, chosen: Sequence[int]) -> int:
    return int(max(place.max(initial=-1), max(chosen, default=-1))) + 1


def _of_numbers(
    events: Events, place: Places, chosen: Sequence[int], decimals: Sequence[int]
) -> list[Floats]:
    """Return mean, sd, mean absolute step and last minus first of each number."""
    n, known = events.n_subjects, np.flatnonzero(np.isfinite(events.value))
    slot, kept = _slots(place[known], chosen, _size(place, chosen))
    rows = known[kept]
    group = slot * n + events.whose[rows]
    order = np.argsort(group, kind="stable")
    group, values = group[order], events.value[rows][order]
    size = len(chosen) * n
    mean, sd = _moments(values, group, size)
    within = np.flatnonzero(np.diff(group) == 0)
    steps = np.diff(values)[within]
    of_step = group[:-1][within]
    step, _ = _moments(np.abs(steps), of_step, size)
    change = np.where(np.isnan(step), np.nan, np.bincount(of_step, steps, size))
    parts = [part.reshape(len(chosen), n) for part in (mean, sd, step, change)]
    return [np.round(part[i], decimals[i]) for i in range(len(chosen)) for part in parts]


def _level_of(
    events: Events, place: Places, named: Sequence[tuple[int, str]]
) -> tuple[Places, Places]:
    """Return which of the named levels an event bears, and the events that bear one."""
    if not named or not events.texts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    number = {text: i for i, text in enumerate(events.texts)}
    n = len(events.texts)
    wanted = np.array([p * n + number[t] if t in number else -1 for p, t in named], np.int64)
    order = np.argsort(wanted, kind="stable")
    rows = np.flatnonzero((events.text >= 0) & (place >= 0))
    key = place[rows] * n + events.text[rows]
    at = np.minimum(np.searchsorted(wanted[order], key), len(named) - 1)
    there = wanted[order][at] == key
    return order[at[there]], rows[there]


def _shares(events: Events, place: Places, chosen: Sequence[tuple[int, str]]) -> list[Floats]:
    """Return which share of a subject's events of a code bear a level, NaN without any."""
    n = events.n_subjects
    level, rows = _level_of(events, place, chosen)
    hits = np.bincount(level * n + events.whose[rows], minlength=len(chosen) * n)
    hits = hits.reshape(len(chosen), n)
    written = np.flatnonzero(events.text >= 0)
    found = []
    for i, (code, _) in enumerate(chosen):
        of_code = written[place[written] == code]
        size = np.bincount(events.whose[of_code], minlength=n)
        share = np.full(n, np.nan)
        np.divide(hits[i], size, out=share, where=size > 0)
        found.append(np.round(share, 4))
    return found
