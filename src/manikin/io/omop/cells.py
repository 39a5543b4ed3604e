"""Cells of an OMOP CDM as values: whole numbers, numbers and moments, whatever the source keeps.

A delimited file has texts, Parquet and databases have types, and SQLite keeps dates as texts, or
as seconds since 1970 where OHDSI's own tools wrote them. Times with an offset become UTC.
"""

from __future__ import annotations

from collections import Counter

import polars as pl

from manikin.errors import InputError

__all__ = ["MOMENT", "moments", "numbers", "texts", "whole"]

MOMENT = pl.Datetime("us")
_ZONE = r"(?:[Zz]|[+-]\d{2}(?::?\d{2})?)$"
_DAY = r"^(\d{4})-?(\d{2})-?(\d{2})"
_COMPACT = (18_000_101, 22_001_231)  # whole numbers that may be dates written as YYYYMMDD
_NULLS = ("", "NULL", "null", "\\N", "NA")


def texts(cells: pl.Series) -> pl.Series:
    """Return cells as texts, null where there is none."""
    text = cells if cells.dtype == pl.String else cells.cast(pl.String, strict=False)
    text = text.str.strip_chars()
    return text.set(text.is_in(_NULLS), None)


def whole(cells: pl.Series, where: str) -> pl.Series:
    """Return cells as whole numbers. Raises InputError, with their count, if some are none."""
    if cells.dtype.is_integer():
        return cells.cast(pl.Int64)
    if cells.dtype == pl.String or not cells.dtype.is_numeric():
        text = texts(cells)
        read = text.cast(pl.Int64, strict=False)
        if read.null_count() > text.null_count():  # 12.0, as spreadsheets write it
            number = text.cast(pl.Float64, strict=False)
            read = _exact(number)
        wrong = read.null_count() - text.null_count()
    else:
        read = _exact(cells.cast(pl.Float64))
        wrong = read.null_count() - cells.null_count()
        wrong -= int(cells.is_nan().sum()) if cells.dtype.is_float() else 0
    if wrong > 0:
        raise InputError(
            f"{wrong} cells of {where} are no whole numbers",
            f"{where} is an integer in the CDM",
            "correct the export",
        )
    return read


def _exact(number: pl.Series) -> pl.Series:
    kept = (number == number.round(0)) & (number.abs() < 2**53)
    return number.set(~kept.fill_null(False), None).cast(pl.Int64, strict=False)


def numbers(cells: pl.Series, where: str) -> pl.Series:
    """Return cells as numbers. Raises InputError, with their count, if some are none."""
    if cells.dtype.is_numeric():
        return cells.cast(pl.Float64).fill_nan(None)
    text = texts(cells)
    read = text.cast(pl.Float64, strict=False)
    if wrong := read.null_count() - text.null_count():
        raise InputError(
            f"{wrong} cells of {where} are no numbers",
            f"{where} is a number in the CDM",
            "correct the export",
        )
    return read.fill_nan(None)


def moments(cells: pl.Series, where: str, seen: Counter[str]) -> pl.Series:
    """Return cells as times in microseconds. Raises InputError, with a count, if some are none.

    `seen` counts the cells that had an offset and those that had none.
    """
    if cells.dtype == pl.Date:
        return cells.cast(MOMENT)
    if isinstance(cells.dtype, pl.Datetime):
        zoned = cells.dtype.time_zone is not None
        seen["zoned" if zoned else "plain"] += len(cells) - cells.null_count()
        utc = cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else cells
        return utc.cast(MOMENT)
    if cells.dtype.is_numeric():
        return _numeric(cells)
    text = texts(cells)
    read = _textual(text, seen)
    if wrong := read.null_count() - text.null_count():
        raise InputError(
            f"{wrong} cells of {where} are no dates",
            f"{where} is a date or time in the CDM: 2024-01-31 or 2024-01-31 08:15:00",
            "correct the export",
        )
    return read


def _numeric(cells: pl.Series) -> pl.Series:
    low, high = _COMPACT
    number = cells.cast(pl.Float64).fill_nan(None)
    known = number.drop_nulls()
    if len(known) and known.is_between(low, high).all() and (known % 100).is_between(1, 31).all():
        days = number.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        if days.null_count() == number.null_count():
            return days.cast(MOMENT)
    return (number * 1e6).round(0).cast(pl.Int64, strict=False).cast(MOMENT)


def _textual(text: pl.Series, seen: Counter[str]) -> pl.Series:
    days = text.str.to_date("%Y-%m-%d", strict=False)
    if days.null_count() == text.null_count():
        return days.cast(MOMENT)
    if text.str.contains(r"^\d{8}$").all():
        return text.str.to_date("%Y%m%d", strict=False).cast(MOMENT)
    clean = text.str.replace(_DAY + r"[T ]+", r"$1-$2-$3 ").str.replace(_DAY + "$", "$1-$2-$3")
    zone = clean.str.contains(r":.*" + _ZONE).fill_null(False)
    seen["zoned"] += int(zone.sum())
    seen["plain"] += len(text) - text.null_count() - int(zone.sum())
    bare = clean.str.replace(r"\s*" + _ZONE, "").zip_with(zone, clean) if zone.any() else clean
    read = bare.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    if read.null_count() > text.null_count():
        minutes = bare.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False)
        read = read.fill_null(minutes)
    read = read.fill_null(bare.str.to_date("%Y-%m-%d", strict=False).cast(MOMENT))
    if zone.any():
        read = read.zip_with(~zone, read - _offsets(clean))
    return read


def _offsets(text: pl.Series) -> pl.Series:
    """Return the offset that each text ends with, as a duration; none is zero."""
    parts = text.str.extract_groups(r"([+-])(\d{2}):?(\d{2})?$").struct.unnest()
    sign = pl.when(pl.col("1") == "-").then(-1).otherwise(1)
    minutes = pl.col("2").cast(pl.Int64) * 60 + pl.col("3").cast(pl.Int64).fill_null(0)
    frame = parts.select(
        pl.duration(minutes=sign * minutes.fill_null(0), time_unit="us").alias("offset")
    )
    return frame["offset"]
