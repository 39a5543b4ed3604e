"""Ontology trees: parents by spelling and by file, rolled up to what enough subjects hold."""

import numpy as np
import pytest

from manikin.data.codes import Code, EventSchema
from manikin.data.events import Events
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.knowledge.trees import Hierarchy, Tree, spelled_parent, support

NAMES = ("ICD10CM/E11.9", "ICD10CM/E11.65", "ICD10CM/E10.9", "ATC/A10BA02", "local", "ICD10CM/I10")
SCHEMA = EventSchema(TableSchema(()), tuple(Code(name) for name in NAMES))


def histories(rows: list[tuple[int, int]], n: int) -> Events:
    static = Table(SCHEMA.static, np.arange(n), {})
    time = np.full(len(rows), np.datetime64("2020-01-01", "us"))
    return Events.of(SCHEMA, static, [r[0] for r in rows], time, [r[1] for r in rows])


@pytest.mark.parametrize(
    ("name", "above"),
    [
        ("ICD10CM/E11.65", "ICD10CM/E11.6"),
        ("ICD10CM/E11.6", "ICD10CM/E11"),
        ("ICD10CM/E11", "ICD10CM/E"),
        ("ICD10CM/E", None),
        ("DIAGNOSIS//ICD//10//E119", "DIAGNOSIS//ICD//10//E11"),
        ("ICD9CM/250.01", "ICD9CM/250.0"),
        ("ICD9CM/250", None),
        ("DIAGNOSIS//ICD//9//E8859", "DIAGNOSIS//ICD//9//E885"),
        ("ICD9CM/E885", None),
        ("ICD9CM/V10.3", "ICD9CM/V10"),
        ("ATC/A10BA02", "ATC/A10BA"),
        ("ATC/A10BA", "ATC/A10B"),
        ("ATC/A10", "ATC/A"),
        ("ATC/A", None),
        ("ICD10PCS/0DTJ4ZZ", None),
        ("PROCEDURE//ICD//9//4513", None),
        ("LOINC/2160-0", None),
        ("E11.9", None),
        ("ICD10CM/", None),
        ("ICD10CM/Ä11.9", None),
    ],
)
def test_parents_by_spelling(name: str, above: str | None) -> None:
    assert spelled_parent(name) == above


def test_parents_of_a_file_come_first_and_reach_up() -> None:
    tree = Tree.of(SCHEMA, [("local", "ICD10CM/E11"), ("local", "shelf"), ("local", "shelf")])
    assert tree.parents_of("local") == ("ICD10CM/E11", "shelf")
    assert tree.ancestors("local") == ("ICD10CM/E11", "shelf", "ICD10CM/E")
    assert tree.beneath("ICD10CM/E11", NAMES).tolist() == [True, True, False, False, True, False]
    assert Tree(spelled=False).ancestors("ICD10CM/E11.9") == ()


def test_parents_of_codes_are_known_too() -> None:
    schema = EventSchema(TableSchema(()), (Code("a", parents=("b", "c")), Code("b")))
    hierarchy = Hierarchy.of(schema)
    assert hierarchy.nodes[hierarchy.parent[hierarchy.node[0]]] == "b"


def test_a_ring_is_refused() -> None:
    ring = Tree({"local": ("x",), "x": ("y",), "y": ("local",)})
    with pytest.raises(InputError):
        ring.ancestors("local")
    with pytest.raises(InputError):
        Hierarchy.of(SCHEMA, ring)


def test_codes_are_rolled_up_to_what_enough_subjects_hold() -> None:
    # E11.9: subjects 0, 1; E11.65: 1, 2; E10.9: 3; so E11 is held by 3 and E by 4
    events = histories([(0, 0), (0, 0), (1, 0), (1, 1), (2, 1), (3, 2), (4, 3), (4, 4)], 5)
    hierarchy = Hierarchy.of(SCHEMA)
    held = dict(zip(hierarchy.nodes, support(events, hierarchy).tolist(), strict=True))
    assert (held["ICD10CM/E11.9"], held["ICD10CM/E11"], held["ICD10CM/E"]) == (2, 3, 4)
    assert (held["ATC/A"], held["local"], held["ICD10CM/I"]) == (1, 1, 0)

    def named(least: int) -> list[str]:
        rolled = hierarchy.rolled(support(events, hierarchy), least)
        return ["" if at < 0 else hierarchy.nodes[at] for at in rolled]

    assert named(2) == ["ICD10CM/E11.9", "ICD10CM/E11.65", "ICD10CM/E", "", "", ""]
    assert named(3) == ["ICD10CM/E11", "ICD10CM/E11", "ICD10CM/E", "", "", ""]
    assert [hierarchy.nodes[at] for at in hierarchy.at_depth(1)] == [
        "ICD10CM/E11", "ICD10CM/E11", "ICD10CM/E10", "ATC/A10", "local", "ICD10CM/I10"
    ]  # fmt: skip


def test_no_codes_and_no_events_are_no_trouble() -> None:
    empty = EventSchema(TableSchema(()), ())
    hierarchy = Hierarchy.of(empty)
    assert hierarchy.nodes == ()
    assert support(histories([], 2), Hierarchy.of(SCHEMA)).sum() == 0


def test_ten_thousand_codes_make_a_tree() -> None:
    codes = tuple(Code(f"ICD10CM/A{i // 100:02d}.{i % 100:02d}") for i in range(10_000))
    hierarchy = Hierarchy.of(EventSchema(TableSchema(()), codes))
    assert hierarchy.depth.max() == 3
    assert len(hierarchy.nodes) == 10_000 + 1000 + 100 + 1  # codes, tens, stems, chapter
