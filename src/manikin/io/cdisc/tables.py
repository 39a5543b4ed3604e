"""Histories as SDTM domains, block by block: the rows of each, with study days and visits.

SDTMIG 3.4: sequence numbers run within a subject and a domain (§4.1.5); the study day of the
reference start is 1 and the day before it -1 (§4.4.4). RFXSTDTC, RFXENDTC, RFENDTC and RFPENDTC are
the first and last treatment and the last that is known of a subject.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.identifiers import make_identifiers
from manikin.data.render import render
from manikin.io.cdisc.dates import study_days, write_moments
from manikin.io.cdisc.plan import Plan

__all__ = ["Tables", "static_names"]

_STANDARD = {"SITEID", "BRTHDTC", "AGE", "AGEU", "SEX", "RACE", "ETHNIC", "ARMCD", "ARM",
             "ACTARMCD", "ACTARM", "ARMNRS", "ACTARMUD", "COUNTRY"}  # fmt: skip
_ALIKE = {"sex": "SEX", "gender": "SEX", "race": "RACE", "ethnicity": "ETHNIC", "ethnic": "ETHNIC",
          "age": "AGE", "country": "COUNTRY", "site": "SITEID", "arm": "ARM"}  # fmt: skip
_AGAIN = 1e-5  # what is added to the number of a visit that a subject has again
_BEYOND = 1000  # number of the first visit that no planned one names


@dataclass(frozen=True)
class _Subjects:
    """The subjects of a block."""

    ids: pl.Series
    reference: NDArray[np.datetime64]


def static_names(events_static: Any, birth: str, sex: str) -> dict[str, str]:
    """Return the variable of DM, or of SUPPDM, that each learned static column is written as."""
    made: dict[str, str] = {}
    for column in events_static.learned:
        name = column.name
        wanted = (
            "BRTHDTC" if name == birth else "SEX" if name == sex
            else name if name in _STANDARD else _ALIKE.get(name.casefold(), "")
        )  # fmt: skip
        if not wanted or wanted in made.values():
            plain = "".join(c for c in name.upper() if c.isalnum() or c == "_") or "Q"
            plain = plain if plain[0].isalpha() else "Q" + plain
            wanted, k = plain[:8], 1
            while wanted in made.values() or wanted in _STANDARD:
                k += 1
                wanted = plain[: 8 - len(str(k))] + str(k)
        made[name] = wanted
    return made


class Tables:
    """Turns blocks of events of one schema into frames of domains."""

    def __init__(
        self, plan: Plan, layout: Mapping[str, Any], study: str, ids: tuple[str, ...]
    ) -> None:
        self.plan, self.layout, self.study, self.names = plan, layout, study, ids
        self.domain = np.array([entry.domain for entry in plan.entries], dtype=object)
        self.special = np.array([entry.values.get("what", "") for entry in plan.entries])
        self.tables = {domain: self._codes(domain) for domain in plan.domains}
        self.dated = frozenset(layout.get("days", ()))  # domains that tell no time of day
        self.days = {
            float(number): entry.get("day") for number, entry in layout.get("visits", {}).items()
        }

    def _codes(self, domain: str) -> pl.DataFrame:
        """Return what holds of each code of a domain, one row a code."""
        rows = [
            {"code": i, **entry.values}
            for i, entry in enumerate(self.plan.entries)
            if entry.domain == domain
        ]
        return pl.DataFrame(rows, infer_schema_length=None).with_columns(
            pl.col("code").cast(pl.Int32)
        )

    def of(self, events: Events) -> Iterator[tuple[str, pl.DataFrame]]:
        """Yield name and rows of each data set that these subjects have a part in."""
        who = self._subjects(events)
        yield "DM", self._demographics(events, who)
        if (more := self._supplement(events, who)) is not None:
            yield "SUPPDM", more
        visits = self._visits(events)
        if (self.domain == "SV").any():
            yield "SV", self._visit_rows(events, who, visits)
        for domain in self.plan.domains:
            chosen = np.flatnonzero((self.domain == domain)[events.code])
            yield domain, self._rows(domain, events, who, visits, chosen)

    def _subjects(self, events: Events) -> _Subjects:
        if self.names:
            ids = pl.Series([self.names[s] for s in events.subjects.tolist()], dtype=pl.String)
        else:
            template = str(self.layout.get("template") or "999999")
            ids = make_identifiers(template, events.subjects)
        if (self.special == "reference").any():
            told = self._first(events, self.special == "reference")
            return _Subjects(ids, self._as_told("DM", told))
        treated = np.isin(self.domain.astype(str), ("EX", "EC"))
        first = self._first(events, treated)
        return _Subjects(ids, np.where(np.isnat(first), _extreme(events, last=False), first))

    @staticmethod
    def _first(events: Events, codes: NDArray[np.bool_]) -> NDArray[np.datetime64]:
        """Return when each subject's first event of these codes was, (subjects,)."""
        return _extreme(events.rows(codes[events.code]), last=False)

    def _as_told(self, domain: str, times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
        """Return moments as a domain of the source told them: days, if it told no time of day."""
        return times.astype("datetime64[D]") if domain in self.dated else times

    def _demographics(self, events: Events, who: _Subjects) -> pl.DataFrame:
        names = static_names(events.schema.static, events.schema.birth, events.schema.sex)
        cells = _cells(events)
        facts = {names[c]: cells[c] for c in cells.columns if names[c] in _STANDARD}
        dm = self.layout.get("dm", {})
        treated = events.rows(np.isin(self.domain.astype(str), ("EX", "EC"))[events.code])
        death = self._first(events, np.array([c.domain == "death" for c in events.schema.codes]))
        death = self._as_told("DM", death)
        suffix = who.ids.str.split("-").list.last() if dm.get("subjid_is_last") else who.ids
        last_dose = write_moments(_extreme(treated, last=True))
        made: dict[str, Any] = {
            "STUDYID": pl.Series([self.study]).new_from_index(0, events.n_subjects),
            "DOMAIN": pl.Series(["DM"]).new_from_index(0, events.n_subjects),
            "USUBJID": who.ids,
            "SUBJID": suffix,
            "RFSTDTC": write_moments(who.reference),
            "RFENDTC": last_dose,
            "RFXSTDTC": write_moments(_extreme(treated, last=False)),
            "RFXENDTC": last_dose,
            "RFPENDTC": write_moments(_extreme(events, last=True)),
            "DTHDTC": write_moments(death),
            "DTHFL": pl.Series(np.where(np.isnat(death), "", "Y")).replace("", None),
            **facts,
        }
        if dm.get("same_arm") and "ARM" in made:
            made["ACTARM"] = made["ARM"]
        for coded, pair in dm.get("pairs", {}).items():
            if pair["of"] in made:
                of = made[pair["of"]].cast(pl.String)
                made[coded] = of.replace_strict(
                    pair["codes"], default=of.str.to_uppercase().str.slice(0, 20),
                    return_dtype=pl.String,
                )  # fmt: skip
        if "AGE" in made and "AGEU" not in made:
            unit = dm.get("constants", {}).get("AGEU", "YEARS")
            made["AGEU"] = pl.Series([unit]).new_from_index(0, events.n_subjects)
        return pl.DataFrame(made)

    def _supplement(self, events: Events, who: _Subjects) -> pl.DataFrame | None:
        names = static_names(events.schema.static, events.schema.birth, events.schema.sex)
        cells = _cells(events)
        beyond = [c for c in cells.columns if names[c] not in _STANDARD]
        if not beyond:
            return None
        labels = self.layout.get("dm", {}).get("supplement", {})
        parts = []
        for column in beyond:
            name = names[column]
            values = cells[column].cast(pl.String)
            part = pl.DataFrame({"USUBJID": who.ids, "QVAL": values}).with_columns(
                STUDYID=pl.lit(self.study), RDOMAIN=pl.lit("DM"), IDVAR=pl.lit(""),
                IDVARVAL=pl.lit(""), QNAM=pl.lit(name),
                QLABEL=pl.lit((labels.get(name) or column)[:40]), QORIG=pl.lit("CRF"),
            )  # fmt: skip
            parts.append(part.filter(pl.col("QVAL").is_not_null() & (pl.col("QVAL") != "")))
        stacked = pl.concat(parts).select(
            "STUDYID", "RDOMAIN", "USUBJID", "IDVAR", "IDVARVAL", "QNAM", "QLABEL", "QVAL", "QORIG"
        )
        order = pl.DataFrame({"USUBJID": who.ids}).with_row_index("row")
        return stacked.join(order, on="USUBJID").sort("row", maintain_order=True).drop("row")

    def _visits(self, events: Events) -> pl.DataFrame:
        """Return number and name of each visit of each subject: whose, visit, VISITNUM, VISIT."""
        planned = (self.domain == "SV")[events.code]
        number = self._number(events, np.flatnonzero(planned))
        named = pl.DataFrame(
            {
                "whose": events.whose[planned],
                "visit": events.visit[planned],
                "VISITNUM": number,
                "VISIT": self._label(events.code[planned]),
            }
        ).unique(["whose", "visit"], keep="first", maintain_order=True)
        base = _BEYOND if (self.domain == "SV").any() else 1
        pairs = pl.DataFrame({"whose": events.whose, "visit": events.visit}).unique()
        found = pairs.filter(pl.col("visit") >= 0).join(named, on=["whose", "visit"], how="left")
        beyond = pl.col("visit").cast(pl.Float64) + base
        return found.with_columns(
            VISITNUM=pl.coalesce("VISITNUM", beyond),
            VISIT=pl.coalesce(
                "VISIT", pl.lit("VISIT ") + (pl.col("visit") + 1).cast(pl.String)
            ),
        ).with_columns(VISITDY=self._planned_day(pl.col("VISITNUM")))  # fmt: skip

    def _planned_day(self, number: pl.Expr) -> pl.Expr:
        days = {key: day for key, day in self.days.items() if day is not None}
        return number.round(3).replace_strict(days, default=None, return_dtype=pl.Float64)

    def _number(self, events: Events, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return VISITNUM of rows that are planned visits; one that comes again a little more."""
        numbers = np.array([e.values.get("VISITNUM", np.nan) for e in self.plan.entries])
        frame = pl.DataFrame({"whose": events.whose[rows], "code": events.code[rows]})
        again = frame.select(pl.int_range(pl.len()).over("whose", "code")).to_series().to_numpy()
        return np.asarray(numbers[events.code[rows]] + again * _AGAIN, np.float64)

    def _label(self, codes: NDArray[np.int32]) -> pl.Series:
        labels = pl.Series([e.values.get("VISIT", "") for e in self.plan.entries], dtype=pl.String)
        return labels.gather(codes.astype(np.int64))

    def _visit_rows(self, events: Events, who: _Subjects, visits: pl.DataFrame) -> pl.DataFrame:
        rows = np.flatnonzero((self.domain == "SV")[events.code])
        frame = self._keyed("SV", events, who, rows).with_columns(
            VISITNUM=pl.Series(self._number(events, rows)),
            VISIT=self._label(events.code[rows]),
        )
        frame = frame.with_columns(VISITDY=self._planned_day(pl.col("VISITNUM")))
        return frame.with_columns(_spans(self, "SV", events, who, rows)).drop("whose")

    def _keyed(
        self, domain: str, events: Events, who: _Subjects, rows: NDArray[np.int64]
    ) -> pl.DataFrame:
        whose = events.whose[rows]
        return pl.DataFrame({"whose": whose, "USUBJID": who.ids.gather(whose)}).select(
            "whose", pl.lit(self.study).alias("STUDYID"), pl.lit(domain).alias("DOMAIN"), "USUBJID"
        )

    def _rows(
        self,
        domain: str,
        events: Events,
        who: _Subjects,
        visits: pl.DataFrame,
        rows: NDArray[np.int64],
    ) -> pl.DataFrame:
        texts = pl.Series([*events.texts, None], dtype=pl.String)
        text = events.text[rows].astype(np.int64)
        frame = self._keyed(domain, events, who, rows).with_columns(
            (pl.int_range(pl.len()).over("whose") + 1).cast(pl.Float64).alias(domain + "SEQ"),
            code=pl.Series(events.code[rows]),
            visit=pl.Series(events.visit[rows]),
            value=pl.Series(events.value[rows]).fill_nan(None),
            text=texts.gather(np.where(text < 0, len(events.texts), text)),
        )
        frame = frame.join(self.tables[domain], on="code", how="left", maintain_order="left")
        frame = frame.join(visits, on=["whose", "visit"], how="left", maintain_order="left")
        shape = self.plan.shape(domain)
        if shape == "findings":
            told = _results(domain, "STRESU" if domain + "STRESU" in frame.columns else "")
        elif shape == "interventions":
            told = [pl.col("value").alias(domain + "DOSE"), pl.col("text").alias(domain + "DOSFRQ")]
        else:
            told = _severity(domain)
        return frame.with_columns(
            *told, *_spans(self, domain, events, who, rows, finding=shape == "findings")
        ).drop("whose", "code", "visit", "value", "text")


def _cells(events: Events) -> pl.DataFrame:
    """Return the learned static columns as cells; moments as ISO 8601."""
    cells = render(events.static)
    columns = []
    for column in events.schema.static.learned:
        if column.kind == "datetime":
            moments = np.asarray(events.static.columns[column.name], "datetime64[us]")
            columns.append(write_moments(moments).alias(column.name))
        else:
            columns.append(cells[column.name])
    return pl.DataFrame(columns)


def _extreme(events: Events, *, last: bool) -> NDArray[np.datetime64]:
    """Return the first or last moment of each subject's events, NaT for none, (subjects,)."""
    worst = np.iinfo(np.int64).min if last else np.iinfo(np.int64).max
    found = np.full(events.n_subjects, worst, np.int64)
    for times in (events.time, events.end) if last else (events.time,):
        known = ~np.isnat(times)
        moments = times[known].astype("datetime64[us]").view(np.int64)
        (np.maximum if last else np.minimum).at(found, events.whose[known], moments)
    none = found == worst
    found[none] = 0
    return np.where(none, np.datetime64("NaT", "us"), found.view("datetime64[us]"))


def _spans(
    tables: Tables,
    domain: str,
    events: Events,
    who: _Subjects,
    rows: NDArray[np.int64],
    *,
    finding: bool = False,
) -> list[pl.Series]:
    """Return dates and study days of the start and the end of rows."""
    reference = who.reference[events.whose[rows]]
    start, end = events.time[rows], events.end[rows]
    first = "" if finding else "ST"
    named = ((start, f"{domain}{first}DTC", f"{domain}{first}DY"),
             (end, f"{domain}ENDTC", f"{domain}ENDY"))  # fmt: skip
    made = []
    for told, date, day in named:
        moments = tables._as_told(domain, told)
        made.append(write_moments(moments).alias(date))
        made.append(pl.Series(day, study_days(moments, reference)).fill_nan(None))
    return made


def _results(domain: str, unit: str) -> list[pl.Expr]:
    """Return the result of a finding: the number, and as a text what it is or says besides."""
    number = pl.col("value").cast(pl.String).str.replace(r"\.0$", "")
    written = pl.coalesce("text", number)
    made = [
        written.alias(domain + "ORRES"),
        written.alias(domain + "STRESC"),
        pl.col("value").alias(domain + "STRESN"),
    ]
    original = pl.col(domain + unit) if unit else pl.lit(None, dtype=pl.String)
    made.append(original.alias(domain + "ORRESU"))
    if not unit:
        made.append(original.alias(domain + "STRESU"))
    return made


def _severity(domain: str) -> list[pl.Expr]:
    """Return severity and, of adverse events, whether each is serious."""
    if domain != "AE":
        return [pl.col("text").alias(domain + "SEV")]
    serious = pl.col("text").str.ends_with("/SERIOUS").fill_null(False)
    plain = pl.col("text").str.strip_suffix("/SERIOUS")
    return [
        pl.when(plain == "").then(None).otherwise(plain).alias("AESEV"),
        pl.when(serious).then(pl.lit("Y")).otherwise(pl.lit("N")).alias("AESER"),
    ]
