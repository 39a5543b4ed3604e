"""When, and how often, within a visit: the moments of a stay and which codes each of them has.

Idea  a visit is moments in time; each is of a kind (a round, a panel of laboratory values), and a
      code that the visit has is at a moment by how often moments of that kind have it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import ndtr

from manikin.synthesizers.events._parts import array
from manikin.synthesizers.events._quantiles import Quantiles, normal_scores, quantiles
from manikin.synthesizers.events._visits_classes import mixture
from manikin.synthesizers.events._visits_own import Own
from manikin.synthesizers.events.encoding import Histories, distinct

__all__ = ["Moments", "draw_moments", "fit_moments", "moments_of", "usual_kinds"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

MOST = 5000  # moments of a visit
CELLS = 8_000_000  # codes times moments held at once
DAY_US = 86_400_000_000
SHORT = 0.3  # days: a gap below is not moved to an hour of the day


@dataclass(frozen=True)
class Moments:
    """What is learnt of moments; with one kind and one moment a visit, nothing is."""

    alone: Annotated[Floats, array("classes", low=0, high=1)]  # all at one moment
    opening: Annotated[Floats, array("classes", low=0, high=1)]  # the first is at the very start
    spread: Annotated[Floats, array(2, low=0, high=10)]  # of gaps: between visits, within
    hour: Annotated[Floats, array(24, low=0, high=24)]  # against even
    first: Annotated[Floats, array("classes", "moments", low=0, high=1)]  # kind of the first
    step: Annotated[Floats, array("moments", "moments", low=0, high=1)]
    share: Annotated[Floats, array("moments", "codes", low=0, high=1)]
    copies: Annotated[Floats, array("codes", low=0, high=0.9)]  # chance of one more at once
    grid: Annotated[Ints, array(1, kind="i", low=1, high=DAY_US)]  # us


@dataclass(frozen=True, eq=False)
class _Seen:
    """The moments of visits: (moments,) each, by visit and offset."""

    visit: Ints
    offset: Floats
    of: Ints  # (events,) moment of each event


def _seen(h: Histories) -> _Seen:
    new = np.ones(h.of.size, bool)
    new[1:] = (np.diff(h.of) != 0) | (np.diff(h.offset) != 0)
    at = np.flatnonzero(new)
    return _Seen(h.of[at], h.offset[at], np.cumsum(new) - 1)


def moments_of(h: Histories) -> tuple[Ints, Ints]:
    """Return the visit of each moment, and the moment of each event."""
    seen = _seen(h)
    return seen.visit, seen.of


def usual_kinds(m: Moments) -> Floats:
    """Return how often moments are of each kind in the long run, (kinds,)."""
    found = m.first.mean(axis=0)
    for _ in range(50):
        found = found @ m.step
    return np.asarray(found / found.sum())


def fit_moments(
    h: Histories, classes: Ints, z: int, kinds: int, k: int, rng: np.random.Generator
) -> tuple[Moments, Quantiles, Quantiles]:
    """Learn the moments of visits, the quantiles of the days from one to the next, and those of
    the share of a visit's length at which the last one is.
    """
    seen, n_codes = _seen(h), h.n_codes
    many = np.bincount(seen.visit, minlength=h.n)
    whole = np.flatnonzero((h.length > 0) & (many > 0))
    size = np.bincount(classes[whole], minlength=z)
    alone = (np.bincount(classes[whole], weights=many[whole] == 1, minlength=z) + 0.5) / (size + 1)
    opens = np.diff(seen.visit, prepend=-1) != 0
    long = many[seen.visit] > 1
    at = classes[seen.visit]
    count = np.bincount(at[opens & long], minlength=z)
    early = np.bincount(at[opens & long], weights=seen.offset[opens & long] == 0, minlength=z)
    label = _kinds(h, seen, kinds, k, rng)
    y = int(label.max(initial=0)) + 1
    later = np.flatnonzero(~opens)
    gaps = seen.offset[later] - seen.offset[later - 1]
    late = np.flatnonzero(opens & long & (seen.offset > 0))
    all_gaps = np.concatenate([gaps, seen.offset[late]])
    of = np.concatenate([seen.visit[later], seen.visit[late]])
    found = quantiles(all_gaps, classes[of], z, h.whose[of], k)
    first = np.bincount(at[opens] * y + label[opens], minlength=z * y).reshape(z, y) + 0.0
    step = np.bincount(label[later - 1] * y + label[later], minlength=y * y).reshape(y, y) + 0.0
    moments = Moments(
        alone, (early + 0.5) / (count + 1), _spreads(all_gaps, of, classes), _hours(h, seen, opens),
        _shares(first), _shares(step), _occupied(h, seen, label, y, n_codes),
        _copies(h, seen, n_codes), np.array([_grid(seen.offset[seen.offset > 0])]),
    )  # fmt: skip
    stays = whole[many[whole] > 1]
    last = np.zeros(h.n)
    last[seen.visit] = seen.offset  # ascending: the last one stays
    share = np.clip(last[stays] / h.length[stays], 0, 1)
    return moments, found, quantiles(share, classes[stays], z, h.whose[stays], k)


def _kinds(h: Histories, seen: _Seen, kinds: int, k: int, rng: np.random.Generator) -> Ints:
    """Return the kind of each moment, by the codes that it has."""
    size = seen.visit.size
    if size <= np.unique(seen.visit).size:
        return np.zeros(size, np.int64)  # one moment a visit: nothing to tell apart
    sets = sp.csr_matrix((np.ones(h.of.size), (seen.of, h.code)), shape=(size, h.n_codes))
    sets.data[:] = 1.0
    return mixture(sets, h.whose[seen.visit], kinds, k, rng)[1]


def _shares(count: NDArray[Any]) -> Floats:
    usual = count.sum(axis=0) + 1e-3
    usual = usual / usual.sum()
    return np.asarray((count + 2 * usual) / (count.sum(axis=1, keepdims=True) + 2))


def _spreads(gaps: Floats, of: Ints, classes: Ints) -> Floats:
    """Return by how much ranks of gaps differ between visits, and within one."""
    if not gaps.size:
        return np.array([0.0, 1.0])
    score = normal_scores(gaps, classes[of])
    _, place = np.unique(of, return_inverse=True)
    size = np.bincount(place)
    mean = np.bincount(place, weights=score) / size
    freedom = (size - 1).sum()
    within = ((score - mean[place]) ** 2).sum() / freedom if freedom > 0 else 1.0
    between = max(0.0, float((score**2).mean()) - within)
    return np.array([between**0.5, float(within) ** 0.5])


def _hours(h: Histories, seen: _Seen, opens: NDArray[np.bool_]) -> Floats:
    """Return how much oftener than even moments after the first are at an hour of the day."""
    rows = np.flatnonzero(~opens & ~np.isnat(h.start[seen.visit]))
    when = h.start[seen.visit[rows]].view(np.int64) + (seen.offset[rows] * DAY_US).astype(np.int64)
    count = np.bincount(when // 3_600_000_000 % 24, minlength=24) + 5.0
    return np.asarray(count / count.mean(), np.float64)


def _occupied(h: Histories, seen: _Seen, label: Ints, y: int, n_codes: int) -> Floats:
    """Return at which share of a kind's moments a code is, in visits that have it."""
    key = distinct(seen.of * n_codes + h.code)
    moment, code = np.divmod(key, n_codes)
    count = np.bincount(label[moment] * n_codes + code, minlength=y * n_codes).reshape(y, n_codes)
    by_visit = sp.csr_matrix(
        (np.ones(label.size), (label, seen.visit)), shape=(y, h.n)
    )  # moments of each kind in each visit
    starts, codes = h.multi_hot
    has = sp.csr_matrix((np.ones(codes.size), codes, starts), shape=(h.n, n_codes))
    chances = (by_visit @ has).toarray()
    whole = (count.sum(axis=0) + 0.5) / (chances.sum(axis=0) + 1.0)
    return np.asarray(np.clip((count + 2 * whole) / (chances + 2), 0, 1))


def _copies(h: Histories, seen: _Seen, n_codes: int) -> Floats:
    events = np.bincount(h.code, minlength=n_codes)
    different = distinct(seen.of * n_codes + h.code) % max(n_codes, 1)
    moments = np.bincount(different, minlength=n_codes)
    return np.asarray(np.clip(1.0 - (moments + 1.0) / (events + 1.0), 0.0, 0.9))


def _grid(offset: Floats) -> int:
    when = np.rint(offset * DAY_US).astype(np.int64)
    for step in (DAY_US, 3_600_000_000, 900_000_000, 60_000_000, 1_000_000):
        # an offset was days: the last digits of a microsecond are not its own
        if when.size and (np.abs((when + step // 2) % step - step // 2) <= 50).mean() > 0.98:
            return step
    return 1


# ------------------------------------------------------------------ drawing


def draw_moments(
    m: Moments,
    gaps: Quantiles,
    spans: Quantiles,
    classes: Ints,
    start: NDArray[np.datetime64],
    length: Floats,
    visit: Ints,
    code: Ints,
    rng: np.random.Generator,
    traits: tuple[Ints, Own] | None = None,
) -> tuple[Ints, Ints, Floats]:
    """Return the events of visits that have these codes: visit, code and offset, in order.

    `traits` are whose each visit is, and what lasts in those subjects.
    """
    n = classes.size
    long = (length > 0) & (rng.random(n) >= m.alone[classes])
    span = np.where(long, spans.at(classes, rng.random(n)) * length, 0.0)
    pace = rng.standard_normal(n) * m.spread[0]
    if traits is not None:
        pace = _own_pace(pace, traits[1].pace[traits[0]], float(m.spread[0]))
    # a share that many visits have says a whole step: what division lost is given back
    owner, offset, kind = _times(m, gaps, classes, start, span * (1 + 1e-9), pace, rng)
    starts = np.searchsorted(owner, np.arange(n + 1))
    shift, start_at = _own_rates(traits, length, visit, code, np.diff(starts), rng)
    found = []
    size = np.diff(starts)[visit]
    block = np.concatenate([[0], np.cumsum(size)])
    lo = 0
    while lo < visit.size:
        hi = max(lo + 1, int(np.searchsorted(block, block[lo] + CELLS, side="right")) - 1)
        found.append(
            _placed(m, visit[lo:hi], code[lo:hi], size[lo:hi], starts, kind,
                    (shift[lo:hi], start_at[lo:hi]), rng)
        )  # fmt: skip
        lo = hi
    if not found:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0)
    moment, what = (np.concatenate(part) for part in zip(*found, strict=True))
    extra = rng.geometric(1.0 - m.copies[what]) if what.size else np.zeros(0, np.int64)
    moment, what = np.repeat(moment, extra), np.repeat(what, extra)
    order = np.lexsort((what, moment))
    moment, what = moment[order], what[order]
    return owner[moment], what, offset[moment]


def _own_pace(pace: Floats, score: Floats, spread: float) -> Floats:
    """Return the paces of visits, of which what lasts in their subjects is a part."""
    known = ~np.isnan(score)
    if not known.any():
        return pace
    share = min(1.0, float(score[known].var()))
    return np.where(known, np.nan_to_num(score) * spread + pace * np.sqrt(1 - share), pace)


def _own_rates(
    traits: tuple[Ints, Own] | None, length: Floats, visit: Ints, code: Ints, many: Ints,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return the shift of log odds of each code at a visit, and where an even spacing begins.

    NaN where it is not spaced evenly; `many` are the moments of each visit.
    """
    shift, even = np.zeros(code.size), np.zeros(code.size)
    if traits is not None:
        whose, own = traits
        slot = own.often_place[code]
        rows = np.flatnonzero((slot >= 0) & (many[visit] > 1))
        rate, _ = own.at(own.often, own.often_place, whose[visit[rows]], code[rows])
        due = np.exp(rate) * length[visit[rows]] / many[visit[rows]]
        shift[rows] = own.shift(slot[rows], np.clip(due, 1e-4, 0.995))
        even[rows] = own.regular[slot[rows]]
    # codes of one panel are at the same moments: whether, and where, is drawn once a visit
    turn, begin = rng.random(many.size), rng.random(many.size)
    return shift, np.where(turn[visit] < even, begin[visit], np.nan)


def _placed(
    m: Moments, visit: Ints, code: Ints, size: Ints, starts: Ints, kind: Ints,
    own: tuple[Floats, Floats], rng: np.random.Generator,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Return the moments at which the codes of visits are: each at one at least.

    `own` are the shifts of log odds, and where an even spacing begins, NaN for none.
    """
    shift, start_at = own
    which = np.repeat(np.arange(visit.size), size)
    first = np.cumsum(size) - size
    moment = np.arange(which.size) - first[which] + starts[visit[which]]
    share = m.share[kind[moment], code[which]]
    moved = np.flatnonzero(shift[which] != 0)
    odds = np.exp(np.clip(shift[which[moved]], -30, 30))
    share[moved] = share[moved] * odds / (1 - share[moved] + share[moved] * odds)
    hit = rng.random(which.size) < share
    hit = _evenly(share, first, size, start_at, which, hit)
    hit |= size[which] == 1
    none = np.bincount(which, weights=hit, minlength=visit.size) == 0
    rows = np.flatnonzero(none[which])
    if rows.size:  # the moment that is taken, by its share (Gumbel's trick)
        score = np.log(np.maximum(share[rows], 1e-12)) + rng.gumbel(size=rows.size)
        order = np.lexsort((score, which[rows]))
        last = np.append(np.diff(which[rows][order]) != 0, True)
        hit[rows[order[last]]] = True
    return moment[hit], code[which[hit]]


def _evenly(
    share: Floats, first: Ints, size: Ints, start_at: Floats, which: Ints, hit: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return hits, of some codes by systematic sampling: as evenly as shares let them be."""
    some = np.flatnonzero(~np.isnan(start_at) & (size > 0))
    if not some.size:
        return hit
    total = np.concatenate([[0.0], np.cumsum(share)])
    begin = total[first]
    rows = np.flatnonzero(~np.isnan(start_at[which]))
    base = start_at[which[rows]] - begin[which[rows]]
    hit[rows] = np.floor(total[rows + 1] + base) > np.floor(total[rows] + base)
    return hit


def _times(
    m: Moments,
    gaps: Quantiles,
    classes: Ints,
    start: NDArray[np.datetime64],
    length: Floats,
    pace: Floats,
    rng: np.random.Generator,
) -> tuple[Ints, Floats, Ints]:
    """Return the visit, offset and kind of all moments, by visit and offset."""
    n = classes.size
    who = np.arange(n)
    at = np.zeros(n)
    late = (length > 0) & (rng.random(n) >= m.opening[classes])
    late_rows = np.flatnonzero(late)
    at[late_rows] = _next(m, gaps, classes, start, pace, late_rows, at[late_rows], rng)
    at = np.where(at > length, 0.0, at)
    kind = _chosen(m.first[classes], rng)
    owners, offsets, kinds = [who], [at.copy()], [kind.copy()]
    who = who[length > 0]
    for _ in range(MOST):
        if not who.size:
            break
        after = _next(m, gaps, classes, start, pace, who, at[who], rng)
        stays = (after <= length[who]) & (after > at[who])
        who, after = who[stays], after[stays]
        at[who] = after
        kind[who] = _chosen(m.step[kind[who]], rng)
        owners.append(who)
        offsets.append(after)
        kinds.append(kind[who])
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return owner[order], np.concatenate(offsets)[order], np.concatenate(kinds)[order]


def _next(
    m: Moments,
    gaps: Quantiles,
    classes: Ints,
    start: NDArray[np.datetime64],
    pace: Floats,
    who: Ints,
    at: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Return the offset of the next moment of some visits; of two gaps that of a fitting hour."""
    grid = int(m.grid[0])
    base = np.where(np.isnat(start[who]), 0, start[who].view(np.int64))
    found = []
    for _ in range(2):
        score = pace[who] + m.spread[1] * rng.standard_normal(who.size)
        step = np.maximum(gaps.at(classes[who], ndtr(score)), 0.0)
        ticks = np.maximum(np.rint(step * DAY_US / grid), 1.0)
        found.append(at + ticks * grid / DAY_US)
    hours = [
        m.hour[((base + (one * DAY_US).astype(np.int64)) // 3_600_000_000 % 24)] for one in found
    ]
    second = rng.random(who.size) * (hours[0] + hours[1]) >= hours[0]
    near = np.minimum(found[0], found[1]) - at < SHORT
    return np.where(second & ~near, found[1], found[0])


def _chosen(chance: Floats, rng: np.random.Generator) -> Ints:
    total = np.cumsum(chance, axis=1)
    draw = rng.random(len(total)) * total[:, -1]
    return np.asarray(np.minimum((total < draw[:, None]).sum(axis=1), total.shape[1] - 1))
