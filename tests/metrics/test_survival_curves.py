"""Follow-up, mean survival and predicted curves, by hand and against lifelines."""

import math
import warnings

import numpy as np
import pytest

from manikin.metrics.cox import fit_cox
from manikin.metrics.score import Trial
from manikin.metrics.utility.survival import FollowUp, survival
from manikin.metrics.utility.survival_curves import (
    baseline,
    brier,
    mean_survival,
    reach,
    survival_curves,
)

ROLES = {"time": ("time",), "dead": ("event",)}
TIME, EVENT = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])


def by_name(scores):
    return {score.metric.rpartition(".")[2]: score for score in scores}


def cohort(make_table, rng, n=600, slower=1.0, slope=1.0, until=3.0):
    x = rng.normal(size=n)
    time, end = slower * rng.exponential(np.exp(-slope * x)), rng.uniform(0.5, until, n)
    dead = (time <= end).astype(float)
    return make_table(x=x, time=np.minimum(time, end), dead=dead, roles=ROLES)


def test_mean_survival_by_hand():
    # 1 until 1, 3/4 until 3, 3/8 until 4: 1 + 3/2 + 3/8
    assert mean_survival(TIME, EVENT, 4.0) == pytest.approx(2.875)
    assert mean_survival(TIME, EVENT, 2.0) == pytest.approx(1.75)


def test_squared_errors_weighted_for_censoring_by_hand():
    # followed: 1 until 2, then 2/3. At 2.5 all are given 1/2: dead 1/4 / 1; censored before
    # nothing; alive 1/4 / (2/3) = 3/8. At 3 the row that dies there counts 1 / (followed just
    # before) = 3/2 too; at .5 nobody has left and every square is 1/4
    found = brier(np.full((4, 3), 0.5), TIME, EVENT, np.array([0.5, 2.5, 3.0]))
    assert found[:, 0] == pytest.approx([0.25] * 4)
    assert found[:, 1] == pytest.approx([0.25, 0, 0.375, 0.375])
    assert found[:, 2] == pytest.approx([0.25, 0, 0.375, 0.375])
    # a death and a loss at the same time: the death comes first, so that its weight is 1
    tied = brier(np.full((2, 1), 0.5), np.array([1.0, 1.0]), np.array([True, False]), np.ones(1))
    assert tied[:, 0] == pytest.approx([0.25, 0])


def test_weights_make_up_for_what_censoring_hides():
    """The mean weighted error of censored rows is that of the same rows followed to the end."""
    rng = np.random.default_rng(0)
    n = 40_000
    died, lost = rng.exponential(1, n), rng.exponential(1.5, n)
    at = np.array([0.3, 0.8, 1.2])
    curves = np.exp(-0.7 * at)[None, :].repeat(n, axis=0)  # a model that is somewhat wrong
    whole = brier(curves, died, np.ones(n, bool), at).mean(axis=0)
    assert whole == pytest.approx((((died[:, None] > at) - curves) ** 2).mean(axis=0))
    censored = brier(curves, np.minimum(died, lost), died <= lost, at).mean(axis=0)
    assert censored == pytest.approx(whole, abs=0.006)


def test_the_baseline_of_equal_risks_is_nelson_and_aalens_by_hand():
    # one of four dies at 1, one of two at 3
    found = baseline(np.zeros(4), TIME, EVENT, np.array([0.5, 1.0, 2.9, 3.0, 9.0]))
    assert found == pytest.approx([0, 0.25, 0.25, 0.75, 0.75])


def test_predicted_curves_and_mean_survival_agree_with_lifelines():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lifelines = pytest.importorskip("lifelines")
        from lifelines.utils import restricted_mean_survival_time
    import pandas as pd

    rng = np.random.default_rng(1)
    x = rng.normal(size=(800, 1))
    time, event = rng.exponential(np.exp(-x[:, 0])), rng.random(800) < 0.7
    frame = pd.DataFrame({"x": x[:, 0], "t": time, "e": event.astype(int)})
    theirs = lifelines.CoxPHFitter().fit(frame, "t", "e")
    at = np.array([0.1, 0.5, 1.0])
    expected = theirs.predict_survival_function(pd.DataFrame({"x": [0.0, 1.0]}), at).to_numpy().T
    beta = fit_cox(x, time, event)
    hazard = baseline(x @ beta, time, event, at)
    ours = np.exp(-np.exp(np.array([[0.0], [1.0]]) @ beta)[:, None] * hazard)
    assert ours == pytest.approx(expected, abs=0.01)
    curve = lifelines.KaplanMeierFitter().fit(time, event)
    assert mean_survival(time, event, 1.0) == pytest.approx(restricted_mean_survival_time(curve, 1))


def test_follow_up_that_ends_half_way_by_hand(make_table):
    time = np.arange(1.0, 101.0)
    assert reach(time, 0.2) == 81.0  # from there on 20 of 100 are followed
    weights = np.where(time > 90, 10.0, 0.0)  # only those beyond 90 count
    assert reach(time, 0.2, weights) == 99.0
    real = make_table(time=time, dead=np.ones(100), roles=ROLES)
    fake = make_table(time=time / 2, dead=np.ones(100), roles=ROLES)
    found = by_name(survival_curves(Trial(real, real, fake), seed=0))
    assert found["short_sightedness"].value == pytest.approx(0.5)
    assert found["short_sightedness"].interval[0] > 0.3
    # nobody is named: eleven are followed until 90. Lives end there, or at half of them:
    # real 90 × 50.5 / 100 …: Σ min(t, 90) / 100 = (4095 + 900) / 100; synthetic 2525 / 100
    assert found["rmst_difference"].value == pytest.approx(25.25 - 49.95)
    same = by_name(survival_curves(Trial(real, real, real), seed=0))
    assert same["short_sightedness"].value == same["rmst_difference"].value == 0


def test_visits_of_one_subject_do_not_stretch_the_follow_up(make_table):
    time = np.concatenate([np.arange(1.0, 41.0), np.full(30, 500.0)])
    who = [*range(40), *[40] * 30]
    table = make_table(time=time, dead=np.ones(70), subjects=who, roles=ROLES)
    longest = FollowUp.of(table, "time", "dead").longest
    assert longest.size == 41 and longest.max() == 500
    fake = make_table(time=time[:40] / 2, dead=np.ones(40), roles=ROLES)
    # eleven subjects are followed until 31: over 0 to 31, not to 500
    gap = by_name(survival(Trial(table, table, fake), seed=0))["km_gap"].value
    assert gap > 0.3


def test_brier_scores_of_fresh_rows_and_of_rows_with_reversed_risks(make_table):
    rng = np.random.default_rng(2)
    train, holdout, fresh = (cohort(make_table, rng) for _ in range(3))
    good = by_name(survival_curves(Trial(train, holdout, fresh), seed=0))
    assert abs(good["ibs_gap"].value) < 0.01 and good["ibs_trtr"].value < 0.2
    low, high = good["ibs_gap"].interval
    assert low < 0.01 and high > -0.01
    wrong = by_name(
        survival_curves(Trial(train, holdout, cohort(make_table, rng, slope=-1)), seed=0)
    )
    assert wrong["ibs_gap"].interval[1] < -0.05  # TRTR - TSTR of an error: lost
    longer = by_name(
        survival_curves(Trial(train, holdout, cohort(make_table, rng, slower=3)), seed=0)
    )
    assert longer["rmst_difference"].interval[0] > 0.1
    early = cohort(make_table, rng, until=1.0)
    ended = by_name(survival_curves(Trial(train, holdout, early), seed=0))
    assert ended["short_sightedness"].interval[0] > 0.3


def test_reasons_where_there_is_too_little(make_table):
    table = make_table(x=[1, 2, 3])
    assert survival_curves(Trial(table, table, table), seed=0) == ()
    few = make_table(time=[1.0] * 19, dead=[1.0] * 19, roles=ROLES)
    (score,) = survival_curves(Trial(few, few, few), seed=0)
    assert math.isnan(score.value) and "fewer than 20" in score.note
    alone = make_table(time=np.arange(50.0), dead=np.ones(50), roles=ROLES)
    found = by_name(survival_curves(Trial(alone, alone, alone), seed=0))
    assert "no column" in found["ibs_gap"].note and found["rmst_difference"].value == 0
