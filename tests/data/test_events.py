"""Histories in memory: their order, their subjects, their visits, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manikin.data.codes import Code, EventSchema
from manikin.data.dataset import Dataset, Schema, split_subjects
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.data.visits import visits_of
from manikin.errors import SchemaError

STATIC = TableSchema((Column("sex", "categorical", categories=("F", "M")),))
CODES = (
    Code("Visit/IP", "visit"),
    Code("ICD10CM/E11.9", "condition", parents=("ICD10CM/E11",)),
    Code("LOINC/2160-0", "measurement", unit="mg/dL", numeric=True, decimals=1),
    Code("LOINC/2160-0", "measurement", unit="umol/L", numeric=True),
)
SCHEMA = EventSchema(STATIC, CODES, sex="sex", clock="day")


def static(n: int) -> Table:
    return Table(STATIC, np.arange(n), {"sex": (np.arange(n) % 2).astype(np.int32)})


def days(*values: float) -> np.ndarray:
    return np.array(
        ["NaT" if np.isnan(v) else np.datetime64("2020-01-01") + int(v) for v in values],
        "datetime64[us]",
    )


def histories() -> Events:
    # subject 0: an admission (visit 5) of two codes, then a laboratory day; subject 1: nothing;
    # subject 2: two codes on one day, one without a time
    return Events.of(
        SCHEMA, static(3),
        whose=[2, 0, 0, 2, 0, 2],
        time=days(3, 9, 1, 3, 2, np.nan),
        code=[1, 2, 0, 2, 1, 1],
        value=[np.nan, 1.5, np.nan, 2.0, np.nan, np.nan],
        visit=[-1, -1, 5, -1, 5, -1],
        text=[-1, 0, -1, -1, -1, 1],
        texts=("high", "low"),
    )  # fmt: skip


def test_rows_are_sorted_by_subject_and_time_with_unknown_times_first() -> None:
    events = histories()
    assert events.whose.tolist() == [0, 0, 0, 2, 2, 2]
    assert events.code.tolist() == [0, 1, 2, 1, 1, 2]
    assert np.isnat(events.time).tolist() == [False, False, False, True, False, False]
    assert events.counts.tolist() == [3, 0, 3]
    assert isinstance(events, Dataset)
    assert isinstance(events.schema, Schema)


def test_taking_subjects_keeps_those_without_events() -> None:
    part = histories().take(np.array([1, 2]))
    assert part.subjects.tolist() == [1, 2]
    assert part.whose.tolist() == [1, 1, 1]
    assert part.counts.tolist() == [0, 3]
    assert part.renumbered(10).subjects.tolist() == [10, 11]


def test_splitting_keeps_every_subject_and_event_once() -> None:
    first, second = split_subjects(histories(), (0.6, 0.4), seed=1)
    assert sorted([*first.subjects, *second.subjects]) == [0, 1, 2]
    assert first.n_events + second.n_events == 6


def test_stacking_parts_renumbers_rows_and_merges_texts() -> None:
    events = histories()
    one, two = events.take(np.array([2])), events.take(np.array([0, 1]))
    two = replace(two, texts=("low", "high"), text=np.where(two.text >= 0, 1, -1).astype(np.int32))
    whole = Events.concatenate([one, two.renumbered(5)])
    assert whole.subjects.tolist() == [2, 5, 6]
    assert whole.whose.tolist() == [0, 0, 0, 1, 1, 1]
    assert [whole.texts[t] for t in whole.text if t >= 0] == ["low", "high"]


def test_visits_are_numbers_where_there_are_some_and_times_elsewhere() -> None:
    visits = visits_of(histories())
    assert visits.whose.tolist() == [0, 0, 2]
    assert visits.of.tolist() == [0, 0, 1, -1, 2, 2]
    assert visits.start.tolist() == days(1, 9, 3).tolist()
    assert visits.end.tolist() == days(2, 9, 3).tolist()
    assert visits.counts.tolist() == [2, 0, 1]
    assert visits.place.tolist() == [0, 1, 0]
    assert visits.gaps_days()[1] == 8
    assert np.isnan(visits.gaps_days()[[0, 2]]).all()


def test_the_end_of_a_thing_that_lasts_is_the_end_of_its_visit() -> None:
    events = Events.of(SCHEMA, static(1), [0], days(1), [0], end=days(6), visit=[0])
    assert visits_of(events).end.tolist() == days(6).tolist()


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(-1, 2)), max_size=30),
)
def test_every_timed_event_is_at_exactly_one_visit_of_its_subject(
    rows: list[tuple[int, int, int]],
) -> None:
    events = Events.of(
        SCHEMA, static(5), [r[0] for r in rows], days(*(r[1] for r in rows)),
        np.ones(len(rows), np.int32), visit=[r[2] for r in rows],
    )  # fmt: skip
    visits = visits_of(events)
    assert (visits.of >= 0).all()
    assert np.array_equal(visits.whose[visits.of], events.whose)
    assert np.unique(visits.of).size == visits.n
    keys = {(w, v, -1 if v >= 0 else t) for w, t, v in rows}
    assert visits.n == len(keys)
    assert np.all(np.diff(visits.start)[np.diff(visits.whose) == 0] >= np.timedelta64(0))


def test_the_schema_survives_json() -> None:
    assert EventSchema.from_json(SCHEMA.to_json()) == SCHEMA
    assert SCHEMA.place["LOINC/2160-0", "umol/L", "measurement"] == 3
    assert SCHEMA.named["LOINC/2160-0"] == (2, 3)
    assert SCHEMA.of("condition", "visit") == (0, 1)
    assert CODES[1].vocabulary == "ICD10CM"


@pytest.mark.parametrize(
    "change",
    [
        {"codes": None},
        {"codes": [{"label": "nameless"}]},
        {"codes": [{"name": "a", "numeric": 1}]},
        {"codes": [{"name": "a", "levels": [1]}]},
        {"codes": [{"name": "a", "domain": "weather"}]},
        {"codes": [{"name": "a", "colour": "red"}]},
        {"codes": [{"name": "a"}, {"name": "a"}]},
        {"clock": "century"},
        {"birth": "no such column"},
        {"static": []},
    ],
)
def test_a_malformed_schema_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SchemaError):
        EventSchema.from_json({**SCHEMA.to_json(), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"whose": np.array([0, 0, 0, 2, 2, 3])},
        {"whose": np.array([2, 0, 0, 0, 2, 2])},
        {"code": np.array([0, 1, 2, 1, 1, 4], np.int32)},
        {"text": np.full(6, 2, np.int32)},
        {"value": np.zeros(5)},
        {"time": days(9, 1, 2, 3, 4, 5)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(SchemaError):
        replace(histories(), **change)


def test_nobody_and_nothing_are_histories_too() -> None:
    events = Events.of(SCHEMA, static(0), [], np.array([], "datetime64[us]"), [])
    assert events.n_subjects == events.n_events == visits_of(events).n == 0
