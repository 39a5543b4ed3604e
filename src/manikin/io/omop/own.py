"""A CDM that `writer` wrote, read back as it was: same codes, same order, same visits."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.table import Table
from manikin.errors import SchemaError
from manikin.io.omop.cells import MOMENT, moments, numbers, whole
from manikin.io.omop.sources import Source
from manikin.io.omop.tables import KINDS, OWN, Kind
from manikin.io.omop.vocabulary import identities

__all__ = ["Own", "written_here"]


def written_here(source: Source) -> EventSchema | None:
    """Return the schema that is kept in a CDM, None where there is none that holds."""
    if not all(table in source for table in OWN):
        return None
    frame = source.fetch("manikin_schema", ["part", "document"])
    if frame.height == 0:
        return None
    order = whole(frame["part"], "PART in MANIKIN_SCHEMA").arg_sort()
    try:
        return EventSchema.from_json(json.loads("".join(frame["document"].gather(order))))
    except (SchemaError, ValueError, TypeError, RecursionError):
        return None


@dataclass
class Own:
    """A CDM with the tables that tell how to read it back."""

    source: Source
    schema: EventSchema

    def __post_init__(self) -> None:
        names = ["person_id", "subject"]
        for k in range(len(self.schema.static.learned)):
            names += [f"fact_{k}", f"state_{k}"]
        raw = self.source.fetch("manikin_person", names)
        self.facts = raw[whole(raw["subject"], "SUBJECT in MANIKIN_PERSON").arg_sort()]
        self.subjects = whole(self.facts["subject"], "SUBJECT").to_numpy()
        self.persons = whole(self.facts["person_id"], "PERSON_ID in MANIKIN_PERSON").to_numpy()
        self.codes = {int(number): i for i, number in enumerate(identities(self.schema))}
        self.by_person = np.argsort(self.persons, kind="stable")

    def unchanged(self) -> bool:
        """Whether every row still names a code of the schema."""
        for kind in KINDS:
            names = _typed(self.source.counts(kind.table, kind.source)[kind.source], pl.Int64)
            implied = kind.table == "visit_occurrence"  # a visit that no event describes has 0
            known = {*self.codes, 0} if implied else set(self.codes)
            if not set(names.to_list()) <= known:
                return False
        return True

    def _asked(self, low: int, high: int) -> dict[str, Any]:
        """Return how to ask for the rows of subjects from a place up to another."""
        chosen = self.persons[low:high]
        if chosen.size == self.persons.size or not chosen.size:
            return {}
        if np.all(np.diff(self.persons) > 0):
            return {"within": (int(chosen[0]), int(chosen[-1]))}
        return {"among": ("person_id", chosen.tolist())}

    def events(self, low: int, high: int) -> Events | None:
        """Return the histories of subjects from a place up to another, None if rows are strange."""
        asked = self._asked(low, high)
        frames = [self._rows(kind, asked) for kind in KINDS]
        rows = _overlaid(pl.concat(frames), self._extra(asked))
        names = ["visit_occurrence_id", "number", "implied"]
        visits = self.source.fetch("manikin_visit", names, **asked)
        visits = visits.select(
            whole(cells, f"{cells.name.upper()} in MANIKIN_VISIT") for cells in visits
        ).rename({"visit_occurrence_id": "stay"})
        rows = rows.join(visits, on="stay", how="left", maintain_order="left")
        described = (pl.col("table") == "visit_occurrence") & (pl.col("implied") == 1)
        rows = rows.filter(~described.fill_null(False)).sort("row")
        place = rows["identity"].replace_strict(self.codes, default=None, return_dtype=pl.Int32)
        whose = self._places(rows["person"].to_numpy(), low, high)
        if place.null_count() or whose is None:
            return None
        texts = rows["text"].drop_nulls().unique(maintain_order=True)
        number = rows["text"].cast(pl.Enum(texts)).to_physical().cast(pl.Int32).fill_null(-1)
        return Events.of(
            self.schema, self._static(low, high), whose, rows["time"].to_numpy(), place.to_numpy(),
            rows["value"].fill_null(np.nan).to_numpy(), number.to_numpy(),
            rows["ended"].to_numpy(), rows["number"].fill_null(-1).to_numpy(), texts.to_list(),
        )  # fmt: skip

    def ids(self) -> tuple[str, ...]:
        """Return the names of the subjects, () where they follow their numbers."""
        names = self.source.fetch("person", ["person_id", "person_source_value"])
        if "person_source_value" in names.columns and names["person_source_value"].count():
            person = whole(names["person_id"], "PERSON_ID in PERSON").to_list()
            named = dict(zip(person, names["person_source_value"], strict=True))
            return tuple(str(named.get(number) or "") for number in self.persons.tolist())
        if np.array_equal(self.persons, self.subjects + 1):
            return ()
        return tuple(map(str, self.persons.tolist()))

    def _places(self, person: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64] | None:
        ordered = self.persons[self.by_person]
        at = np.searchsorted(ordered, person)
        if np.any(at >= ordered.size) or np.any(ordered[at] != person):
            return None
        places = self.by_person[at] - low
        return None if np.any((places < 0) | (places >= high - low)) else places

    def _rows(self, kind: Kind, asked: dict[str, Any]) -> pl.DataFrame:
        parts = {
            "person": "person_id", "row": kind.key, "identity": kind.source,
            "time": f"{kind.start}_datetime", "ended": f"{kind.end}_datetime",
            "value": kind.value, "text": kind.text,
            "stay": "visit_occurrence_id" if kind.key else "",
        }  # fmt: skip
        wanted = [name for name in dict.fromkeys(parts.values()) if name]
        raw = self.source.fetch(kind.table, wanted, **asked)
        n = raw.height
        columns = []
        for part, name in parts.items():
            dtype = _TYPES[part]
            if name not in raw.columns:
                columns.append(pl.Series(part, [None], dtype=dtype).new_from_index(0, n))
                continue
            columns.append(_typed(raw[name], dtype).alias(part))
        table = pl.Series("table", [kind.table]).new_from_index(0, n)
        return pl.DataFrame([*columns, table])

    def _extra(self, asked: dict[str, Any]) -> pl.DataFrame:
        names = {
            "table_name": "table", "row_id": "row", "person_id": "person", "value": "value",
            "text": "text", "ended": "ended", "visit_occurrence_id": "stay",
        }  # fmt: skip
        raw = self.source.fetch("manikin_extra", list(names), **asked)
        return pl.DataFrame(
            [_typed(raw[name], _TYPES[part]).alias(part) for name, part in names.items()]
        )

    def _static(self, low: int, high: int) -> Table:
        learned = self.schema.static.learned
        raw = self.facts[low:high]
        columns: dict[str, NDArray[Any]] = {}
        states: dict[str, NDArray[np.int8]] = {}
        for k, column in enumerate(learned):
            cells = raw[f"fact_{k}"]
            where = f"FACT_{k} in MANIKIN_PERSON"
            if column.kind == "datetime":
                columns[column.name] = _typed(cells, MOMENT).to_numpy()
            elif column.is_coded:
                level = whole(cells, where).fill_null(-1).to_numpy().astype(np.int32)
                columns[column.name] = np.where(level < len(column.categories), level, -1)
            else:
                columns[column.name] = numbers(cells, where).fill_null(np.nan).to_numpy()
            state = whole(raw[f"state_{k}"], f"STATE_{k} in MANIKIN_PERSON")
            if state.count():
                states[column.name] = state.fill_null(0).to_numpy().astype(np.int8)
        return Table(self.schema.static, self.subjects[low:high], columns, states)


_TYPES: dict[str, Any] = {
    "person": pl.Int64, "row": pl.Int64, "identity": pl.Int64, "time": MOMENT, "ended": MOMENT,
    "value": pl.Float64, "text": pl.String, "stay": pl.Int64, "table": pl.String,
}  # fmt: skip


def _typed(cells: pl.Series, dtype: Any) -> pl.Series:
    where = cells.name.upper()
    if dtype == pl.Int64:
        return whole(cells, where)
    if dtype == pl.Float64:
        return numbers(cells, where)
    if dtype == MOMENT:
        return moments(cells, where, Counter())
    return cells.cast(pl.String)


def _overlaid(rows: pl.DataFrame, extra: pl.DataFrame) -> pl.DataFrame:
    """Lay what the CDM has no field for over its rows; a death has its number only there."""
    deaths = extra.filter(pl.col("table") == "death").select("person", pl.col("row").alias("as"))
    rows = rows.join(deaths, on="person", how="left", maintain_order="left")
    death = pl.col("table") == "death"
    rows = rows.with_columns(
        pl.when(death).then(pl.col("as")).otherwise(pl.col("row")).alias("row")
    )
    parts = ("value", "text", "ended", "stay")
    more = extra.select("table", "row", *(pl.col(part).alias(f"more_{part}") for part in parts))
    joined = rows.join(more, on=["table", "row"], how="left", maintain_order="left")
    return joined.with_columns(
        pl.coalesce(f"more_{part}", part).alias(part) for part in parts
    ).drop("as", *(f"more_{part}" for part in parts))
