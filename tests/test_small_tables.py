"""Wasserstein distance and coverage of small tables, against what can be worked by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import right_model
import small_page
import transport
from coding import Coded
from experiments import Experiment
from layout import CEILING


def coded(numbers: list[float], codes: list[float] | None = None) -> Coded:
    columns = [np.array(numbers, float)] + ([] if codes is None else [np.array(codes, float)])
    values = np.column_stack(columns)
    numeric = np.array([True, False][: values.shape[1]])
    none = np.zeros(len(values), bool)
    return Coded(values, none, numeric, np.zeros(values.shape[1], int), ("x", "y"))


def test_rows_are_as_far_apart_as_gower_says() -> None:
    like = coded([0, 10], [0, 1])
    found = transport.distances(coded([0, np.nan], [0, 1]), coded([5, np.nan], [0, 0]), like)
    # .5 of the range and the same category; a gap against a number is 1; two gaps are alike
    assert found == pytest.approx(np.array([[0.5, 1.0], [2.0, 1.0]]))


def test_numbers_of_one_value_are_not_divided_by_their_range() -> None:
    like = coded([3, 3])
    assert transport.distances(coded([3]), coded([5]), like) == pytest.approx(2.0)


def test_wasserstein_of_one_column_is_that_of_sorted_values() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=40), rng.normal(1, 2, 40)
    found = transport.wasserstein(coded(list(one)), coded(list(other)), coded([0, 1]))
    assert found == pytest.approx(wasserstein_distance(one, other))


def test_wasserstein_matches_rows_and_not_columns() -> None:
    like = coded([0, 1], [0, 1])
    real, crossed = coded([0, 1], [0, 1]), coded([0, 1], [1, 0])
    assert transport.wasserstein(real, real, like) == 0.0
    assert transport.wasserstein(crossed, real, like) == 1.0  # the columns alone are identical
    assert transport.wasserstein(coded([0, 1, 1], [0, 1, 1]), real, like) == 0.0


def test_coverage_by_hand() -> None:
    like, real = coded([0, 10]), coded([0, 1, 2, 10])
    # nearest other real row: .1, .1, .1, .8 of the range; a drawn 1.5 is near the second and third
    assert transport.coverage(coded([1.5]), real, like, neighbours=1) == 0.5
    assert transport.coverage(coded([100]), real, like, neighbours=1) == 0.0
    assert transport.coverage(real, real, like) == 1.0  # k is cut to the rows there are


def run(detection: float, nearer: float, w1: float) -> dict[str, object]:
    scores = {"detection": detection, "nearer": nearer, "w1": w1, "coverage": 0.9, "gap": 0.0}
    return {"scores": scores, "cpu_seconds": 1.0, "rows": 50, "columns": 4}


def test_the_page_says_who_is_ahead(tmp_path: Path) -> None:
    table = Experiment("one", "One", lambda _: None, (), "", ())  # type: ignore[arg-type,return-value]
    known = {
        CEILING: {"one/0": run(1.0, 0.5, 2.0)},
        "table/seqtree": {"one/0": run(0.9, 0.6, 3.0)},
        "table/mixture": {"one/0": run(0.8, 0.54, 3.0)},
        "peer": {"one/0": run(0.7, 0.5, 4.0), "one/1": {"failure": "too slow"}},
    }
    small = small_page.Small(known, [table])
    assert small.of("peer", "relative w1") == {"one": 2.0}
    assert "On 1 of 1 tables" in small.verdict()
    assert "| `table/seqtree` | `peer` | 0.200, 1 / 1 | -0.500, 1 / 1 |" in small.differences()
    known["peer"]["one/0"] = run(0.85, 0.5, 4.0)
    assert "On 0 of 1 tables" in small_page.Small(known, [table]).verdict()
    (tmp_path / "docs").mkdir()
    small_page.write(known, [table], tmp_path)
    assert "seed 1: too slow" in (tmp_path / "docs" / "small.md").read_text("utf-8")


def test_a_family_whose_file_has_changed_is_marked(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "manikin" / "synthesizers" / "table"
    folder.mkdir(parents=True)
    (folder / "seqtree.py").write_text("pass\n")
    # the first 12 digits of the sha-256 of "pass\n"
    now = {"table/seqtree": {"one/0": {**run(1.0, 0.5, 2.0), "made_of": "9f56e761d79b"}}}
    before = {"table/seqtree": {"one/0": {**run(1.0, 0.5, 2.0), "made_of": "0"}}}
    assert small_page.Small(before, [], tmp_path).called("table/seqtree") == "`table/seqtree`†"
    assert small_page.Small(now, [], tmp_path).called("table/seqtree") == "`table/seqtree`"


def test_a_right_model_of_many_rows_is_not_nearer_and_one_of_few_is() -> None:
    many, few = right_model.nearness(400, 3, 8), right_model.nearness(30, 30, 8)
    assert many["fitted"][0] == pytest.approx(0.5, abs=0.04)
    assert few["fitted"][0] > 0.6 > few["truth"][0] + 0.02
