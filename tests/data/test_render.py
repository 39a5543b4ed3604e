import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.identifiers import find_template, make_identifiers
from manikin.data.infer import infer_schema
from manikin.data.parse import parse
from manikin.data.render import render
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table

DATE_FORMATS = {  # format → its resolution in microseconds
    "%Y-%m-%d": 86_400_000_000,
    "%d/%m/%Y": 86_400_000_000,
    "%-m/%-d/%Y": 86_400_000_000,
    "%d%^b%Y": 86_400_000_000,
    "%d %B %Y": 86_400_000_000,
    "%Y%m%d": 86_400_000_000,
    "%d.%m.%Y %H:%M": 60_000_000,
    "%Y-%m-%d %I:%M %p": 60_000_000,
    "%Y-%m-%dT%H:%M:%SZ": 1_000_000,
    "%Y-%m-%d %H:%M:%S%.3f": 1_000,
    "%Y-%m-%dT%H:%M:%S%:z": 1_000_000,
}
words = st.text("abcxyzÄß €-+<>=?. ", min_size=1, max_size=6).filter(
    lambda word: word.strip() == word
)


def same(a: Table, b: Table) -> None:
    assert a.schema == b.schema
    assert a.subjects.tolist() == b.subjects.tolist()
    assert set(a.states) == set(b.states)
    for column in a.schema.learned:
        np.testing.assert_array_equal(a.columns[column.name], b.columns[column.name])
        np.testing.assert_array_equal(a.state(column.name), b.state(column.name))


@st.composite
def columns(draw, name):
    kind = draw(st.sampled_from(["continuous", "integer", "categorical", "ordinal", "datetime"]))
    tokens = draw(st.lists(words, unique=True, max_size=4))
    tokens = [token for token in tokens if not any(c.isdigit() for c in token)]
    missing = tuple(["", *tokens[:2]][:: draw(st.sampled_from([1, -1]))])
    if kind in ("categorical", "ordinal"):
        levels = draw(st.lists(words, unique=True, max_size=9))
        kept = tuple(level for level in levels if level not in missing)
        return Column(name, kind, categories=kept, missing=missing)
    special = tuple(tokens[2:])
    if kind == "datetime":
        pattern = draw(st.sampled_from(sorted(DATE_FORMATS)))
        return Column(name, kind, date_format=pattern, missing=missing, special=special)
    places = draw(st.integers(0, 6)) if kind == "continuous" else draw(st.sampled_from([0, 1]))
    padded = draw(st.booleans()) and places > 0
    fewest = draw(st.integers(0, places)) if not padded else places
    return Column(name, kind, decimals=places, padded=padded, min_decimals=fewest,
                  missing=missing, special=special)  # fmt: skip


@st.composite
def tables(draw):
    size = draw(st.integers(0, 12))
    made = [draw(columns(f"c{i}")) for i in range(draw(st.integers(1, 4)))]
    arrays, states = {}, {}
    for column in made:
        n_tokens = len(column.tokens)
        state = np.array(draw(st.lists(st.integers(0, n_tokens), min_size=size, max_size=size)))
        state = state.astype(np.int8)
        if column.is_coded:
            top = max(len(column.categories) - 1, 0)
            values = draw(st.lists(st.integers(0, top), min_size=size, max_size=size))
            state = np.maximum(state, 0 if column.categories else 1).astype(np.int8)
            array = np.where(state > 0, -1, np.array(values, dtype=np.int32)).astype(np.int32)
        elif column.kind == "datetime":
            step = DATE_FORMATS[column.date_format]
            most = 4_000_000_000_000_000 // step
            ticks = draw(st.lists(st.integers(-most // 2, most), min_size=size, max_size=size))
            array = (np.array(ticks, dtype=np.int64) * step).astype("datetime64[us]")
            array[state > 0] = np.datetime64("NaT")
        else:
            whole = st.integers(-(10**9), 10**9)
            values = np.array(draw(st.lists(whole, min_size=size, max_size=size)), dtype=float)
            places = 0 if column.kind == "integer" else column.decimals
            array = np.where(state > 0, np.nan, np.round(values / 10**places, places) + 0.0)
        arrays[column.name] = array
        if n_tokens > 1:
            states[column.name] = state
    subjects = np.arange(size, dtype=np.int64)
    if draw(st.booleans()):
        made.insert(0, Column("who", "identifier", ("subject",), template="P-99"))
        subjects = np.sort(subjects // 2)
    return Table(TableSchema(tuple(made)), subjects, arrays, states)


@settings(max_examples=100, deadline=None)
@given(tables())
def test_parse_undoes_render(table):
    frame = render(table)
    assert frame.columns == [column.name for column in table.schema]
    same(parse(frame, table.schema), table)
    assert render(parse(frame, table.schema)).equals(frame)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1.50", "2.00", "10.25"] * 9, "continuous"),
        (["63.0", "62.85", "1.266972909"] * 9, "continuous"),
        (["63.0", "41.0", "1.0", "7.0"] * 3, "integer"),
        (["5", "4.25", "0.5"] * 9, "continuous"),
        (["0.000001", "0.5", "12345678.5"] * 9, "continuous"),
        (["1000000000000000000000", "5", "77"] * 9, "continuous"),
        (["-3", "0", "17", "NA", "", "NA"] * 9, "integer"),
        (["<0.5", "0.7", "1.25", "trace", ""] + [f"{i / 8}" for i in range(41, 90)], "continuous"),
    ],
)
def test_numbers_keep_their_spelling(cells, kind):
    frame = pl.DataFrame({"x": cells})
    schema = infer_schema(frame)
    assert schema["x"].kind == kind
    assert render(parse(frame, schema))["x"].to_list() == cells


FRAMES = {
    "int": pl.Series([1, None, 300, 4] * 9, dtype=pl.Int16),
    "uint": pl.Series(list(range(100, 136)), dtype=pl.UInt8),
    "float": pl.Series([1.5, None, 0.1, 1e-7] * 9),
    "float32": pl.Series([0.1, 2.7, None, 1e5] * 9, dtype=pl.Float32),
    "nan": pl.Series([0.5, float("nan"), None, 1.25] * 9),
    "inf": pl.Series([0.5, float("inf")] + [i / 4 for i in range(60)]),
    "whole": pl.Series([1.0, 0.0, None] * 9),
    "bool": pl.Series([True, None, False] * 9),
    "date": pl.Series(["2020-01-31", None, "1899-12-31"] * 9).str.to_date(),
    "moment": pl.Series(["2020-01-31 10:00:00.5", None] * 9).str.to_datetime(time_unit="ns"),
    "zone": pl.Series(["2020-06-30 10:00", None] * 9)
    .str.to_datetime("%Y-%m-%d %H:%M", time_unit="ms")
    .dt.replace_time_zone("Europe/Berlin"),
    "midnights": pl.Series(["2020-01-01 00:00", "2020-07-01 00:00"] * 9)
    .str.to_datetime("%Y-%m-%d %H:%M")
    .dt.replace_time_zone("Europe/Berlin"),
    "time": pl.Series(["10:30:05", None] * 9).str.to_time(),
    "duration": pl.Series([1.5e6, None, 86.4e9] * 9).cast(pl.Int64).cast(pl.Duration("us")),
    "decimal": pl.Series(["1.50", None, "2.25"] * 9).cast(pl.Decimal(10, 2)),
    "text": pl.Series(["m", None, "f", "NA"] * 9),
    "digits": pl.Series(["1", "2", "33", "4", None] * 9),
    "category": pl.Series(["m", None, "f"] * 9, dtype=pl.Categorical),
    "enum": pl.Series(["m", None, "f"] * 9, dtype=pl.Enum(["f", "m", "never seen"])),
    "null": pl.Series([None] * 9, dtype=pl.Null),
    "empty": pl.Series([], dtype=pl.Int64),
}


@pytest.mark.parametrize("name", FRAMES)
def test_typed_columns_come_back_in_their_type(name):
    frame = FRAMES[name].alias("x").to_frame()
    schema = infer_schema(frame)
    table = parse(frame, schema)
    back = render(table)
    assert back.schema == frame.schema
    assert back.equals(frame)
    same(parse(back, schema), table)


def test_state_and_value_may_each_say_that_there_is_none():
    schema = TableSchema((Column("x", "integer", missing=("NA", "?"), special=("<1",)),))
    table = Table(
        schema,
        np.arange(4),
        {"x": np.array([1.0, np.nan, np.nan, np.nan])},
        {"x": np.array([0, 0, 2, 3], dtype=np.int8)},
    )
    assert render(table)["x"].to_list() == ["1", "NA", "?", "<1"]


def test_an_hour_that_no_clock_showed_becomes_the_next():
    zone = pl.Datetime("us", "Europe/Berlin")
    column = Column("x", "datetime", date_format="%Y-%m-%d %H:%M", dtype=str(zone))
    moments = np.array(["2020-03-29T02:30", "2020-10-25T02:30"], dtype="datetime64[us]")
    table = Table(TableSchema((column,)), np.arange(2), {"x": moments})
    made = render(table)["x"]
    assert made.dtype == zone
    assert made.dt.to_string("%H:%M %:z").to_list() == ["03:30 +02:00", "02:30 +02:00"]


def test_text_is_left_missing():
    cells = [f"the patient said number {i} was wrong today" for i in range(30)] + ["NA"]
    frame = pl.DataFrame({"note": cells, "x": ["1"] * 31})
    table = parse(frame, infer_schema(frame))
    assert render(table)["note"].to_list() == ["NA"] * 31


def test_small_integers_do_not_overflow():
    frame = pl.DataFrame({"x": pl.Series([100, 120, 90, 70] * 5, dtype=pl.Int8)})
    table = parse(frame, infer_schema(frame))
    wild = dataclasses.replace(table, columns={"x": table.columns["x"] + 100})
    assert render(wild)["x"].max() == 127


# ------------------------------------------------------------------ identifiers


@pytest.mark.parametrize(
    ("real", "template", "first"),
    [
        (["17", "245", "9"], "999", "1000"),
        (["00017", "00245"], "99999", "100000"),
        (["PT-001", "PT-002"], "PT-999", "PT-1000"),
        (["AB-1", "CD-22"], "AA-99", "XX-100"),
        (["2019-AX-7", "2020-BX-8"], "9999-AA-9", "10000-XX-0"),
        (["Anna1", "Anna2"], r"\Ann\a9", "Anna10"),
        (["abc", "abd"], "aaa", "aaaaa"),
    ],
)
def test_templates_by_hand(real, template, first):
    assert find_template(pl.Series(real)) == template
    assert make_identifiers(template, np.array([0]))[0] == first


keys = st.text("AaZ9b07-_./ {}\\äé@", min_size=1, max_size=12)


@settings(max_examples=120, deadline=None)
@given(st.lists(keys, min_size=1, max_size=20, unique=True))
def test_new_identifiers_are_nobodys_and_all_different(real):
    made = make_identifiers(find_template(pl.Series(real)), np.arange(300)).to_list()
    assert len(set(made)) == 300
    assert not set(made) & set(real)


def test_uuids_and_hexadecimal_keys_keep_their_format():
    real = pl.Series(
        ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b811-9dad-41d1-80b4-00c04fd430c8"]
    )
    made = make_identifiers(find_template(real), np.arange(1000))
    assert made.str.contains(
        "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
    ).all()
    assert made.n_unique() == 1000
    digest = pl.Series(["d41d8cd98f00b204", "98f00b204e980099"])
    made = make_identifiers(find_template(digest), np.arange(1000))
    assert made.str.contains("^[0-9a-f]{16}$").all() and made.n_unique() == 1000


def test_e_mail_addresses_become_addresses_of_nobody():
    made = make_identifiers(find_template(pl.Series(["a.b@x.org", "c@y.com"])), np.arange(9))
    assert made.str.ends_with("@example.invalid").all() and made.n_unique() == 9


def test_subject_is_numbered_by_subject_and_other_keys_by_row():
    frame = pl.DataFrame({"pid": [7, 7, 9], "visit_id": [101, 102, 103], "x": [1.5, 2.5, 3.5]})
    schema = infer_schema(frame, subject="pid")
    table = parse(frame, schema)
    assert table.subjects.tolist() == [0, 0, 1]
    first = render(table)
    assert first["pid"].to_list() == [10, 10, 11]
    assert first["visit_id"].to_list() == [1000, 1001, 1002]
    second = render(table, first_row=3, first_subject=2)
    assert second["pid"].to_list() == [12, 12, 13]
    assert second["visit_id"].to_list() == [1003, 1004, 1005]


def test_a_key_that_outgrows_its_type_gets_a_wider_one():
    frame = pl.DataFrame({"id": pl.Series([2_000_000_000, 2_000_000_001], dtype=pl.Int32)})
    made = render(parse(frame, infer_schema(frame)))
    assert made["id"].dtype == pl.Int64
    assert made["id"].to_list() == [10_000_000_000, 10_000_000_001]
