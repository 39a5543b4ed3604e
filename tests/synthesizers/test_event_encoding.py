"""The encoder of histories: known answers, the way there and back, and codes that few have."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizers.events.encoding import (
    EventEncoding,
    ages_years,
    narrowed,
    shared_levels,
    widened,
)

NAT = np.datetime64("NaT", "us")
STAY, FLU, PILL, LAB, DEATH = range(5)
CODES = (
    Code("VISIT/IP", "visit"),
    Code("ICD10/J11", "condition"),
    Code("ATC/N02", "drug"),
    Code("LOINC/1", "measurement", numeric=True),
    Code("DEATH", "death"),
)


def at(day: float) -> np.datetime64:
    return np.datetime64("2020-01-01", "us") + np.timedelta64(int(day * 86_400e6), "us")


def people(n: int, schema: TableSchema | None = None) -> Table:
    own = schema or TableSchema((Column("sex", "categorical", categories=("f", "m")),))
    values = {"sex": (np.arange(n) % 2).astype(np.int32)} if own.columns else {}
    return Table(own, np.arange(n, dtype=np.int64), values)


def written(rows: list[tuple], n: int = 1, codes: tuple = CODES, **known: object) -> Events:
    """Rows of subject, day, code, value, text, end day, visit."""
    table = people(n)
    schema = EventSchema(table.schema, codes, **known)
    cols = list(zip(*rows, strict=True)) if rows else [[]] * 7
    times = [NAT if d is None else at(d) for d in cols[1]]
    ends = [NAT if d is None else at(d) for d in cols[5]]
    return Events.of(
        schema, table, np.array(cols[0], np.int64), np.array(times, "datetime64[us]"),
        np.array(cols[2], np.int32), np.array(cols[3], float), np.array(cols[4], np.int32),
        np.array(ends, "datetime64[us]"), np.array(cols[6], np.int32), ("high", "low"),
    )  # fmt: skip


ONE = [
    (0, None, FLU, np.nan, -1, None, -1),  # a fact without a time
    (0, 1.0, STAY, np.nan, -1, 4.0, 7),
    (0, 1.5, LAB, 3.5, 0, None, 7),
    (0, 2.0, PILL, np.nan, -1, 9.0, 7),
    (0, 30.0, FLU, np.nan, -1, None, -1),
    (0, 33.0, DEATH, np.nan, -1, None, -1),
]


def test_a_history_by_hand() -> None:
    events = written(ONE, declared=True)
    h = EventEncoding.fit(events).encode(events)
    assert h.n == 3  # what has no time, the stay, and the day of the second flu
    assert h.place.tolist() == [-1, 0, 1]
    assert h.kind.tolist() == [-1, STAY, -1]
    assert h.length.tolist() == [0, 3, 0]  # the stay, though the pill was taken longer
    assert h.numbered.tolist() == [False, True, False]
    assert h.code.tolist() == [FLU, LAB, PILL, FLU]
    assert h.offset.tolist() == [0, 0.5, 1, 0]
    assert h.duration[2] == 7 and np.isnan(h.duration[[0, 1, 3]]).all()
    assert np.isnan(h.gaps[:2]).all() and h.gaps[2] == 29
    assert h.death.tolist() == [DEATH] and h.death_delay.tolist() == [3]
    starts, codes = h.multi_hot
    assert starts.tolist() == [0, 1, 3, 4] and codes.tolist() == [FLU, PILL, LAB, FLU]


def test_there_and_back() -> None:
    events = written(ONE, declared=True)
    encoding = EventEncoding.fit(events)
    back = encoding.decode(encoding.encode(events), events.static)
    for name in ("whose", "time", "code", "value", "end"):
        np.testing.assert_array_equal(getattr(back, name), getattr(events, name))
    assert back.visit.tolist() == [-1, 0, 0, 0, -1, -1]  # numbers count from 0 within a subject


def told(events: Events) -> list[tuple[int, int, int]]:
    """What was when, whatever the order of what was at one time."""
    time = events.time.view(np.int64)
    return sorted(zip(events.whose.tolist(), time.tolist(), events.code.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.none() | st.integers(0, 40),
            st.sampled_from([FLU, PILL, LAB]),
            st.integers(-1, 2),
        ),
        max_size=30,
    )
)
def test_there_and_back_of_any(rows: list[tuple]) -> None:
    full = [(s, d, c, np.nan, -1, None, v if d is not None else -1) for s, d, c, v in rows]
    events = written(full, 4, declared=True)
    encoding = EventEncoding.fit(events)
    h = encoding.encode(events)
    assert np.all(np.diff(h.whose) >= 0) and np.all(h.offset >= 0)
    back = encoding.decode(h, events.static)
    assert told(back) == told(events)
    again = encoding.encode(back)
    assert again.whose.tolist() == h.whose.tolist() and again.code.tolist() == h.code.tolist()


def test_only_a_death_keeps_its_day() -> None:
    events = written([(0, 5.0, DEATH, np.nan, -1, None, -1)], 2, declared=True)
    encoding = EventEncoding.fit(events)
    h = encoding.encode(events)
    assert h.death.tolist() == [DEATH, -1] and h.n == 1
    back = encoding.decode(h, events.static)
    assert back.n_events == 1 and back.time[0] == at(5)


def test_a_death_that_nobody_dated() -> None:
    events = written([(0, None, DEATH, np.nan, -1, None, -1)], 1, declared=True)
    encoding = EventEncoding.fit(events)
    back = encoding.decode(encoding.encode(events), events.static)
    assert back.n_events == 1 and np.isnat(back.time[0])


def test_rare_codes_go_to_their_parent_or_out() -> None:
    codes = (
        Code("I/A1", "condition", parents=("I/A",)),
        Code("I/A2", "condition", parents=("I/A",)),
        Code("I/B", "condition"),
        Code("I/C", "condition"),
    )
    # A1 of 3 subjects and A2 of 2 are A of 5; B of 4 has no parent; C of 6 stays
    having = ((0, (0, 1, 2)), (1, (3, 4)), (2, (0, 1, 2, 3)), (3, range(6)))
    rows = [(s, 1.0, c, np.nan, -1, None, -1) for c, who in having for s in who]
    events = written(rows, 6, codes)
    encoding = EventEncoding.fit(events, k=5)
    assert [code.name for code in encoding.schema.codes] == ["I/C", "I/A"]
    assert encoding.places(events.schema).tolist() == [1, 1, -1, 0]
    assert any("1 codes" in note and "4 events" in note for note in encoding.notes)
    h = encoding.encode(events)
    assert np.bincount(h.code).tolist() == [6, 5]
    declared = dataclasses.replace(events, schema=dataclasses.replace(events.schema, declared=True))
    assert len(EventEncoding.fit(declared).schema) == 4


def test_parents_in_a_circle_end() -> None:
    codes = (Code("A", parents=("B",)), Code("B", parents=("A",)))
    events = written([(0, 1.0, 0, np.nan, -1, None, -1)], 1, codes)
    assert len(EventEncoding.fit(events).schema) == 0


def test_rare_texts_are_not_told() -> None:
    rows = [(s, 1.0, LAB, np.nan, 0 if s < 5 else 1, None, -1) for s in range(6)]
    events = written(rows, 6)
    encoding = EventEncoding.fit(events)
    assert encoding.texts == ("high",)
    assert encoding.schema.codes[0].levels == ("high",)
    assert encoding.encode(events).text.tolist() == [0, 0, 0, 0, 0, -1]


def test_clock_of_days() -> None:
    events = written([(0, 1.7, FLU, np.nan, -1, None, -1)], 1, declared=True, clock="day")
    encoding = EventEncoding.fit(events)
    back = encoding.decode(encoding.encode(events), events.static)
    assert back.time[0] == at(1)


def test_nobody_is_refused_and_nothing_is_not() -> None:
    with pytest.raises(InputError):
        EventEncoding.fit(written([], 0))
    events = written([], 3)
    h = EventEncoding.fit(events).encode(events)
    assert h.n == 0 and EventEncoding.fit(events).decode(h, events.static).n_events == 0


def test_new_data_of_another_order_of_codes() -> None:
    events = written(ONE, declared=True)
    encoding = EventEncoding.fit(events)
    turned = written([(0, 1.0, 0, np.nan, -1, None, -1), (0, 2.0, 1, np.nan, -1, None, -1)], 1,
                     (CODES[2], Code("unheard")))  # fmt: skip
    assert encoding.encode(turned).code.tolist() == [PILL]


def test_ages() -> None:
    schema = TableSchema((Column("born", "datetime"),))
    table = Table(schema, np.arange(1), {"born": np.array(["2000-01-01"], "datetime64[us]")})
    events = written([(0, 366.0, FLU, np.nan, -1, None, -1)], 1, declared=True)
    events = dataclasses.replace(
        events, schema=dataclasses.replace(events.schema, static=schema, birth="born"), static=table
    )
    h = EventEncoding.fit(events).encode(events)
    assert ages_years(h, events.births())[0] == pytest.approx(21, abs=0.01)


def test_rare_levels_of_the_static_table() -> None:
    column = Column("r", "categorical", categories=("a", "b"))
    grade = Column("g", "ordinal", categories=("1", "2", "3"))
    codes = np.array([0] * 6 + [1] * 2, np.int32)
    table = Table(TableSchema((column, grade)), np.arange(8), {"r": codes, "g": codes * 2})
    found = shared_levels(table, 5, np.random.default_rng(0))
    assert found.columns["r"].tolist() == [0] * 8 and found.columns["g"].tolist() == [0] * 8
    public = Table(dataclasses.replace(table.schema, declared=True), table.subjects, table.columns)
    assert shared_levels(public, 5, np.random.default_rng(0)) is public


def test_columns_beside_and_off_again() -> None:
    table = people(3)
    wide = widened(table, {"sex": (Column("", "integer"), np.arange(3.0))})
    assert [c.name for c in wide.schema] == ["sex", "sex'"]
    back = narrowed(wide, table.schema)
    assert back.schema == table.schema and back.columns["sex"].tolist() == [0, 1, 0]
