"""Tables of many rows a subject as histories and back: every cell, mark and row in its place."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.events import Events
from manikin.data.panels import ORIGIN, Panel, events_of, table_of
from manikin.data.schema import Column, TableSchema, with_roles
from manikin.data.table import Table
from manikin.errors import SchemaError

FRAME = pl.DataFrame(
    {
        "id": ["a", "a", "a", "b", "c", "c"],
        "sex": ["F", "F", "F", "M", "F", "F"],
        "day": [0, 14, 14, 0, -7, 28],
        "sbp": [120.5, None, 131.0, None, 99.0, None],
        "stage": ["I", "II", None, None, "I", "I"],
        "smoker": [True, None, False, None, False, None],
    }
)
SCHEMA = TableSchema(
    (
        Column("id", "identifier", roles=("subject",), dtype="String"),
        Column("sex", "categorical", categories=("F", "M"), dtype="String"),
        Column("day", "integer", dtype="Int64"),
        Column("sbp", "continuous", decimals=1, unit="mmHg", dtype="Float64"),
        Column("stage", "ordinal", categories=("I", "II"), dtype="String"),
        Column("smoker", "boolean", categories=("false", "true"), dtype="Boolean"),
    )
)


def assert_same(one: Table, two: Table) -> None:
    assert one.schema == two.schema
    assert np.array_equal(one.subjects, two.subjects)
    for column in one.schema.learned:
        first, second = one.columns[column.name], two.columns[column.name]
        assert first.dtype == second.dtype, column.name
        assert np.array_equal(first, second, equal_nan=first.dtype.kind in "fM"), column.name
        assert np.array_equal(one.state(column.name), two.state(column.name)), column.name


def test_cells_are_events_and_rows_are_visits() -> None:
    table = Table.from_frame(FRAME, SCHEMA)
    events, panel = events_of(table, time="day")
    assert panel.static == ("sex",)
    assert events.schema.sex == "sex"
    assert events.schema.clock == "day"
    assert [code.name for code in events.schema.codes] == ["sbp", "stage", "smoker", "ROW"]
    assert events.schema.codes[0].unit == "mmHg"
    assert events.schema.codes[1].levels == ("I", "II")
    # a: three cells on day 0, one and two on day 14; b: nothing on day 0; c: three, then one
    assert events.counts.tolist() == [6, 1, 4]
    assert events.visit.tolist() == [0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 1]
    days = (events.time - ORIGIN) / np.timedelta64(1, "D")
    assert days.tolist() == [0, 0, 0, 14, 14, 14, 0, -7, -7, -7, 28]
    assert events.static.columns["sex"].tolist() == [0, 1, 0]
    assert events.schema.codes[events.code[6]].name == "ROW"
    back = table_of(events, panel)
    assert_same(table, back)
    assert back.to_polars().drop("id").equals(FRAME.drop("id"))
    assert Panel.from_json(panel.to_json()) == panel


def test_rows_without_a_time_keep_their_order() -> None:
    table = Table.from_frame(FRAME, SCHEMA)
    events, panel = events_of(table)
    assert panel.time == ""
    assert "day" in [code.name for code in events.schema.codes]
    assert_same(table, table_of(events, panel))


def test_the_column_with_the_role_is_the_time() -> None:
    table = Table.from_frame(FRAME, with_roles(SCHEMA, time="day"))
    assert events_of(table)[1].time == "day"


def test_rows_out_of_order_in_time_and_of_no_time_come_back() -> None:
    frame = FRAME.with_columns(day=pl.Series([14, None, 0, 5, None, -3]))
    table = Table.from_frame(frame, SCHEMA)
    events, panel = events_of(table, time="day")
    assert_same(table, table_of(events, panel))


def test_a_time_of_odd_numbers_is_kept_as_it_stands() -> None:
    schema = SCHEMA.replace(Column("day", "continuous", decimals=17, dtype="Float64"))
    for numbers in ([1 / 3, 2.0, 1e300, -5.25, 0.1, 1e-9], [0.0, 1.0, 2.0, 3.0, 4.5, 5.0]):
        table = Table.from_frame(FRAME.with_columns(day=pl.Series(numbers)), schema)
        events, panel = events_of(table, time="day")
        assert panel.kept == (numbers[0] != 0)
        assert_same(table, table_of(events, panel))


@pytest.mark.parametrize("step", ["second", "minute", "hour", "week", "month", "year"])
def test_numbers_of_any_step_are_exact(step: Any) -> None:
    table = Table.from_frame(FRAME, SCHEMA)
    events, panel = events_of(table, time="day", step=step)
    assert not panel.kept
    assert_same(table, table_of(events, panel))


def test_marks_and_dates_beyond_all_time_survive() -> None:
    schema = TableSchema(
        (
            Column("id", "identifier", roles=("subject",)),
            Column("lab", "continuous", decimals=1, missing=("", "NK"), special=("<0.5",)),
            Column("grade", "categorical", categories=("1", "2"), missing=("", "not done")),
            Column("until", "datetime", date_format="%Y-%m-%d", missing=("", "ongoing")),
        )
    )
    frame = pl.DataFrame(
        {
            "id": ["x", "x", "x", "y"],
            "lab": ["<0.5", "NK", "2.5", ""],
            "grade": ["1", "not done", "", "2"],
            "until": ["9999-12-31", "ongoing", "1890-02-01", ""],
        }
    )
    table = Table.from_frame(frame, schema)
    events, panel = events_of(table)
    assert [t for t in events.texts if t] == ["NK", "<0.5", "not done", "1", "2", "ongoing"]
    back = table_of(events, panel)
    assert_same(table, back)
    assert back.to_polars().drop("id").equals(frame.drop("id"))


def test_another_table_is_read_the_same_way_or_refused() -> None:
    table = Table.from_frame(FRAME, SCHEMA)
    _, panel = events_of(table, time="day")
    part = table.take(np.array([1]))  # of whom every column is constant
    events, again = events_of(part, panel=panel)
    assert again == panel
    assert [column.name for column in events.schema.static] == ["sex"]
    assert_same(part, table_of(events, panel))
    moved = Table(table.schema, np.zeros(6, np.int64), table.columns)
    with pytest.raises(SchemaError, match="1 cells of 'sex'"):
        events_of(moved, panel=panel)
    with pytest.raises(SchemaError):
        events_of(Table(TableSchema(()), np.arange(1), {}), panel=panel)


def test_drawn_histories_become_rows_whatever_they_lack() -> None:
    events, panel = events_of(Table.from_frame(FRAME, SCHEMA), time="day")
    unnumbered = replace(events, visit=np.full(events.n_events, -1, np.int32))
    # rows of one time are one row then, of which the first event of a column counts
    rows = table_of(unnumbered, panel)
    assert rows.columns["day"].tolist() == [0, 14, 0, -7, 28]
    assert rows.columns["stage"].tolist() == [0, 1, -1, 0, 0]
    assert rows.columns["sbp"].tolist()[1] == 131.0
    none = events.rows(np.zeros(events.n_events, bool))
    assert table_of(none, panel).n_rows == 0


@pytest.mark.parametrize(
    "change",
    [{"schema": None}, {"static": "sex"}, {"static": ["nobody"]}, {"static": [1]}, {"time": 3},
     {"time": "stage"}, {"time": "sex"}, {"time": "id"}, {"step": "fortnight"}, {"kept": 1}],
)  # fmt: skip
def test_a_malformed_panel_is_refused(change: dict[str, object]) -> None:
    _, panel = events_of(Table.from_frame(FRAME, SCHEMA), time="day")
    with pytest.raises(SchemaError):
        Panel.from_json({**panel.to_json(), **change})


def test_no_rows_no_columns_and_one_row_each_are_no_trouble() -> None:
    empty = Table.from_frame(FRAME.clear(), SCHEMA)
    events, panel = events_of(empty, time="day")
    assert (events.n_subjects, events.n_events) == (0, 0)
    assert_same(empty, table_of(events, panel))
    single = Table.from_frame(FRAME.gather([0, 3, 4]), SCHEMA)
    events, panel = events_of(single)
    assert events.n_events == 3  # all is told once: each row is only there
    assert_same(single, table_of(events, panel))


COLUMNS = (
    Column("t", "integer"),
    Column("when", "datetime"),
    Column("x", "continuous", decimals=3, missing=("", "NA"), special=("<1",)),
    Column("n", "integer"),
    Column("ROW", "categorical", categories=("a", "b", "ü")),
    Column("o", "ordinal", categories=("low", "high"), missing=("", "?", "NK")),
    Column("b", "boolean", categories=("0", "1")),
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_table_comes_back(data: st.DataObject) -> None:
    subjects = sorted(data.draw(st.lists(st.integers(0, 3), max_size=10)))
    n = len(subjects)

    def many(strategy: st.SearchStrategy[Any]) -> list[Any]:
        # now and then a column is told once a subject
        if data.draw(st.booleans()):
            each = data.draw(st.lists(strategy, min_size=4, max_size=4))
            return [each[s] for s in subjects]
        return data.draw(st.lists(strategy, min_size=n, max_size=n))

    moment = st.datetimes().map(lambda d: np.datetime64(d, "us")) | st.just(np.datetime64("NaT"))
    whole = st.integers(-10_000, 10_000) | st.just(np.nan)
    columns: dict[str, np.ndarray] = {
        "t": np.array(many(whole), float),
        "when": np.array(many(moment), "datetime64[s]").astype("datetime64[us]"),
        "x": np.array(many(st.floats(allow_infinity=False)), float),
        "n": np.array(many(whole), float),
        "ROW": np.array(many(st.integers(-1, 2)), np.int32),
        "o": np.array(many(st.integers(-1, 1)), np.int32),
        "b": np.array(many(st.integers(-1, 1)), np.int32),
    }
    states = {}
    for name, most in (("x", 3), ("o", 3)):
        values = columns[name]
        gone = values < 0 if name == "o" else np.isnan(values)
        drawn = np.array(many(st.integers(1, most)), np.int8)
        states[name] = np.where(gone, drawn, 0).astype(np.int8)
    table = Table(TableSchema(COLUMNS), np.array(subjects, np.int64), columns, states)
    time = data.draw(st.sampled_from([None, "t", "when", "x"]))
    events, panel = events_of(table, time=time)
    back = table_of(events, panel)
    assert_same(table, back)
    assert isinstance(events, Events)
    assert Panel.from_json(panel.to_json()) == panel
