"""One event a row: rows into histories and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from manikin.data.cells import NUMBER, as_text
from manikin.data.codes import Clock, Code, Domain, EventSchema
from manikin.data.events import Events
from manikin.data.infer import infer_schema
from manikin.data.panels import ORIGIN
from manikin.data.parse import parse
from manikin.data.render import render
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, SchemaError
from manikin.io.long.columns import ROLES, moments

__all__ = ["Look", "events_of_rows", "rows_of_events"]

STEP = 86_400 * 10**6  # microseconds that a time of one stands for: a day
FEWEST = 5  # subjects that have a text, for it to be a level
MOST_LEVELS = 50
_KEY = ("code", "unit", "domain")
_CLOCKS: tuple[Clock, ...] = ("day", "hour", "minute", "second")
_LENGTHS = {"day": STEP, "hour": STEP // 24, "minute": 60 * 10**6, "second": 10**6, "us": 1}
_BIRTHS, _SEXES = ("birth", "birthdate", "birth_date", "dob", "date_of_birth"), ("sex", "gender")
_DAY, _SECONDS, _MICRO = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%.6f"


@dataclass(frozen=True)
class Look:
    """How the rows of a file are written."""

    columns: Mapping[str, str]  # role → name of the column
    order: tuple[str, ...]  # all columns that are kept
    times: Mapping[str, str] = field(default_factory=dict)  # time and end: "number", a format, ""
    mixed: bool = False  # whether texts stand in the column of numbers


def events_of_rows(
    cells: pl.DataFrame, columns: Mapping[str, str], schema: EventSchema | None, *, typed: bool
) -> tuple[Events, Look, tuple[str, ...], list[str]]:
    """Return histories, the look of the rows, names of subjects, and notes."""
    odd: list[str] = []
    rows, written = _in_one_form(cells, columns, odd)
    whose, ids = _numbered(cells[columns["subject"]])
    rows = rows.with_columns(whose=whose)
    nothing = rows["code"] == ""
    alone = nothing & rows["time"].is_null() & rows["value"].is_null() & rows["text"].is_null()
    if n := int((nothing & ~alone).sum()):
        raise InputError(
            f"{n:,} of {rows.height:,} rows have no '{columns['code']}'",
            "every row says what happened",
            "fill them in, or leave those rows out",
        )
    # a row of a subject and nothing else says that there is one
    others = [name for name in cells.columns if name not in columns.values()]
    facts, left = _facts(cells.select(others), whose.to_numpy(), schema, typed=typed)
    if left:
        odd.append(f"Columns that change within a subject are not kept: {', '.join(left)}.")
    rows = rows.filter(~alone)
    _count(rows, odd)
    found = schema or _schema(rows, facts.schema)
    rows = _placed(rows, found)
    texts = rows["text"].drop_nulls().unique(maintain_order=True)
    at = pl.DataFrame({"text": texts, "at": np.arange(texts.len(), dtype=np.int32)})
    rows = rows.join(at, on="text", how="left", maintain_order="left")
    events = Events.of(
        found, facts, rows["whose"].to_numpy(), rows["time"].to_numpy(),
        rows["place"].to_numpy(), rows["value"].fill_null(np.nan).to_numpy(),
        rows["at"].fill_null(-1).to_numpy(), rows["end"].to_numpy(),
        rows["visit"].fill_null(-1).to_numpy(), tuple(texts),
    )  # fmt: skip
    kept = {role: columns[role] for role in columns if role in ROLES}
    order = tuple(c for c in cells.columns if c in kept.values() or c in facts.schema)
    mixed = bool(written.pop("mixed", "")) and "text" not in columns
    return events, Look(kept, order, written, mixed), ids, odd


def _in_one_form(
    cells: pl.DataFrame, columns: Mapping[str, str], odd: list[str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return code, time, value, text, unit, domain, end and visit of each row."""
    n = cells.height
    written: dict[str, str] = {}
    made: dict[str, Any] = {"code": as_text(cells[columns["code"]]).str.strip_chars()}
    for role in ("time", "end"):
        if role in columns:
            made[role], written[role] = moments(cells[columns[role]], STEP, odd)
        else:
            made[role] = pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, n)
    for role in ("unit", "domain"):
        held = as_text(cells[columns[role]]) if role in columns else pl.Series([""])
        made[role] = held if role in columns else held.new_from_index(0, n)
    blank = pl.Series([None], dtype=pl.String).new_from_index(0, n)
    made["text"] = as_text(cells[columns["text"]]).replace("", None) if "text" in columns else blank
    told = as_text(cells[columns["value"]]).str.strip_chars() if "value" in columns else blank
    told = told.replace("", None)
    made["value"] = told.cast(pl.Float64, strict=False)
    words = told.is_not_null() & made["value"].is_null()
    if words.any():
        written["mixed"] = "yes"
        if int((words & made["text"].is_not_null()).sum()):
            raise InputError(
                f"{int(words.sum()):,} cells of '{columns['value']}' are no number",
                "numbers, as texts have a column of their own",
                "move them to the column of texts",
            )
        made["text"] = told.zip_with(words, made["text"])
    made["spelled"] = told
    if "visit" in columns:
        made["visit"] = as_text(cells[columns["visit"]]).replace("", None)
    frame = pl.DataFrame({name: series.alias(name) for name, series in made.items()})
    return frame, written


def _numbered(subjects: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    """Number subjects in order of appearance, and return the name of each."""
    text = as_text(subjects).str.strip_chars()
    if n := int((text == "").sum()):
        raise InputError(
            f"{n:,} of {len(text):,} rows have no '{subjects.name}'",
            "every row says whose it is",
            "fill them in, or leave those rows out",
        )
    names = text.unique(maintain_order=True)
    table = pl.DataFrame({"name": names, "whose": np.arange(len(names), dtype=np.int64)})
    joined = text.alias("name").to_frame().join(table, on="name", maintain_order="left", how="left")
    ids = tuple(names)
    plain = ids == tuple(map(str, range(len(ids))))
    return joined["whose"], () if plain else ids


def _facts(
    others: pl.DataFrame, whose: NDArray[np.int64], schema: EventSchema | None, *, typed: bool
) -> tuple[Table, list[str]]:
    """Return what is told once a subject, and the columns that change within one."""
    _, first = np.unique(whose, return_index=True)
    left = []
    for name in others.columns:
        text = as_text(others[name])
        if not (text == text.gather(first[whose])).all():
            left.append(name)
    if schema is not None:
        names = [column.name for column in schema.static]
        lacking = [name for name in names if name not in others.columns or name in left]
        if lacking:
            raise SchemaError(
                f"static columns that are not there, or change within a subject: "
                f"{', '.join(lacking[:5])}",
                "a value a subject in every static column of the schema",
                "correct the schema, or the rows",
            )
        left = [name for name in left if name not in names]
    else:
        names = [name for name in others.columns if name not in left]
    subjects = np.arange(first.size, dtype=np.int64)
    if not names:
        return Table(TableSchema(()), subjects, {}), left
    once = others.select(names).gather_every(1)[first]
    table = parse(once, schema.static if schema else infer_schema(once, typed=typed))
    return Table(table.schema, subjects, table.columns, table.states), left


def _count(rows: pl.DataFrame, odd: list[str]) -> None:
    whose, time = rows["whose"].to_numpy(), rows["time"].to_numpy().view(np.int64)
    back = (whose[1:] < whose[:-1]) | ((whose[1:] == whose[:-1]) & (time[1:] < time[:-1]))
    again = rows.height - rows.hash_rows().n_unique() if rows.height else 0
    if n := int(back.sum()):
        odd.append(f"{n:,} rows were not sorted by subject and time; they were sorted.")
    if again:
        odd.append(f"{again:,} rows are there more than once; all were kept.")
    if n := rows["time"].null_count():
        odd.append(f"{n:,} events have no time.")


def _schema(rows: pl.DataFrame, static: TableSchema) -> EventSchema:
    """Return the schema that rows show."""
    number = pl.col("spelled").str.contains(NUMBER)
    places = pl.when(number).then(pl.col("spelled").str.extract(r"\.(\d*)").str.len_bytes())
    found = rows.group_by(_KEY).agg(
        pl.col("value").is_not_null().any().alias("numeric"),
        places.max().fill_null(0).alias("decimals"),
    ).sort(_KEY)  # fmt: skip
    texts = rows.filter(pl.col("text").is_not_null()).group_by(*_KEY, "text")
    counted = texts.agg(pl.col("whose").n_unique().alias("subjects"))
    few = counted.group_by(_KEY).agg(pl.len().alias("n")).filter(pl.col("n") <= MOST_LEVELS)
    kept = counted.filter(pl.col("subjects") >= FEWEST).join(few, on=_KEY).sort("text")
    levels: dict[tuple[str, ...], tuple[str, ...]] = {}
    for *key, text in kept.select(*_KEY, "text").iter_rows():
        levels[tuple(key)] = (*levels.get(tuple(key), ()), text)
    codes = []
    for code, unit, domain, numeric, decimals in found.iter_rows():
        known: Domain = domain if domain in get_args(Domain) else _guess(code, numeric)
        codes.append(Code(code, known, unit=unit, numeric=numeric, decimals=min(decimals, 12),
                          levels=levels.get((code, unit, domain), ())))  # fmt: skip
    times = [rows[name].drop_nulls().to_numpy().view(np.int64) for name in ("time", "end")]
    clock: Clock = next(
        (c for c in _CLOCKS if not any((t % _LENGTHS[c]).any() for t in times)), "us"
    )
    dates = [c.name for c in static if c.kind == "datetime" and c.name.lower() in _BIRTHS]
    sexes = [c.name for c in static if c.is_coded and c.name.lower() in _SEXES]
    return EventSchema(static, tuple(dict.fromkeys(codes)), birth=dates[0] if dates else "",
                       sex=sexes[0] if sexes else "", clock=clock)  # fmt: skip


def _guess(code: str, numeric: bool) -> Domain:
    if code.lower() in ("death", "meds_death", "died"):
        return "death"
    return "measurement" if numeric else "observation"


def _placed(rows: pl.DataFrame, schema: EventSchema) -> pl.DataFrame:
    """Add the place of each row's code in the schema, and its visit as a number."""
    codes = pl.DataFrame(
        [(c.name, c.unit, c.domain, i) for i, c in enumerate(schema.codes)],
        schema={"code": pl.String, "unit": pl.String, "domain": pl.String, "place": pl.Int32},
        orient="row",
    )
    whole = rows.join(codes, on=_KEY, how="left", maintain_order="left")
    # what says nothing of its domain is the code of that name and unit
    alone = codes.unique(["code", "unit"], keep="none", maintain_order=True).drop("domain")
    rows = whole.join(alone, on=["code", "unit"], how="left", maintain_order="left", suffix="_by")
    place = pl.col("place").fill_null(pl.col("place_by"))
    several = codes.unique(["code", "unit"], keep="first", maintain_order=True).drop("domain")
    rows = rows.join(several, on=["code", "unit"], how="left", maintain_order="left", suffix="_of")
    rows = rows.with_columns(place=place.fill_null(pl.col("place_of")))
    if n := rows["place"].null_count():
        raise SchemaError(
            f"{n:,} rows of {rows.filter(pl.col('place').is_null())['code'].n_unique():,} codes"
            " that the schema does not have",
            "the codes and units that are declared",
            "add them to the schema, or leave those rows out",
        )
    if "visit" not in rows.columns:
        return rows.with_columns(visit=pl.lit(None, pl.Int32))
    visits = rows["visit"].cast(pl.Int64, strict=False)
    small = visits.null_count() == rows["visit"].null_count() and visits.is_between(0, 10**6).all()
    number = pl.col("visit").rank("dense").over("whose") - 1
    return rows.with_columns(visit=visits.cast(pl.Int32) if small else number.cast(pl.Int32))


# ------------------------------------------------------------------ writing


def rows_of_events(
    events: Events, look: Look, names: pl.Series, *, typed: bool, first: int = 0
) -> pl.DataFrame:
    """Return histories as rows; `names` are those of the subjects, (subjects,)."""
    schema = events.schema
    counts = events.counts
    silent = np.flatnonzero(counts == 0)
    whose = np.concatenate([events.whose, silent])
    order = np.argsort(whose, kind="stable")
    whose = whose[order]

    def column(values: pl.Series) -> pl.Series:
        missing = pl.Series([None], dtype=values.dtype).new_from_index(0, silent.size)
        return pl.concat([values, missing]).gather(order)

    place = events.code.astype(np.int64)

    def of_code(what: str) -> pl.Series:
        told = pl.Series([getattr(code, what) for code in schema.codes], dtype=pl.String)
        return column(told.gather(place))

    texts = pl.Series([*events.texts, None], dtype=pl.String)
    said = texts.gather(np.where(events.text < 0, len(events.texts), events.text))
    value = pl.Series(events.value).fill_nan(None)
    made: dict[str, pl.Series] = {
        "subject": names.gather(whose),
        "time": column(_written(events.time, look.times.get("time"), schema.clock, typed)),
        "code": of_code("name"),
        "unit": of_code("unit"),
        "domain": of_code("domain"),
        "end": column(_written(events.end, look.times.get("end"), schema.clock, typed)),
        "visit": column(pl.Series(events.visit).cast(pl.Int64).replace(-1, None)),
    }
    if look.mixed:
        made["value"] = column(pl.select(pl.coalesce(_spelled(value), said)).to_series())
    else:
        made["value"] = column(value if typed else _spelled(value))
        made["text"] = column(said)
    facts = render(events.static, first_row=first, first_subject=first)
    frame = {look.columns[role]: made[role] for role in made if role in look.columns}
    frame |= {name: facts[name].gather(whose) for name in facts.columns if name in look.order}
    return pl.DataFrame({name: frame[name] for name in look.order})


def _spelled(value: pl.Series) -> pl.Series:
    """Write the shortest decimal of each number, whole ones without a point."""
    return value.cast(pl.String).str.strip_suffix(".0")


def _written(
    time: NDArray[np.datetime64], pattern: str | None, clock: Clock, typed: bool
) -> pl.Series:
    """Write times as a source did, or finer where that would lose something."""
    series = pl.Series(time.astype("datetime64[us]"))
    if typed and pattern != "number":
        return series
    if pattern == "number":
        days = (series.cast(pl.Int64) - int(ORIGIN.astype(np.int64))) / STEP
        return days if typed else _spelled(days)
    asked = pattern or (_DAY if clock == "day" else _SECONDS)
    tried = (_exactly(pattern, series) for pattern in (asked, _SECONDS))
    exact = next((text for text in tried if text is not None), None)
    return series.dt.to_string(_MICRO) if exact is None else exact


def _exactly(pattern: str, series: pl.Series) -> pl.Series | None:
    """Write times by a pattern; None where reading them again would not give the same."""
    from manikin.data.dates import read_dates, write_dates

    text = write_dates(series.to_numpy(), pattern)
    back = read_dates(text.fill_null(""), pattern)
    return text if back.equals(series.alias(back.name), null_equal=True) else None
