"""Trials of linked tables: their floor and ceiling, and tables that lay relations open."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.cohort import Cohort, counts, in_order, time_column
from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.intervals import DRAWS, Blocks, blocks
from manikin.metrics.score import Score, Trial, not_estimable
from manikin.metrics.whole_subjects import fresh, resized

__all__ = [
    "dealt_of",
    "floor",
    "fresh",
    "independent",
    "not_linked",
    "successions",
    "time_of",
    "with_counts",
    "with_rows_above",
]


def not_linked(metric: str) -> tuple[Score, ...]:
    """Return what a metric of linked tables says of one table."""
    return (not_estimable(metric, "one table: nothing is linked to it"),)


# ── What stands beside a score ─────────────────────────────────────────────────────────────────


def floor(trial: Trial[Cohort], *, seed: int) -> Trial[Cohort]:
    """Return the trial with independent columns and random links in place of the synthetic."""
    real = resized(trial.train, trial.synthetic.n_subjects, seed)
    return dataclasses.replace(trial, synthetic=independent(real, seed=seed))


def independent(cohort: Cohort, *, seed: int) -> Cohort:
    """Return the cohort with every column permuted between rows, and rows hung at random."""
    parts, above = {}, {}
    for name, table in cohort.parts.items():
        columns: dict[str, NDArray[Any]] = {}
        states = {}
        for column, values in table.columns.items():
            order = generator(seed, f"floor {name}.{column}").permutation(table.n_rows)
            columns[column] = values[order]
            if column in table.states:
                states[column] = table.states[column][order]
        parts[name] = Table(table.schema, table.subjects, columns, states)
    for name, link in cohort.schema.tree.up.items():
        rng = generator(seed, f"floor links {name}")
        n, parents = cohort.parts[name].n_rows, cohort.parts[link.parent].n_rows
        above[name] = rng.integers(0, parents, n) if parents else np.full(n, -1, np.int64)
    return Cohort.of(cohort.schema, parts, above)


# ── Relations laid open ────────────────────────────────────────────────────────────────────────


def dealt_of(cohort: Cohort, rng: np.random.Generator, *, draws: int = DRAWS) -> dict[str, Blocks]:
    """Return blocks of subjects as the rows of every table have them: one resampling for all.

    Orphans, of no subject, are a block of their own that every replicate takes once.
    """
    dealt = blocks(cohort.subjects, rng, draws=draws)
    order = np.argsort(cohort.subjects, kind="stable")
    weights = np.column_stack([dealt.weights, np.ones(len(dealt.weights))])
    found = {}
    for name, table in cohort.parts.items():
        at = np.searchsorted(cohort.subjects[order], table.subjects)
        block = np.append(dealt.of_row[order], dealt.n)[np.minimum(at, order.size)]
        found[name] = Blocks(np.where(table.subjects < 0, dealt.n, block), weights)
    return found


def with_counts(cohort: Cohort, name: str) -> Table:
    """Return the parents of a table's rows with how many rows hang on each, in the last column."""
    parent = cohort.parts[cohort.schema.tree.up[name].parent]
    column = Column("\x00rows", "integer", minimum=0)  # a name that no file gives
    schema = TableSchema((*parent.schema.learned, column))
    values = {**parent.columns, column.name: counts(cohort, name).astype(np.float64)}
    return Table(schema, parent.subjects, values, parent.states)


def with_rows_above(cohort: Cohort, name: str) -> tuple[Table, tuple[str, ...], tuple[str, ...]]:
    """Return a table's rows joined to those above, and the names of own and of joined columns."""
    hanging = cohort.parts[name].subjects >= 0
    columns, values, states = [], dict[str, Any](), dict[str, NDArray[np.int8]]()
    own: list[str] = []
    others: list[str] = []
    for table in (name, *cohort.schema.tree.path(name)):
        rows = cohort.ancestors(name, table)[hanging]
        for column in cohort.parts[table].schema.learned:
            called = f"{table}\x00{column.name}"
            (own if table == name else others).append(called)
            columns.append(dataclasses.replace(column, name=called, roles=()))
            values[called] = cohort.parts[table].columns[column.name][rows]
            if column.name in cohort.parts[table].states:
                states[called] = cohort.parts[table].states[column.name][rows]
    subjects = cohort.parts[name].subjects[hanging]
    joined = Table(TableSchema(tuple(columns)), subjects, values, states)
    return joined, tuple(own), tuple(others)


def successions(cohort: Cohort, name: str, time: str | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows that follow a sibling in time, and those siblings."""
    order = in_order(cohort, name, time)
    parent = cohort.above[name][order]
    later = (np.diff(parent, prepend=-2) == 0) & (parent >= 0)
    at = np.flatnonzero(later)
    return order[at], order[at - 1]


def time_of(trial: Trial[Cohort], name: str) -> str | None:
    """Return the column by which siblings are in order, as the training rows have it."""
    return time_column(trial.train.parts[name])
