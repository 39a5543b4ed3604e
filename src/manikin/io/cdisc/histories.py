"""Rows of a study as histories: codes with what is known of them, and events in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from manikin.data.codes import Clock, Code, EventSchema
from manikin.data.events import Events
from manikin.data.identifiers import find_template
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, SchemaError
from manikin.io.cdisc.dates import read_moments
from manikin.io.cdisc.define import Definition
from manikin.io.cdisc.static import Demographics, static_table

__all__ = ["Study", "histories_of"]

MOST_LEVELS = 100  # different texts of a code; more are free text
_STEPS: tuple[tuple[str, Clock], ...] = (("1d", "day"), ("1m", "minute"), ("1s", "second"))


@dataclass(frozen=True)
class Study:
    """What was read: subjects, rows in the form of `rows.FORM` with `visit`, and notes."""

    who: Demographics
    rows: pl.DataFrame
    notes: tuple[str, ...]
    layout: dict[str, Any]


def histories_of(
    study: Study, schema: EventSchema | None, own: Definition | None = None
) -> tuple[Events, tuple[str, ...], dict[str, Any]]:
    """Return events, ids and the layout of a study, under a schema that is given or inferred.

    `own` is what our own files say of themselves, which is believed before anything is inferred.
    """
    who = study.who
    if own is not None:
        schema = schema or own.schema
        who = replace(who, facts=_as_they_were(who.facts, own.static, schema.static))
    static = static_table(who, schema.static if schema is not None else None)
    if len(who.ids) == 0:
        raise InputError("a study without subjects", "at least one row in DM", "check the files")
    rows = study.rows if own is None else _renamed(study.rows, own)
    if rows.height and not rows["start"].is_not_null().any():
        raise InputError(
            f"{rows.height:,} rows and none with a date",
            "ISO 8601 dates in --DTC or --STDTC",
            "check that the date variables came with the export",
        )
    if schema is None:
        schema = _schema(rows, static, study.layout.get("visits", {}))
    events = _events(rows, who, static, schema)
    layout = {**study.layout, "template": find_template(who.ids)}
    return events, tuple(map(str, who.ids)), layout


def _as_they_were(
    facts: pl.DataFrame, names: Mapping[str, str], schema: TableSchema
) -> pl.DataFrame:
    """Return static facts under the names that they had before, one column for each of a schema."""
    facts = facts.rename({v: c for v, c in names.items() if v in facts.columns}, strict=False)
    blank = pl.Series([None], dtype=pl.String).new_from_index(0, facts.height)
    columns = []
    for column in schema:
        cells = facts[column.name] if column.name in facts.columns else blank.alias(column.name)
        if column.kind == "datetime":
            cells = read_moments(cells).time.alias(column.name)
        columns.append(cells)
    return pl.DataFrame(columns)


def _renamed(rows: pl.DataFrame, own: Definition) -> pl.DataFrame:
    """Return rows with the codes that they were written for, and no reference start beyond them."""
    keys = ["name", "unit", "domain"]
    told = pl.DataFrame(
        [(*read, *code) for read, code in own.keys.items()],
        schema={**dict.fromkeys(keys, pl.String), **{f"its {k}": pl.String for k in keys}},
        orient="row",
    )
    found = rows.join(told, on=keys, how="left", maintain_order="left")
    derived = (pl.col("name") == "DM/RFSTDTC") & pl.col("its name").is_null()
    found = found.filter(~derived)
    return found.with_columns(pl.coalesce(f"its {k}", k).alias(k) for k in keys).select(
        rows.columns
    )


def _schema(rows: pl.DataFrame, static: Table, visits: Mapping[str, Any]) -> EventSchema:
    keys = ["name", "unit", "domain"]
    decimals = pl.col("value").cast(pl.String).str.extract(r"\.(\d*[1-9])0*$").str.len_bytes()
    found = (
        rows.group_by(keys)
        .agg(
            pl.col("label").filter(pl.col("label") != "").first(),
            pl.col("value").is_not_null().any().alias("numeric"),
            decimals.max().fill_null(0).alias("decimals"),
            pl.col("text").drop_nulls().unique().sort().head(MOST_LEVELS + 1).alias("levels"),
            pl.col("parent").drop_nulls().unique().sort().alias("parents"),
        )
        .sort(keys)
    )
    codes = []
    for row in found.iter_rows(named=True):
        label = row["label"] or ""
        if row["domain"] == "visit":
            label = visits.get(row["name"].partition("/")[2], {}).get("label", "")
        levels = tuple(row["levels"]) if len(row["levels"]) <= MOST_LEVELS else ()
        codes.append(
            Code(row["name"], row["domain"], label, row["unit"], bool(row["numeric"]),
                 decimals=int(row["decimals"]), levels=levels, parents=tuple(row["parents"]))
        )  # fmt: skip
    names = [column.name for column in static.schema.learned]
    return EventSchema(
        static.schema,
        tuple(codes),
        birth="BRTHDTC" if "BRTHDTC" in names else "",
        sex="SEX" if "SEX" in names else "",
        clock=_clock(rows),
    )


def _clock(rows: pl.DataFrame) -> Clock:
    for step, clock in _STEPS:
        whole = rows.select(
            ((pl.col(c).dt.truncate(step) == pl.col(c)) | pl.col(c).is_null()).all()
            for c in ("start", "end")
        )
        if whole["start"][0] and whole["end"][0]:
            return clock
    return "us"


def _events(rows: pl.DataFrame, who: Demographics, static: Table, schema: EventSchema) -> Events:
    keys = pl.DataFrame(
        [(c.name, c.unit, c.domain, i) for i, c in enumerate(schema.codes)],
        schema={"name": pl.String, "unit": pl.String, "domain": pl.String, "code": pl.Int32},
        orient="row",
    )
    people = pl.DataFrame({"subject": who.ids}).with_row_index("whose")
    placed = rows.join(keys, on=["name", "unit", "domain"], how="left", maintain_order="left")
    placed = placed.join(people, on="subject", how="left", maintain_order="left")
    if unknown := placed["code"].null_count():
        raise SchemaError(
            f"{unknown:,} rows bear a code that the schema does not have",
            f"one of its {len(schema)} codes, in the unit that it has there",
            "add the codes, or leave those rows out",
        )
    texts = placed["text"].drop_nulls().unique().sort()
    place = pl.DataFrame({"text": texts}).with_row_index("place")
    text = placed.join(place, on="text", how="left", maintain_order="left")["place"]
    return Events.of(
        schema,
        static,
        placed["whose"].to_numpy(),
        _times(placed["start"]),
        placed["code"].to_numpy(),
        placed["value"].fill_null(np.nan).to_numpy(),
        text.cast(pl.Int32).fill_null(-1).to_numpy(),
        _times(placed["end"]),
        placed["visit"].to_numpy(),
        tuple(texts),
    )


def _times(series: pl.Series) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    return np.asarray(series.cast(pl.Datetime("us")).to_numpy(), "datetime64[us]")
