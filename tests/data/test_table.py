import numpy as np
import polars as pl
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError, SchemaError

SCHEMA = TableSchema(
    (
        Column("x", "continuous", missing=("NA", "?"), decimals=1),
        Column("s", "categorical", categories=("a", "b")),
        Column("d", "datetime", date_format="%Y-%m-%d"),
        Column("note", "text"),
    )
)


def make(schema=SCHEMA):
    return Table(
        schema,
        np.array([4, 4, 7]),
        {
            "x": np.array([1.5, np.nan, -2.0]),
            "s": np.array([1, -1, 0], dtype=np.int32),
            "d": np.array(["1970-01-02", "NaT", "1969-12-31"], dtype="datetime64[us]"),
        },
        {"x": np.array([0, 2, 0], dtype=np.int8)},
    )


def test_numbers_of_every_kind():
    table = make()
    np.testing.assert_array_equal(table.numbers("x"), [1.5, np.nan, -2])
    np.testing.assert_array_equal(table.numbers("s"), [1, np.nan, 0])
    np.testing.assert_array_equal(table.numbers("d"), [86400, np.nan, -86400])
    assert table.present("d").tolist() == [True, False, True]
    assert (table.n_rows, table.n_subjects) == (3, 2)


def test_states_given_and_implied():
    assert make().state("x").tolist() == [0, 2, 0]
    assert make().state("s").tolist() == [0, 1, 0]


def test_rows_and_take():
    assert make().take(np.array([4])).columns["s"].tolist() == [1, -1]
    part = make().rows(np.array([2, 1]))
    assert part.subjects.tolist() == [7, 4] and part.states["x"].tolist() == [0, 2]
    assert make().take(np.array([], dtype=int)).n_rows == 0


def test_concatenate_stacks_everything():
    both = Table.concatenate([make(), make()])
    assert both.n_rows == 6 and both.states["x"].tolist() == [0, 2, 0] * 2
    np.testing.assert_array_equal(both.numbers("d")[3:], make().numbers("d"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": np.array(["1", "2", "3"])}, "'x' is"),
        ({"x": np.zeros(2)}, "shape"),
        ({"s": np.zeros(3)}, "'s' is float64"),
        ({"d": np.zeros(3)}, "'d' is float64"),
        ({"more": np.zeros(3)}, "4 columns"),
    ],
)
def test_schema_and_arrays_must_fit(change, told):
    with pytest.raises(SchemaError, match=told):
        Table(SCHEMA, np.arange(3), {**make().columns, **change})


def test_frames_in_and_out():
    frame = pl.DataFrame({"x": [1.5, None, 3.5] * 9, "s": ["a", "b", None] * 9})
    table = Table.from_frame(frame)
    assert table.to_polars().equals(frame)
    assert Table.from_frame(frame.to_pandas()).n_rows == 27
    assert Table.from_frame(frame.to_arrow()).n_rows == 27
    pandas = table.to_pandas()
    assert list(pandas.columns) == ["x", "s"] and pandas["x"].isna().sum() == 9


def test_from_frame_obeys_a_schema():
    schema = TableSchema((Column("x", "categorical", categories=("1", "2"), dtype="Int64"),))
    table = Table.from_frame(pl.DataFrame({"x": [2, 1]}), schema)
    assert table.columns["x"].tolist() == [1, 0]
    assert table.to_polars().equals(pl.DataFrame({"x": [2, 1]}))


def test_from_frame_says_what_it_cannot_take():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InputError, match="a int was given"):
        Table.from_frame(7)
    twice = pandas.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(InputError, match="name twice"):
        Table.from_frame(twice)
    with pytest.raises(InputError, match="List"):
        Table.from_frame(pandas.DataFrame({"a": [[1], [2]]}))
    mixed = pandas.DataFrame({"a": [1, "x", 2.5, None] * 10})
    assert Table.from_frame(mixed).n_rows == 40
