"""Files of rows as histories: recognised, read, counted, and written as they were."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, SchemaError
from manikin.io import histories as doors
from manikin.io import long
from manikin.io.histories import History

LONG = """patient_id,sex,date,code,value,unit
p7,F,2020-01-03,HbA1c,7.25,%
p7,F,2020-01-03,smoker,yes,
p2,M,2019-05-01,HbA1c,6.5,%
p2,M,2019-05-09,HbA1c,,%
p2,M,,allergy,,
"""
WIDE = """USUBJID,SEX,DAY,SBP,DBP,POSITION
01-701,F,1,120,80,SITTING
01-701,F,8,,,
01-701,F,15,118,79,STANDING
01-702,M,1,131,,SITTING
"""


def same(one: Events, two: Events) -> None:
    assert one.schema == two.schema
    for name in ("whose", "time", "code", "value", "end", "visit"):
        first, second = getattr(one, name), getattr(two, name)
        assert np.array_equal(first, second, equal_nan=first.dtype.kind in "fM"), name
    said = [[e.texts[t] if t >= 0 else None for t in e.text] for e in (one, two)]
    assert said[0] == said[1]
    for name in one.static.columns:
        first, second = one.static.columns[name], two.static.columns[name]
        assert np.array_equal(first, second, equal_nan=first.dtype.kind in "fM"), name


def put(text: str, path: Path) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def again(history: History, out: Path, **options: Any) -> Path:
    layout = json.loads(json.dumps(history.layout))
    doors.write([history.events], out, "long", layout=layout, synthetic=False,
                ids=history.ids, **options)  # fmt: skip
    return out


def test_one_event_a_row_is_read_with_what_is_told_once(tmp_path: Path) -> None:
    path = put(LONG, tmp_path / "events.csv")
    assert doors.format_of(path) == "long"
    history = doors.read(path)
    events, schema = history.events, history.events.schema
    assert history.ids == ("p7", "p2")
    assert (schema.sex, schema.clock) == ("sex", "day")
    assert events.static.columns["sex"].tolist() == [0, 1]
    assert [(c.name, c.unit, c.domain, c.decimals) for c in schema.codes] == [
        ("HbA1c", "%", "measurement", 2), ("allergy", "", "observation", 0),
        ("smoker", "", "observation", 0),
    ]  # fmt: skip
    assert events.whose.tolist() == [0, 0, 1, 1, 1]
    assert np.isnat(events.time).tolist() == [False, False, True, False, False]
    assert events.value.tolist()[0] == 7.25
    assert [events.texts[t] if t >= 0 else "" for t in events.text] == ["", "yes", "", "", ""]
    # the words of one subject are no levels of a schema that others may see
    assert all(code.levels == () for code in schema.codes)
    assert "1 events have no time." in history.notes
    assert "1 rows were not sorted by subject and time; they were sorted." in history.notes
    assert "suffix" in history.layout


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = put(LONG, tmp_path / "events.csv")
    written = again(doors.read(path), tmp_path / "out.csv").read_text(encoding="utf-8")
    assert sorted(written.splitlines()) == sorted(LONG.splitlines())
    assert written.splitlines()[0] == LONG.splitlines()[0]


def test_new_subjects_get_names_of_the_source_s_shape(tmp_path: Path) -> None:
    history = doors.read(put(LONG, tmp_path / "events.csv"))
    out = tmp_path / "out.csv"
    parts = [history.events.take(np.array([k])) for k in (0, 1)]
    doors.write(iter(parts), out, "long", layout=history.layout, synthetic=True)
    names = pl.read_csv(out)["patient_id"].unique().to_list()
    assert len(names) == 2
    assert not set(names) & {"p7", "p2"}
    assert all(name.startswith("p") for name in names)


CODES = (
    Code("A", "visit"), Code("B", "measurement", unit="mg", numeric=True),
    Code("B", "measurement", unit="g", numeric=True), Code("C", "death"), Code("A", "condition"),
)  # fmt: skip
STATIC = TableSchema(
    (Column("sex", "categorical", categories=("F", "M")), Column("birth", "datetime"))
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".tsv.gz"])
def test_any_histories_are_written_and_read_with_their_schema(suffix: str, tmp_path: Path) -> None:
    schema = EventSchema(STATIC, CODES, birth="birth", sex="sex")
    birth = np.array(["1950-01-02", "NaT", "1960-05-06"], "datetime64[us]")
    static = Table(STATIC, np.arange(3), {"sex": np.array([0, 1, -1], np.int32), "birth": birth})
    events = Events.of(
        schema, static, [0, 0, 0, 2, 2],
        np.array(["NaT", "2020-01-01", "2020-01-01T05:06:07.000008", "2021-01-01", "2021-01-01"],
                 "datetime64[us]"),
        [4, 0, 1, 2, 3], [np.nan, np.nan, 0.1, 1e-30, -5],
        [0, -1, -1, 1, -1],
        np.array(["NaT", "2020-01-02", "NaT", "NaT", "NaT"], "datetime64[us]"),
        [-1, 3, 3, 0, -1], ('=1+1, "ü"', "12"),
    )  # fmt: skip
    out = tmp_path / f"rows{suffix}"
    doors.write([events], out, "long", synthetic=True)
    back = doors.read(out, schema=schema)
    same(events, back.events)
    assert back.ids == ()


def test_one_visit_a_row_becomes_events_and_comes_back(tmp_path: Path) -> None:
    path = put(WIDE, tmp_path / "vs.csv")
    assert not long.recognises(path)  # that is a table, unless somebody says otherwise
    history = doors.read(path)
    events = history.events
    assert history.ids == ("01-701", "01-702")
    assert [code.name for code in events.schema.codes] == ["SBP", "DBP", "POSITION", "ROW"]
    assert [column.name for column in events.schema.static] == ["SEX"]
    days = events.time.astype("datetime64[D]") - np.datetime64("2000-01-01")
    assert np.unique(days.astype(int)).tolist() == [1, 8, 15]
    assert again(history, tmp_path / "out.csv").read_text(encoding="utf-8") == WIDE


def test_columns_are_taken_as_they_are_named(tmp_path: Path) -> None:
    text = WIDE.replace("USUBJID", "who").replace("DAY", "nth")
    path = put(text, tmp_path / "vs.csv")
    with pytest.raises(InputError, match="whose a row is"):
        doors.read(path, format="long")
    columns = {"subject": "who", "time": "nth"}
    history = doors.read(path, format="long", columns=columns)
    assert again(history, tmp_path / "out.csv").read_text(encoding="utf-8") == text
    unordered = doors.read(path, format="long", columns={"subject": "who", "time": None})
    assert any(note.startswith("No column says when") for note in unordered.notes)
    with pytest.raises(SchemaError, match="no column named 'nobody'"):
        doors.read(path, format="long", columns={"subject": "nobody"})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("p7,F,2020-01-03,HbA1c", ",F,2020-01-03,HbA1c", "1 of 5 rows have no 'patient_id'"),
        ("2019-05-01,HbA1c", "2019-05-01,", "1 of 5 rows have no 'code'"),
        ("2019-05-09", "soon", "column 'date' has 1 cells that are no time"),
    ],
)
def test_broken_rows_are_refused_with_their_count_and_without_a_value(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    assert old in LONG
    with pytest.raises(InputError, match=said) as caught:
        doors.read(put(LONG.replace(old, new, 1), tmp_path / "events.csv"))
    assert "soon" not in str(caught.value)


def test_words_beside_a_column_of_texts_are_refused(tmp_path: Path) -> None:
    path = put("subject,time,code,value,text\n1,2020-01-01,a,many,x\n", tmp_path / "a.csv")
    with pytest.raises(InputError, match="1 cells of 'value'"):
        doors.read(path)


def test_times_of_zones_and_of_several_formats_become_utc(tmp_path: Path) -> None:
    rows = ["subject,time,code,value", "1,2020-01-01T05:00:00+01:00,a,1",
            "1,2020-01-01T05:00:00-02:00,a,1", "1,2020-01-02,a,1"]  # fmt: skip
    history = doors.read(put("\n".join(rows), tmp_path / "a.csv"))
    hours = (history.events.time - np.datetime64("2020-01-01", "us")) / np.timedelta64(1, "h")
    assert hours.tolist() == [4, 7, 24]
    assert any("zone" in note for note in history.notes)
    assert any("2 formats" in note for note in history.notes)


def test_numbers_are_days_and_come_back_as_numbers(tmp_path: Path) -> None:
    text = "subject,day,code,value\n1,-3,a,1\n1,0.5,a,2\n2,14,b,3\n"
    history = doors.read(put(text, tmp_path / "a.csv"))
    assert again(history, tmp_path / "out.csv").read_text(encoding="utf-8") == text


def test_columns_that_change_are_said_and_a_packed_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(LONG.replace("p7,F", "p7,X", 1).encode()))
    assert long.recognises(path)
    notes = doors.read(path).notes
    assert "Columns that change within a subject are not kept: sex." in notes


def test_subjects_without_events_are_rows_of_nothing_else(tmp_path: Path) -> None:
    path = put("subject,sex,time,code,value\n1,F,,,\n2,M,2020-01-01,a,1\n", tmp_path / "a.csv")
    history = doors.read(path)
    assert history.events.counts.tolist() == [0, 1]
    out = again(history, tmp_path / "out.csv")
    assert out.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_what_is_no_file_of_rows_is_not_recognised(tmp_path: Path) -> None:
    assert not long.recognises(tmp_path)
    assert not long.recognises(tmp_path / "nothing.csv")
    for name, content in (("a.csv", b""), ("b.csv", b"\x00\x01"), ("c.parquet", b"PAR1"),
                          ("d.txt", b"some text"), ("e.csv.gz", b"\x1f\x8bno")):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert not long.recognises(tmp_path / name)


def test_a_schema_that_lacks_codes_or_facts_is_refused(tmp_path: Path) -> None:
    path = put(LONG, tmp_path / "events.csv")
    full = doors.read(path).events.schema
    less = EventSchema(full.static, full.codes[:1])
    with pytest.raises(SchemaError, match="2 rows of 2 codes"):
        doors.read(path, schema=less)
    more = EventSchema(TableSchema((*full.static, Column("race", "categorical"))), full.codes)
    with pytest.raises(SchemaError, match="race"):
        doors.read(path, schema=more)
    assert doors.read(path, schema=full).events.n_events == 5


@pytest.mark.parametrize(
    "change",
    [
        {"suffix": "/../../x.csv"},
        {"look": 3},
        {"look": {"columns": {}}},
        {"subject": {"template": 3}},
        {"subject": "x"},
        {"kind": "wide"},
        {"kind": "wide", "panel": {}},
    ],
)
def test_a_stranger_s_layout_is_checked(change: dict[str, object], tmp_path: Path) -> None:
    history = doors.read(put(LONG, tmp_path / "events.csv"))
    layout = {**history.layout, **change}
    with pytest.raises(SchemaError):
        doors.write([history.events], tmp_path / "out", "long", layout=layout, synthetic=True)
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


def test_a_log_of_events_has_codes_and_a_channel_of_several_has_levels(tmp_path: Path) -> None:
    log = put("rownames,id,days,event\n1,a,0,nafld\n2,a,9,death\n3,b,1,nafld\n", tmp_path / "a.csv")
    assert [c.name for c in doors.read(log).events.schema.codes] == ["death", "nafld"]
    assert [c.domain for c in doors.read(log).events.schema.codes] == ["death", "observation"]
    visits = put("id,days,event,bili\na,0,0,2.5\na,9,1,3\nb,1,0,1\n", tmp_path / "b.csv")
    assert "event" in [c.name for c in doors.read(visits).events.schema.codes]
