"""From arrays back to cells: the exact inverse of `parse`, in the source's own spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.cells import from_text, round_to, temporal, write_numbers
from manikin.data.dates import floor_dates, write_dates
from manikin.data.identifiers import make_identifiers
from manikin.data.schema import Column

if TYPE_CHECKING:
    import polars

    from manikin.data.table import Table

__all__ = ["Keys", "render"]

ISO = "%Y-%m-%d %H:%M:%S"

Keys: TypeAlias = Mapping[str, tuple[str | None, NDArray[np.int64]]]


def render(
    table: Table,
    *,
    first_row: int = 0,
    first_subject: int = 0,
    keys: Keys | None = None,
) -> polars.DataFrame:
    """Write a table's cells with the columns, order, types and spellings of its source.

    Free text is left missing and identifiers are new: the subject column is numbered by subject,
    any other by row. Where rows are streamed in blocks, `first_row` and `first_subject` say how
    many rows and subjects came before, so that no identifier is given twice. `keys` gives the
    template and the number of each row for identifiers that refer to another table's.
    """
    import polars as pl

    made = {}
    for column in table.schema:
        if column.kind == "identifier":
            by_subject = "subject" in column.roles
            numbers = table.subjects + first_subject
            if not by_subject:
                numbers = np.arange(first_row, first_row + table.n_rows, dtype=np.int64)
            template, numbers = (keys or {}).get(column.name, (column.template, numbers))
            series = from_text(make_identifiers(template, numbers), column.dtype)
        elif column.kind == "text":
            blank = pl.Series([column.missing[0]], dtype=pl.String).new_from_index(0, table.n_rows)
            series = from_text(blank, column.dtype)
        else:
            series = _write(table, column)
        made[column.name] = series
    return pl.DataFrame(made)


def _write(table: Table, column: Column) -> polars.Series:
    import polars as pl

    values, state = table.columns[column.name], table.state(column.name)
    # a synthesizer may say "no value" by the value alone, or by the state alone
    state = np.where(table.present(column.name), state, np.maximum(state, 1)).astype(np.int64)
    tokens = pl.Series(["", *column.tokens], dtype=pl.String)
    if column.is_coded:
        spellings = pl.Series([*column.categories, *column.tokens], dtype=pl.String)
        where = np.where(state == 0, values, len(column.categories) + state - 1)
        return _enumerated(spellings.gather(where.astype(np.int64)), column)
    blank = state > 0
    if column.kind == "datetime":
        if column.dtype not in (None, "String") and not column.special:
            shown = floor_dates(values, column.date_format)
            moments = pl.Series(np.where(blank, np.datetime64("NaT", "us"), shown))
            return temporal(moments, str(column.dtype))
        filled = np.where(blank, np.datetime64(0, "us"), values)
        text = write_dates(filled, column.date_format or ISO)
    else:
        filled = np.where(blank, 0.0, values)
        typed = _typed_numbers(filled, blank, column)
        if typed is not None:
            return typed
        text = write_numbers(filled, column)
    marks = tokens.gather(state)
    return from_text(pl.select(pl.when(pl.lit(~blank)).then(text).otherwise(marks)).to_series(),
                     column.dtype)  # fmt: skip


def _enumerated(text: polars.Series, column: Column) -> polars.Series:
    import polars as pl

    if column.dtype is not None and column.dtype.startswith("Enum"):
        return text.replace("", None).cast(pl.Enum(list(column.categories)))
    return from_text(text, column.dtype)


def _typed_numbers(
    values: NDArray[np.float64], blank: NDArray[np.bool_], column: Column
) -> polars.Series | None:
    """Return numbers in a typed source's own type, or None where they must go through text."""
    import polars as pl

    if column.dtype is None or column.special or column.missing != ("",):
        return None
    rounded = round_to(values, column.decimals)
    if column.dtype == "Float64":
        return pl.Series(np.where(blank, np.nan, rounded)).fill_nan(None)
    if column.dtype.startswith(("Int", "UInt")) and "128" not in column.dtype:
        dtype = getattr(pl, column.dtype)
        info = np.iinfo(column.dtype.lower())
        whole = pl.Series(np.clip(rounded, float(info.min), float(info.max)))
        return whole.cast(dtype, strict=False).set(pl.Series(blank), None)
    return None
