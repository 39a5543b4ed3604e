"""SDTM domains as histories.

Study Data Tabulation Model 2.0: DM gives the subjects and their static facts; findings, events and
interventions become events; SV, or the visit numbers of findings, become visits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from manikin.errors import InputError
from manikin.io.cdisc.dates import read_moments
from manikin.io.cdisc.define import Definition
from manikin.io.cdisc.domains import SET_ASIDE, shape_of
from manikin.io.cdisc.histories import Study
from manikin.io.cdisc.rows import (
    FORM,
    Rows,
    event_rows,
    finding_rows,
    intervention_rows,
    stack,
    text_of,
)
from manikin.io.cdisc.static import demographics

__all__ = ["read_sdtm"]

_READERS = {
    "events": event_rows,
    "interventions": intervention_rows,
}


def read_sdtm(frames: Mapping[str, pl.DataFrame], own: Definition | None = None) -> Study:
    """Read domains by the name of their file; parts of one domain (LBCH, LBHE) are put together.

    `own` is what our own files say of themselves: then visit numbers are to be believed.
    """
    domains = _by_domain(frames)
    if "DM" not in domains:
        raise InputError(
            f"{len(frames)} SDTM domains without DM",
            "DM (demographics), which says who the subjects are",
            "add dm to the folder",
        )
    supplement = domains.get("SUPPDM")
    who = demographics(domains["DM"], supplement)
    notes, aside = list(who.notes), []
    layout: dict[str, Any] = {"dm": who.layout, "domains": {}}
    layout["study"] = _study(domains["DM"])
    rows: list[Rows] = []
    for domain, frame in domains.items():
        shape = shape_of(domain, frame.columns)
        if frame.height == 0:
            continue
        if shape in ("demographics", "visits") or domain == "SUPPDM":
            continue
        if shape == "aside" or "USUBJID" not in frame.columns:
            aside.append(domain)
            continue
        known = _of_known(domain, frame, who.ids, notes)
        ordered = _ordered(domain, known, notes)
        if shape == "findings":
            part = finding_rows(domain, ordered, None if own is None else own.names.get(domain, {}))
        else:
            part = _READERS[shape](domain, ordered)
        rows.append(part)
        notes += part.notes
        layout["domains"][domain] = part.layout
    if aside:
        notes.append(f"set aside, for histories do not hold them: {', '.join(sorted(aside))}")
    events = stack(rows)
    shapes = {d: entry["shape"] for d, entry in layout["domains"].items()}
    visits, told = _visits(_schedule(domains), events, shapes, held=own is not None)
    layout["visits"] = told
    # a source that tells days, and no time of day, is written so again
    layout["days"] = sorted(d for d, entry in layout["domains"].items() if not entry["timed"])
    own_visits = visits.filter("planned") if "SV" in domains else visits
    whole = _midnights(own_visits["start"]) and _midnights(own_visits["end"])
    layout["days"] += ["SV"] if whole else []
    layout["days"] += ["DM"] if _midnights(who.reference) and _midnights(who.death) else []
    made = _at_visits(events, visits, shapes, held=own is not None)
    extra = _told_by_dm(who.ids, who.reference, who.death, events, visits)
    planned = visits if own is None else visits.filter("planned")
    frame = pl.concat([_visit_rows(planned), extra, made])
    return Study(who, frame, tuple(notes), layout)


def _by_domain(frames: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Return frames by domain: what DOMAIN says, else the name of the file."""
    parts: dict[str, list[pl.DataFrame]] = {}
    for name, frame in frames.items():
        domain = name.upper()
        if "DOMAIN" in frame.columns and frame.height:
            said = frame["DOMAIN"].drop_nulls().unique()
            domain = str(said[0]).strip().upper() if len(said) == 1 else domain
        elif "RDOMAIN" in frame.columns and frame.height and "QNAM" in frame.columns:
            domain = "SUPP" + str(frame["RDOMAIN"][0]).strip().upper()
        parts.setdefault(domain, []).append(frame)
    return {
        d: frame[0] if len(frame) == 1 else pl.concat(frame, how="diagonal_relaxed")
        for d, frame in sorted(parts.items())
    }


def _midnights(times: pl.Series) -> bool:
    return bool((times.dt.truncate("1d") == times).fill_null(True).all())


def _schedule(domains: Mapping[str, pl.DataFrame]) -> pl.DataFrame | None:
    """Return SV, or the names of visits that findings tell where there is no SV."""
    if "SV" in domains and "VISITNUM" in domains["SV"].columns:
        return domains["SV"]
    told = [
        frame.select("VISITNUM", *(c for c in ("VISIT", "VISITDY") if c in frame.columns)).unique(
            maintain_order=True)
        for domain, frame in domains.items()
        if "VISITNUM" in frame.columns and domain not in SET_ASIDE
    ]  # fmt: skip
    return pl.concat(told, how="diagonal_relaxed") if told else None


def _study(dm: pl.DataFrame) -> str:
    said = dm["STUDYID"].drop_nulls() if "STUDYID" in dm.columns else pl.Series([], dtype=pl.String)
    return str(said[0]) if len(said) else ""


def _of_known(domain: str, frame: pl.DataFrame, ids: pl.Series, notes: list[str]) -> pl.DataFrame:
    """Return the rows of subjects that DM has."""
    frame = frame.with_columns(text_of(frame, "USUBJID").alias("USUBJID"))
    known = frame.filter(pl.col("USUBJID").is_in(ids.to_list()).fill_null(False))
    if lost := frame.height - known.height:
        if not known.height:
            raise InputError(
                f"{domain} has {lost:,} rows and none of a subject that DM has",
                "USUBJID spelled as in DM",
                "check that the files are of one study",
            )
        notes.append(f"{domain}: {lost:,} rows of subjects that DM does not have are left out")
    return known


def _ordered(domain: str, frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return rows by subject and sequence number."""
    seq = domain + "SEQ"
    if seq not in frame.columns:
        return frame
    if twice := frame.height - frame.select("USUBJID", seq).n_unique():
        notes.append(f"{domain}: {twice:,} rows repeat a sequence number; all are kept")
    return frame.sort("USUBJID", seq, maintain_order=True, nulls_last=True)


def _plain_visit(number: str) -> pl.Expr:
    return pl.col(number).cast(pl.Float64, strict=False).round(6)


def _visits(
    sv: pl.DataFrame | None, events: pl.DataFrame, shapes: Mapping[str, str], *, held: bool
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return subject, visitnum, start, end, visit (place in time) of every visit, and their names.

    `planned` says whether SV has it.

    Where SV has none for a visit that findings have, the visit lasts from its first to its last
    finding.
    """
    found = events.with_columns(visitnum=_plain_visit("visitnum"))
    tested = found.filter(pl.col("visitnum").is_not_null() & (pl.lit(held) | _finding(shapes)))
    spans = (
        tested.group_by("subject", "visitnum")
        .agg(pl.col("start").min(), pl.max_horizontal("start", "end").max().alias("end"))
        .with_columns(planned=pl.lit(False))
    )
    layout: dict[str, Any] = {}
    if sv is not None:
        layout = _visit_names(sv)
    if sv is not None and {"USUBJID", "VISITNUM"} <= set(sv.columns):
        own = _of_sv(sv)
        spans = pl.concat([own, spans.join(own, on=["subject", "visitnum"], how="anti")])
    spans = spans.drop_nulls("visitnum").sort(
        "subject", "start", "visitnum", nulls_last=True, maintain_order=True
    )
    number = pl.int_range(pl.len()).over("subject").cast(pl.Int32)
    return spans.with_columns(visit=number), layout


def _finding(shapes: Mapping[str, str]) -> pl.Expr:
    """Return whether rows are of a findings domain."""
    domain = pl.col("name").str.split("/").list.first()
    shape = domain.replace_strict(dict(shapes), default="", return_dtype=pl.String)
    return shape == "findings"


def _of_sv(sv: pl.DataFrame) -> pl.DataFrame:
    blank = pl.Series([None], dtype=pl.String).new_from_index(0, sv.height)
    start, end = (
        read_moments(sv[n] if n in sv.columns else blank, last=last).time
        for n, last in (("SVSTDTC", False), ("SVENDTC", True))
    )
    return (
        sv.with_columns(start=start, end=end)
        .select(
            subject=text_of(sv, "USUBJID"), visitnum=_plain_visit("VISITNUM"), start="start",
            end=pl.when(pl.col("end") < pl.col("start")).then("start").otherwise("end"),
        )
        .drop_nulls(["subject", "visitnum"])
        .group_by("subject", "visitnum")
        .agg(pl.col("start").min(), pl.col("end").max())
        .with_columns(planned=pl.lit(True))
    )  # fmt: skip


def _visit_names(frame: pl.DataFrame) -> dict[str, Any]:
    """Return name and planned day of each visit by its number, as text."""
    day = "VISITDY" if "VISITDY" in frame.columns else None
    names = frame.select(
        number=_plain_visit("VISITNUM"), label=text_of(frame, "VISIT"),
        day=pl.col(day).cast(pl.Float64, strict=False) if day else pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    first = names.drop_nulls("number").group_by("number").agg(
        pl.col("label").drop_nulls().mode().sort().first(), pl.col("day").drop_nulls().first()
    )  # fmt: skip
    return {
        f"{number:g}": {"label": label or "", "day": day}
        for number, label, day in first.sort("number").iter_rows()
    }


def _at_visits(
    events: pl.DataFrame, visits: pl.DataFrame, shapes: Mapping[str, str], *, held: bool
) -> pl.DataFrame:
    """Return the rows of `FORM` with their `visit`: a finding's own; else only if it began there.

    An event or a drug bears the visit at which it was told, which may be years after it began.
    """
    joined = events.with_columns(visitnum=_plain_visit("visitnum")).join(
        visits.rename({"start": "from", "end": "until"}),
        on=["subject", "visitnum"],
        how="left",
        maintain_order="left",
    )
    began = (
        pl.col("start")
        .dt.date()
        .is_between(pl.col("from").dt.date(), pl.max_horizontal("from", "until").dt.date())
    )
    keep = pl.lit(True) if held else _finding(shapes) | began.fill_null(False)
    return joined.with_columns(
        visit=pl.when(keep).then("visit").fill_null(-1).cast(pl.Int32)
    ).select(*FORM, "visit")  # fmt: skip


def _visit_rows(visits: pl.DataFrame) -> pl.DataFrame:
    """Return visits as rows."""
    # a visit that a subject has again is written with a number that is a trifle larger
    number = pl.col("visitnum").round(3).cast(pl.String).str.replace(r"\.0$", "")
    return visits.select(
        subject="subject", start="start", end="end", name=pl.lit("VISIT/") + number,
        unit=pl.lit(""), domain=pl.lit("visit"), label=pl.lit(""),
        parent=pl.lit(None, dtype=pl.String), value=pl.lit(None, dtype=pl.Float64),
        text=pl.lit(None, dtype=pl.String), visitnum="visitnum", visit="visit",
    ).cast({**FORM, "visit": pl.Int32})  # fmt: skip


def _told_by_dm(
    ids: pl.Series,
    reference: pl.Series,
    death: pl.Series,
    events: pl.DataFrame,
    visits: pl.DataFrame,
) -> pl.DataFrame:
    """Return the reference start, and the death of those whose disposition does not tell it."""
    dead = events.filter(pl.col("domain") == "death")["subject"].unique()
    known = death.is_not_null() & ~ids.is_in(dead.to_list())
    rows = [
        pl.DataFrame({"subject": ids, "start": reference}).drop_nulls().with_columns(
            name=pl.lit("DM/RFSTDTC"), domain=pl.lit("observation"),
            label=pl.lit("Subject Reference Start")),
        pl.DataFrame({"subject": ids, "start": death}).filter(known).with_columns(
            name=pl.lit("DM/DTHDTC"), domain=pl.lit("death"), label=pl.lit("Death")),
    ]  # fmt: skip
    days = visits.with_columns(day=pl.col("start").dt.date()).unique(
        ["subject", "day"], keep="first", maintain_order=True
    )
    told = pl.concat(rows).with_columns(day=pl.col("start").dt.date())
    told = told.join(
        days.select("subject", "day", "visit"), on=["subject", "day"], how="left",
        maintain_order="left",
    )  # fmt: skip
    whole = told.with_columns(
        pl.lit("").alias("unit"),
        pl.col("visit").fill_null(-1).cast(pl.Int32),
        *(pl.lit(None, dtype=kind).alias(n) for n, kind in FORM.items()
          if n in ("end", "parent", "value", "text", "visitnum")),
    )  # fmt: skip
    return whole.select(pl.col(n).cast(kind) for n, kind in {**FORM, "visit": pl.Int32}.items())
