"""Calibration, importance, augmentation and ranking: what models of synthetic rows do."""

import math

import numpy as np
import pytest

from manikin.data.randomness import generator
from manikin.metrics.intervals import blocks
from manikin.metrics.score import Trial
from manikin.metrics.target import Question
from manikin.metrics.utility.augmentation import augmentation
from manikin.metrics.utility.calibration import calibration, expected_error, of_chances
from manikin.metrics.utility.importance import _agreement, importance
from manikin.metrics.utility.ranking import kendall, ranking

METRICS = (calibration, importance, augmentation, ranking)


def cohort(make_table, rng, n=1500, number=False, use="x", noise=1.0, **changed):
    columns = {name: rng.normal(size=n) for name in ("x", "z", "w")}
    latent = 1.5 * columns[use] + noise * rng.logistic(size=n)
    target = latent if number else ["b" if v > 0 else "a" for v in latent]
    return make_table(**columns, **{"y": target, **changed}, roles={"y": ("target",)})


def by_name(scores):
    return {(s.metric.rpartition(".")[2], s.group): s for s in scores}


def test_calibration_error_by_hand(make_table):
    # ten groups of ten; each is given chance 1/2 and has 3 yes of 10, but the last has 10 of 10
    truth = np.tile([1.0] * 3 + [0.0] * 7, 10)
    truth[90:] = 1
    table = make_table(x=np.zeros(100))
    dealt = blocks(table.subjects, generator(0, "test"))
    chance = np.full(100, 0.5)
    assert expected_error(truth, chance, dealt)[0] == pytest.approx((9 * 0.2 + 0.5) / 10)
    # Brier: every square is 1/4
    assert of_chances(truth, chance, table, dealt)["brier"][0] == pytest.approx(0.25)


def test_slope_and_intercept_find_what_was_done_to_the_chances(make_table):
    rng = np.random.default_rng(0)
    eta = rng.normal(size=20_000)
    truth = (rng.random(20_000) < 1 / (1 + np.exp(-eta))).astype(float)
    table = make_table(x=eta)
    dealt = blocks(table.subjects, generator(0, "test"))
    # log odds of 2 eta + 1 were given: truth = 1/2 of them - 1/2
    found = of_chances(truth, 1 / (1 + np.exp(-(2 * eta + 1))), table, dealt)
    assert found["slope"][0] == pytest.approx(0.5, abs=0.03)
    assert found["intercept"][0] == pytest.approx(-0.5, abs=0.05)
    assert np.std(found["slope"][1]) == pytest.approx(0.0095, rel=0.3)


def test_wrong_prevalence_spoils_calibration_and_not_ranking(make_table):
    rng = np.random.default_rng(1)
    train, holdout, fresh = (cohort(make_table, rng) for _ in range(3))
    rare = fresh.rows(np.flatnonzero((fresh.columns["y"] == 0) | (np.arange(1500) % 5 == 0)))
    good = by_name(calibration(Trial(train, holdout, fresh), seed=0))
    bad = by_name(calibration(Trial(train, holdout, rare), seed=0))
    assert good["brier_gap", "all"].interval[1] > -0.02
    assert bad["ece_tstr", "all"].value > good["ece_tstr", "all"].value + 0.1
    assert bad["ece_gap", "all"].interval[1] < 0  # TRTR - TSTR: lower is better
    assert bad["intercept_tstr", "all"].interval[0] > 0.5  # chances were too low


def test_importance_sees_another_column_being_used(make_table):
    rng = np.random.default_rng(2)
    train, holdout, fresh = (cohort(make_table, rng) for _ in range(3))
    same = by_name(importance(Trial(train, holdout, fresh), seed=0))
    other = by_name(importance(Trial(train, holdout, cohort(make_table, rng, use="z")), seed=0))
    assert same["agreement", "all"].value > 0.85
    assert other["agreement", "all"].value < 0.3
    # shares (3/4, 1/4) and (1/4, 3/4), a negative one being none: they share one half
    one, two = np.array([[3.0, 1.0, -2.0]]), np.array([[1.0, 3.0, 0.0]])
    assert _agreement(one, two) == pytest.approx([0.5])


def test_augmentation_helps_few_and_noise_harms(make_table):
    rng = np.random.default_rng(3)
    train, holdout, fresh = (cohort(make_table, rng, n=2400) for _ in range(3))
    gain = by_name(augmentation(Trial(train, holdout, fresh), seed=0))
    assert gain["gain", "real rows=1 %"].interval[0] > 0.01
    assert gain["gain", "real rows=1 %"].value > gain["gain", "real rows=100 %"].value
    assert abs(gain["gain", "real rows=100 %"].value) < 0.03
    noise = cohort(make_table, rng, n=2400, use="w")
    harm = by_name(augmentation(Trial(train, holdout, noise), seed=0))
    assert harm["gain", "real rows=100 %"].interval[1] < 0
    few = cohort(make_table, rng, n=300)
    none = by_name(augmentation(Trial(few, holdout, fresh), seed=0))
    assert "fewer than 20" in none["gain", "real rows=5 %"].note


def test_what_synthetic_rows_bring_by_hand(make_table):
    """Real rows whose answer is a coin: area 1/2 alone. Synthetic rows that know it: 1."""
    x, coin = np.tile([0.0, 1.0], 400), np.tile([0.0, 0.0, 1.0, 1.0], 200)

    def table(answer, n=800):
        yes = ["ab"[int(v)] for v in answer[:n]]
        return make_table(x=x[:n], y=yes, roles={"y": ("target",)})

    # as many yes as no at x = 0 and at x = 1: all tie. With them three of four agree with x
    trial = Trial(table(coin), table(x), table(x))
    gain = by_name(augmentation(trial, seed=0))["gain", "real rows=100 %"]
    assert gain.value == pytest.approx(0.5)
    # the other way round synthetic coins take nothing away, and add nothing
    trial = Trial(table(x), table(x), table(coin))
    assert by_name(augmentation(trial, seed=0))["gain", "real rows=100 %"].value == 0


def test_kendall_by_hand_and_scipy():
    from scipy.stats import kendalltau

    # orders 1 2 3 4 and 1 3 2 4: five pairs agree, one does not: 4/6
    assert kendall(np.array([[1.0, 2, 3, 4]]), np.array([[1.0, 3, 2, 4]])) == pytest.approx([2 / 3])
    rng = np.random.default_rng(4)
    one, two = rng.integers(0, 4, (20, 6)) * 1.0, rng.integers(0, 4, (20, 6)) * 1.0
    theirs = [kendalltau(a, b).statistic for a, b in zip(one, two, strict=True)]
    assert kendall(one, two) == pytest.approx(theirs, nan_ok=True)


def test_ranking_of_fresh_and_of_misleading_rows(make_table):
    rng = np.random.default_rng(5)

    def bent(n=1500, straight=False):  # only trees and neighbours see it, unless it is straight
        x = rng.normal(size=n)
        score = x if straight else np.abs(x) - 0.67
        yes = score + 0.3 * rng.normal(size=n) > 0
        return make_table(
            x=x, z=rng.normal(size=n), y=["b" if v else "a" for v in yes], roles={"y": ("target",)}
        )

    train, holdout = bent(), bent()
    fresh = by_name(ranking(Trial(train, holdout, bent()), seed=0))
    assert fresh["tau", "all"].value > 0.5 and fresh["regret", "all"].value < 0.02
    straight = by_name(ranking(Trial(train, holdout, bent(straight=True)), seed=0))
    assert straight["tau", "all"].value < fresh["tau", "all"].value


@pytest.mark.parametrize("metric", METRICS)
def test_numbers_single_classes_and_no_target(metric, make_table):
    rng = np.random.default_rng(6)
    parts = [cohort(make_table, rng, n=400, number=True) for _ in range(3)]
    assert any(not math.isnan(s.value) for s in metric(Trial(*parts), seed=0))
    train, holdout = (cohort(make_table, rng, n=400) for _ in range(2))
    single = cohort(make_table, rng, n=400, y=["a"] * 400)
    for trial in (Trial(train, holdout, single), Trial(train, single, train)):
        for score in metric(trial, seed=0):
            assert math.isfinite(score.value) or score.note
    table = make_table(x=[1, 2, 3])
    assert metric(Trial(table, table, table), seed=0) == ()


def test_the_question_is_decided_on_training_rows(make_table):
    roles = {"y": ("target",)}
    two = make_table(y=["a", "b", "b"], roles=roles)
    many = make_table(y=["c", "b", "b", "a"], roles=roles)
    assert Question.of(two) == Question("y", 1.0)
    assert Question.of(many) == Question("y", 1.0)  # the commonest
    assert list(Question.of(two).answers(many)) == [0, 1, 1, 0]
    assert Question.of(make_table(y=[1.0, 2.0, 3.0], roles=roles)).is_number
    assert Question.of(make_table(y=[0.0, 1.0, 1.0], roles=roles)) == Question("y", 1.0)
