"""PERSON as static facts: sex, race, ethnicity and the date of birth, one row a subject."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.parse import parse
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.io.omop.cells import MOMENT, moments, texts, whole
from manikin.io.omop.concepts import Concepts
from manikin.io.omop.sources import Source
from manikin.io.omop.tables import STATIC

__all__ = ["BIRTH", "SEX", "Persons", "persons_of"]

SEX, BIRTH = "sex", "birth"
LEVEL = r"^[A-Za-z][A-Za-z0-9 /_'-]{0,40}$"  # what a spelling of race or sex may look like
MOST_LEVELS = 30
SHARED_BY = 5  # persons; a layout, which may stand in a model's file, tells no rarer level
_WANTED = (
    "person_id year_of_birth month_of_birth day_of_birth birth_datetime gender_concept_id "
    "race_concept_id ethnicity_concept_id gender_source_value race_source_value "
    "ethnicity_source_value"
).split()


@dataclass(frozen=True)
class Persons:
    """Who is in a source, ascending by its number of them, and what is told of each once."""

    numbers: NDArray[np.int64]  # person_id
    facts: pl.DataFrame  # (persons,) birth and the levels of sex, race and ethnicity
    schema: TableSchema
    spelled: dict[str, dict[str, int]]  # column → level → concept

    def static(self, low: int, high: int) -> Table:
        """Return the static table of the persons from a place up to another one."""
        table = parse(self.facts[low:high], self.schema)
        return Table(self.schema, np.arange(low, high), table.columns, table.states)


def persons_of(
    source: Source, concepts: Concepts, more: NDArray[np.int64], seen: Counter[str]
) -> Persons:
    """Read PERSON, with `more` persons of whom nothing is told.

    Raises InputError for persons that are there twice.
    """
    raw = source.fetch("person", _WANTED)
    numbers = whole(raw["person_id"], "PERSON_ID in PERSON")
    twice = len(numbers) - numbers.n_unique()
    if twice or numbers.null_count():
        raise InputError(
            f"{twice} rows of PERSON repeat a person_id, {numbers.null_count()} have none",
            "one row a person",
            "correct the export",
        )
    order = numbers.arg_sort()
    raw, numbers = raw[order], numbers[order]
    spelled: dict[str, dict[str, int]] = {}
    columns = [_levels(raw, stem, concepts, spelled) for stem in STATIC]
    facts = pl.DataFrame([*columns, _births(raw, seen)])
    if more.size:
        facts = pl.concat([facts, facts.clear(more.size)])
        everybody = np.concatenate([numbers.to_numpy(), more])
        by_number = np.argsort(everybody, kind="stable")
        facts, everybody = facts[by_number], everybody[by_number]
    else:
        everybody = numbers.to_numpy()
    kept = [name for name in facts.columns if facts[name].null_count() < facts.height]
    facts = facts.select(kept)
    schema = TableSchema(tuple(_column(facts[name]) for name in kept))
    return Persons(everybody.astype(np.int64), facts, schema, spelled)


def _levels(
    raw: pl.DataFrame, stem: str, concepts: Concepts, spelled: dict[str, dict[str, int]]
) -> pl.Series:
    """Return sex, race or ethnicity as levels: by its concept, else by a spelling of the source."""
    name = SEX if stem == "gender" else stem
    field = f"{stem}_concept_id"
    empty = pl.Series(name, [None] * raw.height, pl.String)
    number = whole(raw[field], f"{field.upper()} in PERSON") if field in raw.columns else None
    said = texts(raw[f"{stem}_source_value"]) if f"{stem}_source_value" in raw.columns else empty
    shaped = said.filter(said.str.contains(LEVEL).fill_null(False)).unique()
    said = said.set(~said.is_in(shaped.implode()).fill_null(False), None)
    if len(shaped) > MOST_LEVELS:
        said = empty
    if number is None:
        return said.alias(name)
    used = [n for n in number.drop_nulls().unique().sort().to_list() if n > 0]
    concepts.learn(used)
    levels = {n: STATIC[stem].get(n) or concepts[n].label or concepts[n].name for n in used}
    counts = dict(number.drop_nulls().value_counts().iter_rows())
    spelled[name] = {level: n for n, level in levels.items() if counts[n] >= SHARED_BY}
    read = number.replace_strict(levels, default=None, return_dtype=pl.String)
    return read.fill_null(said).alias(name)


def _births(raw: pl.DataFrame, seen: Counter[str]) -> pl.Series:
    """Return dates of birth: the moment where one is told, else of year, month and day."""
    parts = {}
    for name, least in (("year", None), ("month", 1), ("day", 1)):
        field = f"{name}_of_birth"
        if field not in raw.columns:
            parts[name] = pl.Series(name, [least] * raw.height, pl.Int64)
            continue
        cells = whole(raw[field], f"{field.upper()} in PERSON")
        parts[name] = (cells if least is None else cells.fill_null(least)).alias(name)
        if name == "month":
            seen["births without a month, taken for its first"] += cells.null_count()
    frame = pl.DataFrame(list(parts.values()))
    written = frame.select(pl.format("{}-{}-{}", *(
        pl.col(name).cast(pl.String).str.zfill(width)
        for name, width in (("year", 4), ("month", 2), ("day", 2))
    )))  # fmt: skip
    days = written.to_series().str.to_date("%Y-%m-%d", strict=False).cast(MOMENT)
    if "birth_datetime" in raw.columns:
        told = moments(raw["birth_datetime"], "BIRTH_DATETIME in PERSON", seen)
        days = told.fill_null(days)
    lost = int((days.is_null() & frame["year"].is_not_null()).sum())
    seen["births that are no date of the calendar, left out"] += lost
    midnight = (days == days.dt.truncate("1d")).fill_null(True).all()
    return (days.cast(pl.Date) if midnight else days).alias(BIRTH)


def _column(facts: pl.Series) -> Column:
    if facts.name == BIRTH:
        day = facts.dtype == pl.Date
        return Column(
            BIRTH,
            "datetime",
            date_format="%Y-%m-%d" if day else "%Y-%m-%d %H:%M:%S%.f",
            dtype="Date" if day else str(facts.dtype),
            reason="datetime: birth of PERSON",
        )
    levels = facts.drop_nulls().value_counts(sort=True)[facts.name].to_list()
    why = "a concept of PERSON, or its source's spelling"
    return Column(
        facts.name,
        "categorical",
        categories=tuple(sorted(levels)),
        dtype="String",
        reason=f"categorical: {why}",
    )
