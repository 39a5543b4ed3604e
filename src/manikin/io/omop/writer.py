"""Histories as the rows of an OMOP CDM 5.4, block after block, into the tables of a store.

OHDSI, OMOP CDM v5.4. Four more tables than the CDM's hold what it has no field for, so that reading
gives back what was written:

manikin_schema  the schema of the histories as JSON
manikin_person  static facts as they were, by number of column
manikin_visit   the number of each visit within its person, and whether an event describes it
manikin_extra   values, texts, ends and visits of rows whose table has no field for them
"""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import InputError, NotSupported
from manikin.io.omop.blocks import by_kind, laid_out
from manikin.io.omop.eras import ERAS, eras_of
from manikin.io.omop.fields import TABLES, Field, fields
from manikin.io.omop.stores import Waiting, dtype_of
from manikin.io.omop.tables import EHR, KINDS, LOCAL, STATIC, Kind
from manikin.io.omop.vocabulary import code_rows, level_number, shareable, vocabulary_rows

__all__ = ["CdmWriter", "filled"]

MOST_ROWS = 2**31 - 1  # a row's number is an integer of 32 bits
LONGEST = 50
_OWN = {
    "manikin_schema": (Field("part", "INTEGER", True), Field("document", "TEXT", True)),
    "manikin_visit": (
        Field("visit_occurrence_id", "INTEGER", True), Field("person_id", "BIGINT", True),
        Field("number", "INTEGER", True), Field("implied", "INTEGER", True),
    ),
    "manikin_extra": (
        Field("table_name", "VARCHAR(50)", True), Field("row_id", "INTEGER", True),
        Field("person_id", "BIGINT", True), Field("value", "DOUBLE PRECISION", False),
        Field("text", "TEXT", False), Field("ended", "TIMESTAMP", False),
        Field("visit_occurrence_id", "INTEGER", False),
    ),
}  # fmt: skip
_NUMBER = re.compile(r"-?[0-9]{1,18}")
FARTHEST = 10**18  # where numbers of synthetic persons may begin
PART = 100_000  # characters of the schema in a row


def filled(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layout with all that a writer asks for; what is not well formed is left out."""
    levels, above = layout.get("levels", {}), layout.get("above")
    named = levels.items() if isinstance(levels, Mapping) else ()
    return {
        **{key: _text(layout.get(key)) for key in ("backend", "form", "vocabulary_version")},
        "upper": layout.get("upper") is True,
        "above": above if type(above) is int and 0 < above <= FARTHEST else 0,
        **{key: _concepts(layout.get(key)) for key in ("units", "answers")},
        "levels": {column: _concepts(entries) for column, entries in named},
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _concepts(entries: object) -> dict[str, int]:
    """Return the entries that lead from a text to the number of a concept."""
    known = entries.items() if isinstance(entries, Mapping) else ()
    return {
        key: value
        for key, value in known
        if isinstance(key, str) and type(value) is int and 0 < value < LOCAL
    }


class CdmWriter:
    """Writes blocks of one schema into a store."""

    def __init__(
        self, store: Waiting, layout: Mapping[str, Any], synthetic: bool, ids: tuple[str, ...]
    ) -> None:
        self.store, self.layout, self.synthetic = store, filled(layout), synthetic
        self.ids = ids
        self.numbers = _as_numbers(ids)
        # a person who does not exist has no number that a real one may have
        self.first = 1 + (self.layout["above"] if synthetic and self.numbers is None else 0)
        largest = self.first if self.numbers is None else int(np.abs(self.numbers).max(initial=0))
        self.wide = largest > MOST_ROWS // 2
        self.schema: EventSchema | None = None
        self.base = 1
        self.taken: Counter[str] = Counter()  # numbers of eras and periods
        self.persons: list[NDArray[np.int64]] = []  # of each block
        for table in TABLES:
            store.create(table, fields(table, wide=self.wide))
        for table, own in _OWN.items():
            store.create(table, own)

    def add(self, events: Events) -> None:
        """Write one more block. Raises InputError when its schema is another one."""
        if self.schema is None:
            self._begin(events.schema)
        elif events.schema != self.schema:
            raise InputError(
                "blocks of histories with different schemas", "one schema", "write them apart"
            )
        person = self._person_ids(events.subjects)
        block = laid_out(events, person, self.base)
        self.base += block.used
        self.persons.append(person)
        if self.base > MOST_ROWS:
            raise NotSupported(
                f"more than {MOST_ROWS} rows", "numbers of the CDM have 32 bits", "write in parts"
            )
        self.store.insert("person", self._person_rows(events, person))
        self.store.insert("manikin_person", _facts(events, person))
        for kind, part in by_kind(block.rows):
            self._insert_events(kind, part)
        self._insert_stays(block.stays)
        self._insert_extra(block.extra)
        self._insert_periods(block.periods)
        self.store.commit()

    def finish(self) -> None:
        """Write what is derived from all rows, the vocabularies and what the source is."""
        if self.schema is None:
            raise InputError("there are no histories to write", "one block or more", "draw some")
        everybody = np.concatenate(self.persons)
        twice = everybody.size - np.unique(everybody).size
        if twice:
            raise InputError(
                f"{twice} subjects of a block have the number of another one",
                "every subject of all blocks has a number of its own",
                "renumber the blocks",
            )
        for table, rows in vocabulary_rows(self.schema, self.layout, self.synthetic).items():
            self._insert_rows(table, rows)
        self._insert_rows("cdm_source", [_cdm_source(self.synthetic, self.layout)])
        self._insert_rows("metadata", [
            (1, 0, 0, "synthetic", str(self.synthetic).lower(), None, None, None, None)
        ])  # fmt: skip
        document = json.dumps(shareable(self.schema, self.synthetic).to_json(), ensure_ascii=False)
        parts = [document[k : k + PART] for k in range(0, len(document), PART)]
        self._insert_rows("manikin_schema", list(enumerate(parts)))
        self.store.commit()

    def _begin(self, schema: EventSchema) -> None:
        self.schema = schema
        # a level that is also a code, like a cause of death, has that code's concept
        self.answers = {code.name: code.concept for code in schema.codes if code.concept > 0}
        self.answers |= self.layout["answers"]
        self.codes = code_rows(schema, self.layout["units"]).drop("place")
        kinds = {"c": "INTEGER", "f": "DOUBLE PRECISION", "M": "TIMESTAMP"}
        columns = [Field("person_id", "BIGINT", True), Field("subject", "BIGINT", True),
                   Field("name", "TEXT", False)]  # fmt: skip
        for k, column in enumerate(schema.static.learned):
            kind = "M" if column.kind == "datetime" else "c" if column.is_coded else "f"
            columns += [Field(f"fact_{k}", kinds[kind], False),
                        Field(f"state_{k}", "INTEGER", False)]  # fmt: skip
        self.store.create("manikin_person", columns)

    def _person_ids(self, subjects: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the source's own numbers where it has such, else those that follow ours."""
        if self.ids and (subjects.size and int(subjects.max()) >= len(self.ids)):
            raise InputError(
                f"{len(self.ids)} names for subjects with higher numbers",
                "a name for every subject", "give all names or none",
            )  # fmt: skip
        chosen = subjects + self.first if self.numbers is None else self.numbers[subjects]
        if chosen.size and not self.wide and int(chosen.max()) > MOST_ROWS:
            raise NotSupported(
                "subjects with numbers above 2147483646", "numbers of 32 bits", "renumber them"
            )
        return chosen

    def _person_rows(self, events: Events, person: NDArray[np.int64]) -> pl.DataFrame:
        """Return the rows of PERSON."""
        n = person.size
        cells: dict[str, pl.Series] = {"person_id": pl.Series(person)}
        if self.ids and self.numbers is None:
            names = [self.ids[subject][:LONGEST] for subject in events.subjects.tolist()]
            cells["person_source_value"] = pl.Series(names, dtype=pl.String)
        schema = events.schema.static
        by_name = {column.name.casefold(): column for column in schema if column.is_coded}
        for stem in STATIC:
            column = by_name.get(stem)
            if stem == "gender":
                sexes = (events.schema.sex.casefold(), "sex", "gender")
                column = next((by_name[name] for name in sexes if name in by_name), None)
            if column is None:
                cells[f"{stem}_concept_id"] = pl.Series(np.zeros(n, np.int64))
                continue
            known = self.layout["levels"].get(column.name, {})
            numbers = [level_number(level, known) for level in column.categories]
            codes = events.column(column.name)
            spelled = pl.Series([c[:LONGEST] for c in column.categories], dtype=pl.String)
            index = pl.Series(codes.astype(np.int64))
            cells[f"{stem}_concept_id"] = pl.Series(np.array([*numbers, 0], np.int64)[codes])
            cells[f"{stem}_source_value"] = spelled.gather(index.set(index < 0, None))
        birth = np.full(n, "NaT", "datetime64[us]")
        if events.schema.birth:
            birth = events.column(events.schema.birth).astype("datetime64[us]")
        born = pl.Series("birth", birth)
        cells |= {
            "year_of_birth": born.dt.year().fill_null(0),
            "month_of_birth": born.dt.month(), "day_of_birth": born.dt.day(),
            "birth_datetime": born,
        }  # fmt: skip
        return pl.DataFrame(cells)

    def _insert_events(self, kind: Kind, rows: pl.DataFrame) -> None:
        rows = rows.hstack(self.codes[rows["place"].cast(pl.UInt32)])
        ended = pl.col("ended").cast(pl.Date)
        cells: dict[str, str | pl.Expr] = {
            "person_id": "person", kind.concept: "concept", kind.source: "identity",
            kind.spelled: "spelled", f"{kind.start}_date": pl.col("day").cast(pl.Date),
            f"{kind.start}_datetime": "time", kind.type: pl.lit(EHR),
            "visit_occurrence_id": "stay",
        }  # fmt: skip
        if kind.end:
            required = kind.domain in ("visit", "drug")
            last = pl.coalesce("ended", "day").cast(pl.Date) if required else ended
            cells |= {f"{kind.end}_date": last, f"{kind.end}_datetime": "ended"}
        if kind.key:
            cells[kind.key] = "row"
        if kind.value:
            cells[kind.value] = "value"
        said = rows["text"].null_count() < rows.height
        if kind.text and said:
            cells[kind.text] = pl.col("text").str.slice(0, kind.longest)
        if kind.unit:
            cells[kind.unit] = "unit"
        if kind.unit == "unit_source_value":
            cells["unit_concept_id"] = "unit_concept"
        answer = pl.col("text").replace_strict(self.answers, default=None, return_dtype=pl.Int32)
        if kind.answers and said:
            cells["value_as_concept_id"] = answer
        if kind.domain == "drug":
            cells["verbatim_end_date"] = ended
        if kind.domain == "death":  # the code says that it is a death, the text why
            concept = pl.when(pl.col("concept") != 0).then(pl.col("concept"))
            cells[kind.concept] = pl.coalesce(answer, concept) if said else concept
        names = {field.name for field in fields(kind.table)}
        self.store.insert(kind.table, rows.select(
            (pl.col(cell) if isinstance(cell, str) else cell).alias(name)
            for name, cell in cells.items() if name in names
        ))  # fmt: skip
        if kind.domain in ERAS:
            self._insert_numbered(ERAS[kind.domain][0], eras_of(rows, kind.domain))

    def _insert_stays(self, stays: pl.DataFrame) -> None:
        self.store.insert("manikin_visit", stays.select(
            visit_occurrence_id="stay", person_id="person", number="number", implied="implied"
        ))  # fmt: skip
        self.store.insert("visit_occurrence", stays.filter("implied").select(
            visit_occurrence_id="stay", person_id="person", visit_concept_id=0,
            visit_start_date=pl.col("start").cast(pl.Date), visit_start_datetime="start",
            visit_end_date=pl.col("end").cast(pl.Date), visit_end_datetime="end",
            visit_type_concept_id=EHR, visit_source_concept_id=0,
        ))  # fmt: skip

    def _insert_extra(self, extra: pl.DataFrame) -> None:
        named = dict(enumerate(kind.table for kind in KINDS))
        self.store.insert("manikin_extra", extra.select(
            table_name=pl.col("kind").replace_strict(named, return_dtype=pl.String),
            row_id="row", person_id="person", value="value", text="text", ended="ended",
            visit_occurrence_id="stay",
        ))  # fmt: skip

    def _insert_periods(self, periods: pl.DataFrame) -> None:
        self._insert_numbered("observation_period", periods.select(
            "person", pl.col("start", "end").cast(pl.Date), type=EHR
        ))  # fmt: skip

    def _insert_numbered(self, table: str, rows: pl.DataFrame) -> None:
        """Write rows whose columns follow the table's fields, behind a number of their own."""
        first = self.taken[table] + 1
        self.taken[table] += rows.height
        numbered = rows.with_row_index("id", first)
        self.store.insert(table, numbered.rename(
            dict(zip(numbered.columns, (f.name for f in fields(table)), strict=True))
        ))  # fmt: skip

    def _insert_rows(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        dtypes = {field.name: dtype_of(field) for field in self.store.fields[table]}
        self.store.insert(table, pl.DataFrame(rows, schema=dtypes, orient="row"))


def _as_numbers(ids: tuple[str, ...]) -> NDArray[np.int64] | None:
    """Return names as person_ids if they are different whole numbers, written as such."""
    if not ids or not all(_NUMBER.fullmatch(name) for name in ids):
        return None
    numbers = np.array([int(name) for name in ids], np.int64)
    same = all(str(n) == name for n, name in zip(numbers.tolist(), ids, strict=True))
    return numbers if same and np.unique(numbers).size == numbers.size else None


def _facts(events: Events, person: NDArray[np.int64]) -> pl.DataFrame:
    """Return static facts as they are: numbers of levels, numbers, moments, and their states."""
    columns: dict[str, Any] = {
        "person_id": person,
        "subject": events.subjects,
        "name": pl.Series([None], dtype=pl.String).new_from_index(0, person.size),
    }
    table = events.static
    for k, column in enumerate(table.schema.learned):
        cells = pl.Series(table.columns[column.name])
        columns[f"fact_{k}"] = cells.fill_nan(None) if cells.dtype.is_float() else cells
        states = table.states.get(column.name)
        empty = pl.Series([None], dtype=pl.Int32).new_from_index(0, person.size)
        columns[f"state_{k}"] = empty if states is None else states.astype(np.int32)
    return pl.DataFrame(columns)


def _cdm_source(synthetic: bool, layout: Mapping[str, Any]) -> tuple[Any, ...]:
    today = datetime.date.today()
    name = "Synthetic data made by Manikin" if synthetic else "CDM written by Manikin"
    short = "Synthetic (Manikin)" if synthetic else "Manikin"
    description = (
        "These persons do not exist: a synthetic data set, drawn from a model of real data."
        if synthetic
        else "Histories of another format, or of another CDM, written as they were read."
    )
    version = str(layout["vocabulary_version"])[:20] or "none"
    return (name, short, "not stated", description, None, None, today, today, "5.4", 756265,
            version)  # fmt: skip
