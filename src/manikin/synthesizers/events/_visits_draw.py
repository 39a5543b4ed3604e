"""Codes of new visits, drawn visit after visit: what comes for the first time, and what comes back.

First times by what a visit is come for all visits in one draw: Poisson counts of all cells are one
Poisson count of their sum, laid out evenly. So no time is spent on cells that stay 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._visits_rates import MOST, Contexts, Rates
from manikin.synthesizers.events._visits_risk import past, since
from manikin.synthesizers.events.encoding import distinct

__all__ = ["Past", "draw_codes"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

CELLS = 20_000_000  # subjects times codes that are held at once
RATES = 4_000_000  # rates that are held at once


@dataclass(eq=False)
class Past:
    """What subjects had until now; (subjects, codes) each."""

    times: NDArray[np.int32]
    first: NDArray[np.int32]  # place of the visit at which it was first
    last: NDArray[np.int32]
    day: NDArray[np.float32]  # on which it was last seen
    now: Bools  # whether it was at the last visit

    @staticmethod
    def none(subjects: int, codes: int) -> Past:
        """Return the past of subjects of whom nothing is known."""
        shape = (subjects, codes)
        return Past(np.zeros(shape, np.int32), np.zeros(shape, np.int32),
                    np.zeros(shape, np.int32), np.zeros(shape, np.float32),
                    np.zeros(shape, bool))  # fmt: skip


def first_times(rates: Rates, contexts: Contexts, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return visits and codes that are hit by what the visit is, by visit; each pair once."""
    n_codes = rates.base.size
    weight = np.bincount(contexts.of, minlength=contexts.n)
    members = np.argsort(contexts.of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(weight)])
    found: list[Ints] = []
    wide = max(1, RATES // max(n_codes, 1))
    for lo in range(0, contexts.n, wide):
        u = np.arange(lo, min(lo + wide, contexts.n))
        lam = _by_context(rates, contexts, u) * weight[u][:, None]
        total = np.cumsum(lam.ravel())
        if not total.size or total[-1] <= 0:
            continue
        hits = rng.poisson(total[-1])
        # in order, so that the search walks through memory
        cell = np.searchsorted(total, np.sort(rng.random(hits)) * total[-1], side="right")
        of, code = np.divmod(np.minimum(cell, total.size - 1), n_codes)
        member = starts[u[of]] + (rng.random(hits) * weight[u[of]]).astype(np.int64)
        found.append(members[member] * n_codes + code)
    key = distinct(np.concatenate(found)) if found else np.zeros(0, np.int64)
    return np.divmod(key, max(n_codes, 1))


def _by_context(rates: Rates, contexts: Contexts, u: Ints) -> Floats:
    """Return the rates of first times at some combinations, (combinations, codes)."""
    log_rate = rates.base + rates.by_class[contexts.classes[u]]
    log_rate += rates.by_profile[contexts.profiles[u]] + rates.by_age[contexts.ages[u]]
    log_rate += rates.by_sex[contexts.sexes[u]]
    return np.asarray(np.exp(np.clip(log_rate, -60, np.log(MOST))))


def draw_codes(
    rates: Rates,
    contexts: Contexts,
    starts: Ints,
    day: Floats,
    needed: Bools,
    rng: np.random.Generator,
    past_of: Past | None = None,
    before: Ints | None = None,
) -> tuple[Ints, Ints]:
    """Return visits and codes, sorted by both.

    `starts` says where each subject's visits begin; `day` is when a visit is, NaN for never.
    At `needed` visits there is one code at least. `past_of` and `before` are what subjects had
    already, and at how many visits.
    """
    n_codes, subjects = rates.base.size, starts.size - 1
    visit, code = first_times(rates, contexts, rng)
    hits = np.searchsorted(visit, np.arange(contexts.of.size + 1))
    children = _children(rates.beside, n_codes), _children(rates.before, n_codes)
    found: list[Ints] = []
    block = max(1, CELLS // max(n_codes, 1))
    for lo in range(0, subjects, block):
        hi = min(lo + block, subjects)
        own = Past.none(hi - lo, n_codes) if past_of is None else _rows(past_of, lo, hi)
        seen = np.zeros(hi - lo, np.int64) if before is None else before[lo:hi]
        walk = _Walk(rates, contexts, children, needed, own, rng)
        lengths = np.diff(starts[lo : hi + 1])
        for t in range(int(lengths.max(initial=0))):
            who = np.flatnonzero(lengths > t)
            at = starts[lo + who] + t
            begin, size = hits[at], hits[at + 1] - hits[at]
            row = np.repeat(np.arange(who.size), size)
            place = np.arange(row.size) + np.repeat(begin - np.cumsum(size) + size, size)
            found.append(walk.step(who, at, seen[who] + t, day[at], row, code[place]))
    key = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
    return np.divmod(key, max(n_codes, 1))


def _rows(whole: Past, lo: int, hi: int) -> Past:
    names = ("times", "first", "last", "day", "now")
    return Past(*(getattr(whole, name)[lo:hi].copy() for name in names))


def _children(causes: Ints, n: int) -> tuple[Ints, Ints, Ints]:
    """Return where the children of each code begin, (codes + 1,), them and the edge each is by."""
    child, edge = np.nonzero(causes >= 0)
    cause = causes[child, edge]
    order = np.argsort(cause, kind="stable")
    return np.searchsorted(cause[order], np.arange(n + 1)), child[order], edge[order]


@dataclass(eq=False)
class _Walk:
    """A block of subjects on its way through visits."""

    rates: Rates
    contexts: Contexts
    children: tuple[tuple[Ints, Ints, Ints], tuple[Ints, Ints, Ints]]  # beside, before
    needed: Bools
    past: Past
    rng: np.random.Generator

    def step(self, who: Ints, at: Ints, place: Ints, day: Floats, row: Ints, code: Ints) -> Ints:
        """Draw the codes of one visit of each of some subjects; return visit * codes + code."""
        n_codes = self.rates.base.size
        known = self.past.times[who] > 0
        present = np.zeros((who.size, n_codes), bool)
        fresh = ~known[row, code]
        present[row[fresh], code[fresh]] = True
        self._return(who, at, place, day, known, present)
        self._follow(who, known, present)
        self._spread(known, present)
        empty = np.flatnonzero(self.needed[at] & ~present.any(axis=1))
        present[empty, self._one(at[empty])] = True
        r, c = np.nonzero(present)
        past, s = self.past, who[r]
        new = past.times[s, c] == 0
        past.first[s[new], c[new]] = place[r[new]]
        past.times[s, c] += 1
        past.last[s, c] = place[r]
        past.day[s, c] = day[r]
        past.now[who] = present
        return np.asarray(at[r] * n_codes + c)

    def _one(self, at: Ints) -> Ints:
        """Draw one code for each of some visits, by what the visit is."""
        u, which = np.unique(self.contexts.of[at], return_inverse=True)
        found = np.zeros(at.size, np.int64)
        wide = max(1, RATES // max(self.rates.base.size, 1))
        for lo in range(0, u.size, wide):
            total = np.cumsum(_by_context(self.rates, self.contexts, u[lo : lo + wide]), axis=1)
            total += np.concatenate([[0.0], np.cumsum(total[:-1, -1])])[:, None]
            rows = np.flatnonzero((which >= lo) & (which < lo + wide))
            own = which[rows] - lo
            low = np.where(own > 0, total[own - 1, -1], 0.0)
            draw = low + self.rng.random(rows.size) * (total[own, -1] - low)
            cell = np.searchsorted(total.ravel(), draw, side="right")
            found[rows] = np.minimum(cell, total.size - 1) % total.shape[1]
        return found

    def _return(
        self, who: Ints, at: Ints, place: Ints, day: Floats, known: Bools, present: Bools
    ) -> None:
        """Draw which codes come back by their own past."""
        r, c = np.nonzero(known)
        s, own = who[r], self.past
        lag = place[r] - own.last[s, c]
        kind = past(lag, own.times[s, c].astype(np.int64), place[r] - own.first[s, c])
        time = since(day[r] - own.day[s, c])
        of_class = self.contexts.classes[self.contexts.of[at]][r]
        lam = self.rates.again[c, kind] * self.rates.again_class[of_class, c]
        lam = np.minimum(lam * self.rates.again_since[c, time], MOST)
        hit = self.rng.random(r.size) < -np.expm1(-lam)
        present[r[hit], c[hit]] = True

    def _follow(self, who: Ints, known: Bools, present: Bools) -> None:
        """Draw first times that codes of the visit before bring."""
        starts, child, edge = self.children[1]
        if not child.size:
            return
        r, c = np.nonzero(self.past.now[who])
        row, to, by = _spread_out(r, c, starts, child, edge)
        lam = np.where(known[row, to], 0.0, self.rates.before_first[to, by])
        hit = self.rng.random(row.size) < -np.expm1(-lam)
        present[row[hit], to[hit]] = True

    def _spread(self, known: Bools, present: Bools) -> None:
        """Draw what codes bring beside them, and those in turn, until nothing new comes."""
        starts, child, edge = self.children[0]
        r, c = np.nonzero(present)
        while child.size and r.size:
            row, to, by = _spread_out(r, c, starts, child, edge)
            seen = known[row, to]
            lam = np.where(seen, self.rates.beside_again[to, by], self.rates.beside_first[to, by])
            hit = self.rng.random(row.size) < -np.expm1(-lam)
            hit &= ~present[row, to]
            key = distinct(row[hit] * present.shape[1] + to[hit])
            r, c = np.divmod(key, present.shape[1])
            present[r, c] = True


def _spread_out(
    row: Ints, code: Ints, starts: Ints, child: Ints, edge: Ints
) -> tuple[Ints, Ints, Ints]:
    """Return for each row and code the children of the code: row, child and edge."""
    size = starts[code + 1] - starts[code]
    at = np.arange(int(size.sum())) + np.repeat(starts[code] - np.cumsum(size) + size, size)
    return np.repeat(row, size), child[at], edge[at]
