"""Forecasts: how likely an event is, by drawing what may follow a history many times.

Reference  Renc et al., npj Digital Medicine 2024 (zero-shot risk as the share of drawn futures);
           van Houwelingen, Scand. J. Stat. 2007 (landmarks: those still under observation at a
           time, judged by what came after); Brier, Monthly Weather Review 1950
Idea       the risk of a subject is the share of futures in which the event is recorded within the
           horizon; the error of that share is known from their number. Where the cut comes later
           than the last event, futures with something in between are not this subject's, and are
           left out
Use when   a model of histories that can continue one (`Continued`) was fitted on other subjects

What is foretold is that an event is *recorded*: records that end without it count as without it,
and so they do in `calibrate`. A forecast under another treatment is what a model draws when it is
shown that treatment: no evidence of what the treatment does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.errors import ConditionError, InputError, NotSupported
from manikin.synthesizer import Continued, Watch, report, silent

__all__ = [
    "Calibration",
    "Forecast",
    "Group",
    "Measured",
    "Treatment",
    "calibrate",
    "cut",
    "forecast",
]

Floats: TypeAlias = NDArray[np.float64]
Times: TypeAlias = NDArray[np.datetime64]

AT_ONCE = 20_000  # futures drawn in one call
SMALLEST = 11  # subjects of a group that is told of
FEW = 20  # futures that are left, below which a risk is not told
DAY_US = 86_400_000_000.0
MARK = "drawn by a model that is shown another treatment: not evidence of what it does"


@dataclass(frozen=True)
class Treatment:
    """Another treatment, at the cut: events that are added there, and others that are taken out."""

    add: tuple[str, ...] = ()  # names of codes
    instead_of: tuple[str, ...] = ()  # names of codes at the time of the last event


@dataclass(frozen=True, eq=False)
class Forecast:
    """How likely an event is for each subject, within so many days after the cut."""

    codes: tuple[str, ...]  # any of which is the event
    days: float
    subjects: NDArray[np.int64]  # (subjects,)
    risk: Floats  # (subjects,) NaN where nothing can be foretold: the dead, and those without times
    error: Floats  # (subjects,) standard error of the risk, by the number of futures alone
    mean_days: Floats  # (subjects,) until the event, where it happens; NaN where it never does
    free_days: Floats  # (subjects,) expected days without it, up to the horizon
    had: NDArray[np.bool_]  # (subjects,) whether it was before the cut already
    kept: NDArray[np.int64]  # (subjects,) futures that the risk is the share of
    mark: str = ""  # what a reader must know; "" where nothing

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping a subject, with None for what is not known."""
        named = ("risk", "error", "mean_days", "free_days")
        columns = {name: getattr(self, name).tolist() for name in named}
        return [
            {"subject": int(subject)}
            | {name: None if math.isnan(v[i]) else v[i] for name, v in columns.items()}
            | {"had": bool(self.had[i]), "futures": int(self.kept[i])}
            for i, subject in enumerate(self.subjects)
        ]


def forecast(
    model: object,
    history: Events,
    *,
    codes: str | Sequence[str],
    days: float,
    futures: int = 100,
    seed: int = 0,
    at: Times | None = None,
    treatment: Treatment | None = None,
    watch: Watch = silent,
) -> Forecast:
    """Return how likely any of `codes`, or what is below them in their tree, is within `days`.

    Days count from each subject's last event, or from the cut `at` (subjects,) where one is given.
    Raises NotSupported for a model that continues no history or never draws such a code,
    ConditionError for a code that nobody knows.
    """
    names = (codes,) if isinstance(codes, str) else tuple(codes)
    continued = _continued(model, days, futures)
    drawn_of = continued.schema
    assert isinstance(drawn_of, EventSchema)
    wanted = _wanted(drawn_of, history.schema, names)
    last = _last(history)
    start = last if at is None else np.asarray(at, "datetime64[us]")
    if start.shape != (history.n_subjects,):
        raise InputError(
            f"{start.size} cuts for {history.n_subjects} subjects", "one each", "give one each"
        )
    if treatment is not None:
        history = treated(history, treatment, drawn_of)
    waited = np.nan_to_num((start - last) / np.timedelta64(1, "us") / DAY_US)
    if (waited < 0).any():
        raise InputError(
            f"events after the cut in {int((waited < 0).sum())} histories",
            "histories that end at their cut",
            "cut them first: forecasting.cut",
        )
    had = np.zeros(history.n_subjects, bool)
    had[history.whose[np.isin(history.code, _places(history.schema, names))]] = True
    parts: list[tuple[Floats, ...]] = [(np.zeros(0),) * 5]
    size = max(AT_ONCE // futures, 1)
    for block, first in enumerate(range(0, history.n_subjects, size)):
        report(watch, first, history.n_subjects, "drawing futures")
        chosen = slice(first, first + size)
        own = history.take(history.subjects[chosen])
        own_seed = int(generator(seed, "forecast", block).integers(2**62))
        parts.append(_risks(continued, own, wanted, waited[chosen], days, futures, own_seed))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    risk, error, mean_days, free_days, kept = columns
    dead = _dead(history) | np.isnat(start)
    for column in (risk, error, mean_days, free_days):
        column[dead] = np.nan
    mark = MARK if treatment is not None else ""
    return Forecast(
        names, days, history.subjects, risk, error, mean_days, free_days, had,
        np.where(dead, 0, kept).astype(np.int64), mark,
    )  # fmt: skip


def _risks(
    model: Continued[Events], history: Events, wanted: NDArray[np.int64], waited: Floats,
    days: float, futures: int, seed: int,
) -> tuple[Floats, ...]:  # fmt: skip
    """Return risk, error, days until the event, days without it, and futures, (subjects,)."""
    reach = days + float(waited.max(initial=0.0))
    drawn = model.continue_from(history, days=reach, futures=futures, seed=seed)
    owner = drawn.whose // futures
    after = (drawn.time - _last(history)[owner]) / np.timedelta64(1, "us") / DAY_US - waited[owner]
    early = np.zeros(history.n_subjects * futures, bool)
    early[drawn.whose[(after <= 0) & (waited[owner] > 0)]] = True
    hit = np.isin(drawn.code, wanted) & (after <= days)
    until: NDArray[Any] = np.full(early.size, np.inf)
    np.minimum.at(until, drawn.whose[hit], np.maximum(after[hit], 0.0))
    until, kept = until.reshape(-1, futures), ~early.reshape(-1, futures)  # (subjects, futures)
    n = kept.sum(1)
    happens = np.isfinite(until) & kept
    hits = happens.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        risk = np.where(n > 0, hits / n, np.nan)
        # one future more of each kind: the error of 0 of 100 is not 0 (Agresti and Coull, 1998)
        smooth = (hits + 1) / (n + 2)
        error = np.where(n > 0, np.sqrt(smooth * (1 - smooth) / n), np.nan)
        mean_days = np.where(happens, until, 0).sum(1) / hits
        free = np.where(kept, np.minimum(until, days), 0).sum(1) / n
    few = (n < FEW) & (n < futures)
    for column in (risk, error, mean_days, free):
        column[few] = np.nan
    return risk, error, np.where(hits > 0, mean_days, np.nan), free, n.astype(np.float64)


# ------------------------------------------------------------------ histories


def cut(events: Events, at: np.datetime64 | float) -> tuple[Events, Events, Times]:
    """Return what was up to a cut, what came after it, and when that is for each subject.

    The cut is a time for all, or a number of days after each subject's first event. Subjects who
    had nothing by then are in neither part.
    """
    timed = ~np.isnat(events.time)
    if isinstance(at, np.datetime64):
        when = np.full(events.n_subjects, at.astype("datetime64[us]"))
    elif math.isfinite(at) and at >= 0:
        rows = np.flatnonzero(timed)[::-1]
        when = np.full(events.n_subjects, "NaT", "datetime64[us]")
        when[events.whose[rows]] = events.time[rows]  # the first one is written last
        when = when + np.timedelta64(int(at * DAY_US), "us")
    else:
        raise InputError(f"a cut after {at} days", "0 days or more", "correct the cut")
    earlier = timed & (events.time <= when[events.whose])
    known = np.zeros(events.n_subjects, bool)
    known[events.whose[earlier]] = True
    chosen = events.subjects[known]
    before = events.rows(~timed | earlier).take(chosen)
    return before, events.rows(timed & ~earlier).take(chosen), when[known]


def treated(history: Events, treatment: Treatment, schema: EventSchema) -> Events:
    """Return histories that end with another treatment, at the time of each one's last event."""
    added = [_one(schema, name) for name in treatment.add]
    if not added and not treatment.instead_of:
        raise InputError(
            "a treatment that changes nothing", "codes to add or to take out", "name one"
        )
    codes = list(history.schema.codes)
    place = dict(history.schema.place)
    for code in added:
        if code.key not in place:
            place[code.key] = len(codes)
            codes.append(code)
    own = dataclasses.replace(history.schema, codes=tuple(codes))
    last = _last(history)
    out = _places(history.schema, treatment.instead_of)
    gone = np.isin(history.code, out) & (history.time == last[history.whose])
    kept = history.rows(~gone)
    known = np.flatnonzero(~np.isnat(last))
    n, m = known.size, len(added)
    visit = np.full(history.n_subjects, -1, np.int32)  # that of the last event
    visit[history.whose] = history.visit
    none, nat = np.full(n * m, -1), np.full(n * m, "NaT", "datetime64[us]")
    return Events.of(
        own, history.static,
        np.concatenate([kept.whose, np.tile(known, m)]),
        np.concatenate([kept.time, np.tile(last[known], m)]),
        np.concatenate([kept.code, np.repeat([place[c.key] for c in added], n)]),
        np.concatenate([kept.value, np.full(n * m, np.nan)]),
        np.concatenate([kept.text, none]), np.concatenate([kept.end, nat]),
        np.concatenate([kept.visit, np.tile(visit[known], m)]), history.texts,
    )  # fmt: skip


def _last(events: Events) -> Times:
    """Return the time of each subject's last event, NaT for none, (subjects,)."""
    last = np.full(events.n_subjects, "NaT", "datetime64[us]")
    last[events.whose] = events.time  # ascending, NaT first: the last one stays
    return last


def _dead(events: Events) -> NDArray[np.bool_]:
    found = np.zeros(events.n_subjects, bool)
    found[events.whose[np.isin(events.code, events.schema.of("death"))]] = True
    return found


# ------------------------------------------------------------------ codes


def _places(schema: EventSchema, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the places of codes of these names and of all that are below them."""
    return np.array(schema.beneath(names), np.int64)


def _wanted(model: EventSchema, history: EventSchema, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the places of the event's codes in what the model draws."""
    for name in names:
        if not _places(model, (name,)).size:
            if not _places(history, (name,)).size:
                raise ConditionError(
                    f"'{name[:80]}' is no code that the model or the histories know",
                    "a code as VOCABULARY/code, or one above it in its tree",
                    "check the spelling",
                )
            raise NotSupported(
                f"the model never draws '{name[:80]}'",
                "codes that enough subjects had when it was fitted",
                "name one above it in its tree, or fit a model on more subjects",
            )
    return _places(model, names)


def _one(schema: EventSchema, name: str) -> Any:
    places = schema.named.get(name, ())
    if not places:
        raise ConditionError(
            f"'{name[:80]}' is no code that the model knows",
            "a code as VOCABULARY/code",
            "check the spelling",
        )
    return schema.codes[places[0]]


def _continued(model: object, days: float, futures: int) -> Continued[Events]:
    if not isinstance(model, Continued):
        raise NotSupported(
            "a forecast by a model that cannot continue a history",
            "one that can: events/trajectory, for instance",
            "fit such a model: manikin list says which can",
        )
    if not (math.isfinite(days) and days > 0 and futures >= FEW):
        raise InputError(
            f"{futures} futures of {days:g} days",
            f"{FEW} futures or more, and days above 0",
            "correct them",
        )
    return model


# ------------------------------------------------------------------ calibration


@dataclass(frozen=True)
class Measured:
    """A figure and its 95 % interval, by resampling subjects."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Group:
    """Subjects of like risk: what was foretold and what came, with an exact interval."""

    subjects: int
    foretold: float
    came: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """How a model's forecasts of an event did on subjects that it was not fitted on."""

    codes: tuple[str, ...]
    days: float
    subjects: int  # alive and known at the cut, of whom something could be foretold
    left_out: int  # of whom too few futures were left
    events: int  # how many had the event within the horizon
    foretold: float  # mean risk
    came: float  # share with the event
    brier: Measured
    skill: Measured  # share of the Brier score of one risk for all that is done without
    auroc: Measured
    curve: tuple[Group, ...]  # by rising risk; groups of at least 11 subjects
    forecast: Forecast


def calibrate(
    model: object,
    held_out: Events,
    *,
    codes: str | Sequence[str],
    cut_at: np.datetime64 | float,
    days: float,
    futures: int = 100,
    groups: int = 10,
    seed: int = 0,
    watch: Watch = silent,
) -> Calibration:
    """Cut histories, foretell what comes within `days` of the cut, and compare with what came.

    Raises InputError where fewer than 11 subjects can be judged.
    """
    from manikin.metrics import intervals

    names = (codes,) if isinstance(codes, str) else tuple(codes)
    before, after, at = cut(held_out, cut_at)
    dead = _dead(before)
    before, after, at = (
        before.take(before.subjects[~dead]),
        after.take(after.subjects[~dead]),
        at[~dead],
    )
    found = forecast(
        model, before, codes=names, days=days, futures=futures, seed=seed, at=at, watch=watch
    )
    wanted = np.isin(after.code, _places(after.schema, names))
    delay = (after.time - at[after.whose]) / np.timedelta64(1, "us") / DAY_US
    truth = np.zeros(before.n_subjects, bool)
    truth[after.whose[wanted & (delay <= days)]] = True
    known = ~np.isnan(found.risk)
    if known.sum() < SMALLEST:
        raise InputError(
            f"{int(known.sum())} subjects that a forecast can be judged on",
            f"{SMALLEST} or more, alive and with an event before the cut",
            "choose another cut, a shorter horizon, or more futures",
        )
    risk, came, whose = found.risk[known], truth[known], found.subjects[known]
    dealt = intervals.blocks(whose, generator(seed, "calibrate"))
    n = np.maximum(dealt.sums(np.ones(risk.size)), 1e-300)
    squared = (risk - came) ** 2
    brier = float(squared.mean())
    brier_draws = dealt.sums(squared) / n
    share = dealt.sums(came.astype(np.float64)) / n
    base = float(came.mean() * (1 - came.mean()))
    with np.errstate(divide="ignore", invalid="ignore"):
        skill_draws = 1 - brier_draws / (share * (1 - share))
    auroc = intervals.auc(risk, came)
    return Calibration(
        names, days, int(known.sum()), int((~known).sum()), int(came.sum()), float(risk.mean()),
        float(came.mean()),
        Measured(brier, intervals.recentred(brier, brier_draws, 0.0, 1.0)),
        _measured(1 - brier / base if base else math.nan, skill_draws, -math.inf),
        _measured(auroc, intervals.auc_draws(risk, came, dealt), 0.0),
        _curve(risk, came, groups), found,
    )  # fmt: skip


def _measured(value: float, draws: Floats, least: float) -> Measured:
    from manikin.metrics import intervals

    return Measured(value, intervals.recentred(value, draws, least, 1.0))


def _curve(risk: Floats, came: NDArray[np.bool_], groups: int) -> tuple[Group, ...]:
    """Return the reliability curve: groups of equal size by rising risk."""
    from manikin.metrics import intervals

    n = max(1, min(groups, risk.size // SMALLEST))
    order = np.argsort(risk, kind="stable")
    found = []
    for part in np.array_split(order, n):
        hits = float(came[part].sum())
        found.append(
            Group(part.size, float(risk[part].mean()), hits / part.size,
                  intervals.binomial(hits, part.size))
        )  # fmt: skip
    return tuple(found)
