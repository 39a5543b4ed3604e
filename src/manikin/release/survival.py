"""Kaplan-Meier curves of real and synthetic subjects, on a grid coarse enough to name nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table
from manikin.privacy.cells import SMALLEST_CELL, merge_small, n_different
from manikin.release.summaries import nice_step

__all__ = ["Curve", "SurvivalCurves", "survival_curves"]

STEPS = 30  # of the grid, before steps with few events are merged
Z = 1.959963984540054  # standard normal quantile of 0.975

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Share still free of the event at each time, with its 95 % interval."""

    survival: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class SurvivalCurves:
    """Both curves at the same times; the first time is 0."""

    time: str
    event: str
    unit: str | None
    times: tuple[float, ...]
    real: Curve
    synthetic: Curve
    largest_gap: float


def survival_curves(real: Table, synthetic: Table) -> SurvivalCurves | None:
    """Return the curves where the schema names time and event, or None.

    Between two times of the grid at least eleven real subjects have the event, and at each of
    them at least eleven are still at risk.
    """
    time, event = real.schema.holder("time"), real.schema.holder("event")
    if time is None or event is None or not time.is_numeric or time.kind == "datetime":
        return None
    sides = [_follow_up(table, time.name, event.name) for table in (real, synthetic)]
    grid = _grid(*sides[0])
    if grid.size < 2 or not sides[1][0].size:
        return None
    curves = [_kaplan_meier(durations, events, grid) for durations, events, _ in sides]
    gap = max(abs(a - b) for a, b in zip(curves[0].survival, curves[1].survival, strict=True))
    return SurvivalCurves(
        time=time.name,
        event=event.name,
        unit=time.unit,
        times=tuple(float(t) for t in grid),
        real=curves[0],
        synthetic=curves[1],
        largest_gap=round(gap, 4),
    )


def _follow_up(
    table: Table, time: str, event: str
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    durations, happened = table.numbers(time), table.numbers(event)
    known = np.isfinite(durations) & np.isfinite(happened) & (durations >= 0)
    return durations[known], happened[known] > 0, table.subjects[known]


def _grid(durations: Floats, events: NDArray[np.bool_], subjects: NDArray[np.int64]) -> Floats:
    """Return round times, each step with enough events and each time with enough at risk."""
    if n_different(subjects[events]) < SMALLEST_CELL:
        return np.zeros(0)
    step = nice_step(float(np.quantile(durations, 0.98)) / STEPS)
    if step <= 0:
        return np.zeros(0)
    times = np.arange(0, float(durations.max()) + step, step)
    at_risk = np.array([n_different(subjects[durations >= t]) for t in times])
    times = times[at_risk >= SMALLEST_CELL]
    # step k holds the events in (times[k-1], times[k]]; what is later belongs to no step
    cells = np.searchsorted(times, durations, side="left")
    cells = np.where(events & (cells < len(times)), cells, -1)
    goes_to = merge_small(cells, subjects, len(times))
    if goes_to is None:
        return np.zeros(0)
    ends = np.append(np.flatnonzero(np.diff(goes_to)), len(times) - 1)
    return np.unique(np.concatenate([[0.0], times[ends]]))


def _kaplan_meier(durations: Floats, events: NDArray[np.bool_], grid: Floats) -> Curve:
    """Kaplan and Meier (JASA 1958) with Greenwood's variance on the log-log scale."""
    times = np.unique(durations[events])
    ordered = np.sort(durations)
    at_risk = ordered.size - np.searchsorted(ordered, times, side="left")
    died = np.bincount(np.searchsorted(times, durations[events]), minlength=times.size)
    survival = np.concatenate([[1.0], np.cumprod(1 - died / at_risk)])
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(died / (at_risk * (at_risk - died)))
        error = np.concatenate([[0.0], np.sqrt(greenwood)]) / np.abs(np.log(survival))
        # where nothing has happened yet, or nobody is left, the interval is the point
        low = np.nan_to_num(survival ** np.exp(Z * error), nan=0.0)
        high = np.nan_to_num(survival ** np.exp(-Z * error), nan=1.0)
    low[survival >= 1], high[survival >= 1] = 1.0, 1.0
    low[survival <= 0] = 0.0
    at = np.searchsorted(times, grid, side="right")
    at[0] = 0  # before the first event; those at time 0 show in the first step
    return Curve(*(tuple(round(float(v), 4) for v in line[at]) for line in (survival, low, high)))
