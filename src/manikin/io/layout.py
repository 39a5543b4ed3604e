"""How a table file is written: all that is needed to write another one just like it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from manikin.errors import OutputError

if TYPE_CHECKING:
    from manikin.data.schema import TableSchema

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

    def dialect(self, schema: TableSchema) -> Layout:
        """Return what the program that wrote the file decided, and nothing that hangs on a cell.

        Format, header, delimiter, line ending and, if numbers have it anywhere, the decimal comma.
        """
        numbers = tuple(c.name for c in schema if c.kind in ("continuous", "integer"))
        return Layout(
            format=self.format, names=self.names, header=self.header, delimiter=self.delimiter,
            line_ending=self.line_ending, compressed=self.compressed, sheet=self.sheet,
            decimal_comma=numbers if self.decimal_comma else (),
        )  # fmt: skip


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
