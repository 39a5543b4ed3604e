"""Histories as a recurrent judge reads them: one row of numbers a visit, in order of time.

A row says which of the common codes were at the visit, how many of the others (counted in a few
hashed cells, as in Weinberger et al., ICML 2009), the mean of each common number, how long it is
since the visit before, how long the visit lasts, and how many came before. Codes, numbers and their
scales are chosen on training histories, so that all sides are read alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from manikin.metrics.histories import Side
from manikin.metrics.intervals import Floats

__all__ = ["LACKING", "Read", "Reading", "can_be_had"]

Places = NDArray[np.int64]
CODES, CELLS, NUMBERS = 64, 16, 16
LONGEST = 48  # visits of a patient that are read
FAR = 5.0  # standard deviations at which a number is cut
LIFE_DAYS = 80 * 365.25
LACKING = "skipped: it needs torch; install it with: pip install 'manikin[deep]'"


def can_be_had() -> bool:
    """Whether torch is installed, which reads these sequences."""
    return find_spec("torch") is not None


@dataclass(frozen=True, eq=False)
class Read:
    """Sequences: which rows of `visits` each is, in order; -1 behind its end."""

    visits: NDArray[np.float32]  # (visits, features)
    order: Places  # (sequences, most visits)

    @staticmethod
    def joined(parts: list[Read]) -> Read:
        """Return the sequences of several sides, one after the other."""
        longest = max(part.order.shape[1] for part in parts)
        orders, after = [], 0
        for part in parts:
            moved = np.where(part.order >= 0, part.order + after, -1)
            room = ((0, 0), (0, longest - part.order.shape[1]))
            orders.append(np.pad(moved, room, constant_values=-1))
            after += len(part.visits)
        return Read(np.concatenate([part.visits for part in parts]), np.concatenate(orders))


@dataclass(frozen=True, eq=False)
class Reading:
    """Which numbers a visit comes to: chosen on training histories."""

    cell: Places  # (codes,) column of each code, -1 for those not to be known
    slot: Places  # (codes,) column of each common number, -1 for none
    mean: Floats  # (numbers,)
    spread: Floats
    static: tuple[str, ...]
    facts: tuple[tuple[float, float], ...]  # mean and spread of each static fact

    @staticmethod
    def fit(
        train: Side, *, without: frozenset[int] = frozenset(), static: tuple[str, ...] = ()
    ) -> Reading:
        """Choose the codes that most subjects have; those `without` are not to be known."""
        events, n = train.events, len(train.events.schema)
        held = np.asarray(train.of_subjects.sum(axis=0)).ravel()
        order = np.argsort(-held, kind="stable")
        cell = CODES + np.arange(n) % CELLS
        cell[order[:CODES]] = np.arange(min(CODES, n))
        known = np.isfinite(events.value)
        times = np.bincount(events.code[known], minlength=n)
        chosen = order[times[order] > 1][:NUMBERS]
        chosen = chosen[~np.isin(chosen, list(without))]
        slot = np.full(n, -1)
        slot[chosen] = np.arange(chosen.size)
        cell[list(without)] = -1
        places = slot[events.code[known]]
        mean, spread = _scales(events.value[known][places >= 0], places[places >= 0], chosen.size)
        facts = tuple(_moments(events.static.numbers(name)) for name in static)
        return Reading(cell, slot, mean, spread, static, facts)

    def whole(self, side: Side, rng: np.random.Generator) -> Read:
        """Return every subject's visits; of more than are read, those in a row from anywhere."""
        counts = side.visits.counts
        room = np.maximum(counts - LONGEST, 0)
        first = side.visits.starts[:-1] + rng.integers(0, room + 1)
        order = _stretch(first, np.minimum(counts, LONGEST))
        used, order = _used(order)
        return Read(self._rows(side, used), order)

    def until(self, side: Side, last: Places, moment: NDArray[np.datetime64]) -> Read:
        """Return what is known at moments within the `last` visits: those before, and its part."""
        opening = side.visits.starts[:-1][side.visits.whose[last]]
        size = np.minimum(last - opening + 1, LONGEST)
        order = _stretch(last - size + 1, size)
        used, order = _used(order)
        rows = self._rows(side, used)
        cut = side.visits.end[last] > moment
        # a visit that is not over at the moment is a row of its own
        order[np.flatnonzero(cut), size[cut] - 1] = len(rows) + np.arange(cut.sum())
        seen = self._rows(side, last[cut], moment[cut])
        found = Read(np.concatenate([rows, seen]), order)
        return self._with_facts(side, found, last)

    def _rows(
        self, side: Side, visits: Places, until: NDArray[np.datetime64] | None = None
    ) -> NDArray[np.float32]:
        """Return the features of visits, or of what is known of them until a moment."""
        events, found = side.events, side.visits
        m = visits.size
        # pairs of a row asked for and an event at that visit
        row, event = _events_at(side, visits)
        known = self.cell[events.code[event]] >= 0
        if until is not None:
            known &= events.time[event] <= until[row]
        row, event = row[known], event[known]
        width = CODES + CELLS
        key = row * width + self.cell[events.code[event]]
        codes = np.bincount(key, minlength=m * width).reshape(m, width)
        slot, value = self.slot[events.code[event]], events.value[event]
        kept = (slot >= 0) & np.isfinite(value)
        k = self.mean.size
        key = row[kept] * k + slot[kept]
        size = np.bincount(key, minlength=m * k)
        z = np.clip((value[kept] - self.mean[slot[kept]]) / self.spread[slot[kept]], -FAR, FAR)
        total = np.bincount(key, z, minlength=m * k)
        numbers = total / np.maximum(size, 1)
        gap = np.log1p(np.nan_to_num(found.gaps_days()[visits], nan=0.0))
        days = (found.end[visits] - found.start[visits]) / np.timedelta64(1, "D")
        lasts = np.log1p(np.asarray(days, np.float64)) if until is None else np.zeros(m)
        before = np.log1p(found.place[visits])
        several = np.log1p(np.bincount(row, minlength=m))
        return np.column_stack([
            np.minimum(codes, 1), (size > 0).reshape(m, k), numbers.reshape(m, k),
            gap / 3, found.place[visits] == 0, lasts / 2, before / 2, several / 2,
        ]).astype(np.float32)  # fmt: skip

    def _with_facts(self, side: Side, found: Read, at: Places) -> Read:
        """Return the sequences with a first row of static facts and age, before the visits."""
        whose = side.visits.whose[at]
        columns = [side.events.static.numbers(name)[whose] for name in self.static]
        columns = [
            np.clip(np.nan_to_num((column - mean) / spread), -FAR, FAR)
            for column, (mean, spread) in zip(columns, self.facts, strict=True)
        ]
        if side.events.schema.birth:
            days = (side.visits.start[at] - side.events.births()[whose]) / np.timedelta64(1, "D")
            columns.append(np.nan_to_num(np.asarray(days, np.float64) / LIFE_DAYS - 0.5))
        if not columns:
            return found
        n, wide = found.visits.shape
        told = np.zeros((n + at.size, wide + len(columns)), np.float32)
        told[:n, :wide] = found.visits
        told[n:, wide:] = np.column_stack(columns)
        return Read(told, np.column_stack([n + np.arange(at.size), found.order]))


def _events_at(side: Side, visits: Places) -> tuple[Places, Places]:
    """Return pairs of a row of `visits` and an event that is at this visit."""
    timed = np.flatnonzero(side.visits.of >= 0)
    by_visit = timed[np.argsort(side.visits.of[timed], kind="stable")]
    size = np.bincount(side.visits.of[timed], minlength=side.visits.n)
    first = np.cumsum(size) - size
    row = np.repeat(np.arange(visits.size), size[visits])
    offset = np.repeat(np.cumsum(size[visits]) - size[visits], size[visits])
    return row, by_visit[np.repeat(first[visits], size[visits]) + np.arange(row.size) - offset]


def _stretch(first: Places, size: Places) -> Places:
    """Return `size` places from `first` on, (rows, most), -1 behind them."""
    at = np.arange(int(size.max(initial=1)))
    return np.where(at < size[:, None], first[:, None] + at, -1)


def _used(order: Places) -> tuple[Places, Places]:
    """Return the places that are asked for, and the order in terms of these."""
    used = np.unique(order[order >= 0])
    return used, np.where(order >= 0, np.searchsorted(used, order), -1)


def _scales(values: Floats, place: Places, n: int) -> tuple[Floats, Floats]:
    size = np.maximum(np.bincount(place, minlength=n), 1).astype(np.float64)
    with np.errstate(over="ignore"):  # a spread without end makes every number a nought
        mean = np.bincount(place, values / size[place], minlength=n)
        spread = np.sqrt(np.bincount(place, (values - mean[place]) ** 2, minlength=n) / size)
    return np.asarray(mean), np.where(spread > 1e-9, spread, 1.0)


def _moments(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    return float(known.mean()), float(known.std()) or 1.0
