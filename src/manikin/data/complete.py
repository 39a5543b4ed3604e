"""What a schema written by hand leaves open about how cells are written, read from the cells.

Only spelling is filled in: decimals of a continuous column, a date's format, an identifier's
template, the type in a typed source. What the cells may say (kinds, categories, bounds, missing
marks) is left as it was declared. Under a privacy budget no cell is looked at: what the schema
leaves open is asked for.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from manikin.data.cells import NUMBER, as_text, spelling
from manikin.data.dates import find_format
from manikin.data.identifiers import find_template
from manikin.data.rules import Combinations
from manikin.data.schema import Column, TableSchema
from manikin.errors import PrivacyError

if TYPE_CHECKING:
    import polars

__all__ = ["complete", "complete_unread"]


def complete(schema: TableSchema, frame: polars.DataFrame, *, typed: bool) -> TableSchema:
    """Return the schema with the spelling of its columns filled in where nothing is said."""
    columns = tuple(
        _complete(column, frame[column.name], typed) if column.name in frame.columns else column
        for column in schema
    )
    return schema if columns == schema.columns else dataclasses.replace(schema, columns=columns)


def _complete(column: Column, series: polars.Series, typed: bool) -> Column:
    if typed and column.dtype is None:
        dtype = str(series.dtype).partition("(categories")[0]
        column = dataclasses.replace(column, dtype=dtype)
    wanted = (
        (column.kind == "identifier" and column.template is None)
        or (column.kind == "continuous" and column.decimals == 0)
        or (column.kind == "datetime" and column.date_format is None)
    )
    if not wanted:
        return column
    text = as_text(series).unique(maintain_order=True)
    text = text.filter(~text.is_in(list(column.tokens)))
    if column.kind == "identifier":
        return dataclasses.replace(column, template=find_template(text))
    if column.kind == "datetime":
        found = find_format(text, np.ones(len(text)))
        return dataclasses.replace(column, date_format=found.pattern if found else None)
    numbers = text.filter(text.str.strip_chars().str.contains(NUMBER))
    return dataclasses.replace(column, **spelling(numbers, typed=column.dtype is not None))  # type: ignore[arg-type]


# ---------------------------------------------------------------------------- unread
_UNREAD = {"continuous": "Float64", "integer": "Int64"}  # types that a workbook is written with
_ORDERED = ("ordinal", "boolean")
_BUY = ". Ranges and levels can also be bought with a share of the budget: --discover 0.1"
_TEMPLATES = "9999999"  # of identifiers that are numbers in a typed source


def complete_unread(
    schema: TableSchema, frame: polars.DataFrame, format_: str, *, bought: bool = False
) -> TableSchema:
    """Return the schema with what follows from the file's own types, and from no cell.

    Raises PrivacyError for what only the cells could tell, naming the columns; but for ranges and
    levels where these will be `bought`. What has an order or a spelling cannot be.
    """
    columns = tuple(_from_type(column, frame, format_) for column in schema)
    dateless = [c.name for c in columns if c.kind == "datetime" and c.date_format is None]
    unbound = [c.name for c in schema if c.is_numeric and None in (c.minimum, c.maximum)]
    unnamed = [c.name for c in schema if c.kind == "categorical" and not c.categories]
    unordered = [c.name for c in schema if c.kind in _ORDERED and not c.categories]
    unsaid = [c.name for c in columns if c.kind == "continuous" and c.decimals == 0]
    seen = [
        " and ".join(rule.columns)
        for rule in schema.rules
        if isinstance(rule, Combinations) and rule.allowed is None
    ]
    can_be_bought = [
        (unbound, "say 'minimum' and 'maximum', as publicly known"),
        (unnamed, "list the 'categories', as publicly known"),
    ]
    todo = [
        *([] if bought else can_be_bought),
        (unordered, "list the 'categories' in their order (of a boolean: false, true)"),
        (dateless, "say 'date_format', such as %Y-%m-%d"),
        (unsaid, "say 'decimals' (of whole numbers: kind integer)"),
        (seen, "list the 'allowed' combinations, or drop the rule"),
    ]
    if any(names for names, _ in todo):
        can = _BUY if (unbound or unnamed) and not bought else ""
        raise PrivacyError(
            "a privacy budget, and a schema that leaves open what cells may hold or how they are"
            " spelt: " + "; ".join(", ".join(names) for names, _ in todo if names),
            "a schema that says it: read from the cells, it would tell of single patients",
            "; ".join(f"{', '.join(names)}: {what}" for names, what in todo if names) + can,
        )
    return dataclasses.replace(schema, columns=columns)


def _from_type(column: Column, frame: polars.DataFrame, format_: str) -> Column:
    """Fill in what the type of the file's column says; a workbook's cells have types, not it."""
    if format_ == "csv" or column.name not in frame.columns:
        return column
    if column.dtype is None:
        dtype = str(frame[column.name].dtype).partition("(categories")[0]
        if format_ == "excel":
            dtype = _UNREAD.get(column.kind, "String")
        column = dataclasses.replace(column, dtype=dtype)
    kind = str(column.dtype).partition("(")[0]
    if column.kind == "datetime" and column.date_format is None and kind in ("Date", "Datetime"):
        written = "%Y-%m-%d" if kind == "Date" else "%Y-%m-%d %H:%M:%S"
        return dataclasses.replace(column, date_format=written)
    if column.kind == "identifier" and column.template is None and "Int" in kind:
        return dataclasses.replace(column, template=_TEMPLATES)
    return column
