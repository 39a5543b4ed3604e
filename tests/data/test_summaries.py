"""One row a subject: known answers, the same columns for all, and histories with nothing in."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.summaries import FEWEST, MOST_CODES, MOST_NUMBERS, plan, summaries
from manikin.data.table import Table
from manikin.errors import SchemaError

STATIC = TableSchema((
    Column("sex", "categorical", ("target",), categories=("F", "M")),
    Column("born", "datetime"),
    Column("note", "text"),
))  # fmt: skip
CODES = (
    Code("ICD/a", "condition"),
    Code("LOINC/x", "measurement", unit="mg/dL", numeric=True, decimals=1),
    Code("LOINC/x", "measurement", unit="umol/L", numeric=True),
    Code("PS", levels=("low", "high")),
)
SCHEMA = EventSchema(STATIC, CODES, birth="born", sex="sex")


def static(n: int) -> Table:
    born = np.full(n, np.datetime64("1960-01-01"), "datetime64[us]")
    return Table(STATIC, np.arange(n), {"sex": (np.arange(n) % 2).astype(np.int32), "born": born})


def days(values: list[float]) -> np.ndarray:
    start = np.datetime64("2020-01-01", "us")
    return np.array([np.datetime64("NaT") if np.isnan(v) else start + np.timedelta64(
        round(v * 86_400_000_000), "us") for v in values], "datetime64[us]")  # fmt: skip


def histories(n: int = 24) -> Events:
    """Even subjects have: day 0 x=1, day 4 x=4 and code a, day 6 x=2 and level high; odd a low."""
    even, odd = np.arange(0, n, 2), np.arange(1, n, 2)
    whose = [*np.repeat(even, 5), *odd]
    time = days([*([0, 4, 4, 6, 6] * even.size), *([1] * odd.size)])
    code = [*([1, 1, 0, 1, 3] * even.size), *([3] * odd.size)]
    value = [*([1.0, 4.0, np.nan, 2.0, np.nan] * even.size), *([np.nan] * odd.size)]
    text = [*([-1, -1, -1, -1, 1] * even.size), *([0] * odd.size)]
    return Events.of(SCHEMA, static(n), whose, time, code, value, text, texts=("low", "high"))


def test_a_history_worked_by_hand() -> None:
    table = summaries(histories(), histories())
    row = {name: table.columns[name][0] for name in table.columns}
    assert row["visits"] == 3  # days 0, 4 and 6
    assert row["events"] == 5
    assert row["record length"] == 6
    assert row["gap mean"] == 3  # gaps 4 and 2
    assert row["gap sd"] == pytest.approx(1.41)  # root of ((4-3)² + (2-3)²) / 1
    assert row["gap max"] == 4
    assert row["age at start"] == 60  # 21,915 days / 365.25
    assert row["has ICD/a"] == 1
    name = "LOINC/x [mg/dL]"
    assert row[f"{name} mean"] == pytest.approx(7 / 3, abs=1e-3)
    assert row[f"{name} sd"] == pytest.approx(1.528, abs=1e-3)  # root of (16/9 + 25/9 + 1/9) / 2
    assert row[f"{name} step"] == 2.5  # |4 - 1| and |2 - 4|
    assert row[f"{name} change"] == 1  # 2 - 1
    assert row["PS share high"] == 1
    assert row["PS share low"] == 0


def test_a_subject_with_one_event_has_no_gap_and_no_number() -> None:
    table = summaries(histories(), histories())
    row = {name: table.columns[name][1] for name in table.columns}
    assert (row["visits"], row["events"], row["record length"]) == (1, 1, 0)
    assert all(np.isnan(row[f"gap {what}"]) for what in ("mean", "sd", "max"))
    assert np.isnan(row["LOINC/x [mg/dL] mean"])
    assert row["has ICD/a"] == 0


def test_static_facts_stay_and_what_is_set_aside_goes() -> None:
    table = summaries(histories(), histories())
    assert table.schema.holder("target") == STATIC["sex"]
    assert "note" not in table.schema
    np.testing.assert_array_equal(table.columns["sex"], np.arange(24) % 2)


def test_columns_are_those_of_the_histories_compared_with() -> None:
    fewer = histories().rows(histories().code == 3)
    table = summaries(fewer, histories())
    assert table.schema == summaries(histories(), histories()).schema
    assert not table.columns["has ICD/a"].any()
    assert np.isnan(table.columns["LOINC/x [mg/dL] mean"]).all()


def test_codes_in_another_order_are_the_same_codes() -> None:
    turned = EventSchema(STATIC, (Code("new", "drug"), *CODES[::-1]), birth="born", sex="sex")
    events = histories()
    place = np.array([4, 3, 2, 1], np.int32)
    other = replace(events, schema=turned, code=place[events.code])
    expected = summaries(events, events)
    found = summaries(other, events)
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name], values, err_msg=name)


def test_a_code_of_few_has_no_column() -> None:
    few = histories(2 * FEWEST - 2)  # ten subjects have the code and the levels, ten lack them
    assert plan(few).has == ()
    assert plan(few).levels == ()
    assert plan(histories(2 * FEWEST)).has == (0, 1)  # eleven have each, eleven do not


def test_ten_thousand_codes_make_no_more_columns_than_are_allowed() -> None:
    n, each = 60, 10_000
    codes = tuple(Code(f"c{i}", numeric=True) for i in range(each))
    schema = EventSchema(TableSchema(()), codes)
    rng = np.random.default_rng(0)
    table = Table(TableSchema(()), np.arange(n), {})
    events = Events.of(
        schema, table, rng.integers(0, n, 200_000), days([0.0]).repeat(200_000),
        rng.integers(0, each, 200_000), rng.normal(size=200_000),
    )  # fmt: skip
    found = summaries(events, events)
    assert len(found.schema.columns) == 6 + MOST_CODES + 4 * MOST_NUMBERS


@pytest.mark.parametrize("n", [0, 3])
def test_histories_without_events_have_rows_and_no_numbers(n: int) -> None:
    events = Events.of(SCHEMA, static(n), [], days([]), [])
    table = summaries(events, events)
    assert table.n_rows == n
    assert not table.columns["events"].any()
    assert np.isnan(table.columns["record length"]).all()
    assert summaries(events, histories()).n_rows == n


def test_times_that_nobody_knows_count_as_events_only() -> None:
    events = Events.of(SCHEMA, static(1), [0, 0], days([np.nan, 2]), [0, 0])
    row = summaries(events, events).columns
    assert (row["events"][0], row["visits"][0], row["record length"][0]) == (2, 1, 0)


def test_small_numbers_keep_their_differences() -> None:
    schema = EventSchema(TableSchema(()), (Code("troponin", numeric=True),))
    table = Table(TableSchema(()), np.arange(3), {})
    events = Events.of(schema, table, [0, 1, 2], days([0, 0, 0]), [0, 0, 0], [1e-4, 2e-4, 3e-4])
    means = summaries(events, events).columns["troponin mean"]
    np.testing.assert_allclose(means, [1e-4, 2e-4, 3e-4], rtol=1e-3)


def test_a_static_column_may_bear_the_name_of_a_summary() -> None:
    facts = TableSchema((Column("visits", "integer"),))
    table = Table(facts, np.arange(1), {"visits": np.array([7.0])})
    events = Events.of(EventSchema(facts, CODES), table, [0], days([0]), [0])
    found = summaries(events, events).columns
    assert (found["visits"][0], found["visits'"][0]) == (7, 1)


def test_other_static_facts_are_refused() -> None:
    facts = TableSchema((Column("sex", "categorical", categories=("F", "M", "U")),))
    table = Table(facts, np.arange(1), {"sex": np.zeros(1, np.int32)})
    other = Events.of(EventSchema(facts, CODES), table, [], days([]), [])
    with pytest.raises(SchemaError, match="static facts"):
        summaries(other, histories())


@given(st.permutations(range(24)), st.integers(0, 10))
def test_a_subject_is_summed_up_alike_whoever_stands_beside(order: list[int], n: int) -> None:
    events = histories()
    chosen = np.sort(np.array(order[:n], np.int64))
    everyone, some = summaries(events, events), summaries(events.take(chosen), events)
    for name, values in some.columns.items():
        np.testing.assert_array_equal(values, everyone.columns[name][chosen], err_msg=name)
