"""Where histories break hard rules, and how they are made to obey them.

`broken` counts for the judge; `repaired` is called by generators after drawing. Gentle ways come
first: a life that began too late is moved as a whole, an onset to the first of its treatment, a
number is drawn anew from those of the same code that obey, so that nothing piles up on a bound.
What no gentle way mends is left out. Events without a time break no rule of time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.knowledge.history_rules import (
    Aged,
    Alternating,
    Apart,
    Before,
    Bounds,
    Ends,
    HistoryRule,
    Lifetime,
    Once,
    Only,
    Rules,
    Selection,
    Units,
    standard,
)

__all__ = ["Breaches", "broken", "repaired"]

_GENTLE = 3  # rounds of mending before what is still broken is left out
_YEAR_DAYS = 365.2425
_DAY = np.timedelta64(86_400_000_000, "us")
_NOBODY = np.datetime64("NaT", "us")

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Breaches:
    """Which events break which rules; an event may break several."""

    rules: tuple[HistoryRule, ...]
    event: Index  # (breaches,) place of the event
    rule: NDArray[np.int32]  # (breaches,) place of the rule
    n_events: int

    @property
    def counts(self) -> Index:
        """Number of events that break each rule, (rules,)."""
        return np.bincount(self.rule, minlength=len(self.rules)).astype(np.int64)

    @property
    def where(self) -> NDArray[np.bool_]:
        """Whether an event breaks any rule, (events,)."""
        found = np.zeros(self.n_events, bool)
        found[self.event] = True
        return found

    @property
    def per_thousand(self) -> float:
        """Breaches per 1,000 events, 0 where there is no event."""
        return 1000.0 * self.event.size / self.n_events if self.n_events else 0.0


def broken(events: Events, rules: Rules | None = None) -> Breaches:
    """Return which events break which rules; None stands for those of `standard`."""
    asked = standard(events.schema) if rules is None else rules
    sight = _Sight(events, Selection(events.schema, asked.tree))
    found = [_find(rule, sight) for rule in asked.rules]
    return Breaches(
        asked.rules,
        np.concatenate([np.zeros(0, np.int64), *found]),
        np.repeat(np.arange(len(found)), [f.size for f in found]).astype(np.int32),
        events.n_events,
    )


def repaired(events: Events, rules: Rules | None = None, *, seed: int = 0) -> Events:
    """Return the histories with every rule obeyed; what breaks none is as it was.

    Subjects and static facts stay. Columns that a rule names and the schema lacks raise
    SchemaError.
    """
    asked = standard(events.schema) if rules is None else rules
    sight = _Sight(events, Selection(events.schema, asked.tree))
    for turn in range(_GENTLE):
        changed = False
        for k, rule in enumerate(asked.rules):
            found = _find(rule, sight)
            if found.size:
                rng = generator(seed, f"mend histories {turn}", k)
                sight = _Sight(_mend(rule, sight, found, rng), sight.selection)
                changed = True
        if not changed:
            return sight.events
    while True:
        kept = np.ones(sight.events.n_events, bool)
        for rule in asked.rules:
            kept[_find(rule, sight)] = False
        if kept.all():
            return sight.events
        sight = _Sight(sight.events.rows(kept), sight.selection)


class _Sight:
    """Histories as rules look at them: events by code, lives, and what patterns reach."""

    def __init__(self, events: Events, selection: Selection) -> None:
        self.events = events
        self.selection = selection

    @cached_property
    def _by_code(self) -> tuple[Index, Index]:
        """Events in the order of their codes, and where each code's begin: (codes + 1,)."""
        order = np.argsort(self.events.code, kind="stable")
        ends = np.cumsum(np.bincount(self.events.code, minlength=len(self.events.schema)))
        return order.astype(np.int64), np.concatenate([[0], ends]).astype(np.int64)

    def of(self, places: Index) -> Index:
        """Return the events of these codes, ascending."""
        order, starts = self._by_code
        parts = [order[starts[p] : starts[p + 1]] for p in places]
        return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)

    def timed(self, pattern: str) -> Index:
        """Return the events with a time that a pattern reaches, ascending."""
        found = self.of(self.selection.places(pattern))
        return found[~np.isnat(self.events.time[found])]

    @cached_property
    def births(self) -> NDArray[np.datetime64]:
        """Moment of birth, NaT where it is not known, (subjects,)."""
        return self.events.births()

    @cached_property
    def deaths(self) -> NDArray[np.datetime64]:
        """Moment of the first death, NaT for none, (subjects,)."""
        return self.firsts(self.timed("domain:death"))

    def firsts(self, index: Index) -> NDArray[np.datetime64]:
        """Return the time of each subject's first of these timed events, NaT for none."""
        found = np.full(self.events.n_subjects, _NOBODY)
        # written from the last to the first, so that the first stays
        found[self.events.whose[index][::-1]] = self.events.time[index][::-1]
        return found


def _find(rule: HistoryRule, sight: _Sight) -> Index:
    """Return the events that break a rule, ascending."""
    match rule:
        case Lifetime(days):
            early, late = _outside_life(sight, days)
            return np.flatnonzero(early | late)
        case Ends():
            return np.flatnonzero(sight.events.end < sight.events.time)
        case Once(code):
            found = sight.of(sight.selection.places(code))
            return found[_again(sight.events.whose[found])]
        case Only():
            return _of_others(rule, sight)
        case Aged():
            return _out_of_age(rule, sight)
        case Before():
            return _too_early(rule, sight)
        case Bounds():
            found = sight.of(_in_unit(rule, sight))
            values = sight.events.value[found]
            low = -np.inf if rule.minimum is None else rule.minimum
            high = np.inf if rule.maximum is None else rule.maximum
            return found[(values < low) | (values > high)]
        case Units(code, units):
            codes = sight.events.schema.codes
            wrong = [p for p in sight.selection.places(code) if codes[p].unit not in units]
            found = sight.of(np.array(wrong, np.int64))
            return found[~np.isnan(sight.events.value[found])]
        case Alternating():
            return _out_of_turn(rule, sight)
        case Apart(code):
            return _overlapping(sight, sight.timed(code))[0]


def _again(whose: Index) -> NDArray[np.bool_]:
    return np.concatenate([[False], whose[1:] == whose[:-1]])[: whose.size]


def _days(moments: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    return moments.astype("datetime64[D]")


def _outside_life(sight: _Sight, days: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which events are before the day of birth, and which too long after that of death."""
    events = sight.events
    day = _days(events.time)
    early = day < _days(sight.births)[events.whose]  # NaT is before nothing
    last = _days(sight.deaths) + np.timedelta64(int(days), "D")
    return early, day > last[events.whose]


def _of_others(rule: Only, sight: _Sight) -> Index:
    column = sight.events.schema.static[rule.column]
    held = sight.events.static.columns[rule.column]
    allowed = np.array([level in rule.levels for level in column.categories] or [True])
    wrong = (held >= 0) & ~allowed[held]
    found = sight.of(sight.selection.places(rule.code))
    return np.asarray(found[wrong[sight.events.whose[found]]])


def _out_of_age(rule: Aged, sight: _Sight) -> Index:
    found = sight.timed(rule.code)
    events = sight.events
    lived = events.time[found] - sight.births[events.whose[found]]
    years = np.floor(lived / np.timedelta64(1, "D") / _YEAR_DAYS + 1e-9)
    low = -np.inf if rule.minimum_years is None else rule.minimum_years
    high = np.inf if rule.maximum_years is None else rule.maximum_years
    return np.asarray(found[(years < low) | (years > high)])


def _too_early(rule: Before, sight: _Sight) -> Index:
    events = sight.events
    onset, later = sight.of(sight.selection.places(rule.first)), sight.timed(rule.then)
    # an onset at no known time may have been before everything
    unknown = np.zeros(events.n_subjects, bool)
    unknown[events.whose[onset[np.isnat(events.time[onset])]]] = True
    first = sight.firsts(onset[~np.isnat(events.time[onset])])
    owner = events.whose[later]
    wrong = (events.time[later] < first[owner]) | (np.isnat(first[owner]) & rule.needed)
    return later[wrong & ~unknown[owner]]


def _in_unit(rule: Bounds, sight: _Sight) -> Index:
    codes, places = sight.events.schema.codes, sight.selection.places(rule.code)
    own = [p for p in places if rule.unit in (None, codes[p].unit)]
    return np.array(own, np.int64)


def _out_of_turn(rule: Alternating, sight: _Sight) -> Index:
    first, then = sight.timed(rule.first), sight.timed(rule.then)
    index = np.concatenate([first, then])
    kind = np.repeat([True, False], [first.size, then.size])
    order = np.argsort(index, kind="stable")
    index, kind = index[order], kind[order]
    again = _again(sight.events.whose[index])
    before = np.concatenate([[False], kind[:-1]])[: kind.size]
    before[~again] = False  # nothing has begun
    return np.asarray(index[kind == before])


def _overlapping(sight: _Sight, index: Index) -> tuple[Index, Index, NDArray[np.datetime64]]:
    """Return stays that begin during an earlier one, all that last, and the start after each."""
    events = sight.events
    index = index[~np.isnat(events.end[index])]
    whose, start, end = events.whose[index], events.time[index], events.end[index]
    # ranks of ends grow with the subject, so that a running maximum never crosses subjects
    order = np.lexsort((end.view(np.int64), whose))
    rank = np.empty(index.size, np.int64)
    rank[order] = np.arange(index.size)
    latest = end[order][np.maximum.accumulate(rank)] if index.size else end
    again = _again(whose)
    previous = np.concatenate([latest[:1], latest[:-1]])
    following = np.concatenate([start[1:], start[-1:]])
    following[~np.concatenate([again[1:], [False]])[: index.size]] = _NOBODY
    return index[again & (start < previous)], index, following


# ------------------------------------------------------------------ mending


def _mend(rule: HistoryRule, sight: _Sight, found: Index, rng: np.random.Generator) -> Events:
    """Mend the events that break a rule in its gentlest way."""
    match rule:
        case Lifetime(days):
            return _within_life(sight, days)
        case Ends():
            end = sight.events.end.copy()
            end[found] = sight.events.time[found]
            return replace(sight.events, end=end)
        case Before():
            return _onset_first(rule, sight, found)
        case Bounds():
            return _numbers_anew(rule, sight, found, rng)
        case Units():
            return _units_anew(rule, sight, found, rng)
        case Apart(code):
            _, stays, following = _overlapping(sight, sight.timed(code))
            end = sight.events.end.copy()
            end[stays] = np.where(end[stays] > following, following, end[stays])
            return replace(sight.events, end=end)
        case _:
            return _without(sight.events, found)


def _without(events: Events, found: Index) -> Events:
    kept = np.ones(events.n_events, bool)
    kept[found] = False
    return events.rows(kept)


def _within_life(sight: _Sight, days: float) -> Events:
    """Move histories that begin before birth to it as a whole; leave out what is after death."""
    events = sight.events
    early, _ = _outside_life(sight, days)
    # all of a subject's events move by the days that its earliest lacks
    index = np.flatnonzero(~np.isnat(events.time))
    first = sight.firsts(index)
    late = (_days(sight.births) - _days(first)).astype("timedelta64[D]")
    moved = np.zeros(events.n_subjects, bool)
    moved[events.whose[early]] = True
    shift = np.where(moved, late, np.timedelta64(0, "D")).astype("timedelta64[us]")[events.whose]
    events = replace(events, time=events.time + shift, end=events.end + shift)
    after = _outside_life(_Sight(events, sight.selection), days)[1]
    return events.rows(~after)


def _onset_first(rule: Before, sight: _Sight, found: Index) -> Events:
    """Move a subject's first onset to the first treatment; treatments of no onset are left out."""
    events = sight.events
    onset = sight.timed(rule.first)
    onset = onset[~_again(events.whose[onset])]  # first of each subject
    has = np.full(events.n_subjects, -1, np.int64)
    has[events.whose[onset]] = onset
    earliest = found[~_again(events.whose[found])]
    source = has[events.whose[earliest]]
    moved, target = source[source >= 0], earliest[source >= 0]
    time, end, visit = events.time.copy(), events.end.copy(), events.visit.copy()
    end[moved] += time[target] - time[moved]
    time[moved], visit[moved] = time[target], visit[target]
    kept = np.ones(events.n_events, bool)
    kept[found[has[events.whose[found]] < 0]] = False
    return Events.of(
        events.schema, events.static, events.whose[kept], time[kept], events.code[kept],
        events.value[kept], events.text[kept], end[kept], visit[kept], events.texts,
    )  # fmt: skip


def _numbers_anew(rule: Bounds, sight: _Sight, found: Index, rng: np.random.Generator) -> Events:
    """Give numbers out of bounds those of other events of the same code that obey."""
    events = sight.events
    value = events.value.copy()
    bad = np.zeros(events.n_events, bool)
    bad[found] = True
    for place in np.unique(events.code[found]):
        own = sight.of(np.array([place]))
        wrong = own[bad[own]]
        donors = own[~bad[own] & ~np.isnan(value[own])]
        if donors.size:
            value[wrong] = value[rng.choice(donors, wrong.size)]
        else:
            value[wrong] = np.clip(value[wrong], rule.minimum, rule.maximum)
    return replace(events, value=value)


def _units_anew(rule: Units, sight: _Sight, found: Index, rng: np.random.Generator) -> Events:
    """Measure in an allowed unit: code and number of an event of the same name that has one."""
    events = sight.events
    code, value = events.code.copy(), events.value.copy()
    kept = np.ones(events.n_events, bool)
    codes, named = events.schema.codes, events.schema.named
    for place in np.unique(events.code[found]):
        allowed = [p for p in named[codes[place].name] if codes[p].unit in rule.units]
        wrong = found[events.code[found] == place]
        donors = sight.of(np.array(allowed, np.int64))
        donors = donors[~np.isnan(events.value[donors])]
        if donors.size:
            chosen = rng.choice(donors, wrong.size)
            code[wrong], value[wrong] = events.code[chosen], events.value[chosen]
        else:
            kept[wrong] = False
    return replace(events, code=code, value=value).rows(kept)
