import warnings

import numpy as np
import pytest

from manikin.data.randomness import generator
from manikin.metrics.cox import Covariates, concordance, fit_cox
from manikin.metrics.intervals import blocks
from manikin.metrics.score import Trial
from manikin.metrics.utility.survival import horizon, kaplan_meier, survival

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lifelines = pytest.importorskip("lifelines")


def test_kaplan_meier_by_hand():
    # events at 1 and 3, one censored at 2: S = 3/4 after 1, 3/4 × 1/2 after 3
    time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])
    curve = kaplan_meier(time, event, np.array([0.5, 1.0, 2.5, 3.0, 9.0]))
    assert curve == pytest.approx([1, 0.75, 0.75, 0.375, 0.375])


def test_kaplan_meier_and_concordance_agree_with_lifelines():
    rng = np.random.default_rng(0)
    time, event = np.round(rng.exponential(10, 400), 0), rng.random(400) < 0.6
    at = np.unique(time)
    theirs = lifelines.KaplanMeierFitter().fit(time, event).survival_function_at_times(at)
    assert kaplan_meier(time, event, at) == pytest.approx(theirs.to_numpy())
    risk = np.round(rng.normal(size=400), 1)
    dealt = blocks(np.arange(400), generator(0, "test"))
    won, comparable = concordance(time, event, risk, dealt)
    from lifelines.utils import concordance_index

    expected = concordance_index(time, -risk, event)
    assert won.sum() / comparable.sum() == pytest.approx(expected, abs=2e-3)


def test_the_cox_model_agrees_with_lifelines():
    import pandas as pd

    rng = np.random.default_rng(1)
    x = rng.normal(size=(1500, 2))
    time = rng.exponential(np.exp(-x @ [0.8, -0.5]))
    event = rng.random(1500) < 0.7
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": time, "e": event.astype(int)})
    theirs = lifelines.CoxPHFitter().fit(frame, "t", "e").params_.to_numpy()
    assert fit_cox(x, time, event) == pytest.approx(theirs, abs=0.03)
    # separation: a lone ridge keeps the coefficients finite
    assert np.isfinite(fit_cox(np.sign(x), np.exp(-5 * np.sign(x[:, 0])), event)).all()


def cohort(make_table, rng, n=600, slower=1.0):
    x = rng.normal(size=n)
    time, end = slower * rng.exponential(np.exp(-x)), rng.uniform(0.5, 3, n)
    return make_table(
        x=x,
        time=np.minimum(time, end),
        dead=(time <= end).astype(float),
        roles={"time": ("time",), "dead": ("event",)},
    )


def by_name(scores):
    return {score.metric.rpartition(".")[2]: score for score in scores}


def test_the_gap_of_two_curves_by_hand(make_table):
    roles = {"time": ("time",), "dead": ("event",)}
    real = make_table(time=[4.0] * 20, dead=[1.0] * 20, roles=roles)
    fake = make_table(time=[2.0] * 20, dead=[1.0] * 20, roles=roles)
    # all real patients die at 4, all synthetic ones at 2: the curves differ by 1 for half of it
    scores = by_name(survival(Trial(real, real, fake), seed=0))
    assert scores["km_gap"].value == pytest.approx(0.5)
    assert scores["optimism"].value == pytest.approx(-0.5)
    assert scores["censoring_gap"].value == 0
    assert horizon(np.arange(100.0)) == 89.0


def test_same_cohort_and_longer_lived_cohort(make_table):
    rng = np.random.default_rng(2)
    train, holdout, same = (cohort(make_table, rng) for _ in range(3))
    scores = by_name(survival(Trial(train, holdout, same), seed=0))
    assert scores["km_gap"].value < 0.05 and abs(scores["c_gap"].value) < 0.02
    assert scores["c_trtr"].value > 0.68
    longer = by_name(survival(Trial(train, holdout, cohort(make_table, rng, slower=3)), seed=0))
    assert longer["optimism"].interval[0] > 0.1
    assert longer["censoring_gap"].interval[0] > 0.1


def test_roles_are_needed(make_table):
    table = make_table(x=[1, 2, 3])
    assert survival(Trial(table, table, table), seed=0) == ()


def test_covariates_of_unseen_values_are_finite(make_table):
    train = make_table(x=[1.0, 2.0, 3.0], c=["a", "b", "a"], e=[None, None, None])
    other = make_table(x=[1e300, -1e300, None], c=["f", None, "a"], e=[1.0, None, 2.0])
    matrix = Covariates.fit(train, frozenset()).matrix(other)
    assert np.isfinite(matrix).all()
