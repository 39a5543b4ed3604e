"""Dates as text: which format a column is written in, reading it and writing it back.

Formats are strftime patterns. Two marks beyond the common ones: `%-d` writes no leading zero, and
`%^b` writes the month's name in capitals (12JAN2019).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars

__all__ = [
    "Found",
    "find_format",
    "floor_dates",
    "is_clock",
    "read_dates",
    "seconds",
    "without_zeros",
    "write_dates",
]

_TIME = re.compile(
    r"(?P<gap>[ T]?)(?P<hour>\d{1,2}):\d{2}(?P<second>:\d{2}(?P<fraction>[.]\d+)?)?"
    r"(?P<half>\s?[AaPp][Mm])?(?P<zone>\s?Z|\s?[+-]\d{2}:?\d{2})?$"
)
_ISO = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_NUMBERS = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
_MONTH = re.compile(r"(\d{1,2})([- ]?)([A-Za-z]{3,9})\2(\d{4}|\d{2})(?!\d)")
_AMERICAN = re.compile(r"([A-Za-z]{3,9}) (\d{1,2}), ?(\d{4})")
_COMPACT = re.compile(r"(?:19|20)\d{2}[01]\d[0-3]\d")
_YEAR_MONTH = re.compile(r"(\d{4})-(\d{2})$")


@dataclass(frozen=True)
class Found:
    """A date format, what share of cells it reads, and whether day and month may be swapped."""

    pattern: str
    share: float
    ambiguous: bool = False


def is_clock(pattern: str) -> bool:
    """Return whether a format has times of day without a date; they are kept on 1970-01-01."""
    return "%Y" not in pattern and "%y" not in pattern


def find_format(text: polars.Series, counts: NDArray[Any]) -> Found | None:
    """Return the format that reads most of these different texts, or None if none reads any.

    Day and month are told apart by the whole column; where nothing tells, the day comes first.
    """
    first = next((cell for cell in text[:5] if _candidates(cell)), None)
    if first is None:
        return None
    total, results = float(counts.sum()), []
    for pattern in _candidates(first):
        moments = read_dates(text, pattern)
        read = moments.is_not_null().to_numpy()
        if read.any():
            back = write_dates(moments.to_numpy(), pattern)
            exact = (back == text).fill_null(False).to_numpy()
            results.append((counts[read].sum() / total, counts[exact].sum() / total, pattern))
    if not results:
        return None
    # max keeps the first of equals, and candidates put the day before the month
    share, _, pattern = max(results, key=lambda result: result[:2])
    twins = {_swapped(found) for found_share, _, found in results if found_share == share}
    return Found(pattern, float(share), pattern in twins and _swapped(pattern) != pattern)


def _swapped(pattern: str) -> str:
    marks = {"d": "m", "m": "d"}
    return re.sub(r"(%-?)([dm])", lambda found: found[1] + marks[found[2]], pattern)


def _candidates(cell: str) -> list[str]:
    """Return the formats in which this one cell may be written."""
    dates, rest = _date_formats(cell)
    if rest == "" and dates != [""]:
        return dates
    clock = _TIME.match(rest)
    if clock is None or (bool(clock["gap"]) == (dates == [""])):
        return []
    hours = ["%I", "%-I"] if clock["half"] else ["%H", "%-H"]
    tail = ":%M" + (":%S" if clock["second"] else "")
    if clock["fraction"]:
        places = len(clock["fraction"]) - 1
        tail += f"%.{places}f" if places in (3, 6) else "%.f"
    if clock["half"]:
        tail += (" " if clock["half"][0].isspace() else "") + "%p"
    zone = clock["zone"] or ""
    # an offset is first tried as it stands, then as one that changes from row to row
    zones = [zone, "%:z" if ":" in zone else "%z"] if zone.strip()[:1] in ("+", "-") else [zone]
    return [f"{d}{clock['gap']}{h}{tail}{z}" for d in dates for h in hours for z in zones]


def _date_formats(cell: str) -> tuple[list[str], str]:
    """Return the formats of a cell's date part and the rest of the cell."""
    if found := _YEAR_MONTH.match(cell):
        return ["%Y-%m"], ""
    if found := _ISO.match(cell):
        s = found[2]
        return [f"%Y{s}%m{s}%d", f"%Y{s}%-m{s}%-d"], cell[found.end() :]
    if found := _NUMBERS.match(cell):
        s, year = found[2], "%Y" if len(found[4]) == 4 else "%y"
        orders = [("%d", "%m"), ("%-d", "%-m"), ("%m", "%d"), ("%-m", "%-d")]
        return [f"{a}{s}{b}{s}{year}" for a, b in orders], cell[found.end() :]
    if found := _MONTH.match(cell):
        s, year = found[2], "%Y" if len(found[4]) == 4 else "%y"
        month = "%b" if len(found[3]) == 3 else "%B"
        month = month.replace("%", "%^") if found[3].isupper() else month
        return [f"{d}{s}{month}{s}{year}" for d in ("%d", "%-d")], cell[found.end() :]
    if found := _AMERICAN.match(cell):
        month = "%b" if len(found[1]) == 3 else "%B"
        gap = ", " if ", " in cell else ","
        return [f"{month} {d}{gap}%Y" for d in ("%d", "%-d")], cell[found.end() :]
    if (found := _COMPACT.match(cell)) and len(cell) in (8, 14, 17):
        return (["%Y%m%d"], cell[8:]) if len(cell) != 14 else (["%Y%m%d%H%M%S"], "")
    return [""], cell


def without_zeros(text: polars.Series, pattern: str) -> str:
    """Return the format with seconds, or the whole time of day, as they stand if always zero."""
    moments = read_dates(text, pattern).drop_nulls().to_numpy()
    for marks, zeros, unit in (
        (" %H:%M:%S%.f", " 00:00:00", "D"),
        ("%H:%M:%S", "00:00:00", "D"),
        ("%H:%M", "00:00", "D"),
        ("%M:%S%.f", "%M:00", "m"),
        ("%M:%S", "%M:00", "m"),
        ("%S%.f", "%S", "s"),
    ):
        floored = moments.astype(f"datetime64[{unit}]").astype(moments.dtype)
        if marks in pattern and np.array_equal(floored, moments) and not is_clock(pattern):
            return pattern.replace(marks, zeros)
    return pattern


def floor_dates(moments: NDArray[Any], pattern: str | None) -> NDArray[Any]:
    """Cut moments, datetime64 (rows,), to what their format shows."""
    shown = {"%.": "us", "%S": "s", "%M": "m", "%H": "h", "%I": "h"}
    unit = next((unit for mark, unit in shown.items() if mark in (pattern or "%.")), "D")
    return moments.astype(f"datetime64[{unit}]").astype("datetime64[us]")


def read_dates(text: polars.Series, pattern: str) -> polars.Series:
    """Read moments, Datetime[us] without a zone; null where a cell is not in the format."""
    import polars as pl

    format_ = pattern.replace("%^", "%")
    cells = text.str.strip_chars()
    if is_clock(pattern):
        cells, format_ = "1970-01-01 " + cells, "%Y-%m-%d " + format_
    moments = cells.str.to_datetime(format_, time_unit="us", strict=False, cache=False)
    return moments.dt.replace_time_zone(None).cast(pl.Datetime("us"))


def write_dates(moments: NDArray[Any], pattern: str) -> polars.Series:
    """Write datetime64 moments, (rows,), as text; null for NaT."""
    import polars as pl

    series = pl.Series(moments.astype("datetime64[us]"))
    if "%z" in pattern or "%:z" in pattern:
        series = series.dt.replace_time_zone("UTC")
    text = series.dt.to_string(pattern.replace("%^", "%"))
    return text.str.to_uppercase() if "%^" in pattern else text


def seconds(cell: str, pattern: str | None) -> float | None:
    """Return one date in seconds since 1970-01-01, in the column's format or ISO 8601, or None."""
    import polars as pl

    text = pl.Series([cell.strip()])
    candidates = [pattern] if pattern else []
    found = find_format(text, np.ones(1)) if _ISO.match(cell.strip()) else None
    candidates += [found.pattern] if found else []
    for format_ in candidates:
        moment = read_dates(text, format_).to_numpy()[0]
        if not np.isnat(moment):
            # whole seconds apart: 2^53 microseconds end in the year 2255
            whole, micro = divmod(int(moment.astype("datetime64[us]").astype(np.int64)), 10**6)
            return whole + micro / 1e6
    return None
