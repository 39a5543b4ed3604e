"""Histories as a dense panel: one row a visit, one column a channel.

A channel is one part of what a code's events say: a number, a level, that it was at all, or how
long it lasted. Several events of one code at one visit are channels of their own. A channel that
fewer than k subjects have is left out, unless the schema is declared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.visits import Visits, visits_of

__all__ = ["PARTS", "Channel", "Sheet", "channels_of", "sheet_of", "unit_of", "visits_for"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

PARTS = ("number", "level", "bare", "length")
UNITS_US = (86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000, 1)  # times' resolutions
MOST_REPEATS = 4  # events of one code at one visit that are told apart
MOST_DECIMALS = 6
MOST_LEVELS = 200


@dataclass(frozen=True)
class Channel:
    """One part of one code's events."""

    code: int  # place in the schema's codes
    part: str  # one of PARTS
    repeat: int  # 0 for the first event of the code at a visit
    decimals: int  # of its numbers
    levels: tuple[str, ...] = ()  # of a level channel, in an order along which they change
    after_units: int = 0  # usual delay from the start of the visit


@dataclass(frozen=True, eq=False)
class Sheet:
    """Visits in order of subject and time; times are whole units since 1970."""

    whose: Ints  # (visits,) row of the static table
    time: Ints  # (visits,)
    cells: Floats  # (visits, channels): numbers, places of levels, 1, or units; NaN: not there
    starts: Ints  # (subjects + 1,)

    @property
    def n_subjects(self) -> int:
        """Number of subjects, those without a visit among them."""
        return int(self.starts.size - 1)

    @property
    def counts(self) -> Ints:
        """Visits of each subject."""
        return np.diff(self.starts)

    @property
    def place(self) -> Ints:
        """How many visits of the same subject came before."""
        return np.arange(self.whose.size) - self.starts[self.whose]

    def rows(self, index: Ints) -> Sheet:
        """Return the sheet of subjects in any order, some of them more than once perhaps."""
        counts = self.counts[index]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        at = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[:-1][index], counts)
        whose = np.repeat(np.arange(index.size), counts)
        return Sheet(whose, self.time[at], self.cells[at], starts)

    def subset(self, rows: Ints) -> Sheet:
        """Return the panel of these subjects, ascending, numbered anew."""
        kept = np.zeros(self.n_subjects, bool)
        kept[rows] = True
        chosen = np.flatnonzero(kept[self.whose])
        place = np.cumsum(kept) - 1
        starts = np.concatenate([[0], np.cumsum(self.counts[kept])])
        return Sheet(place[self.whose[chosen]], self.time[chosen], self.cells[chosen], starts)


def unit_of(events: Events) -> int:
    """Return the coarsest unit, in microseconds, of which all times and ends are multiples."""
    for unit in UNITS_US:
        if all(
            not np.any(when[~np.isnat(when)].astype("datetime64[us]").astype(np.int64) % unit)
            for when in (events.time, events.end)
        ):
            return unit
    return 1


def visits_for(events: Events) -> Visits:
    """Group events by visit; by time alone where a visit is a stay with many readings of a code."""
    found = visits_of(events)
    timed = found.of >= 0
    if not timed.any() or not (events.visit >= 0).any():
        return found
    pairs = found.of[timed] * (len(events.schema) + 1) + events.code[timed]
    if timed.sum() > 1.5 * np.unique(pairs).size:
        return visits_of(replace(events, visit=np.full_like(events.visit, -1)))
    return found


def channels_of(events: Events, visits: Visits, k: int, unit_us: int) -> tuple[Channel, ...]:
    """Return the channels that enough subjects have."""
    repeat, level = _repeats(events, visits), _levels(events, k)
    found: list[Channel] = []
    for part, rows in _parts(events, visits, level).items():
        # a declared schema makes codes and levels public, and never the numbers of a few
        least = 1 if events.schema.declared and part in ("level", "bare") else k
        rows = rows[repeat[rows] < MOST_REPEATS]
        key = events.code[rows].astype(np.int64) * MOST_REPEATS + repeat[rows]
        whose = np.unique(np.stack([key, events.whose[rows]], 1), axis=0)[:, 0]
        for each, subjects in zip(*np.unique(whose, return_counts=True), strict=True):
            if subjects < least:
                continue
            own = rows[key == each]
            code, place = divmod(int(each), MOST_REPEATS)
            decimals = _decimals(events.value[own]) if part == "number" else 0
            levels = _ordered(events, own, level, least) if part == "level" else ()
            start = visits.start[visits.of[own]]
            late = (events.time[own] - start).astype("timedelta64[us]").astype(np.int64)
            after = int(np.median(late) // unit_us)
            found.append(Channel(code, part, place, decimals, levels, after))
    return tuple(sorted(found, key=lambda c: (c.code, c.repeat, PARTS.index(c.part))))


def sheet_of(events: Events, visits: Visits, channels: tuple[Channel, ...], unit_us: int) -> Sheet:
    """Return the dense panel of these channels; visits that hold none of them are left out."""
    cells = np.full((visits.n, len(channels)), np.nan)
    repeat = _repeats(events, visits)
    known = {c.levels for c in channels if c.part == "level"}
    spelled = {text: i for i, text in enumerate(events.texts)}
    parts = _parts(events, visits, np.array([any(t in one for one in known) for t in events.texts]))
    table = np.full((len(events.schema), MOST_REPEATS), -1)
    for part, rows in parts.items():
        table[:] = -1
        for j, channel in enumerate(channels):
            if channel.part == part and channel.code >= 0:
                table[channel.code, channel.repeat] = j
        rows = rows[repeat[rows] < MOST_REPEATS]
        column = table[events.code[rows], repeat[rows]]
        rows, column = rows[column >= 0], column[column >= 0]
        if part == "number":
            value = events.value[rows]
        elif part == "length":
            lasted = (events.end[rows] - events.time[rows]).astype("timedelta64[us]")
            value = np.maximum(lasted.astype(np.int64) // unit_us, 0).astype(np.float64)
        elif part == "bare":
            value = np.ones(rows.size)
        else:
            value = np.full(rows.size, np.nan)
            for j in np.unique(column):
                where = np.full(len(events.texts), np.nan)
                for place, text in enumerate(channels[j].levels):
                    if text in spelled:
                        where[spelled[text]] = place
                value[column == j] = where[events.text[rows[column == j]]]
        cells[visits.of[rows], column] = value
    kept = np.flatnonzero(~np.isnan(cells).all(1)) if channels else np.zeros(0, np.int64)
    time = visits.start[kept].astype("datetime64[us]").astype(np.int64) // unit_us
    starts = np.searchsorted(visits.whose[kept], np.arange(events.n_subjects + 1))
    return Sheet(visits.whose[kept], time, cells[kept], starts.astype(np.int64))


def _parts(events: Events, visits: Visits, level: NDArray[np.bool_]) -> dict[str, Ints]:
    """Return the events, ascending, that say something of each part."""
    timed = visits.of >= 0
    number = timed & np.isfinite(events.value)
    named = np.append(level, False)[events.text] if level.size else np.zeros(timed.size, bool)
    named = timed & named
    lasting = timed & ~np.isnat(events.end) & (events.end >= events.time)
    bare = timed & ~number & ~named
    marks = (number, named, bare, lasting)
    return {part: np.flatnonzero(mark) for part, mark in zip(PARTS, marks, strict=True)}


def _repeats(events: Events, visits: Visits) -> Ints:
    """Return how many events of the same code came before at the same visit, (events,)."""
    key = visits.of * (len(events.schema) + 1) + events.code
    order = np.argsort(key, kind="stable")
    first = np.ones(key.size, bool)
    first[1:] = key[order][1:] != key[order][:-1]
    at = np.arange(key.size)
    before = np.empty(key.size, np.int64)
    before[order] = at - np.maximum.accumulate(np.where(first, at, 0)) if key.size else at
    return before


def _levels(events: Events, k: int) -> NDArray[np.bool_]:
    """Return which texts are levels: declared ones, or what k subjects share with one code."""
    known = np.zeros(len(events.texts), bool)
    if not known.size:
        return known
    if events.schema.declared:
        named = {level for code in events.schema.codes for level in code.levels}
        return np.array([text in named for text in events.texts])
    rows = np.flatnonzero(events.text >= 0)
    key = events.code[rows].astype(np.int64) * len(events.texts) + events.text[rows]
    pairs = np.unique(np.stack([key, events.whose[rows]], 1), axis=0)[:, 0]
    each, subjects = np.unique(pairs, return_counts=True)
    known[each[subjects >= k] % len(events.texts)] = True
    return known


def _ordered(events: Events, rows: Ints, level: NDArray[np.bool_], least: int) -> tuple[str, ...]:
    """Return a channel's levels in an order along which neighbours follow each other most.

    Levels that a code declares keep their order; others are in the order of the second vector of
    the Laplacian of who follows whom (seriation: Atkins, Boman and Hendrickson, 1998).
    """
    text = events.text[rows]
    rows, text = rows[level[text]], text[level[text]]
    pairs = np.unique(np.stack([text, events.whose[rows]], 1), axis=0)[:, 0]
    each, subjects = np.unique(pairs, return_counts=True)  # of this very code
    each, subjects = each[subjects >= least], subjects[subjects >= least]
    found = each[np.argsort(-subjects, kind="stable")][:MOST_LEVELS]
    names = [events.texts[i] for i in found]
    declared = events.schema.codes[int(events.code[rows[0]])].levels if rows.size else ()
    if set(names) <= set(declared):
        return tuple(name for name in declared if name in names)
    if len(names) < 3:
        return tuple(sorted(names))
    place = np.full(len(events.texts), -1)
    place[found] = np.arange(found.size)
    follows = np.zeros((found.size, found.size))
    same = (np.diff(events.whose[rows]) == 0) & (place[text[1:]] >= 0) & (place[text[:-1]] >= 0)
    np.add.at(follows, (place[text[:-1]][same], place[text[1:]][same]), 1.0)
    follows = follows + follows.T + 1e-3
    np.fill_diagonal(follows, 0.0)
    second = np.linalg.eigh(np.diag(follows.sum(1)) - follows)[1][:, 1]
    second = second * (1 if second[0] >= 0 else -1)
    return tuple(names[i] for i in np.argsort(second, kind="stable"))


def _decimals(values: NDArray[Any]) -> int:
    """Return with how many decimals nearly all of these numbers are written."""
    for places in range(MOST_DECIMALS):
        off = np.abs(values - np.round(values, places)) > 1e-9 * np.maximum(1, np.abs(values))
        if off.mean() <= 0.005:
            return places
    return MOST_DECIMALS
