"""Rows of the event tables of an OMOP CDM, of all persons or of a range, in one form."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from manikin.errors import InputError
from manikin.io.omop.cells import MOMENT, moments, numbers, texts, whole
from manikin.io.omop.sources import Source
from manikin.io.omop.tables import CODE_LIKE, KINDS, LOCAL, Kind

__all__ = ["KEY", "check_tables", "period_rows", "rows_of"]

KEY = ("kind", "concept", "spelled", "unit_concept", "unit")  # tells the code of a row
LONGEST_UNIT = 20  # characters; anything longer is a remark

_TYPES: dict[str, Any] = {
    "person": pl.Int64,
    "row": pl.Int64,
    "time": MOMENT,
    "ended": MOMENT,
    "value": pl.Float64,
    "text": pl.String,
    "answer": pl.Int64,
    "stay": pl.Int64,
    "kind": pl.Int8,
    "concept": pl.Int64,
    "spelled": pl.String,
    "unit_concept": pl.Int64,
    "unit": pl.String,
}


def check_tables(source: Source) -> list[int]:
    """Return which of KINDS a source has. Raises InputError for a field that is not there."""
    _check(source, "person", ["person_id", "gender_concept_id", "year_of_birth"])
    found = []
    for number, kind in enumerate(KINDS):
        if kind.table not in source:
            continue
        needed = ["person_id", f"{kind.start}_date"]
        needed += [] if kind.domain == "death" else [kind.concept]
        needed += [kind.key] if kind.domain == "visit" else []
        _check(source, kind.table, needed)
        found.append(number)
    return found


def _check(source: Source, table: str, needed: list[str]) -> None:
    if gone := [name for name in needed if name not in source.columns[table]]:
        raise InputError(
            f"{table.upper()} of '{source.name}' has no field {', '.join(gone)}",
            "the fields that OMOP CDM 5.4 requires",
            "check the export, or add the field",
        )


def rows_of(
    source: Source, number: int, within: tuple[int, int] | None, seen: Counter[str]
) -> pl.DataFrame:
    """Return the rows of one of KINDS, typed, as the source tells them."""
    kind = KINDS[number]
    wanted = {
        "person": "person_id", "row": kind.key, "stay": "visit_occurrence_id",
        "start": f"{kind.start}_date", "moment": f"{kind.start}_datetime",
        "end": f"{kind.end}_date", "end_moment": f"{kind.end}_datetime",
        "concept": kind.concept, "source": kind.source, "spelled": kind.spelled,
        "value": kind.value, "unit": kind.unit, "text": kind.text,
        "said": "value_source_value" if kind.answers else "",
        "answer": "value_as_concept_id" if kind.answers else "",
        "unit_concept": "unit_concept_id" if kind.unit != "dose_unit_source_value" else "",
    }  # fmt: skip
    asked = [name for name in dict.fromkeys(wanted.values()) if name]
    raw = source.fetch(kind.table, asked, within=within)
    cells = {part: raw[name] for part, name in wanted.items() if name and name in raw.columns}
    return _typed(kind, number, raw.height, cells, seen)


def _typed(
    kind: Kind, number: int, height: int, cells: dict[str, pl.Series], seen: Counter[str]
) -> pl.DataFrame:
    def where(part: str) -> str:
        return f"{cells[part].name.upper()} in {kind.table.upper()}"

    def nothing(dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
        return pl.Series([None], dtype=dtype).new_from_index(0, height)

    def integers(part: str) -> pl.Series:
        return whole(cells[part], where(part)) if part in cells else nothing(pl.Int64)

    def strings(part: str) -> pl.Series:
        return texts(cells[part]) if part in cells else nothing(pl.String)

    def times(exact: str, day: str) -> pl.Series:
        found = nothing(MOMENT)
        for part in (exact, day):
            if part in cells:
                found = found.fill_null(moments(cells[part], where(part), seen))
        return found

    concept = integers("concept").fill_null(0)
    own = integers("source").fill_null(0)
    effective = concept.zip_with(concept > 0, own)
    spelled = strings("spelled")
    named = (effective <= 0) & spelled.str.contains(CODE_LIKE).fill_null(False)
    value = numbers(cells["value"], where("value")) if "value" in cells else nothing(pl.Float64)
    answer = integers("answer")
    unit, unit_concept = strings("unit"), integers("unit_concept").fill_null(0)
    short = (unit.str.len_chars() <= LONGEST_UNIT).fill_null(False)
    columns = {
        "person": integers("person"),
        "row": integers("row"),
        "time": times("moment", "start"),
        "ended": times("end_moment", "end"),
        "value": value,
        "text": _text(kind, strings("text"), strings("said"), value, answer),
        "answer": answer.set((answer <= 0).fill_null(False), None),
        "stay": integers("row") if kind.table == "visit_occurrence" else integers("stay"),
        "kind": pl.Series([number], dtype=pl.Int8).new_from_index(0, height),
        "concept": effective.set(effective < 0, 0),
        "spelled": spelled.set(~named, None),
        "unit_concept": unit_concept.set(unit_concept < 0, 0),
        "unit": unit.set(~short | (unit_concept > 0), None),
    }
    if kind.domain == "death":  # the cause is what the event says, not what it is
        cause, said = columns["concept"], columns["spelled"]
        cause = cause.set(cause >= LOCAL, 0)  # our own writer's word for a death
        columns |= {"answer": cause.set(cause <= 0, None), "text": said}
        columns |= {"concept": cause * 0, "spelled": nothing(pl.String)}
    return pl.DataFrame([cells.alias(name) for name, cells in columns.items()], schema=_TYPES)


def _text(
    kind: Kind, text: pl.Series, said: pl.Series, value: pl.Series, answer: pl.Series
) -> pl.Series:
    """Return the words of a result: a source's spelling only where nothing else tells it."""
    told = value.is_not_null() | (answer > 0).fill_null(False)
    if kind.text == "value_as_string":
        return text.fill_null(said.set(told, None))
    return text.set(told, None) if kind.text else text


def period_rows(source: Source, within: tuple[int, int] | None, seen: Counter[str]) -> pl.DataFrame:
    """Return OBSERVATION_PERIOD as person, start and end; empty where there is none."""
    names = ("person_id", "observation_period_start_date", "observation_period_end_date")
    table = "observation_period"
    empty = pl.DataFrame(schema={"person": pl.Int64, "start": MOMENT, "end": MOMENT})
    if table not in source or not set(names) <= set(source.columns[table]):
        return empty
    raw = source.fetch(table, names, within=within)
    where = f"in {table.upper()}"
    return pl.DataFrame(
        [
            whole(raw[names[0]], f"PERSON_ID {where}").alias("person"),
            moments(raw[names[1]], f"{names[1].upper()} {where}", seen).alias("start"),
            moments(raw[names[2]], f"{names[2].upper()} {where}", seen).alias("end"),
        ]
    )
