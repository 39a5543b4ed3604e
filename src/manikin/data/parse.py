"""From cells to arrays, strictly by a schema: what does not fit is an error, never a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.cells import as_text, is_text, read_numbers
from manikin.data.dates import find_format, read_dates
from manikin.data.schema import Column, TableSchema
from manikin.errors import SchemaError

if TYPE_CHECKING:
    import polars

    from manikin.data.table import Table

__all__ = ["parse"]


def parse(frame: polars.DataFrame, schema: TableSchema) -> Table:
    """Read the cells of `frame` as `schema` says; columns come in the schema's order.

    Raises SchemaError for a missing or additional column, or for cells that their column does not
    allow; it names the column and how many cells, never a cell.
    """
    from manikin.data.table import Table

    _same_columns(frame.columns, [column.name for column in schema])
    columns: dict[str, NDArray[Any]] = {}
    states: dict[str, NDArray[np.int8]] = {}
    for column in schema.learned:
        values, state = _read(frame[column.name], column)
        columns[column.name] = values
        if len(column.tokens) > 1:
            states[column.name] = state
    holder = schema.holder("subject")
    if holder is None:
        subjects = np.arange(frame.height, dtype=np.int64)
    else:
        subjects = _factorise(frame[holder.name], holder)
    return Table(schema, subjects, columns, states)


def _same_columns(given: list[str], declared: list[str]) -> None:
    absent = [name for name in declared if name not in given]
    more = [name for name in given if name not in declared]
    if absent or more:
        parts = [f"the data lack {_names(absent)}"] if absent else []
        parts += [f"the schema does not know {_names(more)}"] if more else []
        raise SchemaError(
            " and ".join(parts),
            "data and schema have the same columns",
            "correct the names in the schema or leave those columns out",
        )


def _names(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _factorise(series: polars.Series, column: Column) -> NDArray[np.int64]:
    """Number subjects in order of appearance."""
    import polars as pl

    text = as_text(series)
    if bad := int(text.is_in(list(column.missing)).sum()):
        raise SchemaError(
            f"column '{column.name}' has {bad} rows without a subject",
            "every row belongs to a subject",
            "fill in the subject or leave those rows out",
        )
    ranks = text.to_frame("s").select(pl.col("s").rank("dense") - 1)["s"]
    codes = ranks.to_numpy().astype(np.int64)
    _, first, where = np.unique(codes, return_index=True, return_inverse=True)
    order = np.empty(first.size, dtype=np.int64)
    order[np.argsort(first)] = np.arange(first.size)
    return np.asarray(order[where])


def _read(series: polars.Series, column: Column) -> tuple[NDArray[Any], NDArray[np.int8]]:
    """Return a column's values and states, (rows,) each."""
    if column.is_coded:
        return _codes(as_text(series), column)
    if not is_text(series.dtype) and column.special == () and column.missing == ("",):
        fast = _typed(series, column)
        if fast is not None:
            return fast
    text = as_text(series)
    state = _states(text, column)
    present = state == 0
    if column.kind == "datetime":
        moments = _moments(series, text, column)
        values: NDArray[Any] = np.where(present, moments, np.datetime64("NaT", "us"))
        bad = int((np.isnat(values) & present).sum())
    else:
        values = np.where(present, read_numbers(text), np.nan)
        bad = int((np.isnan(values) & present).sum())
    if bad:
        what = f"date in the format {column.date_format}" if column.kind == "datetime" else "number"
        raise SchemaError(
            f"column '{column.name}' has {bad} cells that are no {what}",
            f"a {column.kind} column holds those, its missing marks and its special texts",
            "add the other spellings to 'missing' or 'special' in the schema, or correct the kind",
        )
    if column.kind == "integer" and (bad := int((values[present] % 1 != 0).sum())):
        raise SchemaError(
            f"column '{column.name}' has {bad} cells that are no whole number",
            "an integer column holds whole numbers",
            "declare it continuous, or correct the cells",
        )
    return values, state


def _typed(series: polars.Series, column: Column) -> tuple[NDArray[Any], NDArray[np.int8]] | None:
    """Read numbers from a typed column without going through text; None where that is unsafe."""
    import polars as pl

    if column.kind == "datetime" or not (series.dtype.is_integer() or series.dtype == pl.Float64):
        return None
    values = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    if np.any(np.isnan(values) != series.is_null().to_numpy()) or np.any(np.isinf(values)):
        return None
    if column.kind == "integer" and np.any(values[~np.isnan(values)] % 1 != 0):
        return None
    return np.array(values), np.isnan(values).astype(np.int8)


def _states(text: polars.Series, column: Column) -> NDArray[np.int8]:
    """Return which token each cell is: 0 for a value, (rows,)."""
    state = np.zeros(len(text), dtype=np.int8)
    for k, token in enumerate(column.tokens, start=1):
        state[(text == token).to_numpy()] = k
    return state


def _codes(text: polars.Series, column: Column) -> tuple[NDArray[Any], NDArray[np.int8]]:
    """Look up category codes and states at once."""
    import polars as pl

    spellings = [*column.categories, *(t for t in column.tokens if t not in column.categories)]
    known = text.cast(pl.Enum(spellings), strict=False)
    if bad := known.null_count():
        raise SchemaError(
            f"column '{column.name}' has {bad} cells that are none of its categories",
            f"its {len(column.categories)} declared categories and its missing marks",
            "add the spellings to 'categories' or 'missing' in the schema, or correct the cells",
        )
    codes = known.to_physical().to_numpy().astype(np.int32)
    n = len(column.categories)
    tokens = {token: k for k, token in enumerate(column.tokens, start=1)}
    lookup = np.array([0] * n + [tokens[token] for token in spellings[n:]], dtype=np.int8)
    state = lookup[codes] if len(lookup) else np.zeros(0, dtype=np.int8)
    return np.where(codes < n, codes, -1).astype(np.int32), state


def _moments(series: polars.Series, text: polars.Series, column: Column) -> NDArray[Any]:
    """Return datetime64[us], NaT where a cell is no date in the column's format."""
    import polars as pl

    if series.dtype == pl.Time:
        micro = series.cast(pl.Duration("us")).cast(pl.Int64).cast(pl.Datetime("us"))
        return np.array(micro.to_numpy(), dtype="datetime64[us]")
    if series.dtype in (pl.Date, pl.Datetime):
        if series.dtype == pl.Datetime:
            series = series.dt.replace_time_zone(None)  # the clock on the wall
        return np.array(series.cast(pl.Datetime("us")).to_numpy(), dtype="datetime64[us]")
    pattern = column.date_format
    if pattern is None:
        kept = text.filter(~text.is_in(list(column.tokens)))
        found = find_format(kept.unique(maintain_order=True), np.ones(kept.n_unique()))
        pattern = found.pattern if found else "%Y-%m-%d"
    return np.array(read_dates(text, pattern).to_numpy(), dtype="datetime64[us]")
