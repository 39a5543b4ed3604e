"""SDTM domains as rows of one form: whose, when, which code, what value.

A finding's code is its test ("VS/SYSBP"); where a subject has several rows of a test at one visit,
what tells them apart (position, time point, …) is part of the name. A verbatim term that fewer
than `FEW` subjects share is no code: it may name a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from manikin.io.cdisc.dates import read_moments
from manikin.io.cdisc.domains import TOLD, Shape, domain_of, telling

__all__ = ["FEW", "Rows", "event_rows", "finding_rows", "intervention_rows", "stack", "text_of"]

FEW = 5  # subjects; nothing that fewer share is kept of a code beside its name
_REPEATED = 0.01  # share of a test's rows that a qualifier must tell apart to enter the name
UNCODED = "UNCODED"

FORM: dict[Any, Any] = {
    "subject": pl.String, "start": pl.Datetime("us"), "end": pl.Datetime("us"),
    "name": pl.String, "unit": pl.String, "domain": pl.String, "label": pl.String,
    "parent": pl.String, "value": pl.Float64, "text": pl.String, "visitnum": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Rows of a domain in `FORM`, what is odd of them, and what the writer needs to know."""

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    layout: Mapping[str, Any] = field(default_factory=dict)


def text_of(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Return a variable as text without blanks, null where it is empty or not there."""
    if name not in frame.columns:
        return pl.lit(None, dtype=pl.String)
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(text == "").then(None).otherwise(text)


def _number(frame: pl.DataFrame, name: str) -> pl.Expr:
    if name not in frame.columns:
        return pl.lit(None, dtype=pl.Float64)
    number = pl.col(name).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def finding_rows(
    domain: str, frame: pl.DataFrame, own: Mapping[str, list[str]] | None = None
) -> Rows:
    """Return the rows of a findings domain: VS, LB, EG, QS and the like.

    `own` are the qualifiers that enter the name of each test, where that is known.
    """
    frame = frame.with_columns(text_of(frame, domain + "TESTCD").alias(domain + "TESTCD"))
    times, told, timed = _times(domain, frame, ("DTC",), ("ENDTC",))
    names = _names(domain, frame) if own is None else {t: list(keys) for t, keys in own.items()}
    parts = frame.with_columns(times).select(
        subject="USUBJID",
        start="start",
        end="end",
        name=_finding_name(domain, frame, names),
        unit=pl.coalesce(text_of(frame, domain + "STRESU"), _own_unit(domain, frame), pl.lit("")),
        domain=pl.lit(domain_of(domain, "findings")),
        label=pl.coalesce(text_of(frame, domain + "TEST"), pl.lit("")),
        parent=pl.lit(None, dtype=pl.String),
        value=_result(domain, frame),
        text=pl.coalesce(text_of(frame, domain + "STRESC"), text_of(frame, domain + "ORRES")),
        visitnum=_number(frame, "VISITNUM"),
    )
    # a text that is the number itself says nothing more; "<4" beside 4 does
    spelled = pl.col("text").cast(pl.Float64, strict=False).is_not_null()
    told_twice = pl.col("value").is_not_null() & spelled
    parts = parts.with_columns(text=pl.when(~told_twice).then("text"))
    keep = pl.col("value").is_not_null() | pl.col("text").is_not_null()
    made = parts.filter(keep & pl.col("name").is_not_null())
    if empty := parts.height - made.height:
        told.append(f"{domain}: {empty:,} rows without a result (not done) are left out")
    units = made.group_by("name").agg(pl.col("unit").n_unique().alias("units"))
    if several := units.filter(pl.col("units") > 1).height:
        told.append(f"{domain}: {several} tests are told in more than one unit; each is a code")
    layout = _layout(domain, "findings", frame, parts) | {"names": names, "timed": timed}
    return Rows(made.cast(FORM), tuple(told), layout)


def _own_unit(domain: str, frame: pl.DataFrame) -> pl.Expr:
    """Return the original unit where there is no standard result."""
    standard = any(domain + name in frame.columns for name in ("STRESN", "STRESC", "STRESU"))
    return pl.lit(None, dtype=pl.String) if standard else text_of(frame, domain + "ORRESU")


def _result(domain: str, frame: pl.DataFrame) -> pl.Expr:
    """Return the number of a finding: standard, or as it is written if there is no standard one."""
    if domain + "STRESN" in frame.columns:
        return _number(frame, domain + "STRESN")
    written = pl.coalesce(text_of(frame, domain + "STRESC"), text_of(frame, domain + "ORRES"))
    number = written.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _names(domain: str, frame: pl.DataFrame) -> dict[str, list[str]]:
    """Return the qualifiers that enter the name of each test, told apart as few as do."""
    test = domain + "TESTCD"
    at = [c for c in ("VISITNUM", domain + "DTC") if c in frame.columns]
    left = frame.select(pl.all().exclude("index"))
    candidates = [domain + part for part in TOLD if domain + part in frame.columns]
    chosen: dict[str, list[str]] = {}

    def groups(keys: list[str]) -> pl.DataFrame:
        return left.select("USUBJID", test, *at, *keys).unique().group_by(test).len(name="n")

    rows = dict(frame.group_by(test).len(name="n").iter_rows())
    now = dict(groups([]).iter_rows())
    repeated = [t for t in rows if t is not None and rows[t] - now[t] > _REPEATED * rows[t]]
    for code in sorted(repeated):
        left = frame.filter(pl.col(test) == code)
        keys: list[str] = []
        count = now[code]
        while count < rows[code]:
            tried = {q: int(groups([*keys, q])["n"][0]) for q in candidates if q not in keys}
            best = max(tried, key=lambda q: tried[q], default=None)
            if best is None or tried[best] - count <= _REPEATED * rows[code]:
                break
            keys, count = [*keys, best], tried[best]
        if keys:
            chosen[str(code)] = keys
    return chosen


def _finding_name(domain: str, frame: pl.DataFrame, names: Mapping[str, list[str]]) -> pl.Expr:
    test = text_of(frame, domain + "TESTCD")
    plain = pl.lit(domain + "/") + test
    for chosen in sorted({tuple(keys) for keys in names.values()}):
        tests = [code for code, keys in names.items() if tuple(keys) == chosen]
        parts = [
            text_of(frame, key)
            .fill_null("")
            .str.replace_all("%", "%25")
            .str.replace_all("/", "%2F")
            for key in chosen
        ]
        whole = pl.concat_str([pl.lit(domain + "/") + test, *parts], separator="/")
        plain = pl.when(test.is_in(tests)).then(whole).otherwise(plain)
    return plain


def _escaped(part: pl.Expr) -> pl.Expr:
    """Return a part of a code's name without a slash in it."""
    return part.fill_null("").str.replace_all("%", "%25").str.replace_all("/", "%2F")


def event_rows(domain: str, frame: pl.DataFrame) -> Rows:
    """Return the rows of an events domain: AE, MH, CE, DS and the like."""
    times, told, timed = _times(domain, frame, ("STDTC", "DTC"), ("ENDTC",), exact=domain != "DS")
    term, count = _term(frame, domain + "DECOD", domain + "TERM")
    if count:
        told.append(f"{domain}: {count:,} rows bear a verbatim term of too few subjects: {UNCODED}")
    severity = pl.coalesce(text_of(frame, domain + "SEV"), text_of(frame, domain + "TOXGR"))
    serious = text_of(frame, domain + "SER") == "Y"
    text = pl.when(serious).then(
        pl.concat_str([severity.fill_null(""), pl.lit("SERIOUS")], separator="/")
    ).otherwise(severity)  # fmt: skip
    organ = pl.coalesce(text_of(frame, domain + "BODSYS"), text_of(frame, domain + "SOC"))
    decoded = term.fill_null(UNCODED)
    frame = frame.with_columns(times)
    parts = frame.select(
        subject="USUBJID",
        start="start",
        end="end",
        name=pl.lit(domain + "/") + decoded,
        unit=pl.lit(""),
        domain=pl.when((domain == "DS") & (decoded == "DEATH"))
        .then(pl.lit("death"))
        .otherwise(pl.lit(domain_of(domain, "events"))),
        label=decoded,
        parent=pl.lit(domain + "BODSYS/") + organ,
        value=pl.lit(None, dtype=pl.Float64),
        text=text,
        visitnum=_number(frame, "VISITNUM"),
    )
    return Rows(
        parts.cast(FORM), tuple(told), _layout(domain, "events", frame, parts) | {"timed": timed}
    )


def intervention_rows(domain: str, frame: pl.DataFrame) -> Rows:
    """Return the rows of an interventions domain: EX, CM, PR and the like."""
    times, told, timed = _times(domain, frame, ("STDTC", "DTC"), ("ENDTC",))
    term, count = _term(frame, domain + "DECOD", domain + "TRT", keep=domain == "EX")
    if count:
        told.append(f"{domain}: {count:,} rows bear a verbatim name of too few subjects: {UNCODED}")
    group = text_of(frame, domain + "CLAS")
    dose = _number(frame, domain + "DOSE")
    decoded = term.fill_null(UNCODED)
    frame = frame.with_columns(times)
    parts = frame.select(
        subject="USUBJID",
        start="start",
        end="end",
        name=pl.lit(domain + "/") + decoded,
        unit=pl.coalesce(text_of(frame, domain + "DOSU"), pl.lit("")),
        domain=pl.lit(domain_of(domain, "interventions")),
        label=decoded,
        parent=pl.lit(domain + "CLAS/") + group,
        value=dose,
        text=text_of(frame, domain + "DOSFRQ"),
        visitnum=_number(frame, "VISITNUM"),
    )
    return Rows(
        parts.cast(FORM),
        tuple(told),
        _layout(domain, "interventions", frame, parts) | {"timed": timed},
    )


def _term(
    frame: pl.DataFrame, coded: str, verbatim: str, *, keep: bool = False
) -> tuple[pl.Expr, int]:
    """Return the coded term, or a verbatim one that enough subjects share, and how many do not."""
    decoded, own = text_of(frame, coded), text_of(frame, verbatim)
    if keep:
        return pl.coalesce(decoded, own), 0
    lone = frame.select("USUBJID", d=decoded, v=own).filter(pl.col("d").is_null())
    shared = lone.group_by("v").agg(pl.col("USUBJID").n_unique().alias("n"))
    common = shared.filter(pl.col("n") >= FEW)["v"].drop_nulls()
    rare = lone.filter(~pl.col("v").is_in(common.to_list()).fill_null(False)).height
    return pl.coalesce(decoded, pl.when(own.is_in(common.to_list())).then(own)), rare


def _times(
    domain: str,
    frame: pl.DataFrame,
    starts: tuple[str, ...],
    ends: tuple[str, ...],
    *,
    exact: bool = True,
) -> tuple[list[pl.Series], list[str], bool]:
    """Return columns `start` and `end`, what is odd of them, and whether a time of day is told.

    `exact`: only the first of `starts` that is there counts; else the next fills its gaps.
    """
    blank = pl.Series([None], dtype=pl.String).new_from_index(0, frame.height)
    there = [domain + s for s in starts if domain + s in frame.columns]
    first = read_moments(frame[there[0]] if there else blank)
    start = first.time
    if not exact and len(there) > 1:
        filled = pl.DataFrame({"a": start, "b": read_moments(frame[there[1]]).time})
        start = filled.select(pl.coalesce("a", "b"))["a"]
    stop = next((domain + e for e in ends if domain + e in frame.columns), None)
    last = read_moments(frame[stop] if stop else blank, last=True)
    both = pl.DataFrame({"start": start, "end": last.time, "timed": last.timed})
    same_day = (pl.col("start").dt.date() == pl.col("end").dt.date()) & ~pl.col("timed")
    both = both.with_columns(
        end=pl.when(same_day & (pl.col("end") < pl.col("start"))).then("start").otherwise("end")
    )
    undated = both["start"].null_count() - first.unread
    told = [
        f"{domain}: {count:,} {what}"
        for count, what in (
            (first.partial, "start dates are partial; the first moment that they allow is taken"),
            (last.partial, "end dates are partial; the last day that they allow is taken"),
            (first.zoned + last.zoned, "times bear an offset; the clock on the wall is kept"),
            (first.unread + last.unread, "dates are no ISO 8601 and are taken as unknown"),
            (undated, "rows have no start date"),
            (both.filter(pl.col("end") < pl.col("start")).height, "rows end before they start"),
        )
        if count > 0
    ]
    timed = bool(first.timed.any() or last.timed.any())
    return [both["start"], both["end"]], told, timed


def _layout(domain: str, shape: Shape, frame: pl.DataFrame, parts: pl.DataFrame) -> dict[str, Any]:
    """Return the variables of a domain, and what holds of all rows of a code."""
    qualifiers = telling(domain, shape, frame.columns)
    held = frame.select(*qualifiers, "USUBJID").with_columns(parts["name"])
    found = held.group_by("name").agg(
        pl.col("USUBJID").n_unique().alias("subjects"),
        *(pl.col(q).n_unique().alias(f"n {q}") for q in qualifiers),
        *(pl.col(q).first() for q in qualifiers),
    )
    enough = found.filter((pl.col("subjects") >= FEW) & pl.col("name").is_not_null()).sort("name")
    constants = {
        row["name"]: {
            q: row[q] for q in qualifiers if row[f"n {q}"] == 1 and row[q] not in (None, "")
        }
        for row in enough.iter_rows(named=True)
    }
    return {
        "shape": shape,
        "constants": {name: values for name, values in constants.items() if values},
    }


def stack(rows: list[Rows]) -> pl.DataFrame:
    """Return all rows one after the other."""
    return pl.concat([pl.DataFrame(schema=FORM), *(part.frame for part in rows)])
