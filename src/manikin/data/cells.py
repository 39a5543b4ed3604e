"""Cells as text: one spelling for every typed value, and numbers read from and written to text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Column
from manikin.errors import InputError

if TYPE_CHECKING:
    import polars

__all__ = [
    "LEADING_ZERO",
    "MOST_DECIMALS",
    "NUMBER",
    "as_text",
    "from_text",
    "is_text",
    "read_numbers",
    "round_to",
    "spelling",
    "temporal",
    "write_numbers",
]

NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
LEADING_ZERO = r"^[+-]?0\d"
MOST_DECIMALS = 40  # smaller numbers are written as nought
EXACT_POWER = 22  # the highest power of ten that a float64 holds exactly
MOST_DISTINCT = 2.0**50  # beyond so many last places, rounding would add errors of its own


def is_text(dtype: Any) -> bool:
    """Return whether a polars type holds text."""
    import polars as pl

    return dtype in (pl.String, pl.Categorical, pl.Enum)


def as_text(series: polars.Series) -> polars.Series:
    """Return every cell as text: '' for null, 63 for 63.0, true and false, ISO dates."""
    import polars as pl

    dtype = series.dtype
    if dtype in (pl.Float32, pl.Float64):
        text = series.cast(pl.String).str.strip_suffix(".0")
    elif dtype == pl.Datetime:
        text = series.dt.replace_time_zone(None).dt.to_string("%Y-%m-%d %H:%M:%S%.f")
    elif dtype == pl.Duration:
        text = (series.dt.total_microseconds() / 1e6).cast(pl.String).str.strip_suffix(".0")
    elif dtype.is_nested() or dtype in (pl.Object, pl.Binary):
        raise InputError(
            f"column '{series.name}' holds {dtype} values",
            "a column holds numbers, texts, dates, times or true and false",
            "split or leave out that column",
        )
    else:
        text = series.cast(pl.String)
    return text.fill_null("")


def read_numbers(text: polars.Series) -> NDArray[np.float64]:
    """Read numbers from text, (rows,); NaN where a cell is no finite number."""
    import polars as pl

    values = text.cast(pl.Float64, strict=False)
    if values.null_count():
        values = values.fill_null(text.str.strip_chars().cast(pl.Float64, strict=False))
    numbers = values.fill_null(np.nan).to_numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _spelled_decimals(text: polars.Series) -> tuple[int, int]:
    """Return the fewest and the most decimal places with which these numbers are written."""
    import polars as pl

    fraction = text.str.extract(r"\.(\d*)").str.len_bytes().fill_null(0).cast(pl.Int64)
    exponent = text.str.extract(r"[eE]([+-]?\d+)$").cast(pl.Int64, strict=False)
    plain = fraction.filter(exponent.is_null())
    most = (fraction - exponent.fill_null(0)).max()
    fewest = plain.min() if len(plain) else 0
    return int(fewest or 0), min(max(int(most or 0), 0), MOST_DECIMALS)  # type: ignore[arg-type]


def spelling(text: polars.Series, *, typed: bool) -> dict[str, int | bool]:
    """Return the fields of a numeric column that say how these numbers are written."""
    fewest, most = _spelled_decimals(text) if len(text) else (0, 0)
    padded = fewest == most > 0 and not typed
    # 63.0 beside 62.85 is how some programs write every number that may have decimals
    pointed = not typed and fewest == 1 and bool(text.str.ends_with(".0").any())
    least = most if padded else int(pointed)
    return {"decimals": most, "padded": padded, "min_decimals": least}


def round_to(values: NDArray[np.float64], decimals: int) -> NDArray[np.float64]:
    """Round to so many decimals, wherever a float64 can tell them apart; no negative zeros."""
    distinct = np.abs(values) < MOST_DISTINCT / 10.0**decimals
    if decimals > EXACT_POWER:  # NumPy's scaling by an inexact power of ten is off by a bit
        once, back = np.unique(values[distinct], return_inverse=True)
        rounded = values.copy()
        rounded[distinct] = np.array([round(float(v), decimals) for v in once])[back]
        return rounded + 0.0
    return np.where(distinct, np.round(np.where(distinct, values, 0.0), decimals), values) + 0.0


def write_numbers(values: NDArray[np.float64], column: Column) -> polars.Series:
    """Write finite numbers as the column's source did: 1.5, 1.50 or 63.0."""
    import polars as pl

    rounded = round_to(values, column.decimals)
    if column.decimals == 0 and np.all(np.abs(rounded) < 2**53):
        return pl.Series(rounded.astype(np.int64)).cast(pl.String)
    text = pl.Series(rounded).cast(pl.String)
    if text.str.contains("e", literal=True).any():
        text = pl.Series([_positional(cell, value) for cell, value in zip(text, rounded)])  # noqa: B905
    places = column.decimals if column.padded else column.min_decimals
    if places > 1:
        parts = text.str.split_exact(".", 1).struct.unnest()
        fraction = parts.to_series(1).fill_null("").str.pad_end(places, "0")
        padded = parts.to_series(0) + "." + fraction
        return text.zip_with(text.str.contains("e", literal=True), padded)
    return text if places == 1 else text.str.strip_suffix(".0")


def _positional(cell: str, value: float) -> str:
    """Write without an exponent what the shortest spelling writes with one."""
    if "e" not in cell or abs(value) >= 1e22:
        return cell
    return np.format_float_positional(value, trim="0")


def from_text(text: polars.Series, dtype: str | None) -> polars.Series:
    """Turn text back into a typed column's polars type; '' becomes null."""
    import polars as pl

    if dtype is None:
        return text
    cells = text.replace("", None) if text.dtype == pl.String else text
    kind = dtype.partition("(")[0]
    if kind == "Enum":
        return cells.cast(pl.Enum(cells.drop_nulls().unique(maintain_order=True)))
    if kind in ("String", "Categorical"):
        return cells.cast(pl.Categorical) if kind == "Categorical" else cells
    if kind == "Boolean":
        return cells.replace_strict({"true": True, "false": False}, default=None).cast(pl.Boolean)
    if kind == "Null":
        return pl.Series(cells.name, [None] * len(cells), pl.Null)
    if kind == "Duration":
        unit = _argument(dtype, "time_unit") or "us"
        micro = (cells.cast(pl.Float64) * 1e6).round().cast(pl.Int64)
        return micro.cast(pl.Duration("us")).cast(pl.Duration(unit))  # type: ignore[arg-type]
    if kind == "Decimal":
        found = re.findall(r"\d+", dtype)
        return cells.cast(pl.Decimal(int(found[0]) if len(found) > 1 else None, int(found[-1])))
    if kind.startswith(("Int", "UInt")):
        return _whole(cells, kind)
    if kind.startswith("Float"):
        return cells.cast(getattr(pl, kind))
    return temporal(cells.cast(pl.Datetime("us")), dtype)


def temporal(moments: polars.Series, dtype: str) -> polars.Series:
    """Turn naive microsecond moments into the typed source's date, time or zoned moment."""

    kind = dtype.partition("(")[0]
    if kind in ("Date", "Time"):
        return moments.dt.date() if kind == "Date" else moments.dt.time()
    unit, zone = _argument(dtype, "time_unit") or "us", _argument(dtype, "time_zone")
    moments = moments.dt.cast_time_unit(unit)  # type: ignore[arg-type]
    if zone:  # kept as the clock on the wall shows it; where it is put forward, an hour later
        later = moments.dt.offset_by("1h").dt.replace_time_zone(
            zone, ambiguous="earliest", non_existent="null"
        )
        moments = moments.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        moments = moments.fill_null(later)
    return moments


def _argument(dtype: str, name: str) -> str | None:
    found = re.search(rf"{name}='([^']*)'", dtype)
    return found[1] if found else None


def _whole(cells: polars.Series, kind: str) -> polars.Series:
    """Cast to the source's integer type, or to a wider one where a new identifier needs it."""
    import polars as pl

    for dtype in (getattr(pl, kind), pl.Int64, pl.UInt64):
        cast = cells.cast(dtype, strict=False)
        if cast.null_count() == cells.null_count():
            return cast
    return cells
