import numpy as np
import pytest

from manikin.errors import NotSupported, Stopped
from manikin.metrics.controls import floor, fresh, independent
from manikin.metrics.judge import judge
from manikin.metrics.score import Score, Trial


def agreement(trial, *, seed):
    """The share of rows whose two columns are equal: 1 in training, about 1/2 on the floor."""
    value = float(np.mean(trial.synthetic.columns["x"] == trial.synthetic.columns["y"]))
    return (Score("fidelity/agreement", value, (value, value)),)


@pytest.fixture
def trial(make_table):
    rng = np.random.default_rng(0)
    cells = [list(rng.choice(["a", "b"], 400)) for _ in range(3)]
    return Trial(*(make_table(x=c, y=c) for c in cells))


def test_floor_and_ceiling_are_added(trial):
    heard = []
    (score,) = judge(
        trial, {"fidelity/agreement": agreement}, seed=0, watch=lambda *at: heard.append(at)
    )
    assert score.value == 1 and score.ceiling == 1
    assert score.floor == pytest.approx(0.5, abs=0.1)
    assert heard[0][:2] == (0, 3) and heard[-1][:2] == (3, 3)


def test_the_floor_keeps_columns_and_breaks_rows(trial):
    floored = floor(trial, seed=0).synthetic
    for name, values in trial.train.columns.items():
        assert np.array_equal(np.sort(values), np.sort(floored.columns[name]))
        assert not np.array_equal(values, floored.columns[name])
    assert independent(trial.train, seed=0).columns["x"].tolist() == floored.columns["x"].tolist()


def test_fresh_rows_for_privacy_are_neither_training_nor_null(trial):
    real = fresh(trial, family="privacy", seed=0)
    held = [set(real.holdout.subjects.tolist()), set(real.synthetic.subjects.tolist())]
    assert not held[0] & held[1]
    assert held[0] | held[1] == set(trial.holdout.subjects.tolist())


def test_what_cannot_be_estimated_is_a_result(trial):
    def refuses(trial, *, seed):
        raise NotSupported("one column", "two or more", "add a column")

    (score,) = judge(trial, {"utility/refuses": refuses}, seed=0)
    assert np.isnan(score.value) and "one column" in score.note and score.floor is None


def test_a_listener_can_stop(trial):
    with pytest.raises(Stopped):
        judge(trial, {"fidelity/agreement": agreement}, seed=0, watch=lambda *at: True)
