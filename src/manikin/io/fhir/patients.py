"""Subjects as Patient resources: https://hl7.org/fhir/R4/patient.html.

Sex and birth stand where FHIR has them, race and ethnicity in the extensions of US Core (their
text), marital status in its element; every other static fact in one extension, a part each,
`urn:manikin:fhir:static`. A death is `deceasedDateTime`, and what else its event says stands in
`urn:manikin:fhir:death`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.io.fhir.codes import URN, coding_of
from manikin.io.fhir.lines import Resources, Texts, given, joined, odd_times
from manikin.io.fhir.plan import Plan, dumps
from manikin.io.fhir.times import written

__all__ = ["BIRTH_TIME", "US_CORE", "genders_of", "patients", "standard_places"]

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
_GENDERS = {
    **dict.fromkeys(("female", "f", "woman", "w", "8532"), "female"),
    **dict.fromkeys(("male", "m", "man", "8507"), "male"),
    **dict.fromkeys(("other", "o", "8521"), "other"),
    **dict.fromkeys(("unknown", "u", "unk", "8551"), "unknown"),
}


def genders_of(column: Column) -> tuple[tuple[str, ...], bool]:
    """Return the gender of each category of a sex, and whether they tell it apart by themselves."""
    found = tuple(_GENDERS.get(name.strip().lower(), "") for name in column.categories)
    return found, all(found) and len(set(found)) == len(found)


def standard_places(columns: Sequence[Column]) -> dict[str, str]:
    """Return where columns that FHIR has a place for stand: column → race, ethnicity, marital."""
    found: dict[str, str] = {}
    for column in columns:
        name = column.name.lower().replace(" ", "_")
        plain = column.kind == "categorical" and all(c.strip() for c in column.categories)
        if name in ("race", "ethnicity", "marital_status") and plain and len(column.tokens) == 1:
            found.setdefault(name, column.name)
    return {column: name for name, column in found.items()}


def patients(
    events: Events, names: pl.Series, sources: pl.Series | None, texts: Texts, plan: Plan
) -> Resources:
    """Return a Patient for each subject; `sources` are names that could not be its id."""
    table = events.static
    numbers = pl.Series(table.subjects).cast(pl.String)
    said, told = _deaths(events, texts, plan)
    places = standard_places(table.schema.learned)
    extensions = [
        *(_us_core(table, column, place) for column, place in places.items() if place != _MARITAL),
        _static(table, plan, places),
        told,
    ]
    parts = pl.DataFrame({
        "id": names,
        "number": numbers,
        "source": _none(table.n_rows) if sources is None else sources,
        "gender": _gender(events),
        "birth": _birth(events, plan),
        "said": said,
        "marital": next((_marital(table, c) for c, p in places.items() if p == _MARITAL),
                        _none(table.n_rows)),
        "extension": pl.DataFrame([s.alias(str(i)) for i, s in enumerate(extensions)]).select(
            pl.concat_str(pl.all())).to_series(),
    })  # fmt: skip
    column = pl.col
    source = given(f',{{"system":"{URN}source","value":', column("source"), "}")
    whole = joined(',"extension":[', column("extension").str.slice(1), "]")
    line = joined(
        '{"resourceType":"Patient","id":"', column("id"), f'"{plan.meta}',
        f',"identifier":[{{"system":"{URN}subject","value":"', column("number"), '"}', source, "]",
        given(',"gender":"', column("gender"), '"'), column("birth"), column("said"),
        given(',"maritalStatus":{"text":', column("marital"), "}"),
        pl.when(column("extension") != "").then(whole).otherwise(pl.lit("")), "}",
    )  # fmt: skip
    rows = np.arange(table.n_rows, dtype=np.int64)
    return Resources("Patient", rows, parts.select(line).to_series())


_MARITAL = "marital_status"


def _none(n: int) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, n)


def _categories(table: Table, name: str) -> pl.Series:
    """Return the JSON of the category in each row, null for none."""
    codes = np.asarray(table.columns[name])
    spelled = pl.Series([dumps(c) for c in table.schema[name].categories], dtype=pl.String)
    place = pl.Series(codes).set(pl.Series(codes < 0), None).cast(pl.UInt32)
    return spelled.gather(place)


def _gender(events: Events) -> pl.Series:
    name = events.schema.sex
    column = events.schema.static[name] if name else None
    if column is None or not column.is_coded:
        return _none(events.n_subjects)
    genders, _ = genders_of(column)
    codes = np.asarray(events.static.columns[name])
    # a category that FHIR has no word for is told by the extension alone
    spelled = pl.Series([gender or None for gender in genders], dtype=pl.String)
    place = pl.Series(codes).set(pl.Series(codes < 0), None).cast(pl.UInt32)
    return spelled.gather(place)


def _birth(events: Events, plan: Plan) -> pl.Series:
    births = events.births()
    days = written(births, "us", plan.offset)
    midnight = np.where(np.isnat(births), 0, births.view(np.int64)) % 86_400_000_000 == 0
    moment = given(f',"_birthDate":{{"extension":[{{"url":"{BIRTH_TIME}","valueDateTime":"',
                   pl.col("day"), '"}]}')  # fmt: skip
    return pl.DataFrame({"day": days, "midnight": midnight}).select(
        joined(
            given(',"birthDate":"', pl.col("day").str.head(10), '"'),
            pl.when("midnight").then(pl.lit("")).otherwise(moment),
        )
    ).to_series()  # fmt: skip


def _us_core(table: Table, column: str, place: str) -> pl.Series:
    head = f',{{"url":"{US_CORE}{place}","extension":[{{"url":"text","valueString":'
    return _categories(table, column).to_frame("c").select(given(head, pl.col("c"), "}]}")
                                                           ).to_series()  # fmt: skip


def _marital(table: Table, column: str) -> pl.Series:
    return _categories(table, column)


def _static(table: Table, plan: Plan, places: dict[str, str]) -> pl.Series:
    """Return the extension of all facts that have no element, "" where there is none."""
    schema = plan.schema
    parts = []
    for column in table.schema.learned:
        if column.name in places:
            continue
        if column.name == schema.birth and len(column.tokens) == 1:
            parts.append(_odd_moments(np.asarray(table.columns[column.name]), dumps(column.name)))
            continue
        if column.name == schema.sex and column.is_coded and genders_of(column)[1]:
            if len(column.tokens) > 1:
                parts.append(_states(table, column))
            continue
        parts.append(_fact(table, column, plan))
    if not parts:
        return pl.Series([""]).new_from_index(0, table.n_rows)
    frame = pl.DataFrame([part.alias(str(i)) for i, part in enumerate(parts)])
    all_ = pl.concat_str(pl.all())
    whole = joined(f',{{"url":"{URN}static","extension":[', all_.str.slice(1), "]}")
    return frame.select(pl.when(all_ != "").then(whole).otherwise(pl.lit(""))).to_series()


def _fact(table: Table, column: Column, plan: Plan) -> pl.Series:
    """Return one fact as a part of the extension, "" where there is no value."""
    name = dumps(column.name)
    values = table.columns[column.name]
    if column.is_coded:
        parts = _coded_fact(table, column, name)
    elif column.kind == "datetime":
        moments = np.asarray(values, "datetime64[us]")
        frame = pl.DataFrame({"v": written(moments, "us", plan.offset),
                              "odd": _odd_moments(moments, name)})  # fmt: skip
        parts = frame.select(
            joined(given(f',{{"url":{name},"valueDateTime":"', pl.col("v"), '"}'), pl.col("odd"))
        ).to_series()
    else:
        parts = _number(np.asarray(values, np.float64), name)
    if len(column.tokens) > 1:
        return pl.DataFrame({"v": parts, "s": _states(table, column)}).select(
            pl.concat_str(pl.all())).to_series()  # fmt: skip
    return parts


def _odd_moments(moments: NDArray[Any], name: str) -> pl.Series:
    """Return moments in years that FHIR cannot write, "" for all others."""
    odd = odd_times(moments.astype("datetime64[us]").view(np.int64))
    return odd.to_frame("v").select(
        given(f',{{"url":{name},"valueString":"', pl.col("v"), '"}')
    ).to_series()  # fmt: skip


def _coded_fact(table: Table, column: Column, name: str) -> pl.Series:
    if column.kind == "boolean":
        spelled = [f',{{"url":{name},"valueBoolean":{word}}}' for word in ("false", "true")]
    else:  # a text that FHIR may not write is told by its place
        spelled = [
            f',{{"url":{name},"valueString":{dumps(category)}}}' if category.strip()
            else f',{{"url":{name},"valueInteger":{place}}}'
            for place, category in enumerate(column.categories)
        ]  # fmt: skip
    codes = np.asarray(table.columns[column.name])
    return pl.Series([*spelled, ""], dtype=pl.String).gather(
        np.where(codes < 0, len(spelled), codes)
    )


def _number(values: NDArray[np.float64], name: str) -> pl.Series:
    finite = np.isfinite(values)
    text = pl.Series(np.where(finite, values, 0.0)).cast(pl.String).str.strip_suffix(".0")
    text = text.set(pl.Series((values == 0) & np.signbit(values)), "-0.0")
    endless = pl.Series(np.where(values > 0, '"Infinity"', '"-Infinity"'))
    frame = pl.DataFrame({"v": text, "e": endless, "f": finite, "n": np.isnan(values)})
    return frame.select(
        pl.when("f").then(joined(f',{{"url":{name},"valueDecimal":', pl.col("v"), "}"))
        .when("n").then(pl.lit(""))
        .otherwise(joined(f',{{"url":{name},"valueString":', pl.col("e"), "}"))
    ).to_series()  # fmt: skip


def _states(table: Table, column: Column) -> pl.Series:
    """Return which of several kinds of missing a cell is, where it is not the first."""
    state = table.state(column.name).astype(np.int64)
    text = pl.Series(state).cast(pl.String)
    head = f',{{"url":{dumps(column.name)},"valueCode":"'
    return pl.DataFrame({"s": text, "t": state > 1}).select(
        pl.when("t").then(joined(head, pl.col("s"), '"}')).otherwise(pl.lit(""))
    ).to_series()  # fmt: skip


# -- deaths ---------------------------------------------------------------------------------------


def _deaths(events: Events, texts: Texts, plan: Plan) -> tuple[pl.Series, pl.Series]:
    """Return `deceased` of each Patient, and the extension that tells all of its events."""
    blank = pl.Series([""]).new_from_index(0, events.n_subjects)
    rows = np.flatnonzero(plan.kind[events.code] < 0)
    if rows.size == 0:
        return blank, blank
    schema, whose = plan.schema, events.whose[rows]
    rank = rows - events.starts[whose]
    coding = pl.Series([
        dumps(dict(zip(("system", "code"), coding_of(code.name), strict=True))
              | ({"display": code.label} if code.label.strip() else {}))
        for code in schema.codes
    ], dtype=pl.String)  # fmt: skip
    start = written(events.time[rows], "us" if schema.clock != "day" else "day", plan.offset)
    frame = pl.DataFrame({
        "whose": whose,
        "rank": pl.Series(rank).cast(pl.String),
        "coding": coding.gather(events.code[rows]),
        "code": pl.Series(events.code[rows]).cast(pl.String),
        "start": start,
        "micro": _micro(events.time[rows]),
        "stop": _micro(events.end[rows]),
        "text": texts.gather(events.text[rows]),
        "visit": pl.Series(events.visit[rows]).cast(pl.String),
        "value": _number(events.value[rows], '"value"'),
    })  # fmt: skip
    column = pl.col
    part = joined(
        f',{{"url":"{URN}death","extension":[{{"url":"rank","valueInteger":', column("rank"),
        '},{"url":"code","valueCoding":', column("coding"),
        '},{"url":"place","valueInteger":', column("code"),
        '},{"url":"visit","valueInteger":', column("visit"), "}",
        given(',{"url":"time","valueString":"', column("micro"), '"}'),
        given(',{"url":"end","valueString":"', column("stop"), '"}'),
        pl.when(column("text") == '""').then(pl.lit(',{"url":"empty","valueBoolean":true}'))
        .otherwise(given(',{"url":"text","valueString":', column("text"), "}")),
        column("value"), "]}",
    )  # fmt: skip
    by = frame.with_columns(part=part).group_by("whose", maintain_order=True).agg(
        pl.col("part").str.join(""), pl.col("start").drop_nulls().first()
    ).select(
        "whose", "part",
        pl.when(pl.col("start").is_not_null())
        .then(joined(',"deceasedDateTime":"', pl.col("start"), '"'))
        .otherwise(pl.lit(',"deceasedBoolean":true')).alias("said"),
    )  # fmt: skip
    all_ = pl.DataFrame({"whose": np.arange(events.n_subjects)}).join(
        by, on="whose", how="left", maintain_order="left"
    )
    return all_["said"].fill_null(""), all_["part"].fill_null("")


def _micro(times: NDArray[np.datetime64]) -> pl.Series:
    """Return microseconds since 1970 as text, null for none."""
    micro = pl.Series(times.astype("datetime64[us]").view(np.int64)).cast(pl.String)
    return micro.set(pl.Series(np.isnat(times)), None)
