"""Histories as places of a decoder: what each place shows, and what it is to foretell.

A subject with n events has n + 1 places: one at which nothing has been yet, then one after each
event. A place shows the event that was last and the situation (time since the first event, age,
hour, how long the stay still lasts, how many events remain); it foretells the next event, or the
end of the record. Events of one time stand in one order: by visit, kind and code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.synthesizers.events._trajectory_scales import Scales

__all__ = [
    "ATOMS", "CONTINUOUS", "END", "FIRST_GAP", "HISTORY", "LASTING", "MOMENTS", "NAT", "NONE",
    "REPEAT", "SHOWN", "UNTIMED", "ZERO", "Line", "Slots", "Vocabulary", "canonical",
    "fit_scales", "history", "situation", "slots", "stay_ends",
]  # fmt: skip

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Singles: TypeAlias = NDArray[np.float32]

NAT = np.iinfo(np.int64).min
DAY_US, YEAR = 86_400_000_000.0, 365.2425
END, UNTIMED, ZERO, LASTING, FIRST_GAP = range(5)  # kinds of gaps; from FIRST_GAP on its atoms
NONE, REPEAT, CONTINUOUS, ATOMS = range(4)  # kinds of numbers; from ATOMS on its atoms
MOMENTS = 40  # unlike times that are told apart by number
SHOWN = 27  # numbers that a place shows: see `situation` and `shown`
HISTORY = 5  # numbers that tell of earlier events with the code to come: see `history`


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What of a schema the places speak of."""

    codes: int
    stay: NDArray[np.bool_]  # (codes,) of the domain "visit"
    death: NDArray[np.bool_]  # (codes,)
    numeric: NDArray[np.bool_]  # (codes,)
    levels: Ints  # (codes,) how many texts each may bear
    rank: Ints  # (codes,) place of each among events of one time

    @staticmethod
    def of(schema: EventSchema) -> Vocabulary:
        """Read a schema."""
        stay = np.array([c.domain == "visit" for c in schema.codes], bool)
        death = np.array([c.domain == "death" for c in schema.codes], bool)
        kind = np.where(stay, 0, np.where(death, 2, 1))
        rank = np.empty(len(schema), np.int64)
        rank[np.argsort(kind, kind="stable")] = np.arange(len(schema))
        return Vocabulary(
            len(schema), stay, death, np.array([c.numeric for c in schema.codes], bool),
            np.array([len(c.levels) for c in schema.codes], np.int64), rank,
        )  # fmt: skip

    @property
    def first_level(self) -> Ints:
        """The number of each code's first text among all; 0 is none, (codes,)."""
        return 1 + np.cumsum(self.levels) - self.levels


# ------------------------------------------------------------------ in one order


@dataclass(frozen=True, eq=False)
class Line:
    """Events in their order, with plain numbers."""

    starts: Ints  # (subjects + 1,)
    whose: Ints  # (events,)
    time: Ints  # microseconds since 1970, NAT for none
    code: Ints
    value: Floats
    level: Ints  # of its code's texts, -1 for none
    end: Ints  # microseconds since 1970, NAT for none
    relation: Ints  # to visits: 0 at none, 1 at the last one, 2 the first of a new one

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return self.starts.size - 1

    @property
    def gaps(self) -> Floats:
        """Days since the timed event before, 0 for the first one, NaN for none, (events,)."""
        found = np.zeros(self.time.size)
        known = self.time != NAT
        both = known[1:] & known[:-1] & (np.diff(self.whose) == 0)
        found[1:][both] = (self.time[1:] - self.time[:-1])[both] / DAY_US
        found[~known] = np.nan
        return found

    @property
    def durations(self) -> Floats:
        """Days that events last, NaN where it is not told, (events,)."""
        known = (self.time != NAT) & (self.end != NAT)
        days = np.where(known, self.end, 0) / DAY_US - np.where(known, self.time, 0) / DAY_US
        return np.where(known, np.maximum(days, 0.0), np.nan)


def canonical(events: Events, place: Ints, schema: EventSchema, words: Vocabulary) -> Line:
    """Return events whose codes have a place, in the order in which places stand."""
    at = place[events.code] if events.n_events else np.zeros(0, np.int64)
    kept = np.flatnonzero(at >= 0)
    code, whose = at[kept], events.whose[kept]
    time = events.time[kept].astype("datetime64[us]").astype(np.int64)
    visit = events.visit[kept].astype(np.int64)
    outside = np.where(visit < 0, np.iinfo(np.int64).max, visit)
    order = np.lexsort((words.rank[code], outside, time, whose))
    kept, code, whose = kept[order], code[order], whose[order]
    time, visit = time[order], visit[order]
    level = _levels(events, kept, code, schema)
    relation = np.zeros(kept.size, np.int64)
    at_visit = np.flatnonzero(visit >= 0)
    key = whose[at_visit] * (int(visit.max(initial=0)) + 1) + visit[at_visit]
    relation[at_visit] = 1
    relation[at_visit[np.unique(key, return_index=True)[1]]] = 2
    end = events.end[kept].astype("datetime64[us]").astype(np.int64)
    value = np.where(words.numeric[code], events.value[kept], np.nan)
    value = np.where(np.isfinite(value), value, np.nan)
    starts = np.searchsorted(whose, np.arange(events.n_subjects + 1)).astype(np.int64)
    return Line(starts, whose, time, code, value, level, end, relation)


def _levels(events: Events, kept: Ints, code: Ints, schema: EventSchema) -> Ints:
    """Return which of its code's texts each event bears, -1 for none that may be told."""
    text = events.text[kept].astype(np.int64)
    found = np.full(kept.size, -1, np.int64)
    rows = np.flatnonzero(text >= 0)
    if not rows.size:
        return found
    pairs, of = np.unique(code[rows] * len(events.texts) + text[rows], return_inverse=True)
    own = {}
    for pair in pairs.tolist():
        i, j = divmod(pair, len(events.texts))
        levels = schema.codes[i].levels
        own[pair] = levels.index(events.texts[j]) if events.texts[j] in levels else -1
    found[rows] = np.array([own[pair] for pair in pairs.tolist()], np.int64)[of]
    return found


def fit_scales(line: Line, words: Vocabulary, k: int, tick_days: float) -> dict[str, Scales]:
    """Return the scales of gaps, values and durations."""
    gaps, lasts, valued = line.gaps, line.durations, np.flatnonzero(~np.isnan(line.value))
    apart, ended = np.flatnonzero(gaps > 0), np.flatnonzero(~np.isnan(lasts))
    tick = np.full(words.codes, tick_days)
    return {
        "gap": Scales.fit(
            np.zeros(apart.size, np.int64), gaps[apart], line.whose[apart], 1, k=k, logged=True,
            steps=np.array([tick_days]), common=0.01, most_atoms=48,
        ),
        "value": Scales.fit(
            line.code[valued], line.value[valued], line.whose[valued], words.codes, k=k
        ),
        "duration": Scales.fit(
            line.code[ended], lasts[ended], line.whose[ended], words.codes, k=k, logged=True,
            steps=tick,
        ),
    }  # fmt: skip


# ------------------------------------------------------------------ what a place shows


def situation(
    *, now: Ints, start: Ints, birth: Ints, stay_end: Ints, before: Ints, moments: Ints,
    gap: Floats, relation: Ints, score: Floats, valued: NDArray[np.bool_], lasting: Floats,
    lasts: NDArray[np.bool_],
) -> Singles:  # fmt: skip
    """Return what places show beside codes and texts, (places, SHOWN).

    `before` are events and `moments` unlike times so far.
    `now`, `start`, `birth` and `stay_end` are microseconds or NAT; `gap` is that of the event which
    was last, NaN where it had no time.
    """
    timed = now != NAT
    moment = np.where(timed, now, 0)
    since = np.where(timed, moment - np.where(timed, start, 0), 0) / DAY_US
    aged = timed & (birth != NAT)
    age = np.where(aged, moment / DAY_US - np.where(aged, birth, 0) / DAY_US, 0.0) / YEAR
    staying = timed & (stay_end != NAT)
    left = np.where(staying, np.where(staying, stay_end, 0) / DAY_US - moment / DAY_US, 0.0)
    day = 2 * np.pi * np.mod(moment / DAY_US, 1.0)
    week = 2 * np.pi * np.mod(moment / DAY_US, 7.0) / 7
    known = np.nan_to_num(gap)
    columns = (
        timed, np.log1p(since) / 3, since / YEAR, aged, age / 40, (age / 40) ** 2,
        staying, np.log1p(np.maximum(left, 0)), staying & (left > 0),
        np.sin(day) * timed, np.cos(day) * timed, np.sin(week) * timed, np.cos(week) * timed,
        np.log1p(before) / 3, before == 0, moments / 10, np.log1p(moments) / 2,
        np.isnan(gap), known == 0, np.log1p(known * 24) / 3,
        relation == 0, relation == 1, relation == 2,
        np.where(valued, score, 0), valued, np.where(lasts, lasting, 0), lasts,
    )  # fmt: skip
    return np.stack([np.asarray(c, np.float64) for c in columns], -1).astype(np.float32)


def history(score: Floats, mean: Floats, count: Floats, days: Floats) -> Singles:
    """Return what is told of earlier events with a code, (…, HISTORY): none where count is 0."""
    some = count > 0
    columns = (some, np.where(some, score, 0), np.where(some, mean, 0), np.log1p(count) / 2,
               np.where(some, np.log1p(np.maximum(days, 0)) / 3, 0))  # fmt: skip
    return np.stack([np.asarray(c, np.float64) for c in columns], -1).astype(np.float32)


# ------------------------------------------------------------------ places


@dataclass(frozen=True, eq=False)
class Slots:
    """The places of all subjects, one after the other."""

    starts: Ints  # (subjects + 1,) first place of each subject
    whose: Ints  # (places,)
    words: Ints  # (places, 3) the last code and text, from 1, 0 for none; unlike times so far
    shown: Singles  # (places, SHOWN)
    remaining: Ints  # (places,) events to come
    target: Ints  # (places, 8): gap, relation, code, text (from 1), value, duration; last text
    #                            of the code, and the text itself, among all
    numbers: Singles  # (places, 9): score and ends of gap, value, duration
    past: Singles  # (places, HISTORY) of the code to come


def slots(
    line: Line, words: Vocabulary, scales: Mapping[str, Scales], births: Ints, first: Ints
) -> Slots:
    """Return the places; `births` and `first` (subjects,) are microseconds or NAT."""
    n, people = line.code.size, line.subjects
    gaps, lasts = line.gaps, line.durations
    valued, ended = ~np.isnan(line.value), ~np.isnan(lasts)
    past, last_level, again = _past(line, words, scales["value"])
    gap_kind, gap_numbers = _gap_kinds(gaps, scales["gap"])
    value_kind, value_numbers = _number_kinds(line.code, line.value, scales["value"])
    value_kind[again & (value_kind != NONE)] = REPEAT
    last_kind, last_numbers = _number_kinds(line.code, lasts, scales["duration"])
    starts = line.starts + np.arange(people + 1)
    shown_at = np.arange(n) + line.whose + 1  # the place after each event
    told_at = shown_at - 1  # the place that foretells it
    whose = np.repeat(np.arange(people), np.diff(starts))
    count = np.diff(starts)
    before = np.arange(whose.size) - starts[whose]
    target = np.zeros((whose.size, 8), np.int64)
    level_number = np.where(line.level >= 0, words.first_level[line.code] + line.level, 0)
    target[told_at] = np.stack(
        [gap_kind, line.relation, line.code, line.level + 1, value_kind, last_kind, last_level,
         level_number], 1,
    )  # fmt: skip
    numbers = np.zeros((whose.size, 9), np.float32)
    numbers[told_at] = np.concatenate([gap_numbers, value_numbers, last_numbers], 1)
    own_past = np.zeros((whose.size, HISTORY), np.float32)
    own_past[told_at] = past
    moments = np.zeros(whose.size, np.int64)
    fresh = np.concatenate([[0], np.cumsum((gaps > 0).astype(np.int64))])
    moments[shown_at] = fresh[1:] - fresh[line.starts[line.whose]]
    told = {
        "relation": line.relation, "valued": (value_kind != NONE) & valued,
        "score": scales["value"].to_score(line.code, np.nan_to_num(line.value)),
        "lasts": (last_kind != NONE) & ended, "lasting": np.log1p(np.nan_to_num(lasts)),
    }  # fmt: skip
    shown = situation(
        now=_spread(line.time, shown_at, whose.size, NAT), start=first[whose],
        birth=births[whose], stay_end=_spread(stay_ends(line, words), shown_at, whose.size, NAT),
        before=before, moments=moments, gap=_spread(gaps, shown_at, whose.size, np.nan),
        **{key: _spread(told[key], shown_at, whose.size, 0) for key in told},
    )  # fmt: skip
    seen = np.zeros((whose.size, 3), np.int64)
    seen[shown_at, :2] = np.stack([line.code + 1, level_number], 1)
    seen[:, 2] = np.minimum(moments, MOMENTS - 1)
    return Slots(
        starts, whose, seen, shown, count[whose] - 1 - before, target, numbers, own_past
    )  # fmt: skip


def _spread(values: NDArray[Any], at: Ints, places: int, none: float) -> NDArray[Any]:
    """Return values at some places, and `none` at the others."""
    found = np.full(places, none, values.dtype)
    found[at] = values
    return found


def _gap_kinds(gaps: Floats, scales: Scales) -> tuple[Ints, Floats]:
    none = np.zeros(gaps.size, np.int64)
    found = np.where(np.isnan(gaps), UNTIMED, np.where(gaps > 0, LASTING, ZERO))
    apart = np.flatnonzero(gaps > 0)
    atom = scales.atom_of(none[apart], gaps[apart])
    found[apart[atom >= 0]] = FIRST_GAP + atom[atom >= 0]
    rest = np.flatnonzero(found == LASTING)
    if not scales.lined[0]:  # too few to tell how they are spread
        found[rest] = FIRST_GAP if np.isfinite(scales.atoms[0, :1]).all() else ZERO
        rest = rest[:0]
    numbers = np.zeros((gaps.size, 3))
    numbers[rest] = np.stack(scales.intervals(none[rest], gaps[rest]), 1)
    return found, numbers


def _number_kinds(code: Ints, values: Floats, scales: Scales) -> tuple[Ints, Floats]:
    found = np.full(values.size, NONE)
    there = np.flatnonzero(~np.isnan(values))
    atom = scales.atom_of(code[there], values[there])
    lined = scales.lined[code[there]]
    found[there] = np.where(atom >= 0, ATOMS + atom, np.where(lined, CONTINUOUS, NONE))
    rest = np.flatnonzero(found == CONTINUOUS)
    numbers = np.zeros((values.size, 3))
    numbers[rest] = np.stack(scales.intervals(code[rest], values[rest]), 1)
    return found, numbers


def _past(line: Line, words: Vocabulary, scales: Scales) -> tuple[Singles, Ints, NDArray[np.bool_]]:
    """Return what was before of the same code: numbers, its last text, and whether it repeats."""
    n = line.code.size
    order = np.lexsort((np.arange(n), line.code, line.whose))
    whose, code = line.whose[order], line.code[order]
    first = np.ones(n, bool)
    first[1:] = (np.diff(whose) != 0) | (np.diff(code) != 0)
    begin = np.maximum.accumulate(np.where(first, np.arange(n), 0)) if n else np.zeros(0, np.int64)
    value, level, time = line.value[order], line.level[order], line.time[order]
    valued = ~np.isnan(value)
    score = np.where(valued, scales.to_score(code, np.nan_to_num(value)), 0.0)
    count, total = _before(valued.astype(float), begin), _before(score, begin)
    at = _last(valued, begin)
    has = at >= 0
    days = np.where(has & (time != NAT) & (time[at] != NAT), (time - time[at]) / DAY_US, 0.0)
    own = history(score[at], total / np.maximum(count, 1), np.where(has, count, 0), days)
    worded = _last(level >= 0, begin)
    last_level = np.where(worded >= 0, words.first_level[code] + level[worded], 0)
    again = has & valued & (value == value[at])
    back = np.empty(n, np.int64)
    back[order] = np.arange(n)
    return own[back], last_level[back], again[back]


def _before(values: Floats, begin: Ints) -> Floats:
    """Return sums of the earlier values of each group."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    found: Floats = total[:-1] - total[begin]
    return found


def _last(there: NDArray[np.bool_], begin: Ints) -> Ints:
    """Return where in its group something was last, before each row; -1 for nowhere."""
    n = there.size
    seen = np.maximum.accumulate(np.where(there, np.arange(n), -1)) if n else np.zeros(0, np.int64)
    before = np.concatenate([[-1], seen[:-1]]) if n else seen
    return np.where(before >= begin, before, -1)


def stay_ends(line: Line, words: Vocabulary) -> Ints:
    """Return when the stay that an event is in will be over, NAT for none, (events,)."""
    n = line.code.size
    tells = words.stay[line.code] | (line.relation == 2) if n else np.zeros(0, bool)
    # the stay that began with the event itself, or the last one before it
    own = np.where(tells, np.arange(n), _last(tells, line.starts[line.whose]))
    ends = np.where(words.stay[line.code], line.end, NAT) if n else np.zeros(0, np.int64)
    return np.where(own >= 0, ends[own], NAT)
