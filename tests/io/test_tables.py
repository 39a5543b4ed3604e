import polars as pl
import pytest

from manikin.errors import InputError
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
