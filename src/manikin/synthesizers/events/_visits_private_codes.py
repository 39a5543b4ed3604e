"""What is bought of codes: how often they come first and come again, and by what.

Idea       first times of a code are once a subject, so their norm is the root of the different
           codes: they bear the finest counts. Chances to come back are pooled over codes of a
           domain
Sensitivity  each release is one vector a subject, shortened to the norm that its noise is of
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._visits_private_classes import trusted
from manikin.synthesizers.events._visits_private_process import Labels
from manikin.synthesizers.events._visits_private_purse import Bounds, Noisy, Purse, Told
from manikin.synthesizers.events._visits_risk import PASTS, SINCE, cells_of, returns
from manikin.synthesizers.events.encoding import Histories

__all__ = ["Seen", "Targets", "bought_seen", "bought_targets"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

STANDS_OUT = 2.0  # deviations that a code's subjects must be to be told by itself
CLEAR = 8.0  # deviations above which visits after a first time are believed
LEAST = 0.3  # of what noise hides: what a code that nobody is seen to have is taken for, at most


@dataclass(frozen=True, eq=False)
class Seen:
    """How many subjects ever have each code, and which codes stand out of the noise."""

    subjects: Floats  # (codes,) noisy, shrunk; 0 where nothing is seen
    noise: float
    codes: Ints  # those that stand out, the most frequent first
    place: Ints  # (codes,) place among them; of all others the one behind

    @property
    def n(self) -> int:
        """How many are told by themselves."""
        return self.codes.size


@dataclass(frozen=True, eq=False)
class Targets:
    """What drawn histories are to agree with: numbers of codes in all histories."""

    first: Floats  # (codes,) subjects that ever have it
    first_class: Floats  # (classes, codes) ... by the class of the visit
    first_profile: Floats
    first_age: Floats
    first_sex: Floats
    again: Floats  # (codes,) visits at which it came back
    again_class: Floats  # (classes, codes)
    hazard: Floats  # (domains, PASTS) of coming back
    since: Floats  # (domains, SINCE) factors
    after: Floats  # (codes,) share of visits after a code's first time, NaN where noise hides it


def bought_seen(purse: Purse, bounds: Bounds, groups: Ints, able: Bools) -> Seen:
    """Buy how many subjects ever have each of the codes that may be at visits.

    `groups` are codes beneath one parent: what noise hides has the share of its group.
    """

    def tell(h: Histories) -> Told:
        cells = cells_of(h)
        new = cells.first
        return Told(h.whose[cells.visit[new]], cells.code[new])

    n = groups.size
    found = purse.buy(tell, n, norm=bounds.firsts, share="codes", what="subjects that have a code")
    value = np.where(able, found.value, 0.0)
    out = able & (value > STANDS_OUT * found.noise)
    rest = np.flatnonzero(able & ~out)
    whole = np.bincount(groups[rest], weights=value[rest], minlength=int(groups.max(initial=0)) + 1)
    size = np.bincount(groups[rest], minlength=whole.size)
    # what a group's faint codes hold together, where that stands out; shared evenly
    clear = whole > STANDS_OUT * found.noise * np.sqrt(size)
    share = np.where(clear, whole / np.maximum(size, 1), 0.0)
    value[rest] = np.clip(share[groups[rest]], 0.0, LEAST * found.noise)
    codes = np.flatnonzero(out)
    codes = codes[np.argsort(-value[codes], kind="stable")]
    place = np.full(n, codes.size)
    place[codes] = np.arange(codes.size)
    return Seen(value, found.noise, codes, place)


def bought_targets(
    purse: Purse, labels: Labels, bounds: Bounds, seen: Seen, domains: Ints, ages: object,
    sexes: object, sizes: dict[str, int],
) -> Targets:  # fmt: skip
    """Buy how often codes come first and come back, by class, profile, age and sex."""
    z, n = labels.classes, seen.n + 1
    first = _by_class(purse, labels, n, seen, True, bounds.firsts)
    again = _by_class(purse, labels, n, seen, False, bounds.by_code)
    beside = _beside(purse, labels, n, seen, bounds, (ages, sexes), sizes)
    # subjects were counted twice, once by class: both say something of how many there are
    total = first.value.sum(axis=0)[:-1]
    noise = first.noise * np.sqrt(z)
    weight = seen.noise**2 / (seen.noise**2 + noise**2)
    firsts = seen.subjects.copy()
    firsts[seen.codes] = np.maximum((1 - weight) * seen.subjects[seen.codes] + weight * total,
                                    0.5 * seen.noise)  # fmt: skip
    agains = np.zeros_like(firsts)
    came = again.value.sum(axis=0)
    dim = again.noise * np.sqrt(z)
    rate = max(came.sum(), 0.0) / max(firsts.sum(), 1.0)
    pooled = rate * firsts[seen.codes]
    agains[seen.codes] = np.maximum(pooled + trusted((came[:-1] - pooled)[:, None], dim)[:, 0], 0.0)
    rest = np.setdiff1d(np.arange(firsts.size), seen.codes)
    agains[rest] = firsts[rest] * np.clip(came[-1] / max(firsts[rest].sum(), dim, 1.0), 0.0, 10.0)
    hazard, since = _returns(purse, bounds, domains)
    after = _after(purse, bounds, seen)
    return Targets(
        firsts, _spread(first, firsts, seen),
        _spread(beside[0], firsts, seen), _spread(beside[1], firsts, seen),
        _spread(beside[2], firsts, seen),
        agains, _spread(again, agains, seen), hazard, since, after,
    )  # fmt: skip


def _spread(found: Noisy, whole: Floats, seen: Seen) -> Floats:
    """Return counts by row and code: each code's own total, over rows as noise lets it be told."""
    value = found.value
    rows = value.sum(axis=1)
    usual = np.where(rows > found.noise * np.sqrt(value.shape[1]), rows, 0.0)
    usual = np.maximum(usual, 1e-3 * np.abs(rows).sum()) + 1e-9
    usual = usual / usual.sum()
    own = value[:, :-1]
    expected = usual[:, None] * whole[seen.codes]
    told = np.maximum(expected + trusted(own - expected, found.noise), 0.02 * expected)
    told *= whole[seen.codes] / np.maximum(told.sum(axis=0), 1e-9)
    result = usual[:, None] * whole
    result[:, seen.codes] = told
    return np.asarray(result)


def _by_class(purse: Purse, labels: Labels, n: int, seen: Seen, first: bool, norm: float) -> Noisy:
    z = labels.classes

    def tell(h: Histories) -> Told:
        cells = cells_of(h)
        own = cells.first == first
        visit, code = cells.visit[own], seen.place[cells.code[own]]
        return Told(h.whose[visit], labels.visits(h)[visit] * n + code)

    name = "first" if first else "again"
    return purse.buy(tell, z * n, norm=norm, share=name, what=f"codes that come {name}, by class"
                     ).shaped(z, n)  # fmt: skip


def _beside(
    purse: Purse, labels: Labels, n: int, seen: Seen, bounds: Bounds,
    public: tuple[object, object], sizes: dict[str, int],
) -> list[Noisy]:  # fmt: skip
    """Buy first times by profile, by group of age and by sex: three places a first time."""
    widths = (labels.n_profiles, sizes["ages"], sizes["sexes"])
    ages, sexes = public

    def tell(h: Histories) -> Told:
        cells = cells_of(h)
        own = cells.first
        visit, code = cells.visit[own], seen.place[cells.code[own]]
        whose = h.whose[visit]
        groups = (labels.profiles(h)[whose], ages(h)[visit], sexes(h)[whose])  # type: ignore[operator]
        place, base = [], 0
        for group, width in zip(groups, widths, strict=True):
            place.append(base + group * n + code)
            base += width * n
        return Told(np.tile(whose, 3), np.concatenate(place))

    found = purse.buy(tell, sum(widths) * n, norm=np.sqrt(3) * bounds.firsts, share="beside",
                      what="codes that come first, by profile, age and sex")  # fmt: skip
    parts = np.split(found.value, np.cumsum([width * n for width in widths])[:-1])
    return [Noisy(part.reshape(width, n), found.noise)
            for part, width in zip(parts, widths, strict=True)]  # fmt: skip


def _returns(purse: Purse, bounds: Bounds, domains: Ints) -> tuple[Floats, Floats]:
    """Return hazards of coming back by domain and past, and factors of the time since."""
    d = int(domains.max(initial=0)) + 1
    width = PASTS * SINCE

    def tell(h: Histories) -> Told:
        found = returns(h, cells_of(h), (0, h.n_subjects))
        cell = (domains[found.code] * PASTS + found.past) * SINCE + found.since
        # chances are rarer by far than codes: a tenth of each, so that both are told as well
        return Told(
            np.tile(h.whose[found.visit], 2), np.concatenate([cell, d * width + cell]),
            np.concatenate([0.2 * np.ones(cell.size), found.again.astype(np.float64)]),
        )  # fmt: skip

    norm = max(1.0, 0.5 * bounds.cells)
    found = purse.buy(tell, 2 * d * width, norm=norm, share="returns",
                      what="codes that could come back, and did"
                      ).shaped(2, d, PASTS, SINCE)  # fmt: skip
    chances, hits = 5 * found.value[0], found.value[1]
    return _fitted(np.maximum(chances, 0.0), np.maximum(hits, 0.0), found.noise)


def _after(purse: Purse, bounds: Bounds, seen: Seen) -> Floats:
    """Return at which share of visits each code could have come back, NaN where noise hides it."""

    def tell(h: Histories) -> Told:
        cells = cells_of(h)
        visit, code = cells.visit[cells.first], seen.place[cells.code[cells.first]]
        told = code < seen.n
        visit, code = visit[told], code[told]
        after = np.asarray(h.starts[h.whose[visit] + 1] - visit - 1, np.float64)
        # all visits beside, shortened as much: so shares are as they were
        return Told(
            np.concatenate([h.whose[visit], h.whose]),
            np.concatenate([code, np.full(h.n, seen.n)]), np.concatenate([after, np.ones(h.n)]),
        )  # fmt: skip

    norm = max(1.0, 0.5 * bounds.visits * bounds.firsts)
    found = purse.buy(tell, seen.n + 1, norm=norm, share="after",
                      what="visits after a code's first")  # fmt: skip
    result = np.full(seen.place.size, np.nan)
    own, visits = found.value[:-1], max(float(found.value[-1]), 1.0)
    if visits > CLEAR * found.noise:
        share = np.clip(own / visits, 0.0, 0.995)
        result[seen.codes] = np.where(own > CLEAR * found.noise, share, np.nan)
    return result


def _fitted(chances: Floats, hits: Floats, noise: float) -> tuple[Floats, Floats]:
    """Return hazards and factors whose products agree with both margins (Deming and Stephan)."""
    pooled_chance, pooled_hit = chances.sum(axis=0), hits.sum(axis=0)
    d = len(chances)
    hazard, factor = np.ones((d, PASTS)), np.ones((d, SINCE))
    for i in range(d):
        # a domain that noise hides comes back as all do
        strength = 6 * noise / max(float(pooled_chance.sum()), 1.0)
        chance = chances[i] + strength * pooled_chance
        hit = hits[i] + strength * pooled_hit
        drawn = 4 * noise * (hit.sum() + 0.5) / (chance.sum() + 1.0)
        rate = -np.log1p(-np.minimum(hit / np.maximum(chance, 1.0), 0.98)) * chance
        for _ in range(12):
            due = (chance * factor[i]).sum(axis=1)
            hazard[i] = (rate.sum(axis=1) + drawn) / (due + 4 * noise)
            due = (chance * hazard[i][:, None]).sum(axis=0)
            factor[i] = (rate.sum(axis=0) + drawn) / (due + drawn)
    return np.clip(hazard, 1e-4, 6.0), np.clip(factor, 0.02, 50.0)
