"""The shared encoder of histories: visits with what was at them as flat arrays, and back.

`EventEncoding.fit` settles which codes and texts may be told: those that k subjects share; a rarer
code goes to its parent in the ontology, or is left out. `encode` gives `Histories`: visits with
their start, kind and length, the events of each with the days since it began, the death of each
subject by itself. `decode` gives `Events` on the clock of the schema. A method adds what it draws
once a subject to the static table by `widened` and takes it out again by `narrowed`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import InputError
from manikin.synthesizers.events._codes import HIGHEST, above_of, parents_of, shared_codes

__all__ = [
    "EventEncoding",
    "Histories",
    "ages_years",
    "distinct",
    "narrowed",
    "shared_levels",
    "widened",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Times: TypeAlias = NDArray[np.datetime64]

DAY_US = 86_400_000_000.0
CLOCKS_US = {"us": 1, "second": 10**6, "minute": 6 * 10**7, "hour": 36 * 10**8,
             "day": 864 * 10**8}  # fmt: skip
YEAR = 365.2425
EARLIEST, LATEST = -62_135_596_800_000_000, 253_402_300_799_000_000  # the years 1 to 9999, in us


def distinct(keys: Ints) -> Ints:
    """Return different keys, ascending: by sorting, many times faster than by hashing."""
    found = np.sort(keys)
    new = np.ones(found.size, bool)
    new[1:] = found[1:] != found[:-1]
    return found[new]


@dataclass(frozen=True, eq=False)
class Histories:
    """Visits of subjects, sorted by subject and start, and events, sorted by visit and offset.

    Events without a time are at a visit without a start, the first of their subject. The event
    that says which kind of stay a visit was, and the subject's death, are not among the events.
    """

    n_subjects: int
    n_codes: int
    whose: Ints  # (visits,) row of the subject
    start: Times  # (visits,) datetime64[us], NaT for what has no time
    length: Floats  # (visits,) days from the start to the end of the stay, or to the last event
    kind: Ints  # (visits,) code of the domain "visit", -1 for none
    ended: NDArray[np.bool_]  # (visits,) whether the event of the stay bears an end
    numbered: NDArray[np.bool_]  # (visits,) whether its events bear its number
    of: Ints  # (events,) visit of the event
    code: Ints  # (events,) place in the codes of the encoding
    offset: Floats  # (events,) days since the visit began
    value: Floats  # (events,) NaN for none
    text: Ints  # (events,) place in the texts of the encoding, -1 for none
    duration: Floats  # (events,) days from its time to its end, NaN for none
    death: Ints  # (subjects,) code of the death, -1 for none
    death_delay: Floats  # (subjects,) days from the last event to death, NaN for none

    @property
    def n(self) -> int:
        """Number of visits."""
        return int(self.whose.size)

    @cached_property
    def starts(self) -> Ints:
        """Where each subject's visits begin, and the number of all: (subjects + 1,)."""
        return np.searchsorted(self.whose, np.arange(self.n_subjects + 1)).astype(np.int64)

    @property
    def dated(self) -> NDArray[np.bool_]:
        """Whether a visit has a start, (visits,)."""
        return np.asarray(~np.isnat(self.start))

    @property
    def place(self) -> Ints:
        """How many dated visits of the same subject came before, -1 for the undated, (visits,)."""
        dated = np.concatenate([[0], np.cumsum(self.dated)])
        within = dated[:-1] - dated[self.starts[self.whose]]
        return np.where(self.dated, within, -1)

    @property
    def gaps(self) -> Floats:
        """Days since the start of the dated visit before, NaN at the first, (visits,)."""
        found = np.full(self.n, np.nan)
        if self.n > 1:
            step = (self.start[1:] - self.start[:-1]).astype(np.float64) / DAY_US
            unknown = np.isnat(self.start[1:]) | np.isnat(self.start[:-1])
            found[1:] = np.where((np.diff(self.whose) == 0) & ~unknown, step, np.nan)
        return found

    @cached_property
    def multi_hot(self) -> tuple[Ints, Ints]:
        """Different codes of each visit as CSR: where they begin (visits + 1,), and the codes."""
        found = distinct(self.of * max(self.n_codes, 1) + self.code)
        visit, code = np.divmod(found, max(self.n_codes, 1))
        return np.searchsorted(visit, np.arange(self.n + 1)).astype(np.int64), code


@dataclass(frozen=True)
class EventEncoding:
    """A fitted encoder: the codes and texts that may be told, and the schema of what comes back."""

    schema: EventSchema  # with the codes that may be told, and the static table as it was
    texts: tuple[str, ...]
    notes: tuple[str, ...]

    @staticmethod
    def fit(events: Events, *, k: int = 5) -> EventEncoding:
        """Settle what may be told: what `k` subjects share, or a declared schema names."""
        if events.n_subjects == 0:
            raise InputError("histories of nobody", "at least one subject", "check the source")
        found = shared_codes(events, k)
        texts, levels, hidden = _shared_texts(events, found.place, found.codes, k)
        codes = tuple(
            dataclasses.replace(code, levels=own)
            for code, own in zip(found.codes, levels, strict=True)
        )
        notes = []
        if found.rolled:
            notes.append(f"{found.rolled:,} codes of fewer than {k} subjects stand as their parent")
        if found.dropped:
            notes.append(
                f"{found.dropped:,} codes of fewer than {k} subjects and without a parent are left"
                f" out, and {found.lost:,} events with them"
            )
        if hidden:
            notes.append(f"{hidden:,} texts of fewer than {k} subjects are left out")
        schema = dataclasses.replace(events.schema, codes=codes)
        return EventEncoding(schema, texts, tuple(notes))

    def encode(self, events: Events) -> Histories:
        """Return histories as visits, of data of the source's schema or of any with these codes."""
        place = self.places(events.schema)
        at = place[events.code] if events.n_events else np.zeros(0, np.int64)
        return _histories(events.rows(at >= 0), at[at >= 0], self)

    def decode(self, histories: Histories, static: Table) -> Events:
        """Return events, on the clock of the schema; `static` is under its own table's schema."""
        return _events(histories, static, dataclasses.replace(self.schema, static=static.schema),
                       self.texts)  # fmt: skip

    def places(self, schema: EventSchema) -> Ints:
        """Return the place of each code of a source's schema among those that may be told.

        A code that is none of them has the place of the nearest above it that is; -1: none.
        """
        own = {code.key: i for i, code in enumerate(self.schema.codes)}
        found = np.full(len(schema), -1, np.int64)
        for i, code in enumerate(schema.codes):
            key, parents = code.key, parents_of(code)
            for _ in range(HIGHEST):
                if key in own or not parents:
                    break
                above = above_of(code, parents[0], schema)
                key, parents = above.key, parents_of(above)
            found[i] = own.get(key, -1)
        return found

    def place_of_text(self, texts: Sequence[str]) -> Ints:
        """Return the place of each text among those that may be told, then -1, (texts + 1,)."""
        own = {text: i for i, text in enumerate(self.texts)}
        return np.array([*(own.get(text, -1) for text in texts), -1], np.int64)


def _shared_texts(
    events: Events, place: Ints, codes: tuple[Code, ...], k: int
) -> tuple[tuple[str, ...], list[tuple[str, ...]], int]:
    """Return the texts that may be told, the levels of each code, and how many are hidden."""
    declared = events.schema.declared
    kept = (events.text >= 0) & (place[events.code] >= 0)
    whose, text = events.whose[kept], events.text[kept].astype(np.int64)
    at = place[events.code[kept]]
    size = len(events.texts) + 1
    pair, pair_of = np.unique(at * size + text, return_inverse=True)
    once = np.unique(pair_of.astype(np.int64) * (events.n_subjects + 1) + whose)
    shared = np.bincount(once // (events.n_subjects + 1), minlength=pair.size)
    levels: list[tuple[str, ...]] = [code.levels if declared else () for code in codes]
    hidden = 0
    for key, subjects in zip(pair, shared, strict=True):
        code, written = int(key // size), events.texts[int(key % size)]
        if declared and written in levels[code]:
            continue
        if subjects < k:
            hidden += 1
        else:
            levels[code] = (*levels[code], written)
    found = dict.fromkeys(text for own in levels for text in own)
    return tuple(found), levels, hidden


# ------------------------------------------------------------------ there


def _histories(events: Events, at: Ints, encoding: EventEncoding) -> Histories:
    """Return the arrays of events whose codes stand at these places."""
    codes = encoding.schema.codes
    domain = np.array([code.domain for code in codes], object)
    dying = np.flatnonzero(np.isin(at, np.flatnonzero(domain == "death")))
    first = dying[np.unique(events.whose[dying], return_index=True)[1]]
    death = np.full(events.n_subjects, -1, np.int64)
    death[events.whose[first]] = at[first]
    alive = np.ones(events.n_events, bool)
    alive[dying] = False
    died = np.full(events.n_subjects, "NaT", "datetime64[us]")
    died[events.whose[first]] = events.time[first]
    events, at = events.rows(alive), at[alive]
    visits = visits_of(events)
    undated = np.isnat(events.time)
    lone = np.unique(events.whose[undated])
    # of whom nothing but a dated death is known, an empty visit tells when
    only = np.flatnonzero(~np.isnat(died) & (np.bincount(visits.whose, minlength=died.size) == 0))
    whose = np.concatenate([visits.whose, lone, only])
    nat = np.full(lone.size, "NaT", "datetime64[us]")
    start = np.concatenate([visits.start, nat, died[only]])
    order = np.lexsort((start.view(np.int64), whose))  # NaT is the least: the undated come first
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    of = np.where(undated, visits.n + np.searchsorted(lone, events.whose), visits.of)
    of = rank[of] if of.size else of
    whose, start = whose[order], start[order]
    numbered = np.zeros(order.size, bool)
    numbered[of[events.visit >= 0]] = True
    offset = np.nan_to_num(_days(events.time, start[of]), nan=0.0)
    kind, ended, length, stay = _stays(events, at, of, start, domain == "visit")
    np.maximum.at(length, of, offset)
    own_text = encoding.place_of_text(events.texts)[events.text]
    rest = np.ones(events.n_events, bool)
    rest[stay] = False
    row = np.flatnonzero(rest)[np.lexsort((offset[rest], of[rest]))]
    last = np.full(events.n_subjects, "NaT", "datetime64[us]")
    timed = np.flatnonzero(~undated)
    last[events.whose[timed]] = events.time[timed]  # ascending: the last one stays
    last[only] = died[only]
    return Histories(
        events.n_subjects, len(codes), whose, start, length, kind, ended, numbered, of[row],
        at[row], offset[row], events.value[row], own_text[row],
        _days(events.end, events.time)[row], death,
        np.where(death >= 0, np.maximum(_days(died, last), 0.0), np.nan),
    )  # fmt: skip


def _stays(
    events: Events, at: Ints, of: Ints, start: Times, is_visit: NDArray[np.bool_]
) -> tuple[Ints, NDArray[np.bool_], Floats, Ints]:
    """Return the kind of each visit, whether and when its stay ended, and the events of stays."""
    rows = np.flatnonzero(is_visit[at] & ~np.isnat(start[of])) if at.size else np.zeros(0, np.int64)
    rows = rows[np.unique(of[rows], return_index=True)[1]]  # the first stay of each visit
    kind = np.full(start.size, -1, np.int64)
    kind[of[rows]] = at[rows]
    length = np.zeros(start.size)
    days = _days(events.end[rows], start[of[rows]])
    length[of[rows]] = np.maximum(np.nan_to_num(days, nan=0.0), 0.0)
    ended = np.zeros(start.size, bool)
    ended[of[rows]] = ~np.isnan(days)
    return kind, ended, length, rows


def _days(later: Times, earlier: Times) -> Floats:
    """Return days between times, NaN where one is not known."""
    unknown = np.isnat(later) | np.isnat(earlier)
    step = later.astype("datetime64[us]").view(np.int64) - earlier.astype("datetime64[us]").view(
        np.int64
    )
    return np.where(unknown, np.nan, step / DAY_US)


# ------------------------------------------------------------------ and back


def _events(h: Histories, static: Table, schema: EventSchema, texts: tuple[str, ...]) -> Events:
    """Return the events of histories, with those of stays and deaths among them."""
    step = CLOCKS_US[schema.clock]
    start = _on_clock(h.start, np.zeros(h.n), step)
    time = _on_clock(h.start[h.of], h.offset, step)
    end = _on_clock(time, h.duration, step)
    number = np.where(h.numbered & h.dated, h.place, -1).astype(np.int32)
    stays = np.flatnonzero(h.kind >= 0)
    over = _on_clock(start[stays], np.where(h.ended, h.length, np.nan)[stays], step)
    # a day's clock may put the end of the last event after that of a stay that holds it
    last = np.full(h.n, EARLIEST)
    np.maximum.at(last, h.of, np.where(np.isnat(time), EARLIEST, time.view(np.int64)))
    final = np.where(np.isnat(start), EARLIEST, start.view(np.int64))
    final = np.maximum(final, last)
    over = np.where(np.isnat(over), over, np.maximum(over, final[stays].view("datetime64[us]")))
    subject_last = np.full(h.n_subjects, EARLIEST)
    np.maximum.at(subject_last, h.whose, final)
    dead = np.flatnonzero((h.death >= 0) & (subject_last > EARLIEST))
    died = _on_clock(subject_last[dead].view("datetime64[us]"), h.death_delay[dead], step)
    lone = np.flatnonzero((h.death >= 0) & (subject_last <= EARLIEST))  # a death and no time at all
    none = np.full(stays.size + dead.size + lone.size, np.nan)
    nat = np.full(dead.size + lone.size, "NaT", "datetime64[us]")
    return Events.of(
        schema,
        static,
        np.concatenate([h.whose[stays], h.whose[h.of], dead, lone]),
        np.concatenate([start[stays], time, died, nat[: lone.size]]),
        np.concatenate([h.kind[stays], h.code, h.death[dead], h.death[lone]]),
        np.concatenate([none[: stays.size], h.value, none[stays.size :]]),
        np.concatenate([np.full(stays.size, -1), h.text, np.full(nat.size, -1)]),
        np.concatenate([over, end, nat]),
        np.concatenate([number[stays], number[h.of], np.full(nat.size, -1)]),
        texts,
    )


def _on_clock(start: Times, days: Floats, step: int) -> Times:
    """Return the times so many days after others, on a clock of a step in microseconds."""
    unknown = np.isnat(start) | np.isnan(days)
    base = np.where(unknown, 0, start.astype("datetime64[us]").view(np.int64))
    raw = base + np.where(unknown, 0.0, days) * DAY_US
    whole = np.clip(raw, EARLIEST, LATEST).astype(np.int64)
    if step > 1:  # a tick is reached a little early, for what division has lost
        whole = (whole + min(step // 1000, 1000)) // step * step
    found = whole.view("datetime64[us]").copy()
    found[unknown] = np.datetime64("NaT")
    return found


# ------------------------------------------------------------------ subjects


def ages_years(histories: Histories, births: Times) -> Floats:
    """Return the age in years at the start of each visit, NaN where it is not known, (visits,)."""
    return _days(histories.start, births[histories.whose]) / YEAR


def shared_levels(table: Table, k: int, rng: np.random.Generator) -> Table:
    """Return the table with levels of fewer than `k` subjects replaced, unless declared.

    A rare level of a scale becomes the nearest shared one, one of a list another by its frequency.
    """
    if table.schema.declared:
        return table
    values = dict(table.columns)
    for column in table.schema.learned:
        if not column.is_coded:
            continue
        codes = values[column.name]
        counts = np.bincount(codes[codes >= 0], minlength=len(column.categories))
        shared = np.flatnonzero(counts >= k)
        rare = np.flatnonzero((codes >= 0) & (counts[codes] < k))
        if not rare.size:
            continue
        codes = codes.copy()
        if not shared.size:
            codes[rare] = -1
        elif column.kind == "ordinal":
            away = np.abs(codes[rare][:, None] - shared[None])
            codes[rare] = shared[np.argmin(away, axis=1)]
        else:
            weights = counts[shared] / counts[shared].sum()
            codes[rare] = rng.choice(shared, rare.size, p=weights)
        values[column.name] = codes
    states = {name: np.where(table.present(name), 0, np.maximum(found, 1)).astype(np.int8)
              for name, found in table.states.items()}  # fmt: skip
    return Table(table.schema, table.subjects, values, states)


def widened(table: Table, added: Mapping[str, tuple[Column, NDArray[Any]]]) -> Table:
    """Return the table with more columns, named so that none is there twice."""
    taken = {column.name for column in table.schema}
    columns, values = list(table.schema.columns), dict(table.columns)
    for key, (column, found) in added.items():
        name = free_name(key, taken)
        columns.append(dataclasses.replace(column, name=name))
        values[name] = found
    schema = TableSchema(tuple(columns), table.schema.rules, table.schema.declared)
    return Table(schema, table.subjects, values, table.states)


def narrowed(table: Table, schema: TableSchema) -> Table:
    """Return the columns of a table that a schema names, under its own spellings of them."""
    columns = tuple(
        table.schema[c.name] if c.name in table.schema and c.is_learned else c for c in schema
    )
    own = TableSchema(columns, schema.rules, schema.declared)
    names = [column.name for column in own.learned]
    states = {name: table.states[name] for name in names if name in table.states}
    return Table(own, table.subjects, {name: table.columns[name] for name in names}, states)


def free_name(name: str, taken: set[str]) -> str:
    """Return a name that none has, and take it."""
    while name in taken:
        name = f"{name}'"
    taken.add(name)
    return name
