"""CSV and its kin: read whatever a hospital exports, and write it back looking the same.

Cells and names that a spreadsheet would run as a formula (`manikin.io.formulas`) are written with
a leading apostrophe; reading takes such an apostrophe off again. Numbers stay as they are.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from manikin.data.table import Table
from manikin.errors import InputError, OutputError
from manikin.io.bounds import LONGEST_CELL, check_frame, check_width, gunzip
from manikin.io.formulas import ESCAPED, is_formula
from manikin.io.layout import Layout
from manikin.io.sniff import (
    MARKS,
    Field,
    counts_of_fields,
    decode,
    has_header,
    records,
    sniff_delimiter,
    sniff_quote,
)

__all__ = ["CsvWriter", "read_csv"]

SAMPLE_BYTES = 1 << 18
FEWEST_LINES = 3  # of the beginning, where lines are longer than that
COMMA_NUMBER = r"^\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*$"
POINT_NUMBER = r"^\s*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?\s*$"
BARE_POINT = r"^([+-]?)\.(\d)"
ZERO_POINT = r"^([+-]?)0\.(\d)"


def read_csv(path: Path) -> tuple[pl.DataFrame, Layout]:
    """Read a delimited text file as text, and how it was written.

    Raises InputError when it is empty, no text, or its records differ in length.
    """
    raw = path.read_bytes()
    compressed = raw[:2] == b"\x1f\x8b"
    if compressed:
        raw = gunzip(raw, path.name)
    data, encoding, bom = decode(raw, path.name)
    line_ending = _line_ending(data)
    if line_ending == "\r":
        data = data.replace(b"\r", b"\n")
    ends_with_line = data.endswith(b"\n")
    data = data.lstrip(b"\r\n")
    if not data.strip():
        raise InputError(f"'{path.name}' is empty", "a table with a header or rows", "export again")
    sample = _beginning(data)
    quote = sniff_quote(sample)
    preferred = "\t" if ".tsv" in path.name.lower() else ""
    delimiter = sniff_delimiter(sample, quote, preferred)
    spaced = sample.count(f"{delimiter} ") > 0.95 * sample.count(delimiter) > 0
    data, shift = _mend(data, delimiter, quote)
    frame = _split(data, delimiter, quote, path.name, spaced=spaced)
    check_frame(frame, path.name)
    sample = _beginning(data)
    beginning = [row for row in records(sample, delimiter, quote) if len(row) == frame.width]
    layout = Layout(
        format="csv",
        delimiter=delimiter,
        quote=quote,
        encoding=encoding,
        bom=bom,
        line_ending=line_ending,
        ends_with_line=ends_with_line,
        compressed=compressed,
        space_after_delimiter=spaced,
    )
    frame, layout = _dress(frame, beginning, layout)
    if shift:
        header = layout.names if layout.header is None else layout.header
        layout = replace(layout, header=(*header, "") if shift > 0 else header[1:])
    return frame, layout


def _beginning(data: bytes) -> str:
    """Return whole lines of the beginning; at least one, however long."""
    if len(data) <= SAMPLE_BYTES:
        return data.decode("utf-8", errors="ignore")
    stop = data.rfind(b"\n", 0, SAMPLE_BYTES)
    for _ in range(FEWEST_LINES if stop < 0 else 0):
        later = data.find(b"\n", stop + 1, LONGEST_CELL * 16)
        stop = later if later >= 0 else stop
    stop = stop if stop >= 0 else SAMPLE_BYTES
    return data[: stop + 1].decode("utf-8", errors="ignore")


def _mend(data: bytes, delimiter: str, quote: str) -> tuple[bytes, int]:
    """Mend a header that is one cell longer (ends in a delimiter) or shorter (no row names).

    Returns the mended text and by how many cells the header was too long.
    """
    counted = counts_of_fields(data, delimiter, quote)
    if counted is None or len(counted[0]) < 2:
        return data, 0
    first, rest = int(counted[0][0]), counted[0][1:]
    stop = data.find(b"\n")
    line = data[:stop].rstrip(b"\r")
    if stop < 0 or np.any(rest != rest[0]) or abs(first - int(rest[0])) != 1:
        return data, 0
    if first > rest[0] and line.endswith(delimiter.encode()):
        return line[:-1] + data[len(line) :], 1
    if first < rest[0] and first > 1 and not line.startswith(delimiter.encode()):
        rows = records(_beginning(data), delimiter, quote)[1:]
        names = [row[0][0] for row in rows]
        if len(set(names)) == len(names):  # row names are all different
            return delimiter.encode() + data, -1
    return data, 0


def _line_ending(data: bytes) -> str:
    head = data[:SAMPLE_BYTES]
    if b"\r\n" in head:
        return "\r\n"
    return "\r" if b"\r" in head and b"\n" not in head else "\n"


def _split(data: bytes, delimiter: str, quote: str, name: str, *, spaced: bool) -> pl.DataFrame:
    """Split text into cells; the first record is still among the rows."""
    if spaced and quote.encode() in data:
        return _split_slowly(data, delimiter, quote, name, spaced=True)
    counted = counts_of_fields(data, delimiter, quote)
    if counted is None:
        return _split_slowly(data, delimiter, quote, name)
    widths, broken = counted
    width = int(widths[0])
    check_width(width, name)
    if width > 1 and np.any(widths == 1):
        if broken:
            return _split_slowly(data, delimiter, quote, name)
        data = re.sub(rb"\n(?:\r?\n)+", b"\n", data).rstrip(b"\r\n")
        widths, _ = counts_of_fields(data, delimiter, quote) or (widths, broken)
    _rectangular(widths, name)
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            infer_schema=False,
            separator=delimiter,
            quote_char=quote,
        )
    except pl.exceptions.PolarsError:
        return _split_slowly(data, delimiter, quote, name)
    if frame.height != len(widths) or frame.width != width:
        return _split_slowly(data, delimiter, quote, name)
    return frame.with_columns(pl.all().fill_null(""))


def _split_slowly(
    data: bytes, delimiter: str, quote: str, name: str, *, spaced: bool = False
) -> pl.DataFrame:
    """Split with the standard library, which forgives quotes inside a cell."""
    text = io.StringIO(data.decode("utf-8"), newline="")
    try:
        rows = list(csv.reader(text, delimiter=delimiter, quotechar=quote, skipinitialspace=spaced))
    except csv.Error as error:
        raise InputError(
            f"'{name}' cannot be split into cells",
            "cells in quotes end with the quote; no cell is longer than 131,072 characters",
            "export the table again",
        ) from error
    width = len(rows[0])
    check_width(width, name)
    rows = [row or [""] for row in rows if row or width == 1]
    _rectangular(np.array([len(row) for row in rows]), name)
    columns = list(zip(*rows, strict=True))
    return pl.DataFrame(
        [pl.Series(f"column_{i}", column, pl.String) for i, column in enumerate(columns)]
    )


def _rectangular(widths: np.ndarray, name: str) -> None:
    different = np.flatnonzero(widths != widths[0])
    if different.size:
        raise InputError(
            f"'{name}' has {different.size} rows whose number of cells is not the header's "
            f"{widths[0]}; the first of them is record {different[0] + 1}",
            "every row has as many cells as the header",
            "put cells that hold the delimiter in quotes, or export the table again",
        )


def _dress(
    frame: pl.DataFrame, beginning: Sequence[Sequence[Field]], layout: Layout
) -> tuple[pl.DataFrame, Layout]:
    """Take the header off, name the columns, undo spaces, commas and escapes; remember all."""
    named = not beginning or has_header(beginning)
    header = tuple(frame.row(0)) if named else ()
    frame = frame.slice(1) if named else frame
    body = beginning[1:] if named else beginning
    if layout.space_after_delimiter:
        frame = frame.with_columns(pl.all().str.strip_chars_start(" "))
        header = tuple(name.lstrip(" ") for name in header)
    header = tuple(name[1:] if re.match(ESCAPED, name) else name for name in header)
    names = _unique(header or ("",) * frame.width)
    frame.columns = list(names)
    frame = frame.with_columns(
        pl.col(name).str.replace(r"^'", "")
        if frame[name].str.contains(ESCAPED).any() and not (frame[name] == "'").any()
        else pl.col(name)
        for name in names
    )
    commas = _comma_columns(frame)
    frame = frame.with_columns(
        pl.when(pl.col(name).str.contains(COMMA_NUMBER))
        .then(pl.col(name).str.replace(",", ".", literal=True))
        .otherwise(pl.col(name))
        .alias(name)
        for name in commas
    )
    points = tuple(
        name
        for name in names
        if frame[name].str.contains(BARE_POINT).any()
        and not frame[name].str.contains(ZERO_POINT).any()
    )
    frame = frame.with_columns(pl.col(points).str.replace(BARE_POINT, "${1}0.${2}"))
    quoted, bare = _quoted(body, names)
    return frame, replace(
        layout,
        names=names,
        header=None if header == names else header,
        decimal_comma=commas,
        bare_point=points,
        quoted=quoted,
        quoted_header=named and bool(beginning) and all(was for _, was in beginning[0]),
        bare=bare,
    )


def _unique(header: Sequence[str]) -> tuple[str, ...]:
    """Name unnamed columns by their place, and number repeated names."""
    names: dict[str, None] = {}  # in order
    given = set(header)
    times: dict[str, int] = {}
    for i, name in enumerate(header, start=1):
        tried = name if name.strip() else f"column_{i}"
        while tried in names or (tried != name and tried in given):
            times[name] = times.get(name, 1) + 1
            tried = f"{name or f'column_{i}'}_{times[name]}"
        names[tried] = None
    return tuple(names)


def _comma_columns(frame: pl.DataFrame) -> tuple[str, ...]:
    """Return the columns whose decimals follow a comma.

    1,234 alone may be a thousand: somewhere in the file other than three digits must follow.
    """
    found, sure = [], False
    for series in frame:
        some = series.filter(series.str.contains(",", literal=True)).unique()
        numbers = some.filter(some.str.contains(COMMA_NUMBER))
        if len(numbers) and not series.str.contains(POINT_NUMBER).any():
            found.append(series.name)
            sure = sure or not numbers.str.contains(r",\d{3}\s*$").all()
    return tuple(found) if sure else ()


def _quoted(
    body: Sequence[Sequence[Field]], names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns that are always in quotes, and the missing marks that never are."""
    always, bare = [], set()
    for i, name in enumerate(names):
        plain = {row[i][0] for row in body if not row[i][1]}
        if any(row[i][1] for row in body) and all(cell.lower() in MARKS for cell in plain):
            always.append(name)
            bare |= plain
    return tuple(always), tuple(sorted(bare))


class CsvWriter:
    """Writes blocks of rendered rows to an open binary file in a given layout."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        self.layout = layout
        self.place = self.file = file
        if layout.compressed:
            self.file = gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0)  # type: ignore[assignment]
        self.started = False

    def write(self, frame: pl.DataFrame, table: Table) -> None:
        """Write the rows of a frame that `render` made of `table`."""
        layout = self.layout
        if not self.started and layout.bom:
            self.file.write("\ufeff".encode(layout.encoding))
        cells = [self._column(series) for series in frame]
        gap = layout.delimiter + (" " if layout.space_after_delimiter else "")
        lines = [] if self.started else self._header(frame.columns, gap)
        if frame.height:
            rows = pl.DataFrame(cells).select(pl.concat_str(pl.all(), separator=gap)).to_series()
            lines += rows.to_list()
        if lines:
            start = layout.line_ending if self.started else ""
            self._put(start + layout.line_ending.join(lines))
            self.started = True

    def size(self) -> int:
        """Return how many bytes are written."""
        return self.place.tell()

    def close(self) -> None:
        """Write the end of the last line."""
        if self.started and self.layout.ends_with_line:
            self._put(self.layout.line_ending)
        if self.layout.compressed:
            self.file.close()

    def abandon(self) -> None:
        """Nothing to remove: the file's opener does that."""

    def _put(self, text: str) -> None:
        try:
            self.file.write(text.encode(self.layout.encoding))
        except UnicodeEncodeError as error:
            raise OutputError(
                f"a cell cannot be written in the encoding {self.layout.encoding}",
                "characters that the source's encoding has",
                "convert the source to UTF-8",
            ) from error

    def _header(self, columns: Sequence[str], gap: str) -> list[str]:
        layout = self.layout
        names = tuple(columns) if layout.header is None else layout.header
        if not names:
            return []
        text = _escape(pl.Series(list(names), dtype=pl.String))
        made = self._in_quotes(text, always=layout.quoted_header).to_list()
        if len(names) > len(columns):  # the header line ends in a delimiter
            made[-1] = ""
        return [gap.join(made)]

    def _column(self, series: pl.Series) -> pl.Series:
        text = series
        if series.dtype != pl.String:
            from manikin.data.cells import as_text

            text = as_text(series)
        text = _escape(text.fill_null(""))
        if series.name in self.layout.bare_point:
            text = text.str.replace(ZERO_POINT, "${1}.${2}")
        if series.name in self.layout.decimal_comma:
            number = text.str.contains(POINT_NUMBER)
            comma = text.str.replace(".", ",", literal=True)
            text = comma.zip_with(number, text)
        return self._in_quotes(text, always=series.name in self.layout.quoted).alias(series.name)

    def _in_quotes(self, text: pl.Series, *, always: bool) -> pl.Series:
        quote, delimiter = self.layout.quote, self.layout.delimiter
        if always:
            needed = ~text.is_in(list(self.layout.bare))
        else:
            special = f"[{re.escape(delimiter)}{re.escape(quote)}\r\n]"
            needed = text.str.contains(special)
        if not needed.any():
            return text
        inside = quote + text.str.replace_all(quote, quote * 2, literal=True) + quote
        return inside.zip_with(needed, text)


def _escape(text: pl.Series) -> pl.Series:
    """Put an apostrophe before cells that a spreadsheet would run as a formula."""
    formula = is_formula(text)
    return ("'" + text).zip_with(formula, text) if formula.any() else text
