"""What a MEDS data set holds that says little of itself: its codes, and what is told once.

A fact is static where its rows have no time and no subject has two of the same prefix; all that
does not fit stays an event without a time. Texts that fewer than `FEWEST` subjects have are free
texts, not levels of a code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import polars as pl

from manikin.data.codes import Clock, Code, Domain, EventSchema
from manikin.data.schema import Column, TableSchema
from manikin.io.meds.codes import BIRTH, DEATH, MARK, Plan, plan_of
from manikin.io.meds.files import Shards, collect

__all__ = ["survey"]

FEWEST = 5  # subjects that have a text, for it to be a level
MOST_LEVELS = 50  # of a static column, and of a code
LONGEST_LEVEL = 100  # bytes
_SEX = ("gender", "sex")
_KEY = ("code", "unit", "domain")
_GUESSES: tuple[tuple[str, Domain], ...] = (  # beginning of a code → domain, where nothing says it
    (r"MEDS_DEATH|DEATH|.*//DEATH", "death"),
    (r"VISIT|.*ADMISSION|.*DISCHARGE|ENCOUNTER|TRANSFER|ED_|.*REGISTRATION", "visit"),
    (r"PROCEDURE|ICD\d*PCS|ICD\d*PROC|CPT|HCPCS|DRG", "procedure"),
    (r"DIAGNOSIS|CONDITION|ICD|SNOMED", "condition"),
    (r"MEDICATION|DRUG|INFUSION|RXNORM|ATC|NDC|CVX|PRESCRIPTION", "drug"),
    (r"LAB|VITAL|LOINC|MEASUREMENT|OUTPUT", "measurement"),
    (r"DEVICE", "device"),
)
_CLOCKS: tuple[tuple[int, Clock], ...] = (
    (86_400_000_000, "day"), (3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second"),
)  # fmt: skip
_NOT_FACTS = r"(?i)^(?:ICD|SNOMED|LOINC|RXNORM|ATC|CPT|HCPCS|NDC|DIAGNOSIS|PROCEDURE|MEDICATION)"


def survey(
    shards: Shards, described: Mapping[str, tuple[str, tuple[str, ...]]]
) -> tuple[Plan, dict[str, Any]]:
    """Return how rows stand for histories, and how static columns were written.

    `described` gives label and parents of codes. Every file is read once, in pieces.
    """
    keys, texts, nulls, births, fine = [], [], [], [], [True] * len(_CLOCKS)
    for path in shards.paths:
        rows = shards.scan(path)
        keys.append(_keys(rows, path))
        texts.append(_texts(rows, path))
        nulls.append(collect(rows.filter(pl.col("time").is_null()), path))
        births.append(collect(rows.filter(_is_birth()).select("subject_id", "time"), path))
        fine = _as_fine(rows, path, fine)
    once, told = _static(pl.concat(nulls), pl.concat(births))
    found = pl.concat(keys).group_by(_KEY).agg(
        pl.col("rows").sum(), pl.col("timed").sum(), pl.col("numeric").any(),
        pl.col("decimals").max(),
    ).sort(_KEY)  # fmt: skip
    found = found.with_columns(_prefix().alias("prefix"))
    prefixes = [entry["prefix"] for entry in told.values() if entry["prefix"] != BIRTH]
    gone = pl.col("prefix").is_in(prefixes) & (pl.col("timed") == 0)
    gone = gone | (pl.col("code") == MARK)
    if BIRTH in (entry["prefix"] for entry in told.values()):
        again = pl.concat(births)["subject_id"].is_duplicated().any()
        gone = gone | ((pl.col("code") == BIRTH) & (not again))
    levels = _levels(pl.concat(texts))
    codes = tuple(
        _code(row, described, levels) for row in found.filter(~gone).iter_rows(named=True)
    )
    clock: Clock = next((name for ok, (_, name) in zip(fine, _CLOCKS, strict=True) if ok), "us")
    named = [column.name for column in once]
    schema = EventSchema(
        TableSchema(once),
        _each_once(codes),
        birth="birth" if "birth" in told else "",
        sex=next((name for name in _SEX if name in named), ""),
        clock=clock,
    )
    return _foreign(plan_of(schema, told), found.filter(~gone)), told


def _foreign(plan: Plan, keys: pl.DataFrame) -> Plan:
    """Look codes up by what a source says of them, which may be less than the schema does."""
    asked = keys.select("code", "unit", "domain").with_row_index("place")
    place = pl.col("place").cast(pl.Int32)
    rest = plan.codes.filter(pl.col("place").is_null())
    known = plan.codes.filter(pl.col("place").is_not_null()).sort("place")
    known = known.with_columns(code=asked["code"], unit=asked["unit"], domain=asked["domain"])
    return Plan(plan.schema, pl.concat([known.with_columns(place), rest]), plan.facts)


def _each_once(codes: tuple[Code, ...]) -> tuple[Code, ...]:
    """Tell apart codes that differ only in what a source leaves open."""
    taken: set[tuple[str, str, str]] = set()
    kept = []
    for code in codes:
        while code.key in taken:
            code = Code(**{**code.__dict__, "name": f"{code.name}'"})
        taken.add(code.key)
        kept.append(code)
    return tuple(kept)


def _is_birth() -> pl.Expr:
    return (pl.col("code") == BIRTH) & pl.col("time").is_not_null()


def _prefix() -> pl.Expr:
    """Return what stands before the first `//`, or the first `/` where there is none."""
    code = pl.col("code")
    between = pl.when(code.str.contains("//", literal=True)).then(pl.lit("//")).otherwise(
        pl.lit("/")
    )  # fmt: skip
    return code.str.split(between).list.first()


def _keys(rows: pl.LazyFrame, path: Path) -> pl.DataFrame:
    written = pl.col("value").cast(pl.String).str.extract(r"\.(\d*[1-9])0*$")
    return collect(
        rows.group_by(_KEY).agg(
            pl.len().alias("rows"),
            pl.col("time").is_not_null().sum().alias("timed"),
            pl.col("value").is_not_null().any().alias("numeric"),
            written.str.len_bytes().max().fill_null(0).alias("decimals"),
        ),
        path,
    )


def _texts(rows: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Count the subjects of each short text of each code."""
    short = pl.col("text").is_not_null() & (pl.col("text").str.len_bytes() <= LONGEST_LEVEL)
    counted = rows.filter(short).group_by(*_KEY, "text")
    return collect(counted.agg(pl.col("subject_id").n_unique().alias("subjects")), path)


def _levels(texts: pl.DataFrame) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Return the levels of each code whose texts are few."""
    counted = texts.group_by(*_KEY, "text").agg(pl.col("subjects").sum())
    few = counted.group_by(_KEY).agg(pl.len().alias("n")).filter(pl.col("n") <= MOST_LEVELS)
    kept = counted.filter(pl.col("subjects") >= FEWEST).join(few, on=_KEY).sort("text")
    found: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for code, unit, domain, text in kept.select(*_KEY, "text").iter_rows():
        key = (code, unit, domain)
        found[key] = (*found.get(key, ()), text)
    return found


def _as_fine(rows: pl.LazyFrame, path: Path, fine: list[bool]) -> list[bool]:
    """Say which steps of clocks are still enough for all times."""
    micro = pl.col("time").dt.timestamp("us")
    asked = [((micro % step) == 0).all().alias(name) for step, name in _CLOCKS]
    found = collect(rows.select(asked), path).row(0)
    return [a and bool(b) for a, b in zip(fine, found, strict=True)]


def _code(
    row: Mapping[str, Any],
    described: Mapping[str, tuple[str, tuple[str, ...]]],
    levels: Mapping[tuple[str, str, str], tuple[str, ...]],
) -> Code:
    label, parents = described.get(row["code"], ("", ()))
    key = (row["code"], row["unit"], row["domain"])
    return Code(
        row["code"], _domain(row), label, row["unit"], bool(row["numeric"]),
        decimals=min(int(row["decimals"]), 12), levels=levels.get(key, ()), parents=parents,
    )  # fmt: skip


def _domain(row: Mapping[str, Any]) -> Domain:
    if row["code"] == DEATH:
        return "death"
    if row["domain"] in get_args(Domain):
        domain: Domain = row["domain"]
        return domain
    name = str(row["code"]).upper()
    guess = next((domain for pattern, domain in _GUESSES if re.match(pattern, name)), None)
    return guess or ("measurement" if row["numeric"] else "observation")


def _static(
    nulls: pl.DataFrame, births: pl.DataFrame
) -> tuple[tuple[Column, ...], dict[str, dict[str, Any]]]:
    """Return the columns of what is told once, and how each is written."""
    columns: list[Column] = []
    told: dict[str, dict[str, Any]] = {}
    if births.height:
        days = bool((births["time"].dt.timestamp("us") % 86_400_000_000 == 0).all())
        pattern = "%Y-%m-%d" if days else "%Y-%m-%d %H:%M:%S%.f"
        columns.append(Column("birth", "datetime", date_format=pattern))
        told["birth"] = {"prefix": BIRTH}
    rows = nulls.filter(
        pl.col("subject_id").is_not_null() & pl.col("code").is_not_null()
        & ~pl.col("code").is_in([BIRTH, DEATH, MARK]) & ~pl.col("code").str.contains(_NOT_FACTS)
    ).with_columns(_prefix().alias("prefix"))  # fmt: skip
    for (prefix,), part in sorted(rows.group_by("prefix"), key=lambda pair: str(pair[0][0])):
        fact = _column(str(prefix), part)
        if fact is not None and fact[0].name not in told:
            columns.append(fact[0])
            told[fact[0].name] = fact[1]
    return tuple(columns), told


def _column(prefix: str, rows: pl.DataFrame) -> tuple[Column, dict[str, Any]] | None:
    """Return the column that facts of a prefix make, None where they make none."""
    if rows["subject_id"].is_duplicated().any() or not prefix:
        return None
    name = "sex" if prefix.lower() in _SEX else prefix.lower()
    bare = (rows["code"] == prefix).all()
    value, text = rows["value"].null_count() == 0, rows["text"].null_count() == 0
    nothing = rows["value"].null_count() == rows.height
    if bare and value and rows["text"].null_count() == rows.height:
        whole = bool((rows["value"] % 1 == 0).all())
        return Column(name, "integer" if whole else "continuous", decimals=0 if whole else 12), {
            "prefix": prefix
        }
    if bare and text and nothing and 0 < rows["text"].n_unique() <= MOST_LEVELS:
        levels = tuple(rows["text"].unique().sort())
        missing = _unlike(levels)
        column = Column(name, "categorical", categories=levels, missing=(missing,))
        return column, {"prefix": prefix, "text": True}
    between = "//" if rows["code"].str.starts_with(f"{prefix}//").all() else "/"
    apart = rows["code"].str.starts_with(f"{prefix}{between}").all()
    if not apart or not nothing or rows["text"].null_count() < rows.height:
        return None
    levels = tuple(rows["code"].str.strip_prefix(f"{prefix}{between}").unique().sort())
    if len(levels) > MOST_LEVELS:
        return None
    column = Column(name, "categorical", categories=levels, missing=(_unlike(levels),))
    return column, {"prefix": prefix, "separator": between}


def _unlike(levels: tuple[str, ...]) -> str:
    """Return a spelling of "no value" that is no level."""
    return "" if "" not in levels else next(m for m in ("NA", "NULL", "?") if m not in levels)
