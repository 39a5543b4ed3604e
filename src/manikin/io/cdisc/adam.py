"""ADaM data sets as SDTM domains, so that one reader serves both.

Analysis Data Model 2.1, Implementation Guide 1.3: ADSL (§3.2) gives subjects; the basic data
structure (§3.3: PARAMCD, AVAL) findings; occurrence data (OCCDS 1.1) events and interventions. What
was made for an analysis is no observation: rows that were imputed or averaged (DTYPE), the same row
again for another analysis visit, times to an event (CNSR), groupings and numeric twins of labels.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

import polars as pl

from manikin.errors import InputError
from manikin.io.cdisc.dates import read_moments
from manikin.io.cdisc.domains import KNOWN
from manikin.io.cdisc.rows import text_of

__all__ = ["as_sdtm", "is_adam"]

_ALIKE = {"ARM": "TRT01P", "ACTARM": "TRT01A", "RFSTDTC": "TRTSDT", "DTHDTC": "DTHDT",
          "BRTHDTC": "BRTHDT"}  # fmt: skip
_GROUPING = re.compile(r".*GR\d+N?$")
_DATE = re.compile(r".*(DT|DTM|TM|DTF|TMF)$")
_FINDING = (  # variable of the basic data structure → the part of the name that SDTM has
    ("PARAMCD", "TESTCD"), ("PARAM", "TEST"), ("PARCAT1", "CAT"), ("AVAL", "STRESN"),
    ("AVALC", "STRESC"), ("ATPT", "TPT"), ("ATPTN", "TPTNUM"),
)  # fmt: skip
_SAS_EPOCH = datetime.datetime(1960, 1, 1)
_MOST_DAYS = 1e5
_UNIT = r"\s*\(([^()]{1,20})\)$"


def is_adam(frames: Mapping[str, pl.DataFrame]) -> bool:
    """Whether data sets are of ADaM: ADSL is among them and DM is not."""
    return "adsl" in frames and "dm" not in frames


def as_sdtm(frames: Mapping[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Return SDTM domains of ADaM data sets, and what was left out of them."""
    notes: list[str] = []
    frames = {
        name: frame.with_columns(text_of(frame, "USUBJID").alias("USUBJID"))
        if "USUBJID" in frame.columns else frame
        for name, frame in frames.items()
    }  # fmt: skip
    adsl = frames["adsl"]
    if "USUBJID" not in adsl.columns:
        raise InputError("ADSL without USUBJID", "a name for each subject", "check the export")
    made = {"dm": _subjects(adsl, notes)}
    start = read_moments(_column(made["dm"], "RFSTDTC")).time
    reference = made["dm"].select("USUBJID", start.alias("reference")).unique("USUBJID")
    aside = []
    for name, frame in frames.items():
        if name == "adsl":
            continue
        if "CNSR" in frame.columns:
            notes.append(f"{name.upper()}: times to an event follow from events and are set aside")
        elif "USUBJID" not in frame.columns:
            aside.append(name.upper())
        elif {"PARAMCD", "AVAL"} <= set(frame.columns):
            made[name] = _findings(name, frame, reference, notes)
        elif (domain := name.upper().removeprefix("AD")[:2]) in KNOWN and (
            {domain + "TERM", domain + "DECOD", domain + "TRT"} & set(frame.columns)
        ):
            made[name] = _occurrences(domain, frame)
        else:
            aside.append(name.upper())
    if aside:
        notes.append(f"set aside, for their structure is none of ADaM: {', '.join(sorted(aside))}")
    return made, notes


def _column(frame: pl.DataFrame, name: str) -> pl.Series:
    if name in frame.columns:
        return frame[name]
    return pl.Series(name, [None], dtype=pl.String).new_from_index(0, frame.height)


def _subjects(adsl: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return DM with what ADSL tells once of a subject beside it."""
    twins = {name for name in adsl.columns if name.endswith("N") and name[:-1] in adsl.columns}
    for wanted, name in _ALIKE.items():
        if wanted not in adsl.columns and name in adsl.columns:
            adsl = adsl.rename({name: wanted})
    drop, dates = [], []
    for name in adsl.columns:
        if name in ("RFSTDTC", "DTHDTC", "BRTHDTC"):
            continue
        again = name in _ALIKE.values() and any(
            adsl[name].equals(adsl[w]) for w, n in _ALIKE.items() if n == name and w in adsl.columns
        )
        if name in twins or again or _GROUPING.fullmatch(name):
            drop.append(name)
        elif adsl[name].dtype.is_temporal() or _DATE.fullmatch(name):
            dates.append(name)
    if drop:
        notes.append(f"ADSL: {len(drop)} variables follow from others and are left out")
    if dates:
        notes.append(f"ADSL: dates are left out that no event bears: {', '.join(dates)}")
    return adsl.drop(*drop, *dates).with_columns(DOMAIN=pl.lit("DM"))


def _findings(
    name: str, frame: pl.DataFrame, reference: pl.DataFrame, notes: list[str]
) -> pl.DataFrame:
    """Return a basic data structure as a findings domain."""
    domain = name.upper().removeprefix("AD")[:2]
    domain = domain if KNOWN.get(domain) == "findings" else "XO"
    if "DTYPE" in frame.columns:
        observed = frame.filter(text_of(frame, "DTYPE").is_null())
        if made := frame.height - observed.height:
            notes.append(f"{name.upper()}: {made:,} rows that were imputed or derived are left out")
        frame = observed
    number = "VISITNUM" if "VISITNUM" in frame.columns else "AVISITN"
    label = "VISIT" if number == "VISITNUM" else "AVISIT"
    columns = {
        "STUDYID": _column(frame, "STUDYID"),
        "DOMAIN": pl.Series([domain], dtype=pl.String).new_from_index(0, frame.height),
        "USUBJID": frame["USUBJID"],
        **{domain + to: frame[of] for of, to in _FINDING if of in frame.columns},
        **{to: frame[of] for to, of in (("VISITNUM", number), ("VISIT", label))
           if of in frame.columns},
    }  # fmt: skip
    made_frame = pl.DataFrame([series.alias(to) for to, series in columns.items()])
    moments = _moments(frame, reference, name, notes)
    made_frame = made_frame.with_columns(moments.alias(domain + "DTC"))
    if domain + "TEST" in made_frame.columns:
        told = pl.col(domain + "TEST").cast(pl.String)
        unit = told.str.extract(_UNIT, 1)
        made_frame = made_frame.with_columns(
            told.str.replace(_UNIT, "").alias(domain + "TEST"), unit.alias(domain + "STRESU")
        )
    once = made_frame.unique(maintain_order=True)
    if again := made_frame.height - once.height:
        notes.append(f"{name.upper()}: {again:,} rows stand there again for another analysis visit")
    return once


def _sas_moments(frame: pl.DataFrame, name: str) -> pl.Series:
    """Return analysis dates; numbers are days, or seconds, since 1960-01-01 as in SAS."""
    series = _column(frame, name)
    if not series.dtype.is_numeric():
        return read_moments(series).time
    unit = 1_000_000 if name.endswith("DTM") else 86_400_000_000
    micro = (series.cast(pl.Float64).fill_nan(None) * unit).round().cast(pl.Int64)
    since = pl.Series([_SAS_EPOCH]).new_from_index(0, frame.height)
    return since + micro.cast(pl.Duration("us"))


def _moments(
    frame: pl.DataFrame, reference: pl.DataFrame, name: str, notes: list[str]
) -> pl.Series:
    """Return when rows were: analysis time, else date, else what the study day comes to.

    Day 1 is the reference start, and there is no day 0.
    """
    told = pl.DataFrame({"a": _sas_moments(frame, "ADTM"), "b": _sas_moments(frame, "ADT")})
    moments = told.select(pl.coalesce("a", "b").alias("t"))["t"]
    if "ADY" not in frame.columns or not moments.null_count():
        return moments
    number = pl.col("ADY").cast(pl.Float64, strict=False)
    near = number.is_finite() & (number.abs() < _MOST_DAYS)
    day = pl.when(near).then(number).floor().cast(pl.Int64, strict=False)
    joined = frame.select("USUBJID", "ADY").join(
        reference, on="USUBJID", how="left", maintain_order="left"
    )
    since = pl.duration(days=pl.when(day > 0).then(day - 1).otherwise(day))
    joined = joined.with_columns(t=moments, reckoned=pl.col("reference") + since)
    gaps = joined.filter(pl.col("t").is_null() & pl.col("reckoned").is_not_null()).height
    if gaps:
        notes.append(f"{name.upper()}: {gaps:,} dates are reckoned from study days")
    return joined.select(pl.coalesce("t", "reckoned").alias("t"))["t"]


def _occurrences(domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return occurrence data as the domain that they are of, with their analysis dates."""
    made = frame.with_columns(DOMAIN=pl.lit(domain))
    for part, names in (("STDTC", ("ASTDTM", "ASTDT")), ("ENDTC", ("AENDTM", "AENDT"))):
        if any(name in frame.columns for name in names):
            moments = pl.DataFrame([_sas_moments(frame, name).alias(name) for name in names])
            made = made.with_columns(
                moments.select(pl.coalesce(names).alias("t"))["t"].alias(domain + part)
            )
    return made
