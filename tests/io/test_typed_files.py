import datetime
import sys

import numpy as np
import polars as pl
import pytest

from manikin.errors import InputError, MissingExtra, OutputError
from manikin.io import excel
from manikin.io.tables import open_table, read, write, writer

FRAME = pl.DataFrame(
    {
        "pid": [1, 1, 2, 3] * 10,
        "age": [50, 51, None, 70] * 10,
        "bmi": [20.5, 21.25, 30.0, None] * 10,
        "sex": ["m", "f", None, "=f"] * 10,
        "died": [True, False, True, None] * 10,
        "seen": [datetime.datetime(2020, 1, 31, 10, 30), None] * 20,
        "born": [datetime.date(1950, 12, 1), datetime.date(1960, 1, 2)] * 20,
        "digits": ["1", "2", "3", "4"] * 10,
    }
)


@pytest.mark.parametrize("suffix", ["parquet", "xlsx"])
def test_types_come_back(suffix, tmp_path):
    table = open_table(FRAME, subject="pid").table
    write(table, tmp_path / f"x.{suffix}")
    back = open_table(tmp_path / f"x.{suffix}", subject="pid")
    if suffix == "parquet":
        assert back.cells.schema == FRAME.schema
    for name in FRAME.columns[1:]:
        assert back.cells[name].to_list() == FRAME[name].to_list()
    assert back.cells["pid"].to_list() == [10, 10, 11, 12] * 10


@pytest.mark.parametrize("suffix", ["parquet", "xlsx", "csv"])
def test_blocks_are_one_file(suffix, tmp_path):
    table = open_table(FRAME, subject="pid").table
    with writer(tmp_path / f"x.{suffix}") as out:
        for _ in range(3):
            out.write(table)
    back = read(tmp_path / f"x.{suffix}", subject="pid")
    assert out.rows == 120
    assert back.n_rows == 120 and back.n_subjects == 9
    np.testing.assert_array_equal(back.columns["bmi"], np.tile(table.columns["bmi"], 3))
    assert [path.name for path in tmp_path.iterdir()] == [f"x.{suffix}"]


def test_text_becomes_typed_in_a_typed_format(tmp_path):
    text = "age,crp,sex,seen,code,lab\n" + "".join(
        f"{i},{i / 4:.2f},{'mf'[i % 2]},{i % 28 + 1:02}/03/2020,{i % 2},{'<1' if i == 9 else i}\n"
        for i in range(30, 90)
    )
    text += "NA,NA,NA,NA,NA,<1\n"
    (tmp_path / "x.csv").write_text(text)
    source = open_table(tmp_path / "x.csv")
    for suffix in ("parquet", "xlsx"):
        write(source.table, tmp_path / f"y.{suffix}", source.layout)
        back = open_table(tmp_path / f"y.{suffix}").cells
        assert back["age"].to_list() == [*range(30, 90), None]
        assert back["crp"][1] == 7.75 and back["sex"][-1] is None
        assert back["seen"][0] == datetime.date(2020, 3, 3)
        assert back["lab"][0] == "30" and back["lab"][-1] == "<1"
    assert pl.read_parquet(tmp_path / "y.parquet")["age"].dtype == pl.Int64


def test_digits_stay_text_in_a_typed_source(tmp_path):
    frame = pl.DataFrame({"x": ["1", "2", "30"] * 9})
    frame.write_parquet(tmp_path / "x.parquet")
    source = open_table(tmp_path / "x.parquet")
    assert source.table.schema["x"].kind == "integer"
    write(source.table, tmp_path / "y.parquet", source.layout)
    assert pl.read_parquet(tmp_path / "y.parquet").equals(frame)


def test_pandas_and_arrow_frames():
    for frame in (FRAME.to_pandas(), FRAME.to_arrow()):
        table = open_table(frame, subject="pid", target="died").table
        assert table.n_subjects == 3
        assert table.schema["bmi"].kind == "continuous"
        assert table.schema["died"].kind == "boolean"
        assert int(np.isnan(table.columns["age"]).sum()) == 10


@pytest.mark.parametrize("suffix", ["parquet", "xlsx"])
def test_damaged_files(suffix, tmp_path):
    (tmp_path / f"x.{suffix}").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be read"):
        open_table(tmp_path / f"x.{suffix}")


def test_formulas_are_written_as_text(tmp_path):
    import zipfile

    write(open_table(FRAME).table, tmp_path / "x.xlsx")
    with zipfile.ZipFile(tmp_path / "x.xlsx") as book:
        sheet = book.read("xl/worksheets/sheet1.xml")
    assert b"<f>" not in sheet and b"=f" in sheet


def test_excel_cannot_hold_more_than_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(excel, "MOST_ROWS", 30)
    with pytest.raises(OutputError, match="29 rows"):
        write(open_table(FRAME).table, tmp_path / "x.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["fastexcel", "xlsxwriter"])
def test_without_the_extra_the_install_line_is_shown(module, tmp_path, monkeypatch):
    table = open_table(FRAME).table
    write(table, tmp_path / "x.xlsx")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"manikin\[excel\]"):
        if module == "fastexcel":
            open_table(tmp_path / "x.xlsx")
        else:
            write(table, tmp_path / "y.xlsx")


def test_same_table_same_bytes(tmp_path):
    table = open_table(FRAME).table
    for suffix in ("csv", "csv.gz", "parquet", "xlsx"):
        write(table, tmp_path / f"a.{suffix}")
        write(table, tmp_path / f"b.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
