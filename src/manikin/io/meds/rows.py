"""Rows of MEDS into histories and back: what is told once is taken out of the rows, or put in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.io.meds.codes import BIRTH, MARK, MISSING, STATIC, Plan

__all__ = ["Counts", "build", "ids_in_order", "rows_of"]

_MOST_VISITS = np.iinfo(np.int32).max - 1
_COLUMNS: dict[str, Any] = {
    "subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "value": pl.Float64,
    "text": pl.String, "unit": pl.String, "domain": pl.String, "end": pl.Datetime("us"),
    "visit": pl.Int32,
}  # fmt: skip


@dataclass
class Counts:
    """What was mended, and how often; where nobody asks, not all is counted."""

    wanted: bool = True
    unsorted: int = 0  # rows that stood before an earlier one
    duplicates: int = 0  # rows that are there again, all of them kept
    several: int = 0  # subjects in several files
    births: int = 0  # second births
    without_time: int = 0  # events
    facts_again: int = 0  # facts that are told twice

    def notes(self) -> list[str]:
        """Return a sentence for each that is not nought."""
        said = {
            "{:,} rows were not sorted by subject and time; they were sorted.": self.unsorted,
            "{:,} rows are there more than once; all were kept.": self.duplicates,
            "{:,} subjects were in several files; they were put together.": self.several,
            "{:,} births of subjects who were born already are kept as events.": self.births,
            "{:,} events have no time.": self.without_time,
            "{:,} facts are told more than once; the last one counts.": self.facts_again,
        }
        return [text.format(n) for text, n in said.items() if n]


def ids_in_order(rows: pl.DataFrame) -> pl.Series:
    """Return the source's numbers of subjects in the order in which rows have them."""
    return rows["subject_id"].unique(maintain_order=True)


def build(rows: pl.DataFrame, plan: Plan, own: bool, counts: Counts) -> Events:
    """Return the histories that rows of MEDS tell, and add to the counts of what was mended.

    `own` says that rows are marked as static facts by their domain. Raises InputError for rows
    without a subject or a code, and for codes that the schema does not have.
    """
    _check_nulls(rows)
    ids, where = _numbered(rows["subject_id"].to_numpy())
    rows = _in_order(rows.with_columns(whose=pl.Series(where)), counts)
    if counts.wanted and rows.height:
        counts.duplicates += rows.height - rows.hash_rows().n_unique()
    rows = _with_facts(rows, plan, own, counts)
    static = _static(rows.filter(pl.col("what").is_not_null()), plan, ids.size, counts)
    rows = rows.filter(pl.col("what").is_null()).drop("what", "column", "level")
    codes = plan.codes.filter(pl.col("place").is_not_null())
    key = ["code", "unit", "domain"]
    rows = rows.join(codes.select(*key, "place"), on=key, how="left", maintain_order="left")
    if unknown := rows["place"].null_count():
        raise InputError(
            f"{unknown:,} rows of {rows.filter(pl.col('place').is_null())['code'].n_unique():,}"
            " codes that the schema does not have",
            "the codes, units and domains that are declared",
            "add them to the schema, or leave those rows out",
        )
    counts.without_time += rows["time"].null_count()
    return _events(rows, plan, static, own)


def _events(rows: pl.DataFrame, plan: Plan, static: Table, own: bool) -> Events:
    texts = rows["text"].drop_nulls().unique(maintain_order=True)
    place = pl.DataFrame({"text": texts, "at": np.arange(texts.len(), dtype=np.int32)})
    rows = rows.join(place, on="text", how="left", maintain_order="left")
    visit = pl.col("visit")
    if not own or not rows["visit"].is_between(0, _MOST_VISITS).all():
        # a source's numbers of visits are not kept
        visit = (visit.rank("dense").over("whose") - 1).cast(pl.Int64)
    numbers = rows.select(visit.fill_null(-1).cast(pl.Int32))["visit"]
    return Events.of(
        plan.schema,
        static,
        rows["whose"].to_numpy(),
        rows["time"].to_numpy(),
        rows["place"].to_numpy(),
        rows["value"].fill_null(np.nan).to_numpy(),
        rows["at"].fill_null(-1).to_numpy(),
        rows["end"].to_numpy(),
        numbers.to_numpy(),
        tuple(texts),
    )


def _check_nulls(rows: pl.DataFrame) -> None:
    for name, what in (("subject_id", "subject"), ("code", "code")):
        if n := rows[name].null_count():
            raise InputError(
                f"{n:,} of {rows.height:,} rows have no {what}",
                "every row has a subject and a code",
                "fill them in, or leave those rows out",
            )


def _numbered(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number subjects in the order in which rows have them."""
    found, first, where = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    return found[order], rank[where]


def _in_order(rows: pl.DataFrame, counts: Counts) -> pl.DataFrame:
    """Sort by subject and time, unknown times first, and count what was not so."""
    whose = rows["whose"].to_numpy()
    time = rows["time"].to_numpy().view(np.int64)  # no time is the least integer
    back = (whose[1:] < whose[:-1]) | ((whose[1:] == whose[:-1]) & (time[1:] < time[:-1]))
    if not back.any():
        return rows
    counts.unsorted += int(back.sum())
    return rows.sort("whose", "time", nulls_last=False, maintain_order=True)


def _with_facts(rows: pl.DataFrame, plan: Plan, own: bool, counts: Counts) -> pl.DataFrame:
    """Add what static fact a row tells: `what`, `column` and `level`, null for events."""
    marked = pl.col("domain")
    if not own:
        told = pl.col("time").is_null() | (pl.col("code") == BIRTH)
        marked = pl.when(told).then(pl.lit(STATIC)).otherwise(pl.lit(""))
    rows = rows.with_columns(marked=marked)
    facts = plan.facts.rename({"domain": "marked"})
    rows = rows.join(facts, on=["code", "marked"], how="left", maintain_order="left").drop("marked")
    # of several births the first one with a time is told of the subject
    births = rows["what"].eq_missing("birth").to_numpy()
    timed = np.flatnonzero(births & rows["time"].is_not_null().to_numpy())
    _, first = np.unique(rows["whose"].to_numpy()[timed], return_index=True)
    births[timed[first]] = False
    counts.births += int(births.sum())
    kept = pl.Series(~births)
    return rows.with_columns(what=pl.when(kept).then(pl.col("what")))


def _static(facts: pl.DataFrame, plan: Plan, n: int, counts: Counts) -> Table:
    """Return the static table of so many subjects from the rows that tell it."""
    schema = plan.schema.static
    columns: dict[str, NDArray[Any]] = {}
    states: dict[str, NDArray[np.int8]] = {}
    for i, column in enumerate(schema):
        if not column.is_learned:
            continue
        rows = facts.filter(pl.col("column") == i)
        values = _blank(column, n)
        told = rows.filter(pl.col("what") != "token")
        values[told["whose"].to_numpy()] = _read(told, column)
        columns[column.name] = values
        counts.facts_again += rows.height - rows["whose"].n_unique()
        if len(column.tokens) > 1:
            state = np.ones(n, np.int8)
            state[told["whose"].to_numpy()] = 0
            tokens = rows.filter(pl.col("what") == "token")
            state[tokens["whose"].to_numpy()] = tokens["level"].to_numpy()
            states[column.name] = state
    return Table(schema, np.arange(n, dtype=np.int64), columns, states)


def _blank(column: Column, n: int) -> NDArray[Any]:
    if column.is_coded:
        return np.full(n, -1, np.int32)
    if column.kind == "datetime":
        return np.full(n, "NaT", "datetime64[us]")
    return np.full(n, np.nan)


def _read(rows: pl.DataFrame, column: Column) -> NDArray[Any]:
    """Return the values of rows that tell one column."""
    what = rows["what"][0] if rows.height else "level"
    if what == "birth":
        return rows["time"].to_numpy()
    if what == "moment":
        read = rows["text"].str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        return read.to_numpy()
    if what == "number":
        return rows["value"].fill_null(np.nan).to_numpy()
    if what == "text":
        levels = pl.DataFrame({"text": column.categories, "at": range(len(column.categories))})
        found = rows.join(levels, on="text", how="left", maintain_order="left")["at"]
        return found.fill_null(-1).cast(pl.Int32).to_numpy()
    return rows["level"].to_numpy()


# ------------------------------------------------------------------ writing


def rows_of(events: Events, plan: Plan, ids: tuple[str, ...] = (), first: int = 0) -> pl.DataFrame:
    """Return histories as rows of MEDS, sorted by subject and time.

    Subjects have their `ids`, or are numbered from `first`.
    """
    codes = events.schema.codes
    domains = pl.Series([code.domain for code in codes], dtype=pl.String)
    units = pl.Series([code.unit for code in codes], dtype=pl.String)
    place = events.code.astype(np.int64)
    texts = pl.Series([*events.texts, None], dtype=pl.String)
    happened = pl.DataFrame(
        {
            "whose": events.whose,
            "time": events.time.astype("datetime64[us]"),
            "code": plan.names.gather(place),
            "value": events.value,
            "text": texts.gather(np.where(events.text < 0, len(events.texts), events.text)),
            "unit": units.gather(place),
            "domain": domains.gather(place),
            "end": events.end.astype("datetime64[us]"),
            "visit": pl.Series(events.visit).replace(-1, None),
        }
    )
    told = _told(events, plan)
    known = np.zeros(events.n_subjects, bool)
    known[events.whose] = True
    known[told["whose"].to_numpy()] = True
    unknown = np.flatnonzero(~known)
    mark = _fact_rows(unknown, pl.Series([MARK]).gather(np.zeros(unknown.size, np.int64)))
    rows = pl.concat([told, mark, happened], how="vertical_relaxed")
    rows = rows.sort("whose", "time", nulls_last=False, maintain_order=True)
    numbers = events.subjects + first
    if ids:
        numbers = np.array([int(ids[s]) for s in events.subjects], np.int64)
    return _as_meds(rows.with_columns(subject_id=pl.Series(numbers).gather(rows["whose"])))


def _as_meds(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows in the columns of the standard, and a float64 where float32 is too little."""
    value = pl.col("value").fill_nan(None)
    single = value.cast(pl.Float32)
    rows = rows.with_columns(
        value=value, numeric_value=single, back=single.cast(pl.String).cast(pl.Float64)
    )
    exact = pl.when(pl.col("back").ne_missing(pl.col("value"))).then(pl.col("value"))
    return rows.select(
        "subject_id", "time", "code", "numeric_value", pl.col("text").alias("text_value"),
        "unit", "domain", "end", "visit", exact.alias("exact_value"),
    )  # fmt: skip


def _told(events: Events, plan: Plan) -> pl.DataFrame:
    """Return a row for every static fact."""
    parts = [_fact_rows(np.zeros(0, np.int64), pl.Series([], dtype=pl.String))]
    table = events.static
    for i, column in enumerate(events.schema.static):
        if not column.is_learned:
            continue
        facts = plan.facts.filter(pl.col("column") == i)
        values, has = table.columns[column.name], table.present(column.name)
        state = table.state(column.name)
        held = np.flatnonzero(has & (state == 0))
        known = facts.filter(pl.col("what") != "token")
        what = known["what"][0] if known.height else ""
        if what == "level":
            parts.append(_fact_rows(held, known.sort("level")["code"].gather(values[held])))
        elif held.size:
            code = known["code"].gather(np.zeros(held.size, np.int64))
            parts.append(_fact_rows(held, code, what, values[held], column))
        for level, code in facts.filter(pl.col("what") == "token").select("level", "code").rows():
            so = np.flatnonzero(state == level)
            said = pl.Series([code]).gather(np.zeros(so.size, np.int64))
            parts.append(_fact_rows(so, said).with_columns(domain=pl.lit(MISSING)))
    return pl.concat(parts)


def _fact_rows(
    whose: NDArray[np.int64],
    code: pl.Series,
    what: str = "level",
    values: NDArray[Any] | None = None,
    column: Column | None = None,
) -> pl.DataFrame:
    """Return rows of facts, without a time but for births."""
    frame = pl.DataFrame({"whose": whose, "code": code.alias("code")})
    filled: dict[str, Any] = {
        name: pl.lit("" if name == "unit" else STATIC if name == "domain" else None, dtype)
        for name, dtype in _COLUMNS.items()
        if name not in ("subject_id", "code")
    }
    if values is not None and what == "birth":
        filled["time"] = pl.Series(values.astype("datetime64[us]"))
    elif values is not None and what == "moment":
        filled["text"] = pl.Series(np.datetime_as_string(values.astype("datetime64[us]")))
    elif values is not None and what == "number":
        filled["value"] = pl.Series(values)
    elif values is not None and what == "text" and column is not None:
        filled["text"] = pl.Series(column.categories, dtype=pl.String).gather(values)
    frame = frame.with_columns(**filled)
    return frame.select("whose", *(name for name in _COLUMNS if name != "subject_id"))
