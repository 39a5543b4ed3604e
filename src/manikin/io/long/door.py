"""Files of rows in and out: one event a row, or one visit a row with a column for each channel.

    long   subject, time, code, value, and what there is of text, unit, domain, end and visit
    wide   subject, time and a column for everything that is measured: visits, labs, hours

CSV and its kin, Parquet and Excel. Columns are recognised by their names, or named. In long rows
columns that say the same at every event of a subject are static facts; wide rows become events by
`manikin.data.panels`. These formats have no place to say that data are synthetic.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from manikin.data.cells import NUMBER, as_text, from_text
from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.identifiers import find_template, make_identifiers
from manikin.data.infer import infer_schema
from manikin.data.names import is_key
from manikin.data.panels import Panel, events_of, table_of
from manikin.data.parse import parse
from manikin.data.render import render
from manikin.data.schema import TableSchema, with_roles
from manikin.data.table import Table
from manikin.errors import InputError, ManikinError, SchemaError
from manikin.io.bounds import check_memory
from manikin.io.histories import History
from manikin.io.layout import Layout
from manikin.io.long.columns import ROLES, is_long, plain, roles_of
from manikin.io.long.rows import Look, events_of_rows, rows_of_events
from manikin.io.sniff import decode, records, sniff_delimiter, sniff_quote
from manikin.io.tables import SUFFIXES, layout_from_json, open_cells, suffix_of, writer
from manikin.synthesizer import Watch, report, silent

__all__ = ["read", "recognises", "write"]

_PEEK = 1 << 16  # bytes that tell a header
HELD = 5  # times its size that reading a CSV holds: 5.5 of one with 4 million events
HELD_FOLDED = 20  # and of a compressed file
_LOOK = dataclasses.fields(Look)
_NAMES = {"subject": "subject_id", "time": "time", "code": "code", "value": "value",
          "text": "text", "unit": "unit", "domain": "domain", "end": "end",
          "visit": "visit"}  # fmt: skip


def recognises(path: Path) -> bool:
    """Whether a file has the columns of one event a row."""
    low = path.name.lower()
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if low.endswith(s)), None)
    if suffix is None or not path.is_file():
        return False
    try:
        return is_long(_header(path, SUFFIXES[suffix]))
    except (ManikinError, OSError, EOFError, ValueError, pl.exceptions.PolarsError):
        return False


def _header(path: Path, format_: str) -> list[str]:
    """Return the names of a file's columns, reading no more than its beginning."""
    if format_ == "parquet":
        scanned = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        return list(scanned.collect_schema())
    if format_ != "csv":
        return []
    with path.open("rb") as file:
        raw = file.read(_PEEK)
    if raw[:2] == b"\x1f\x8b":
        with gzip.open(path) as unfolded:
            raw = unfolded.read(_PEEK)
    line = raw.partition(b"\n")[0] if not raw.startswith((b"\xff\xfe", b"\xfe\xff")) else raw
    text = decode(line, path.name)[0].decode("utf-8", errors="ignore")
    quote = sniff_quote(text)
    first = records(text, sniff_delimiter(text, quote), quote, 1)
    return [name for name, _ in first[0]] if first else []


def read(
    source: Path | str,
    *,
    schema: EventSchema | None = None,
    subject: str | None = None,
    time: str | None = None,
    watch: Watch = silent,
) -> History:
    """Read rows of events, or of visits where no column holds codes.

    `subject` and `time` name columns whose own names do not tell. Raises InputError for rows
    without a subject or code and for what is no time, with counts.
    """
    report(watch, 0, 2, "reading")
    _check_memory(Path(source))
    cells, layout = open_cells(Path(source))
    columns = roles_of(cells.columns, {"subject": subject, "time": time})
    if "subject" not in columns:
        raise InputError(
            f"no column of '{Path(source).name}' says whose a row is",
            f"a column such as {', '.join(ROLES['subject'][:5])}",
            "name it (--subject)",
        )
    report(watch, 1, 2, "sorting")
    rows = "code" in columns and ("value" in columns or "text" in columns or _log(cells, columns))
    found = _long(cells, layout, columns, schema) if rows else _wide(cells, layout, columns, schema)
    said = {**found.layout, "suffix": suffix_of(source)}
    return dataclasses.replace(found, layout=json.loads(json.dumps(said)))


def _check_memory(path: Path) -> None:
    """Raise InputError for rows that do not fit into memory: they are sorted all together."""
    if path.is_file():
        folded = path.suffix.lower() in (".gz", ".parquet", ".pq", ".xlsx")
        check_memory(path.stat().st_size, HELD_FOLDED if folded else HELD, f"'{path.name}'",
                     "write them as MEDS or OMOP, which are read in parts; or files of fewer"
                     " subjects, one after the other")  # fmt: skip


def _log(cells: pl.DataFrame, columns: Mapping[str, str]) -> bool:
    """Whether a column of codes without values is a log of events, not one channel of several.

    It is called code, or holds words and stands beside subject, time and keys alone.
    """
    if plain(columns["code"]).endswith("code"):
        return True
    others = [name for name in cells.columns if name not in columns.values() and not is_key(name)]
    words = as_text(cells[columns["code"]]).str.contains(NUMBER)
    return not others and "time" in columns and not words.any()


def _long(
    cells: pl.DataFrame, layout: Layout, columns: Mapping[str, str], schema: EventSchema | None
) -> History:
    typed = layout.format != "csv"
    events, look, ids, odd = events_of_rows(cells, columns, schema, typed=typed)
    said: dict[str, Any] = {"kind": "long", "look": dataclasses.asdict(look)}
    said |= _file(layout, cells, columns["subject"], look.order)
    return History(events, "long", ids=ids, notes=tuple(odd), layout=said)


def _wide(
    cells: pl.DataFrame, layout: Layout, columns: Mapping[str, str], schema: EventSchema | None
) -> History:
    subject, time = columns["subject"], columns.get("time")
    typed = layout.format != "csv"
    if schema is not None:
        raise SchemaError(
            "a schema of histories for rows of visits",
            "no schema: codes are the columns, and what they hold is inferred",
            "leave it out, or write rows of subject, time, code and value",
        )
    table_schema = infer_schema(cells, subject=subject, learned=(time,), typed=typed)
    if time is not None and table_schema[time].kind == "ordinal":
        table_schema = with_roles(table_schema, time=time)
    table = parse(cells, table_schema)
    if time is not None and table_schema[time].kind not in ("datetime", "integer", "continuous"):
        time = None  # a visit's name is no time: rows are in order
    step: Any = next((s for s in ("week", "month", "hour") if s in plain(time or "")), "day")
    events, panel = events_of(table, time=time, step=step)
    aside = [c.name for c in table_schema if not c.is_learned and c.name != subject]
    notes = [f"Set aside: {', '.join(aside)} (free text or keys)."] if aside else []
    if time is None:
        notes.append("No column says when a row is: rows are a day apart, in their order.")
    names = tuple(as_text(cells[subject]).unique(maintain_order=True))
    ids = () if names == tuple(map(str, range(len(names)))) else names
    said = {"kind": "wide", "panel": panel.to_json()}
    said |= _file(layout, cells, subject, tuple(cells.columns))
    return History(events, "long", ids=ids, notes=tuple(notes), layout=said)


def _file(
    layout: Layout, cells: pl.DataFrame, subject: str, order: tuple[str, ...]
) -> dict[str, Any]:
    """Say how the file is written: nothing of it hangs on a cell."""
    # a header that differs from the names is dropped: columns may be left out
    plain_look = dataclasses.replace(
        Layout(), format=layout.format, names=order, delimiter=layout.delimiter,
        line_ending=layout.line_ending, compressed=layout.compressed, sheet=layout.sheet,
    )  # fmt: skip
    template = find_template(as_text(cells[subject]).unique())
    return {
        "file": dataclasses.asdict(plain_look),
        "subject": {"name": subject, "template": template, "dtype": str(cells[subject].dtype)},
    }


# ------------------------------------------------------------------ writing


def write(
    blocks: Iterable[Events],
    out: Path,
    *,
    layout: Mapping[str, Any],
    synthetic: bool,
    ids: tuple[str, ...] = (),
) -> None:
    """Write histories as rows, block after block; all of them or nothing.

    Without a `layout` they are one event a row. `synthetic` has no place in these formats.
    """
    del synthetic
    path = Path(out)
    _check(layout)
    if path.suffix == "":
        path = path.with_name(path.name + str(layout.get("suffix", ".csv")))
    file = layout_from_json(layout.get("file")) if layout.get("file") else None
    panel = Panel.from_json(layout["panel"]) if layout.get("kind") == "wide" else None
    look: Look | None = None
    typed = SUFFIXES.get(path.suffix.lower()) in ("parquet", "excel")
    first = 0
    with writer(path, file) as sink:
        for events in blocks:
            names = _names(events, layout, ids)
            if panel is not None:
                table = table_of(events, panel)
                frame = render(table, first_row=sink.rows, first_subject=0)
                own = str(layout["subject"]["name"])
                names = names.gather(np.searchsorted(events.subjects, table.subjects))
                frame = frame.with_columns(names.alias(own))
            else:
                look = look or _look(events.schema, layout)
                frame = rows_of_events(events, look, names, typed=typed, first=first)
            first += events.n_subjects
            sink.put(frame, Table(TableSchema(()), np.arange(frame.height), {}))


def _check(layout: Mapping[str, Any]) -> None:
    """Raise SchemaError for a layout that `read` did not make: it may be a stranger's."""
    look, told = layout.get("look"), layout.get("subject", {})
    texts = isinstance(told, Mapping) and all(isinstance(text, str) for text in told.values())
    fits = texts and layout.get("suffix", ".csv") in SUFFIXES
    if layout.get("kind") == "wide":
        fits = fits and isinstance(layout.get("panel"), Mapping) and "name" in told
    if look is not None:
        fits = fits and isinstance(look, Mapping) and set(look) == {f.name for f in _LOOK}
        for key in ("columns", "times") if fits else ():
            named = look[key]
            fits = fits and isinstance(named, Mapping) and set(named) <= set(ROLES)
            fits = fits and all(isinstance(text, str) for text in named.values())
        order = look["order"] if fits else []
        fits = fits and isinstance(order, list | tuple) and all(isinstance(c, str) for c in order)
    if not fits:
        raise SchemaError(
            "a description of rows that is none",
            "the layout as it was read",
            "use the file as it was written",
        )


def _names(events: Events, layout: Mapping[str, Any], ids: tuple[str, ...]) -> pl.Series:
    """Return the name of each subject: its own, or a new one of the source's shape."""
    told = layout.get("subject", {})
    if ids:
        text = pl.Series([ids[s] for s in events.subjects.tolist()], dtype=pl.String)
    elif "template" in told:
        text = make_identifiers(told["template"], events.subjects)
    else:
        return pl.Series(events.subjects)
    return from_text(text, told["dtype"] if "dtype" in told else None)


def _look(schema: EventSchema, layout: Mapping[str, Any]) -> Look:
    """Return the look of the source's rows, or a plain one with all columns."""
    told = layout.get("look")
    facts = [column.name for column in schema.static]
    if isinstance(told, Mapping):
        return Look(dict(told["columns"]), tuple(told["order"]), dict(told["times"]),
                    bool(told["mixed"]))  # fmt: skip
    if taken := sorted(set(facts) & set(_NAMES.values())):
        raise SchemaError(
            f"static columns with the names of events' own columns: {', '.join(taken)}",
            "other names in rows of one event each",
            "rename them, or choose another format",
        )
    return Look(_NAMES, (*_NAMES.values(), *facts))
