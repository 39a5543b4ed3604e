import numpy as np
import pytest
from sklearn.metrics import f1_score, r2_score, roc_auc_score

from manikin.data.randomness import generator
from manikin.metrics.intervals import blocks
from manikin.metrics.score import Trial
from manikin.metrics.target import r_squared
from manikin.metrics.utility.prediction import _macro_auc, _macro_f1, prediction


def dealt(n):
    return blocks(np.arange(n), generator(0, "test"))


def test_macro_scores_agree_with_sklearn():
    rng = np.random.default_rng(0)
    truth, chosen = rng.integers(0, 4, 300), rng.integers(0, 3, 300)
    value, draws = _macro_f1(truth, chosen, 5, dealt(300))
    assert value == pytest.approx(f1_score(truth, chosen, average="macro"))
    assert draws.mean() == pytest.approx(value, abs=0.01)
    shares = rng.dirichlet(np.ones(4), 300)
    expected = roc_auc_score(truth, shares, multi_class="ovr", average="macro")
    assert _macro_auc(truth, shares, dealt(300))[0] == pytest.approx(expected)
    numbers, guesses = rng.normal(size=300), rng.normal(size=300)
    assert r_squared(numbers, guesses, dealt(300))[0] == pytest.approx(r2_score(numbers, guesses))


def cohort(make_table, rng, n=800, target="answer", flip=False, roles=None, noise=0.3):
    x = rng.normal(size=n)
    answer = (x + noise * rng.normal(size=n) > 0) != flip
    cells = {"x": x, "noise": rng.normal(size=n)}
    return make_table(
        **cells, answer=["b" if a else "a" for a in answer], roles=roles or {target: ("target",)}
    )


def by_name(scores):
    return {score.metric.rpartition(".")[2]: score for score in scores}


def test_a_good_synthetic_table_loses_nothing_and_a_wrong_one_all(make_table):
    rng = np.random.default_rng(1)
    train, holdout, good = (cohort(make_table, rng) for _ in range(3))
    scores = by_name(prediction(Trial(train, holdout, good), seed=0))
    assert scores["auc_trtr"].value > 0.95
    assert abs(scores["auc_gap"].value) < 0.03
    low, high = scores["auc_gap"].interval
    assert low < scores["auc_gap"].value < high
    wrong = by_name(prediction(Trial(train, holdout, cohort(make_table, rng, flip=True)), seed=0))
    assert wrong["auc_tstr"].value < 0.05 and wrong["auc_gap"].interval[0] > 0.8
    # the other way round: reversed targets contradict, and copies are no better than fresh rows
    assert wrong["auc_trts"].value < 0.05 and scores["auc_trts"].value > 0.95
    noisy = [cohort(make_table, rng, noise=3.0) for _ in range(3)]
    fresh = by_name(prediction(Trial(*noisy), seed=0))["auc_trts"]
    copied = by_name(prediction(Trial(noisy[0], noisy[1], noisy[0]), seed=0))["auc_trts"]
    assert copied.value < fresh.value + 0.15  # a model of the copied rows would score about 1


def test_a_number_is_regressed_on_unless_it_has_two_values(make_table):
    rng = np.random.default_rng(2)
    x = rng.normal(size=400)
    parts = []
    for _ in range(3):
        x = rng.normal(size=400)
        parts.append(
            make_table(x=x, y=2 * x + 0.1 * rng.normal(size=400), roles={"y": ("target",)})
        )
    assert by_name(prediction(Trial(*parts), seed=0))["r2_tstr"].value > 0.9
    binary = [make_table(x=rng.normal(size=60), y=[0, 1] * 30, roles={"y": ("target",)})] * 3
    assert "auc_tstr" in by_name(prediction(Trial(*binary), seed=0))


def test_follow_up_time_does_not_predict_the_event(make_table):
    """Time tells the event perfectly here; nothing else does."""
    rng = np.random.default_rng(3)
    parts = []
    for _ in range(3):
        event = rng.random(300) < 0.5
        parts.append(
            make_table(
                time=np.where(event, 1.0, 5.0) + rng.random(300),
                x=rng.normal(size=300),
                dead=event.astype(float),
                roles={"time": ("time",), "dead": ("event", "target")},
            )
        )
    assert by_name(prediction(Trial(*parts), seed=0))["auc_trtr"].value < 0.65


def test_no_target_no_score(make_table):
    table = make_table(x=[1, 2, 3])
    assert prediction(Trial(table, table, table), seed=0) == ()
