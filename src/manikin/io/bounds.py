"""How much a file from a stranger may ask for: sizes are checked before memory is spent.

A compressed file of a kilobyte can claim gigabytes (CWE-409). What a file unfolds to may be
`FLOOR` whatever its size, and beyond that `RATIO` times its own size, which real tables never
reach; a table may have `MOST_COLUMNS` columns and a cell `LONGEST_CELL` bytes.
"""

from __future__ import annotations

import gzip
import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl

from manikin.errors import InputError, ManikinError

__all__ = [
    "LONGEST_CELL",
    "MOST_COLUMNS",
    "check_frame",
    "check_memory",
    "check_parquet",
    "check_width",
    "check_workbook",
    "gunzip",
    "panics_become",
    "read_text",
]

FLOOR = 2**27  # bytes that any file may unfold to
RATIO = 200  # times its own size beyond that; gzip reaches 1032 on zeros
MOST_COLUMNS = 10_000
LONGEST_CELL = 2**20  # bytes; a long discharge letter has 2**15
MOST_ENTRIES = 10_000  # of a workbook's zip
CELLS_A_BYTE = 100  # of a Parquet file; one bit a cell would be 8
FLOOR_CELLS = 20_000_000
SPARSEST = 50  # squares of a sheet for one that is filled
MOST_SCHEMA = 2**24  # bytes of a schema file
_CHUNK = 1 << 20
_MEMORY, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_PLACE = re.compile(rb"<(?:\w{1,20}:)?(?:c|row)\s[^<>]{0,400}?\br=[\"']([A-Z]{0,3})(\d{1,7})[\"']")
_CELL = re.compile(rb"<(?:\w{1,20}:)?c[\s>/]")


def room(size: int) -> int:
    """Return how many bytes a file of this size may unfold to."""
    return max(FLOOR, RATIO * size)


def check_memory(size: int, times: float, what: str, todo: str) -> None:
    """Raise InputError where a reading that holds `times` the size of its files has no memory.

    The system would end the program without a word. Where it does not say what is free, nothing is
    checked.
    """
    free, needed = _free_memory(), size * times
    if free is not None and needed > max(free, FLOOR):
        raise InputError(
            f"{what} of {size / 2**30:,.1f} GiB, of which reading holds about"
            f" {needed / 2**30:,.1f} GiB at once",
            f"what fits into the {free / 2**30:,.1f} GiB of memory that are free",
            todo,
        )


def _free_memory() -> int | None:
    """Return the bytes that a process can still have, as Linux says; None elsewhere."""
    try:
        told = re.search(r"MemAvailable:\s+(\d+) kB", _MEMORY.read_text(encoding="ascii"))
        free = int(told[1]) * 1024 if told else None
    except (OSError, ValueError):
        return None
    try:  # a container's limit; what it uses tells little, since files that were read count in it
        most = int((_GROUP / "memory.max").read_text())
    except (OSError, ValueError):  # none, or "max"
        return free
    return most if free is None else min(free, most)


def gunzip(raw: bytes, name: str) -> bytes:
    """Return what a gzip file holds. Raises InputError when it is damaged or a bomb."""
    most = room(len(raw))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            text = file.read(most + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"'{name}' is a damaged gzip file", "", "copy it again") from error
    if len(text) > most:
        raise _bomb(name, "unfolds to more than")
    return text


def read_text(path: Path, what: str) -> str:
    """Return a small text file in UTF-8; devices, pipes and large files are refused unread."""
    advice = "check the path"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_SCHEMA:
            raise InputError(
                f"the {what} '{path}' is no file of a sensible size",
                f"a file of at most {MOST_SCHEMA // 2**20} MiB",
                advice,
            )
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"the {what} '{path}' cannot be read", "a YAML file in UTF-8", advice
        ) from error


def check_width(width: int, name: str) -> None:
    """Raise InputError for more columns than a table may have."""
    if width > MOST_COLUMNS:
        raise InputError(
            f"'{name}' has {width:,} columns",
            f"at most {MOST_COLUMNS:,}",
            "leave out columns, or turn repeated measurements into rows",
        )


def check_frame(frame: pl.DataFrame, name: str, *, size: int | None = None) -> None:
    """Raise InputError for too many columns, a giant cell, or text far beyond the file's size."""
    check_width(frame.width, name)
    total = 0
    for series in frame:
        if series.dtype not in (pl.String, pl.Categorical, pl.Enum):
            continue
        lengths = series.cast(pl.String).str.len_bytes()
        if bool((lengths > LONGEST_CELL).any()):
            raise InputError(
                f"column '{series.name[:80]}' of '{name}' has a cell of more than"
                f" {LONGEST_CELL // 2**20} MiB",
                "cells of a table; often a quote that is never closed makes one of many",
                "check the quotes, or leave the column out",
            )
        total += int(lengths.cast(pl.UInt64).sum() or 0)
    if size is not None and total > room(size):
        raise _bomb(name, "holds texts of more than")


def check_parquet(path: Path) -> None:
    """Raise InputError when a Parquet file claims more cells than its size can mean.

    Only the file's own description is read. Nested columns could hide any number of cells.
    """
    scanned = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    schema = scanned.collect_schema()
    check_width(len(schema), path.name)
    for column, dtype in schema.items():
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
            raise InputError(
                f"column '{column[:80]}' holds {str(dtype)[:80]} values",
                "a column holds numbers, texts, dates, times or true and false",
                "split or leave out that column",
            )
    rows = int(scanned.select(pl.len()).collect().item())
    if rows * len(schema) > max(FLOOR_CELLS, CELLS_A_BYTE * path.stat().st_size):
        raise _bomb(path.name, f"claims {rows:,} rows, which is more than")


def check_workbook(path: Path) -> None:
    """Raise InputError when a workbook unfolds to too much, or its first sheet is nearly empty.

    The reader lays a sheet out as a full rectangle, so that two cells in opposite corners would
    take hundreds of gigabytes. Lengths that the zip claims are not believed.
    """
    left = room(path.stat().st_size)
    with zipfile.ZipFile(path) as book:
        entries = book.infolist()
        if len(entries) > MOST_ENTRIES:
            raise _bomb(path.name, "has more parts than")
        first = _first_sheet(book)
        for entry in entries:
            sheet = entry.filename == first or (
                first is None and entry.filename.startswith("xl/worksheets/")
            )
            left -= _weigh(book, entry, left, path.name, sheet=sheet)


def _weigh(
    book: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int, name: str, *, sheet: bool
) -> int:
    """Return how long an entry really is, having looked at where its cells stand."""
    size = filled = right = bottom = 0
    tail = b""
    for chunk in _inflated(book, entry):
        size += len(chunk)
        if size > left:
            raise _bomb(name, "unfolds to more than")
        if sheet:
            text = tail + chunk
            cut = text.rfind(b"<") if len(chunk) == _CHUNK else len(text)
            cut = cut if cut > 0 else len(text)
            text, tail = text[:cut], text[cut:][:_CHUNK]
            filled += len(_CELL.findall(text))
            for letters, digits in _PLACE.findall(text):
                right, bottom = max(right, _column_number(letters)), max(bottom, int(digits))
    if max(right, 1) * bottom > max(FLOOR_CELLS // 10, SPARSEST * filled):
        raise _bomb(name, "spreads a few cells over a sheet larger than")
    return size


def _inflated(book: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield what an entry unfolds to, whatever length its header states."""
    file: IO[bytes] = book.fp  # type: ignore[assignment]
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile
    lengths = struct.unpack_from("<2H", header, 26)
    file.seek(sum(lengths), 1)
    if entry.compress_type == zipfile.ZIP_STORED:
        todo = entry.compress_size
        while chunk := file.read(min(_CHUNK, todo)):
            todo -= len(chunk)
            yield chunk
        return
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        raise zipfile.BadZipFile
    engine = zlib.decompressobj(-15)
    while not engine.eof:
        fresh = engine.unconsumed_tail or file.read(_CHUNK)
        chunk = engine.decompress(fresh, _CHUNK)
        if not chunk and not fresh:
            raise zipfile.BadZipFile
        yield chunk


def _first_sheet(book: zipfile.ZipFile) -> str | None:
    """Return the entry of the first sheet; None where it cannot be told."""
    try:
        texts = []
        for name in ("xl/workbook.xml", "xl/_rels/workbook.xml.rels"):
            with book.open(name) as file:
                texts.append(file.read(_CHUNK))
    except (KeyError, NotImplementedError, RuntimeError):
        return None
    number = re.search(rb"<(?:\w+:)?sheet\s[^<>]*?\br:id=[\"']([^\"'<>]+)[\"']", texts[0])
    for relation in re.findall(rb"<(?:\w+:)?Relationship\s[^<>]+>", texts[1]):
        id_ = re.search(rb"\bId=[\"']([^\"']+)[\"']", relation)
        target = re.search(rb"\bTarget=[\"']([^\"']+)[\"']", relation)
        if number and id_ and target and id_[1] == number[1]:
            place = target[1].decode("utf-8", "replace")
            name = place[1:] if place.startswith("/") else f"xl/{place}"
            return name if name in book.namelist() else None
    return None


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


@contextmanager
def panics_become(error: Callable[[], ManikinError]) -> Iterator[None]:
    """Turn a failed assertion inside a compiled library into an error of ours.

    Such a panic is no `Exception`, and each library has a class of its own for it.
    """
    try:
        yield
    except BaseException as caught:
        if type(caught).__name__ != "PanicException":
            raise
        raise error() from caught


def _bomb(name: str, what: str) -> InputError:
    return InputError(
        f"'{name}' {what} a file of its size can be expected to",
        f"{FLOOR // 2**20} MiB, or {RATIO} times the size of the file",
        "if it is no attack, save it as a plain .csv file",
    )
