"""Linked tables: which links are seen, what is refused, and keys that are nobody's."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.cohort import Cohort, counts, in_order, time_column
from manikin.data.dataset import Dataset, split_subjects
from manikin.data.linking import link_frames
from manikin.data.links import CohortSchema, Link, Tree, parse_link
from manikin.errors import ManikinError, SchemaError

PATIENTS = pl.DataFrame({"patient_id": ["ä1", "ä2", "ä3"], "sex": ["f", "m", "f"]})
ADMISSIONS = pl.DataFrame(
    {"admission_id": [70, 71, 72], "patient_id": ["ä3", "ä1", "ä3"], "ward": ["x", "y", "x"]}
)
VALUES = pl.DataFrame(
    {"admission_id": [72, 70, 72], "patient_id": ["ä3", "ä3", "ä3"], "crp": [3.5, 1.0, 2.0]}
)
THREE = {"patients": PATIENTS, "admissions": ADMISSIONS, "values": VALUES}


def test_links_are_seen_and_rows_stand_for_keys() -> None:
    linked = link_frames(THREE)
    cohort = linked.cohort
    assert isinstance(cohort, Dataset) and cohort.schema.modality == "cohort"
    assert cohort.schema.tree.order == ("patients", "admissions", "values")
    assert cohort.schema.tree.up["values"].parent == "admissions"  # the nearest of the two
    assert cohort.above["admissions"].tolist() == [2, 0, 2]
    assert cohort.above["values"].tolist() == [2, 0, 2]
    assert cohort.parts["values"].subjects.tolist() == [2, 2, 2]
    assert counts(cohort, "admissions").tolist() == [1, 0, 2]
    assert "every key that it has is one of" in linked.notes[0]
    many = {"p": pl.DataFrame({"p_id": range(40)}), "v": pl.DataFrame({"p_id": range(12)})}
    assert "each of its 12 keys is one of 'p'" in link_frames(many).notes[0]
    for table in cohort.parts.values():
        assert "patient_id" not in table.columns and "admission_id" not in table.columns
    assert not any("ä1" in note for note in linked.notes), "a reason quotes no cell"


def test_new_keys_refer_to_each_other_and_to_nobody() -> None:
    made = Cohort.from_frames(THREE).to_polars()
    assert not set(made["patients"]["patient_id"]) & set(PATIENTS["patient_id"])
    assert made["admissions"].schema == ADMISSIONS.schema
    assert min(made["admissions"]["admission_id"]) > 72
    again = Cohort.from_frames(made)
    for name, rows in Cohort.from_frames(THREE).above.items():
        assert again.above[name].tolist() == rows.tolist()


def test_take_keeps_whole_families() -> None:
    cohort = Cohort.from_frames(THREE)
    third = cohort.take(np.array([2]))
    assert third.n_subjects == 1 and third.n_rows == 1 + 2 + 3
    assert third.above["values"].tolist() == [1, 0, 1]
    one, other = split_subjects(cohort, (0.4, 0.6), seed=1)
    assert one.n_rows + other.n_rows == cohort.n_rows
    both = Cohort.concatenate([one, other])
    assert sorted(both.subjects.tolist()) == [0, 1, 2]
    assert both.renumbered(5).parts["values"].subjects.max() <= 7


@pytest.mark.parametrize(
    ("table", "column", "cells", "said"),
    [
        ("admissions", "patient_id", ["ä3", "ä1", "ä9"], "1 rows of 'admissions'"),
        ("admissions", "patient_id", ["ä3", None, "ä1"], "is missing in 1 rows"),
        ("patients", "patient_id", ["ä1", "ä3", "ä3"], "repeats in 1 rows"),
        ("patients", "patient_id", ["ä1", None, "ä3"], "is missing in 1 rows"),
        ("values", "patient_id", ["ä3", "ä3", "ä1"], "1 rows of 'values'"),
    ],
)
def test_keys_that_do_not_tell_the_row_are_refused(table, column, cells, said) -> None:
    frames = {**THREE, table: THREE[table].with_columns(pl.Series(column, cells))}
    if table != "values":
        del frames["values"]
    with pytest.raises(SchemaError, match=said) as caught:
        link_frames(frames)
    assert caught.value.allowed and caught.value.todo and "ä" not in str(caught.value)


def test_orphans_are_kept_for_the_judge_only() -> None:
    frames = {"patients": PATIENTS, "admissions": ADMISSIONS.with_columns(
        pl.Series("patient_id", ["ä3", "ä1", "ä9"]))}  # fmt: skip
    cohort = link_frames(frames, dangling="keep").cohort
    assert cohort.orphans == 1 and cohort.above["admissions"].tolist() == [2, 0, -1]
    assert cohort.parts["admissions"].subjects.tolist() == [2, 0, -1]
    assert cohort.take(cohort.subjects).orphans == 0
    written = cohort.to_polars()
    assert not set(written["admissions"]["patient_id"]) <= set(written["patients"]["patient_id"])


def test_a_reference_that_rows_do_not_hang_on_is_left_empty() -> None:
    values = VALUES.with_columns(pl.Series("admission_id", [72, None, 70]))
    linked = link_frames({**THREE, "values": values})
    assert linked.cohort.schema.tree.up["values"].parent == "patients"
    assert linked.cohort.schema.parts["values"]["admission_id"].kind == "text"
    assert linked.cohort.to_polars()["values"]["admission_id"].null_count() == 3


def test_a_named_link_takes_the_place_of_the_inferred_one() -> None:
    linked = link_frames(THREE, ["values.patient_id=patients.patient_id",
                                 "admissions.patient_id=patients.patient_id"])  # fmt: skip
    assert linked.cohort.schema.tree.up["values"].parent == "patients"
    frames = {"p": PATIENTS, "a": ADMISSIONS.rename({"patient_id": "who"})}
    with pytest.raises(SchemaError, match="no key ties"):
        link_frames(frames)
    assert link_frames(frames, ["a.who=p.patient_id"]).cohort.above["a"].tolist() == [2, 0, 2]
    for wrong in ("a.who", "a.who=q.x", "a=p.patient_id", "a.nobody=p.patient_id"):
        with pytest.raises(ManikinError):
            link_frames(frames, [wrong])


def test_a_table_that_nothing_ties_is_left_out() -> None:
    linked = link_frames({**THREE, "units": pl.DataFrame({"unit": ["mg", "ml"]})})
    assert linked.left_out == ("units",) and "units" not in linked.cohort.parts


def test_keys_named_id_and_whole_numbers_written_as_decimals() -> None:
    patients = pl.DataFrame({"id": ["1", "2"], "age": ["3", "4"]})
    visits = pl.DataFrame({"id": ["1", "2"], "patient_id": ["2.0", "1.0"], "x": ["1", "2"]})
    linked = link_frames({"patients": patients, "visits": visits})
    assert [str(link) for link in linked.reasons] == ["visits.patient_id=patients.id"]
    assert linked.cohort.above["visits"].tolist() == [1, 0]


def test_one_row_each_hangs_on_the_table_that_the_key_is_named_after() -> None:
    frames = {"details": PATIENTS.rename({"sex": "colour"}), "patients": PATIENTS}
    assert link_frames(frames).cohort.schema.tree.order == ("patients", "details")
    # a key that repeats another table's is written as that one's
    more = pl.DataFrame({"patient_id": ["ä1"], "z": [1.5]})
    made = link_frames({**frames, "more": more}, ["more.patient_id=details.patient_id"])
    out = made.cohort.to_polars()
    assert set(out["more"]["patient_id"]) < set(out["patients"]["patient_id"])


class TestTree:
    def test_circles_two_parents_and_two_roots_are_refused(self) -> None:
        for names, links, said in (
            ("ab", "a.x=b.k b.x=a.k", "circle"),
            ("abc", "c.x=a.k c.y=b.k b.x=a.k", ""),
            ("abcd", "b.x=a.k c.x=a.k d.x=b.k d.y=c.k", "none of which hangs"),
            ("ab", "", "linked to none"),
            ("ab", "b.x=a.k b.y=a.k", "by two columns"),
            ("a", "a.boss=a.k", "circle"),
            ("ab", "b.x=c.k", "speaks of a table"),
        ):
            found = tuple(
                Link(left[0], left[2:], right[0], right[2:])
                for left, right in (text.split("=") for text in links.split())
            )
            if not said:
                assert Tree(tuple(names), found).path("c") == ("b", "a")
                continue
            with pytest.raises(SchemaError, match=said):
                Tree(tuple(names), found)

    def test_schema_goes_through_json(self) -> None:
        schema = Cohort.from_frames(THREE).schema
        assert CohortSchema.from_json(schema.to_json()) == schema
        for wrong in ({}, {"tables": [], "links": []}, {"tables": [1], "links": []},
                      {**schema.to_json(), "links": [{"child": "values"}]}):  # fmt: skip
            with pytest.raises(SchemaError):
                CohortSchema.from_json(wrong)

    def test_a_table_name_may_hold_a_dot(self) -> None:
        link = parse_link(" a.b.x = c.k ", ["a", "a.b", "c"])
        assert link == Link("a.b", "x", "c", "k")


def test_arrays_that_do_not_fit_are_refused() -> None:
    cohort = Cohort.from_frames(THREE)
    for above in ({"admissions": cohort.above["admissions"]},
                  {**cohort.above, "values": np.array([0, 1, 9])},
                  {**cohort.above, "values": np.array([0, 1])},
                  {**cohort.above, "values": np.array([1, 1, 1])}):  # fmt: skip
        with pytest.raises(SchemaError):
            Cohort(cohort.schema, cohort.parts, above)


def test_time_orders_siblings() -> None:
    days = ["2020-03-01", "2020-01-05", None]
    frames = {**THREE, "values": VALUES.with_columns(
        pl.Series("taken", days).str.to_datetime(strict=False))}  # fmt: skip
    cohort = Cohort.from_frames(frames)
    assert time_column(cohort.parts["values"]) == "taken"
    # rows 0 and 2 hang on admission 2, row 1 on admission 0; row 2 has no date and comes last
    assert in_order(cohort, "values", "taken").tolist() == [1, 0, 2]
    assert time_column(cohort.parts["admissions"]) is None


@st.composite
def forests(draw: st.DrawFn) -> dict[str, pl.DataFrame]:
    """Tables below each other, with keys as numbers or as texts, some tables without a row."""
    n = draw(st.integers(1, 6))
    frames = {"t0": pl.DataFrame({"t0_id": range(n), "x": [0.5 * i for i in range(n)]})}
    for i in range(1, draw(st.integers(1, 4)) + 1):
        parent = f"t{draw(st.integers(0, i - 1))}"
        keys = frames[parent][f"{parent}_id"].to_list()
        rows = draw(st.lists(st.sampled_from(keys), max_size=8)) if keys else []
        text = draw(st.booleans())
        own = [f"k-{j}" if text else j for j in range(len(rows))]
        frames[f"t{i}"] = pl.DataFrame(
            {f"t{i}_id": own, f"{parent}_id": rows, "y": [1.0] * len(rows)},
            schema_overrides={f"{parent}_id": frames[parent][f"{parent}_id"].dtype},
        )
    return frames


@settings(max_examples=8, deadline=None)
@given(forests())
def test_any_forest_comes_back_with_every_reference(frames) -> None:
    links = [
        f"{name}.{column}={column[:-3]}.{column}"
        for name, frame in frames.items()
        for column in frame.columns
        if column.endswith("_id") and column != f"{name}_id"
    ]
    cohort = Cohort.from_frames(frames, links)
    made = cohort.to_polars()
    for link in cohort.schema.links:
        keys = made[link.parent][link.key]
        assert keys.n_unique() == len(keys)
        assert set(made[link.child][link.column]) <= set(keys)
    again = Cohort.from_frames(made, links)
    assert all(np.array_equal(again.above[name], rows) for name, rows in cohort.above.items())
    half = cohort.take(cohort.subjects[::2])
    assert all((rows >= 0).all() for rows in half.above.values())
