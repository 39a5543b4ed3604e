import dataclasses
import datetime

import numpy as np
import polars as pl
import pytest

from manikin.data.infer import infer_schema
from manikin.data.parse import parse
from manikin.data.schema import Column, TableSchema
from manikin.errors import SchemaError

SECRET = "unmistakable"


def one(column, cells, **more):
    frame = pl.DataFrame({column.name: pl.Series(cells, dtype=pl.String), **more})
    return parse(frame, TableSchema((column,)))


def test_known_answers_by_hand():
    schema = TableSchema(
        (
            Column("id", "identifier", ("subject",)),
            Column("x", "continuous", missing=("NA", "."), special=("<1",)),
            Column("s", "categorical", categories=("b", "a"), missing=("?",)),
            Column("d", "datetime", date_format="%d/%m/%Y"),
            Column("note", "text"),
        )
    )
    frame = pl.DataFrame(
        {
            "id": ["P9", "P2", "P9", "P1"],
            "x": ["1.5", "NA", ".", "<1"],
            "s": ["a", "b", "?", "a"],
            "d": ["01/02/2020", "", "31/12/1969", "01/01/1970"],
            "note": ["w", "x", "y", "z"],
        }
    )
    table = parse(frame, schema)
    assert table.subjects.tolist() == [0, 1, 0, 2]
    assert set(table.columns) == {"x", "s", "d"}
    np.testing.assert_array_equal(table.columns["x"], [1.5, np.nan, np.nan, np.nan])
    assert table.states["x"].tolist() == [0, 1, 2, 3]
    assert table.columns["s"].tolist() == [1, 0, -1, 1]
    assert table.columns["s"].dtype == np.int32
    assert table.columns["d"].astype("datetime64[D]").astype(str).tolist() == [
        "2020-02-01", "NaT", "1969-12-31", "1970-01-01",
    ]  # fmt: skip
    assert set(table.states) == {"x"}
    assert table.state("s").tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("column", "cells", "told"),
    [
        (Column("x", "categorical", categories=("a",)), ["a", SECRET, SECRET], "2 cells"),
        (Column("x", "boolean", categories=("0", "1")), ["0", "2", "1"], "1 cells that are none"),
        (Column("x", "continuous"), ["1", SECRET, "3"], "1 cells that are no number"),
        (Column("x", "continuous"), ["1", "inf", "nan", "1e999"], "3 cells that are no number"),
        (Column("x", "integer"), ["1", "2.5", "3"], "1 cells that are no whole number"),
        (Column("x", "datetime", date_format="%Y-%m-%d"), ["2020-02-30", "2020-02-01"], "1 cells"),
        (Column("x", "datetime", date_format="%d/%m/%Y"), ["2020-02-01"] * 2, "%d/%m/%Y"),
        (Column("x", "identifier", ("subject",)), ["1", "", ""], "2 rows without a subject"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_counted_and_never_quoted(column, cells, told):
    with pytest.raises(SchemaError) as caught:
        one(column, cells)
    assert told in str(caught.value) and "'x'" in str(caught.value)
    assert SECRET not in str(caught.value) and "2.5" not in str(caught.value)


def test_missing_and_additional_columns():
    frame = pl.DataFrame({"a": ["1"], "b": ["2"]})
    schema = TableSchema((Column("a", "integer"), Column("c", "integer")))
    with pytest.raises(SchemaError, match=r"lack 'c' and the schema does not know 'b'"):
        parse(frame, schema)


def test_columns_come_in_the_order_of_the_schema():
    frame = pl.DataFrame({"b": ["2"], "a": ["1"]})
    schema = TableSchema((Column("a", "integer"), Column("b", "integer")))
    assert parse(frame, schema).to_polars().columns == ["a", "b"]


def test_cells_with_spaces_are_numbers_and_dates_still():
    assert one(Column("x", "integer"), [" 1", "2 "]).columns["x"].tolist() == [1, 2]
    column = Column("x", "datetime", date_format="%Y-%m-%d")
    assert not np.isnat(one(column, [" 2020-01-31"]).columns["x"][0])


def test_a_datetime_without_a_format_is_found_out():
    values = one(Column("x", "datetime"), ["31/12/2019", "01/02/2020"]).columns["x"]
    assert values.astype("datetime64[D]").astype(str).tolist() == ["2019-12-31", "2020-02-01"]


def test_typed_and_text_cells_give_the_same_table():
    typed = pl.DataFrame(
        {
            "i": [1, None, 30] * 20,
            "f": [0.5, 2.0, None] * 20,
            "b": [True, False, None] * 20,
            "d": [datetime.date(2020, 1, 31), None, datetime.date(2021, 1, 1)] * 20,
        }
    )
    text = pl.DataFrame(
        {
            "i": ["1", "", "30"] * 20,
            "f": ["0.5", "2", ""] * 20,
            "b": ["true", "false", ""] * 20,
            "d": ["2020-01-31", "", "2021-01-01"] * 20,
        }
    )
    schema = infer_schema(typed)
    a, b = parse(typed, schema), parse(text, schema)
    for name in typed.columns:
        np.testing.assert_array_equal(a.columns[name], b.columns[name])
        np.testing.assert_array_equal(a.state(name), b.state(name))


def test_codes_of_typed_numbers():
    frame = pl.DataFrame({"x": [1.0, 0.0, None, 1.0]})
    schema = TableSchema((Column("x", "boolean", categories=("0", "1"), dtype="Float64"),))
    assert parse(frame, schema).columns["x"].tolist() == [1, 0, -1, 1]


def test_a_category_may_look_like_nothing_elsewhere():
    table = one(Column("x", "categorical", categories=("NA", "a")), ["NA", "a", ""])
    assert table.columns["x"].tolist() == [0, 1, -1]


def test_input_is_left_alone():
    frame = pl.DataFrame({"x": [1.5, 2.5]})
    before = frame.clone()
    table = parse(frame, infer_schema(frame))
    table.columns["x"][0] = 9
    assert frame.equals(before)


def test_subjects_are_numbered_in_order_of_appearance():
    frame = pl.DataFrame({"who": [30, 10, 30, 20], "x": [1, 2, 3, 4]})
    schema = infer_schema(frame, subject="who")
    assert parse(frame, schema).subjects.tolist() == [0, 1, 0, 2]
    no_holder = dataclasses.replace(schema, columns=(Column("who", "identifier"), schema["x"]))
    assert parse(frame, no_holder).subjects.tolist() == [0, 1, 2, 3]


def test_no_rows():
    table = one(Column("x", "continuous", missing=("", "NA")), [])
    assert table.n_rows == 0 and table.columns["x"].dtype == np.float64
