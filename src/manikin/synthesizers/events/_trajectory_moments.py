"""Moments: events of one time and visit taken together, and what a subject had before each.

The counted model of `_trajectory_prior.py` reads a record moment by moment; a place of the decoder
asks of two: the one that its last event is of, and the one that begins with the event to come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._trajectory_tokens import DAY_US, NAT, Ints, Line, Vocabulary

__all__ = ["KINDS", "LAST", "STATES", "Moments", "kinds_of", "ragged", "since"]

KINDS = 6  # of moments: at no visit, within one, opening one; and the same as somebody's first
NEVER_HAD, LAST, STATES = 0, 1, 6  # never, at the moment before; then by time since the last one
RECENT_DAYS = (1.5, 31.0, 366.0)  # within which a code was had: states 2, 3, 4; else 5


@dataclass(frozen=True, eq=False)
class Moments:
    """All moments of a line, one after the other. Codes are told by their rank."""

    of_event: Ints  # (events,)
    first: Ints  # (moments + 1,) first event of each
    rank: Ints  # (events,) that of its code
    whose: Ints  # (moments,)
    time: Ints  # (moments,) microseconds, NAT for none
    kind: Ints  # (moments,)
    own: Ints  # (pairs,) the ranks that each subject ever has, subject by subject
    own_starts: Ints  # (subjects + 1,)
    had: Ints  # pair · moments + moment at which it is, ascending

    @property
    def n(self) -> int:
        """Number of moments."""
        return self.whose.size

    @staticmethod
    def of(line: Line, words: Vocabulary) -> Moments:
        """Part a line."""
        n, begins = line.code.size, np.ones(line.code.size, bool)
        inside = line.relation > 0
        begins[1:] = (
            (np.diff(line.whose) != 0) | (line.time[1:] != line.time[:-1])
            | (line.relation[1:] == 2) | (inside[1:] != inside[:-1])
        )  # fmt: skip
        first = np.flatnonzero(begins)
        of_event = np.cumsum(begins) - 1
        opens = first == line.starts[line.whose[first]]
        rank = words.rank[line.code]
        pairs, which = np.unique(line.whose * words.codes + rank, return_inverse=True)
        had = np.unique(which * first.size + of_event)
        starts = np.searchsorted(pairs, np.arange(line.subjects + 1) * words.codes)
        return Moments(
            of_event, np.append(first, n), rank, line.whose[first], line.time[first],
            kinds_of(line.relation[first], opens), pairs % max(words.codes, 1),
            starts.astype(np.int64), had,
        )  # fmt: skip

    def before(self, which: Ints) -> tuple[Ints, Ints, Ints]:
        """Return what was had before moments: places in `which`, ranks, and states."""
        whose = self.whose[which]
        at, pair = ragged(self.own_starts[whose], self.own_starts[whose + 1])
        moment = which[at]
        found = np.searchsorted(self.had, pair * self.n + moment) - 1
        own = np.maximum(found, 0)
        kept = np.flatnonzero((found >= 0) & (self.had[own] // max(self.n, 1) == pair))
        at, pair, moment, last = at[kept], pair[kept], moment[kept], self.had[found[kept]] % self.n
        state = since(self.time[moment], self.time[last], last == moment - 1)
        return at, self.own[pair], state

    def of_subjects(self, chosen: Ints) -> Ints:
        """Return the moments of some subjects."""
        return np.flatnonzero(np.isin(self.whose, chosen))


def kinds_of(relation: Ints, first: NDArray[np.bool_]) -> Ints:
    """Return kinds of moments by the relation of their first event to visits."""
    return relation + 3 * first


def since(now: Ints, then: Ints, last: NDArray[np.bool_]) -> Ints:
    """Return states of what was had at some time, by the time that is over."""
    known = (now != NAT) & (then != NAT)
    days = np.where(known, np.where(known, now, 0) - np.where(known, then, 0), 0) / DAY_US
    found = 2 + np.searchsorted(RECENT_DAYS, np.where(known, days, np.inf))
    return np.where(last, LAST, found)


def ragged(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return, for ranges laid one after the other, of which each number is, and the numbers."""
    size = end - start
    at = np.repeat(np.arange(size.size), size)
    return at, np.arange(at.size) - np.repeat(np.cumsum(size) - size, size) + start[at]
