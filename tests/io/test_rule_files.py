"""Files of rules and trees: what a person may write, and what is refused."""

from pathlib import Path

import pytest

from manikin.data.codes import Code, EventSchema
from manikin.data.schema import TableSchema
from manikin.errors import InputError, SchemaError
from manikin.io.rule_files import read_rules, read_tree
from manikin.knowledge.history_rules import Aged, Bounds, Once, Only, Rules

YAML = """
trees: [tree.csv]
rules:
  - only: {code: ICD10CM/O, column: sex, levels: [F]}
  - aged: {code: local/7, minimum_years: 12}
  - bounds: {code: LOINC/2160-0, unit: mg/dL, minimum: 0.1, maximum: 40}
  - once:
      code: domain:death
"""


def test_rules_and_the_tree_beside_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(YAML)
    (tmp_path / "tree.csv").write_text("Child,Parent_Code,note\na,b,x\na,c,y\nb,,top\n")
    rules = read_rules(tmp_path / "rules.yaml")
    assert rules.rules == (
        Only("ICD10CM/O", "sex", ("F",)),
        Aged("local/7", 12.0),
        Bounds("LOINC/2160-0", "mg/dL", 0.1, 40.0),
        Once("domain:death"),
    )
    assert rules.tree.parents_of("a") == ("b", "c")
    assert Rules.from_json(rules.to_json()) == rules


@pytest.mark.parametrize(
    "text",
    ["", "- a", "rules: 3", "rules: []\ncolour: red", "rules: []\ntrees: {a: b}", "rules: [once]"],
)
def test_what_is_no_file_of_rules_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(SchemaError):
        read_rules(path)


@pytest.mark.parametrize(
    "text",
    ["child,colour\na,b\n", "child,parent\na,a\n", "child,parent\na,b\nb,c\nc,a\nd,a\n",
     "child,parent\na,\n"],
)  # fmt: skip
def test_trees_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tree.csv"
    path.write_text(text)
    with pytest.raises(InputError):
        read_tree(path)


def test_files_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_rules(tmp_path / "none.yaml")
    (tmp_path / "rules.yaml").write_text("rules: []\ntrees: none.csv\n")
    with pytest.raises(InputError):
        read_rules(tmp_path / "rules.yaml")


def test_rules_and_what_stands_above_their_codes_go_into_a_schema(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "trees: tree.csv\nrules:\n  - once: {code: top}\n  - once: {code: nowhere}\n"
    )
    (tmp_path / "tree.csv").write_text("child,parent\nlocal/7,middle\nmiddle,top\n")
    bare = EventSchema(TableSchema(()), (Code("local/7"), Code("local/8")))
    schema, notes = read_rules(tmp_path / "rules.yaml").into(bare)
    assert schema.rules == (Once("top"), Once("nowhere"))
    # what lies between is no code of the schema, and yet the rule of the top reaches
    assert [code.parents for code in schema.codes] == [("middle", "top"), ()]
    assert schema.beneath(("top",)) == (0,)
    assert len(notes) == 1 and "nowhere" in notes[0]
    assert EventSchema.from_json(schema.to_json()) == schema
