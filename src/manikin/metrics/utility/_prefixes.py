"""What is known of a patient up to a moment: features of the history so far.

A row is a subject at one of its visits. Known are the static facts that are asked for, how many
visits there were and over how long, and of common codes how often and whether at the last visit, of
common numbers the last value and the mean; nothing of what comes after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.metrics.histories import Side
from manikin.metrics.intervals import Floats

__all__ = ["Known", "Moments"]

Places = NDArray[np.int64]
CODES, NUMBERS = 60, 15  # most common ones


@dataclass(frozen=True, eq=False)
class Moments:
    """Rows: which visit each is at, and until when events of that very visit are known."""

    visit: Places  # (rows,) place of the visit
    until: NDArray[np.datetime64]  # (rows,)


@dataclass(frozen=True, eq=False)
class Known:
    """Which features there are: chosen on training histories."""

    codes: Places
    numbers: Places
    static: tuple[str, ...]

    @staticmethod
    def fit(train: Side, *, without: frozenset[int] = frozenset(), static: bool = True) -> Known:
        """Choose the codes that most subjects have; those `without` are not to be known."""
        events = train.events
        held = np.asarray(train.of_subjects.sum(axis=0)).ravel()
        held[list(without)] = 0
        order = np.argsort(-held, kind="stable")
        codes = order[held[order] > 0]
        numeric = np.bincount(events.code[np.isfinite(events.value)], minlength=held.size) > 0
        facts = tuple(
            c.name for c in events.static.schema.learned
            if "target" not in c.roles and c.kind != "datetime"
        ) if static else ()  # fmt: skip
        return Known(codes[:CODES], codes[numeric[codes]][:NUMBERS], facts)

    def matrix(self, side: Side, rows: Moments) -> Floats:
        """Return the features, (rows, features)."""
        visits, events = side.visits, side.events
        whose = visits.whose[rows.visit]
        opening = visits.starts[:-1][whose]
        started = visits.start[rows.visit]
        days = (started - visits.start[opening]) / np.timedelta64(1, "D")
        gap = np.nan_to_num(visits.gaps_days()[rows.visit], nan=-1)
        parts = [np.log1p(rows.visit - opening), np.log1p(days), gap]
        if events.schema.birth:
            age = (started - events.births()[whose]) / np.timedelta64(365, "D")
            parts.append(np.asarray(age, np.float64))
        parts += [events.static.numbers(name)[whose] for name in self.static]
        row, event = _so_far(side, rows)
        now = visits.of[event] == rows.visit[row]
        return np.column_stack([
            *parts, *self._of_codes(side, row, event, now, rows.visit.size),
            *self._of_numbers(side, row, event, rows.visit.size),
        ])  # fmt: skip

    def _of_codes(
        self, side: Side, row: Places, event: Places, now: NDArray[np.bool_], n: int
    ) -> list[Floats]:
        place = np.full(len(side.events.schema) + 1, -1, np.int64)
        place[self.codes] = np.arange(self.codes.size)
        slot = place[side.events.code[event]]
        m = self.codes.size
        found: list[Floats] = []
        for kept in (slot >= 0, (slot >= 0) & now):
            table = np.bincount(row[kept] * m + slot[kept], minlength=n * m).reshape(n, m)
            found += list(np.log1p(table).T)
        return found

    def _of_numbers(self, side: Side, row: Places, event: Places, n: int) -> list[Floats]:
        place = np.full(len(side.events.schema) + 1, -1, np.int64)
        place[self.numbers] = np.arange(self.numbers.size)
        value = side.events.value[event]
        kept = np.flatnonzero((place[side.events.code[event]] >= 0) & np.isfinite(value))
        m = self.numbers.size
        key = row[kept] * m + place[side.events.code[event[kept]]]
        last = np.full(n * m, np.nan)
        last[key] = value[kept]  # events are in order of time: the last one stays
        size = np.bincount(key, minlength=n * m)
        mean = np.bincount(key, value[kept], minlength=n * m) / np.where(size > 0, size, np.nan)
        return [*last.reshape(n, m).T, *mean.reshape(n, m).T]


def _so_far(side: Side, rows: Moments) -> tuple[Places, Places]:
    """Return pairs of a row and an event that is known then, in order of row and time."""
    visits, events = side.visits, side.events
    whose = visits.whose[rows.visit]
    first, size = events.starts[:-1][whose], events.counts[whose]
    row = np.repeat(np.arange(whose.size), size)
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    event = np.repeat(first, size) + within
    at, time = visits.of[event], events.time[event]
    here = rows.visit[row]
    known = (at >= 0) & ((at < here) | ((at == here) & (time <= rows.until[row])))
    return row[known], event[known]
