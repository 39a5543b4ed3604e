"""Visits under a privacy budget: what is bought, in which order, and how it becomes a model.

Reference  Bun and Steinke, TCC 2016 (zCDP: prices add up); the parts' own files name theirs
Idea       the unit is the subject, with all that is told of it. Few sums are bought, each of one
           short vector a subject: lengths of histories, codes that a subject has, products of
           codes of visits and of subjects, then counts within the classes that these show; at last
           a table synthesizer spends what is left on what is told once. All else is a function of
           what was paid for: rates are moved until drawn histories have the counts
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._visits_fit as fitting
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.errors import NotSupported, PrivacyError
from manikin.privacy.account import Account, measuring
from manikin.privacy.budget import Budget
from manikin.synthesizer import Conditional, Synthesizer, Watch, report
from manikin.synthesizers.events._bounded import Behind, Paid, check
from manikin.synthesizers.events._visits_classes import Classes
from manikin.synthesizers.events._visits_fit import Parts
from manikin.synthesizers.events._visits_model import VisitsModel
from manikin.synthesizers.events._visits_private_bears import (
    Bearing,
    bearing_of,
    bought_moments,
    bought_values,
)
from manikin.synthesizers.events._visits_private_classes import (
    Sets,
    classes_by_centres,
    found_centres,
    label_of,
    speaking,
)
from manikin.synthesizers.events._visits_private_codes import Seen, bought_seen, bought_targets
from manikin.synthesizers.events._visits_private_process import (
    Labels,
    bought_process,
    paces,
    sizes_of_classes,
)
from manikin.synthesizers.events._visits_private_purse import (
    Bounds,
    Noisy,
    Purse,
    Told,
    bounded,
    lengths,
)
from manikin.synthesizers.events._visits_private_settle import Pairs, begun, settled
from manikin.synthesizers.events.encoding import EventEncoding, Histories, widened

__all__ = ["fit_privately"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

FACTS = 0.2  # share of a budget for what is told once a subject
SHARES = {  # of the rest: what each release costs, where there is anything for it to tell
    "lengths": 0.03, "codes": 0.16, "visits by codes": 0.13, "subjects by codes": 0.05,
    "speaking": 0.05, "visits": 0.02, "first visits": 0.01, "transitions": 0.06, "gaps": 0.05,
    "lengths of stay": 0.02, "paces": 0.005, "calendar": 0.02, "deaths": 0.01, "first": 0.16,
    "again": 0.20, "beside": 0.05, "returns": 0.02, "bears": 0.015, "numbers": 0.05,
    "effects": 0.02, "lasting": 0.02, "texts": 0.02, "durations": 0.005, "moments": 0.02,
    "years": 0.005,
}  # fmt: skip
WIDEST = 200  # codes among which products are counted
LEGIBLE = 25.0  # deviations of a class's codes that a class of visits should hold
LEGIBLE_PROFILE = 12.0
YEARS = np.arange(1900, 2101)
SEEN = 4.0  # deviations by which a year of first visits stands out
FAR = 3.0  # normal scores of paces
NOTHING = 1e-4  # of a budget: so little left is what floating point lost
LONGEST = 2.0  # by the visits that nine in ten subjects stay within: what is drawn at most


class Settings(Protocol):
    """What of the recipe matters here."""

    @property
    def classes(self) -> int: ...
    @property
    def profiles(self) -> int: ...
    @property
    def causes(self) -> int: ...
    @property
    def most_visits(self) -> int: ...
    @property
    def most_events(self) -> int: ...
    @property
    def rules(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class _Public:
    """What a declared schema says."""

    schema: EventSchema
    bearing: Bearing
    kinds: Ints  # codes of stays, -1 before them
    deaths: Ints
    able: NDArray[np.bool_]  # codes that may be at visits
    domains: Ints
    groups: Ints

    @staticmethod
    def of(schema: EventSchema) -> _Public:
        names = [code.domain for code in schema.codes]
        deaths = np.array(schema.of("death"), np.int64)
        able = np.ones(len(schema), bool)
        able[deaths] = False
        return _Public(
            schema, bearing_of(schema), np.array([-1, *schema.of("visit")], np.int64), deaths, able,
            np.asarray(np.unique(np.array(names, str), return_inverse=True)[1], np.int64),
            fitting.groups(schema),
        )  # fmt: skip


def fit_privately(
    data: Events, table: Synthesizer[Table], name: str, settings: Settings, budget: Budget, *,
    seed: int, watch: Watch,
) -> VisitsModel:  # fmt: skip
    """Learn under a budget: its noise is secret, so that no seed repeats a model."""
    check(data, table, "events/visits", name)
    public = _Public.of(data.schema)
    rng = generator(seed, "visits privately")
    encoding = EventEncoding(data.schema, public.bearing.written, _notes(settings))
    with measuring():
        h = bounded(encoding.encode(data), settings.most_visits, settings.most_events)
        births, sexes = Behind(data.births()), Behind(fitting.sexes(data.static, data.schema))
    account = _opened(budget)
    purse = Purse(account, h, _shares(public), (1 - FACTS) * account.left)
    report(watch, 0, 5, "counting codes")
    bounds, reached = lengths(purse, settings.most_visits, settings.most_events)
    seen = bought_seen(purse, bounds, public.groups, public.able)
    report(watch, 1, 5, "sorting visits into classes")
    labels, spoken, pairs = _labels(purse, public, bounds, seen, settings, rng)
    report(watch, 2, 5, "counting visits, codes and values")
    parts, targets = _parts(
        purse, public, labels, spoken, bounds, seen, reached, settings, (births, sexes)
    )
    first, last = _years(purse)
    report(watch, 3, 5, "fitting what is told once a subject")
    longest = int(min(settings.most_visits, np.ceil(LONGEST * bounds.visits)))
    wide, columns = _widened(data, purse, labels, parts, (first, last), longest)
    rest = Budget(budget.epsilon, budget.delta, tuple(account.releases))
    facts = table.fit(wide, seed=int(rng.integers(2**62)), budget=rest, watch=watch)
    if not isinstance(facts, Conditional):
        raise NotSupported(
            f"'{name}' cannot draw columns given others", "a table synthesizer that can",
            "choose another one: manikin list says which can",
        )  # fmt: skip
    told = fitting.told(facts.schema, data.schema.static)
    encoding = dataclasses.replace(encoding, schema=dataclasses.replace(data.schema, static=told))
    subjects = max(1.0, float(getattr(facts, "subjects", None) or bounds.subjects))
    paid = Paid(facts.ledger, subjects, settings.most_visits)
    model = VisitsModel(encoding, facts, columns, parts, settings.rules, paid)
    report(watch, 4, 5, "settling rates of codes")
    rates = settled(model, targets, pairs, subjects, settings.causes, rng)
    return dataclasses.replace(model, parts=dataclasses.replace(parts, rates=rates))


def _opened(budget: Budget) -> Account:
    """Return the account of a budget. Raises PrivacyError where all of it is spent already."""
    account = Account(budget)
    if account.left <= NOTHING * Account(Budget(budget.epsilon, budget.delta)).left:
        raise PrivacyError(
            f"histories to be counted with nothing left of ε = {budget.epsilon:g}",
            "a share of the budget", "give a larger budget",
        )  # fmt: skip
    return account


def _notes(settings: Settings) -> tuple[str, ...]:
    return (
        f"The first {settings.most_visits} visits of each subject count, and {settings.most_events}"
        " events of them, chosen at random; no drawn subject has more visits.",
        "Codes that noise hides are drawn as often as others beneath their parent, or not at all.",
    )


def _shares(public: _Public) -> dict[str, float]:
    """Return the shares of a budget, without those of what a schema says is not there."""
    bearing = public.bearing
    lacking = set()
    if not bearing.numeric.size:
        lacking |= {"numbers", "effects", "lasting"}
    if not bearing.texts.size:
        lacking |= {"texts"}
    return {name: share for name, share in SHARES.items() if name not in lacking}


# ------------------------------------------------------------------ classes


def _labels(
    purse: Purse, public: _Public, bounds: Bounds, seen: Seen, settings: Settings,
    rng: np.random.Generator,
) -> tuple[Labels, tuple[Classes, Classes], Pairs]:  # fmt: skip
    """Find classes of visits and of subjects, and what tells them."""
    codes = np.concatenate([seen.codes[:WIDEST], public.kinds[1:]])
    visits = Sets(lambda h: fitting.marked(h, fitting.hot(h)), lambda h: h.whose, codes)
    subjects = Sets(
        lambda h: fitting.bags(h, fitting.hot(h)), lambda h: np.arange(h.n_subjects),
        seen.codes[:WIDEST],
    )  # fmt: skip
    n = len(public.schema)
    legible = bounds.whole / (LEGIBLE * purse.noise("again", bounds.by_code))
    most = int(min(settings.classes, np.sqrt(bounds.whole) / fitting.VISITS_A_CLASS, legible))
    told, moment = _sorted(purse, visits, max(most, 1), bounds.by_class, bounds.by_code, n,
                           "visits", rng)  # fmt: skip
    legible = bounds.subjects / (LEGIBLE_PROFILE * purse.noise("beside", bounds.firsts))
    most = int(min(settings.profiles, np.sqrt(bounds.subjects) / fitting.SUBJECTS_A_PROFILE,
                   legible))  # fmt: skip
    who, _ = _sorted(purse, subjects, max(most, 1), 1.0, bounds.firsts, n, "subjects", rng)
    z = told.constant.size

    def of_visits(h: Histories) -> Ints:
        return np.where(h.dated, label_of(visits.of(h), told), z)

    def of_subjects(h: Histories) -> Ints:
        return label_of(subjects.of(h), who)

    labels = Labels(_once(of_visits), _once(of_subjects), z + 1, who.constant.size)
    able = np.isin(codes, public.kinds[1:], invert=True)
    return labels, (told, who), Pairs(visits, moment, bounds.by_class, able)


def _once(of: Callable[[Histories], Ints]) -> Callable[[Histories], Ints]:
    """Return the same function, that remembers what it said of the last histories."""
    kept: list[tuple[Histories, Ints]] = []

    def told(h: Histories) -> Ints:
        if not kept or kept[0][0] is not h:
            kept[:] = [(h, of(h))]
        return kept[0][1]

    return told


def _sorted(
    purse: Purse, sets: Sets, most: int, norm: float, by_code: float, n: int, what: str,
    rng: np.random.Generator,
) -> tuple[Classes, Noisy]:  # fmt: skip
    """Return classes of sets of codes, (codes, classes), and the noisy products of codes."""
    alone = Classes(np.zeros((n, 1)), np.zeros(1))
    if not sets.width:
        return alone, Noisy(np.zeros((0, 0)), 1.0)
    directions, centres, moment = found_centres(
        purse, sets, most, norm, f"{what} by codes", what, rng
    )
    if len(centres) == 1:
        return alone, moment
    near, wide = classes_by_centres(sets, directions, centres), sets.width + 1

    def tell(h: Histories) -> Told:
        label, owners = near(h), sets.owners(h)
        own = sets.of(h)[:, sets.codes].tocoo()
        place = np.concatenate([label[own.row] * wide + own.col, label * wide + sets.width])
        return Told(np.concatenate([owners[own.row], owners]), place)

    found = purse.buy(
        tell, len(centres) * wide, norm=float(np.hypot(norm, by_code)), share="speaking",
        what=f"codes within classes of {what}", part=0.5,
    ).shaped(len(centres), wide)  # fmt: skip
    told = speaking(found.value[:, :-1], found.value[:, -1], found.noise)
    whole = np.zeros((n, len(centres)))
    whole[sets.codes] = told.log_odds
    return Classes(whole, told.constant), moment


# ------------------------------------------------------------------ parts


def _parts(
    purse: Purse, public: _Public, labels: Labels, spoken: tuple[Classes, Classes],
    bounds: Bounds, seen: Seen, reached: Floats, settings: Settings, private: Any,
) -> tuple[Parts, Any]:  # fmt: skip
    """Buy everything but what is told once a subject."""
    n, z = len(public.schema), labels.classes
    births, sex = private
    n_sexes = fitting.n_sexes(public.schema)
    sizes = {
        "codes": n, "classes": z, "dated": z - 1, "ages": fitting.AGES,
        "profiles": labels.n_profiles, "sexes": n_sexes, "edges": settings.causes,
    }  # fmt: skip
    by_kind = sizes_of_classes(purse, labels, public.kinds, bounds)
    process, gaps, lasts, delays = bought_process(
        purse, labels, bounds, by_kind, public.kinds, public.deaths, reached
    )
    visits = np.maximum(by_kind["kinds"].value.sum(axis=1), 0.0)
    targets = bought_targets(
        purse, labels, bounds, seen, public.domains,
        lambda h: fitting.age_groups(h.start, births.it[h.whose]), lambda h: sex.it, sizes,
    )  # fmt: skip
    rates = begun(targets, public.domains, visits, settings.causes)
    moments, waits, spans = bought_moments(purse, public.bearing, labels, bounds)
    values, numbers, durations = bought_values(
        purse, public.bearing, labels, bounds, lambda h: sex.it, n_sexes
    )
    sizes |= {"places": process.goes_on.size, "kinds": process.kinds.size,
              "deaths": process.deaths.size, "moments": 1, "said": values.texts.size,
              "ends": n + 1, "factors": 0}  # fmt: skip
    return Parts(*spoken, process, gaps, lasts, delays, rates, moments, waits, spans, values,
                 numbers, durations, sizes), targets  # fmt: skip


# ------------------------------------------------------------------ subjects


def _opening(h: Histories) -> tuple[Ints, NDArray[np.datetime64]]:
    """Return who has a first visit with a time, and when."""
    at = np.flatnonzero(h.place == 0)
    return h.whose[at], h.start[at]


def _years(purse: Purse) -> tuple[float, float]:
    """Return between which seconds since 1970 first visits are, by noisy counts of years."""

    def tell(h: Histories) -> Told:
        whose, start = _opening(h)
        year = start.astype("datetime64[Y]").astype(np.int64) + 1970
        return Told(whose, np.clip(year - YEARS[0], 0, YEARS.size - 1))

    found = purse.buy(tell, YEARS.size, norm=1.0, share="years", what="years of first visits")
    out = np.flatnonzero(found.value > SEEN * found.noise)
    first, last = (out[0], out[-1]) if out.size else (0, YEARS.size - 1)
    ends = [f"{YEARS[first]}-01-01", f"{YEARS[last] + 1}-01-01"]
    low, high = np.array(ends, "datetime64[s]").astype(np.float64)
    return float(low), float(high) - 1.0


def _widened(
    data: Events, purse: Purse, labels: Labels, parts: Parts, years: tuple[float, float],
    longest: int,
) -> tuple[Table, dict[str, str]]:  # fmt: skip
    """Return static facts with what is drawn beside them, within public bounds; still private."""
    with measuring():
        h = purse.private
        start = np.full(h.n_subjects, "NaT", "datetime64[us]")
        whose, when = _opening(h)
        ends = (np.array(years) * 1e6).astype(np.int64).view("datetime64[us]")
        start[whose] = np.clip(when, ends[0], ends[1])
        counts = np.bincount(h.whose[h.dated], minlength=h.n_subjects).astype(np.float64)
        counts = np.minimum(counts, longest)
        without = np.zeros(h.n_subjects, np.int32)
        without[h.whose[~h.dated]] = 1
        deaths = parts.process.deaths
        died = np.where(h.death >= 0, np.searchsorted(deaths, h.death) + 1, 0).astype(np.int32)
        pace = np.round(np.clip(paces(h, labels, parts.gaps), -FAR, FAR), 1)
        added: dict[str, tuple[Column, NDArray[Any]]] = {
            "first visit": (Column("", "datetime", minimum=years[0], maximum=years[1]), start),
            "visits": (Column("", "integer", minimum=0, maximum=longest), counts),
            "pace": (Column("", "continuous", decimals=1, minimum=-FAR, maximum=FAR), pace),
            "profile": (_levels(labels.n_profiles), labels.profiles(h).astype(np.int32)),
            "death": (_levels(deaths.size + 1), died),
            "undated": (_levels(2), without),
        }
        wide = widened(data.static, added)
    names = [column.name for column in wide.schema.columns[len(data.schema.static.columns) :]]
    return wide, dict(zip(added, names, strict=True))


def _levels(n: int) -> Column:
    return Column("", "categorical", categories=tuple(str(i) for i in range(n)))
