"""Types for columns that came from text, when they go to a format that has types."""

from __future__ import annotations

import polars as pl

from manikin.data.cells import NUMBER, read_numbers
from manikin.data.dates import is_clock, read_dates
from manikin.data.schema import Column, TableSchema

__all__ = ["with_types"]


def with_types(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """Return the frame with numbers as numbers and dates as dates where the source was text.

    The types depend on the schema alone, so every block of a stream gets the same.
    """
    return frame.with_columns(
        _typed(frame[column.name], column) for column in schema if column.dtype is None
    )


def _typed(text: pl.Series, column: Column) -> pl.Series:
    missing = text.is_in(list(column.missing)) if column.kind != "text" else text == ""
    text = text.set(missing, None)
    if column.special or column.kind in ("text", "identifier"):
        return text
    if column.kind == "datetime":
        moments = read_dates(text, column.date_format or "%Y-%m-%d")
        if is_clock(column.date_format or "%Y"):
            return moments.dt.time()
        return moments if "%M" in (column.date_format or "") else moments.dt.date()
    spellings = pl.Series(column.categories, dtype=pl.String)
    numbers = column.is_numeric or (len(spellings) > 0 and spellings.str.contains(NUMBER).all())
    if not numbers or spellings.str.contains(r"^[+-]?0\d").any():
        return text
    whole = column.kind == "integer" or (
        column.is_coded and bool((pl.Series(read_numbers(spellings)) % 1 == 0).all())
    )
    values = pl.Series(text.name, read_numbers(text.fill_null(""))).fill_nan(None)
    return values.cast(pl.Int64, strict=False) if whole else values
