"""Dataset-JSON 1.1, in and out: one data set a file, as one JSON document or as NDJSON.

CDISC Dataset-JSON v1.1 (2024): the attributes of the file and of its columns, then rows as arrays
in the order of the columns. In the NDJSON form the first line holds the attributes and each other
line one row.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import polars as pl

from manikin.errors import InputError
from manikin.io.bounds import check_width

__all__ = ["is_dataset_json", "read_dataset_json", "write_dataset_json"]

VERSION = "1.1.0"
_NUMBERS = ("integer", "float", "double", "decimal")
_TYPES = (*_NUMBERS, "string", "boolean", "datetime", "date", "time", "URI")


def is_dataset_json(path: Path) -> bool:
    """Whether a file says near its beginning that it is Dataset-JSON."""
    with path.open("rb") as file:
        return b'"datasetJSON' in file.read(4096)


def write_dataset_json(
    file: IO[bytes],
    name: str,
    label: str,
    labels: Mapping[str, str],
    lengths: Mapping[str, int],
    parts: Iterator[pl.DataFrame],
    columns: Sequence[tuple[str, bool]],
    *,
    records: int,
    study: str,
    lines: bool,
) -> None:
    """Write one data set, part after part; `lines` for the NDJSON form."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    told: dict[str, Any] = {
        "datasetJSONCreationDateTime": now,
        "datasetJSONVersion": VERSION,
        "originator": "Manikin",
        "studyOID": study,
        "metaDataRef": "define.json",
        "itemGroupOID": f"IG.{name}",
        "records": records,
        "name": name,
        "label": label,
        "columns": [
            {
                "itemOID": f"IT.{name}.{column}",
                "name": column,
                "label": labels.get(column, column),
                "dataType": "double" if number else "string",
                **({} if number else {"length": max(1, lengths[column])}),
            }
            for column, number in columns
        ],
    }
    head = json.dumps(told, ensure_ascii=False)
    if lines:
        file.write(head.encode() + b"\n")
    else:
        file.write(head[:-1].encode() + b', "rows": [')
    first = True
    for part in parts:
        if part.height == 0:
            continue
        rows = pl.DataFrame(
            [_cells(part[column], number).alias(column) for column, number in columns]
        )
        text = rows.select(_joined(rows.columns)).to_series()
        if not lines:
            file.write(b"\n" if first else b",\n")
        file.write(text.str.join("\n" if lines else ",\n").item().encode())
        if lines:
            file.write(b"\n")
        first = False
    if not lines:
        file.write(b"\n]}\n")


def _cells(cells: pl.Series, number: bool) -> pl.Series:
    """Return cells as JSON values."""
    if number:
        text = cells.cast(pl.Float64).fill_nan(None).cast(pl.String).str.replace(r"\.0$", "")
        return text.fill_null("null")
    cells = cells.fill_null("").alias("cell")
    spelled = cells.unique()  # texts repeat, so each is quoted once
    quoted = [json.dumps(text, ensure_ascii=False) for text in spelled]
    table = pl.DataFrame({"cell": spelled, "json": pl.Series(quoted, dtype=pl.String)})
    found = cells.to_frame().join(table, on="cell", how="left", maintain_order="left")
    return found["json"]


def _joined(names: list[str]) -> pl.Expr:
    return pl.concat_str([pl.lit("["), pl.concat_str(names, separator=","), pl.lit("]")]).alias(
        "row"
    )


def read_dataset_json(path: Path) -> tuple[pl.DataFrame, str, str]:
    """Return a data set, its name and its label, from either form.

    Raises InputError for a damaged file, for rows that are not as long as the columns are many,
    and for fewer rows than the file says that it has.
    """
    told, rows = _load(path)
    columns = told.get("columns")
    if not isinstance(columns, list) or not columns or not isinstance(rows, list):
        raise _wrong(path, "it has no columns or no rows")
    check_width(len(columns), path.name)
    names, kinds = [], []
    for column in columns:
        name = column.get("name") if isinstance(column, Mapping) else None
        kind = column.get("dataType") if isinstance(column, Mapping) else None
        if not isinstance(name, str) or kind not in _TYPES or name in names:
            raise _wrong(path, "a column has no name of its own, or a type that there is not")
        names.append(name)
        kinds.append(str(kind))
    uneven = sum(not isinstance(row, list) or len(row) != len(names) for row in rows)
    if uneven:
        raise _wrong(path, f"{uneven:,} rows are not as long as the columns are many")
    records = told.get("records")
    if isinstance(records, int) and records != len(rows):
        raise _wrong(path, f"it says {records:,} records and has {len(rows):,}")
    cells = zip(*rows, strict=True) if rows else iter([()] * len(names))
    made = {}
    for name, kind, values in zip(names, kinds, cells, strict=True):
        made[name] = _column(path, name, kind, list(values))
    return pl.DataFrame(made), str(told.get("name", "")), str(told.get("label", ""))


def _column(path: Path, name: str, kind: str, values: list[Any]) -> pl.Series:
    if any(isinstance(value, list | dict) for value in values):
        raise _wrong(path, f"column '{name[:40]}' holds lists or objects")
    if kind in _NUMBERS:
        try:
            numbers = [None if v in (None, "") else float(v) for v in values]
        except (TypeError, ValueError):
            bad = sum(not isinstance(v, int | float) for v in values if v is not None)
            what = f"column '{name[:40]}' has {bad:,} cells that are no number"
            raise _wrong(path, what) from None
        return pl.Series(name, numbers, dtype=pl.Float64)
    text = [None if v is None else v if isinstance(v, str) else str(v) for v in values]
    return pl.Series(name, text, dtype=pl.String)


def _load(path: Path) -> tuple[Mapping[str, Any], Any]:
    """Return the attributes of a file and its rows."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".ndjson":
            lines = text.splitlines()
            told = json.loads(lines[0]) if lines else None
            rows: Any = json.loads("[" + ",".join(line for line in lines[1:] if line.strip()) + "]")
        else:
            told = json.loads(text)
            rows = told.get("rows", []) if isinstance(told, Mapping) else None
    except (OSError, ValueError, RecursionError) as error:
        raise _wrong(path, "it is cut off, or no JSON in UTF-8") from error
    if not isinstance(told, Mapping) or not str(told.get("datasetJSONVersion")).startswith("1.1"):
        raise _wrong(path, "it does not say that it is version 1.1")
    return told, rows


def _wrong(path: Path, what: str) -> InputError:
    return InputError(
        f"'{path.name}' cannot be read as Dataset-JSON: {what}",
        "a whole file of Dataset-JSON 1.1, as JSON or NDJSON",
        "export or copy the file again",
    )
