"""Fitting histories of visits: from arrays to the parts of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.synthesizers.events._codes import parents_of
from manikin.synthesizers.events._quantiles import Quantiles
from manikin.synthesizers.events._visits_causes import causes_before, causes_beside
from manikin.synthesizers.events._visits_classes import Classes, mixture
from manikin.synthesizers.events._visits_levels import Levels, find_levels
from manikin.synthesizers.events._visits_moments import Moments, fit_moments
from manikin.synthesizers.events._visits_process import Process, fit_process, paces
from manikin.synthesizers.events._visits_rates import Contexts, Learning, Rates, fit_rates
from manikin.synthesizers.events._visits_risk import Returns, cells_of, returns
from manikin.synthesizers.events._visits_settle import settled
from manikin.synthesizers.events._visits_traits import NO_TRAITS, Traits, find_traits
from manikin.synthesizers.events._visits_values import Values, fit_values, rest_of
from manikin.synthesizers.events.encoding import Histories, widened

__all__ = ["AGES", "Latent", "Parts", "age_groups", "bags", "groups", "hot", "latent", "marked",
           "n_sexes", "parts", "sexes", "told", "widen"]  # fmt: skip

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Times: TypeAlias = NDArray[np.datetime64]

AGES = 8  # groups of 15 years, the last for what is not known
RISKS = 6_000_000  # possible returns that are looked at; of more, those of some subjects
BLOCK = 4_000_000  # cells looked at in one go
MOST_LEVELS = 8  # of a column by which codes and numbers may differ
VISITS_A_CLASS = 3.0  # by the square root of visits: as many classes
SUBJECTS_A_PROFILE = 3.0


class Settings(Protocol):
    """What of the recipe matters here."""

    @property
    def causes(self) -> int: ...
    @property
    def moments(self) -> int: ...
    @property
    def k(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Latent:
    """Classes of visits and subjects, and factors of numbers."""

    sets: Any  # sparse (visits, codes)
    model: Classes
    classes: Ints  # (visits,); the last class is that of what has no time
    n_classes: int
    bags: Classes
    profiles: Ints  # (subjects,)
    pace: Floats
    levels: Levels


@dataclass(frozen=True)
class Parts:
    """The parts of a fitted model, by what they draw."""

    visits: Classes
    subjects: Classes
    process: Process
    gaps: Quantiles
    lengths: Quantiles
    delays: Quantiles
    rates: Rates
    moments: Moments
    waits: Quantiles
    spans: Quantiles
    values: Values
    numbers: Quantiles
    durations: Quantiles
    sizes: dict[str, int]
    traits: Traits = NO_TRAITS


def hot(h: Histories) -> Any:
    """Return which codes each visit has, sparse (visits, codes)."""
    starts, code = h.multi_hot
    return sp.csr_matrix((np.ones(code.size), code, starts), shape=(h.n, h.n_codes))


def bags(h: Histories, sets: Any) -> Any:
    """Return which codes each subject has, sparse (subjects, codes)."""
    member = sp.csr_matrix((np.ones(h.n), (h.whose, np.arange(h.n))), shape=(h.n_subjects, h.n))
    found = (member @ sets).tocsr()
    found.data[:] = 1.0
    return found


def marked(h: Histories, sets: Any) -> Any:
    """Return the codes of visits, with the kind of the stay among them."""
    rows = np.flatnonzero(h.kind >= 0)
    kinds = sp.csr_matrix((np.ones(rows.size), (rows, h.kind[rows])), shape=sets.shape)
    found = (sets + kinds).tocsr()
    found.data[:] = 1.0
    return found


def latent(h: Histories, most: int, profiles: int, k: int, rng: np.random.Generator) -> Latent:
    """Sort visits and subjects into classes, and find the factors of numbers."""
    sets = hot(h)
    dated = np.flatnonzero(h.dated)
    wanted = int(min(most, max(1, np.sqrt(dated.size) / VISITS_A_CLASS)))
    model, label = mixture(marked(h, sets)[dated], h.whose[dated], wanted, k, rng)
    n_classes = model.constant.size + 1
    classes = np.full(h.n, n_classes - 1, np.int64)
    classes[dated] = label
    wanted = int(min(profiles, max(1, np.sqrt(h.n_subjects) / SUBJECTS_A_PROFILE)))
    bag = bags(h, sets)
    found, who = mixture(bag, np.arange(h.n_subjects), wanted, k, rng)
    pace, levels = paces(h, classes), find_levels(h, k)
    return Latent(sets, model, classes, n_classes, found, who, pace, levels)


def age_groups(start: Times, births: Times) -> Ints:
    """Return groups of 15 years of age at each visit; the last for what is not known."""
    years = (start - births).astype("timedelta64[D]").astype(np.float64) / 365.2425
    unknown = np.isnat(start) | np.isnat(births)
    return np.where(unknown, AGES - 1, np.clip(np.where(unknown, 0, years) // 15, 0, AGES - 2)
                    ).astype(np.int64)  # fmt: skip


def telling(schema: EventSchema) -> tuple[Column, ...]:
    """Return the static columns by which codes and numbers may differ: sex, and the target."""
    target = schema.static.holder("target")
    found = [schema.static[schema.sex]] if schema.sex else []
    if target is not None and target.name != schema.sex:
        found.append(target)
    return tuple(c for c in found if c.is_coded and len(c.categories) <= MOST_LEVELS)


def n_sexes(schema: EventSchema) -> int:
    """Return how many combinations of sex and target there are, each of them known or not."""
    return int(np.prod([len(column.categories) + 1 for column in telling(schema)], dtype=int))


def sexes(static: Table, schema: EventSchema) -> Ints:
    """Return the combination of sex and target of each subject, (subjects,).

    Levels are told by their spelling; one that the schema has not is unknown.
    """
    found = np.zeros(static.n_rows, np.int64)
    for column in telling(schema):
        n = len(column.categories)
        code = np.full(static.n_rows, n)
        if column.name in static.schema and static.schema[column.name].is_coded:
            place = {spelling: i for i, spelling in enumerate(column.categories)}
            to = [place.get(one, n) for one in static.schema[column.name].categories]
            code = np.array([*to, n], np.int64)[static.columns[column.name]]
        found = found * (n + 1) + code
    return found


def parts(
    h: Histories,
    found: Latent,
    births: Times,
    sex: tuple[Ints, int],
    group: tuple[Ints, int],
    alike: Ints,
    settings: Settings,
    rng: np.random.Generator,
) -> Parts:
    """Learn everything but what is told once a subject."""
    k, z = settings.k, found.n_classes
    sizes = {
        "codes": h.n_codes,
        "classes": z,
        "dated": found.model.constant.size,
        "ages": AGES,
        "profiles": found.bags.constant.size,
        "sexes": sex[1],
        "edges": settings.causes,
    }
    process, gaps, lengths, delays = fit_process(h, found.classes, found.profiles, sizes, k)
    contexts = Contexts.build(
        found.classes, found.profiles[h.whose], age_groups(h.start, births[h.whose]),
        sex[0][h.whose],
    )  # fmt: skip
    rates = _rates(h, found, contexts, alike, sizes, settings, rng)
    moments, waits, spans = fit_moments(h, found.classes, z, settings.moments, k, rng)
    values, numbers, durations = fit_values(h, found.classes, z, sex, found.levels, k)
    rest = rest_of(h, found.classes, sex[0], found.levels, values)
    traits, values = find_traits(h, values, rest, moments, found.levels.own, group, k)
    sizes |= {"places": process.goes_on.size, "kinds": process.kinds.size,
              "deaths": process.deaths.size, "moments": moments.step.shape[0],
              "said": values.texts.size, "ends": h.n_codes + 1,
              "factors": found.levels.load.shape[1]}  # fmt: skip
    return Parts(found.model, found.bags, process, gaps, lengths, delays, rates, moments, waits,
                 spans, values, numbers, durations, sizes, traits)  # fmt: skip


def _rates(
    h: Histories,
    found: Latent,
    contexts: Contexts,
    alike: Ints,
    sizes: dict[str, int],
    settings: Settings,
    rng: np.random.Generator,
) -> Rates:
    cells = cells_of(h)
    risk, at_risk, looked_at = _returns(h, cells, contexts)
    previous = np.arange(h.n) - 1
    previous[h.starts[:-1][np.diff(h.starts) > 0]] = -1
    new = cells.first
    first = sp.csr_matrix(
        (np.ones(int(new.sum())), (cells.visit[new], cells.code[new])), shape=found.sets.shape
    )
    edges, least = settings.causes, settings.k
    beside = causes_beside(found.sets, found.classes, h.whose, edges, least)
    before = causes_before(found.sets, first, previous, found.classes, h.whose, edges, least)
    data = Learning(
        contexts, cells, risk, at_risk, np.sort(cells.visit * h.n_codes + cells.code), previous,
        alike, h.n_codes, looked_at, sizes,
    )  # fmt: skip
    rates = fit_rates(data, beside, before)
    return settled(rates, h, data, rng) if cells.code.size else rates


def _returns(h: Histories, cells: Any, contexts: Contexts) -> tuple[Returns, Any, int]:
    """Return what could come back, how often in all, and of how many subjects it was looked at."""
    whose = h.whose[cells.visit[cells.first]]
    after = h.starts[whose + 1] - cells.visit[cells.first] - 1
    size = np.bincount(whose, weights=after, minlength=h.n_subjects)
    total = np.concatenate([[0.0], np.cumsum(size)])
    shape = (contexts.n, h.n_codes)
    at_risk = sp.csc_matrix(shape)
    kept: list[Returns] = []
    lo = looked_at = 0
    while lo < h.n_subjects:
        hi = max(lo + 1, int(np.searchsorted(total, total[lo] + BLOCK, side="right")) - 1)
        some = returns(h, cells, (lo, hi))
        u = contexts.of[some.visit]
        at_risk = at_risk + sp.csc_matrix((np.ones(u.size), (u, some.code)), shape=shape)
        if total[lo] <= RISKS:
            kept.append(some)
            looked_at = hi
        lo = hi
    names = ("visit", "code", "past", "since", "again")
    joined = [np.concatenate([getattr(one, name) for one in kept]) for name in names]
    return Returns(*joined), at_risk, looked_at


# ------------------------------------------------------------------ subjects


def widen(static: Table, h: Histories, found: Latent, own: Floats) -> tuple[Table, dict[str, str]]:
    """Return static facts with what is drawn beside them, and the names of those columns.

    `own` are the factors of subjects, (subjects, factors).
    """
    opening = np.flatnonzero(h.place == 0)
    start = np.full(h.n_subjects, "NaT", "datetime64[us]")
    start[h.whose[opening]] = h.start[opening]
    counts = np.bincount(h.whose[h.dated], minlength=h.n_subjects).astype(np.float64)
    without = np.zeros(h.n_subjects, bool)
    without[h.whose[~h.dated]] = True
    deaths = np.unique(h.death[h.death >= 0])
    died = np.where(h.death >= 0, np.searchsorted(deaths, h.death) + 1, 0)
    added: dict[str, tuple[Column, NDArray[Any]]] = {
        "first visit": (Column("", "datetime"), start),
        "visits": (Column("", "integer"), counts),
        "pace": (Column("", "continuous", decimals=3), np.round(found.pace, 3)),
        "profile": (_levels(found.bags.constant.size), found.profiles.astype(np.int32)),
        "death": (_levels(deaths.size + 1), died.astype(np.int32)),
        "undated": (_levels(2), without.astype(np.int32)),
    }
    for i in range(own.shape[1]):
        values = np.round(own[:, i], 3)
        added[f"level {i + 1}"] = (Column("", "continuous", decimals=3), values)
    wide = widened(static, added)
    names = [column.name for column in wide.schema.columns[len(static.schema.columns) :]]
    return wide, dict(zip(added, names, strict=True))


def _levels(n: int) -> Column:
    return Column("", "categorical", categories=tuple(str(i) for i in range(n)))


def told(fitted: Any, source: TableSchema) -> TableSchema:
    """Return the static schema of what comes back: spellings that the table model knows."""
    columns = tuple(
        fitted[column.name] if column.is_learned else column for column in source.columns
    )
    return TableSchema(columns, source.rules, source.declared)


def groups(schema: EventSchema) -> Ints:
    """Return codes beneath the same parent as one group, others by their domain."""
    names = [
        f"{code.domain} {parents_of(code)[0]}" if parents_of(code) else code.domain
        for code in schema.codes
    ]
    return np.asarray(np.unique(np.array(names, str), return_inverse=True)[1], np.int64)
