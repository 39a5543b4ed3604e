"""What the columns of a file of rows are: whose row it is, when, of what, and how much.

Columns are recognised by their names, whatever capitals and marks they are written with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from manikin.data.cells import NUMBER, as_text, is_text
from manikin.data.dates import find_format, read_dates
from manikin.data.panels import ORIGIN
from manikin.data.schema import no_such_column
from manikin.errors import InputError

__all__ = ["ROLES", "is_long", "moments", "roles_of"]

ROLES: dict[str, tuple[str, ...]] = {  # role → names, the likeliest first
    "subject": ("subjectid", "subject", "patientid", "patient", "personid", "person", "usubjid",
                "subjid", "participantid", "ptid", "id"),
    "time": ("time", "datetime", "timestamp", "date", "eventtime", "eventdate", "charttime",
             "starttime", "startdate", "start", "when", "day", "days", "studyday", "hour", "month",
             "visitnum", "visitnumber", "week"),
    "code": ("code", "eventcode", "event", "conceptcode", "concept", "itemid", "item", "testcode",
             "test", "paramcd", "parameter", "variable"),
    "value": ("value", "numericvalue", "valuenum", "result", "resultvalue", "aval", "val"),
    "text": ("text", "textvalue", "valuetext", "stringvalue"),
    "unit": ("unit", "units", "uom", "valueuom"),
    "end": ("end", "endtime", "enddate", "stop", "stoptime", "stopdate"),
    "visit": ("visit", "visitid", "encounterid", "encounter", "hadmid"),
    "domain": ("domain", "table"),
}  # fmt: skip
_STRICT = ("id", "visit")  # names that say too little to tell a format by
MOST_FORMATS = 4  # in which the times of one column may be written


def plain(name: str) -> str:
    """Return a name without capitals and marks."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def roles_of(columns: Sequence[str], given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the column of each role that there is. Raises SchemaError for a name that is none."""
    found: dict[str, str] = {}
    for role, name in given.items():
        if name is not None:
            if name not in columns:
                raise no_such_column(name, columns)
            found[role] = name
    for role, names in ROLES.items():
        taken = set(found.values())
        held = {plain(column): column for column in reversed(columns) if column not in taken}
        first = next((held[name] for name in names if name in held), None)
        if role not in found and first is not None:
            found[role] = first
    return found


def is_long(columns: Collection[str]) -> bool:
    """Whether columns are plainly those of one event a row."""
    names = {plain(column) for column in columns}

    def has(role: str) -> bool:
        return any(name in names for name in ROLES[role] if name not in _STRICT)

    return has("subject") and has("time") and has("code") and (has("value") or has("text"))


def moments(cells: pl.Series, step: Any, odd: list[str]) -> tuple[pl.Series, str]:
    """Return the times of a column, Datetime[us], and how they are written.

    That is "" for typed ones, "number" for numbers of `step`s (microseconds) since the origin, or
    the format that most have. Raises InputError with the count of cells that are no time.
    """
    dtype = cells.dtype
    if dtype in (pl.Datetime, pl.Date):
        if getattr(dtype, "time_zone", None) is not None:
            odd.append(f"The times of '{cells.name}' were in a zone; they were turned into UTC.")
            cells = cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return cells.cast(pl.Datetime("us")), ""
    if not (is_text(dtype) or dtype.is_numeric() or dtype == pl.Null):
        raise _no_times(cells.name, len(cells))
    text = as_text(cells).str.strip_chars()
    text = text.set(text.is_in(["", "NA", "NULL", "NaT", "."]), None)
    some = text.drop_nulls()
    if not len(some):
        return pl.Series(cells.name, [None] * len(cells), pl.Datetime("us")), ""
    if some.str.contains(NUMBER).all() and not some.str.contains(r"^(?:19|20)\d{6}$").all():
        micro = text.cast(pl.Float64) * float(step)
        if (micro.abs() > 2.0**61).any():
            raise _no_times(cells.name, int((micro.abs() > 2.0**61).sum()))
        shifted = micro.round().cast(pl.Int64) + int(ORIGIN.astype(np.int64))
        return shifted.cast(pl.Datetime("us")), "number"
    return _dates(text, cells.name, odd)


def _dates(text: pl.Series, name: str, odd: list[str]) -> tuple[pl.Series, str]:
    """Read dates of a few formats, the commonest first."""
    read = pl.Series(name, [None] * len(text), pl.Datetime("us"))
    patterns: list[str] = []
    for _ in range(MOST_FORMATS):
        left = text.filter(read.is_null() & text.is_not_null())
        counts = left.value_counts(sort=True)
        if not counts.height:
            break
        found = find_format(counts.to_series(0), counts.to_series(1).to_numpy())
        if found is None:
            break
        if found.ambiguous and not patterns:
            odd.append(f"Day and month of '{name}' cannot be told apart: the day came first.")
        patterns.append(found.pattern)
        more = read_dates(text.fill_null(""), found.pattern)
        read = read.zip_with(read.is_not_null(), more)
    if bad := int((read.is_null() & text.is_not_null()).sum()):
        raise _no_times(name, bad)
    zones = [p for p in patterns if "%z" in p or "%:z" in p or p.endswith("Z")]
    if zones:
        odd.append(f"Times of '{name}' tell their zone; they were turned into UTC.")
    if len(patterns) > 1:
        odd.append(f"Times of '{name}' are written in {len(patterns)} formats.")
    return read.alias(name), patterns[0]


def _no_times(name: str, n: int) -> InputError:
    return InputError(
        f"column '{name}' has {n:,} cells that are no time",
        "dates, moments, or numbers of days since the start",
        "correct them, leave them empty, or name another column of times (--time)",
    )
