"""What may follow a history: visits until a horizon, given all that was before.

Idea  a history is sorted into the fitted classes; its codes are the past that returns depend on;
      its numbers tell the subject's own levels (their posterior means under the fitted effects)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

import manikin.synthesizers.events._visits_fit as fitting
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizers.events._visits_draw import Past, draw_codes
from manikin.synthesizers.events._visits_fit import Parts
from manikin.synthesizers.events._visits_made import contexts_of, filled
from manikin.synthesizers.events._visits_plan import Plan
from manikin.synthesizers.events._visits_process import Course, Drawing
from manikin.synthesizers.events._visits_risk import cells_of
from manikin.synthesizers.events._visits_values import Known, Values
from manikin.synthesizers.events.encoding import EventEncoding, Histories

__all__ = ["continued"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Times: TypeAlias = NDArray[np.datetime64]

DAY = np.timedelta64(86_400_000_000, "us")
LONGEST = 3_000_000.0  # days of a horizon: the calendar ends
MOST_STEPS = 20_000
CELLS = 20_000_000  # subjects times codes at once


@dataclass(frozen=True, eq=False)
class _Known:
    """What a history tells of each subject."""

    profile: Ints
    class_: Ints  # of the last visit, -1 for none
    pace: Floats
    visits: Ints
    had: NDArray[np.int32]  # (subjects, classes) visits of each class
    last: Times  # time of the last event


def continued(
    encoding: EventEncoding, parts: Parts, history: Events, days: float, futures: int, seed: int
) -> Events:
    """Draw what may follow; see `Continued.continue_from`."""
    if not (0 <= days <= LONGEST) or futures < 1:
        raise InputError(
            f"{days:g} days and {futures} futures", "0 days or more, 1 future or more",
            "correct the number",
        )  # fmt: skip
    h = encoding.encode(history)
    table = history.static
    rows = np.repeat(np.arange(h.n_subjects), futures)
    static = Table(table.schema, np.arange(rows.size), *_repeated(table, rows))
    schema = dataclasses.replace(encoding.schema, static=table.schema)
    own = dataclasses.replace(encoding, schema=schema)
    if not encoding.schema.codes or not h.n:
        return _nothing(own, static)
    rng = generator(seed, "visits continue")
    known = _known(parts, h, history, rng)
    births = history.births()
    sex = fitting.sexes(table, encoding.schema)
    block = max(1, CELLS // max(parts.sizes["codes"], 1))
    found = [
        _block(own, parts, h, known, births, sex, rows[lo : lo + block],
               static.rows(np.arange(lo, min(lo + block, rows.size))), days, rng)
        for lo in range(0, rows.size, block)
    ]  # fmt: skip
    return dataclasses.replace(Events.concatenate(found), static=static)


def _repeated(table: Table, rows: Ints) -> tuple[dict[str, NDArray], dict[str, NDArray[np.int8]]]:  # type: ignore[type-arg]
    return (
        {name: values[rows] for name, values in table.columns.items()},
        {name: states[rows] for name, states in table.states.items()},
    )


def _nothing(encoding: EventEncoding, static: Table) -> Events:
    none = np.zeros(0, np.int64)
    return Events.of(encoding.schema, static, none, none, none, texts=encoding.texts)


def _known(parts: Parts, h: Histories, history: Events, rng: np.random.Generator) -> _Known:
    sets = fitting.hot(h)
    dated = np.flatnonzero(h.dated)
    classes = np.full(h.n, parts.sizes["classes"] - 1, np.int64)
    classes[dated] = parts.visits.draw(fitting.marked(h, sets)[dated], rng)
    profile = parts.subjects.draw(fitting.bags(h, sets), rng)
    last_class = np.full(h.n_subjects, -1, np.int64)
    last_class[h.whose[dated]] = classes[dated]
    gaps = h.gaps
    after = np.flatnonzero(~np.isnan(gaps))
    score = ndtri(parts.gaps.share(classes[after], gaps[after]))
    size = np.bincount(h.whose[after], minlength=h.n_subjects)
    total = np.bincount(h.whose[after], weights=score, minlength=h.n_subjects)
    last = np.full(h.n_subjects, "NaT", "datetime64[us]")
    timed = np.flatnonzero(~np.isnat(history.time))
    last[history.whose[timed]] = history.time[timed]
    # one gap tells less of a pace than several: it is drawn towards the usual one, 0
    spread = float(parts.process.spread[0]) ** 2
    pace = total / np.maximum(size + spread / max(1.0 - spread, 0.05), 1e-9)
    visits = np.bincount(h.whose[dated], minlength=h.n_subjects)
    had = np.zeros((h.n_subjects, parts.sizes["classes"]), np.int32)
    np.add.at(had, (h.whose[dated], classes[dated]), 1)
    return _Known(profile, last_class, pace, visits, had, last)


def _block(
    encoding: EventEncoding, parts: Parts, h: Histories, known: _Known, births: Times, sex: Ints,
    rows: Ints, static: Table, days: float, rng: np.random.Generator,
) -> Events:  # fmt: skip
    """Draw the futures of some subjects: `rows` are theirs in the history."""
    course, death, n = _future(parts, h, known, rows, days, rng)
    profile = known.profile[rows]
    contexts = contexts_of(course, profile, births[rows], sex[rows])
    starts = np.searchsorted(course.whose, np.arange(n + 1))
    past, before = _past(h, rows, parts.sizes["codes"])
    visit, code = draw_codes(
        parts.rates, contexts, starts, course.days, course.kind < 0, rng, past, before
    )
    own, levels = _levels(parts, h, sex)
    drawn = filled(parts, course, visit, code, n, own[rows], sex[rows], death, rng, levels.of(rows))
    events = encoding.decode(drawn, static)
    last = known.last[rows][events.whose]
    late = (events.time < last) | (events.time > last + np.timedelta64(int(days * 86_400e6), "us"))
    events = events.rows(np.flatnonzero(~late & ~np.isnat(events.time)))
    if not events.n_events:
        return events
    place = known.visits[rows][events.whose] + events.visit
    number = np.where(events.visit >= 0, place, -1).astype(np.int32)
    return dataclasses.replace(events, visit=number)


def _future(
    parts: Parts, h: Histories, known: _Known, rows: Ints, days: float, rng: np.random.Generator
) -> tuple[Course, Ints, int]:
    """Draw the visits until the horizon, and who dies after which of them."""
    p, n = parts.process, rows.size
    draw = Drawing(p, parts.gaps, parts.lengths, rng)
    begin = np.full(h.n_subjects, "NaT", "datetime64[us]")
    dated = np.flatnonzero(h.dated)
    begin[h.whose[dated]] = h.start[dated]
    last, reached = known.last[rows], begin[rows]
    horizon = last + np.timedelta64(int(days * 86_400e6), "us")
    class_, place = known.class_[rows].copy(), known.visits[rows].copy()
    death, had = np.full(n, -1, np.int64), known.had[rows]
    who = np.flatnonzero(~np.isnat(reached) & (h.death[rows] < 0) & (class_ >= 0))
    owners, classes, times, kinds = [who[:0]], [class_[:0]], [reached[:0]], [who[:0]]
    plan = Plan(p, n)
    plan.of(h, rows)
    for _ in range(MOST_STEPS):
        on = rng.random(who.size) < p.goes_on[np.minimum(place[who] - 1, p.goes_on.size - 1)]
        who = who[on]
        if not who.size:
            break
        still = np.zeros(who.size, bool)
        none = np.zeros(who.size, np.int64)
        kind = draw.classes(known.profile[rows[who]], class_[who], had[who], still, none,
                            plan.factor(who) if plan.there else None)  # fmt: skip
        noise = rng.standard_normal(who.size) * float(p.spread[0])
        when = draw.next_start(reached[who], kind, known.pace[rows[who]] + noise)
        # what is known to have been quiet until the last event goes on from there
        when = np.maximum(when, last[who] + np.timedelta64(1, "us"))
        within = when <= horizon[who]
        who, kind, when = who[within], kind[within], when[within]
        class_[who], reached[who] = kind, when
        place[who] += 1
        had[who, kind] += 1
        owners.append(who)
        classes.append(kind)
        times.append(when)
        if plan.there:
            kinds.append(plan.choose(who, kind, rng))
        hit = np.cumsum(p.dies[kind], axis=1) if p.deaths.size else np.zeros((who.size, 0))
        place_of = (hit < rng.random((who.size, 1))).sum(axis=1)
        dying = place_of < hit.shape[1]
        death[who[dying]] = p.deaths[place_of[dying]]
        who = who[~dying]
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    of_plan = np.concatenate(kinds)[order] if plan.there else None
    course = draw.rest(
        owner[order], np.concatenate(classes)[order], np.concatenate(times)[order], of_plan
    )
    return course, death, n


def _past(h: Histories, rows: Ints, n_codes: int) -> tuple[Past, Ints]:
    """Return what subjects had already, and at how many visits, in the order of `rows`."""
    subjects, place = np.unique(rows, return_inverse=True)
    cells = cells_of(h)
    at = np.searchsorted(subjects, h.whose[cells.visit])
    inside = (at < subjects.size) & np.isin(h.whose[cells.visit], subjects)
    at, visit, code = at[inside], cells.visit[inside], cells.code[inside]
    within = visit - h.starts[subjects[at]]
    past = Past.none(subjects.size, n_codes)
    np.add.at(past.times, (at, code), 1)
    past.first[at[::-1], code[::-1]] = within[::-1]
    past.last[at, code] = within
    past.day[at, code] = np.where(
        np.isnat(h.start[visit]), np.nan, h.start[visit].view(np.int64) / 86_400e6
    )
    before = np.diff(h.starts)[subjects]
    past.now[at, code] = within == before[at] - 1
    names = ("times", "first", "last", "day", "now")
    return Past(*(getattr(past, name)[place] for name in names)), before[place]


@dataclass(frozen=True, eq=False)
class _Levels:
    """The lasting effects that the numbers of a history tell, by subject and code."""

    key: Ints  # subject * codes + code, ascending
    mean: Floats
    spread: Floats
    n_codes: int

    def of(self, rows: Ints) -> Known:
        """Return them for futures of these subjects."""
        return Known(self.key, self.mean, self.spread, rows, self.n_codes)


def _levels(parts: Parts, h: Histories, sex: Ints) -> tuple[Floats, _Levels]:
    """Return the factors of subjects and their lasting effects, as their numbers tell them."""
    v: Values = parts.values
    n, n_codes = h.n_subjects, parts.sizes["codes"]
    rows = np.flatnonzero(~np.isnan(h.value))
    code, whose = h.code[rows], h.whose[h.of[rows]]
    score = ndtri(parts.numbers.share(code, h.value[rows])) - v.by_sex[sex[whose], code]
    rank = v.load.shape[1]
    own = np.zeros((n, rank))
    if rank and rows.size:
        _, place, size = np.unique(whose * n_codes + code, return_inverse=True, return_counts=True)
        weight = 1.0 / size[place]  # each code once, by its mean
        left, right = np.zeros((n, rank, rank)), np.zeros((n, rank))
        for i in range(rank):
            one = v.load[code, i] * weight
            right[:, i] = np.bincount(whose, weights=one * score, minlength=n)
            for j in range(rank):
                left[:, i, j] = np.bincount(whose, weights=one * v.load[code, j], minlength=n)
        own[:] = np.linalg.solve(left + np.eye(rank), right[:, :, None])[:, :, 0]
    rest = score - (own[whose] * v.load[code]).sum(axis=1)
    key, at = np.unique(whose * n_codes + code, return_inverse=True)
    held = np.bincount(at, minlength=key.size).astype(np.float64)
    total = np.bincount(at, weights=rest, minlength=key.size)
    of = key % max(n_codes, 1)
    noise = np.maximum(v.within[of] ** 2, 1e-6)
    prior = np.maximum(v.lasting[of] ** 2, 1e-6)
    precision = held / noise + 1.0 / prior
    return own, _Levels(key, total / noise / precision, np.sqrt(1.0 / precision), n_codes)
