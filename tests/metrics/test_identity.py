import math

import numpy as np
import pytest

from manikin.metrics.controls import copy_share
from manikin.metrics.privacy.identity import _Attack, class_sizes, identity
from manikin.metrics.score import Trial
from manikin.metrics.spaces import row_keys

ROLES = {"x": ("quasi_identifier",), "s": ("sensitive",)}


def rng(seed=0):
    return np.random.default_rng(seed)


def patients(make_table, draw, n, **more):
    return make_table(
        x=draw.integers(0, 30, n),
        y=draw.integers(0, 30, n),
        s=[["a", "b", "c", "d", "e"][i] for i in draw.integers(0, 5, n)],
        roles={name: ("quasi_identifier",) for name in "xy"} | {"s": ("sensitive",)},
        **more,
    )


def test_a_class_is_the_subjects_of_one_combination(make_table):
    """Numbers that are near are still two classes: no clustering stands for the definition."""
    table = make_table(x=[1.0, 1.0, 1.001, 2.0, 2.0, 2.0], subjects=[1, 2, 3, 4, 4, 5])
    sizes = class_sizes(row_keys(table, ("x",)), table.subjects)
    assert sizes.tolist() == [2, 2, 1, 2, 2, 2]  # subject 4 counts once


def test_the_risk_by_hand(make_table):
    train = make_table(
        x=["a", "a", "b", "c", "c", "c"], s=["d", "e", "f", "d", "d", "d"], roles=ROLES
    )
    fake = make_table(x=["a", "b", "c", "d"], s=["e", "f", "d", "f"], roles=ROLES)
    risk, size = _Attack(fake, train, ("x",), ("s",)).risks(train, rng())
    # the first is told the wrong value; the second one of two; the third for sure; the others are
    # told what four of six people hold, which is nothing new
    assert risk.tolist() == [0, 0.5, 1, 0, 0, 0]
    assert size.tolist() == [2, 2, 1, 3, 3, 3]


def test_nothing_is_learned_from_no_match_or_no_value(make_table):
    train = make_table(x=["a", "b"], s=[None, 2.0], roles=ROLES)
    fake = make_table(x=["a", "c"], s=[None, 2.0], roles=ROLES)
    risk, _ = _Attack(fake, train, ("x",), ("s",)).risks(train, rng())
    assert risk.tolist() == [0, 0]


def test_a_twentieth_of_the_sensitive_columns_must_be_learned(make_table):
    names = [f"s{i}" for i in range(40)]  # 5 % of 40: two columns
    spread = list(range(10))
    train = make_table(x=spread, **{name: spread for name in names})
    one = make_table(x=spread, **{n: spread if n == "s0" else [99.0] * 10 for n in names})
    two = make_table(x=spread, **{n: spread if n in ("s0", "s7") else [99.0] * 10 for n in names})
    found = [_Attack(f, train, ("x",), tuple(names)).risks(train, rng())[0] for f in (one, two)]
    assert [risk.mean() for risk in found] == [0, 1]


def test_without_quasi_identifiers_nothing_is_passed_over_in_silence(make_table):
    table = make_table(x=list(range(30)), s=["a"] * 30)
    for score in identity(Trial(table, table, table), seed=0):
        assert math.isnan(score.value)
        assert score.note == "not assessable: declare quasi-identifiers"
    every = make_table(x=list(range(30)), roles={"x": ("quasi_identifier",)})
    assert "nothing is left" in identity(Trial(every, every, every), seed=0)[0].note


def test_mean_and_max_by_hand(make_table):
    """Thirty people alone in their class and thirty in three classes of ten, all copied."""
    cells = {
        "x": [*range(30), *[30] * 10, *[31] * 10, *[32] * 10],
        "s": [*range(30), *range(100, 130)],
    }
    train = make_table(**cells, roles=ROLES)
    other = make_table(x=[99.0] * 60, s=[0.0] * 60, roles=ROLES)
    scores = identity(Trial(train, other, train), seed=0)
    found = {(s.metric.rpartition(".")[2], s.group): s for s in scores}
    assert found["mean", "class=1"].value == found["max", "all"].value == 1
    assert found["max", "all"].note == "subjects of class=1"
    # one of ten rows is drawn for each person; 70 of 100 pairs are within 5 % of the interquartile
    # range, 99.5, of one another; and then the person is one of ten
    assert found["mean", "class=2-10"].value == pytest.approx(0.07, abs=0.02)
    assert ("mean", "class=11+") not in found
    assert found["excess", "all"].value == pytest.approx(found["mean", "all"].value, abs=0.02)
    for score in scores:
        assert score.interval[0] <= score.value <= score.interval[1]


def test_copies_raise_the_risk_and_more_of_them_more(make_table):
    draw = rng(1)
    trial = Trial(*(patients(make_table, draw, 1000) for _ in range(3)))
    found = [
        {s.metric.rpartition(".")[2]: s for s in scores if s.group == "all"}
        for scores in (identity(copy_share(trial, p, seed=1), seed=0) for p in (0, 0.3, 0.6, 1))
    ]
    for what in ("mean", "max", "excess"):
        values = [scores[what].value for scores in found]
        assert values == sorted(values), what
    assert found[0]["excess"].interval[0] <= 0 < found[3]["excess"].interval[0]
    assert found[3]["max"].interval[0] > 0.09


def test_fresh_real_rows_raise_no_more_alarms_than_stated(make_table):
    alarms = 0
    for seed in range(20):
        draw = rng(30 + seed)
        trial = Trial(*(patients(make_table, draw, n) for n in (400, 200, 400)))
        (excess,) = (s for s in identity(trial, seed=seed) if s.metric.endswith("excess"))
        alarms += excess.interval[0] > 0
    assert alarms <= 2
