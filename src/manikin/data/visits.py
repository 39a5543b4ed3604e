"""Events grouped by the visit at which they were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events

__all__ = ["Visits", "visits_of"]


@dataclass(frozen=True, eq=False)
class Visits:
    """The visits of histories, sorted by subject and start.

    Events that bear the number of a visit belong to it; those that bear none are at a visit with
    all others of their subject at the same time. Events without a time belong to no visit.
    """

    whose: NDArray[np.int64]  # (visits,) row of the static table
    start: NDArray[np.datetime64]  # (visits,) time of the first event
    end: NDArray[np.datetime64]  # (visits,) of the last event, or when it was over
    of: NDArray[np.int64]  # (events,) visit of each event, -1 for none
    starts: NDArray[np.int64]  # (subjects + 1,) where each subject's visits begin

    @property
    def n(self) -> int:
        """Number of visits."""
        return int(self.whose.size)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of visits of each subject, (subjects,)."""
        return np.diff(self.starts)

    @property
    def place(self) -> NDArray[np.int64]:
        """How many visits of the same subject came before, (visits,)."""
        return np.arange(self.n) - self.starts[self.whose]

    def gaps_days(self) -> NDArray[np.float64]:
        """Return the days since the start of the subject's last visit, NaN at the first."""
        gaps = np.full(self.n, np.nan)
        if self.n > 1:
            days = np.diff(self.start) / np.timedelta64(1, "D")
            gaps[1:] = np.where(np.diff(self.whose) == 0, days, np.nan)
        return gaps


def visits_of(events: Events) -> Visits:
    """Group events by visit."""
    timed = np.flatnonzero(~np.isnat(events.time))
    whose, time = events.whose[timed], events.time[timed].astype("datetime64[us]")
    visit = events.visit[timed].astype(np.int64)
    # the kind of key comes first, so that a visit's number is never taken for a time
    keys = np.where(visit >= 0, visit, time.view(np.int64))
    order = np.lexsort((time.view(np.int64), keys, visit >= 0, whose))
    same = np.ones(timed.size, bool)
    for column in (whose, keys, visit >= 0):
        same[1:] &= column[order][1:] == column[order][:-1]
    same[:1] = False
    first = np.flatnonzero(~same)
    group = np.cumsum(~same) - 1  # in the order of keys
    last = events.end[timed].astype("datetime64[us]")
    last = np.where(np.isnat(last) | (last < time), time, last)
    start = time[order][first]
    end = np.full(first.size, np.datetime64(-(2**62), "us"))
    np.maximum.at(end, group, last[order])
    owner = whose[order][first]
    by_time = np.lexsort((start.view(np.int64), owner))
    rank = np.empty(first.size, np.int64)
    rank[by_time] = np.arange(first.size)
    of = np.full(events.n_events, -1, np.int64)
    of[timed[order]] = rank[group]
    owner = owner[by_time]
    starts = np.searchsorted(owner, np.arange(events.n_subjects + 1)).astype(np.int64)
    return Visits(owner, start[by_time], end[by_time], of, starts)
