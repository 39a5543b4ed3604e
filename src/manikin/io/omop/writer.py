"""Histories into an OMOP CDM 5.4 in DuckDB, block after block; `export` makes others of it.

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
from manikin.io.omop.blocks import laid_out
from manikin.io.omop.eras import ERAS, eras_of
from manikin.io.omop.fields import TABLES, fields, statement
from manikin.io.omop.tables import EHR, KINDS, LOCAL, STATIC, Kind
from manikin.io.omop.vocabulary import code_rows, level_number, shareable, vocabulary_rows

__all__ = ["CdmWriter", "filled"]

MOST_ROWS = 2**31 - 1  # a row's number is an integer of 32 bits
LONGEST = 50
_OWN = {
    "manikin_schema": "part INTEGER NOT NULL, document TEXT NOT NULL",
    "manikin_visit": "visit_occurrence_id INTEGER NOT NULL, person_id BIGINT NOT NULL,"
    " number INTEGER NOT NULL, implied INTEGER NOT NULL",
    "manikin_extra": "table_name VARCHAR(50) NOT NULL, row_id INTEGER NOT NULL,"
    " person_id BIGINT NOT NULL, value DOUBLE PRECISION, text TEXT, ended TIMESTAMP,"
    " visit_occurrence_id INTEGER",
}
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
    """Writes blocks of one schema into an open DuckDB database."""

    def __init__(
        self, connection: Any, layout: Mapping[str, Any], synthetic: bool, ids: tuple[str, ...]
    ) -> None:
        self.connection, self.layout, self.synthetic = connection, filled(layout), synthetic
        self.ids = ids
        self.numbers = _as_numbers(ids)
        # a person who does not exist has no number that a real one may have
        self.first = 1 + (self.layout["above"] if synthetic and self.numbers is None else 0)
        largest = self.first if self.numbers is None else int(np.abs(self.numbers).max(initial=0))
        self.wide = largest > MOST_ROWS // 2
        self.schema: EventSchema | None = None
        self.base = 1
        self.taken: Counter[str] = Counter()  # numbers of eras and periods
        self.persons = 0
        connection.execute("BEGIN")  # a commit a block: one a statement takes far longer
        for table in TABLES:
            connection.execute(statement(table, wide=self.wide))
        for table, columns in _OWN.items():
            connection.execute(f"CREATE TABLE {table} ({columns})")

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
        self.persons += events.n_subjects
        if self.base > MOST_ROWS:
            raise NotSupported(
                f"more than {MOST_ROWS} rows", "numbers of the CDM have 32 bits", "write in parts"
            )
        self._insert("person", self._person_rows(events, person))
        self._insert("manikin_person", _facts(events, person))
        for number, kind in enumerate(KINDS):
            part = block.rows.filter(pl.col("kind") == number)
            if part.height:
                self._insert_events(kind, part)
        self._insert_stays(block.stays)
        if block.extra.height:
            named = dict(enumerate(kind.table for kind in KINDS))
            table = pl.col("kind").replace_strict(named, return_dtype=pl.String)
            self._insert("manikin_extra", block.extra.select(
                table, "row", "person", "value", "text", "ended", "stay"
            ))  # fmt: skip
        first = self.taken["observation_period"]
        self.taken["observation_period"] += block.periods.height
        self._insert("observation_period", block.periods.select(
            pl.int_range(first + 1, first + 1 + pl.len()).alias("id"), "person",
            pl.col("start").cast(pl.Date), pl.col("end").cast(pl.Date), pl.lit(EHR).alias("type"),
        ))  # fmt: skip
        self.connection.execute("COMMIT")
        self.connection.execute("BEGIN")

    def finish(self) -> None:
        """Write what is derived from all rows, the vocabularies and what the source is."""
        if self.schema is None:
            raise InputError("there are no histories to write", "one block or more", "draw some")
        twice = self.persons - self._number("SELECT count(DISTINCT person_id) FROM person")
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
        self.connection.execute("COMMIT")

    def _begin(self, schema: EventSchema) -> None:
        self.schema = schema
        # a level that is also a code, like a cause of death, has that code's concept
        self.answers = {code.name: code.concept for code in schema.codes if code.concept > 0}
        self.answers |= self.layout["answers"]
        self.codes = code_rows(schema, self.layout["units"]).drop("place")
        kinds = {"c": "INTEGER", "f": "DOUBLE PRECISION", "M": "TIMESTAMP"}
        columns = []
        for k, column in enumerate(schema.static.learned):
            kind = "M" if column.kind == "datetime" else "c" if column.is_coded else "f"
            columns += [f"fact_{k} {kinds[kind]}", f"state_{k} INTEGER"]
        listed = ", ".join(
            ["person_id BIGINT NOT NULL", "subject BIGINT NOT NULL", "name TEXT", *columns]
        )
        self.connection.execute(f"CREATE TABLE manikin_person ({listed})")

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
        """Return the rows of PERSON, in the order of its fields."""
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
        return pl.DataFrame(
            {
                field.name: cells.get(field.name, pl.Series([None]).new_from_index(0, n))
                for field in fields("person")
            }
        )

    def _insert_events(self, kind: Kind, rows: pl.DataFrame) -> None:
        ended = "CAST(ended AS DATE)"
        cells = {
            "person_id": "person", kind.concept: "concept", kind.source: "identity",
            kind.spelled: "spelled", f"{kind.start}_date": "CAST(day AS DATE)",
            f"{kind.start}_datetime": "time", kind.type: str(EHR),
            "visit_occurrence_id": "stay",
        }  # fmt: skip
        if kind.end:
            required = kind.domain in ("visit", "drug")
            end = "CAST(coalesce(ended, day) AS DATE)" if required else ended
            cells |= {f"{kind.end}_date": end, f"{kind.end}_datetime": "ended"}
        if kind.key:
            cells[kind.key] = "row"
        if kind.value:
            cells[kind.value] = "value"
        if kind.text:
            cells[kind.text] = f"left(text, {kind.longest})"
        if kind.unit:
            cells[kind.unit] = "unit"
        if kind.unit == "unit_source_value":
            cells["unit_concept_id"] = "unit_concept"
        if kind.answers:
            cells["value_as_concept_id"] = "answer"
        if kind.domain == "drug":
            cells["verbatim_end_date"] = ended
        if kind.domain == "death":  # the code says that it is a death, the text why
            cells[kind.concept] = "coalesce(answer, nullif(concept, 0))"
        # gathered here: a join of the database would take as long as the insertion
        rows = rows.hstack(self.codes[rows["place"].cast(pl.UInt32)])
        if {"answer"} & set(cells.values()) or kind.domain == "death":
            answer = rows["text"].replace_strict(self.answers, default=None, return_dtype=pl.Int32)
            rows = rows.with_columns(answer.alias("answer"))
        chosen = ", ".join(cells.get(field.name, "NULL") for field in fields(kind.table))
        self.connection.register("given", rows)
        self.connection.execute(f"INSERT INTO {kind.table} SELECT {chosen} FROM given")
        self.connection.unregister("given")
        if kind.domain in ERAS:
            table, eras = ERAS[kind.domain][0], eras_of(rows, kind.domain)
            self._insert(table, eras.with_columns(pl.col("id") + self.taken[table] + 1))
            self.taken[table] += eras.height

    def _insert_stays(self, stays: pl.DataFrame) -> None:
        if stays.height == 0:
            return
        self.connection.register("given", stays)
        self.connection.execute(
            "INSERT INTO manikin_visit SELECT stay, person, number, implied::INTEGER FROM given"
        )
        cells = {
            "visit_occurrence_id": "stay", "person_id": "person", "visit_concept_id": "0",
            "visit_start_date": "CAST(start AS DATE)", "visit_start_datetime": "start",
            "visit_end_date": 'CAST("end" AS DATE)', "visit_end_datetime": '"end"',
            "visit_type_concept_id": str(EHR), "visit_source_concept_id": "0",
        }  # fmt: skip
        chosen = ", ".join(cells.get(f.name, "NULL") for f in fields("visit_occurrence"))
        self.connection.execute(
            f"INSERT INTO visit_occurrence SELECT {chosen} FROM given WHERE implied"
        )
        self.connection.unregister("given")

    def _number(self, query: str) -> int:
        return int(self.connection.execute(query).fetchall()[0][0])

    def _insert(self, table: str, rows: pl.DataFrame) -> None:
        if rows.height:
            self.connection.register("given", rows)
            self.connection.execute(f"INSERT INTO {table} SELECT * FROM given")
            self.connection.unregister("given")

    def _insert_rows(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            names = [f"c{k}" for k in range(len(rows[0]))]
            frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
            self._insert(table, frame)


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
