"""An OMOP CDM as histories: rows of all tables, sorted, with the visits that they were at.

Every row of VISIT_OCCURRENCE is an event with an end and a visit number of its own, ascending by
start within its person; rows of other tables, and of VISIT_DETAIL, bear the number of the visit
that they name. A row of VISIT_DETAIL that repeats its whole visit is left out. OBSERVATION_PERIOD
is told by two events where it is longer than what was observed in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.errors import InputError, SchemaError
from manikin.io.omop.cells import whole
from manikin.io.omop.codes import Survey
from manikin.io.omop.concepts import Concepts
from manikin.io.omop.persons import Persons, persons_of
from manikin.io.omop.rows import KEY, check_tables, period_rows, rows_of
from manikin.io.omop.sources import Source
from manikin.io.omop.tables import KINDS, PERIOD_END, PERIOD_START, Dangling

__all__ = ["Foreign"]

_VISIT = next(i for i, kind in enumerate(KINDS) if kind.table == "visit_occurrence")
_DETAIL = next(i for i, kind in enumerate(KINDS) if kind.table == "visit_detail")
_COUNTED = {  # what is counted while reading → how it is told
    "undated": "events without a date: at no time",
    "births": "events before their person's birth: kept",
    "deaths": "events after the day of their person's death: kept",
    "ends": "events that end before they start: kept",
    "strays": "events at a visit that there is not, or that is another person's: at no visit",
    "repeats": "rows of VISIT_DETAIL that repeat their whole visit: left out",
    "nobody": "rows without a person_id: left out",
}


@dataclass
class Foreign:
    """A CDM that another program wrote."""

    source: Source
    declared: EventSchema | None = None
    dangling: Dangling = "refuse"
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.kinds = check_tables(self.source)
        self.concepts = Concepts(self.source)
        strangers = self._strangers()
        self.persons: Persons = persons_of(self.source, self.concepts, strangers, self.seen)
        self.numbers: dict[str, dict[str, int]] = {}

    def _strangers(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the persons that rows name and PERSON does not. Raises InputError by default."""
        column = self.source.fetch("person", ["person_id"]).to_series()
        known = whole(column, "PERSON_ID in PERSON").unique()
        missing: list[pl.Series] = []
        rows: dict[str, int] = {}
        for number in self.kinds:
            table = KINDS[number].table
            found = self.source.counts(table, "person_id")
            person = whole(found["person_id"], f"PERSON_ID in {table.upper()}")
            gone = person.is_not_null() & ~person.is_in(known.implode())
            if gone.any():
                missing.append(person.filter(gone))
                rows[table.upper()] = int(found["rows"].filter(gone).sum())
        if not missing:
            return np.empty(0, np.int64)
        persons = pl.concat(missing).unique()
        if self.dangling == "refuse":
            where = ", ".join(f"{count} in {table}" for table, count in rows.items())
            raise InputError(
                f"{sum(rows.values())} rows are of {len(persons)} persons that PERSON does not "
                f"have ({where})",
                "every person_id is one of PERSON",
                "add the persons, leave the rows out, or read with dangling='keep'",
            )
        self.seen["persons"] = len(persons)
        return persons.to_numpy()

    def rows(self, low: int, high: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows of the persons from a place up to another one, and their periods."""
        numbers = self.persons.numbers
        everybody = low == 0 and high >= numbers.size
        within = None if everybody else (int(numbers[low]), int(numbers[high - 1]))
        frames = [rows_of(self.source, kind, within, self.seen) for kind in self.kinds]
        if not frames:
            frames = [pl.DataFrame()]
        rows = pl.concat(frames)
        periods = period_rows(self.source, within, self.seen)
        return self._placed(rows), self._placed(periods) if periods.height else periods

    def _placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Replace persons by their place; rows of nobody are left out."""
        if rows.width == 0:
            return rows
        kept = rows.filter(pl.col("person").is_not_null())
        self.seen["nobody"] += rows.height - kept.height
        place = np.searchsorted(self.persons.numbers, kept["person"].to_numpy())
        inside = place < self.persons.numbers.size
        inside &= self.persons.numbers[np.minimum(place, self.persons.numbers.size - 1)] == (
            kept["person"].to_numpy()
        )
        return kept.with_columns(pl.Series("person", place)).filter(inside)

    def survey(self, blocks: Iterator[tuple[pl.DataFrame, pl.DataFrame]]) -> None:
        """Find out what codes there are, once through all rows."""
        survey = Survey()
        for rows, periods in blocks:
            if rows.width and rows.height:
                survey.add(rows, periods=_longer(rows, periods).height > 0)
        found, self.places, self.numbers = survey.schema(self.concepts, self.persons.schema)
        if self.declared is not None:
            self.places = _declared(found, self.declared, self.places)
            found = self.declared
        self.schema = found

    def events(self, rows: pl.DataFrame, periods: pl.DataFrame, low: int, high: int) -> Events:
        """Return the histories of the persons from a place up to another one."""
        static = self.persons.static(low, high)
        if rows.width == 0 or rows.height == 0:
            return Events.of(self.schema, static, [], [], [])
        rows = self._with_visits(rows)
        rows = rows.join(self.places, on=KEY, how="left", nulls_equal=True)
        rows = pl.concat([rows, self._period_events(rows, periods)], how="diagonal_relaxed")
        names = {n: self.concepts[n].name for n in rows["answer"].drop_nulls().unique()}
        answer = rows["answer"].replace_strict(names, default=None, return_dtype=pl.String)
        text = answer.fill_null(rows["text"])
        texts = text.drop_nulls().unique(maintain_order=True)
        number = text.cast(pl.Enum(texts)).to_physical().cast(pl.Int32).fill_null(-1)
        events = Events.of(
            self.schema,
            static,
            rows["person"].to_numpy() - low,
            rows["time"].to_numpy(),
            rows["place"].to_numpy(),
            rows["value"].fill_null(np.nan).to_numpy(),
            number.to_numpy(),
            rows["ended"].to_numpy(),
            rows["visit"].fill_null(-1).to_numpy(),
            texts.to_list(),
        )
        self._count(events)
        return events

    def _with_visits(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Give every row the number of its visit within its person."""
        stays = rows.filter(pl.col("kind") == _VISIT).sort("person", "time", "stay")
        if twice := stays["stay"].drop_nulls().is_duplicated().sum():
            raise InputError(
                f"{twice} rows of VISIT_OCCURRENCE share a visit_occurrence_id",
                "one row a visit",
                "correct the export",
            )
        stays = stays.select(
            pl.col("stay"),
            pl.col("person").alias("of"),
            pl.int_range(pl.len(), dtype=pl.Int32).over("person").alias("visit"),
            pl.col("concept").alias("of_concept"),
            pl.col("time").alias("of_time"),
            pl.col("ended").alias("of_end"),
        ).filter(pl.col("stay").is_not_null())
        joined = rows.join(stays, on="stay", how="left", maintain_order="left")
        astray = (pl.col("of") != pl.col("person")).fill_null(True)
        named = pl.col("stay").is_not_null() & (pl.col("stay") != 0)
        self.seen["strays"] += joined.select((named & astray).sum()).item()
        repeats = (
            (pl.col("kind") == _DETAIL)
            & (pl.col("concept") == pl.col("of_concept"))
            & (pl.col("time") == pl.col("of_time"))
            & (pl.col("ended").eq_missing(pl.col("of_end")))
        ).fill_null(False)
        kept = joined.filter(~repeats)
        self.seen["repeats"] += joined.height - kept.height
        visit = pl.when(~astray).then(pl.col("visit")).alias("visit")
        order = ["person", "time", "visit", "kind", "row"]
        return kept.with_columns(visit).sort(order, nulls_last=[False, False, True, False, True])

    def _period_events(self, rows: pl.DataFrame, periods: pl.DataFrame) -> pl.DataFrame:
        """Return a start and an end for each period that is longer than its events tell."""
        longer = _longer(rows, periods)
        named = self.schema.place
        places = [named.get((name, "", "observation")) for name in (PERIOD_START, PERIOD_END)]
        if longer.height == 0 or None in places:
            return rows.clear()
        return pl.concat(
            longer.select(
                "person", pl.col(part).alias("time"), pl.lit(place, pl.Int32).alias("place")
            )
            for part, place in zip(("start", "end"), places, strict=True)
        )

    def _count(self, events: Events) -> None:
        """Count what is odd and kept."""
        known = ~np.isnat(events.time)
        self.seen["undated"] += int((~known).sum())
        with_end = known & ~np.isnat(events.end)
        self.seen["ends"] += int((events.end[with_end] < events.time[with_end]).sum())
        day = events.time.astype("datetime64[D]")
        if self.schema.birth:
            birth = events.column(self.schema.birth)[events.whose].astype("datetime64[D]")
            self.seen["births"] += int((known & ~np.isnat(birth) & (day < birth)).sum())
        dead = np.isin(events.code, self.schema.of("death")) & known
        if dead.any():
            last = np.full(events.n_subjects, np.datetime64("9999-12-31", "D"))
            np.minimum.at(last, events.whose[dead], day[dead])
            self.seen["deaths"] += int((known & (day > last[events.whose])).sum())

    def notes(self) -> tuple[str, ...]:
        """Tell with counts what was odd."""
        told = [f"{self.seen[k]} {how}" for k, how in _COUNTED.items() if self.seen[k]]
        if count := self.seen["persons"]:
            told.append(f"{count} persons that PERSON does not have: kept, without static facts")
        if self.seen["zoned"] and self.seen["plain"]:
            told.append(
                f"{self.seen['zoned']} times with an offset, taken to UTC, beside "
                f"{self.seen['plain']} without one, left as they are"
            )
        told += [f"{n} {what}" for what, n in self.seen.items() if what.startswith("birth") and n
                 and what != "births"]  # fmt: skip
        return tuple(told)


def _longer(rows: pl.DataFrame, periods: pl.DataFrame) -> pl.DataFrame:
    """Return the periods that begin before, or end after, all events of their person."""
    if periods.height == 0 or rows.width == 0:
        return periods.clear()
    span = rows.group_by("person").agg(
        pl.col("time").min().dt.truncate("1d").alias("first"),
        pl.max_horizontal(pl.col("time").max(), pl.col("ended").max()).alias("last"),
    )
    joined = periods.join(span, on="person", how="left", maintain_order="left")
    told = joined.filter(pl.col("start").is_not_null(), pl.col("end").is_not_null())
    several = pl.len().over("person") > 1
    kept = told.filter(
        (pl.col("start") < pl.col("first")).fill_null(True)
        | (pl.col("end") > pl.col("last")).fill_null(True)
        | several
    )
    return kept.select("person", "start", "end")


def _declared(found: EventSchema, declared: EventSchema, places: pl.DataFrame) -> pl.DataFrame:
    """Point keys to the codes of a declared schema. Raises SchemaError for codes it has not."""
    to: Sequence[int] = [declared.place.get(code.key, -1) for code in found.codes]
    if strangers := sum(place < 0 for place in to):
        raise SchemaError(
            f"{strangers} of {len(to)} codes of the source are not in the schema",
            "every code that occurs, with its unit and domain",
            "add them to the schema, or read without one",
        )
    moved = places["place"].replace_strict(dict(enumerate(to)), return_dtype=pl.Int32)
    return places.with_columns(moved.alias("place"))
