"""Synthea's CSV export in: who there is, encounters as visits, and all that was at them.

Walonoski et al., JAMIA 2018; columns as in Synthea's "CSV File Data Dictionary". Names, addresses,
numbers of identity and costs are never read. An encounter is an event of its class, `Visit/IP`,
`Visit/ER`, `Visit/OP` …, whose text is its own code; conditions, allergies, procedures, care plans
and devices bear SNOMED codes, drugs RxNorm, immunizations CVX, observations LOINC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from manikin.data.codes import Code, Domain, EventSchema
from manikin.data.events import Events
from manikin.data.parse import parse
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, NotSupported, SchemaError, Stopped
from manikin.io.histories import History
from manikin.io.omop.cells import MOMENT, moments, texts
from manikin.io.omop.codes import LONGEST_LEVEL, MOST_LEVELS, SHARED_BY, clock_of, decimals
from manikin.io.omop.sources import cells_of, header_of
from manikin.io.omop.tables import DEATH
from manikin.synthesizer import Progress, Watch, silent

__all__ = ["read", "recognises", "write"]

SUFFIXES = (".csv", ".csv.gz")
CLASSES = {"inpatient": "IP", "hospice": "IP", "emergency": "ER", "snf": "LTCP"}  # all else: OP
STATIC = {"sex": "gender", "race": "race", "ethnicity": "ethnicity", "marital": "marital"}
SEXES = {"M": "male", "F": "female"}
MEASURED = ("laboratory", "vital-signs", "imaging")  # categories of observations
_LOINC = r"^\d{1,7}-\d$"


@dataclass(frozen=True)
class _File:
    name: str
    domain: Domain
    vocabulary: str
    start: tuple[str, ...] = ("start",)  # the first of these that is there
    end: str = "stop"


FILES = (
    _File("encounters", "visit", "SNOMED"),
    _File("conditions", "condition", "SNOMED"),
    _File("allergies", "observation", "SNOMED"),
    _File("medications", "drug", "RxNorm"),
    _File("immunizations", "drug", "CVX", ("date",), ""),
    _File("procedures", "procedure", "SNOMED", ("start", "date")),
    _File("careplans", "procedure", "SNOMED"),
    _File("observations", "observation", "LOINC", ("date",), ""),
    _File("devices", "device", "SNOMED"),
)
_WANTED = ("id", "patient", "encounter", "encounterclass", "system", "code", "description",
           "start", "stop", "date", "category", "value", "units", "type")  # fmt: skip
_KEY = ("domain", "name", "unit")


def recognises(path: Path) -> bool:
    """Whether a folder has Synthea's patients and encounters."""
    if not path.is_dir():
        return False
    found = _files(path)
    try:
        heads = [set(_header(found[name])) for name in ("patients", "encounters")]
    except (KeyError, InputError):
        return False
    return {"id", "birthdate", "gender"} <= heads[0] and {"patient", "encounterclass"} <= heads[1]


def read(
    source: Path | str, *, schema: EventSchema | None = None, watch: Watch = silent
) -> History:
    """Read a folder of Synthea's CSV files; those that are not there have no events."""
    path = Path(source)
    found = _files(path) if path.is_dir() else {}
    if "patients" not in found:
        raise InputError(
            f"'{path.name}' has no patients.csv",
            "the folder that Synthea wrote with exporter.csv.export = true",
            "give that folder",
        )
    seen: Counter[str] = Counter()
    patients = _patients(found["patients"], seen)
    frames = [_deaths(patients)]
    for step, file in enumerate(FILES):
        if file.name in found:
            frames.append(_rows(file, found[file.name], seen))
        if watch(Progress(step + 1, len(FILES) + 1, "reading")):
            raise Stopped("reading")
    rows = _placed(pl.concat(frames), patients)
    rows = _with_visits(rows, seen)
    static = _static(patients)
    found_schema, rows = _coded(rows, static, schema)
    events = _events(rows, found_schema, static)
    watch(Progress(len(FILES) + 1, len(FILES) + 1, "sorting"))
    left = sorted(set(found) - {file.name for file in FILES} - {"patients"})
    notes = [f"files that are not read: {', '.join(left)}"] if left else []
    if seen["strays"]:
        notes.append(f"{seen['strays']} events at an encounter that there is not: at no visit")
    if seen["zoned"] and seen["plain"]:
        notes.append(f"{seen['zoned']} times with an offset, taken to UTC, beside others without")
    return History(events, "synthea", True, tuple(patients["id"].to_list()), tuple(notes))


def write(
    blocks: Iterable[Events],
    out: Path,
    *,
    layout: Mapping[str, Any],
    synthetic: bool,
    ids: tuple[str, ...] = (),
) -> None:
    """Raise NotSupported: its files have names, addresses and costs that histories do not have."""
    raise NotSupported(
        "Synthea's CSV files are only read",
        "formats of histories that are written: omop, meds, fhir, cdisc, long",
        "name one of them (--to, --format)",
    )


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        for suffix in SUFFIXES:
            if path.name.lower().endswith(suffix) and path.is_file():
                found.setdefault(path.name.lower().removesuffix(suffix), path)
    return found


def _header(path: Path) -> list[str]:
    return [name.lower() for name in header_of(path)[0]]


def _cells(path: Path, wanted: tuple[str, ...], needed: tuple[str, ...]) -> pl.DataFrame:
    """Return the wanted columns of a file as texts, by their names in lower case."""
    names = _header(path)
    if gone := [name.upper() for name in needed if name not in names]:
        raise InputError(
            f"'{path.name}' has no column {', '.join(gone)}",
            "the columns of Synthea's CSV export",
            "export it again, or rename the column",
        )
    return pl.DataFrame([texts(cells) for cells in cells_of(path, wanted)])


def _patients(path: Path, seen: Counter[str]) -> pl.DataFrame:
    wanted = ("id", "birthdate", "deathdate", *STATIC.values())
    frame = _cells(path, wanted, ("id", "birthdate", "gender"))
    bad = frame["id"].null_count() + int(frame["id"].drop_nulls().is_duplicated().sum())
    if bad:
        raise InputError(
            f"{bad} rows of '{path.name}' have no Id, or that of another one",
            "one row a patient",
            "export it again",
        )
    death = frame["deathdate"] if "deathdate" in frame.columns else pl.Series([None], dtype=pl.Date)
    return frame.with_columns(
        moments(frame["birthdate"], "BIRTHDATE in patients", seen).cast(pl.Date).alias("birth"),
        moments(death, "DEATHDATE in patients", seen).alias("death"),
    )


def _deaths(patients: pl.DataFrame) -> pl.DataFrame:
    dead = patients.filter(pl.col("death").is_not_null())
    return _frame(
        dead.height, patient=dead["id"], time=dead["death"], domain="death", name=DEATH,
        label="Death",
    )  # fmt: skip


def _frame(height: int, **cells: Any) -> pl.DataFrame:
    """Return rows with all columns; what is not given has no value."""
    return pl.DataFrame(
        [
            cell.alias(name).cast(kind)
            if isinstance(cell := cells.get(name), pl.Series)
            else pl.Series(name, [cell], kind).new_from_index(0, height)
            for name, kind in _KINDS.items()
        ]
    )


_KINDS: dict[str, Any] = {
    "patient": pl.String, "encounter": pl.String, "time": MOMENT, "ended": MOMENT,
    "domain": pl.String, "name": pl.String, "label": pl.String, "unit": pl.String,
    "value": pl.Float64, "text": pl.String,
}  # fmt: skip


def _rows(file: _File, path: Path, seen: Counter[str]) -> pl.DataFrame:
    """Return the rows of a file as events."""
    started = next((name for name in file.start if name in _header(path)), file.start[0])
    needed = ("patient", "code", started, *(("id",) if file.domain == "visit" else ()))
    frame = _cells(path, _WANTED, needed)
    n = frame.height
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, n)

    def column(name: str) -> pl.Series:
        return frame[name] if name in frame.columns else nothing

    code, system = column("code"), column("system").fill_null("")
    vocabulary = pl.Series([file.vocabulary]).new_from_index(0, n)
    vocabulary = vocabulary.set(system.str.contains("(?i)rxnorm"), "RxNorm")
    name = (vocabulary + "/" + code).fill_null("no code")
    cells: dict[str, Any] = {
        "patient": column("patient"), "label": column("description"), "domain": file.domain,
        "time": moments(column(started), f"{started.upper()} in {file.name}", seen),
        "ended": moments(column(file.end), f"{file.end.upper()} in {file.name}", seen),
        "name": name, "encounter": column("encounter"),
    }  # fmt: skip
    if file.domain == "visit":
        kind = column("encounterclass").str.to_lowercase()
        kind = kind.replace_strict(CLASSES, default="OP")
        cells |= {"name": "Visit/" + kind, "label": nothing, "text": name}
        cells |= {"encounter": column("id")}
    if file.name == "observations":
        cells |= _observed(code, column("value"), column("type"), column("category"))
        cells |= {"unit": column("units")}
    return _frame(n, **cells)


def _observed(
    code: pl.Series, value: pl.Series, kind: pl.Series, category: pl.Series
) -> dict[str, Any]:
    """Return what an observation says: a number or a text, a measurement or not."""
    number = value.cast(pl.Float64, strict=False)
    number = number.set((kind == "text").fill_null(False), None)
    measured = category.is_in(MEASURED) | (category.is_null() & number.is_not_null())
    named = code.zip_with(~code.str.contains(_LOINC).fill_null(False), "LOINC/" + code)
    return {
        "value": number,
        "text": value.set(number.is_not_null(), None),
        "name": named.fill_null("no code"),
        "domain": measured.replace_strict({True: "measurement", False: "observation"}),
    }


def _placed(rows: pl.DataFrame, patients: pl.DataFrame) -> pl.DataFrame:
    """Give every row the place of its patient. Raises InputError where there is none."""
    places = patients.select(
        pl.col("id").alias("patient"), pl.int_range(pl.len(), dtype=pl.Int64).alias("whose")
    )
    joined = rows.join(places, on="patient", how="left", maintain_order="left")
    if gone := joined["whose"].null_count():
        raise InputError(
            f"{gone} rows are of patients that patients.csv does not have",
            "every PATIENT is an Id of patients.csv",
            "export all files in one run",
        )
    return joined.drop("patient")


def _with_visits(rows: pl.DataFrame, seen: Counter[str]) -> pl.DataFrame:
    """Give every row the number of its encounter within its patient."""
    stays = rows.filter(pl.col("domain") == "visit").sort("whose", "time", "encounter")
    if twice := stays["encounter"].is_duplicated().sum():
        raise InputError(
            f"{twice} rows of encounters.csv share an Id", "one row an encounter", "export it again"
        )
    stays = stays.select(
        "encounter", "whose", pl.int_range(pl.len(), dtype=pl.Int32).over("whose").alias("visit")
    )
    joined = rows.join(stays, on=["encounter", "whose"], how="left", maintain_order="left")
    lost = pl.col("encounter").is_not_null() & pl.col("visit").is_null()
    seen["strays"] += joined.select(lost.sum()).item()
    first = (pl.col("domain") != "visit").alias("later")
    return joined.with_columns(first).sort(
        "whose", "time", "visit", "later", nulls_last=[False, False, True, False],
        maintain_order=True,
    )  # fmt: skip


def _coded(
    rows: pl.DataFrame, static: Table, declared: EventSchema | None
) -> tuple[EventSchema, pl.DataFrame]:
    """Return the schema, and rows with the place of their code."""
    rows = rows.with_columns(pl.col("unit").fill_null(""))
    value, text = pl.col("value"), pl.col("text")
    keys = rows.group_by(_KEY).agg(
        pl.col("label").drop_nulls().first(),
        value.count().alias("numbers"),
        decimals(value).max().alias("decimals"),
    ).sort(_KEY)  # fmt: skip
    said = rows.filter(text.str.len_chars() <= LONGEST_LEVEL).group_by(*_KEY, "text").agg(
        pl.col("whose").n_unique().alias("persons")
    )  # fmt: skip
    said = said.filter(pl.col("persons") >= SHARED_BY).sort("persons", "text", descending=True)
    levels: dict[tuple[str, ...], list[str]] = {}
    for *key, level in said.select(*_KEY, "text").iter_rows():
        levels.setdefault(tuple(key), []).append(level)
    codes = tuple(
        Code(row["name"], row["domain"], row["label"] or "", row["unit"],
             numeric=row["numbers"] > 0, decimals=row["decimals"] or 0,
             levels=tuple(sorted(levels.get(tuple(row[k] for k in _KEY), [])[:MOST_LEVELS])))
        for row in keys.iter_rows(named=True)
    )  # fmt: skip
    named = static.schema
    schema = declared or EventSchema(
        named, codes, birth="birth", sex="sex" if "sex" in named else "", clock=clock_of(rows)
    )
    places = [schema.place.get(code.key, -1) for code in codes]
    if strange := sum(place < 0 for place in places):
        raise SchemaError(
            f"{strange} of {len(codes)} codes of the source are not in the schema",
            "every code that occurs, with its unit and domain",
            "add them to the schema, or read without one",
        )
    at = keys.select(_KEY).with_columns(pl.Series("place", places, pl.Int32))
    return schema, rows.join(at, on=_KEY, how="left", maintain_order="left")


def _static(patients: pl.DataFrame) -> Table:
    """Return sex, race, ethnicity, marital status and birth, without what nobody has."""
    columns, cells = [], {}
    for name, source in STATIC.items():
        if source in patients.columns and patients[source].count():
            level = patients[source]
            level = level.replace(SEXES) if name == "sex" else level
            cells[name] = level
            levels = tuple(level.drop_nulls().unique().sort().to_list())
            why = f"categorical: {source.upper()} of patients.csv"
            columns.append(Column(name, "categorical", categories=levels, dtype="String",
                                  reason=why))  # fmt: skip
    columns.append(Column("birth", "datetime", date_format="%Y-%m-%d", dtype="Date",
                          reason="datetime: BIRTHDATE of patients.csv"))  # fmt: skip
    frame = pl.DataFrame({**cells, "birth": patients["birth"]})
    return parse(frame, TableSchema(tuple(columns)))


def _events(rows: pl.DataFrame, schema: EventSchema, static: Table) -> Events:
    words = rows["text"].drop_nulls().unique(maintain_order=True)
    number = rows["text"].cast(pl.Enum(words)).to_physical().cast(pl.Int32).fill_null(-1)
    return Events.of(
        schema, static, rows["whose"].to_numpy(), rows["time"].to_numpy(),
        rows["place"].to_numpy(), rows["value"].fill_null(np.nan).to_numpy(), number.to_numpy(),
        rows["ended"].to_numpy(), rows["visit"].fill_null(-1).to_numpy(), words.to_list(),
    )  # fmt: skip
