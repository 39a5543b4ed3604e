"""One row a subject: a patient's own columns, and what hangs on the patient in a few numbers.

Of each table below: how many rows there are, the mean of each number, and each column's last value
in time. What judges and audits of one table can be asked of linked ones is asked of this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.cohort import Cohort, time_column
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table

__all__ = ["flatten"]

DAY_S = 86_400.0


def flatten(cohort: Cohort, like: Cohort | None = None) -> Table:
    """Return the cohort as a table of its subjects; orphans belong to nobody and are left out.

    Which columns tell the time is seen from `like`, so that what is compared has the same columns.
    """
    root = cohort.root
    seen = (cohort if like is None else like).parts
    times = {name: time_column(table) for name, table in seen.items()}
    parts = [_of_root(root)]
    taken = {column.name for column in root.schema}
    for name in cohort.schema.tree.order[1:]:
        parts.append(_of_table(cohort, name, times, taken))
    columns = list(root.schema)
    values: dict[str, Any] = {}
    states: dict[str, NDArray[np.int8]] = {}
    for part in parts:
        columns += [column for column in part.schema if column.name not in root.schema]
        values |= part.columns
        states |= part.states
    schema = TableSchema(tuple(columns), root.schema.rules, root.schema.declared)
    return Table(schema, root.subjects, values, states)


def _of_root(root: Table) -> Table:
    schema = dataclasses.replace(root.schema, rules=())
    return Table(schema, root.subjects, root.columns, root.states)


def _of_table(cohort: Cohort, name: str, times: Mapping[str, str | None], taken: set[str]) -> Table:
    """Return counts, means and last values of one table, (subjects,)."""
    table, root = cohort.parts[name], cohort.root
    whose = cohort.ancestors(name, cohort.schema.tree.root)
    n = root.n_rows
    columns: list[Column] = []
    values: dict[str, NDArray[Any]] = {}
    states: dict[str, NDArray[np.int8]] = {}

    def add(column: Column, found: NDArray[Any], state: NDArray[np.int8] | None = None) -> None:
        free = column.name
        while free in taken:
            free = f"{free}'"
        taken.add(free)
        columns.append(dataclasses.replace(column, name=free))
        values[free] = found
        if state is not None and len(column.tokens) > 1:
            states[free] = state

    sizes = np.bincount(whose[whose >= 0], minlength=n).astype(np.float64)
    add(Column(f"{name}: rows", "integer", minimum=0), sizes)
    last = _last(table, times[name], whose, n)
    start = times[cohort.schema.tree.root]
    born = root.numbers(start) if start is not None else None
    for column in table.schema.learned:
        if column.kind in ("continuous", "integer", "ordinal", "boolean"):
            mean = Column(f"{name}: mean {column.name}", "continuous", decimals=column.decimals + 2)
            add(mean, np.round(_mean(table.numbers(column.name), whose, n), mean.decimals))
        plain = dataclasses.replace(column, name=f"{name}: last {column.name}", roles=())
        if (
            column.kind == "datetime"
            and born is not None
            and root.schema[str(start)].kind == "datetime"
        ):
            days = np.append(table.numbers(column.name), np.nan)[last] - born
            add(Column(plain.name, "continuous", decimals=1), np.round(days / DAY_S, 1))
            continue
        found = table.columns[column.name]
        none: Any = (
            -1 if column.is_coded else np.datetime64("NaT") if found.dtype.kind == "M" else np.nan
        )
        state = np.append(table.state(column.name), np.int8(1))[last]
        add(plain, np.append(found, np.array([none], found.dtype))[last], state)
    return Table(TableSchema(tuple(columns)), root.subjects, values, states)


def _last(table: Table, time: str | None, whose: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return each subject's last row of a table, -1 for none, (subjects,)."""
    when = np.zeros(table.n_rows) if time is None else table.numbers(time)
    order = np.lexsort((np.where(np.isnan(when), -np.inf, when), whose))
    last = np.full(n, -1, dtype=np.int64)
    order = order[whose[order] >= 0]
    last[whose[order]] = order  # the last one of each is written last
    return last


def _mean(values: NDArray[np.float64], whose: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    known = np.isfinite(values) & (whose >= 0)
    total = np.bincount(whose[known], values[known], minlength=n)
    size = np.bincount(whose[known], minlength=n)
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)
