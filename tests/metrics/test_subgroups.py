import math

import numpy as np
import pytest

from manikin.metrics.fairness.subgroups import subgroups
from manikin.metrics.score import Trial

ROLES = {"sex": ("sensitive",)}


def test_disparity_by_hand(make_table):
    real = make_table(sex=["a"] * 50 + ["b"] * 50, x=[1.0] * 100, roles=ROLES)
    fake = make_table(sex=["a"] * 80 + ["b"] * 20, x=[1.0] * 100, roles=ROLES)
    scores = {
        (s.metric.rpartition(".")[2], s.group): s
        for s in subgroups(Trial(real, real, fake), seed=0)
    }
    assert scores["disparity", "sex=a"].value == pytest.approx(math.log(80.5 / 20.5))
    assert scores["disparity", "sex=a"].interval[0] > 0
    assert scores["disparity", "sex=b"].value == pytest.approx(-math.log(80.5 / 20.5))
    assert scores["shapes", "sex=a"].value == 1.0


def test_small_groups_are_not_assessable_and_tiny_ones_not_named(make_table):
    table = make_table(sex=["a"] * 80 + ["b"] * 15 + ["c"] * 5, roles=ROLES)
    scores = subgroups(Trial(table, table, table), seed=0)
    groups = {s.group for s in scores if s.group != "all"}
    assert groups == {"sex=a", "sex=b"}
    small = [s for s in scores if s.group == "sex=b"]
    assert all(math.isnan(s.value) and "not assessable" in s.note for s in small)


def by_name(scores):
    return {(s.metric.rpartition(".")[2], s.group): s for s in scores}


def test_what_is_left_out_must_not_be_counted_from_what_is_shown(make_table):
    """Of 100 subjects 93 are a: its share alone would tell that 7 are b."""
    table = make_table(sex=["a"] * 93 + ["b"] * 7, roles=ROLES)
    train = make_table(sex=["a"] * 80 + ["b"] * 20, roles=ROLES)
    found = by_name(subgroups(Trial(train, table, table), seed=0))
    assert math.isnan(found["disparity", "sex=a"].value)
    assert "kept back" in found["disparity", "sex=a"].note
    assert math.isnan(found["disparity", "sex=b"].value)
    assert not [what for what, group in found if group == "all"]
    # three levels, one small: the smaller of the other two goes with it, the largest is shown
    three = make_table(sex=["a"] * 63 + ["b"] * 30 + ["c"] * 7, roles=ROLES)
    found = by_name(subgroups(Trial(three, three, three), seed=0))
    assert found["disparity", "sex=a"].value == 0
    assert math.isnan(found["disparity", "sex=b"].value)


def test_intersections_by_hand(make_table):
    roles = {"sex": ("sensitive",), "arm": ("quasi_identifier",)}

    def crossed(*counts):
        cells = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
        rows = [cell for cell, n in zip(cells, counts, strict=True) for _ in range(n)]
        sex, arm = zip(*rows, strict=True)
        return make_table(sex=list(sex), arm=list(arm), roles=roles)

    real, fake = crossed(50, 50, 50, 50), crossed(100, 0, 0, 100)
    found = by_name(subgroups(Trial(real, real, fake), seed=0))
    # either column alone is as it was; of 200 rows 100 instead of 50 are (a, a)
    assert found["disparity", "sex=a"].value == found["disparity", "arm=a"].value == 0
    log_odds = math.log(100.5 / 100.5) - math.log(50.5 / 150.5)
    both = found["crossed", "sex=a & arm=a"]
    assert both.value == pytest.approx(log_odds) and both.interval[0] > 0.5
    assert both.note == "beyond ±ln 0.8"
    none = found["crossed", "sex=a & arm=b"]
    assert none.value == pytest.approx(math.log(0.5 / 200.5) - math.log(50.5 / 150.5))
    # four of eight groups are within either band
    assert found["within_a_tenth", "all"].value == found["within_a_fifth", "all"].value == 0.5


def test_small_intersections(make_table):
    roles = {"sex": ("sensitive",), "arm": ("quasi_identifier",)}

    def named(*counts):
        cells = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
        rows = [cell for cell, n in zip(cells, counts, strict=True) for _ in range(n)]
        sex, arm = zip(*rows, strict=True)
        table = make_table(sex=list(sex), arm=list(arm), roles=roles)
        found = by_name(subgroups(Trial(table, table, table), seed=0))
        return {group: score for (_, group), score in found.items() if "&" in group}

    found = named(92, 30, 60, 15)  # 15 subjects: not assessable
    assert len(found) == 4 and "fewer than 20" in found["sex=b & arm=b"].note
    assert math.isnan(found["sex=b & arm=b"].value) and found["sex=a & arm=b"].value == 0
    # 8 subjects: not named, nor is what could be taken from a column's group to leave them
    assert named(92, 8, 60, 15).keys() == {"sex=b & arm=a"}


def test_bands_by_hand(make_table):
    # odds of 1 against 102/98, 108/92 and 115/85: logs .04, .16 and .30; the bands .105 and .223
    real = make_table(sex=["a"] * 100 + ["b"] * 100, roles=ROLES)
    for n, note in ((102, "within ±ln 0.9"), (108, "between ±ln 0.9 and ±ln 0.8"), (115, "beyond")):
        fake = make_table(sex=["a"] * n + ["b"] * (200 - n), roles=ROLES)
        score = by_name(subgroups(Trial(real, real, fake), seed=0))["disparity", "sex=a"]
        assert score.note.startswith(note), (n, score.value)


def test_numbers_are_cut_into_training_thirds(make_table):
    rng = np.random.default_rng(0)
    parts = [make_table(age=rng.normal(size=300), roles={"age": ("quasi_identifier",)})] * 3
    scores = subgroups(Trial(*parts), seed=0)
    assert {s.group for s in scores} == {
        "all",
        "age=lowest third",
        "age=middle third",
        "age=highest third",
    }
    found = by_name(scores)
    assert all(abs(s.value) < 0.01 for (what, _), s in found.items() if what == "disparity")
    assert found["within_a_tenth", "all"].value == 1


def test_no_role_no_score(make_table):
    table = make_table(x=[1, 2, 3])
    assert subgroups(Trial(table, table, table), seed=0) == ()
