import dataclasses
import json

import pytest

from manikin.data.rules import Combinations, Condition, IfThen, Inequality, Range, Sum
from manikin.data.schema import Column, TableSchema, columns_of, with_roles
from manikin.errors import SchemaError

SCHEMA = TableSchema(
    (
        Column("pid", "integer"),
        Column("Age", "integer", ("quasi_identifier",), minimum=0.0),
        Column("sex", "categorical", categories=("f", "m"), missing=("NA", "?")),
        Column("months", "ordinal", categories=("1.5", "2.0", "3.0")),
        Column("grade", "ordinal", categories=("low", "high", "very")),
        Column("died", "boolean", ("target",), categories=("0", "1")),
        Column("note", "text"),
    ),
    (
        Range("Age", 0.0, 110.0),
        Inequality("pid", "<", "Age"),
        Sum("Age", ("pid",)),
        IfThen((Condition("sex", "=", ("m",)),), (Condition("died", "present"),)),
        Combinations(("sex", "died"), (("m", "0"),)),
    ),
)


def test_json_round_trip():
    document = json.loads(json.dumps(SCHEMA.to_json()))
    assert TableSchema.from_json(document) == SCHEMA
    assert document["columns"][0] == {"name": "pid", "kind": "integer"}


def test_lookups():
    assert SCHEMA["Age"].minimum == 0 and "Age" in SCHEMA and "age" not in SCHEMA
    assert [column.name for column in SCHEMA.learned][-1] == "died"
    assert SCHEMA.holder("target").name == "died" and SCHEMA.holder("time") is None
    with pytest.raises(SchemaError, match="no column named 'age'"):
        SCHEMA["age"]


def test_tokens_are_missing_marks_then_special_cells():
    assert Column("x", "integer", missing=("NA", ""), special=("<1",)).tokens == ("NA", "", "<1")


def test_kinds_fall_into_three():
    for column in SCHEMA:
        assert column.is_numeric + column.is_coded + (not column.is_learned) == 1


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (Range("a"), {"a"}),
        (Inequality("a", "<", "b"), {"a", "b"}),
        (Sum("a", ("b", "c")), {"a", "b", "c"}),
        (IfThen((Condition("a", "missing"),), (Condition("b", "present"),)), {"a", "b"}),
        (Combinations(("a", "b")), {"a", "b"}),
    ],
)
def test_columns_of_rules(rule, names):
    assert columns_of(rule) == names
    with pytest.raises(SchemaError, match="no column named"):
        TableSchema((Column("z", "integer"),), (rule,))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ((Column("x", "integer"), Column("x", "text")), "more than once: x"),
        ((Column("x", "integer", ("target",)), Column("y", "integer", ("target",))), "'target'"),
    ],
)
def test_what_contradicts_itself(columns, told):
    with pytest.raises(SchemaError, match=told):
        TableSchema(columns)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"columns": {}}, "'columns' is no list"),
        ({"columns": [3]}, "no mapping"),
        ({"columns": [{"name": "x"}]}, "kinds are"),
        ({"columns": [{"name": "x", "kind": "integer", "categories": [1]}]}, "'categories'"),
        ({"columns": [{"name": "x", "kind": "integer", "minimum": True}]}, "'minimum'"),
        ({"columns": [{"name": "x", "kind": "integer", "roles": ["boss"]}]}, "unknown role"),
        ({"columns": [], "rules": [{"between": {}}]}, "none of the known"),
        ({"columns": [], "rules": [{"range": {"columns": "x"}}]}, "its fields are"),
    ],
)
def test_what_is_no_schema(document, told):
    with pytest.raises(SchemaError, match=told):
        TableSchema.from_json(document)


# ------------------------------------------------------------------ roles


def test_roles_are_given_and_taken():
    schema = with_roles(
        SCHEMA,
        target="sex",
        subject="pid",
        time="Age",
        event="died",
        sensitive=["sex", "died"],
        quasi_identifiers=("Age",),
    )
    assert schema["pid"].kind == "identifier" and schema["pid"].roles == ("subject",)
    assert schema["died"].roles == ("event", "sensitive")
    assert schema["sex"].roles == ("target", "sensitive")
    assert schema["Age"].roles == ("quasi_identifier", "time")
    assert schema.rules == SCHEMA.rules
    assert with_roles(SCHEMA) == SCHEMA


def test_an_event_needs_a_time():
    with pytest.raises(SchemaError, match="no column says how long"):
        with_roles(SCHEMA, event="died")


def test_a_scale_of_numbers_becomes_a_time():
    column = with_roles(SCHEMA, time="months")["months"]
    assert (column.kind, column.decimals, column.padded) == ("continuous", 1, True)
    assert column.categories == ()
    with pytest.raises(SchemaError, match="holds labels"):
        with_roles(SCHEMA, time="grade")


def test_unknown_names_are_met_with_the_nearest():
    with pytest.raises(SchemaError, match="did you mean Age"):
        with_roles(SCHEMA, target="age")
    with pytest.raises(SchemaError, match="check the spelling"):
        with_roles(SCHEMA, sensitive=["zzzzzz"])


@pytest.mark.parametrize("role", [{"time": "sex"}, {"event": "Age"}, {"target": "note"}])
def test_roles_that_do_not_fit_the_kind(role):
    with pytest.raises(SchemaError, match="cannot be the"):
        with_roles(SCHEMA, **role)


def test_replace_keeps_the_order():
    changed = SCHEMA.replace(dataclasses.replace(SCHEMA["sex"], unit="u"))
    assert [c.name for c in changed] == [c.name for c in SCHEMA] and changed["sex"].unit == "u"
