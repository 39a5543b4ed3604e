"""When a subject comes, as what kind of visit, for how long, and how the record ends.

Reference  semi-Markov processes: Lévy, Proc. Int. Congr. Math. 3 (1954); multilevel shrinkage of
           rows of a transition matrix: MacKay and Peto, Nat. Lang. Eng. 1 (1995); a cache beside
           it: Kuhn and De Mori, IEEE Trans. Pattern Anal. Mach. Intell. 12 (1990)
Idea       the class of a visit given the class before and the subject's profile, or again one
           that the subject had, by how often (a Pólya urn: who comes for one thing comes for it);
           the days to it as the rank among gaps of its class: a subject's own pace, and noise;
           a day of the week, a month and an hour as that class has them
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from manikin.synthesizers.events._parts import array
from manikin.synthesizers.events._quantiles import Quantiles, normal_scores, quantiles
from manikin.synthesizers.events._visits_plan import Plan, fit_plan
from manikin.synthesizers.events.encoding import Histories

__all__ = ["Course", "Drawing", "Process", "draw_course", "fit_process", "paces"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Times: TypeAlias = NDArray[np.datetime64]

DAY_US = 86_400_000_000
GRIDS_US = (DAY_US, 3_600_000_000, 60_000_000, 1_000_000)  # steps on which visits may begin
ON_GRID = 0.98
TRIES = 6  # gaps from which one is taken by its day of the week and its month
BACKING = 10.0  # transitions that what is known without the profile weighs
URNS = 7  # kinds of numbers of visits before: 1, 2, 3-4, 5-8, 9-16, 17-32, more
HABIT_ROUNDS = 12
SHORT = 0.75  # days: a gap below is not moved to an hour of the day


@dataclass(frozen=True)
class Process:
    """What is learnt of visits."""

    first: Annotated[Floats, array("profiles", "classes", low=0, high=1)]
    step: Annotated[Floats, array("profiles", "classes", "classes", low=0, high=1)]
    habit: Annotated[Floats, array(URNS, low=0, high=1)]  # share of the urn, by visits before
    last: Annotated[Floats, array(2, "classes", low=0, high=1e3)]  # factors, by whether one died
    goes_on: Annotated[Floats, array("places", low=0, high=1)]  # chance of another visit
    spread: Annotated[Floats, array(1, low=0, high=10)]  # of gaps about a subject's pace
    day: Annotated[Floats, array("classes", 7, low=0, high=7)]  # against even
    month: Annotated[Floats, array("classes", 12, low=0, high=12)]
    hour: Annotated[Floats, array("classes", 24, low=0, high=1)]
    grid: Annotated[Ints, array(1, kind="i", low=1, high=DAY_US)]  # us
    kinds: Annotated[Ints, array("kinds", kind="i", low=-1, high="codes")]  # of stays, -1 for none
    kind: Annotated[Floats, array("classes", "kinds", low=0, high=1)]
    ended: Annotated[Floats, array("classes", low=0, high=1)]
    numbered: Annotated[Floats, array("classes", low=0, high=1)]
    deaths: Annotated[Ints, array("deaths", kind="i", low=0, high="codes")]
    dies: Annotated[Floats, array("classes", "deaths", low=0, high=1)]  # chance after a visit
    # of planned visits, of no kind where there are none: how much oftener kinds follow others
    follows: Annotated[Floats, array("?", "?", low=0, high=1e9)] = field(
        default_factory=lambda: np.zeros((0, 0))
    )
    once: Annotated[Floats, array("?", low=0, high=1)] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class Course:
    """The visits of subjects before anything is known of what was at them."""

    whose: Ints
    classes: Ints
    start: Times
    length: Floats
    kind: Ints
    ended: NDArray[np.bool_]
    numbered: NDArray[np.bool_]

    @property
    def days(self) -> Floats:
        """Days since 1970 at which a visit began, NaN for what has no time."""
        return np.where(np.isnat(self.start), np.nan, self.start.view(np.int64) / DAY_US)


def fit_process(
    h: Histories, classes: Ints, profiles: Ints, sizes: dict[str, int], k: int
) -> tuple[Process, Quantiles, Quantiles, Quantiles]:
    """Learn the process, and the quantiles of gaps, of lengths and of days until death."""
    z, g = sizes["classes"], sizes["profiles"]
    dated = h.dated
    gaps = h.gaps
    after = np.flatnonzero(~np.isnan(gaps))
    opening = np.flatnonzero(dated & (h.place == 0))
    first = _backed(np.bincount(profiles[h.whose[opening]] * z + classes[opening],
                                minlength=g * z).reshape(g, z))  # fmt: skip
    step, habit = _habits(h, profiles, classes, after, (g, z))
    closing = np.flatnonzero(dated & (np.append(h.whose[1:], -1) != h.whose))
    died = (h.death[h.whose[closing]] >= 0).astype(np.int64)
    ends = np.bincount(died * z + classes[closing], minlength=2 * z).reshape(2, z)
    usual = (np.bincount(classes[dated], minlength=z) + 0.5) / (dated.sum() + 0.5 * z)
    last = (ends + 5 * usual) / (ends.sum(axis=1, keepdims=True) + 5) / usual
    counts = np.bincount(h.whose[dated], minlength=h.n_subjects)
    reached = np.array([(counts > t).sum() for t in range(0, int(counts.max(initial=0)) + 1)])
    shared = reached[reached >= k]  # the greatest number of visits is nobody's
    goes_on = (shared[1:] / shared[:-1]) if shared.size > 1 else np.zeros(1)
    when = h.start[dated].view(np.int64)
    which = classes[dated]
    day, month, hour = _calendar(when, which, z)
    kinds = np.unique(np.append(h.kind, -1))
    place = np.searchsorted(kinds, h.kind)
    kind = np.bincount(classes * kinds.size + place, minlength=z * kinds.size) + 0.0
    deaths = np.unique(h.death[h.death >= 0])
    process = Process(
        first, step, habit, np.clip(last, 0, 1e3), goes_on, np.array([_spread(h, classes)]), day,
        month, hour, np.array([_grid(when)]), kinds, _shares(kind.reshape(z, kinds.size)),
        _mean(h.ended, classes, z), _mean(h.numbered, classes, z), deaths,
        _dying(h, classes, closing, deaths, z), *fit_plan(h, kinds),
    )  # fmt: skip
    dead = np.flatnonzero(~np.isnan(h.death_delay))
    whole = np.zeros(dead.size, np.int64)
    return (
        process,
        quantiles(gaps[after], classes[after], z, h.whose[after], k),
        quantiles(h.length[dated], which, z, h.whose[dated], k),
        quantiles(h.death_delay[dead], whole, 1, dead, k),
    )


def paces(h: Histories, classes: Ints) -> Floats:
    """Return each subject's mean rank among gaps, as a normal score; NaN without a gap."""
    gaps = h.gaps
    after = np.flatnonzero(~np.isnan(gaps))
    score = normal_scores(gaps[after], classes[after])
    size = np.bincount(h.whose[after], minlength=h.n_subjects)
    total = np.bincount(h.whose[after], weights=score, minlength=h.n_subjects)
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)


def _spread(h: Histories, classes: Ints) -> float:
    gaps = h.gaps
    after = np.flatnonzero(~np.isnan(gaps))
    score = normal_scores(gaps[after], classes[after])
    size = np.bincount(h.whose[after], minlength=h.n_subjects)
    total = np.bincount(h.whose[after], weights=score, minlength=h.n_subjects)
    rest = score - (total / np.maximum(size, 1))[h.whose[after]]
    freedom = float((size[size > 0] - 1).sum())
    return float(np.sqrt((rest**2).sum() / freedom)) if freedom > 0 else 0.0


def urn(before: Ints) -> Ints:
    """Return the kind of a number of visits before, 1 or more."""
    return np.minimum(np.ceil(np.log2(np.maximum(before, 1))), URNS - 1).astype(np.int64)


def _habits(
    h: Histories, profiles: Ints, classes: Ints, after: Ints, sizes: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return the class given the one before and the profile, and how often it is by habit.

    EM for the two sources that a class may be from.
    """
    g, z = sizes
    profile, before, now = profiles[h.whose[after]], classes[after - 1], classes[after]
    # how often the subject had the class before: its place among those of subject and class
    dated = np.flatnonzero(h.dated)
    order = dated[np.argsort(h.whose[dated] * z + classes[dated], kind="stable")]
    key = h.whose[order] * z + classes[order]
    had = np.empty(h.n, np.int64)
    had[order] = np.arange(order.size) - np.searchsorted(key, key)
    place = h.place[after]
    by_urn, kind = had[after] / place, urn(place)
    size = np.maximum(np.bincount(kind, minlength=URNS), 1)
    habit, weight = np.full(URNS, 0.3), np.ones(after.size)
    for _ in range(HABIT_ROUNDS):
        step = _steps(profile, before, now, weight, g, z)
        own = (1 - habit[kind]) * step[profile, before, now]
        both = own + habit[kind] * by_urn
        weight = own / np.maximum(both, 1e-300)
        share = np.bincount(kind, weights=1 - weight, minlength=URNS)
        habit = (share + 0.5) / (size + 5.0)
    return _steps(profile, before, now, weight, g, z), np.clip(habit, 0, 0.98)


def _steps(profile: Ints, before: Ints, now: Ints, weight: Floats, g: int, z: int) -> Floats:
    """Return the class given the one before and the profile, backed by each of them alone."""
    key = (profile * z + before) * z + now
    count = np.bincount(key, weights=weight, minlength=g * z * z).reshape(g, z, z)
    by_class = _backed(count.sum(axis=0))
    by_profile = _backed(count.sum(axis=1))
    usual = count.sum(axis=(0, 1)) + 0.5
    usual /= usual.sum()
    prior = _shares(by_class[None] * (by_profile / usual)[:, None])
    size = count.sum(axis=2, keepdims=True)
    return np.asarray((count + BACKING * prior) / (size + BACKING))


def _backed(count: NDArray[np.int64] | Floats) -> Floats:
    """Return the shares of each row, drawn towards those of all rows."""
    usual = count.sum(axis=0) + 1e-3
    usual = usual / usual.sum()
    return np.asarray((count + BACKING / 2 * usual) / (count.sum(axis=1, keepdims=True)
                                                       + BACKING / 2))  # fmt: skip


def _shares(count: NDArray[Any]) -> Floats:
    total = count.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, count / np.maximum(total, 1e-300), 1 / count.shape[-1]))


def _dying(h: Histories, classes: Ints, closing: Ints, deaths: Ints, z: int) -> Floats:
    """Return how often each death comes after a visit of each class."""
    size = np.bincount(classes[h.dated], minlength=z)[:, None]
    own = h.death[h.whose[closing]]
    died = closing[own >= 0]
    place = np.searchsorted(deaths, own[own >= 0])
    count = np.bincount(classes[died] * deaths.size + place, minlength=z * deaths.size)
    found = count.reshape(z, deaths.size)
    usual = found.sum(axis=0) / max(float(size.sum()), 1.0)
    return np.asarray(np.clip((found + 5 * usual) / (size + 5), 0, 1))


def _mean(flag: NDArray[np.bool_], classes: Ints, z: int) -> Floats:
    size = np.bincount(classes, minlength=z)
    return np.asarray(np.bincount(classes, weights=flag, minlength=z) / np.maximum(size, 1))


def _grid(when: Ints) -> int:
    for step in GRIDS_US:
        if when.size and (when % step == 0).mean() >= ON_GRID:
            return step
    return 1


def _calendar(when: Ints, classes: Ints, z: int) -> tuple[Floats, Floats, Floats]:
    """Return how the days of the week and months of a class differ from even, and its hours."""
    found = []
    for value, n in ((_weekday(when), 7), (_month(when), 12), (when // 3_600_000_000 % 24, 24)):
        count = np.bincount(classes * n + value, minlength=z * n).reshape(z, n)
        usual = (count.sum(axis=0) + 1.0) / (count.sum() + n)
        found.append((count + 10 * usual) / (count.sum(axis=1, keepdims=True) + 10))
    return found[0] * 7, found[1] * 12, found[2]


def _weekday(when: Ints) -> Ints:
    return when // DAY_US % 7


def _month(when: Ints) -> Ints:
    return when.view("datetime64[us]").astype("datetime64[M]").astype(np.int64) % 12


# ------------------------------------------------------------------ drawing


@dataclass(frozen=True, eq=False)
class Drawing:
    """What visits are drawn with."""

    process: Process
    gaps: Quantiles
    lengths: Quantiles
    rng: np.random.Generator

    def classes(
        self, profile: Ints, before: Ints, had: NDArray[Any], closing: NDArray[np.bool_],
        died: Ints, planned: Floats | None = None,
    ) -> Ints:  # fmt: skip
        """Return the class of a visit: `before` is the last one's, -1 at the first.

        `had` are the numbers of visits of each class until now, (subjects, classes),
        `planned` the factors of a plan.
        """
        p = self.process
        place = had.sum(axis=1)
        habit = np.where(place > 0, p.habit[urn(place)], 0.0)[:, None]
        chance = np.where(
            (before < 0)[:, None], p.first[profile], p.step[profile, np.maximum(before, 0)]
        )
        chance = (1 - habit) * chance + habit * (had / np.maximum(place, 1)[:, None])
        chance = chance * np.where(closing[:, None], p.last[died], 1.0)
        if planned is not None:  # where no planned visit is left, one beside the plan
            chance = chance * np.maximum(planned, 1e-9)
        total = np.cumsum(chance, axis=1)
        draw = self.rng.random(len(total)) * total[:, -1]
        return np.asarray(np.minimum((total < draw[:, None]).sum(axis=1), total.shape[1] - 1))

    def next_start(self, before: Times, classes: Ints, score: Floats) -> Times:
        """Return when the next visit begins; `score` is the rank of its gap, as a normal score."""
        p = self.process
        n, base = before.size, before.view(np.int64)
        # neighbouring ranks, of which that of a fitting day of the week and month is taken
        near = score[:, None] + 0.15 * self.rng.standard_normal((n, TRIES))
        days = self.gaps.at(np.repeat(classes, TRIES), ndtr(near).ravel()).reshape(n, TRIES)
        when = np.clip(base[:, None] + days * DAY_US, -6e16, 2.5e17).astype(np.int64)
        flat = np.repeat(classes, TRIES)
        weight = p.day[flat, _weekday(when.ravel())] * p.month[flat, _month(when.ravel())]
        total = np.cumsum(weight.reshape(n, TRIES), axis=1)
        draw = self.rng.random(n) * total[:, -1]
        pick = np.minimum((total < draw[:, None]).sum(axis=1), TRIES - 1)
        days = days[np.arange(n), pick]
        return self._at_hour(base, days, classes)

    def _at_hour(self, base: Ints, days: Floats, classes: Ints) -> Times:
        """Return times so many days later, at an hour of the class where whole days passed."""
        grid = int(self.process.grid[0])
        exact = base + np.clip(days * DAY_US, 0, 1e17).astype(np.int64)
        exact = (exact + grid // 2) // grid * grid
        total = np.cumsum(self.process.hour[classes], axis=1)
        draw = self.rng.random(days.size) * total[:, -1]
        hour = np.minimum((total < draw[:, None]).sum(axis=1), 23)
        within = (hour + self.rng.random(days.size)) * 3_600_000_000
        whole = base // DAY_US * DAY_US + np.rint(days).astype(np.int64) * DAY_US
        later = whole + within.astype(np.int64) // grid * grid
        return np.where(days < SHORT, exact, later).view("datetime64[us]")

    def rest(self, whose: Ints, classes: Ints, start: Times, kind: Ints | None = None) -> Course:
        """Return visits with their kind, where it is not known, and how long they last."""
        p, n = self.process, classes.size
        if kind is None:
            total = np.cumsum(p.kind[classes], axis=1)
            draw = self.rng.random(n) * total[:, -1]
            kind = p.kinds[np.minimum((total < draw[:, None]).sum(axis=1), p.kinds.size - 1)]
        length = np.maximum(self.lengths.at(classes, self.rng.random(n)), 0.0)
        grid = int(p.grid[0])
        length = np.rint(length * DAY_US / grid) * grid / DAY_US
        return Course(
            whose, classes, start, np.where(np.isnat(start), 0.0, length), kind,
            (self.rng.random(n) < p.ended[classes]) & (kind >= 0),
            self.rng.random(n) < p.numbered[classes],
        )  # fmt: skip


def draw_course(
    draw: Drawing,
    profile: Ints,
    counts: Ints,
    start: Times,
    pace: Floats,
    died: Ints,
    undated: NDArray[np.bool_],
    undated_class: int,
) -> Course:
    """Draw the visits of subjects: `counts` of them from `start`, and what has no time before."""
    n = counts.size
    most = int(counts.max(initial=0))
    before, reached = np.full(n, -1, np.int64), start.copy()
    had = np.zeros((n, undated_class + 1), np.int32)
    noise = _centred(counts, float(draw.process.spread[0]), draw.rng)
    offset = np.concatenate([[0], np.cumsum(np.maximum(counts - 1, 0))])
    whose, classes, starts = [np.flatnonzero(undated)], [], []
    classes.append(np.full(whose[0].size, undated_class, np.int64))
    starts.append(np.full(whose[0].size, "NaT", "datetime64[us]"))
    plan, kinds = Plan(draw.process, n), [np.full(whose[0].size, -1)]
    for t in range(most):
        who = np.flatnonzero(counts > t)
        planned = plan.factor(who) if plan.there else None
        kind = draw.classes(
            profile[who], before[who], had[who], counts[who] == t + 1, died[who], planned
        )
        if t:
            score = pace[who] + noise[offset[who] + t - 1]
            reached[who] = draw.next_start(reached[who], kind, score)
        before[who] = kind
        had[who, kind] += 1
        whose.append(who)
        classes.append(kind)
        starts.append(reached[who])
        if plan.there:
            kinds.append(plan.choose(who, kind, draw.rng))
    owner = np.concatenate(whose)
    order = np.argsort(owner, kind="stable")
    known = np.concatenate(kinds)[order] if plan.there else None
    return draw.rest(
        owner[order], np.concatenate(classes)[order], np.concatenate(starts)[order], known
    )


def _centred(counts: Ints, spread: float, rng: np.random.Generator) -> Floats:
    """Return noise for each gap of each subject that adds up to nothing within the subject."""
    size = np.maximum(counts - 1, 0)
    whose = np.repeat(np.arange(counts.size), size)
    noise = rng.standard_normal(whose.size) * spread
    mean = np.bincount(whose, weights=noise, minlength=counts.size) / np.maximum(size, 1)
    return np.asarray(noise - mean[whose])
