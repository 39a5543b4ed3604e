"""Dates of CDISC data: ISO 8601 texts of any precision in and out, and study days.

SDTM Implementation Guide 3.4, §4.4.1 (formats), §4.4.2 (precision: what is not known is left out
from the right, or stands as a hyphen), §4.4.4 (study day). A partial date is read as the first
moment that it allows where a thing starts and as the last day that it allows where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["Moments", "read_moments", "study_days", "write_moments"]

_ISO = (
    r"^(?P<y>\d{4})(?:-(?P<m>\d{2})(?:-(?P<d>\d{2})(?:[T ](?P<H>\d{2})(?::(?P<M>\d{2})"
    r"(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?)?)?)?)?(?P<z>Z|[+-]\d{2}(?::?\d{2})?)?$"
)
_BASIC = r"^(\d{4})(\d{2})(\d{2})(?:T(\d{2})(\d{2})(\d{2})?)?$"


@dataclass(frozen=True)
class Moments:
    """Texts of dates as moments, and how many of them were what."""

    time: pl.Series  # Datetime[us]; null where nothing is known
    timed: pl.Series  # whether a time of day was told
    partial: int  # without a day, or without a month
    zoned: int  # told with an offset from UTC; the clock on the wall is kept
    unread: int  # no date at all

    def __len__(self) -> int:
        return len(self.time)


def read_moments(series: pl.Series, *, last: bool = False) -> Moments:
    """Read dates; `last` takes the last day that a partial date allows, not the first."""
    if series.dtype in (pl.Date, pl.Datetime):
        moments = series
        if series.dtype == pl.Datetime:
            moments = series.dt.replace_time_zone(None)
        moments = moments.cast(pl.Datetime("us"))
        timed = (moments.dt.truncate("1d") != moments).fill_null(False)
        return Moments(moments, timed, 0, 0, 0)
    text = series.cast(pl.String).str.strip_chars().alias("text")
    text = text.set(text == "", None)
    unique = text.unique()  # the dates of a study are few
    found = _unique_moments(unique, last=last)
    frame = pl.DataFrame({"text": text}).join(
        found, on="text", how="left", nulls_equal=True, maintain_order="left"
    )
    return Moments(
        frame["time"],
        frame["timed"].fill_null(False),
        int(frame["partial"].sum()),
        int(frame["zoned"].sum()),
        int((frame["time"].is_null() & text.is_not_null()).sum()),
    )


def _unique_moments(text: pl.Series, *, last: bool) -> pl.DataFrame:
    """Return time, timed, partial and zoned of each different text."""
    cell = pl.col("text")
    plain = cell.str.split("/").list.get(-1 if last else 0)  # an interval: its start or its end
    plain = plain.str.replace(r"T-.*$", "").str.replace(r"--.*$", "").str.replace(r"-$", "")
    plain = plain.str.replace(_BASIC, "${1}-${2}-${3}T${4}:${5}:${6}")
    plain = plain.str.replace(r"T:+$", "").str.replace(r":+$", "")
    parts = pl.DataFrame({"text": text}).with_columns(plain.str.extract_groups(_ISO).alias("p"))
    parts = parts.unnest("p")
    day = (
        pl.col("y")
        + "-"
        + pl.col("m").fill_null("12" if last else "01")
        + "-"
        + pl.col("d").fill_null("01")
    ).str.to_date("%Y-%m-%d", strict=False)
    if last:
        day = pl.when(pl.col("d").is_null()).then(day.dt.month_end()).otherwise(day)
    clock = (
        pl.col("H") + ":" + pl.col("M").fill_null("00") + ":" + pl.col("S").fill_null("00")
    ).str.to_time("%H:%M:%S", strict=False)
    micro = pl.col("f").str.pad_end(9, "0").str.head(6).cast(pl.Int64).fill_null(0)
    wrong = pl.col("H").is_not_null() & clock.is_null()
    since = clock.cast(pl.Duration("us")).fill_null(pl.duration(microseconds=0))
    time = day.cast(pl.Datetime("us")) + since + pl.duration(microseconds=micro)
    return parts.select(
        "text",
        time=pl.when(wrong).then(None).otherwise(time),
        timed=pl.col("H").is_not_null(),
        partial=pl.col("y").is_not_null() & pl.col("d").is_null(),
        zoned=pl.col("z").is_not_null(),
    )


def write_moments(time: NDArray[np.datetime64]) -> pl.Series:
    """Write moments as ISO 8601, no finer than each is: 2014-01-02 for a midnight."""
    frame = pl.DataFrame({"t": pl.Series(time.astype("datetime64[us]"))})
    t = pl.col("t")
    finest = [
        (t.dt.truncate("1d") == t, "%Y-%m-%d"),
        (t.dt.truncate("1m") == t, "%Y-%m-%dT%H:%M"),
        (t.dt.truncate("1s") == t, "%Y-%m-%dT%H:%M:%S"),
    ]
    written = t.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
    for holds, pattern in reversed(finest):
        written = pl.when(holds).then(t.dt.strftime(pattern)).otherwise(written)
    return frame.select(written.alias("t"))["t"]


def study_days(
    time: NDArray[np.datetime64], reference: NDArray[np.datetime64]
) -> NDArray[np.float64]:
    """Return days since the reference date, which is day 1; the day before it is day -1."""
    days = (time.astype("datetime64[D]") - reference.astype("datetime64[D]")).astype(np.float64)
    unknown = np.isnat(time) | np.isnat(reference)
    return np.where(unknown, np.nan, np.where(days >= 0, days + 1, days))
