"""Excel workbooks (.xlsx), the first sheet: an extra, `manikin[excel]`."""

from __future__ import annotations

import datetime
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import polars as pl

from manikin.data.table import Table
from manikin.errors import InputError, MissingExtra, OutputError
from manikin.io.bounds import check_frame, check_workbook, panics_become
from manikin.io.formulas import is_formula_text
from manikin.io.layout import Layout
from manikin.io.typed import with_types

__all__ = ["ExcelWriter", "read_excel"]

MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384
LONGEST_NAME = 31  # of a sheet
LONGEST_TEXT = 32_767  # characters of a cell
_FORMATS: dict[Any, str] = {
    pl.Date: "yyyy-mm-dd",
    pl.Datetime: "yyyy-mm-dd hh:mm:ss",
    pl.Time: "hh:mm:ss",
}


def read_excel(path: Path) -> tuple[pl.DataFrame, Layout]:
    """Read the first sheet of a workbook. Raises InputError when there is none."""
    try:
        import fastexcel
    except ImportError as error:
        raise MissingExtra("reading Excel files", "excel") from error

    def damaged() -> InputError:
        return InputError(
            f"'{path.name}' cannot be read as an Excel workbook",
            "an .xlsx file whose first sheet is the table, with its header in the first row",
            "save the workbook again, without a password",
        )

    try:
        with panics_become(damaged):
            check_workbook(path)
            book = fastexcel.read_excel(path)
            name = book.sheet_names[0]
            sheet = book.load_sheet(0, schema_sample_rows=None)
            frame = sheet.to_polars()
            check_frame(frame, path.name, size=path.stat().st_size)
    except (
        fastexcel.FastExcelError, zipfile.BadZipFile, zlib.error, pl.exceptions.PolarsError,
        ArithmeticError, LookupError, NotImplementedError, OSError, ValueError,
    ) as error:  # fmt: skip
        raise damaged() from error
    if frame.width == 0:
        raise InputError(f"the first sheet of '{path.name}' is empty", "a table", "check the sheet")
    frame = frame.with_columns(_as_dates(series) for series in frame)
    return frame, Layout(format="excel", names=tuple(frame.columns), sheet=name)


def _as_dates(series: pl.Series) -> pl.Series:
    """Return moments that are all at midnight as the dates that they are."""
    if series.dtype != pl.Datetime or series.null_count() == len(series):
        return series
    dates = series.dt.date()
    midnight = dates.cast(series.dtype) == series
    return dates if bool(midnight.all()) else series


def _sheet_name(wanted: str) -> str:
    """Return a name that Excel takes and that starts no formula where it is referred to."""
    name = re.sub(r"[\[\]:*?/\\\x00-\x1f]", "_", wanted)[:LONGEST_NAME].strip("'")
    if is_formula_text(name):
        name = f"_{name.lstrip()[1:]}"
    return "Sheet1" if not name.strip() or name.lower() == "history" else name


class ExcelWriter:
    """Writes rows as they come; texts are never turned into formulas, links or numbers.

    A text that looks like a formula is also marked as quoted, so that it stays a text when
    somebody edits the cell.
    """

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        try:
            import xlsxwriter
        except ImportError as error:
            raise MissingExtra("writing Excel files", "excel") from error
        options = {
            "constant_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        }
        self.book = xlsxwriter.Workbook(file, options)
        # the same table gives the same bytes on any day
        self.book.set_properties({"created": datetime.datetime(2000, 1, 1)})
        self.sheet = self.book.add_worksheet(_sheet_name(layout.sheet))
        self.quoted = self.book.add_format({"quote_prefix": True})
        self.formats = {
            dtype: self.book.add_format({"num_format": pattern})
            for dtype, pattern in _FORMATS.items()
        }
        self.row = 0
        self.closed = False

    def write(self, frame: pl.DataFrame, table: Table) -> None:
        """Write one more block. Raises OutputError beyond what a sheet can hold."""
        typed = with_types(frame, table.schema)
        if self.row == 0:
            self._row([self._text] * typed.width, typed.columns, [None] * typed.width)
        if self.row + typed.height > MOST_ROWS or typed.width > MOST_COLUMNS:
            raise OutputError(
                f"the table has more than {MOST_ROWS - 1:,} rows or {MOST_COLUMNS:,} columns",
                "what an Excel sheet can hold",
                "write it as .csv or .parquet",
            )
        writers = [self._writer(dtype) for dtype in typed.dtypes]
        formats = [self.formats.get(dtype.base_type()) for dtype in typed.dtypes]
        for row in typed.iter_rows():
            self._row(writers, row, formats)

    def size(self) -> int:
        """Return 0: a sheet's most rows are few for any disk."""
        return 0

    def close(self) -> None:
        """Write the workbook."""
        self.closed = True
        self.book.close()

    def abandon(self) -> None:
        """Let go of the rows that wait in a temporary file; the opener removes the workbook."""
        if not self.closed:
            self.close()

    def _writer(self, dtype: Any) -> Any:
        if dtype.is_numeric():
            return self._number
        if dtype == pl.Boolean:
            return self.sheet.write_boolean
        return self.sheet.write_datetime if dtype.is_temporal() else self._text

    def _text(self, row: int, column: int, cell: str, form: Any) -> None:
        if len(cell) > LONGEST_TEXT:
            raise OutputError(
                f"a text of more than {LONGEST_TEXT:,} characters",
                "what a cell of an Excel sheet can hold",
                "write it as .csv or .parquet",
            )
        self.sheet.write_string(row, column, cell, self.quoted if is_formula_text(cell) else form)

    def _number(self, row: int, column: int, cell: float, form: Any) -> None:
        if math.isfinite(cell):
            self.sheet.write_number(row, column, cell, form)
        elif not math.isnan(cell):  # a sheet has no infinity
            self._text(row, column, str(cell), form)

    def _row(self, writers: Any, cells: Any, formats: Any) -> None:
        for i, cell in enumerate(cells):
            if cell is not None:
                writers[i](self.row, i, cell, formats[i])
        self.row += 1
