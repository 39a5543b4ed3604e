"""The code of every column from public facts alone: a declared schema, and no row.

What a differentially private method may know of a column before it has paid for anything is what a
person declared: categories, bounds, marks, decimals. Numbers lie on an even grid between their
bounds; what lies outside counts as the nearest.
"""

from __future__ import annotations

import math

import numpy as np

from manikin.data.schema import Column, TableSchema
from manikin.errors import PrivacyError
from manikin.synthesizers.table._cells import Cells, CodedCells, NumericCells
from manikin.synthesizers.table._dates import Dates
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["FINE", "public_encoding"]

FINE = 1024  # cells of a number column, at most
DAY_S, SECOND_S = 86400.0, 1.0


def public_encoding(schema: TableSchema, static: frozenset[str] = frozenset()) -> Encoding:
    """Return the encoding of a declared schema.

    Raises PrivacyError for a schema that was inferred from the rows, and for columns of which it
    does not say what they may hold.
    """
    if not schema.declared:
        raise PrivacyError(
            "a privacy budget, and a schema that was inferred from the rows",
            "a schema that a person declared: what is inferred has seen everybody's values",
            "write one with: manikin schema DATA > schema.yaml; correct it, give it with --schema",
        )
    open_ends = [column.name for column in schema.learned if not _closed(column)]
    if open_ends:
        raise PrivacyError(
            f"columns that the schema leaves open: {', '.join(open_ends)}",
            "categories of every coded column, minimum and maximum of every number and date",
            "declare them from what is publicly known, never from the rows",
        )
    if not schema.learned:
        raise PrivacyError(
            "a schema without a column to learn", "one that tells of persons", "declare one"
        )
    dates = _dates(schema)
    cells = tuple(_cells(column, dates) for column in schema.learned)
    names = tuple(column.name for column in schema.learned)
    lasting = tuple(name in static for name in names)
    return Encoding(schema, names, cells, {}, (), dates, lasting, {})


def _closed(column: Column) -> bool:
    if column.is_coded:
        return bool(column.categories)
    return column.minimum is not None and column.maximum is not None


def _dates(schema: TableSchema) -> Dates:
    """Return dates that each count from the earliest bound, in days where no time is written."""
    dated = [column for column in schema.learned if column.kind == "datetime"]
    if not dated:
        return Dates(None, 0.0, {}, 0.0)
    origin = math.floor(min(c.minimum or 0.0 for c in dated) / DAY_S) * DAY_S
    timed = ("%H", "%I", "%T", "%X", "%c", "%s")
    units = {
        c.name: SECOND_S
        if c.date_format is None or any(mark in c.date_format for mark in timed)
        else DAY_S
        for c in dated
    }
    return Dates(None, origin, units, origin, tuple(units))


def _cells(column: Column, dates: Dates) -> Cells:
    tokens = np.arange(1, len(column.tokens) + 1, dtype=np.int64)
    if column.is_coded:
        levels = np.arange(len(column.categories), dtype=np.int64)
        return CodedCells(
            tokens, levels, np.ones(tokens.size + levels.size, np.int64),
            np.zeros(levels.size + 1, np.int64), np.zeros(0, np.int64),
            column.kind in ("ordinal", "boolean"),
        )  # fmt: skip
    least, most = float(column.minimum or 0), float(column.maximum or 0)
    places = column.decimals
    if column.kind == "datetime":
        unit = dates.unit_s[column.name]
        least, most = (least - dates.origin_s) / unit, (most - dates.origin_s) / unit
        places = 0
    elif column.kind == "integer":
        places = 0
    return _even(tokens, least, most, places)


def _even(tokens: np.ndarray[tuple[int], np.dtype[np.int64]], least: float, most: float,
          places: int) -> NumericCells:  # fmt: skip
    """Return cells of equal width; of single values where there are no more of them than cells."""
    unit = 10.0**-places
    values = round((most - least) / unit) + 1
    single = values <= FINE
    n = values if single else FINE
    if single:
        grid = np.round(least + unit * np.arange(n), places)
        bounds = (grid[:-1] + grid[1:]) / 2
        low = high = grid
    else:
        edges = np.linspace(least, most, n + 1)
        grid, bounds, low, high = np.zeros(0), edges[1:-1], edges[:-1], edges[1:]
    start = np.arange(n + 1) if single else np.zeros(n + 1)
    decimals = np.zeros((n, places + 1))
    decimals[:, -1] = 1.0
    return NumericCells(
        tokens, np.ones(tokens.size + n, np.int64), bounds, start.astype(np.int64), grid,
        np.ones(grid.size), low, high, np.zeros(n, np.int64), np.zeros(n), decimals,
        least, most, 0.0, 0.0,
    )  # fmt: skip
