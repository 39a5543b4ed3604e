"""Planned visits: the slots of a schedule, found by aligning everybody's visits to them.

Visits run through the slots from left to right; a slot may be skipped, and one may be visited
twice. Slots are found by Viterbi training of such a hidden Markov model (Durbin, Eddy, Krogh and
Mitchison, "Biological sequence analysis", 1998, §5), whose states give off the days since the slot
before and which channels are measured, so that two visits on neighbouring days stay apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._panel_channels import Sheet

__all__ = ["Slots", "align", "path"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

MOST_SLOTS = 64
TRAINED_ON = 1500  # subjects by whom slots are found
ROUNDS = 6
ANCHORS = 4  # first slots from which days may be counted
SEEN = 0.2  # visits that the prior of the next slot counts for
TWICE = 0.02  # prior of a second visit in one slot, by that of going on
IMPOSSIBLE = -1e12
LOOKED_UP = 10_000_000  # most numbers of a table of what follows what
FAR, TAIL = 12.0, 4.0  # widths from which it is a power's tail, and which power


@dataclass(frozen=True, eq=False)
class Slots:
    """Slots in order, and how visits go through them."""

    centre: Floats  # (slots,) units from the anchor
    width: Floats  # (slots,) usual deviation of the interval that leads to it
    first: Floats  # (slots,) chance of beginning there
    step: Floats  # (slots, slots) chance of the next, where there is one
    measured: Floats  # (slots, channels) chance of each channel


def align(panel: Sheet, most: int, k: int) -> tuple[Slots, Ints] | None:
    """Return the slots and that of each visit; None where visits follow no plan.

    `most` is the least number of visits that only few subjects pass.
    """
    counts = panel.counts
    n_slots: int = min(most, MOST_SLOTS)
    full = np.flatnonzero(counts == n_slots)
    if full.size < k:
        full = np.flatnonzero(counts >= n_slots)
    if n_slots < 1 or full.size < k:
        return None
    begin = panel.starts[full]
    grid = panel.time[begin[:, None] + np.arange(n_slots)]
    apart = np.median(np.diff(grid, axis=1), axis=0) if n_slots > 1 else np.zeros(0)
    centre = np.concatenate([[0.0], np.cumsum(apart)])
    seen = ~np.isnan(panel.cells)
    measured = np.stack([seen[begin + s].mean(0) for s in range(n_slots)])
    width: Floats = np.full(
        n_slots, max(1.0, 0.15 * float(np.median(apart)) if apart.size else 1.0)
    )
    slots = Slots(centre, width, _share(np.eye(n_slots)[0]), _steps(np.zeros((n_slots,) * 2),
                  np.ones(n_slots)), _certain(measured, full.size))  # fmt: skip
    train = panel
    chosen = np.flatnonzero(counts)
    if chosen.size > TRAINED_ON:
        train = panel.subset(chosen[:: chosen.size // TRAINED_ON + 1])
    for _ in range(ROUNDS):
        slots = _learn(train, slots, path(train, slots))
    slots = _anchored(train, slots, path(train, slots))
    return slots, path(panel, slots)


def path(panel: Sheet, slots: Slots) -> Ints:
    """Return the likeliest slot of each visit (Viterbi), (visits,)."""
    found = np.zeros(panel.whose.size, np.int64)
    n_slots = slots.centre.size
    block = max(1, 2_000_000 // n_slots**2)
    with np.errstate(divide="ignore"):
        step = np.maximum(np.log(slots.step), IMPOSSIBLE)
        first = np.maximum(np.log(slots.first), IMPOSSIBLE)
    yes, no = np.log(slots.measured), np.log1p(-slots.measured)
    seen = ~np.isnan(panel.cells)
    fits = seen @ (yes - no).T + no.sum(1)
    going = _going(panel, slots, step)
    someone = np.flatnonzero(panel.counts)
    for at in range(0, someone.size, block):
        rows = someone[at : at + block]
        begin, counts = panel.starts[rows], panel.counts[rows]
        score = first + fits[begin]
        back = np.zeros((int(counts.max()), rows.size, n_slots), np.int8)
        for v in range(1, int(counts.max())):
            on = np.flatnonzero(counts > v)
            here = begin[on] + v
            total = score[on][:, :, None] + going(panel.time[here] - panel.time[here - 1])
            best = total.argmax(1)
            back[v, on] = best
            score[on] = np.take_along_axis(total, best[:, None, :], 1)[:, 0] + fits[here]
        state = score.argmax(1)
        for v in range(int(counts.max()) - 1, -1, -1):
            on = np.flatnonzero(counts > v)
            found[begin[on] + v] = state[on]
            state[on] = back[v, on, state[on]]
    return found


def _going(panel: Sheet, slots: Slots, step: Floats) -> Callable[[Ints], Floats]:
    """Return what says how likely slots follow each other after gaps, (gaps, slots, slots).

    Different gaps are few where times are whole days or hours: each is looked up then.
    """
    expected = slots.centre[None, :] - slots.centre[:, None]

    def likely(gap: Ints) -> Floats:
        off = np.abs(gap[:, None, None] - expected) / slots.width
        return np.asarray(step - _unlikely(off) - np.log(slots.width))

    each = np.unique(np.diff(panel.time)[np.diff(panel.whose) == 0])
    if each.size * expected.size > min(LOOKED_UP, panel.time.size * expected.size):
        return likely
    table = likely(each)
    return lambda gap: table[np.searchsorted(each, gap)]


def _unlikely(off: Floats) -> Floats:
    """Return how unlikely it is to be so many widths off: Laplace, with the tail of a power."""
    return np.minimum(off, FAR) + TAIL * np.log(np.maximum(off, FAR) / FAR)


def _learn(panel: Sheet, slots: Slots, slot: Ints) -> Slots:
    """Return the slots as aligned visits show them."""
    n = slots.centre.size
    follows = np.flatnonzero(np.diff(panel.whose) == 0)
    here, there = slot[follows], slot[follows + 1]
    gap = (panel.time[follows + 1] - panel.time[follows]).astype(np.float64)
    centre, width = slots.centre.copy(), slots.width.copy()
    for s in range(1, n):
        own = (there == s) & (here < s)
        if own.sum() >= 3:
            centre[s] = max(np.median(centre[here[own]] + gap[own]), centre[s - 1])
        else:
            centre[s] = max(centre[s], centre[s - 1])
    off = np.abs(gap - (centre[there] - centre[here]))
    if off.size:  # a few that are far off shall not make their slot so wide that more go there
        off = np.minimum(off, FAR * max(0.5, float(np.median(off))))
    whole = max(0.5, float(off.mean()) if off.size else 0.5)
    for s in range(n):
        own = there == s
        width[s] = max(0.5, (off[own].sum() + 2 * whole) / (own.sum() + 2))
    starts = panel.starts[:-1][panel.counts > 0]
    moved = np.zeros((n, n))
    np.add.at(moved, (here, there), 1.0)
    seen = ~np.isnan(panel.cells)
    total = np.bincount(slot, minlength=n)
    measured = np.zeros((n, seen.shape[1]))
    for s in np.flatnonzero(total).tolist():
        measured[s] = seen[slot == s].mean(0)
    present = total / max(1, starts.size)
    begun = np.bincount(slot[starts], minlength=n).astype(np.float64)
    return Slots(centre, width, _share(begun + 0.02), _steps(moved, present),
                 _certain(measured, total[:, None]))  # fmt: skip


def _anchored(panel: Sheet, slots: Slots, slot: Ints) -> Slots:
    """Return slots whose days count from the one from which all others vary least."""
    best, chosen = np.inf, slots
    for a in range(min(ANCHORS, slots.centre.size)):
        rows = np.flatnonzero(slot == a)
        if rows.size < 0.8 * np.count_nonzero(panel.counts):
            continue
        start = np.full(panel.n_subjects, np.nan)
        start[panel.whose[rows]] = panel.time[rows]
        offset = panel.time - start[panel.whose]
        centre, spread = slots.centre - slots.centre[a], 0.0
        for s in range(centre.size):
            own = offset[(slot == s) & ~np.isnan(offset)]
            if own.size >= 3:
                centre[s] = np.median(own)
                spread += float(np.minimum(np.abs(own - centre[s]), 30 * slots.width[s]).sum())
        if spread < best:
            best = spread
            chosen = Slots(np.maximum.accumulate(centre), slots.width, slots.first, slots.step,
                           slots.measured)  # fmt: skip
    return chosen


def _steps(moved: Floats, present: Floats) -> Floats:
    """Return chances of the next slot: what was seen, and beside it that slots are skipped."""
    n = present.size
    held = np.clip(present, 0.02, 0.995)
    prior = np.zeros((n, n))
    for s in range(n - 1):
        skipped = np.concatenate([[1.0], np.cumprod(1 - held[s + 1 : -1])])
        prior[s, s + 1 :] = held[s + 1 :] * skipped
        prior[s] /= prior[s].sum()
    prior += TWICE * np.eye(n)
    mixed = moved + SEEN * prior
    return np.asarray(mixed / mixed.sum(1, keepdims=True))


def _share(weights: Floats) -> Floats:
    return np.asarray((weights + 1e-6) / (weights + 1e-6).sum())


def _certain(share: Floats, n: Ints | int) -> Floats:
    """Return shares as chances, never nought nor one."""
    return np.asarray((share * n + 0.5) / (n + 1.0))
