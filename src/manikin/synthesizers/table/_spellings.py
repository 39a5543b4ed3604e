"""Which spellings a fitted model may know.

The vocabulary of an inferred schema comes from the data: a category, or a text among numbers,
that one patient has would otherwise stand in every model file. What fewer than `k` subjects hold is
never generated, so its spelling is not needed; its place is, because codes are places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import count

from manikin.data.schema import Column, TableSchema, columns_of
from manikin.synthesizers.table._cells import Cells, CodedCells

__all__ = ["without_rare_spellings"]


def without_rare_spellings(schema: TableSchema, cells: Mapping[str, Cells]) -> TableSchema:
    """Return an inferred schema in which spellings that `cells` do not keep are placeholders.

    A declared schema is public and is returned as it is; so are columns that a rule speaks of, and
    enumerations, whose levels are part of the source's type.
    """
    if schema.declared:
        return schema
    ruled = {name for rule in schema.rules for name in columns_of(rule)}
    kept = ruled | {column.name for column in schema if (column.dtype or "").startswith("Enum")}
    return dataclasses.replace(
        schema,
        columns=tuple(
            _hidden(column, cells[column.name])
            if column.name in cells and column.name not in kept
            else column
            for column in schema
        ),
    )


def _hidden(column: Column, cells: Cells) -> Column:
    known = {int(state) - 1 for state in cells.tokens} | {0}  # the first mark stands in for others
    tokens = _replaced(column.tokens, known, "rare mark")
    first = column.missing[0]
    marks = len(column.missing)
    hidden = dataclasses.replace(column, missing=(first, *tokens[1:marks]), special=tokens[marks:])
    if isinstance(cells, CodedCells):
        levels = {int(level) for level in cells.levels}
        hidden = dataclasses.replace(
            hidden, categories=_replaced(column.categories, levels, "rare level")
        )
    return hidden


def _replaced(spellings: tuple[str, ...], known: set[int], what: str) -> tuple[str, ...]:
    """Return spellings with those at places not in `known` replaced by ones that none equals."""
    taken = set(spellings)
    free = (text for i in count(1) if (text := f"({what} {i})") not in taken)
    return tuple(text if i in known else next(free) for i, text in enumerate(spellings))
