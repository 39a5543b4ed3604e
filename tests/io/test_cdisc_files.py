"""SAS transport, Dataset-JSON and ISO 8601 as CDISC has them, against independent readers."""

import datetime
import io
import itertools
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manikin.errors import InputError, MissingExtra, OutputError
from manikin.io.cdisc.dataset_json import is_dataset_json, read_dataset_json, write_dataset_json
from manikin.io.cdisc.dates import read_moments, study_days, write_moments
from manikin.io.cdisc.xpt import ibm_doubles, read_xpt, write_xpt

FRAME = pl.DataFrame(
    {
        "USUBJID": ["S-1", "S-2", "S-3"],
        "VSSTRESN": [118.625, None, -0.1],
        "VSTPT": ['AFTER "LYING"', None, "für 5 min"],
    }
)
COLUMNS = [("USUBJID", False), ("VSSTRESN", True), ("VSTPT", False)]
# pandas takes blanks at the end of rows of less than 80 bytes for the end of the data
LENGTHS = {"USUBJID": 3, "VSTPT": 90}
LABELS = {"VSSTRESN": "Numeric Result"}


def as_xpt(frame: pl.DataFrame = FRAME, cuts: tuple[int, ...] = (2,)) -> bytes:
    file = io.BytesIO()
    ends = [0, *cuts, frame.height]
    parts = (frame[a:b] for a, b in itertools.pairwise(ends))
    write_xpt(file, "VS", "SYNTHETIC Vital Signs", LABELS, LENGTHS, parts, COLUMNS)
    return file.getvalue()


def as_json(*, lines: bool) -> bytes:
    file = io.BytesIO()
    parts = iter([FRAME[:2], FRAME[:0], FRAME[2:]])
    write_dataset_json(file, "VS", "Vital Signs", LABELS, LENGTHS, parts, COLUMNS, records=3,
                       study="ST", lines=lines)  # fmt: skip
    return file.getvalue()


# ------------------------------------------------------------------ SAS transport


def test_ibm_doubles_are_those_of_the_published_examples() -> None:
    # 1 = 1/16 · 16^1: exponent 64 + 1 = 0x41, mantissa 0x1…; -118.625 is the textbook's C276A000…
    made = ibm_doubles(np.array([1.0, -118.625, 0.0, np.nan]))
    assert [f"{int(x):016x}" for x in made] == [
        "4110000000000000", "c276a00000000000", "0" * 16, "2e00000000000000"
    ]  # fmt: skip


@given(st.floats(min_value=1e-70, max_value=1e70) | st.floats(min_value=-1e70, max_value=-1e-70))
def test_no_bit_of_a_double_is_lost_in_an_ibm_double(value: float) -> None:
    (bits,) = ibm_doubles(np.array([value])).tolist()
    sign = -1 if bits >> 63 else 1
    exponent = (bits >> 56 & 0x7F) - 64
    mantissa = bits & (1 << 56) - 1
    assert sign * mantissa * 16.0 ** (exponent - 14) == value
    assert mantissa >> 52, "the first hexadecimal digit is not 0"


def test_what_is_too_large_for_an_ibm_double_is_refused_and_counted() -> None:
    with pytest.raises(OutputError, match="2 numbers"):
        ibm_doubles(np.array([1e76, -1e300, 1.0]))


def test_pandas_reads_the_transport_file(tmp_path: Path) -> None:
    path = tmp_path / "vs.xpt"
    path.write_bytes(as_xpt())
    frame = pd.read_sas(path, format="xport", encoding="utf-8")
    assert list(frame.columns) == FRAME.columns
    assert frame["USUBJID"].tolist() == ["S-1", "S-2", "S-3"]
    assert frame["VSSTRESN"].fillna(-9).tolist() == [118.625, -9, -0.1]
    assert frame["VSTPT"].fillna("").tolist() == ['AFTER "LYING"', "", "für 5 min"]


def test_pyreadstat_reads_names_labels_and_lengths(tmp_path: Path) -> None:
    import pyreadstat

    path = tmp_path / "vs.xpt"
    path.write_bytes(as_xpt())
    assert path.stat().st_size % 80 == 0
    frame, meta = pyreadstat.read_xport(path)
    assert meta.table_name == "VS"
    assert meta.file_label == "SYNTHETIC Vital Signs"
    assert meta.column_names_to_labels["VSSTRESN"] == "Numeric Result"
    assert frame["VSSTRESN"].tolist()[0] == 118.625
    ours, label = read_xpt(path)
    assert label == "SYNTHETIC Vital Signs"
    assert ours["VSSTRESN"].to_list() == [118.625, None, -0.1]


def test_parts_make_the_same_file_as_one() -> None:
    assert as_xpt(cuts=(1, 2))[400:] == as_xpt(cuts=())[400:]


@pytest.mark.parametrize("cut", [10, 500, 900, -40, -1])
def test_a_transport_file_that_was_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "vs.xpt"
    path.write_bytes(as_xpt()[:cut])
    with pytest.raises(InputError, match="cannot be read as a SAS transport file"):
        read_xpt(path)


def test_a_transport_file_in_windows_1252_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vs.xpt"
    path.write_bytes(as_xpt().replace("für ".encode(), b"f\xfcr  "))
    assert read_xpt(path)[0]["VSTPT"].to_list()[2].startswith("für")


def test_without_the_extra_the_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vs.xpt"
    path.write_bytes(as_xpt())
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    with pytest.raises(MissingExtra, match=r"manikin\[ehr\]"):
        read_xpt(path)


@pytest.mark.parametrize(
    ("name", "lengths", "said"),
    [("VITALSIGNS", LENGTHS, "names of more than 8"), ("VS", {**LENGTHS, "VSTPT": 201}, "VSTPT")],
)
def test_what_version_5_cannot_hold_is_refused(
    name: str, lengths: dict[str, int], said: str
) -> None:
    with pytest.raises(OutputError, match=said):
        write_xpt(io.BytesIO(), name, "", {}, lengths, iter([FRAME]), COLUMNS)


def test_a_namestr_has_140_bytes_at_the_place_that_sas_says() -> None:
    raw = as_xpt()
    kind, _, width = struct.unpack_from(">hhh", raw, 8 * 80)
    assert (kind, width) == (2, 3)
    assert raw[8 * 80 + 8 : 8 * 80 + 16] == b"USUBJID "
    assert struct.unpack_from(">h", raw, 8 * 80 + 140)[0] == 1  # the second is a number


# ------------------------------------------------------------------ Dataset-JSON


def check_dataset_json(told: dict[str, Any]) -> None:
    """What Dataset-JSON 1.1 says of the attributes of a file and of its columns."""
    required = {"datasetJSONCreationDateTime", "datasetJSONVersion", "itemGroupOID", "records",
                "name", "label", "columns"}  # fmt: skip
    optional = {"fileOID", "dbLastModifiedDateTime", "originator", "sourceSystem", "studyOID",
                "metaDataVersionOID", "metaDataRef", "rows"}  # fmt: skip
    assert required <= set(told) <= required | optional
    assert told["datasetJSONVersion"].startswith("1.1")
    datetime.datetime.fromisoformat(told["datasetJSONCreationDateTime"])
    types = {"string", "integer", "decimal", "float", "double", "boolean", "datetime", "date",
             "time", "URI"}  # fmt: skip
    for column in told["columns"]:
        allowed = {"itemOID", "name", "label", "dataType", "targetDataType", "length",
                   "displayFormat", "keySequence"}  # fmt: skip
        assert {"itemOID", "name", "label", "dataType"} <= set(column) <= allowed
        assert column["dataType"] in types
    assert len({column["itemOID"] for column in told["columns"]}) == len(told["columns"])


def test_plain_json_reads_the_dataset() -> None:
    told = json.loads(as_json(lines=False))
    check_dataset_json(told)
    assert told["rows"] == [
        ["S-1", 118.625, 'AFTER "LYING"'], ["S-2", None, ""], ["S-3", -0.1, "für 5 min"]
    ]  # fmt: skip
    assert told["records"] == len(told["rows"])


def test_the_ndjson_form_has_attributes_on_its_first_line_and_a_row_on_each_other() -> None:
    first, *rows = as_json(lines=True).decode().splitlines()
    check_dataset_json(json.loads(first))
    assert "rows" not in json.loads(first)
    assert [json.loads(row)[0] for row in rows] == ["S-1", "S-2", "S-3"]


@pytest.mark.parametrize("lines", [False, True])
def test_dataset_json_reads_back(tmp_path: Path, lines: bool) -> None:
    path = tmp_path / ("vs.ndjson" if lines else "vs.json")
    path.write_bytes(as_json(lines=lines))
    assert is_dataset_json(path)
    frame, name, label = read_dataset_json(path)
    assert (name, label) == ("VS", "Vital Signs")
    assert frame.equals(FRAME.with_columns(pl.col("VSTPT").fill_null("")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["rows"][0].pop(), "1 rows are not as long"),
        (lambda d: d.update(records=9), "9 records and has 3"),
        (lambda d: d.update(datasetJSONVersion="1.0.0"), "version 1.1"),
        (lambda d: d["columns"][0].pop("name"), "no name of its own"),
        (lambda d: d["columns"][1].update(dataType="tensor"), "a type that there is not"),
        (lambda d: d["rows"][0].__setitem__(1, "secret"), "1 cells that are no number"),
        (lambda d: d["rows"][0].__setitem__(2, ["secret"]), "lists or objects"),
        (lambda d: d.pop("columns"), "no columns"),
    ],
)
def test_broken_dataset_json_is_refused_without_a_value(
    tmp_path: Path, change: Any, said: str
) -> None:
    told = json.loads(as_json(lines=False))
    change(told)
    path = tmp_path / "vs.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        read_dataset_json(path)
    assert "secret" not in str(caught.value)


def test_dataset_json_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    for name, lines in (("vs.json", False), ("vs.ndjson", True)):
        path = tmp_path / name
        path.write_bytes(as_json(lines=lines)[:-20])
        with pytest.raises(InputError, match="cannot be read as Dataset-JSON"):
            read_dataset_json(path)


# ------------------------------------------------------------------ dates


def test_dates_of_every_precision_are_read_by_the_rule() -> None:
    text = ["2003", "2003-12", "2003-12-15", "2003-12-15T13:14", "2003---15", "--12-15", "unknown",
            "2003-12-15T-:30", "2003-12-15/2003-12-20", "2003-12-15T13:14:05.25", None, "",
            "2003-12-15T13:14+02:00", "20031215", "2003-02-30", "2003-12-15T25:00"]  # fmt: skip
    read = read_moments(pl.Series(text))
    shown = [None if t is None else t.isoformat() for t in read.time.to_list()]
    assert shown == [
        "2003-01-01T00:00:00", "2003-12-01T00:00:00", "2003-12-15T00:00:00", "2003-12-15T13:14:00",
        "2003-01-01T00:00:00", None, None, "2003-12-15T00:00:00", "2003-12-15T00:00:00",
        "2003-12-15T13:14:05.250000", None, None, "2003-12-15T13:14:00", "2003-12-15T00:00:00",
        None, None,
    ]  # fmt: skip
    # partial: the year alone twice, year and month; unread: no year, a word, two impossible ones
    assert (read.partial, read.zoned, read.unread) == (3, 1, 4)


def test_an_end_is_the_last_day_that_a_partial_date_allows() -> None:
    read = read_moments(pl.Series(["2003", "2004-02", "2003-12-15/2003-12-20"]), last=True)
    assert [t.date().isoformat() for t in read.time.to_list()] == [
        "2003-12-31", "2004-02-29", "2003-12-20"
    ]  # fmt: skip


@given(st.lists(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1))))
def test_moments_are_read_as_they_were_written(times: list[datetime.datetime]) -> None:
    moments = np.array(times, "datetime64[us]")
    read = read_moments(write_moments(moments))
    assert read.unread == read.partial == 0
    assert read.time.to_list() == times


def test_there_is_no_study_day_0() -> None:
    times = np.array(["2014-01-01T23:00", "2014-01-02", "2014-01-03", "NaT"], "datetime64[us]")
    start = np.full(4, np.datetime64("2014-01-02T08:00", "us"))
    assert study_days(times, start).tolist()[:3] == [-1, 1, 2]
    assert np.isnan(study_days(times, start)[3])
