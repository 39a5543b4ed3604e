"""What a report shows of histories: synthetic timelines, and both sides in cells of many.

Nobody real is drawn. Codes that fewer than eleven real subjects have, or lack, are not named beside
a number; ranges hold eleven real subjects or none; quantiles are means over eleven subjects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.summaries import called
from manikin.data.table import Table
from manikin.data.visits import Visits, visits_of
from manikin.metrics.fidelity.progression import days_since_start
from manikin.metrics.histories import together
from manikin.metrics.score import Trial
from manikin.privacy.cells import SMALLEST_CELL, hidden, n_different, quantiles_of_many
from manikin.release.summaries import ColumnSummary, summarize

__all__ = [
    "CodeShare",
    "Fan",
    "FanBand",
    "HistoryPages",
    "Mark",
    "Timeline",
    "distributions_of",
    "history_pages",
    "holders_of",
    "real_histories",
]

TIMELINES, MARKS, VISITS_TOLD, CODES_TOLD = 8, 400, 8, 8
CODES = 400  # points of the scatter, the commonest
FANS, BANDS = 6, 8
SHARES = (0.25, 0.5, 0.75)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mark:
    """One event of a synthetic timeline."""

    day: float
    domain: str
    until: float | None = None  # of what lasts


@dataclass(frozen=True)
class Timeline:
    """One synthetic patient: what happened when, and the first visits in words."""

    title: str
    days: float  # length of the record
    marks: tuple[Mark, ...]
    told: tuple[str, ...]
    named: tuple[str, ...]  # codes that these words name
    more: int  # visits that are not told


@dataclass(frozen=True)
class CodeShare:
    """How many patients ever have a code."""

    name: str
    domain: str
    real: float
    synthetic: float


@dataclass(frozen=True)
class FanBand:
    """Quartiles of a number in one band of days since the first event."""

    low: float
    high: float | None  # not included; None: open
    real: tuple[float, float, float]
    synthetic: tuple[float, float, float]


@dataclass(frozen=True)
class Fan:
    """The course of one number."""

    name: str
    unit: str
    bands: tuple[FanBand, ...]


@dataclass(frozen=True)
class HistoryPages:
    """Everything that a report draws of histories."""

    n_events: int  # synthetic
    n_codes: int
    timelines: tuple[Timeline, ...]
    codes: tuple[CodeShare, ...]
    n_hidden: int  # codes of the schema that have no point
    fans: tuple[Fan, ...]
    distributions: tuple[ColumnSummary, ...]


def history_pages(trial: Trial[Events]) -> HistoryPages:
    """Gather what a report draws of histories, under the small-cell rule."""
    trial = together(trial)
    real, drawn = real_histories(trial), trial.synthetic
    codes = _codes(real, drawn)
    held = holders_of(real)
    of_real, of_drawn = distributions_of(real), distributions_of(drawn)
    return HistoryPages(
        n_events=drawn.n_events,
        n_codes=len(drawn.schema),
        timelines=tuple(_timelines(drawn, held >= SMALLEST_CELL)),
        codes=codes[:CODES],
        n_hidden=len(drawn.schema) - min(len(codes), CODES),
        fans=tuple(_fans(trial.train, real, drawn)),
        distributions=tuple(
            summarize(table.schema.columns[0], table, of_drawn[name])
            for name, table in of_real.items()
            if table.n_rows and of_drawn[name].n_rows
        ),
    )


def real_histories(trial: Trial[Events]) -> Events:
    """Return training and held-out histories together, numbered anew."""
    trial = together(trial)
    after = trial.train.n_subjects
    return Events.concatenate([trial.train.renumbered(), trial.holdout.renumbered(after)])


def holders_of(events: Events) -> NDArray[np.int64]:
    """Return how many subjects ever have each code, (codes,)."""
    n = len(events.schema)
    pairs = np.unique(events.whose * n + events.code) if n else np.zeros(0, np.int64)
    return np.bincount(pairs % max(n, 1), minlength=n).astype(np.int64)


def _codes(real: Events, drawn: Events) -> tuple[CodeShare, ...]:
    held, found = holders_of(real), holders_of(drawn)
    n, m = real.n_subjects, max(1, drawn.n_subjects)
    order = np.argsort(-held, kind="stable")
    return tuple(
        CodeShare(
            called(real.schema, int(i)), real.schema.codes[i].domain,
            round(float(held[i] / n), 4), round(float(found[i] / m), 4),
        )
        for i in order
        if held[i] >= SMALLEST_CELL and not hidden(int(n - held[i]))
    )  # fmt: skip


# ── distributions ──────────────────────────────────────────────────────────────────────────────


def distributions_of(events: Events) -> dict[str, Table]:
    """Return tables of one column each, whose rows are of patients, visits or gaps."""
    visits = visits_of(events)
    everyone = np.arange(events.n_subjects)
    gaps = visits.gaps_days()
    later = np.flatnonzero(~np.isnan(gaps))
    size = np.bincount(visits.of[visits.of >= 0], minlength=visits.n)
    seen, length = _lengths(visits)
    stay = (visits.end - visits.start) / np.timedelta64(1, "D")
    lasting = np.flatnonzero(stay > 0)
    parts: dict[str, tuple[Any, NDArray[np.int64], int]] = {
        "Visits of a patient": (visits.counts, everyone, 0),
        "Days from one visit to the next": (gaps[later], visits.whose[later], 1),
        "Days from a patient's first visit to the last": (length, seen, 1),
        "Events at a visit": (size, visits.whose, 0),
        "Days that a visit lasts, of those that do": (stay[lasting], visits.whose[lasting], 1),
    }
    found = {}
    for name, (values, subjects, decimals) in parts.items():
        numbers = np.round(np.asarray(values, np.float64), decimals)
        kind = "continuous" if decimals else "integer"
        schema = TableSchema((Column(name, kind, decimals=decimals),))  # type: ignore[arg-type]
        found[name] = Table(schema, subjects.astype(np.int64), {name: numbers})
    return found


def _lengths(visits: Visits) -> tuple[NDArray[np.int64], Floats]:
    seen = np.flatnonzero(visits.counts)
    first, last = visits.starts[:-1][seen], visits.starts[1:][seen] - 1
    days = (visits.start[last] - visits.start[first]) / np.timedelta64(1, "D")
    return seen, np.asarray(days, np.float64)


# ── courses of numbers ─────────────────────────────────────────────────────────────────────────


def _fans(train: Events, real: Events, drawn: Events) -> Iterator[Fan]:
    """Yield the courses of the numbers that most subjects have more than once."""
    days = [days_since_start(events) for events in (real, drawn)]
    known = np.isfinite(real.value)
    n = len(real.schema)
    pairs, times = np.unique(real.whose[known] * n + real.code[known], return_counts=True)
    several = np.bincount(pairs[times > 1] % n, minlength=n) if n else np.zeros(0)
    edges = _edges(days[0][known])
    done = 0
    order = np.argsort(-several, kind="stable")
    for place in _different(real.schema, [int(i) for i in order]):
        if done == FANS:
            return
        if several[place] < 2 * SMALLEST_CELL:
            continue
        bands = tuple(_bands(int(place), real, drawn, days, edges))
        if len(bands) > 1:
            done += 1
            code = real.schema.codes[place]
            yield Fan(called(real.schema, int(place)), code.unit, bands)


def _different(schema: EventSchema, places: list[int]) -> list[int]:
    """Return one code of each test first: VS/PULSE before VS/PULSE/STANDING once VS/PULSE/LYING."""
    seen: set[tuple[str, ...]] = set()
    first: list[int] = []
    again: list[int] = []
    for place in places:
        stem = tuple(schema.codes[place].name.split("/")[:2])
        (again if stem in seen else first).append(place)
        seen.add(stem)
    return [*first, *again]


def _edges(days: Floats) -> list[float]:
    """Return round lower ends of bands: nobody's own times."""
    later = days[np.isfinite(days) & (days > 0)]
    if not later.size:
        return [0.0]
    found = np.quantile(later, np.linspace(0, 1, BANDS + 1)[1:-1])
    return sorted({0.0, *(float(f"{edge:.2g}") for edge in found)})


def _bands(
    place: int, real: Events, drawn: Events, days: list[Floats], edges: list[float]
) -> Iterator[FanBand]:
    ends = [*edges[1:], np.inf]
    for low, high in zip(edges, ends, strict=True):
        sides = []
        for events, day in zip((real, drawn), days, strict=True):
            rows = (events.code == place) & np.isfinite(events.value) & (day >= low) & (day < high)
            sides.append((events.value[rows], events.whose[rows]))
        if min(n_different(whose) for _, whose in sides) < SMALLEST_CELL:
            continue
        quartiles = quantiles_of_many(*sides[0], SHARES), np.quantile(sides[1][0], SHARES)
        one, other = (tuple(round(float(v), 4) for v in side) for side in quartiles)
        yield FanBand(low, None if np.isinf(high) else high, one, other)  # type: ignore[arg-type]


# ── timelines ──────────────────────────────────────────────────────────────────────────────────


def _timelines(drawn: Events, common: NDArray[np.bool_]) -> Iterator[Timeline]:
    """Yield synthetic patients from short records to long ones."""
    visits = visits_of(drawn)
    several = np.flatnonzero(visits.counts > 1)
    if not several.size:
        several = np.flatnonzero(visits.counts)
    if not several.size:
        return
    order = several[np.argsort(drawn.counts[several], kind="stable")]
    places = np.linspace(0.1, 0.9, TIMELINES) * (order.size - 1)
    days = days_since_start(drawn)
    for number, subject in enumerate(order[np.unique(np.rint(places).astype(int))], 1):
        yield _timeline(number, int(subject), drawn, visits, days, common)


def _timeline(
    number: int, subject: int, drawn: Events, visits: Visits, days: Floats, common: NDArray[Any]
) -> Timeline:
    first, last = drawn.starts[subject], drawn.starts[subject + 1]
    rows = np.arange(first, last)[np.isfinite(days[first:last])]
    lasted = np.asarray((drawn.end[rows] - drawn.time[rows]) / np.timedelta64(1, "D"), np.float64)
    marks = tuple(
        Mark(
            round(float(days[row]), 2), drawn.schema.codes[drawn.code[row]].domain,
            round(float(days[row] + length), 2) if length > 0 else None,
        )
        for row, length in zip(rows[:MARKS], lasted, strict=False)
    )  # fmt: skip
    own = np.arange(visits.starts[subject], visits.starts[subject + 1])
    at = [rows[visits.of[rows] == visit] for visit in own[:VISITS_TOLD]]
    named = {int(p) for part in at for p in drawn.code[part[:CODES_TOLD]] if common[p]}
    end = max([0.0, *(mark.until or mark.day for mark in marks)])
    title = f"Synthetic patient {number}"
    return Timeline(
        title, end, marks, tuple(_told(part, drawn, days, common) for part in at),
        tuple(called(drawn.schema, place) for place in sorted(named)),
        max(0, own.size - VISITS_TOLD),
    )  # fmt: skip


def _told(at: NDArray[Any], drawn: Events, days: Floats, common: NDArray[Any]) -> str:
    """Return the events of one visit in words."""
    words = [_word(drawn.schema, drawn, int(row), common) for row in at[:CODES_TOLD]]
    more = f" and {at.size - CODES_TOLD} more" if at.size > CODES_TOLD else ""
    return f"Day {days[at[0]]:.4g}: {', '.join(words)}{more}"


def _word(schema: EventSchema, drawn: Events, row: int, common: NDArray[Any]) -> str:
    """Return an event in words; a code of few real subjects by its domain alone."""
    place = int(drawn.code[row])
    code = schema.codes[place]
    if not common[place]:
        return f"a rarer {code.domain}"
    said = f"{code.label} ({code.name})" if code.label else code.name
    if np.isfinite(drawn.value[row]):
        said += f" {drawn.value[row]:.4g}{' ' + code.unit if code.unit else ''}"
    return said
