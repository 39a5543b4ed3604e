"""A panel under a budget: which channels there are, and the visits that count, with weights.

What a subject adds to a sum is an average over its visits, of weight one at most: a record longer
than the usual one counts no more than that. Which codes recur, whether a visit's number groups
readings, and how long records are is bought first; everything later is scaled by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._bounded as bounded
import manikin.synthesizers.events._panel_channels as channeled
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.visits import Visits, visits_of
from manikin.errors import InputError
from manikin.privacy.account import Account, measuring
from manikin.synthesizers.events._bounded import Behind
from manikin.synthesizers.events._panel_channels import MOST_REPEATS, PARTS, Channel, Sheet

__all__ = ["Lengths", "Visited", "channels_bought", "lengths_bought", "simplex", "styled"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

MOST_CODES = 500  # declared ones; a panel is of few channels
USUAL_CHANNELS = 24.0  # of a subject: a longer vector of what it has is shortened
MOST_COUNTED = 128  # visits of a subject that are told apart
LONGEST_US = 44_000 * 864 * 10**8  # of a record: 120 years
CLEAR = 4.0  # deviations of noise that a count has to pass to be taken for somebody
RARE = 1e-3  # chance that a channel that nobody has is taken for one, of all that are tried


@dataclass(frozen=True, eq=False)
class Visited:
    """The visits of subjects that count; all but `sheet` is told by their whole records."""

    sheet: Sheet
    anchor: Ints  # (subjects,) time of the first visit
    first: NDArray[np.bool_]  # (visits,)
    gap: Floats  # (visits,) units to the next visit, NaN for none
    before: Floats  # (visits, channels) whether it was measured a visit ago, NaN at the first
    weight: Floats  # (visits,) adding up to one in a subject at most

    @property
    def since(self) -> Floats:
        """Units since the first visit."""
        return np.asarray(self.sheet.time - self.anchor[self.sheet.whose], np.float64)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which channels were measured, (visits, channels)."""
        return ~np.isnan(self.sheet.cells)

    @staticmethod
    def of(sheet: Sheet, kept: Ints | None = None, typical: float = 1.0) -> Visited:
        """Take the visits that count, or all of them, of a sheet."""
        some, n = sheet.counts > 0, sheet.whose.size
        anchor = np.zeros(sheet.n_subjects, np.int64)
        anchor[some] = sheet.time[sheet.starts[:-1][some]]
        first = np.diff(sheet.whose, prepend=-1) != 0
        gap = np.full(n, np.nan)
        gap[:-1] = np.where(first[1:], np.nan, np.diff(sheet.time))
        before = np.full(sheet.cells.shape, np.nan)
        seen = ~np.isnan(sheet.cells)
        before[1:] = np.where(first[1:, None], np.nan, seen[:-1])
        at = np.arange(n) if kept is None else kept
        starts = np.searchsorted(sheet.whose[at], np.arange(sheet.n_subjects + 1))
        own = Sheet(sheet.whose[at], sheet.time[at], sheet.cells[at], starts.astype(np.int64))
        weight = 1 / np.maximum(own.counts, typical)[own.whose]
        return Visited(own, anchor, first[at], gap[at], before[at], weight)


# ------------------------------------------------------------------ kinds of record


def styled(
    data: Behind[Events], account: Account, rho: float
) -> tuple[float, bool, Behind[tuple[Events, Visits]]]:
    """Return the noisy number of subjects, whether visits are numbered, and visits.

    Sensitivity: a subject adds 1 to their number and half to each of two answers: √1.5.
    """
    with measuring():
        events, n = data.it, data.it.n_subjects
        visits = visits_of(events)
        timed = np.flatnonzero(visits.of >= 0)
        pair = visits.of[timed] * (len(events.schema) + 1) + events.code[timed]
        one = np.unique(pair, return_index=True)[1]
        whose = events.whose[timed]
        many = np.bincount(whose, minlength=n) > 1.5 * np.bincount(whose[one], minlength=n)
        numbers = np.bincount(events.whose, events.visit >= 0, minlength=n)
        numbered = 2 * numbers > np.bincount(events.whose, minlength=n)
        vectors = np.stack([np.ones(n), (many & numbered) / 2, numbered / 2], 1)
        noisy, _ = bounded.summed(
            account, vectors, norm=math.sqrt(1.5), rho=rho, what="subjects, and kinds of visits"
        )
        subjects, stays, told = float(noisy[0]), 2 * noisy[1], 2 * noisy[2]
        if 2 * stays > subjects:  # a visit is a stay with many readings: times make visits
            visits = visits_of(replace(events, visit=np.full_like(events.visit, -1)))
        return max(1.0, subjects), bool(2 * told > subjects), Behind((events, visits))


def candidates(schema: EventSchema) -> list[Channel]:
    """Return the channels that a declared schema lets events have, and their lengths."""
    if len(schema) > MOST_CODES:
        raise InputError(
            f"a panel of {len(schema)} declared codes under a budget", f"{MOST_CODES} at most",
            "declare the few that recur at visits, or take events/visits",
        )  # fmt: skip
    found = []
    for i, code in enumerate(schema.codes):
        for repeat in range(MOST_REPEATS):
            own = []
            if code.numeric:
                own.append(Channel(i, "number", repeat, code.decimals))
            if code.levels:
                own.append(Channel(i, "level", repeat, 0, code.levels))
            own = own or [Channel(i, "bare", repeat, 0)]
            found += [*own, Channel(i, "length", repeat, 0)]
    return found


def channels_bought(
    seen: Behind[tuple[Events, Visits]], schema: EventSchema, account: Account, rho: float,
    subjects: float,
) -> tuple[Channel, ...]:  # fmt: skip
    """Return the channels that noisy counts of subjects show.

    Sensitivity: a subject has each channel or not; its vector is shortened to a public length.
    """
    every = candidates(schema)
    primary = np.array([c.repeat == 0 and c.part != "length" for c in every])
    place = {(c.code, c.part, c.repeat): i for i, c in enumerate(every)}
    norm = math.sqrt(min(1.5 * primary.sum(), USUAL_CHANNELS))
    with measuring():
        events, visits = seen.it
        repeat = channeled._repeats(events, visits)
        level = np.array([any(t in c.levels for c in schema.codes) for t in events.texts], bool)
        whose, cell = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for part, rows in channeled._parts(events, visits, level).items():
            of = np.full((len(schema), MOST_REPEATS), -1)
            for (code, name, times), i in place.items():
                if name == part:
                    of[code, times] = i
            rows = rows[repeat[rows] < MOST_REPEATS]
            at = of[events.code[rows], repeat[rows]]
            whose.append(events.whose[rows[at >= 0]])
            cell.append(at[at >= 0])
        pairs = np.unique(np.concatenate(whose) * len(every) + np.concatenate(cell))
        noisy, deviation = bounded.counted(
            account, pairs // len(every), pairs % len(every), np.ones(pairs.size), len(every),
            norm=norm, rho=rho, what="which channels subjects have",
        )  # fmt: skip
    far = -NormalDist().inv_cdf(RARE / len(every)) * deviation
    least = np.where(primary, 2 * deviation, max(far, 0.1 * subjects))
    kept = noisy > least
    if not kept[primary].any():
        kept = primary
    codes = {(c.code, c.repeat) for c, own in zip(every, kept, strict=True)
             if own and c.part != "length"}  # fmt: skip
    found = [c for c, own in zip(every, kept, strict=True) if own
             and all((c.code, r) in codes for r in range(c.repeat + 1))]  # fmt: skip
    return tuple(sorted(found, key=lambda c: (c.code, c.repeat, PARTS.index(c.part))))


# ------------------------------------------------------------------ how long records are


@dataclass(frozen=True, eq=False)
class Lengths:
    """What is known of records' lengths, by noisy counts."""

    visits: Floats  # (most + 1,) share of subjects with so many visits that count
    typical: float  # visits
    most: int
    gap: float  # units, usual
    extent: float  # units from the first visit to the last one of nearly everybody

    def expected(self, of: Floats) -> float:
        """Return the mean over subjects of what is `of` so many visits."""
        return float(self.visits @ of)


def lengths_bought(
    sheet: Behind[Sheet], most: int, unit_us: int, account: Account, rho: float, subjects: float
) -> Lengths:
    """Return how many visits there are, how far apart, and how long they go on.

    Sensitivity: a subject is in one cell of visits and in one of follow-up, and its gaps are one
    shared out: each of length one at most, so √3 together.
    """
    most, cells = min(most, MOST_COUNTED), math.ceil(math.log2(LONGEST_US / unit_us))
    with measuring():
        own = Visited.of(sheet.it)
        n, counts = sheet.it.n_subjects, np.minimum(sheet.it.counts, most)
        follows = np.flatnonzero(~np.isnan(own.gap))
        gaps = np.bincount(own.sheet.whose[follows], minlength=n)
        some = np.flatnonzero(gaps)
        last = own.since[own.sheet.starts[1:][some] - 1]
        whose = np.concatenate([np.arange(n), own.sheet.whose[follows], some])
        cell = np.concatenate([counts, most + 1 + _doubling(own.gap[follows], cells),
                               most + 1 + cells + _doubling(last, cells)])  # fmt: skip
        weight = np.concatenate([np.ones(n), 1.0 / gaps[own.sheet.whose[follows]],
                                 np.ones(some.size)])  # fmt: skip
        noisy, deviation = bounded.counted(
            account, whose, cell, weight, most + 1 + 2 * cells, norm=math.sqrt(3), rho=rho,
            what="visits of a subject, gaps and follow-up",
        )  # fmt: skip
    counts, apart, extent = np.split(noisy, [most + 1, most + 1 + cells])
    longest = max(1, _tail(counts, deviation))
    visits = np.zeros(most + 1)
    visits[: longest + 1] = simplex(counts[: longest + 1], 1.0, subjects)
    some_visits = np.cumsum(visits[1:]) / max(visits[1:].sum(), 1e-9)
    typical = 1 + int(np.searchsorted(some_visits, 0.5))
    ends = 2.0 ** np.arange(1, cells + 1)
    apart = np.where(apart > CLEAR * deviation, apart, 0.0)
    below = np.concatenate([[0.0], np.cumsum(apart)]) / max(float(apart.sum()), 1e-9)
    gap = 2.0 ** float(np.interp(0.5, below + 1e-9 * np.arange(cells + 1), np.arange(cells + 1)))
    return Lengths(visits, float(typical), longest, gap, float(ends[_tail(extent, deviation)]))


def _tail(noisy: Floats, deviation: float) -> int:
    """Return the last place from which on all counts together are clearly somebody's, or 0."""
    many = np.arange(noisy.size, 0, -1)
    clear = np.cumsum(noisy[::-1])[::-1] > CLEAR * deviation * np.sqrt(many)
    return int(np.flatnonzero(clear)[-1]) if clear.any() else 0


def _doubling(units: Floats, cells: int) -> Ints:
    """Return k of 2^k ≤ units < 2^(k + 1); what is less than one unit is nought."""
    doublings = np.frexp(np.maximum(units, 1.0))[1] - 1
    return np.asarray(np.clip(doublings, 0, cells - 1), np.int64)


def simplex(noisy: Floats, total: float, by: float = 1.0) -> Floats:
    """Return the nearest numbers that are nought or more and add up to a total (Held et al. 1974).

    Noise that is no larger than what must be taken off everywhere vanishes with it.
    """
    values = np.asarray(noisy, np.float64) / by
    if not values.size or total <= 0:
        return np.zeros(values.shape)
    falling = np.sort(values)[::-1]
    over = (np.cumsum(falling) - total) / np.arange(1, values.size + 1)
    last = int(np.flatnonzero(falling > over)[-1]) if (falling > over).any() else 0
    return np.asarray(np.maximum(values - over[last], 0.0))
