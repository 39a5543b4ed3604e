import warnings

import numpy as np
import pytest

from manikin.data.randomness import generator
from manikin.metrics.intervals import blocks
from manikin.metrics.regression import cox, linear, logistic, means

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lifelines = pytest.importorskip("lifelines")


def test_a_mean_by_hand():
    # 1, 2, 6: mean 3, deviations -2, -1, 3: variance of the mean 14 / 9 × 3 / 2 = 7 / 3
    fit = means(np.array([[1.0], [2.0], [6.0]]), np.arange(3))
    assert fit.value == pytest.approx([3]) and fit.error**2 == pytest.approx([7 / 3])
    # one missing: as if its row were not there, but for the count of subjects
    fit = means(np.array([[1.0], [2.0], [6.0], [np.nan]]), np.arange(4))
    assert fit.value == pytest.approx([3]) and fit.error**2 == pytest.approx([14 / 9 * 4 / 3])


def test_copies_of_a_subjects_row_add_no_certainty():
    rng = np.random.default_rng(0)
    x, subjects = rng.normal(size=(200, 2)), np.arange(200)
    y = x @ [1.0, -1.0] + rng.normal(size=200)
    yes = y > 0
    for fit in (
        lambda i: linear(x[i], y[i], subjects[i]),
        lambda i: means(x[i], subjects[i]),
        lambda i: cox(x[i], np.exp(y[i]), yes[i], subjects[i]),
    ):
        once, thrice = fit(subjects), fit(np.repeat(subjects, 3))
        assert thrice.value == pytest.approx(once.value, rel=1e-3)
        assert thrice.error == pytest.approx(once.error, rel=1e-3)


def test_linear_agrees_with_least_squares_and_its_robust_errors_with_theory():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 3))
    y = x @ [2.0, 0.0, -1.0] + 3 + rng.normal(size=4000)
    fit = linear(x, y, np.arange(4000))
    exact = np.linalg.lstsq(np.column_stack([np.ones(4000), x]), y, rcond=None)[0]
    assert fit.value == pytest.approx(exact[1:], abs=1e-5)
    assert fit.error == pytest.approx(np.full(3, 1 / 4000**0.5), rel=0.1)


def test_logistic_agrees_with_sklearn():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(2)
    x = rng.normal(size=(3000, 2))
    y = rng.random(3000) < 1 / (1 + np.exp(-(0.5 + x @ [1.0, -2.0])))
    fit = logistic(x, y, np.arange(3000))
    theirs = LogisticRegression(C=10, tol=1e-10).fit(x, y)  # C = 1 / prior precision
    assert fit.value == pytest.approx([*theirs.intercept_, *theirs.coef_[0]], abs=1e-4)
    # the model holds, so robust errors are those of the information matrix
    p = theirs.predict_proba(x)[:, 1]
    design = np.column_stack([np.ones(3000), x])
    classic = np.sqrt(np.diag(np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design)))
    assert fit.error == pytest.approx(classic, rel=0.1)


def test_separation_one_class_and_constants_break_nothing():
    x = np.column_stack([np.linspace(-1, 1, 60), np.ones(60)])
    subjects = np.arange(60)
    separated = logistic(x, x[:, 0] > 0, subjects)
    assert np.isfinite(separated.value[:2]).all() and np.isnan(separated.value[2])
    assert np.isnan(logistic(x, np.ones(60, bool), subjects).value).all()
    assert np.isnan(cox(x, np.arange(60.0), np.zeros(60, bool), subjects).value).all()
    fit = linear(x, 2 * x[:, 0], subjects)
    assert fit.value[0] == pytest.approx(2, abs=1e-4) and np.isnan(fit.value[1])
    assert np.isnan(means(np.empty((0, 2)), np.empty(0, np.int64)).value).all()


@pytest.mark.parametrize("ties", [False, True])
def test_cox_and_its_robust_errors_agree_with_lifelines(ties):
    import pandas as pd

    rng = np.random.default_rng(3)
    x = rng.normal(size=(800, 2))
    time, end = rng.exponential(np.exp(-x @ [0.7, -0.3])), rng.uniform(0.2, 3, 800)
    event, time = time <= end, np.minimum(time, end)
    if ties:
        time = np.ceil(time * 100)
    fit = cox(x, time, event, np.arange(800))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": time, "e": event.astype(int)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lifelines.CoxPHFitter().fit(frame, "t", "e", robust=True)
    room = 0.02 if ties else 2e-3  # ties after Breslow here, after Efron there
    assert fit.value == pytest.approx(theirs.params_.to_numpy(), abs=room)
    assert fit.error == pytest.approx(theirs.standard_errors_.to_numpy(), rel=5 * room)


def test_influence_is_what_leaving_a_row_out_does():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 2))
    y = x @ [1.0, -1.0] + rng.normal(size=300)
    time, event, subjects = np.exp(-y), rng.random(300) < 0.7, np.arange(300)
    fits = {
        "linear": lambda i: linear(x[i], y[i], subjects[i]),
        "logistic": lambda i: logistic(x[i], y[i] > 0, subjects[i]),
        "cox": lambda i: cox(x[i], time[i], event[i], subjects[i]),
    }
    for name, fit in fits.items():
        whole = fit(subjects)
        left_out = np.stack([whole.value - fit(np.delete(subjects, i)).value for i in range(40)])
        for j in range(whole.value.size):
            agreed = np.corrcoef(left_out[:, j], whole.influence[:40, j])[0, 1]
            assert agreed > 0.99, (name, j)
        dealt = blocks(subjects, generator(0, "test"), draws=500)
        assert whole.draws(dealt).std(axis=0) == pytest.approx(whole.error, rel=0.2)
