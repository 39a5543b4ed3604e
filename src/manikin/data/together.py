"""Histories from different doors under one schema, so that they can be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import Code
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table

__all__ = ["alike"]


def alike(sides: Mapping[str, Events]) -> dict[str, Events]:
    """Return the same histories under the schema of the first side, made wide enough for all.

    Codes that only another side has come after those of the first. Static columns are those of the
    first: a column that another side lacks, or has in another kind, is missing there. Subjects are
    renumbered so that no two sides share one.
    """
    parts = list(sides.values())
    first = parts[0].schema
    codes: dict[tuple[str, str, str], Code] = {}
    for part in parts:
        for code in part.schema.codes:
            codes.setdefault(code.key, code)
    static = TableSchema(
        tuple(_widened(column, [part.schema.static for part in parts]) for column in first.static),
        first.static.rules,
        first.static.declared,
    )
    whole = dataclasses.replace(first, static=static, codes=tuple(codes.values()))
    found, start = {}, 0
    for name, part in sides.items():
        place = np.array([whole.place[code.key] for code in part.schema.codes], np.int32)
        subjects = np.arange(start, start + part.n_subjects, dtype=np.int64)
        found[name] = dataclasses.replace(
            part,
            schema=whole,
            static=_under(static, part.static, subjects),
            code=place[part.code] if len(place) else part.code,
        )
        start += part.n_subjects
    return found


def _widened(column: Column, schemas: Sequence[TableSchema]) -> Column:
    """Return a column with every level that it has on any side, if it has levels."""
    if not column.is_coded:
        return column
    levels = dict.fromkeys(column.categories)
    for schema in schemas:
        if column.name in schema and schema[column.name].is_coded:
            levels.update(dict.fromkeys(schema[column.name].categories))
    if len(levels) > 2 and column.kind == "boolean":
        return dataclasses.replace(column, kind="categorical", categories=tuple(levels))
    return dataclasses.replace(column, categories=tuple(levels))


def _under(schema: TableSchema, table: Table, subjects: NDArray[np.int64]) -> Table:
    """Return a table's columns as the schema has them."""
    columns: dict[str, NDArray[Any]] = {}
    for column in schema.learned:
        name, n = column.name, table.n_rows
        own = table.schema[name] if name in table.schema else None
        if column.is_coded and own is not None and own.is_coded:
            place = {level: code for code, level in enumerate(column.categories)}
            lookup = np.array([*(place[level] for level in own.categories), -1], np.int32)
            columns[name] = lookup[table.columns[name]]
        elif (
            own is not None
            and own.is_numeric
            and column.is_numeric
            and ((own.kind == "datetime") == (column.kind == "datetime"))
        ):
            columns[name] = table.columns[name]
        elif column.is_coded:
            columns[name] = np.full(n, -1, np.int32)
        elif column.kind == "datetime":
            columns[name] = np.full(n, "NaT", "datetime64[us]")
        else:
            columns[name] = np.full(n, np.nan)
    return Table(schema, subjects, columns)
