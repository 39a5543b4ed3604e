"""Holds a finished report to the small-cell rule, by counting again from the real rows.

Independent of how the report was built: it knows only what is shown and whom it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.schema import Column
from manikin.data.summaries import called
from manikin.data.table import Table
from manikin.errors import PrivacyError
from manikin.metrics.fidelity.progression import days_since_start
from manikin.privacy.cells import SMALLEST_CELL, hidden, n_different
from manikin.release.histories import HistoryPages, distributions_of, holders_of
from manikin.release.lines import members
from manikin.release.report import Report
from manikin.release.summaries import Bin, ColumnSummary

__all__ = ["assert_disclosable", "violations"]


def assert_disclosable(
    report: Report,
    real: Table,
    population: Table | None = None,
    histories: Events | None = None,
) -> None:
    """Raise PrivacyError when anything in the report speaks of fewer than eleven real subjects.

    `real` are all real rows that the report may speak of: train and holdout together. `population`
    are those from which they were selected, where they were. `histories` are the real ones, where
    the report draws some.
    """
    found = list(violations(report, real, population, histories))
    if found:
        raise PrivacyError(
            f"the report would disclose small cells: {'; '.join(found[:5])}",
            f"everything shown rests on at least {SMALLEST_CELL} real subjects",
            "this is a defect of the report, not of your data: please report it; nothing was"
            " released",
        )


def violations(
    report: Report,
    real: Table,
    population: Table | None = None,
    histories: Events | None = None,
) -> Iterator[str]:
    """Yield what breaks the rule and where, never a value."""
    for summary in report.columns:
        column = real.schema[summary.name]
        if column.is_learned:
            yield from _in_column(summary, column, real)
    for part in report.overview.parts:
        if part.name.startswith("Real") and part.subjects is not None and hidden(part.subjects):
            yield "the size of a part of fewer than eleven subjects"
    if report.survival is not None:
        yield from _in_survival(report, real)
    yield from _in_groups(report, real)
    yield from _in_curves(report, real)
    yield from _in_mitigation(report, real if population is None else population)
    if report.histories is not None:
        if histories is None:
            yield "histories that nobody can count again"
        else:
            yield from _in_histories(report.histories, histories)


def _in_groups(report: Report, real: Table) -> Iterator[str]:
    """Yield wherever a group of too few is named: in a score, a table of groups, or a gate."""
    shown = {line.group for line in report.scores}
    for pivot in (report.subgroups, report.attacks):
        shown |= set(pivot.groups) if pivot is not None else set()
    shown |= {r.group for policy in report.verdict.policies for r in policy.rulings}
    for group in sorted(shown):
        name, _, level = group.partition("=")
        if name in real.schema and level in real.schema[name].categories:
            inside = real.columns[name] == real.schema[name].categories.index(level)
        else:
            several = members(group, real)
            if several is None:
                continue
            inside = several
        if _few(real, inside):
            yield f"a subgroup of column '{name}'"


def _in_curves(report: Report, real: Table) -> Iterator[str]:
    """Yield when two points of a curve lie closer than eleven of all real subjects would."""
    least = SMALLEST_CELL / max(1, real.n_subjects)
    for line in report.scores:
        steps = zip(line.curve, line.curve[1:], strict=False)
        if any(max(abs(x - u), abs(y - v)) < least - 1e-4 for (x, y), (u, v) in steps):
            yield f"two points of the curve of {line.metric}"


def _in_mitigation(report: Report, real: Table) -> Iterator[str]:
    if report.mitigation is None:
        return
    for share in report.mitigation.shares:
        column = real.schema[share.column]
        if _few(real, real.columns[column.name] == column.categories.index(share.level)):
            yield f"a share of column '{column.name}' before the change"


def _in_column(summary: ColumnSummary, column: Column, real: Table) -> Iterator[str]:
    where = f"column '{column.name}'"
    state = real.state(column.name)
    missing = (state > 0) & (state <= len(column.missing))
    told = summary.missing_real is not None
    if told and hidden(_subjects(real, missing)):
        yield f"the missing share of {where}"
    if told and hidden(_subjects(real, ~missing)):
        yield f"the missing share of {where}"
    for i, cell in enumerate(summary.bins):
        inside = _inside(cell, summary, column, real)
        n_subjects = _subjects(real, inside)
        if hidden(n_subjects) or (n_subjects == 0 and cell.real > 0):
            yield f"cell {i + 1} of {where}"
    if column.is_numeric:
        yield from _extremes(summary, column, real)


def _inside(cell: Bin, summary: ColumnSummary, column: Column, real: Table) -> NDArray[np.bool_]:
    """Return the real rows that a cell speaks of, from what the cell shows of itself."""
    if column.is_coded:
        codes = real.columns[column.name]
        if cell.label in column.categories and not cell.pooled:
            return np.asarray(codes == column.categories.index(cell.label))
        named = [
            column.categories.index(other.label)
            for other in summary.bins
            if other.label in column.categories and not other.pooled
        ]
        return np.asarray((codes >= 0) & ~np.isin(codes, named))
    if cell.label in column.special and cell.low is None and cell.high is None:
        mark = len(column.missing) + 1 + column.special.index(cell.label)
        return np.asarray(real.state(column.name) == mark)
    values = real.numbers(column.name)
    if column.kind == "datetime":
        stamps = real.columns[column.name]
        months = stamps.astype("datetime64[M]").astype(np.int64).astype(np.float64)
        values = np.where(np.isnat(stamps), np.nan, months)
    inside = np.isfinite(values)
    if cell.low is not None:
        inside &= values >= cell.low
    if cell.high is not None:
        inside &= values < cell.high
    return inside


def _extremes(summary: ColumnSummary, column: Column, real: Table) -> Iterator[str]:
    """Yield when a number shown is the least or greatest real value and held by too few."""
    values = real.numbers(column.name)
    finite = np.isfinite(values)
    if not finite.any() or column.kind == "datetime":
        return
    shown: set[float] = {end for b in summary.bins for end in (b.low, b.high) if end is not None}
    if summary.real is not None:
        shown |= {summary.real.q1, summary.real.median, summary.real.q3}
    for extreme in (values[finite].min(), values[finite].max()):
        if float(extreme) in shown and _few(real, values == extreme):
            yield f"an extreme of column '{column.name}'"


def _in_histories(pages: HistoryPages, real: Events) -> Iterator[str]:
    """Yield codes, bands and ranges that speak of too few."""
    places = {called(real.schema, i): i for i in range(len(real.schema))}
    days = days_since_start(real)
    for shown in pages.codes:
        n = n_different(real.whose[real.code == places[shown.name]])
        if n < SMALLEST_CELL or hidden(real.n_subjects - n):
            yield "the share of patients with a code"
    for fan in pages.fans:
        for i, band in enumerate(fan.bands):
            high = np.inf if band.high is None else band.high
            rows = (real.code == places[fan.name]) & (days >= band.low) & (days < high)
            if n_different(real.whose[rows & np.isfinite(real.value)]) < SMALLEST_CELL:
                yield f"band {i + 1} of the course of a number"
    tables = distributions_of(real)
    for summary in pages.distributions:
        table = tables[summary.name]
        yield from _in_column(summary, table.schema[summary.name], table)
    held = holders_of(real)
    for name in {name for timeline in pages.timelines for name in timeline.named}:
        if held[places[name]] < SMALLEST_CELL:
            yield "a rare code in a synthetic timeline"


def _in_survival(report: Report, real: Table) -> Iterator[str]:
    curves = report.survival
    assert curves is not None
    durations, happened = real.numbers(curves.time), real.numbers(curves.event) > 0
    before = -np.inf
    for i, time in enumerate(curves.times):
        if _few(real, durations >= time):
            yield f"time {i + 1} of the survival curves has too few at risk"
        in_step = happened & (durations > before) & (durations <= time)
        if i and hidden(_subjects(real, in_step)):
            yield f"step {i} of the survival curves has too few events"
        before = time if i else -np.inf


def _subjects(real: Table, rows: NDArray[Any]) -> int:
    return n_different(real.subjects[rows])


def _few(real: Table, rows: NDArray[Any]) -> bool:
    return _subjects(real, rows) < SMALLEST_CELL
