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
    groups = {s.group for s in scores}
    assert groups == {"sex=a", "sex=b"}
    small = [s for s in scores if s.group == "sex=b"]
    assert all(math.isnan(s.value) and "not assessable" in s.note for s in small)


def test_numbers_are_cut_into_training_thirds(make_table):
    rng = np.random.default_rng(0)
    parts = [make_table(age=rng.normal(size=300), roles={"age": ("quasi_identifier",)})] * 3
    scores = subgroups(Trial(*parts), seed=0)
    assert {s.group for s in scores} == {
        "age=lowest third",
        "age=middle third",
        "age=highest third",
    }
    assert all(abs(s.value) < 0.01 for s in scores if s.metric.endswith("disparity"))


def test_no_role_no_score(make_table):
    table = make_table(x=[1, 2, 3])
    assert subgroups(Trial(table, table, table), seed=0) == ()
