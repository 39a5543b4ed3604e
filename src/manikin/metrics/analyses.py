"""The standard analyses of a table: what an analyst would run first, given the columns' roles.

Means and proportions of every column; the target regressed on all other columns (linear for a
number; logistic for the second of two levels, or the commonest of several against the rest); a Cox
model of the time to the event. Follow-up time and event predict nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Role
from manikin.data.table import Table
from manikin.metrics.design import Design, Term, number_term
from manikin.metrics.regression import Fit, cox, linear, logistic, means
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["OUTCOME", "Analysis", "analyses"]

OUTCOME: tuple[Role, Role] = ("time", "event")


@dataclass(frozen=True)
class Analysis:
    """One analysis: what it is called, what it estimates, and how. Fitted on rows of one schema."""

    name: str
    labels: tuple[str, ...]
    fit: Callable[[Table], Fit]
    tests: bool = True  # whether 0 is a hypothesis: of a mean it is not


def analyses(train: Table) -> tuple[Analysis, ...]:
    """Return the analyses that the roles of the columns allow, their terms fitted on these rows."""
    schema = train.schema
    found = []
    every = Design.fit(train)
    if every.terms:
        found.append(Analysis("means", every.labels, _means(every), tests=False))
    outcome = {c.name for role in OUTCOME for c in schema.holders(role)}
    target = schema.holder("target")
    if target is not None and target.is_learned:
        design = Design.fit(train, frozenset(outcome | {target.name}))
        fit = _regression(train, target.name, design)
        if fit is not None and design.terms:
            found.append(Analysis("regression", design.labels, fit))
    time, event = schema.holder("time"), schema.holder("event")
    if time is not None and event is not None and time.is_learned and event.is_learned:
        design = Design.fit(train, frozenset(outcome))
        if design.terms:
            found.append(Analysis("cox", design.labels, _survival(time.name, event.name, design)))
    return tuple(found)


def _means(design: Design) -> Callable[[Table], Fit]:
    return lambda table: means(design.values(table), table.subjects)


def _regression(train: Table, target: str, design: Design) -> Callable[[Table], Fit] | None:
    """Return the regression of the target: linear, or logistic for its second or chief level."""
    column, values = train.schema[target], train.numbers(target)
    unique, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    if unique.size < 2:
        return None
    if column.is_coded or unique.size == 2:
        chosen = unique[1] if unique.size == 2 else unique[np.argmax(counts)]
        if not SMALLEST_CELL <= int((values == chosen).sum()) <= counts.sum() - SMALLEST_CELL:
            return None

        def logit(table: Table) -> Fit:
            answered = np.isfinite(table.numbers(target))
            rows = table if answered.all() else table.rows(answered)
            fit = logistic(design.matrix(rows), rows.numbers(target) == chosen, rows.subjects)
            return _everyone(Fit(fit.value[1:], fit.error[1:], fit.influence[:, 1:]), answered)

        return logit
    scaled = number_term(train, target)
    if scaled is None:
        return None
    term: Term = scaled

    def least_squares(table: Table) -> Fit:
        answered = np.isfinite(table.numbers(target))
        rows = table if answered.all() else table.rows(answered)
        if rows.n_rows <= len(design.terms) + 1:
            return _nothing(len(design.terms), table.n_rows)
        return _everyone(linear(design.matrix(rows), term.of(rows), rows.subjects), answered)

    return least_squares


def _survival(time: str, event: str, design: Design) -> Callable[[Table], Fit]:
    def hazards(table: Table) -> Fit:
        times, events = table.numbers(time), table.numbers(event)
        known = np.isfinite(times) & np.isfinite(events) & (times >= 0)
        rows = table if known.all() else table.rows(known)
        died = events[known] > 0
        if int(died.sum()) < SMALLEST_CELL:
            return _nothing(len(design.terms), table.n_rows)
        return _everyone(cox(design.matrix(rows), times[known], died, rows.subjects), known)

    return hazards


def _nothing(p: int, n: int) -> Fit:
    return Fit(np.full(p, np.nan), np.full(p, np.nan), np.full((n, p), np.nan))


def _everyone(fit: Fit, used: NDArray[np.bool_]) -> Fit:
    """Return the fit with an influence of none for the rows it did not use."""
    if used.all():
        return fit
    influence = np.zeros((used.size, fit.value.size))
    influence[used] = fit.influence
    return Fit(fit.value, fit.error, influence)
