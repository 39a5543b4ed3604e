"""How visits follow each other, under a budget: noisy sums, shrunk as their noise asks.

Reference  `_visits_process` (what is drawn with it). The share of visits by habit is told by
           moments instead of EM: with q the mean share of earlier visits of the class that came, s
           that of a visit drawn by habit, a that by what the class before says, and b the part of
           a that habit itself put there, q = a + h (s - b), so h = (q - a) / (s - b)
Sensitivity  each visit adds a few ones (or shares that add up to one) to its subject's vector;
           that is shortened to the norm that the noise is of. What ends a record, or opens it, is
           there once a subject: its norm is 1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.synthesizers.events._quantiles import Quantiles
from manikin.synthesizers.events._visits_private_classes import trusted
from manikin.synthesizers.events._visits_private_grid import DAYS, bought_quantiles
from manikin.synthesizers.events._visits_private_purse import Bounds, Noisy, Purse, Told
from manikin.synthesizers.events._visits_process import GRIDS_US, URNS, Process, urn
from manikin.synthesizers.events.encoding import Histories

__all__ = ["Labels", "bought_process", "paces", "sizes_of_classes"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MOST_HABIT = 0.95
ON_GRID = 0.9  # share of visits on a step from which on all are
FAR = 3.0  # normal scores of paces


@dataclass(frozen=True)
class Labels:
    """What tells the classes of visits and of subjects: functions of each by itself."""

    visits: Any  # (Histories) → (visits,), the last class for what has no time
    profiles: Any  # (Histories) → (subjects,)
    classes: int
    n_profiles: int


def sizes_of_classes(purse: Purse, labels: Labels, kinds: Ints, bounds: Bounds) -> dict[str, Noisy]:
    """Return visits by class and kind, and how many of a class end and bear a number."""
    z, n = labels.classes, kinds.size

    def tell(h: Histories) -> Told:
        of = labels.visits(h)
        place = [of * n + np.searchsorted(kinds, h.kind)]
        base = z * n
        for flag in (h.ended, h.numbered):
            place.append(np.where(flag, base + of, base + z + of))
            base += 2 * z
        return Told(np.tile(h.whose, 3), np.concatenate(place))

    found = purse.buy(tell, z * n + 4 * z, norm=np.sqrt(3) * bounds.by_class, share="visits",
                      what="visits by class and kind")  # fmt: skip
    parts = np.split(found.value, np.cumsum([z * n, z, z, z]))
    names = ("kinds", "ended", "not ended", "numbered", "not numbered")
    shapes = ((z, n), *[(z,)] * 4)
    return {name: Noisy(part.reshape(shape), found.noise)
            for name, part, shape in zip(names, parts, shapes, strict=True)}  # fmt: skip


def bought_process(
    purse: Purse, labels: Labels, bounds: Bounds, by_kind: dict[str, Noisy], kinds: Ints,
    deaths: Ints, reached: Floats,
) -> tuple[Process, Quantiles, Quantiles, Quantiles]:  # fmt: skip
    """Buy the process, and the quantiles of gaps, of lengths of stay, of days until death."""
    z = labels.classes
    visits = np.maximum(by_kind["kinds"].value.sum(axis=1), 1.0)
    first = _opening(purse, labels, visits)
    step, habit = _transitions(purse, labels, bounds, visits)
    gaps = bought_quantiles(
        purse, lambda h: _gaps(h, labels), DAYS, z, norm=bounds.by_class, share="gaps",
        what="days between visits",
    )  # fmt: skip
    lengths = bought_quantiles(
        purse, lambda h: (h.whose, labels.visits(h), h.length), DAYS, z, norm=bounds.by_class,
        share="lengths of stay", what="days that visits last",
    )  # fmt: skip
    delays = bought_quantiles(
        purse, _delays, DAYS, 1, norm=1.0, share="deaths", what="days from the last event to death",
        part=0.5,
    )  # fmt: skip
    last, dies = _endings(purse, labels, deaths, visits)
    day, month, hour, grid = _calendar(purse, labels, bounds)
    goes_on = np.clip(reached[1:] / np.maximum(reached[:-1], 1e-6), 0.0, 1.0)
    goes_on = np.append(goes_on, 0.0) if goes_on.size else np.zeros(1)
    spread = _spread(purse, labels, bounds, gaps)
    process = Process(
        first, step, habit, last, goes_on, np.array([spread]), day, month, hour,
        np.array([grid]), kinds, _by_class(by_kind["kinds"]),
        _flags(by_kind["ended"], by_kind["not ended"]),
        _flags(by_kind["numbered"], by_kind["not numbered"]), deaths, dies,
    )  # fmt: skip
    return process, gaps, lengths, delays


# ------------------------------------------------------------------ classes


def _by_class(count: Noisy) -> Floats:
    """Return shares of each row, drawn to those of all rows as noise asks."""
    value, noise = count.value, count.noise
    rows = np.sqrt(len(value))
    usual = value.sum(axis=0)
    usual = np.where(usual > 2 * noise * rows, usual, 0.0) + 1e-6
    usual = usual / usual.sum()
    size = np.maximum(value.sum(axis=1, keepdims=True), noise)
    told = size * usual + trusted(value - size * usual, noise)
    told = np.maximum(told, 0.01 * size * usual)
    return np.asarray(told / told.sum(axis=1, keepdims=True))


def _flags(yes: Noisy, no: Noisy) -> Floats:
    """Return how often a flag holds in each class; as in all where noise hides a class."""
    size = np.maximum(yes.value + no.value, 1.0)
    usual = np.clip(yes.value.sum() / size.sum(), 0.0, 1.0)
    weight = size**2 / (size**2 + 9 * yes.noise**2)
    share = np.clip(weight * yes.value / size + (1 - weight) * usual, 0.0, 1.0)
    # no part of less than what noise makes is told
    dim = 3 * yes.noise / size
    share = np.where((share < dim) & (usual < 0.5), 0.0, share)
    return np.where((share > 1 - dim) & (usual > 0.5), 1.0, share)


def _opening(purse: Purse, labels: Labels, visits: Floats) -> Floats:
    g, z = labels.n_profiles, labels.classes

    def tell(h: Histories) -> Told:
        at = np.flatnonzero(h.dated & (h.place == 0))
        whose = h.whose[at]
        return Told(whose, labels.profiles(h)[whose] * z + labels.visits(h)[at])

    found = purse.buy(tell, g * z, norm=1.0, share="first visits",
                      what="classes of first visits by profile")  # fmt: skip
    share = _by_class(found.shaped(g, z))
    share[:, -1] = 0.0  # the class of what has no time
    return _rows(share + 1e-9 * (visits / visits.sum()))


def _rows(value: Floats) -> Floats:
    return np.asarray(value / np.maximum(value.sum(axis=-1, keepdims=True), 1e-300))


def _steps(h: Histories, labels: Labels) -> tuple[Ints, Ints, Ints, Ints, Floats]:
    """Return of visits after the first: which, the class before, its own, how many were before
    and the share of each class among these, (visits, classes).
    """
    of = labels.visits(h)
    at = np.flatnonzero(~np.isnan(h.gaps))
    dated = h.dated
    hot = np.zeros((h.n + 1, labels.classes), np.int32)
    hot[1:][np.flatnonzero(dated), of[dated]] = 1
    total = np.cumsum(hot, axis=0)
    had = total[at] - total[h.starts[h.whose[at]]]
    place = h.place[at]
    return at, of[at - 1], of[at], place, had / np.maximum(place, 1)[:, None]


def _transitions(
    purse: Purse, labels: Labels, bounds: Bounds, visits: Floats
) -> tuple[Floats, Floats]:
    """Return the class given the one before and the profile, and how often it is by habit."""
    g, z = labels.n_profiles, labels.classes

    def tell(h: Histories) -> Told:
        at, before, now, _, had = _steps(h, labels)
        i, j = np.nonzero(had)
        whose, profile = h.whose[at], labels.profiles(h)[h.whose[at]]
        place = [before * z + now, z * z + before[i] * z + j, 2 * z * z + profile * z + now]
        amount = [np.ones(at.size), had[i, j], np.ones(at.size)]
        return Told(np.concatenate([whose, whose[i], whose]), np.concatenate(place),
                    np.concatenate(amount))  # fmt: skip

    found = purse.buy(tell, (2 * z + g) * z, norm=np.sqrt(3) * bounds.by_class,
                      share="transitions", what="classes of visits and of those before",
                      part=0.7)  # fmt: skip
    now, own, by_profile = np.split(found.value, [z * z, 2 * z * z])
    moves = _by_class(Noisy(now.reshape(z, z), found.noise))
    urns = _by_class(Noisy(own.reshape(z, z), found.noise))
    profiles = _by_class(Noisy(by_profile.reshape(g, z), found.noise))
    usual = _rows(np.maximum(by_profile.reshape(g, z).sum(axis=0), 1e-3))
    factor = np.clip(profiles / usual, 1e-3, 1e3)
    habit = _habit(purse, labels, bounds, _rows(moves[None] * factor[:, None]), urns)
    mean = float(habit.mean())
    step = np.maximum(moves - mean * urns, 0.05 * moves)
    step = _rows(step)[None] * factor[:, None]
    step[:, :, -1] = 0.0
    return _rows(step + 1e-9 * (visits / visits.sum())), habit


def _habit(purse: Purse, labels: Labels, bounds: Bounds, step: Floats, urns: Floats) -> Floats:
    """Return the share of visits by habit, by how many visits were before."""

    def tell(h: Histories) -> Told:
        at, before, now, place, had = _steps(h, labels)
        whose = h.whose[at]
        told = np.stack([
            np.ones(at.size), had[np.arange(at.size), now], (had**2).sum(axis=1),
            (step[labels.profiles(h)[whose], before] * had).sum(axis=1),
            (urns[before] * had).sum(axis=1),
        ], axis=1)  # fmt: skip
        cell = (urn(place) * 5)[:, None] + np.arange(5)[None]
        return Told(np.repeat(whose, 5), cell.ravel(), told.ravel())

    found = purse.buy(tell, URNS * 5, norm=1.5 * bounds.by_class, share="transitions",
                      what="visits of classes that the subject had",
                      part=0.3).shaped(URNS, 5)  # fmt: skip
    _, came, self_, expected, mixed = found.value.T
    every = found.value.sum(axis=0)
    usual = _share(every[1] - every[3], every[2] - every[4], found.noise, 0.3)
    own = [_share(came[i] - expected[i], self_[i] - mixed[i], found.noise, usual)
           for i in range(URNS)]  # fmt: skip
    return np.asarray(np.clip(np.array(own), 0.0, MOST_HABIT))


def _share(above: float, below: float, noise: float, usual: float) -> float:
    """Return a ratio, drawn to the usual one by as much as noise hides what is below."""
    weight = max(below, 0.0)
    return float((above + 4 * noise * usual) / (weight + 4 * noise)) if noise else usual


# ------------------------------------------------------------------ times


def _gaps(h: Histories, labels: Labels) -> tuple[Ints, Ints, Floats]:
    gaps = h.gaps
    at = np.flatnonzero(~np.isnan(gaps))
    return h.whose[at], labels.visits(h)[at], gaps[at]


def _delays(h: Histories) -> tuple[Ints, Ints, Floats]:
    dead = np.flatnonzero(~np.isnan(h.death_delay))
    return dead, np.zeros(dead.size, np.int64), h.death_delay[dead]


def _scores(h: Histories, labels: Labels, gaps: Quantiles) -> tuple[Ints, Floats]:
    """Return whose each gap is, and its rank by bought quantiles as a normal score."""
    whose, group, value = _gaps(h, labels)
    return whose, np.clip(ndtri(gaps.share(group, value)), -FAR, FAR)


def paces(h: Histories, labels: Labels, gaps: Quantiles) -> Floats:
    """Return each subject's mean score of gaps, NaN without a gap; read while it is paid for."""
    whose, score = _scores(h, labels, gaps)
    size = np.bincount(whose, minlength=h.n_subjects)
    total = np.bincount(whose, weights=score, minlength=h.n_subjects)
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)


def _spread(purse: Purse, labels: Labels, bounds: Bounds, gaps: Quantiles) -> float:
    """Return the deviation of gaps' scores about their subject's."""

    def tell(h: Histories) -> Told:
        whose, score = _scores(h, labels, gaps)
        size = np.bincount(whose, minlength=h.n_subjects)
        rest = score - np.nan_to_num(paces(h, labels, gaps))[whose]
        square = np.bincount(whose, weights=rest**2, minlength=h.n_subjects)
        who = np.arange(h.n_subjects)
        return Told(np.tile(who, 2), np.repeat([0, 1], who.size),
                    np.concatenate([square, np.maximum(size - 1.0, 0.0)]))  # fmt: skip

    found = purse.buy(tell, 2, norm=1.5 * bounds.visits, share="paces",
                      what="gaps about a subject's own pace")  # fmt: skip
    square, freedom = found.value
    return float(np.sqrt(np.clip(square / max(freedom, 1.0), 0.0, 4.0))) if freedom > 0 else 1.0


def _calendar(purse: Purse, labels: Labels, bounds: Bounds) -> tuple[Floats, Floats, Floats, int]:
    """Return how days of the week, months and hours of classes differ from even; and the step."""
    z = labels.classes
    sizes = (7, 12, 24)

    def tell(h: Histories) -> Told:
        rows = np.flatnonzero(h.dated)
        when, of = h.start[rows].view(np.int64), labels.visits(h)[rows]
        month = h.start[rows].astype("datetime64[M]").astype(np.int64) % 12
        values = (when // DAY_US % 7, month, when // HOUR_US % 24)
        place, base = [], 0
        for value, n in zip(values, sizes, strict=True):
            place.append(base + of * n + value)
            base += z * n
        finest = np.full(rows.size, len(GRIDS_US))
        for i, step in reversed(list(enumerate(GRIDS_US))):
            finest[when % step == 0] = i
        place.append(base + finest)
        return Told(np.tile(h.whose[rows], 4), np.concatenate(place))

    found = purse.buy(tell, z * sum(sizes) + len(GRIDS_US) + 1, norm=2 * bounds.by_class,
                      share="calendar", what="days, months and hours of visits")  # fmt: skip
    parts = np.split(found.value, np.cumsum([z * n for n in sizes]))
    day, month, hour = (
        _by_class(Noisy(part.reshape(z, n), found.noise)) for part, n in zip(parts, sizes,
                                                                             strict=False)
    )  # fmt: skip
    finest = np.cumsum(np.maximum(parts[3], 0.0))
    on = np.flatnonzero(finest >= ON_GRID * finest[-1])
    steps = (*GRIDS_US, 1)
    return np.clip(day * 7, 0, 7), np.clip(month * 12, 0, 12), hour, steps[int(on[0])]


# ------------------------------------------------------------------ ends


def _endings(purse: Purse, labels: Labels, deaths: Ints, visits: Floats) -> tuple[Floats, Floats]:
    """Return by how much a class is oftener the last one, and the chance of death after it."""
    z, n = labels.classes, deaths.size + 1

    def tell(h: Histories) -> Told:
        at = np.flatnonzero(h.dated & (np.append(h.whose[1:], -1) != h.whose))
        own = h.death[h.whose[at]]
        died = np.where(own >= 0, np.searchsorted(deaths, own) + 1, 0)
        return Told(h.whose[at], labels.visits(h)[at] * n + died)

    found = purse.buy(tell, z * n, norm=1.0, share="deaths", what="classes of last visits",
                      part=0.5).shaped(z, n)  # fmt: skip
    usual = visits / visits.sum()
    ends = np.stack([found.value[:, 0], found.value[:, 1:].sum(axis=1)])
    size = np.maximum(ends.sum(axis=1, keepdims=True), found.noise)
    told = size * usual + trusted((ends - size * usual).T, found.noise).T
    last = np.clip(np.maximum(told / size, 0.05 * usual) / usual, 0.0, 20.0)
    dead = np.maximum(found.value[:, 1:].sum(axis=0), 0.0)
    share = dead / max(float(dead.sum()), 1.0)
    chance = np.maximum(told[1], 0.0) / np.maximum(visits, 1.0)
    return last, np.clip(chance[:, None] * share[None], 0.0, 1.0)
