"""The files of a MEDS data set: found, checked by their columns, and read in one form.

MEDS 0.4, `DataSchema`: subject_id (int64), time (timestamp, us; null for what is static), code
(string), numeric_value (float32), text_value (string), and any others. Of the others, those that
this writer and the common converters use are read: unit, end, visit or visit_id, domain or table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from manikin.errors import InputError
from manikin.io.bounds import CELLS_A_BYTE, FLOOR_CELLS, panics_become

__all__ = ["DATA", "Shards", "collect", "damaged", "find_shards", "is_data", "shortest"]

DATA = "data"
_NEEDED = ("subject_id", "time", "code")
_TEXTS = ("text_value", "unit", "domain", "table")
_READ = {*_NEEDED, "numeric_value", "exact_value", "end", "visit", "visit_id", *_TEXTS}
_TABLES = {  # names of OMOP tables, as converters write them → domain
    "visit": "visit", "visit_occurrence": "visit", "visit_detail": "visit",
    "condition": "condition", "condition_occurrence": "condition", "drug_exposure": "drug",
    "procedure": "procedure", "procedure_occurrence": "procedure", "measurement": "measurement",
    "observation": "observation", "device_exposure": "device", "death": "death",
}  # fmt: skip


@dataclass
class Shards:
    """The data files of a MEDS data set, and what was odd about their columns."""

    paths: list[Path]
    odd: dict[str, set[Path]] = field(default_factory=dict)  # what, and in which files

    def scan(self, path: Path) -> pl.LazyFrame:
        """Return a file's rows in one form. Raises InputError for columns that MEDS has not.

        Columns: subject_id, time and end (us, UTC), code, value (float64), text, unit, domain,
        visit; texts are "" where there is none, but `text`, which is null.
        """
        with panics_become(lambda: damaged(path)):
            try:
                scanned = pl.scan_parquet(path, glob=False, hive_partitioning=False)
                given = scanned.collect_schema()
                rows = int(scanned.select(pl.len()).collect().item())
            except (pl.exceptions.PolarsError, OSError, ValueError) as error:
                raise damaged(path) from error
        if rows * len(given) > max(FLOOR_CELLS, CELLS_A_BYTE * path.stat().st_size):
            raise InputError(
                f"'{path.name}' claims {rows:,} rows, more than a file of its size can hold",
                "rows of which every cell takes some room",
                "get the file again from where it was made",
            )
        _check(path, given)
        self._note(path, given)
        return scanned.select(*self._columns(given))

    def _columns(self, given: pl.Schema) -> list[pl.Expr]:
        visit = "visit" if "visit" in given else "visit_id" if "visit_id" in given else None
        value = shortest("numeric_value", given)
        if "exact_value" in given:
            value = pl.coalesce(pl.col("exact_value").cast(pl.Float64), value)
        domain = _text("domain", given, "")
        if "domain" not in given and "table" in given:
            known = pl.col("table").cast(pl.String).replace_strict(_TABLES, default="")
            domain = known.alias("domain")
        return [
            pl.col("subject_id").cast(pl.Int64),
            _moment("time", given),
            pl.col("code").cast(pl.String),
            value.alias("value"),
            _text("text_value", given, None).alias("text"),
            _text("unit", given, ""),
            domain,
            _moment("end", given) if "end" in given else _never("end"),
            (pl.col(visit).cast(pl.Int64) if visit else pl.lit(None, pl.Int64)).alias("visit"),
        ]

    def _note(self, path: Path, given: pl.Schema) -> None:
        for name in ("time", "end"):
            zone = getattr(given.get(name), "time_zone", None)
            if zone is not None:
                what = f"times in the zone {zone}, which were turned into UTC"
                self.odd.setdefault(what, set()).add(path)
        others = [name for name in given if name not in _READ]
        for name in others:
            self.odd.setdefault(f"a column '{name[:40]}', which was left out", set()).add(path)


def shortest(name: str, given: pl.Schema) -> pl.Expr:
    """Return a number as float64; of a float32, the shortest decimal that it stands for."""
    if name not in given:
        return pl.lit(None, pl.Float64)
    if given[name] == pl.Float32:
        return pl.col(name).cast(pl.String).cast(pl.Float64)
    return pl.col(name).cast(pl.Float64)


def _moment(name: str, given: pl.Schema) -> pl.Expr:
    moment = pl.col(name)
    if getattr(given[name], "time_zone", None) is not None:
        moment = moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return moment.cast(pl.Datetime("us"))


def _never(name: str) -> pl.Expr:
    return pl.lit(None, pl.Datetime("us")).alias(name)


def _text(name: str, given: pl.Schema, default: str | None) -> pl.Expr:
    if name not in given:
        return pl.lit(default, pl.String).alias(name)
    text = pl.col(name).cast(pl.String)
    return text if default is None else text.fill_null(default)


def _check(path: Path, given: pl.Schema) -> None:
    """Raise InputError for a column that is not there, or of a type that MEDS has not."""
    lacking = [name for name in _NEEDED if name not in given]
    if lacking:
        raise InputError(
            f"'{path.name}' has no column {', '.join(lacking)}",
            "the columns of MEDS: subject_id, time, code, numeric_value, text_value",
            "check that the folder holds MEDS data",
        )
    text = (pl.String, pl.Categorical, pl.Enum)
    for name, dtype in given.items():
        null = dtype == pl.Null
        wrong = (
            (name == "subject_id" and not dtype.is_integer())
            or (name == "code" and dtype not in text)
            or (name in ("time", "end") and not (dtype in (pl.Datetime, pl.Date) or null))
            or (name in ("numeric_value", "exact_value") and not (dtype.is_numeric() or null))
            or (name in ("visit", "visit_id") and not (dtype.is_integer() or null))
            or (name in _TEXTS and not (dtype in text or null))
        )
        if wrong:
            raise InputError(
                f"column '{name}' of '{path.name}' holds {str(dtype)[:80]} values",
                "subject_id and visit: whole numbers; time and end: timestamps; numeric_value:"
                " numbers; code, text_value, unit: texts",
                "write the column in the type that MEDS gives it",
            )


def is_data(path: Path) -> bool:
    """Whether a Parquet file has the columns of MEDS data; `value` is none of them."""
    try:
        with panics_become(lambda: damaged(path)):
            names = pl.scan_parquet(path, glob=False, hive_partitioning=False).collect_schema()
        return all(name in names for name in _NEEDED) and "value" not in names
    except (pl.exceptions.PolarsError, InputError, OSError, ValueError):
        return False


def find_shards(path: Path) -> Shards:
    """Return the data files of a folder, or the one file. Raises InputError where there is none."""
    if path.is_file():
        return Shards([path])
    folder = path / DATA
    if not folder.is_dir():
        what = "has no folder 'data'" if path.is_dir() else "does not exist"
        raise InputError(f"'{path.name}' {what}", "the root of a MEDS data set", "check the path")
    inside = folder.resolve()
    found = sorted(folder.rglob("*.parquet"), key=lambda p: _natural(p.relative_to(folder)))
    found = [p for p in found if p.is_file() and p.resolve().is_relative_to(inside)]
    if not found:
        raise InputError(
            f"'{path.name}' holds no Parquet file below 'data'", "at least one", "check the path"
        )
    return Shards(found)


def _natural(path: Path) -> list[Any]:
    """Sort 2.parquet before 10.parquet."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(int(part), part) if i % 2 else (0, part) for i, part in enumerate(parts)]


def collect(rows: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Return rows of a file, read in pieces. Raises InputError where it is damaged."""
    with panics_become(lambda: damaged(path)):
        try:
            return rows.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            raise damaged(path) from error


def damaged(path: Path) -> InputError:
    """Return the error for a file that is no whole Parquet file."""
    return InputError(
        f"'{path.name}' cannot be read as Parquet",
        "a whole Parquet file",
        "it may be cut short: copy it again",
    )
