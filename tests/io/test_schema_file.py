import dataclasses
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manikin.data.rules import Combinations, Condition, IfThen, Inequality, Range, Sum
from manikin.data.schema import Column, TableSchema
from manikin.errors import InputError, SchemaError
from manikin.io.json_schema import json_schema
from manikin.io.schema_file import from_yaml, read_schema, to_yaml, write_schema

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = TableSchema(
    (
        Column("id", "identifier", ("subject",), template="P-9999"),
        Column("age", "integer", ("quasi_identifier",), minimum=0.0, unit="years"),
        Column("bmi", "continuous", decimals=2, padded=True, special=("<0.5",), minimum=-0.5),
        Column("sex", "categorical", categories=("no", "F, other", "1.50", "ü")),
        Column("died", "boolean", ("target",), categories=("0", "1"), missing=("NA", "")),
        Column("day", "datetime", date_format="%d/%m/%Y", minimum=86400.0, maximum=90000.0),
        Column("left", "datetime", date_format="%d/%m/%Y"),
    ),
    (
        Range("age", 18.0, None),
        Inequality("day", "<=", "left"),
        Sum("bmi", ("age", "age")),
        IfThen((Condition("sex", "=", ("no",)),), (Condition("age", ">=", (65.0,)),)),
        IfThen((Condition("died", "missing"),), (Condition("sex", "in", ("no", "ü")),)),
        Combinations(("sex", "died"), (("no", "0"), ("ü", "1"))),
        Combinations(("sex", "died")),
    ),
)


def declared(schema: TableSchema) -> TableSchema:
    columns = tuple(dataclasses.replace(column, reason="") for column in schema)
    return dataclasses.replace(schema, columns=columns, declared=True)


def test_round_trip_of_everything(tmp_path):
    write_schema(SCHEMA, tmp_path / "s.yaml")
    assert read_schema(tmp_path / "s.yaml") == declared(SCHEMA)


def test_reasons_become_comments():
    column = Column("x", "integer", reason="integer: 3 different\nwhole numbers")
    text = to_yaml(TableSchema((column,)))
    assert "  # integer: 3 different whole numbers\n  - name: x\n" in text
    assert from_yaml(text)["x"].reason == ""


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn", "Zl", "Zp"))
)


@given(st.lists(texts, min_size=1, unique=True), texts.filter(bool))
def test_any_spelling_survives(categories, name):
    column = Column(name, "categorical", categories=tuple(categories), missing=("", *categories))
    schema = TableSchema((column,))
    assert from_yaml(to_yaml(schema)) == declared(schema)


def test_unquoted_words_and_numbers_keep_their_spelling():
    text = "columns:\n- {name: x, kind: categorical, categories: [no, yes, 1.50, 007, null]}"
    assert from_yaml(text)["x"].categories == ("no", "yes", "1.50", "007", "null")


def test_dates_are_bounds_in_seconds():
    text = (
        "columns:\n- {name: d, kind: datetime, minimum: 1970-01-02, maximum: 1970-01-02 01:00:00}"
    )
    column = from_yaml(text)["d"]
    assert (column.minimum, column.maximum) == (86400.0, 90000.0)


def test_values_of_rules_take_their_columns_kind():
    text = """
columns:
- {name: sex, kind: categorical, categories: [m, f]}
- {name: age, kind: integer}
rules:
- range: {column: age, maximum: 110}
- if_then: {when: sex = m, then: [{column: age, operator: ">=", value: 18}]}
"""
    assert from_yaml(text).rules == (
        Range("age", None, 110.0),
        IfThen((Condition("sex", "=", ("m",)),), (Condition("age", ">=", (18.0,)),)),
    )


ONE = "columns: [{name: x, kind: integer}]\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("columns: [", "no YAML in line"),
        ("rules: []", "no list 'columns'"),
        ("columns: []\nextra: 1", "extra"),
        ("columns: [x]", "no mapping"),
        ("columns: [{name: x, kind: number}]", "kinds are"),
        ("columns: [{name: x, kind: integer, minimum: low}]", "'minimum' of column 'x'"),
        ("columns: [{name: x, kind: integer, decimals: two}]", "'decimals' of column 'x'"),
        ("columns: [{name: x, kind: integer, padded: perhaps}]", "'padded' of column 'x'"),
        ("columns: [{name: x, kind: integer, unit: [a]}]", "'unit' of column 'x'"),
        ("columns: [{name: x, kind: integer, categorise: [a]}]", "categorise"),
        ("columns: [{name: x, kind: integer}, {name: x, kind: integer}]", "more than once"),
        ("columns: [{name: x, kind: integer, roles: [king]}]", "roles are"),
        ("columns: [{name: d, kind: datetime, minimum: soon}]", "no date"),
        (ONE + "rules: [range]", "rule 1"),
        (ONE + "rules: [{rang: {column: x}}]", "rule 1"),
        (ONE + "rules: [{range: {column: y}}]", "'y'"),
        (ONE + "rules: [{range: {columns: x}}]", "its fields"),
        (ONE + "rules: [{if_then: {when: y = 1, then: x = 1}}]", "y"),
        (ONE + "rules: [{if_then: {when: [3, []], then: x=1}}]", "rule 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text, told):
    with pytest.raises(SchemaError, match=re.escape(told)):
        from_yaml(text)


def test_a_file_that_is_not_there():
    with pytest.raises(InputError, match="cannot be read"):
        read_schema("nowhere.yaml")


def test_published_json_schema_is_this_one():
    assert json.loads((DOCS / "schema.json").read_text(encoding="utf-8")) == json_schema()


def test_json_schema_knows_every_field():
    fields = {field.name for field in dataclasses.fields(Column)}
    assert set(json_schema()["$defs"]["column"]["properties"]) == fields


def test_examples_and_dumps_satisfy_the_json_schema():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    examples = re.findall(r"```yaml\n(.*?)```", (DOCS / "schema.md").read_text("utf-8"), re.DOTALL)
    assert examples
    for text in [*examples, to_yaml(SCHEMA)]:
        loaded = json.loads(json.dumps(yaml.load(text, yaml.BaseLoader)))
        for column in loaded["columns"]:  # a plain YAML reader types these
            for key in ("decimals", "min_decimals"):
                if key in column:
                    column[key] = int(column[key])
            if "padded" in column:
                column["padded"] = column["padded"] == "true"
        jsonschema.validate(loaded, json_schema())
        assert len(from_yaml(text).columns) == len(loaded["columns"])
    jsonschema.validate(SCHEMA.to_json(), json_schema())


def test_json_schema_refuses_a_misspelt_field():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            {"columns": [{"name": "x", "kind": "integer", "unti": "kg"}]}, json_schema()
        )


@pytest.mark.parametrize("text", ["[" * 50_000, "columns: " + "{a: " * 5000])
def test_deep_nesting_is_refused(text):
    with pytest.raises(SchemaError, match="deep"):
        from_yaml(text)
