"""How a table file is written: all that is needed to write another one just like it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from manikin.errors import OutputError

__all__ = ["Layout", "atomic"]


@dataclass(frozen=True)
class Layout:
    """The look of a source file. The defaults are those of a plain new CSV file."""

    format: str = "csv"  # csv, parquet, excel or frame
    names: tuple[str, ...] = ()  # the schema's names
    header: tuple[str, ...] | None = None  # the source's names where they differ; () for no header
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    bom: bool = False
    line_ending: str = "\n"
    ends_with_line: bool = True
    space_after_delimiter: bool = False
    decimal_comma: tuple[str, ...] = ()  # columns whose numbers are written 1,5
    bare_point: tuple[str, ...] = ()  # columns whose numbers are written .7 rather than 0.7
    quoted: tuple[str, ...] = ()  # columns whose cells are always in quotes
    quoted_header: bool = False
    bare: tuple[str, ...] = ()  # missing marks that stand without quotes in a quoted column
    compressed: bool = False  # gzip
    sheet: str = "Sheet1"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when everything is written; mode 0600.

    After an exception nothing is left. Raises OutputError when the folder cannot be written to.
    """
    try:
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OutputError(
            f"'{path}' cannot be written: {error.strerror}",
            "a folder that exists and may be written to",
            "choose another place",
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(aside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        if isinstance(error, OSError):
            raise OutputError(
                f"writing '{path}' failed: {error.strerror}",
                "",
                "nothing was left half-written; make room or choose another place",
            ) from error
        raise
