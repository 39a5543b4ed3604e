from contextlib import nullcontext
from types import SimpleNamespace

import polars as pl
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.errors import InputError, OutputError
from manikin.io import tables
from manikin.io.tables import open_table, write


def test_csv_comes_back_as_it_was(tmp_path):
    text = "age,sex,bmi\n" + "".join(
        f"{20 + i},{'mf'[i % 2]},{18 + i / 10:.1f}\n" for i in range(40)
    )
    (tmp_path / "in.csv").write_text(text)
    source = open_table(tmp_path / "in.csv", target="sex")
    write(source.table, tmp_path / "out.csv", source.layout)
    assert (tmp_path / "out.csv").read_text() == text


def test_unknown_suffix_lists_the_known(tmp_path):
    with pytest.raises(InputError, match=r"\.parquet"):
        open_table(tmp_path / "x.sas7bdat")


def test_polars_frame():
    assert open_table(pl.DataFrame({"x": [1, 2, None]})).table.n_rows == 3


def test_a_schema_by_hand_need_not_spell_out_how_cells_are_written(tmp_path):
    text = "id,x,y,d\n" + "".join(f"P{i},{i / 4:.2f},{i / 4},0{i}/03/2020\n" for i in range(1, 9))
    (tmp_path / "in.csv").write_text(text)
    schema = TableSchema(
        (
            Column("id", "identifier"),
            Column("x", "continuous"),
            Column("y", "continuous"),
            Column("d", "datetime"),
        ),
        declared=True,
    )
    source = open_table(tmp_path / "in.csv", schema=schema)
    write(source.table, tmp_path / "out.csv", source.layout)
    for i in range(1, 9):
        text = text.replace(f"P{i},", f"P{i + 9},")
    assert (tmp_path / "out.csv").read_text() == text
    assert source.table.schema.declared


def test_a_schema_by_hand_takes_the_types_of_a_typed_source(tmp_path):
    frame = pl.DataFrame({"x": pl.Series([1, 0, None], dtype=pl.Int8), "y": [0.5, 1.25, None]})
    columns = (Column("x", "boolean", categories=("0", "1")), Column("y", "continuous"))
    table = open_table(frame, schema=TableSchema(columns)).table
    assert table.to_polars().equals(frame)


def test_roles_reach_the_schema():
    frame = pl.DataFrame({"p": ["a", "a", "b"] * 9, "t": list(range(27)), "e": [0, 1, 1] * 9})
    schema = open_table(
        frame, subject="p", time="t", event="e", sensitive=["e"], quasi_identifiers=["t"]
    ).table.schema
    assert schema["p"].roles == ("subject",) and schema["p"].kind == "identifier"
    assert schema["t"].roles == ("time", "quasi_identifier")
    assert schema["e"].roles == ("event", "sensitive")


def test_what_is_no_table(tmp_path):
    with pytest.raises(InputError, match="a dict was given"):
        open_table({"x": [1]})
    with pytest.raises(InputError, match="does not exist"):
        open_table("nowhere.csv")
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        open_table(tmp_path / "x.csv")


def test_pandas_columns_of_mixed_objects_become_text():
    import pandas as pd

    frame = pd.DataFrame({"x": [1, "a", pd.NA] * 9, "y": [1, 2, 3] * 9})
    table = open_table(frame).table
    assert table.to_polars()["x"].to_list() == ["1", "a", None] * 9
    assert table.to_polars()["y"].dtype == pl.Int64


def test_frames_that_are_no_table():
    import pandas as pd

    for frame, told in (
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a name twice"),
        (pd.DataFrame({"x": [1j, 2j]}), "column 'x'"),
        (pd.DataFrame({"x": pd.period_range("2020", "2021", freq="M")}), "column 'x'"),
        (pl.DataFrame({"x": [[1]]}), "'x' holds List"),
        (pl.DataFrame(), "without columns"),
    ):
        with pytest.raises(InputError, match=told):
            open_table(frame)


def test_the_suffix_says_which_delimiter(tmp_path):
    (tmp_path / "in.csv").write_text("a,b\n1,x\n2,y\n")
    source = open_table(tmp_path / "in.csv")
    write(source.table, tmp_path / "out.tsv", source.layout)
    assert (tmp_path / "out.tsv").read_text() == "a\tb\n1\tx\n2\ty\n"


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "in.csv").write_text("a,b\n1,x\n")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        open_table(tmp_path / "in.csv")


def test_a_disk_is_not_filled_first(tmp_path, monkeypatch):
    """A header and two rows, 13 bytes so far, are written; 98 more need 637 at 6.5 each."""
    two = open_table(pl.DataFrame({"x": [11.25, 12.75]})).table
    for free, stopped in ((636, True), (637, False)):
        monkeypatch.setattr(tables.shutil, "disk_usage", lambda _, f=free: SimpleNamespace(free=f))
        told = pytest.raises(OutputError, match="100 subjects") if stopped else nullcontext()
        with told, tables.writer(tmp_path / "out.csv", expected=100) as out:
            out.write(two)
        assert (tmp_path / "out.csv").exists() is not stopped
