"""The checks of Räisä et al. (ICML 2025): what docs/sanity.md says of our measures is so.

The page is made from benchmarks/sanity.json. Here the page must follow from that file, parts of the
file are measured again, and the marks that matter most are named.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import sanity
from situations import CHECKS, falls, flat, follows, near, peaks, rises

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks" / "sanity.json").read_text(encoding="utf-8"))
MARKS = {check.name: sanity.marks(check, KEPT[check.name]) for check in CHECKS}
CHEAP = ("fidelity/shapes", "fidelity/trends", "fidelity/triples", "fidelity/propensity",
         "fidelity/manifold")  # fmt: skip
DEAR = ("fidelity/detection", "fidelity/distances")
CLOSE = 0.03  # to what was measured on another machine


def test_the_page_is_what_was_measured():
    assert (ROOT / "docs" / "sanity.md").read_text(encoding="utf-8") == sanity.page(KEPT)


def test_every_measure_of_a_metric_has_an_outcome_in_every_check():
    for check in CHECKS:
        assert set(MARKS[check.name]) == set(check.demands)
        for row in MARKS[check.name].values():
            assert set(row) == {measure.label for measure in sanity.MEASURES}
        assert {len(repeat) for repeats in KEPT[check.name].values() for repeat in repeats} == {
            len(check.settings)
        }


def again(check, at, metrics):
    """A measure's number in one setting is the one that the page was made from."""
    found = sanity.values(check, at, metrics)
    for label, value in found.items():
        kept = KEPT[check.name][label][0][at]
        if kept is None:
            assert np.isnan(value), label
        else:
            assert value == pytest.approx(kept, abs=CLOSE), label
    return len(found)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_cheap_measures_are_what_the_page_says(check):
    assert again(check, len(check.settings) - 1, CHEAP) == 12


@pytest.mark.parametrize("name", ["Mode collapse", "Real numbers for whole ones"])
def test_dear_measures_are_what_the_page_says(name):
    check = next(check for check in CHECKS if check.name == name)
    assert again(check, 0 if name.startswith("Real") else 2, DEAR) == 4


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_everything_is_what_the_page_says(check):
    for at in range(len(check.settings)):
        again(check, at, CHEAP + DEAR)


# ── What the report relies on ──────────────────────────────────────────────────────────────────


def test_boosted_trees_notice_every_situation():
    """Only the sizes of samples change what they say, as they change what can be learnt."""
    failed = {
        (check, what)
        for check, rows in MARKS.items()
        for what, row in rows.items()
        if row["detection.score"] == "FAIL"
    }
    assert failed <= {("Hypercube, sample size", "curve")}


def test_one_disjoint_column_among_many_is_worst_in_its_own_line():
    for name in ("One disjoint column among many", "Scaling one column"):
        marks = MARKS[name]["different is worst"]
        assert marks["shapes, worst column"] == "pass" and marks["shapes"] == "FAIL"


def test_what_is_known_to_fail_fails_openly():
    """Were one of these to pass, the page's prose and the cards would be wrong."""
    outlier = {c: MARKS[f"Mean difference, {c} outlier"]["different is worst"]
               for c in ("real", "synthetic")}  # fmt: skip
    assert outlier["real"]["manifold.precision"] == "FAIL"
    assert outlier["synthetic"]["manifold.recall"] == "FAIL"
    assert outlier["real"]["manifold.coverage"] == outlier["real"]["manifold.recall"] == "pass"
    spread = MARKS["Gaussian standard deviation"]["curve"]
    assert {spread[m] for m in ("detection.auc_logistic", "propensity.ratio")} == {"FAIL"}
    for what in ("wasserstein", "mmd"):
        row = MARKS["Gaussian mean difference"]
        assert row["different is worst"][f"distances.{what}"] == "FAIL"
        assert row["bell"][f"distances.{what}"] == "pass"


# ── The demands themselves ─────────────────────────────────────────────────────────────────────


def test_demands_by_hand():
    line = np.array
    assert near(1)(line([0.95, 1.05])) and not near(1)(line([0.95, 1.2]))
    assert near(0, 0)(line([0.05, 0.9])) and not near(0, 1)(line([0.05, 0.9]))
    assert flat(line([0.4, 0.45])) and not flat(line([0.4, 0.55]))
    assert falls(line([1, 0.7, 0.74, 0.5])) and not falls(line([1, 0.7, 0.8, 0.5]))
    assert not falls(line([1, 0.9])), "it hardly changes"
    assert rises(line([0.2, 0.9])) and not rises(line([0.9, 0.2]))
    assert peaks(1)(line([0, 1, 0])) and not peaks(1)(line([0, 1, 1]))
    assert follows(1, 0.5)(line([0.95, 0.55])) and not follows(1, 0.5)(line([0.95, 0.7]))


def test_a_mark_needs_a_number_and_a_bound():
    check = next(check for check in CHECKS if check.name == "Gaussian mean difference")
    perfect = {m.label: [[0.0, 0.5, 1.0, 0.5, 0.0]] for m in sanity.MEASURES}
    found = sanity.marks(check, perfect)
    assert set(found["bell"].values()) == {"pass"}
    worst = found["different is worst"]
    assert {m.label for m in sanity.MEASURES if worst[m.label] == "FAIL"} == {
        m.label for m in sanity.MEASURES if not m.bounded
    }
    unknown = {label: [[None, *curve[1:]]] for label, (curve,) in perfect.items()}
    assert set(sanity.marks(check, unknown)["bell"].values()) == {"n/a"}
