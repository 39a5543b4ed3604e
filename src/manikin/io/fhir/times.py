"""Times in FHIR: https://hl7.org/fhir/R4/datatypes.html#dateTime.

A history keeps the clock on the wall and no zone, so written times bear one offset, and read ones
are put on the clock of the commonest offset. One within an hour of it is its summer time, and
keeps its own wall clock; so a source with one zone keeps every hour of the day. A date that is
partial (a year, or a year and month) is read as its first day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.codes import Clock

__all__ = [
    "NOT_A_TIME",
    "NO_OFFSET",
    "clock_of",
    "commonest",
    "offset_name",
    "on_one_clock",
    "parse_time",
    "written",
]

NOT_A_TIME = -(2**63)
NO_OFFSET = 32_000  # of a time that has none: no offset is beyond 14 hours
SUMMER = 60  # minutes that clocks are moved by
_EPOCH = datetime(1970, 1, 1)
_MICRO = timedelta(microseconds=1)
_STEPS: tuple[tuple[Clock, int], ...] = (
    ("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000), ("second", 1_000_000)
)  # fmt: skip
_PARTIAL = re.compile(r"\d{4}(?:-\d{2})?")
_LEAP = re.compile(r"(T\d{2}:\d{2}):60")
FIRST, LAST = (int(np.datetime64(day, "us").astype(np.int64)) for day in ("0001", "10000"))


def parse_time(text: str) -> tuple[int, int, bool]:
    """Return microseconds since 1970 on the wall, minutes of offset, and whether it is partial.

    Raises ValueError for what is no dateTime, date or instant.
    """
    partial = len(text) < 8
    if partial:
        if not _PARTIAL.fullmatch(text):
            raise ValueError
        text += "-01-01" if len(text) == 4 else "-01"
    elif text[4] != "-" or text[7] != "-" or (len(text) > 10 and text[10:14:3] != "T:"):
        raise ValueError  # other forms of ISO 8601
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = datetime.fromisoformat(_LEAP.sub(r"\1:59", text))  # a leap second
    offset = NO_OFFSET
    if when.tzinfo is not None:
        offset = round((when.utcoffset() or timedelta()) / timedelta(minutes=1))
        when = when.replace(tzinfo=None)
    return (when - _EPOCH) // _MICRO, offset, partial


def commonest(offsets: Sequence[NDArray[np.int16]]) -> int:
    """Return the offset of most times, in minutes; `NO_OFFSET` where none has one."""
    found, counts = np.unique(np.concatenate([o[o != NO_OFFSET] for o in offsets]),
                              return_counts=True)  # fmt: skip
    return int(found[np.argmax(counts)]) if found.size else NO_OFFSET


def offset_name(offset: int) -> str:
    """Return an offset as it is written, "" for none."""
    if offset in (0, NO_OFFSET):
        return "Z" if offset == 0 else ""
    return f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"


def on_one_clock(
    times: NDArray[np.int64], offsets: NDArray[np.int16], main: int
) -> tuple[NDArray[np.int64], int]:
    """Return the times on the clock of the offset `main`, and how many were moved to it."""
    apart = offsets.astype(np.int32) - main
    far = np.flatnonzero((np.abs(apart) > SUMMER) & (offsets != NO_OFFSET))
    if main == NO_OFFSET or far.size == 0:
        return times, 0
    moved = times.copy()
    moved[far] -= apart[far].astype(np.int64) * 60_000_000
    return moved, int(far.size)


def clock_of(*times: NDArray[np.int64]) -> Clock:
    """Return the coarsest step in which all times can be written."""
    known = [some[some != NOT_A_TIME] for some in times]
    return next(
        (name for name, step in _STEPS if not any(np.any(some % step) for some in known)), "us"
    )


def written(times: NDArray[np.datetime64], clock: Clock, offset: str) -> pl.Series:
    """Return times as FHIR writes them, null for none and for years beyond 1 to 9999."""
    micro = times.astype("datetime64[us]").view(np.int64)
    fits = (micro >= FIRST) & (micro < LAST)
    moments = pl.Series(np.where(fits, micro, 0)).cast(pl.Datetime("us"))
    whole = not np.any(micro[fits] % 1_000_000)
    full = moments.dt.to_string(f"%Y-%m-%dT%H:%M:%S{'' if whole else '%.f'}{offset}")
    frame = pl.DataFrame({"full": full, "fits": fits})
    chosen = pl.col("full")
    if clock == "day":
        midnight = pl.Series(np.where(fits, micro % 86_400_000_000, 1) == 0)
        frame = frame.with_columns(midnight=midnight)
        chosen = pl.when("midnight").then(pl.col("full").str.head(10)).otherwise(chosen)
    return frame.select(pl.when("fits").then(chosen)).to_series()
