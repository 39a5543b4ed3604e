import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError
from manikin.knowledge.conditions import all_hold, check, describe, holds, parse_conditions

SCHEMA = TableSchema(
    (
        Column("sex", "categorical", categories=("F", "M", "F, other", 'say "x"')),
        Column("age", "integer"),
        Column("stage", "ordinal", categories=("I", "II", "III", "IV")),
        Column("crp", "continuous", decimals=1, missing=("", "NA"), special=("<0.5",)),
        Column("bmi at entry", "continuous", decimals=1),
        Column("born", "datetime", date_format="%d.%m.%Y"),
        Column("smoker", "boolean", categories=("No", "Yes")),
        Column("grade", "categorical", categories=("1", "2", "10")),
        Column("note", "text"),
        Column("größe, cm", "integer"),
        Column("sex missing", "integer"),
        Column("icd", "categorical", categories=tuple(f"E{i:03d}" for i in range(700))),
    )
)
TABLE = Table(
    SCHEMA,
    np.arange(4),
    {
        "sex": np.array([0, 1, 2, -1], dtype=np.int32),
        "age": np.array([64.0, 65.0, 70.0, np.nan]),
        "stage": np.array([0, 1, 2, -1], dtype=np.int32),
        "crp": np.array([0.7, np.nan, np.nan, np.nan]),
        "bmi at entry": np.array([29.9, 30.0, 30.1, 0.1 + 0.2]),
        "born": np.array(["1960-01-31", "1970-01-01", "NaT", "2000-02-29"], dtype="datetime64[us]"),
        "smoker": np.array([0, 1, 0, -1], dtype=np.int32),
        "grade": np.array([0, 1, 2, -1], dtype=np.int32),
        "größe, cm": np.array([170.0, 180.0, 190.0, 200.0]),
        "sex missing": np.array([1.0, 2.0, 3.0, 4.0]),
        "icd": np.array([0, 1, 2, -1], dtype=np.int32),
    },
    {"crp": np.array([0, 3, 1, 2], dtype=np.int8)},
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("sex=F", [1, 0, 0, 0]),
        ("sex==F,age>=65", [0, 0, 0, 0]),
        ('sex = "F, other"', [0, 0, 1, 0]),
        ("sex = 'F, other', age >= 65", [0, 0, 1, 0]),
        ("sex != F", [0, 1, 1, 0]),
        ("age<65", [1, 0, 0, 0]),
        ("age <= 65", [1, 1, 0, 0]),
        ("age ≥ 65", [0, 1, 1, 0]),
        ("age != 65", [1, 0, 1, 0]),
        ("age missing", [0, 0, 0, 1]),
        ("age is missing", [0, 0, 0, 1]),
        ("age present", [1, 1, 1, 0]),
        ("stage in (II, III)", [0, 1, 1, 0]),
        ("stage in [II,III]", [0, 1, 1, 0]),
        ("stage IN(II,III)", [0, 1, 1, 0]),
        ("stage > I", [0, 1, 1, 0]),
        ("stage <= II", [1, 1, 0, 0]),
        ("crp missing", [0, 0, 1, 1]),
        ("crp present", [1, 1, 0, 0]),
        ('crp = "<0.5"', [0, 1, 0, 0]),
        ('crp != "<0.5"', [1, 0, 0, 0]),
        ("crp > 0", [1, 0, 0, 0]),
        ("crp in (<0.5, 0.7)", [1, 1, 0, 0]),
        ('"bmi at entry" > 30', [0, 0, 1, 0]),
        ("bmi at entry >= 30", [0, 1, 1, 0]),
        ('"bmi at entry" = 0.3', [0, 0, 0, 1]),
        ("born < 01.01.1970", [1, 0, 0, 0]),
        ("born <= 1970-01-01", [1, 1, 0, 0]),
        ("born = 29.02.2000", [0, 0, 0, 1]),
        ("smoker = Yes", [0, 1, 0, 0]),
        ("smoker = true", [0, 1, 0, 0]),
        ("grade = 1.0", [1, 0, 0, 0]),
        ("größe, cm > 175", [0, 1, 1, 1]),
        ("sex missing", [0, 0, 0, 1]),
        ("sex missing > 2", [0, 0, 1, 1]),
    ],
)
def test_hand_worked(text: str, rows: list[int]) -> None:
    assert all_hold(parse_conditions(text, SCHEMA), TABLE).astype(int).tolist() == rows


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "empty"),
        ("age", "comparison"),
        ("age >=", "missing"),
        ("age >= 65,", "comma"),
        ("age >= old", "takes numbers"),
        ("age >= nan", "takes numbers"),
        ("agee >= 65", "no column"),
        ("sex = W", "F, M"),
        ("sex > F", "no order"),
        ("smoker < Yes", "no order"),
        ("icd = E01", "E010"),
        ("crp = NA", '"crp" missing'),
        ("stage in II", "brackets"),
        ("stage in (II", "closed"),
        ('sex = "F', "quotation"),
        ("born > yesterday", "no date"),
        ("note = x", "set aside"),
        ('sex = "F" age > 3', "comma"),
        ("= 3", "begin"),
        ("crp > <0.5", "no number"),
        ("age = 1e999", "finite"),
    ],
)
def test_refusals_say_what_is_allowed(text: str, hint: str) -> None:
    with pytest.raises(ConditionError, match=hint.replace("(", r"\(")):
        parse_conditions(text, SCHEMA)


def test_values_from_a_schema_file_are_read_alike() -> None:
    assert check(Condition("grade", "=", (1,)), SCHEMA).values == ("1",)
    assert check(Condition("smoker", "=", (True,)), SCHEMA).values == ("Yes",)
    assert check(Condition("age", "<", ("65",)), SCHEMA).values == (65.0,)
    assert holds(Condition("born", "=", ("2000-02-29",)), TABLE).tolist() == [0, 0, 0, 1]
    with pytest.raises(ConditionError, match="takes 1"):
        check(Condition("age", "<", ()), SCHEMA)


NAMES = st.text(min_size=1, max_size=8)


@st.composite
def schemas_and_conditions(draw: st.DrawFn) -> tuple[TableSchema, list[Condition]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    columns, conditions = [], []
    for name in names:
        kind = draw(st.sampled_from(["continuous", "categorical", "ordinal", "datetime"]))
        operator = draw(st.sampled_from(["=", "!=", "in", "missing", "present", "<", ">="]))
        categories: tuple[str, ...] = ()
        if kind in ("categorical", "ordinal"):
            categories = tuple(draw(st.lists(st.text(max_size=6), min_size=1, unique=True)))
            value = st.sampled_from(categories)
            if kind == "categorical" and operator in ("<", ">="):
                operator = "="
        elif kind == "datetime":
            value = st.datetimes().map(lambda d: d.isoformat())
        else:
            value = st.floats(allow_nan=False, allow_infinity=False)
        size = {"missing": 0, "present": 0, "in": draw(st.integers(1, 3))}.get(operator, 1)
        values = tuple(draw(value) for _ in range(size))
        columns.append(Column(name, kind, categories=categories))
        conditions.append(Condition(name, operator, values))
    return TableSchema(tuple(columns)), conditions


@settings(max_examples=150, deadline=None)
@given(schemas_and_conditions())
def test_describe_is_read_back(case: tuple[TableSchema, list[Condition]]) -> None:
    schema, conditions = case
    wanted = tuple(check(condition, schema) for condition in conditions)
    assert parse_conditions(", ".join(map(describe, wanted)), schema) == wanted


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40) | st.text("sexage=<>!in()[], \"'1.5", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        conditions = parse_conditions(text, SCHEMA)
    except ConditionError:
        return
    assert all_hold(conditions, TABLE).shape == (4,)
