import numpy as np
import pytest

from manikin.metrics.controls import copy_share, positive_controls
from manikin.metrics.privacy.copies import copies
from manikin.metrics.privacy.nearest import nearest
from manikin.metrics.score import Trial


def normal(make_table, rng, n):
    return make_table(**{name: rng.normal(size=n) for name in "vwxyz"})


def test_exact_copies_by_hand(make_table):
    train = make_table(x=["a", "a", "b", "c"], y=[1, 2, 3, None])
    holdout = make_table(x=["a", "a", "d", "e"], y=[1, 9, 3, None])  # one row as in training
    fake = make_table(x=["a", "b", "c", "c"], y=[1, 3, None, 4])  # three rows as in training
    exact = copies(Trial(train, holdout, fake), seed=0)[0]
    assert exact.value == pytest.approx(3 / 4 - 1 / 4)
    assert exact.interval[0] < 0 < exact.interval[1]  # four rows prove nothing


def test_a_copy_is_found_through_noise_that_is_not_written(make_table):
    train = make_table(x=[1.0, 2.0], y=[0.0, 1.0])
    fake = make_table(x=[1.0 + 1e-9, 5.0], y=[-0.0, 1.0])
    assert copies(Trial(train, make_table(x=[7.0], y=[7.0]), fake), seed=0)[0].value == 0.5


def test_coincidence_in_a_small_domain_is_no_copy(make_table):
    rng = np.random.default_rng(0)
    parts = [make_table(x=list(rng.choice(["a", "b", "c"], 400))) for _ in range(3)]
    for score in copies(Trial(*parts), seed=0):
        assert score.value == pytest.approx(0) and score.interval[0] <= 0


@pytest.mark.parametrize("which", [0, 1])
def test_the_excess_rises_with_the_share_copied(make_table, which):
    rng = np.random.default_rng(1)
    trial = Trial(*(normal(make_table, rng, 1000) for _ in range(3)))
    found = [copies(copy_share(trial, p, seed=3), seed=0)[which].value for p in (0, 0.05, 0.3, 1)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(0, abs=0.015)
    assert found[2] == pytest.approx(0.3, abs=0.02)
    assert found[3] > 0.98


def test_near_copies_are_found_where_exact_ones_are_not(make_table):
    rng = np.random.default_rng(2)
    trial = Trial(*(normal(make_table, rng, 800) for _ in range(3)))
    noisy = make_table(**{n: v + rng.normal(0, 0.01, 800) for n, v in trial.train.columns.items()})
    exact, near = copies(Trial(trial.train, trial.holdout, noisy), seed=0)
    assert exact.value == 0 and near.value > 0.9 and near.interval[0] > 0.5


def test_the_nearest_row_by_hand(make_table):
    train, holdout = make_table(x=[0, 10, 20, 30]), make_table(x=[4, 14, 22, 26])
    fake = make_table(x=[1, 11, 23, 25])  # nearest: 0, 10, then 22 and 26
    assert nearest(Trial(train, holdout, fake), seed=0)[0].value == pytest.approx(0.5)
    assert nearest(Trial(train, holdout, train), seed=0)[0].value == 1.0
    assert nearest(Trial(train, train, fake), seed=0)[0].value == 0.5  # ties count half


def test_positive_controls_know_their_power(make_table):
    rng = np.random.default_rng(4)
    large = Trial(*(normal(make_table, rng, 1000) for _ in range(3)))
    small = Trial(*(normal(make_table, rng, 12) for _ in range(3)))
    metrics = {"privacy/copies": copies}
    assert [control.caught for control in positive_controls(large, metrics, seed=0)] == [True, True]
    assert not positive_controls(small, metrics, seed=0)[1].caught


def test_copies_of_quasi_identifiers_by_hand(make_table):
    roles = {"x": ("quasi_identifier",), "y": ("quasi_identifier",)}
    train = make_table(x=["a", "b", "c", "d"], y=[1, 2, 3, 4], z=[0, 0, 0, 0], roles=roles)
    holdout = make_table(x=["a", "e", "e", "e"], y=[1, 2, 3, 4], z=[0, 0, 0, 0], roles=roles)
    fake = make_table(x=["a", "a", "b", "e"], y=[1, 1, 2, 9], z=[7, 8, 9, 9], roles=roles)
    (people,) = (
        s for s in copies(Trial(train, holdout, fake), seed=0) if s.group == "quasi-identifiers"
    )
    assert people.metric == "privacy/copies.exact"
    assert people.value == pytest.approx(3 / 4 - 2 / 4)  # z is no quasi-identifier


def test_a_generator_that_leaves_out_rare_people_copies_nobody(make_table):
    """It coincides with training rows more often than held-out rows do, but with both alike."""
    rng = np.random.default_rng(6)
    roles = {"x": ("quasi_identifier",)}
    parts = [make_table(x=rng.geometric(0.1, 600), z=[0.0] * 600, roles=roles) for _ in range(2)]
    common = make_table(x=np.minimum(rng.geometric(0.1, 600), 12), z=[1.0] * 600, roles=roles)
    found = {s.group: s for s in copies(Trial(*parts, common), seed=0)}
    assert found["quasi-identifiers"].interval[0] <= 0 <= found["quasi-identifiers"].interval[1]
    leaky = {s.group: s for s in copies(Trial(*parts, parts[0]), seed=0)}
    assert leaky["quasi-identifiers"].value > 0
