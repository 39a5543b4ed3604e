"""When visits are: through the slots of a plan, or after gaps that depend on the gaps before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._panel_channels import Sheet
from manikin.synthesizers.events._panel_marginals import Marginal
from manikin.synthesizers.events._panel_slots import Slots, align, path

__all__ = ["Times", "scores_of"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

PLANNED = 0.25  # most mean deviation of an interval from the plan's, by the mean interval
BINS = 10  # of time since the first visit, where there is no plan
GRIDS = (60, 24, 30, 15, 10)  # numbers of units that times may be multiples of
ON_GRID = 0.4
ROUNDS = 12  # by which it is learnt from what visits count on
TRUST = 10.0  # visits of one slot by which it has its own shares of that


@dataclass(frozen=True, eq=False)
class Times:
    """The visit process. With a plan, `when` is the slot; without one, time since the first visit.

    With a plan, a visit counts on from the plan itself, from how late the one before was, or from
    how late the subject usually is (`bases`: a slot's chances of each), and has a shift of its own;
    where there are no bases, from a part of how late the one before was (`lasting`). Without a
    plan, shifts are gaps, and their normal scores persist from visit to visit.
    """

    planned: bool
    centre: Floats  # (whens,) units from the anchor; without a plan: where each bin begins
    first: Floats  # (whens,) chance to begin there
    step: Floats  # (whens, whens) chance of the next slot; without a plan: (2, 2) on the grid
    shift: tuple[Marginal, ...]  # (whens,)
    steady: float  # part of a shift's variance that is the subject's own
    lasting: Floats  # (whens,) part of the last visit's lateness, or correlation with its score
    grid: int  # units of which most times are multiples; 0 for none
    width: Floats  # (slots,) usual deviation of the interval that leads to a slot; none unplanned
    measured: Floats  # (slots, channels) chance of each channel; none without a plan
    bases: Floats = field(default_factory=lambda: np.zeros((0, 3)))  # (slots, 3) or none

    @property
    def n(self) -> int:
        """Number of whens."""
        return int(self.centre.size)

    @staticmethod
    def fit(panel: Sheet, k: int) -> tuple[Times, Ints, Ints]:
        """Return the process, the `when` of each visit, and the anchor of each subject."""
        counts = np.sort(panel.counts)[::-1]
        enough = max(k, round(0.05 * np.count_nonzero(counts)))
        most = int(counts[enough - 1]) if counts.size >= enough else 0
        follows = np.flatnonzero(np.diff(panel.whose) == 0)
        gap = (panel.time[follows + 1] - panel.time[follows]).astype(np.float64)
        if 1 <= most <= 64 and (found := align(panel, most, k)) is not None:
            slots, slot = found
            off = gap - (slots.centre[slot[follows + 1]] - slots.centre[slot[follows]])
            if np.abs(off).sum() <= PLANNED * max(gap.sum(), 1.0):
                return _planned(panel, slots, slot, k)
        return _unplanned(panel, follows, gap, k)

    def placed(self, panel: Sheet) -> tuple[Ints, Ints]:
        """Return the `when` of each visit of other subjects, and their anchors."""
        if self.planned:
            slot = path(panel, Slots(self.centre, self.width, self.first, self.step,
                                     self.measured))  # fmt: skip
            return slot, anchors(panel, slot, self.centre)
        anchor, some = np.zeros(panel.n_subjects, np.int64), panel.counts > 0
        anchor[some] = panel.time[panel.starts[:-1][some]]
        on = (panel.time % self.grid == 0) if self.grid else np.zeros(panel.time.size, bool)
        return self.whens((panel.time - anchor[panel.whose]).astype(np.float64), on), anchor

    def jumps(self, panel: Sheet, when: Ints) -> Floats:
        """Return 1 for visits right before which slots were skipped, else 0."""
        found = np.zeros(when.size)
        if self.planned and when.size:
            found[1:] = (np.diff(when) > 1) & (panel.place[1:] > 0)
        return found

    def whens(self, since: Floats, on: NDArray[np.bool_]) -> Ints:
        """Return the `when` of visits without a plan, so long after the first."""
        found = np.searchsorted(self.centre[:: 2 if self.grid else 1], since, side="right") - 1
        found = np.maximum(found, 0)
        return np.asarray(2 * found + on if self.grid else found)

    def begin(self, anchor: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Floats, Floats]:
        """Return time and `when` of first visits, with their shift's score and its steady part."""
        n = anchor.size
        when = _drawn(np.broadcast_to(np.cumsum(self.first), (n, self.n)), rng)
        own, score = rng.standard_normal(n), rng.standard_normal(n)
        if not self.planned:
            on = (anchor % self.grid == 0) if self.grid else np.zeros(n, bool)
            return anchor.copy(), self.whens(np.zeros(n), on), own, score
        late, own = np.rint(self._shifts(when, score)), np.zeros(n)
        return anchor + np.rint(self.centre[when] + late).astype(np.int64), when, own, late

    def next(
        self, time: Ints, when: Ints, anchor: Ints, own: Floats, score: Floats, push: Floats,
        rng: np.random.Generator,
    ) -> tuple[Ints, Ints, Floats]:  # fmt: skip
        """Return time, `when` and score of the next visits; every one is later than the last."""
        fresh = rng.standard_normal(time.size)
        if self.planned:
            new = _drawn(np.cumsum(self.step, 1)[when], rng)
            base = self.lasting[new] * score
            if self.bases.size:
                chosen = _drawn(np.cumsum(self.bases, 1)[new], rng)
                base = np.choose(chosen, [np.zeros(time.size), score, own])
            late = np.rint(base) + np.rint(self._shifts(new, fresh))
            found = anchor + np.rint(self.centre[new] + late).astype(np.int64)
            found = np.maximum(found, time + 1)
            return found, new, (found - anchor) - np.rint(self.centre[new])
        kept = self.lasting[when]
        score = kept * score + np.sqrt(1 - kept**2) * fresh
        gap = np.maximum(self._shifts(when, self._mixed(own, score) + push), 1)
        found = time + np.rint(gap).astype(np.int64)
        on = np.zeros(time.size, bool)
        if self.grid:
            was = time % self.grid == 0
            on = rng.random(time.size) < self.step[was.astype(int), 1]
            near = np.rint(found / self.grid).astype(np.int64) * self.grid
            near = np.where(near > time, near, near + self.grid)
            found = np.where(on, near, found)
            on = found % self.grid == 0
        return found, self.whens((found - anchor).astype(np.float64), on), score

    def usual(self, own: Floats, before: Floats, late: Floats) -> Floats:
        """Return how late subjects usually are, given what they were before, last time and now.

        The median of the three: a visit that is late by itself does not change it, two do.
        """
        if not self.planned:
            return own
        return np.asarray(np.maximum(np.minimum(own, before),
                                     np.minimum(np.maximum(own, before), late)))  # fmt: skip

    def _mixed(self, own: Floats, score: Floats) -> Floats:
        return np.asarray(np.sqrt(self.steady) * own + np.sqrt(1 - self.steady) * score)

    def _shifts(self, when: Ints, scores: Floats) -> Floats:
        found = np.zeros(when.size)
        for w in np.unique(when):
            own = when == w
            found[own] = self.shift[w].values(scores[own])
        return found


def scores_of(times: Times, panel: Sheet, when: Ints, anchor: Ints) -> Floats:
    """Return how late each visit is; without a plan: the score of the gap after it, or NaN.

    Both persist from visit to visit of a subject.
    """
    if times.planned:
        return np.asarray(panel.time - anchor[panel.whose] - np.rint(times.centre[when]), float)
    found, values = np.full((2, panel.whose.size), np.nan)
    follows = np.flatnonzero(np.diff(panel.whose) == 0)
    values[follows] = panel.time[follows + 1] - panel.time[follows]
    for w in range(times.n):
        own = when == w
        found[own] = times.shift[w].scores(values[own])
    return found


def anchors(panel: Sheet, slot: Ints, centre: Floats) -> Ints:
    """Return the time from which a subject's slots count, 0 for subjects without a visit."""
    found = np.zeros(panel.n_subjects, np.int64)
    zero = int(np.argmin(np.abs(centre)))
    back = panel.time - np.rint(centre[slot]).astype(np.int64)
    starts = panel.starts[:-1][panel.counts > 0]
    found[panel.whose[starts]] = back[starts]
    own = np.flatnonzero(slot == zero)[::-1]  # the first of two visits in a slot stands
    found[panel.whose[own]] = back[own]
    return found


def _planned(panel: Sheet, slots: Slots, slot: Ints, k: int) -> tuple[Times, Ints, Ints]:
    centre = slots.centre
    anchor = anchors(panel, slot, centre)
    off = np.asarray(panel.time - anchor[panel.whose] - np.rint(centre[slot]), np.float64)
    bases, rest = _bases(panel, slot, off, centre.size)
    pooled = Marginal.fit(rest, panel.whose, k, 0)
    shift = []
    for s in range(centre.size):
        own = slot == s
        enough = np.unique(panel.whose[own]).size >= 2 * k
        shift.append(Marginal.fit(rest[own], panel.whose[own], k, 0) if enough else pooled)
    made = Times(True, centre, slots.first, slots.step, tuple(shift), 0.0,
                 np.zeros(centre.size), 0, slots.width, slots.measured, bases)  # fmt: skip
    return made, slot, anchor


def usual_of(times: Times, panel: Sheet, off: Floats) -> tuple[Floats, Floats]:
    """Return how late the visit before each was, and how late its subject usually was by then.

    The last row of each subject's is followed by none: see `Times.usual` for what comes after it.
    """
    before = np.concatenate([[0.0], off[:-1]]) if off.size else off
    before = np.where(panel.place > 0, before, 0.0)
    found = np.zeros(off.size)
    for v in range(1, int(panel.counts.max(initial=0))):
        at = panel.starts[:-1][panel.counts > v] + v
        found[at] = times.usual(found[at - 1], before[at - 1], off[at - 1])
    return before, found


def _bases(panel: Sheet, slot: Ints, off: Floats, n: int) -> tuple[Floats, Floats]:
    """Return the chances of what visits of each slot count on from, and the shifts beside it.

    A mixture by expectation and maximisation: shifts are nought, or Laplace distributed.
    """
    planned = Times(True, np.zeros(n), np.ones(n), np.eye(n), (), 0.0, np.zeros(n), 0,
                    np.ones(n), np.zeros((n, 0)))  # fmt: skip
    before, own = usual_of(planned, panel, off)
    rest = off - np.rint(np.stack([np.zeros(off.size), before, own]))  # (3, visits)
    many = np.bincount(slot, minlength=n)
    chance, exact, width = np.full((n, 3), 1 / 3), np.full(n, 0.5), np.ones(n)
    weight = np.full(rest.shape, 1 / 3)
    for _ in range(ROUNDS):
        wide = width[slot]
        weight = chance[slot].T * np.where(
            rest == 0, exact[slot], (1 - exact[slot]) / (2 * wide) * np.exp(-np.abs(rest) / wide)
        )
        weight /= np.maximum(weight.sum(0), 1e-300)
        whole = weight.mean(1) if off.size else np.full(3, 1 / 3)
        sums = np.stack([np.bincount(slot, part, minlength=n) for part in weight], 1)
        chance = (sums + TRUST * whole) / (many[:, None] + TRUST)
        none = np.bincount(slot, (weight * (rest == 0)).sum(0), minlength=n)
        size = np.bincount(slot, (weight * np.abs(rest)).sum(0), minlength=n)
        exact = (none + 0.5) / (many + 1.0)
        width = np.maximum((size + 1.0) / (many - none + 1.0), 0.5)
    return chance, np.take_along_axis(rest, weight.argmax(0)[None], 0)[0]


def _unplanned(panel: Sheet, follows: Ints, gap: Floats, k: int) -> tuple[Times, Ints, Ints]:
    anchor = np.zeros(panel.n_subjects, np.int64)
    some = panel.counts > 0
    anchor[some] = panel.time[panel.starts[:-1][some]]
    since = (panel.time - anchor[panel.whose]).astype(np.float64)
    later = since[since > 0]
    bins = int(np.clip(np.unique(panel.whose).size // (4 * k), 1, BINS))
    inner = np.quantile(later, np.linspace(0, 1, bins + 1)[1:-1]) if later.size else np.zeros(0)
    edges = np.unique(np.concatenate([[0.0], np.rint(inner)]))
    n = max(1, panel.time.size)
    shares = {g: np.count_nonzero(panel.time % g == 0) / n for g in GRIDS}
    grid = next((g for g, share in shares.items() if share > max(ON_GRID, 5 / g)), 0)
    grid = 0 if grid and shares[grid] > 0.999 else grid
    on = (panel.time % grid == 0) if grid else np.zeros(panel.time.size, bool)
    moved = np.full((2, 2), 0.5)
    np.add.at(moved, (on[follows].astype(int), on[follows + 1].astype(int)), 1.0)
    centre = np.repeat(edges, 2) if grid else edges
    n_channels = panel.cells.shape[1]
    empty = Times(False, centre, np.full(centre.size, 1 / max(1, centre.size)),
                  moved / moved.sum(1, keepdims=True), (), 0.0,
                  np.zeros(centre.size), grid, np.zeros(0),
                  np.zeros((0, n_channels)))  # fmt: skip
    when = empty.whens(since, on)
    pooled = Marginal.fit(gap, panel.whose[follows], k, 0)
    shift = []
    for w in range(centre.size):
        own = when[follows] == w
        whose = panel.whose[follows[own]]
        enough = np.unique(whose).size >= 2 * k
        shift.append(Marginal.fit(gap[own], whose, k, 0) if enough else pooled)
    made = replace(empty, shift=tuple(shift))
    return _persistent(made, panel, when, anchor), when, anchor


def _persistent(times: Times, panel: Sheet, when: Ints, anchor: Ints) -> Times:
    """Return the process with how much of a shift is the subject's own, and how long it lasts."""
    score = scores_of(times, panel, when, anchor)
    near, far = _correlation(score, panel.whose, 1), _correlation(score, panel.whose, 4)
    steady = float(np.clip(far, 0.0, 0.9))
    lasting = float(np.clip((near - steady) / (1 - steady), -0.5, 0.95))
    return replace(times, steady=steady, lasting=np.full(times.n, lasting))


def _correlation(score: Floats, whose: Ints, lag: int) -> float:
    """Return the correlation of scores so many visits apart, 0 where there are too few."""
    if score.size <= lag:
        return 0.0
    a, b = score[:-lag], score[lag:]
    own = (whose[:-lag] == whose[lag:]) & ~np.isnan(a) & ~np.isnan(b)
    if own.sum() < 20:
        return 0.0
    square = float(np.sqrt((a[own] ** 2).mean() * (b[own] ** 2).mean()))
    return float((a[own] * b[own]).mean()) / square if square > 1e-9 else 0.0


def _drawn(cumulative: Floats, rng: np.random.Generator) -> Ints:
    """Return a place in each row, by cumulative chances, (rows, places)."""
    at = (rng.random(len(cumulative))[:, None] > cumulative / cumulative[:, -1:]).sum(1)
    return np.asarray(np.minimum(at, cumulative.shape[1] - 1), np.int64)
