"""Parity of downstream models, and fidelity, utility and calibration by group."""

import math

import numpy as np
import pytest

from manikin.data.randomness import generator
from manikin.metrics.fairness.groupwise import groupwise
from manikin.metrics.fairness.parity import _of_answers, parity, spread, yes_as_often
from manikin.metrics.intervals import blocks
from manikin.metrics.score import Trial

ROLES = {"sex": ("sensitive",), "y": ("target",)}


def cohort(make_table, rng, n=2000, shift=0.0, reversed_in_b=False, number=False, third=0):
    """Women (a) and men (b) whose answer follows x; in b by `shift` more, or the other way."""
    sex = np.where(rng.random(n) < 0.5, "a", "b")
    if third:
        sex[:third] = "c"
    x = rng.normal(size=n)
    in_b = sex == "b"
    latent = np.where(in_b & reversed_in_b, -x, x) + shift * in_b + 0.4 * rng.normal(size=n)
    y = latent if number else ["b" if v > 0 else "a" for v in latent]
    return make_table(sex=list(sex), x=x, y=y, roles=ROLES)


def by_name(scores):
    return {(s.metric.rpartition(".")[2], s.group): s for s in scores}


def test_differences_of_rates_by_hand():
    # two of four are yes in either group; yes is said of three in a, of one in b
    truth = np.array([1, 1, 0, 0, 1, 1, 0, 0], bool)
    said = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    members = [np.arange(8) < 4, np.arange(8) >= 4]
    dealt = blocks(np.arange(8), generator(0, "test"))
    rates = _of_answers(said, truth)
    assert spread(rates["parity"], members, dealt)[0] == 0.5  # 3/4 - 1/4
    # true positives 2/2 and 1/2, false positives 1/2 and 0/2: both differ by 1/2
    assert spread(rates["odds"], members, dealt)[0] == 0.5
    assert spread(rates["error"], members, dealt)[0] == 0.0  # one wrong of four in either
    # b says yes to both of its true ones: true positives are even, false ones differ by 1/2
    better = _of_answers(said | np.array([0, 0, 0, 0, 0, 1, 0, 0], bool), truth)
    assert spread(better["odds"][:1], members, dealt)[0] == 0
    assert spread(better["odds"], members, dealt)[0] == 0.5
    assert spread(better["error"], members, dealt)[0] == 0.25


def test_yes_is_said_as_often_as_asked():
    chance = np.arange(100) / 100
    assert yes_as_often(chance, 0.3).sum() == 30 and yes_as_often(chance, 0.3)[-30:].all()
    assert not yes_as_often(np.full(5, 0.2), 0.5).any()  # all alike: by the chance itself
    assert yes_as_often(np.full(5, 0.9), 0.5).all() and yes_as_often(np.empty(0), 0.5).size == 0


def test_a_synthetic_table_that_is_unfair_to_one_group_makes_an_unfair_model(make_table):
    rng = np.random.default_rng(0)
    train, holdout, fresh = (cohort(make_table, rng) for _ in range(3))
    fair = by_name(parity(Trial(train, holdout, fresh), seed=0))
    for what in ("parity", "odds", "error"):
        low, high = fair[f"{what}_gap", "column=sex"].interval
        assert low <= 0.03 and high >= -0.03, what
        assert fair[f"{what}_trtr", "column=sex"].value < 0.15
    shifted = by_name(parity(Trial(train, holdout, cohort(make_table, rng, shift=2.0)), seed=0))
    assert shifted["parity_gap", "column=sex"].interval[0] > 0.3
    assert shifted["odds_gap", "column=sex"].interval[0] > 0.2
    # parity may hold where the model is all wrong for one group: odds and error tell
    wrong = by_name(
        parity(Trial(train, holdout, cohort(make_table, rng, reversed_in_b=True)), seed=0)
    )
    assert wrong["parity_gap", "column=sex"].value < 0.1
    assert wrong["odds_gap", "column=sex"].interval[0] > 0.5
    assert wrong["error_gap", "column=sex"].interval[0] > 0.5


def test_parity_is_asked_of_held_out_rows_and_not_of_synthetic_ones(make_table):
    """Synthetic rows without any b: parity of the data is perfect, the model's is told of b."""
    rng = np.random.default_rng(1)
    train, holdout = (cohort(make_table, rng, shift=2.0) for _ in range(2))
    without = cohort(make_table, rng)
    without = without.rows(np.flatnonzero(without.columns["sex"] == 0))
    found = by_name(parity(Trial(train, holdout, without), seed=0))
    assert found["parity_trtr", "column=sex"].interval[0] > 0.3
    assert found["parity_gap", "column=sex"].interval[1] < -0.2  # the real difference is unlearnt


def test_parity_of_numbers(make_table):
    rng = np.random.default_rng(2)
    train, holdout = (cohort(make_table, rng, number=True) for _ in range(2))
    shifted = cohort(make_table, rng, number=True, shift=3.0)
    found = by_name(parity(Trial(train, holdout, shifted), seed=0))
    assert {what for what, _ in found} == {
        f"{what}_{side}" for what in ("parity", "error") for side in ("tstr", "trtr", "gap")
    }
    assert found["parity_gap", "column=sex"].interval[0] > 1
    assert found["error_gap", "column=sex"].interval[0] > 0.5


@pytest.mark.parametrize("metric", [parity, groupwise])
def test_no_roles_no_score(metric, make_table):
    table = make_table(x=[1, 2, 3])
    assert metric(Trial(table, table, table), seed=0) == ()


def test_groups_of_too_few_are_not_compared(make_table):
    rng = np.random.default_rng(3)
    parts = [cohort(make_table, rng, n=300, third=15) for _ in range(3)]
    # c has 15 subjects: a and b are compared without it
    assert by_name(parity(Trial(*parts), seed=0))["odds_gap", "column=sex"].value < 0.5
    few = [cohort(make_table, rng, n=45) for _ in range(3)]
    for score in parity(Trial(*few), seed=0):
        assert math.isnan(score.value) and "fewer than two groups have 20 subjects" in score.note
    found = by_name(groupwise(Trial(*parts), seed=0))
    for what in ("trends", "utility_gap", "calibration"):
        small = found[what, "sex=c"]
        assert math.isnan(small.value) and "not assessable: fewer than 20" in small.note
        assert math.isfinite(found[what, "sex=a"].value)
    tiny = parts[1].rows(np.flatnonzero((parts[1].columns["sex"] != 2) | (np.arange(300) < 6)))
    for score in groupwise(Trial(parts[0], tiny, parts[2]), seed=0):
        if score.group == "sex=c":  # neither 6 nor that it is under 20 but at least 11
            assert math.isnan(score.value) and "fewer than 11" in score.note


def test_a_group_drawn_badly_is_told_from_one_drawn_well(make_table):
    rng = np.random.default_rng(4)
    train, holdout = (cohort(make_table, rng) for _ in range(2))
    fake = cohort(make_table, rng, reversed_in_b=True)
    found = by_name(groupwise(Trial(train, holdout, fake), seed=0))
    assert found["trends", "sex=a"].value > found["trends", "sex=b"].value + 0.2
    assert found["utility_gap", "sex=b"].interval[0] > 0.5
    assert abs(found["utility_gap", "sex=a"].value) < 0.05
    risky = by_name(groupwise(Trial(train, holdout, cohort(make_table, rng, shift=2)), seed=0))
    assert risky["calibration", "sex=b"].interval[0] > 0.2  # overstated in b, right in a
    assert abs(risky["calibration", "sex=a"].value) < 0.06


def test_survival_by_group(make_table):
    rng = np.random.default_rng(5)

    def followed(longer_in_b):
        sex = np.where(rng.random(800) < 0.5, "a", "b")
        time = rng.exponential(1, 800) * np.where(sex == "b", longer_in_b, 1.0)
        roles = {"sex": ("sensitive",), "time": ("time",), "dead": ("event",)}
        return make_table(
            sex=list(sex), time=np.minimum(time, 2), dead=(time < 2).astype(float), roles=roles
        )

    train, holdout = followed(1.0), followed(1.0)
    found = by_name(groupwise(Trial(train, holdout, followed(4.0)), seed=0))
    assert found["optimism", "sex=b"].interval[0] > 0.1
    assert abs(found["optimism", "sex=a"].value) < 0.08
