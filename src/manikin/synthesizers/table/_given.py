"""Columns that are given: what their codes are, and how they come back exactly as they were."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import SchemaError
from manikin.synthesizers.table._structure import Function, Linear
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["Known", "known", "put_back"]

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Known:
    """What is given, and the codes (rows, modelled columns) that follow; -1: not known."""

    table: Table  # the given columns under the model's own schema
    codes: Codes


def known(encoding: Encoding, given: Table, rng: np.random.Generator) -> Known:
    """Return the codes of given columns. Raises SchemaError when the model lacks one of them."""
    table = _aligned(encoding.schema, given)
    helped = _with_sources(encoding, table, rng)
    codes = encoding.encode(helped, seed=int(rng.integers(2**62)))
    for item in encoding.derived:
        named = isinstance(item, Function) and item.name in table.columns
        if isinstance(item, Function) and named and item.source not in table.columns:
            cells = encoding.function_cells[item.name]
            image = cells.encode(table.numbers(item.name), table.state(item.name), rng)
            at = encoding.names.index(item.source)
            codes[:, at] = _origin(image, np.array(item.image), encoding.cells[at].counts, rng)
    return Known(table, codes)


def put_back(encoding: Encoding, drawn: Table, given: Known) -> Table:
    """Return `drawn` with the given columns as they were and what derives from them renewed."""
    columns: dict[str, NDArray[Any]] = dict(drawn.columns)
    states = dict(drawn.states)
    anchor = encoding.dates.anchor
    if anchor is not None and anchor in given.table.columns:
        shift = given.table.columns[anchor] - drawn.columns[anchor]
        shift = np.where(np.isnat(shift), np.timedelta64(0, "us"), shift)
        for column in encoding.schema.learned:
            if column.kind == "datetime" and column.name not in encoding.dates.alone:
                columns[column.name] = columns[column.name] + shift
    for name, values in given.table.columns.items():
        columns[name] = np.array(values, dtype=drawn.columns[name].dtype)
        if name in states:
            states[name] = np.array(given.table.state(name))
    for name, source in encoding.echoes.items():
        if source in given.table.columns and name not in given.table.columns:
            repeats = drawn.numbers(name) == drawn.numbers(source)
            columns[name] = np.where(repeats, columns[source], columns[name])
            if name in states:
                again = np.where(repeats, given.table.state(source), states[name])
                states[name] = again.astype(np.int8)
    for item in encoding.derived:
        renewed = isinstance(item, Linear) and item.source in given.table.columns
        if isinstance(item, Linear) and renewed and item.name not in given.table.columns:
            decimals = encoding.schema[item.name].decimals
            line = item.intercept + item.slope * columns[item.source]
            columns[item.name] = np.round(line, decimals)
            if item.name in states:
                states[item.name] = np.array(given.table.state(item.source))
    return Table(drawn.schema, drawn.subjects, columns, states)


def _aligned(schema: TableSchema, given: Table) -> Table:
    """Return the given columns under the model's schema, category codes matched by spelling."""
    columns: dict[str, NDArray[Any]] = {}
    for column in given.schema.learned:
        own = schema[column.name]
        alike = own.is_coded == column.is_coded
        alike &= (own.kind == "datetime") == (column.kind == "datetime")
        if not (own.is_learned and alike):
            raise SchemaError(
                f"the given column '{column.name}' is {column.kind}",
                f"the model knows it as {own.kind}",
                "read what is given with the model's schema",
            )
        values = given.columns[column.name]
        if own.is_coded and own.categories != column.categories:
            place = {name: code for code, name in enumerate(own.categories)}
            unknown = [name for name in column.categories if name not in place]
            if unknown and _same_places(own, column):  # the model has forgotten rare spellings
                unknown, place = [], {name: code for code, name in enumerate(column.categories)}
            if unknown:
                raise SchemaError(
                    f"the given column '{column.name}' has {len(unknown)} unknown categories",
                    f"the model knows {len(place)}",
                    "read what is given with the model's schema",
                )
            matched = np.array([*(place[name] for name in column.categories), -1], dtype=np.int32)
            values = matched[values]
        columns[column.name] = values
    kept = tuple(column for column in schema if column.name in columns)
    states = {name: state for name, state in given.states.items() if name in columns}
    return Table(TableSchema(kept), given.subjects, columns, states)


def _same_places(own: Column, other: Column) -> bool:
    """Whether two vocabularies are alike but for spellings that only one of them knows."""
    one, two = own.categories, other.categories
    both = set(one) & set(two)
    return len(one) == len(two) and all(
        a == b or not {a, b} & both for a, b in zip(one, two, strict=True)
    )


def _with_sources(encoding: Encoding, table: Table, rng: np.random.Generator) -> Table:
    """Add columns that follow from given ones: sources of linear images, and the first date."""
    columns, states = dict(table.columns), dict(table.states)
    for item in encoding.derived:
        if isinstance(item, Linear) and item.name in columns and item.source not in columns:
            columns[item.source] = (table.numbers(item.name) - item.intercept) / item.slope
            states[item.source] = table.state(item.name)
    dates = encoding.dates
    later = [n for n in columns if encoding.schema[n].kind == "datetime" and n in encoding.names]
    later = [name for name in later if dates.hangs_on_anchor(name)]
    if dates.anchor is not None and dates.anchor in encoding.names and later:
        if dates.anchor not in columns:
            columns[dates.anchor] = _earlier(encoding, table, later[0], rng)
    kept = tuple(column for column in encoding.schema if column.name in columns)
    schema = TableSchema(kept)
    return dataclasses.replace(table, schema=schema, columns=columns, states=states)


def _earlier(encoding: Encoding, table: Table, name: str, rng: np.random.Generator) -> NDArray[Any]:
    """Return first dates at intervals before a later date, drawn by their frequencies."""
    cells = encoding.cells[encoding.names.index(name)]
    valued = np.arange(cells.n_tokens, cells.size)
    counts = cells.counts[valued]
    drawn = rng.choice(valued, table.n_rows, p=counts / counts.sum()).astype(np.int32)
    interval, _ = cells.decode(drawn, rng)
    seconds = table.numbers(name) - np.rint(interval) * encoding.dates.unit_s[name]
    seconds = np.where(np.isnan(seconds), encoding.dates.typical, seconds)
    return np.rint(seconds * 1e6).astype(np.int64).astype("datetime64[us]")


def _origin(
    image: Codes, images: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator
) -> Codes:
    """Return, for codes of a function, codes of its source drawn by their frequencies."""
    codes = np.full(image.size, -1, dtype=np.int32)
    for value in np.unique(image):
        rows, options = np.flatnonzero(image == value), np.flatnonzero(images == value)
        if options.size and counts[options].sum():
            shares = counts[options] / counts[options].sum()
            codes[rows] = rng.choice(options, rows.size, p=shares)
    return codes
