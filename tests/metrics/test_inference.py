import math

import numpy as np
import pytest

from manikin.metrics.analyses import analyses
from manikin.metrics.design import Design
from manikin.metrics.score import Trial
from manikin.metrics.validity.inference import _Compared, _scored, _Side, inference, overlaps


def test_overlap_by_hand():
    # [0, 4] and [2, 4]: they share 2, half of one and all of the other: 3/4
    one, other = 2 / 1.959963984540054, 1 / 1.959963984540054
    assert overlaps(*map(np.array, (2.0, one, 3.0, other))) == pytest.approx(0.75)
    assert overlaps(*map(np.array, (2.0, one, 2.0, one))) == pytest.approx(1)  # the same
    assert overlaps(*map(np.array, (2.0, one, 9.0, one))) == 0  # apart: not below 0
    assert overlaps(*map(np.array, (2.0, 0.0, 2.0, 0.0))) == 1  # the same constant
    assert overlaps(*map(np.array, (2.0, 0.0, 3.0, 0.0))) == 0


def test_bias_sign_and_significance_by_hand():
    # four coefficients, all with error 1 on either side; beyond 1.96 is significant
    #            real   synthetic   bias   same sign           same verdict
    # agreed        4       5         1    yes                 yes: above 0
    # weakened      4       1         3    yes                 no: above 0 and neither
    # reversed     -4       4         8    no                  no: below 0 and above 0
    # neither       1      -1         2    not asked of it     yes: neither
    real = _Side(np.array([[4.0, 4.0, -4.0, 1.0]] * 2), np.ones(4))
    synthetic = _Side(np.array([[5.0, 1.0, 4.0, -1.0]] * 2), np.ones(4))
    found = by_name(_scored([_Compared.of(real, synthetic, tests=True)], "all"))
    assert found["bias", "all"].value == 2.5  # the median of 1, 2, 3 and 8
    assert found["sign", "all"].value == pytest.approx(2 / 3)
    assert found["significance", "all"].value == 0.5
    # intervals are 3.92 long: apart by 1, 3, 8 and 2 they share 2.92, .92, nothing and 1.92
    long = 2 * 1.959963984540054
    shared = (long - 1 + long - 3 + long - 2) / long / 4
    assert found["overlap", "all"].value == pytest.approx(shared)
    # of a mean 0 is no hypothesis; what synthetic rows cannot estimate agrees in nothing
    of_means = by_name(_scored([_Compared.of(real, synthetic, tests=False)], "all"))
    assert {what for what, _ in of_means} == {"overlap", "bias"}
    absent = _Side(np.full((2, 4), np.nan), np.full(4, np.nan))
    none = by_name(_scored([_Compared.of(real, absent, tests=True)], "all"))
    assert none["overlap", "all"].value == none["sign", "all"].value == 0
    assert none["significance", "all"].value == 0 and math.isnan(none["bias", "all"].value)


def cohort(make_table, rng, n=1500, slope=1.0, **changed):
    x, noise = rng.normal(size=n), rng.normal(size=n)
    group = np.where(rng.random(n) < 0.4, "a", "b")
    yes = rng.random(n) < 1 / (1 + np.exp(-slope * x - 0.5 * (group == "a")))
    time = rng.exponential(np.exp(-0.7 * slope * x))
    cells = {
        "x": x,
        "noise": noise,
        "group": list(group),
        "ill": ["b" if y else "a" for y in yes],
        "time": np.minimum(time, 2),
        "dead": (time <= 2).astype(float),
        **changed,
    }
    return make_table(**cells, roles={"ill": ("target",), "time": ("time",), "dead": ("event",)})


def by_name(scores):
    return {(s.metric.rpartition(".")[2], s.group): s for s in scores}


def test_fresh_rows_reach_the_conclusions_and_reversed_ones_do_not(make_table):
    rng = np.random.default_rng(0)
    train, holdout, fresh = (cohort(make_table, rng) for _ in range(3))
    found = by_name(inference(Trial(train, holdout, fresh), seed=0))
    assert {g for w, g in found if w == "overlap"} == {
        "all",
        "against=training",
        "analysis=means",
        "analysis=regression",
        "analysis=cox",
    }
    # two estimates of the same size differ by √2 errors: 1 - 2/√π / 3.92 = .71 on average
    assert found["overlap", "all"].value == pytest.approx(0.71, abs=0.12)
    assert found["sign", "all"].value == 1
    assert found["significance", "all"].value >= 0.8
    assert found["bias", "all"].value < 2
    wrong = by_name(inference(Trial(train, holdout, cohort(make_table, rng, slope=-1)), seed=0))
    assert wrong["sign", "analysis=cox"].value <= 0.5
    assert wrong["overlap", "analysis=regression"].value < found["overlap", "all"].value
    assert wrong["overlap", "analysis=cox"].value < found["overlap", "analysis=cox"].value - 0.1


def test_the_same_rows_agree_in_everything(make_table):
    table = cohort(make_table, np.random.default_rng(1))
    found = by_name(inference(Trial(table, table, table), seed=0))
    assert found["overlap", "all"].value == pytest.approx(1) and found["bias", "all"].value == 0
    assert found["significance", "all"].value == 1


def test_more_rows_do_not_narrow_their_own_intervals(make_table):
    rng = np.random.default_rng(2)
    table = cohort(make_table, rng, n=800)
    twice = table.rows(np.tile(np.arange(800), 4))
    many = type(table)(table.schema, np.arange(3200), twice.columns, twice.states)
    found = by_name(inference(Trial(table, table, many), seed=0))
    assert found["overlap", "all"].value == pytest.approx(1, abs=0.02)


def test_outcomes_that_synthetic_rows_lack_agree_in_nothing(make_table):
    rng = np.random.default_rng(3)
    train, holdout = cohort(make_table, rng), cohort(make_table, rng)
    one_class = cohort(make_table, rng, ill=["a"] * 1500, dead=np.zeros(1500))
    found = by_name(inference(Trial(train, holdout, one_class), seed=0))
    for analysis in ("analysis=regression", "analysis=cox"):
        assert found["overlap", analysis].value == 0 and found["sign", analysis].value == 0
        assert math.isnan(found["bias", analysis].value) and found["bias", analysis].note
    assert found["overlap", "analysis=means"].value > 0.3  # these can still be had


def test_terms_that_say_the_same_or_speak_of_few_are_left_out(make_table):
    rng = np.random.default_rng(4)
    x = rng.normal(size=300)
    table = make_table(
        x=x,
        double=2 * x + 1,
        constant=np.ones(300),
        level=["a"] * 200 + ["b"] * 90 + ["c"] * 10,
        gaps=[None] * 50 + list(x[50:]),
        gaps_too=[None] * 50 + list(rng.normal(size=250)),
    )
    labels = Design.fit(table).labels
    assert labels == ("x", "level=b", "gaps", "gaps_too", "gaps (no value)")
    assert Design.fit(table, frozenset({"x"})).labels[0] == "double"
    assert np.isfinite(Design.fit(table).matrix(table)).all()


def test_a_number_is_regressed_on_and_roles_choose_the_analyses(make_table):
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    table = make_table(x=x, y=3 * x + rng.normal(size=400), roles={"y": ("target",)})
    said = analyses(table)
    assert [a.name for a in said] == ["means", "regression"]
    slope = said[1].fit(table)
    assert slope.value[0] == pytest.approx(3 / 10**0.5, abs=0.03)  # standardised: the correlation
    assert [a.name for a in analyses(make_table(x=x))] == ["means"]


def test_too_few_to_speak_of(make_table):
    few = make_table(x=[float(i) for i in range(10)])
    scores = inference(Trial(few, few, few), seed=0)
    assert all(math.isnan(s.value) and "fewer than 11" in s.note for s in scores)
