import datetime
import random
import uuid

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manikin.data.infer import infer_schema
from manikin.data.parse import parse
from manikin.data.render import render
from manikin.errors import InputError, SchemaError


def column(cells, name="x"):
    return infer_schema(pl.DataFrame({name: cells}))[name]


def some(*levels, n=60):
    return [levels[i % len(levels)] for i in range(n)]


WHOLE = [str(i) for i in range(20, 80)]
DECIMALS = [f"{i / 8}" for i in range(100, 160)]
NOTES = [f"patient {i} came in with a cough and left without" for i in range(60)]
random.seed(0)
KEYS = [f"{random.randrange(10**6):06}" for _ in range(60)]
DAYS = [datetime.date(2019, 1, 1) + datetime.timedelta(days=9 * i) for i in range(60)]

KINDS = [
    ("whole numbers", "x", WHOLE, "integer"),
    ("numbers with decimals", "x", DECIMALS, "continuous"),
    ("numbers in science's spelling", "x", [f"{i}.5E-03" for i in range(60)], "continuous"),
    ("0 and 1", "x", some("0", "1"), "boolean"),
    ("0.0 and 1.0", "x", some("0.0", "1.0"), "boolean"),
    ("yes and no", "x", some("Yes", "No", "No"), "boolean"),
    ("TRUE and FALSE", "x", some("TRUE", "FALSE"), "boolean"),
    ("dipstick", "x", some("-", "+"), "boolean"),
    ("sexes", "x", some("male", "female"), "categorical"),
    ("1 and 2", "x", some("1", "2"), "categorical"),
    ("0 and 10", "x", some("0", "10"), "categorical"),
    ("a scale", "x", some("1", "2", "3", "4", "5"), "ordinal"),
    ("a scale with halves", "x", some("0", "0.5", "1"), "ordinal"),
    ("codes by name", "admission_type_id", some("1", "2", "3", "6"), "categorical"),
    ("event codes", "status", some("0", "1", "2"), "categorical"),
    ("a scale with a rare step", "ecog", [*some("0", "1", "2"), "3"], "ordinal"),
    ("a count with a rare step", "children", [*some("0", "1", "2"), "3"], "integer"),
    ("sparse numbers", "x", some("10", "20", "30", "40"), "integer"),
    ("intervals", "x", some("[0-10)", "[10-20)", "[20-30)"), "ordinal"),
    ("open intervals", "x", some("<30", "30-49", "50-69", "70+"), "ordinal"),
    ("graded words", "x", some("mild", "severe", "moderate"), "ordinal"),
    ("graded risks", "x", some("high risk", "low risk", "mid risk"), "ordinal"),
    ("Roman stages", "x", some("Stage II", "Stage I", "Stage IV"), "ordinal"),
    ("words without order", "x", some("red", "green", "blue"), "categorical"),
    ("leading zeros", "x", some("007", "012", "100"), "categorical"),
    ("ICD codes", "diag_1", [*some("250.1", "401", "V45", "E849.7", "276")], "categorical"),
    ("many codes that repeat", "x", [f"C{i % 700}" for i in range(2100)], "categorical"),
    ("constant word", "x", some("a"), "categorical"),
    ("constant number", "x", some("7"), "categorical"),
    ("all missing", "x", some("", "NA"), "categorical"),
    ("nothing", "x", [], "categorical"),
    ("ISO dates", "x", [d.isoformat() for d in DAYS], "datetime"),
    ("free text", "x", NOTES, "text"),
    ("names", "x", [f"{a}{b}, Jo" for a in "ABCDEFGHI" for b in "aeiouy"], "text"),
    ("repeated surnames", "last_name", [f"N{i % 20}" for i in range(60)], "text"),
    ("addresses", "street", [f"{i % 30} High St" for i in range(60)], "text"),
    ("row numbers", "x", [str(i) for i in range(1, 61)], "identifier"),
    ("row numbers of time", "day", [str(i) for i in range(1, 61)], "integer"),
    ("padded whole numbers", "x", random.sample(KEYS, 60), "identifier"),
    ("keys by name", "id", some("5", "17", "23"), "identifier"),
    ("people by name", "Patient_ID", some("A1", "A2", "B7"), "identifier"),
    ("people seldom told apart", "subject_id", [str(i % 4) for i in range(4000)], "identifier"),
    ("keys of few rows", "provider_id", [str(900 + i // 2) for i in range(60)], "identifier"),
    ("codes of many rows", "itemid", [str(900 + i % 6) for i in range(60)], "categorical"),
    ("UUIDs", "x", [str(uuid.UUID(int=i * 7919)) for i in range(60)], "identifier"),
    ("e-mail", "contact", [f"p{i}@clinic.org" for i in range(60)], "identifier"),
    ("record numbers", "x", [f"MRN{k}" for k in KEYS], "identifier"),
    ("measurements are no keys", "id", DECIMALS, "continuous"),
    ("viral loads", "covid", [str(i * 37 % 1009) for i in range(60)], "integer"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "name", "cells", "kind"), KINDS, ids=[k[0] for k in KINDS])
def test_kinds(what, name, cells, kind):
    frame = pl.DataFrame({name: pl.Series(cells, dtype=pl.String)})
    found = infer_schema(frame)
    assert found[name].kind == kind, found[name].reason
    assert found[name].reason.startswith(f"{kind}:") and not found.declared
    back = render(parse(frame, found))
    if found[name].is_learned:
        assert back[name].to_list() == [cell.replace("E-03", "") for cell in cells] or "E" in str(
            cells
        )


def test_categories_are_in_their_order():
    assert column(some("b", "a", "b")).categories == ("b", "a")
    assert column(some("3", "1", "2")).categories == ("1", "2", "3")
    assert column(some("Yes", "No")).categories == ("No", "Yes")
    assert column(some("70+", "<30", "50-69", "30-49")).categories == (
        "<30", "30-49", "50-69", "70+",
    )  # fmt: skip
    assert column(some("under $11k", ">$50k", "$25-$50k", "$11-$25k")).categories == (
        "under $11k", "$11-$25k", "$25-$50k", ">$50k",
    )  # fmt: skip


@pytest.mark.parametrize("mark", ["", "NA", "N/A", "NaN", "null", "None", "?", ".", "-", "#N/A"])
def test_marks_of_no_value(mark):
    for cells in (WHOLE, DECIMALS, some("m", "f"), some("0", "1"), [str(d) for d in DAYS]):
        found = column([*cells, mark, mark])
        assert found.missing == (mark,)
        assert mark not in found.categories


def test_the_commonest_mark_comes_first():
    assert column([*WHOLE, "NA", "", "", "", "NA", "?"]).missing == ("", "NA", "?")


def test_words_that_may_be_answers_are_marks_beside_numbers_only():
    assert column([*WHOLE, "unknown"]).missing == ("unknown",)
    assert column([*[str(d) for d in DAYS], "unknown"]).missing == ("unknown",)
    assert "unknown" in column(some("m", "f", "unknown")).categories
    assert "none" in column(some("none", "some", "lots")).categories


@pytest.mark.parametrize("code", ["-9", "-99", "-999", "999", "9999"])
def test_numbers_that_stand_for_no_value(code):
    found = column([*WHOLE, code, code, code])
    assert found.missing == (code,)
    assert found.kind == "integer" and found.minimum == 0


@pytest.mark.parametrize(
    "cells",
    [
        [*[str(i) for i in range(900, 990)], "999", "999"],  # at the end of the others
        [*[str(i) for i in range(-40, 40)], "-99", "-99"],  # others are negative and wide
        [*WHOLE, "999"],  # once only
        some("999", "5"),  # hardly anything else
    ],
)
def test_numbers_that_may_be_values(cells):
    assert column(cells).missing == ("",)


def test_few_texts_among_numbers_are_special():
    found = column([*DECIMALS, "<0.5", "<0.5", ">90", "haemolysed"])
    assert found.kind == "continuous"
    assert found.special == ("<0.5", ">90", "haemolysed")
    assert column([*WHOLE, "<0.5", "inf"]).kind == "integer"


def test_many_texts_among_numbers_make_labels():
    assert column([*WHOLE[:30], *(f"t{i % 15}" for i in range(30))]).kind == "categorical"
    assert column([*WHOLE, *["haemolysed"] * 30]).kind == "categorical"


@pytest.mark.parametrize(
    ("cells", "decimals", "padded", "least"),
    [
        (["1", "22", "333"], 0, False, 0),
        (["1.5", "2", "2.25"], 2, False, 0),
        (["1.50", "2.00", "2.25"], 2, True, 2),
        (["63.0", "7.0", "11.0"], 1, True, 1),
        (["63.0", "7.25", "11.0"], 2, False, 1),
        (["2.5E-1", "0.5"], 2, False, 0),
        (["1e3", "5", "77"], 0, False, 0),
    ],
)
def test_decimals(cells, decimals, padded, least):
    found = column(cells * 9)
    assert (found.decimals, found.padded, found.min_decimals) == (decimals, padded, least)


@pytest.mark.parametrize(
    "pattern",
    [
        "%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%-d/%-m/%Y",
        "%-m/%-d/%Y", "%d/%m/%y", "%Y%m%d", "%d-%b-%Y", "%d%^b%Y", "%d %B %Y", "%b %d, %Y",
        "%Y-%m", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M:%SZ", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%-m/%-d/%Y %-H:%M",
        "%Y-%m-%d %H:%M:%S%.3f", "%Y-%m-%d %H:%M:%S%.6f", "%H:%M", "%H:%M:%S", "%Y%m%d%H%M%S",
        "%Y-%m-%d 00:00:00", "%Y-%m-%d %H:%M:00", "%Y-%m-%dT%H:%M:%S+02:00",
    ],
)  # fmt: skip
def test_date_formats(pattern):
    from manikin.data.dates import write_dates

    start = np.datetime64("2019-01-02T03:04:05.123456")
    moments = start + np.arange(60) * np.timedelta64(1_000_123_456_789, "us")
    cells = write_dates(moments, pattern)
    frame = cells.alias("x").to_frame()
    found = infer_schema(frame)
    assert (found["x"].kind, found["x"].date_format) == ("datetime", pattern)
    assert "told apart" not in found["x"].reason
    assert render(parse(frame, found)).equals(frame)


def test_day_and_month_are_told_apart_by_the_whole_column():
    assert column([*some("01/02/2019", "03/04/2019"), "13/01/2020"]).date_format == "%d/%m/%Y"
    assert column([*some("01/02/2019", "03/04/2019"), "01/13/2020"]).date_format == "%m/%d/%Y"
    unclear = column(some("01/02/2019", "03/04/2019", "05/06/2019"))
    assert unclear.date_format == "%d/%m/%Y" and "cannot be told apart" in unclear.reason


def test_date_marks_and_words_among_dates():
    cells = [*[str(d) for d in DAYS], "9999-12-31", "pending"]
    found = column(cells)
    assert (found.kind, found.missing, found.special) == ("datetime", ("9999-12-31",), ("pending",))


def test_eight_digits_are_dates_only_if_all_are():
    assert column([*[f"{d:%Y%m%d}" for d in DAYS], "20191399"]).kind == "integer"


def test_zone_that_changes_is_kept_in_utc():
    cells = some("2020-01-01T10:00:00+01:00", "2020-07-01T10:00:00+02:00")
    frame = pl.DataFrame({"x": cells})
    table = parse(frame, infer_schema(frame))
    assert table.columns["x"][:2].astype(str).tolist() == [
        "2020-01-01T09:00:00.000000",
        "2020-07-01T08:00:00.000000",
    ]


def test_reasons_and_bounds_tell_of_nobody():
    secret = "424242"
    for cells in ([*WHOLE, secret], [*DECIMALS, f"{secret}.5"], [f"K{secret}{i}" for i in WHOLE]):
        found = column(cells)
        assert secret not in found.reason
        assert found.maximum is None and found.minimum in (None, 0)
    assert column(["-5", *WHOLE]).minimum is None


def test_subject_becomes_an_identifier_whatever_it_holds():
    frame = pl.DataFrame({"who": some("a", "b"), "x": WHOLE})
    schema = infer_schema(frame, subject="who")
    assert schema["who"].kind == "identifier" and schema["who"].roles == ("subject",)
    with pytest.raises(SchemaError, match="did you mean who"):
        infer_schema(frame, subject="whom")


def test_nested_columns_are_refused():
    with pytest.raises(InputError, match="'x' holds List"):
        infer_schema(pl.DataFrame({"x": [[1], [2]]}))


def test_one_row():
    frame = pl.DataFrame(
        {"age": ["63"], "sex": ["f"], "id": ["P1"], "d": ["2020-01-31"], "e": [""]}
    )
    schema = infer_schema(frame)
    assert [c.kind for c in schema] == [
        "integer", "categorical", "identifier", "datetime", "categorical",
    ]  # fmt: skip
    assert render(parse(frame, schema)).drop("id").equals(frame.drop("id"))


def test_ten_thousand_categories():
    cells = [f"code {i % 10_000}" for i in range(30_000)]
    found = column(cells)
    assert found.kind == "categorical" and len(found.categories) == 10_000


anything = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "NA", "1", "2.50", "-9", "<1", "2020-01-31", "1e400", "inf", "nan", "01"]),
    st.floats().filter(lambda x: x == 0 or abs(x) > 1e-20).map(str),
    st.dates().map(str),
)


@settings(max_examples=150, deadline=None)
@example(["2.36127684666883e-15"], "x")  # NumPy rounds 29 decimals to one bit beside
@example([".00", "1E22"], "x")
@example(["1.797693134862316e+272", "2.3283378997954724e-20"], "x")
@given(st.lists(anything, max_size=30), st.text(max_size=5))
def test_any_column_can_be_read_by_its_own_schema(cells, name):
    frame = pl.DataFrame({name: pl.Series(cells, dtype=pl.String)})
    schema = infer_schema(frame)
    table = parse(frame, schema)
    back = render(table)
    assert back.columns == frame.columns and back.height == frame.height
    again = parse(back, schema)
    if schema.learned:
        np.testing.assert_array_equal(again.columns[name], table.columns[name])
        np.testing.assert_array_equal(again.state(name), table.state(name))
    if schema[name].is_coded:
        assert back.equals(frame)


def test_dates_with_a_word_that_many_rows_hold_are_dates():
    days = [f"{d:02}.{m:02}.{y}" for y in (2018, 2019) for m in range(1, 13) for d in range(1, 29)]
    marked = column([*days, *["unbekannt"] * 90])
    assert (marked.kind, marked.missing, marked.special) == ("datetime", ("unbekannt",), ())
    special = column([*days, *["verlegt"] * 90])
    assert (special.kind, special.special) == ("datetime", ("verlegt",))
    assert column([*days[:60], *["verlegt"] * 90]).kind == "categorical"


def test_texts_of_one_subject_each_are_set_aside_though_rows_repeat_them():
    whose = [str(i) for i in range(60) for _ in range(4)]
    frame = pl.DataFrame(
        {
            "pid": whose,
            "who": [f"Ångström {i}" for i in whose],
            "ward": some(*[f"ward {i}" for i in range(30)], n=240),
        }
    )
    schema = infer_schema(frame, subject="pid")
    assert schema["who"].kind == "text" and schema["who"].categories == ()
    assert schema["ward"].kind == "categorical"
