"""What a schema written by hand leaves open about how cells are written, read from the cells.

Only spelling is filled in: decimals of a continuous column, a date's format, an identifier's
template, the type in a typed source. What the cells may say (kinds, categories, bounds, missing
marks) is left as it was declared.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from manikin.data.cells import NUMBER, as_text, spelling
from manikin.data.dates import find_format
from manikin.data.identifiers import find_template
from manikin.data.schema import Column, TableSchema

if TYPE_CHECKING:
    import polars

__all__ = ["complete"]


def complete(schema: TableSchema, frame: polars.DataFrame, *, typed: bool) -> TableSchema:
    """Return the schema with the spelling of its columns filled in where nothing is said."""
    columns = tuple(
        _complete(column, frame[column.name], typed) if column.name in frame.columns else column
        for column in schema
    )
    return schema if columns == schema.columns else dataclasses.replace(schema, columns=columns)


def _complete(column: Column, series: polars.Series, typed: bool) -> Column:
    if typed and column.dtype is None:
        dtype = str(series.dtype).partition("(categories")[0]
        column = dataclasses.replace(column, dtype=dtype)
    wanted = (
        (column.kind == "identifier" and column.template is None)
        or (column.kind == "continuous" and column.decimals == 0)
        or (column.kind == "datetime" and column.date_format is None)
    )
    if not wanted:
        return column
    text = as_text(series).unique(maintain_order=True)
    text = text.filter(~text.is_in(list(column.tokens)))
    if column.kind == "identifier":
        return dataclasses.replace(column, template=find_template(text))
    if column.kind == "datetime":
        found = find_format(text, np.ones(len(text)))
        return dataclasses.replace(column, date_format=found.pattern if found else None)
    numbers = text.filter(text.str.strip_chars().str.contains(NUMBER))
    return dataclasses.replace(column, **spelling(numbers, typed=column.dtype is not None))  # type: ignore[arg-type]
