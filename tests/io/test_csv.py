import gzip
import os
import stat

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.errors import InputError, OutputError
from manikin.io.csv import read_csv
from manikin.io.layout import Layout
from manikin.io.tables import open_table, read, write, writer

ROWS = [(20 + i, "mf"[i % 2], f"{18 + i / 10:.1f}") for i in range(40)]
PLAIN = "age,sex,bmi\n" + "".join(f"{a},{s},{b}\n" for a, s, b in ROWS)
VARIANTS = {
    "plain": PLAIN.encode(),
    "semicolon": PLAIN.replace(",", ";").encode(),
    "tab": PLAIN.replace(",", "\t").encode(),
    "pipe": PLAIN.replace(",", "|").encode(),
    "decimal comma": PLAIN.replace(",", ";").replace(".", ",").encode(),
    "decimal comma in quotes": ("age,sex,bmi\n" + "".join(
        f'{a},{s},"{b}"\n'.replace(".", ",") for a, s, b in ROWS)).encode(),
    "windows lines": PLAIN.replace("\n", "\r\n").encode(),
    "old mac lines": PLAIN.replace("\n", "\r").encode(),
    "no last line end": PLAIN.rstrip("\n").encode(),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "utf-16": b"\xff\xfe" + PLAIN.replace("sex", "Geschlecht ♀").encode("utf-16-le"),
    "utf-16 big endian": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "windows-1252": PLAIN.replace("bmi", "Größe €").encode("cp1252"),
    "latin-1": PLAIN.replace("bmi", "Gr\xf6\xdfe\x81").encode("latin-1"),
    "space after comma": PLAIN.replace(",", ", ").encode(),
    "space after comma and quotes": PLAIN.replace(",m,", ',"m, n",').replace(",", ", ").replace(
        "m,  n", "m, n").encode(),
    "all in quotes": "".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in PLAIN.splitlines()
    ).encode(),
    "text in quotes as R does": ('"age","sex","bmi"\n' + "".join(
        f"{a},{s if s == 'NA' else chr(34) + s + chr(34)},{b}\n"
        for a, s, b in [*ROWS, (3, "NA", "NA")])).encode(),
    "apostrophes for quotes": ("age,sex,bmi\n" + "".join(
        f"{a},'{s}','x,{i % 3}'\n" for i, (a, s, _) in enumerate(ROWS))).encode(),
    "bare points": PLAIN.replace("1", "0").replace("0.", ".").replace(".", ".5").encode(),
    "quoted line break": ('note,x\n' + '"a ""b"",\nc",1\nplain,0\n' * 20).encode(),
    "duplicate names": PLAIN.replace("age,sex,bmi", "x,x,x").encode(),
    "unnamed column": PLAIN.replace("age,sex", ",sex").encode(),
    "header ends in a comma": PLAIN.replace("bmi\n", "bmi,\n").encode(),
    "quoted header ends in a comma": PLAIN.replace("age,sex,bmi", '"age","sex","bmi",').encode(),
    "header without row names": PLAIN.replace("age,", "").encode(),
    "no header": PLAIN.partition("\n")[2].encode(),
    "names are years": PLAIN.replace("age,sex,bmi", "2001,2002,2003").encode(),
    "unicode names": PLAIN.replace("age", "年齢").replace("sex", "пол 🙂").encode(),
    "one column": b"x\n" + b"1\n2\n3\n2\n" * 9,
    "one row": b"a,b,c\n1,x,2.50\n",
    "header only": b"a,b,c\n",
    "formulas": ("a,=b\n" + "'=1+1,1\n'@x,0\n-1,1\n+,0\nok,1\n" * 5).encode(),
    "gzip": gzip.compress(PLAIN.encode(), mtime=0),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_comes_back_as_it_was(name, tmp_path):
    suffix = ".csv.gz" if name == "gzip" else ".csv"
    (tmp_path / f"in{suffix}").write_bytes(VARIANTS[name])
    source = open_table(tmp_path / f"in{suffix}")
    write(source.table, tmp_path / f"out{suffix}", source.layout)
    expected = VARIANTS[name].replace(b",=b", b",'=b")
    found = (tmp_path / f"out{suffix}").read_bytes()
    if name == "gzip":
        expected, found = gzip.decompress(expected), gzip.decompress(found)
    assert found == expected


def frame_of(text, tmp_path, name="x.csv"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_csv(tmp_path / name)


def test_decimal_comma_is_read_as_a_number(tmp_path):
    (tmp_path / "x.csv").write_bytes(VARIANTS["decimal comma"])
    table = read(tmp_path / "x.csv")
    assert table.schema["bmi"].kind == "continuous"
    assert table.columns["bmi"][:2].tolist() == [18.0, 18.1]


def test_thousands_are_not_taken_for_decimals(tmp_path):
    frame, layout = frame_of("a;b\n1,234;x\n5,678;y\n", tmp_path)
    assert layout.decimal_comma == () and frame["a"].to_list() == ["1,234", "5,678"]


def test_quotes_inside_a_cell_are_forgiven(tmp_path):
    frame, _ = frame_of("size,x\n5'6\",1\n5'7\",2\n6'1,3\n", tmp_path)
    assert frame["size"].to_list() == ["5'6\"", "5'7\"", "6'1"]


def test_blank_lines_between_rows_are_passed_over(tmp_path):
    frame, _ = frame_of("\na,b\n1,2\n\n3,4\n\n\n", tmp_path)
    assert frame.rows() == [("1", "2"), ("3", "4")]


def test_header_without_measurements_is_recognised(tmp_path):
    frame, layout = frame_of("63.0,1.0,145.0,?\n67.0,1.0,160.0,2\n37.0,1.0,130.0,1\n", tmp_path)
    assert frame.columns == ["column_1", "column_2", "column_3", "column_4"]
    assert frame.height == 3 and layout.header == ()


def test_a_word_above_numbers_makes_a_header(tmp_path):
    frame, _ = frame_of("id,0,6,24,48\n1,5,6,7,8\n2,5,6,7,8\n", tmp_path)
    assert frame.columns == ["id", "0", "6", "24", "48"]


def test_repeated_and_missing_names_become_different_ones(tmp_path):
    frame, _ = frame_of("x,x,,x_2\na,b,c,d\n", tmp_path)
    assert frame.columns == ["x", "x_3", "column_3", "x_2"]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "is empty"),
        (b"a,b\n1,2\n3\n4,5,6\n", "2 rows whose number of cells"),
        (b"a,b\n1\x00,2\n", "zero bytes"),
        (bytes(range(1, 32)) * 20, "control characters"),
        (b"PK\x03\x04abc", "an Excel or zip file"),
        (b"PAR1abc", "a Parquet file"),
        (b"\x1f\x8b\x08broken", "damaged gzip"),
        (b"\xff\xfea", "is not text"),
    ],
)
def test_what_is_no_table_is_said_without_quoting_it(raw, told, tmp_path):
    (tmp_path / "x.csv").write_bytes(raw)
    with pytest.raises(InputError, match=told) as caught:
        open_table(tmp_path / "x.csv")
    assert caught.value.todo or "gzip" in told


def test_ragged_rows_tell_where_but_not_what(tmp_path):
    with pytest.raises(InputError) as caught:
        frame_of("a,b\n1,2\nsecret\n", tmp_path)
    assert "record 3" in str(caught.value) and "secret" not in str(caught.value)


DANGEROUS = ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "\n=x", "＝1", "＋1", "－1", "＠x"]


@pytest.mark.parametrize("cell", DANGEROUS)
def test_no_cell_or_name_starts_a_formula(cell, tmp_path):
    frame = pl.DataFrame({cell: [cell, "a"] * 20, "n": ["-5", "3"] * 20, "sign": ["-", "++"] * 20})
    table = open_table(frame).table
    write(table, tmp_path / "x.csv")
    raw = (tmp_path / "x.csv").read_bytes().decode()
    for start in ("=", "@", "\t", "\r", "＝", "＋", "－", "＠"):
        assert not raw.startswith(start) and f"\n{start}" not in raw.replace("\n=x", "")
    back, _ = read_csv(tmp_path / "x.csv")
    assert back.columns == [cell, "n", "sign"]
    assert back.rows() == frame.rows()
    assert "-5" in raw and "'-5" not in raw and "'-," not in raw


cells = st.text("ab1,;\t|\"' \n=+-@.é", max_size=6)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(cells, st.integers(0, 1)), min_size=4, max_size=15),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_any_text_survives_a_file(tmp_path_factory, rows, delimiter, line_ending, bom):
    folder = tmp_path_factory.mktemp("x")
    frame = pl.DataFrame({"note": [f"n{a}" for a, _ in rows], "x": [str(b) for _, b in rows],
                          "y": [str(i) for i in range(len(rows))]})  # fmt: skip
    from manikin.io.csv import CsvWriter

    layout = Layout(delimiter=delimiter, line_ending=line_ending, bom=bom, quoted=("note",))
    with (folder / "x.csv").open("wb") as file:
        out = CsvWriter(file, layout)
        out.write(frame, None)
        out.close()
    back, found = read_csv(folder / "x.csv")
    assert found.delimiter == delimiter and found.bom == bom
    assert back.rows() == frame.rows()


# ------------------------------------------------------------------ writing


def test_blocks_number_identifiers_on(tmp_path):
    frame = pl.DataFrame(
        {"pid": ["1", "1", "2"], "visit_id": ["7", "8", "9"], "x": ["5", "6", "7"]}
    )
    table = open_table(frame, subject="pid").table
    with writer(tmp_path / "x.csv") as out:
        out.write(table)
        out.write(table)
        assert (out.rows, out.subjects) == (6, 4)
    back, _ = read_csv(tmp_path / "x.csv")
    assert back["pid"].to_list() == ["10", "10", "11", "12", "12", "13"]
    assert back["visit_id"].n_unique() == 6


def test_nothing_is_left_after_an_exception(tmp_path):
    table = open_table(pl.DataFrame({"x": [1, 2]})).table
    for name in ("x.csv", "x.parquet", "x.xlsx"):
        with pytest.raises(RuntimeError), writer(tmp_path / name) as out:
            out.write(table)
            out.write(table)
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_files_are_readable_by_their_owner_only(tmp_path):
    write(open_table(pl.DataFrame({"x": [1, 2]})).table, tmp_path / "x.csv")
    assert stat.S_IMODE(os.stat(tmp_path / "x.csv").st_mode) == 0o600


def test_an_old_file_stays_when_writing_fails(tmp_path):
    (tmp_path / "x.csv").write_text("old")
    with pytest.raises(RuntimeError), writer(tmp_path / "x.csv"):
        raise RuntimeError
    assert (tmp_path / "x.csv").read_text() == "old"


def test_a_folder_that_is_not_there(tmp_path):
    table = open_table(pl.DataFrame({"x": [1, 2]})).table
    with pytest.raises(OutputError, match="cannot be written"):
        write(table, tmp_path / "nowhere" / "x.csv")


def test_a_character_outside_the_encoding(tmp_path):
    table = open_table(pl.DataFrame({"x": ["♀", "♂"] * 9})).table
    with pytest.raises(OutputError, match="latin-1"):
        write(table, tmp_path / "x.csv", Layout(encoding="latin-1"))
    assert list(tmp_path.iterdir()) == []


def test_five_hundred_columns(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100, (30, 500))
    text = ",".join(f"v{i}" for i in range(500)) + "\n"
    text += "".join(",".join(map(str, row)) + "\n" for row in values)
    (tmp_path / "x.csv").write_text(text)
    source = open_table(tmp_path / "x.csv")
    assert len(source.table.columns) == 500
    write(source.table, tmp_path / "y.csv", source.layout)
    assert (tmp_path / "y.csv").read_text() == text


def test_infinities_are_numbers_not_formulas(tmp_path):
    frame = pl.DataFrame({"x": ["-inf", "+Inf", "-Infinity", "1e308", "-nan"] * 20})
    write(open_table(frame).table, tmp_path / "x.csv")
    assert "'" not in (tmp_path / "x.csv").read_text()


def test_a_delimiter_inside_quotes_of_every_record_splits_nothing(tmp_path):
    """Each record has one semicolon, within a quoted note: as many pieces in each, yet no cells."""
    path = tmp_path / "t.csv"
    lines = ['"a; b","note","n"', *(f'"x; {i}","seen, twice","{i}"' for i in range(30))]
    path.write_text("\n".join(lines) + "\n")
    assert open_table(path).layout.delimiter == ","
