"""What is bought of codes: how often they come first and come again, and by what.

Idea       first times of a code are once a subject, so their norm is the root of the different
           codes: they bear the finest counts. Chances to come back are pooled over codes of a
           domain
Sensitivity  each release is one vector a subject, shortened to the norm that its noise is of
"""

from __future__ import annotations

from collections.abc import Callable
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
SHORTER = 1.5  # by which bounds may shorten all drawn histories together
LEAST = 0.3  # of what noise hides: what a code that nobody is seen to have is taken for, at most


@dataclass(frozen=True, eq=False)
class Seen:
    """How many subjects ever have each code, and which codes stand out of the noise."""

    subjects: Floats  # (codes,) noisy, shrunk; 0 where nothing is seen
    noise: float
    whole: float  # of all codes together, noisy and not shrunk
    codes: Ints  # those that stand out, the most frequent first
    place: Ints  # (codes,) place among them; of all others the one behind

    @property
    def n(self) -> int:
        """How many are told by themselves."""
        return self.codes.size


@dataclass(frozen=True, eq=False)
class Targets:
    """What drawn histories are to agree with: numbers of codes in all histories."""

    ask: Asked  # what was asked: the same is asked of drawn histories
    first: Floats  # (codes,) subjects that ever have it
    first_class: Floats  # (classes, codes) ... by the class of the visit
    first_profile: Floats
    first_age: Floats
    first_sex: Floats
    again: Floats  # (codes,) visits at which it came back
    again_class: Floats  # (classes, codes)
    hazard: Floats  # (domains, PASTS) of coming back
    since: Floats  # (domains, SINCE) factors


Of: TypeAlias = Callable[[Histories], Ints]


@dataclass(frozen=True, eq=False)
class About:
    """What visits and subjects are: functions of histories."""

    classes: Of  # of visits
    profiles: Of  # of subjects
    ages: Of  # of visits
    sexes: Of  # of subjects


@dataclass(frozen=True, eq=False)
class Asked:
    """Counts of codes that are asked of private histories at a price, of drawn ones for nothing.

    Vectors of drawn subjects are shortened as those of private ones are: long histories count as
    little in both, so that rates hang on no bound.
    """

    seen: Seen
    bounds: Bounds
    z: int  # classes
    widths: tuple[int, int, int]  # profiles, ages, sexes

    @property
    def n(self) -> int:
        """Codes told by themselves, and one place for all others."""
        return self.seen.n + 1

    def _cells(self, h: Histories, first: bool) -> tuple[Ints, Ints]:
        cells = cells_of(h)
        own = cells.first == first
        return cells.visit[own], self.seen.place[cells.code[own]]

    def by_class(self, h: Histories, about: About, first: bool) -> Told:
        """Return codes that come first, or again, by class of the visit."""
        visit, code = self._cells(h, first)
        return Told(h.whose[visit], about.classes(h)[visit] * self.n + code)

    def beside(self, h: Histories, about: About) -> Told:
        """Return first times by profile, by group of age and by sex: three places each."""
        visit, code = self._cells(h, True)
        whose = h.whose[visit]
        groups = (about.profiles(h)[whose], about.ages(h)[visit], about.sexes(h)[whose])
        place, base = [], 0
        for group, width in zip(groups, self.widths, strict=True):
            place.append(base + group * self.n + code)
            base += width * self.n
        return Told(np.tile(whose, 3), np.concatenate(place))

    def _split(self, value: Floats, noise: float) -> list[Noisy]:
        parts = np.split(value, np.cumsum([width * self.n for width in self.widths])[:-1])
        return [Noisy(part.reshape(width, self.n), noise)
                for part, width in zip(parts, self.widths, strict=True)]  # fmt: skip

    def bought(self, purse: Purse, about: About) -> tuple[Noisy, Noisy, list[Noisy]]:
        """Buy first times and returns by class, and first times by profile, age and sex."""
        size, bounds = self.z * self.n, self.bounds
        first = purse.buy(lambda h: self.by_class(h, about, True), size, norm=bounds.firsts,
                          share="first", what="codes that come first, by class")  # fmt: skip
        again = purse.buy(lambda h: self.by_class(h, about, False), size, norm=bounds.by_code,
                          share="again", what="codes that come again, by class")  # fmt: skip
        beside = purse.buy(lambda h: self.beside(h, about), sum(self.widths) * self.n,
                           norm=np.sqrt(3) * bounds.firsts, share="beside",
                           what="codes that come first, by profile, age and sex")  # fmt: skip
        shape = self.z, self.n
        return first.shaped(*shape), again.shaped(*shape), self._split(beside.value, beside.noise)

    def drawn(self, h: Histories, about: About, scale: float) -> dict[str, Floats]:
        """Return the same counts of drawn histories, times `scale`; by all codes, not by place."""
        n, at = self.n, self.seen.place
        shape = self.z, n
        size = self.z * n
        told = self.by_class(h, about, True)
        first = _alike(told, size, self.bounds.firsts).reshape(shape)
        told = self.by_class(h, about, False)
        again = _alike(told, size, self.bounds.by_code).reshape(shape)
        told = self.beside(h, about)
        beside = _alike(told, sum(self.widths) * n, np.sqrt(3) * self.bounds.firsts)
        parts = self._split(beside, 0.0)
        found = {"first_class": first, "again_class": again, "first_profile": parts[0].value,
                 "first_age": parts[1].value, "first_sex": parts[2].value}  # fmt: skip
        # codes that are not told share a place: each by how often it was drawn
        cells = cells_of(h)
        among = {}
        for name, own in (("first", cells.first), ("again", ~cells.first)):
            plain = np.bincount(cells.code[own], minlength=at.size) * (at == n - 1)
            among[name] = np.where(at == n - 1, plain / max(int(plain.sum()), 1), 1.0)
        result = {name: scale * value[:, at] * among[name.split("_")[0]]
                  for name, value in found.items()}  # fmt: skip
        result["first"], result["again"] = (
            result["first_class"].sum(axis=0),
            result["again_class"].sum(axis=0),
        )
        return result


def _alike(told: Told, size: int, norm: float) -> Floats:
    """Return a sum of drawn subjects, shortened, but not to less than a part of what it was.

    A sum that cannot grow by more events would let noise call for more and more of them.
    """
    found = told.alike(size, norm)
    return np.asarray(
        found * max(1.0, told.amounts.sum() / SHORTER / max(float(found.sum()), 1e-9))
    )


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
    every = max(float(value.sum()), 1.0)
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
    return Seen(value, found.noise, every, codes, place)


def bought_targets(
    purse: Purse, labels: Labels, bounds: Bounds, seen: Seen, domains: Ints, ages: Of, sexes: Of,
    sizes: dict[str, int],
) -> Targets:  # fmt: skip
    """Buy how often codes come first and come back, by class, profile, age and sex."""
    z = labels.classes
    ask = Asked(seen, bounds, z, (labels.n_profiles, sizes["ages"], sizes["sexes"]))
    about = About(labels.visits, labels.profiles, ages, sexes)
    first, again, beside = ask.bought(purse, about)
    # subjects were counted twice, once by class: both say something of how many there are
    total = first.value.sum(axis=0)[:-1]
    noise = first.noise * np.sqrt(z)
    weight = seen.noise**2 / (seen.noise**2 + noise**2)
    firsts = seen.subjects.copy()
    firsts[seen.codes] = np.maximum((1 - weight) * seen.subjects[seen.codes] + weight * total,
                                    0.5 * seen.noise)  # fmt: skip
    # what is kept from being negative adds up to too much: all together are known best
    spread = firsts.size * seen.noise**2, first.value.size * first.noise**2
    every = (spread[1] * seen.whole + spread[0] * first.value.sum()) / sum(spread)
    firsts *= max(float(every), 1.0) / max(float(firsts.sum()), 1e-9)
    agains = np.zeros_like(firsts)
    came = again.value.sum(axis=0)
    dim = again.noise * np.sqrt(z)
    rate = max(came.sum(), 0.0) / max(firsts.sum(), 1.0)
    pooled = rate * firsts[seen.codes]
    agains[seen.codes] = np.maximum(pooled + trusted((came[:-1] - pooled)[:, None], dim)[:, 0], 0.0)
    rest = np.setdiff1d(np.arange(firsts.size), seen.codes)
    agains[rest] = firsts[rest] * np.clip(came[-1] / max(firsts[rest].sum(), dim, 1.0), 0.0, 10.0)
    agains *= max(float(came.sum()), 1.0) / max(float(agains.sum()), 1e-9)
    hazard, since = _returns(purse, bounds, domains)
    return Targets(
        ask, firsts, _spread(first, firsts, seen),
        _spread(beside[0], firsts, seen), _spread(beside[1], firsts, seen),
        _spread(beside[2], firsts, seen),
        agains, _spread(again, agains, seen), hazard, since,
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
