from math import prod

import numpy as np
import pytest

from manikin.metrics.fidelity.manifold import balls, manifold
from manikin.metrics.privacy.authenticity import _authentic, authenticity
from manikin.metrics.score import Trial


def column(*values):
    return np.array(values, dtype=float)[:, None]


def test_balls_worked_by_hand():
    # k = 1. real 0, 1, 3: reaches 1, 1, 2. synthetic 0.5, 5, 9: reaches 4.5, 4, 4
    found = balls(column(0, 1, 3), column(0.5, 5, 9), k=1)
    # 0.5 lies in the balls of 0 and 1; 5 in that of 3 (distance 2, on its edge); 9 in none
    assert found["precision"].tolist() == [1, 1, 0]
    assert found["density"].tolist() == [2, 1, 0]
    assert found["coverage"].tolist() == [1, 1, 1]
    # 0, 1 and 3 lie within 4.5 of 0.5
    assert found["recall"].tolist() == [1, 1, 1]


def test_alpha_is_the_share_of_real_rows_nearer_the_centre():
    # real -3, -1, 1, 3, centre 0; synthetic 0.5, -2, 7, 0: before them 0, 2, all and 0 real rows
    found = balls(column(-3, -1, 1, 3), column(0.5, -2, 7, 0), k=1)
    assert found["alpha_precision"].tolist() == [0, 0.5, np.inf, 0]


def test_beta_is_the_share_of_synthetic_rows_nearer_their_centre_where_one_is_at_hand():
    """Synthetic 0.1, 0.2, 1.5, -4: centre -0.55, their distances 0.65, 0.75, 2.05, 3.45.

    Real 0, 1.6, 9, 9.5: distances from it 0.55, 2.15, 9.55, 10.05: before them 0, 3, all, all.
    k = 1: reaches 1.6, 1.6, .5, .5. 0 and 1.6 have a synthetic row in their balls.
    """
    found = balls(column(0, 1.6, 9, 9.5), column(0.1, 0.2, 1.5, -4), k=1)
    assert found["beta_recall"].tolist() == [0, 0.75, np.inf, np.inf]
    # real 1 lies among the synthetic rows by its distance from 0, but none is in its ball
    alone = balls(column(1, 1.1, -1, -1.1), column(-3, -2, 2, 3), k=1)
    assert np.isinf(alone["beta_recall"]).all()


def test_beta_recall_of_the_same_distribution_is_near_one_in_many_columns():
    """Known trap: with balls that reach inwards, two samples of one distribution get 0.2 to 0.35.

    By the paper's formula, in 8 and in 64 columns; by the published code 0.75 and 0.45.
    """
    rng = np.random.default_rng(0)
    for dims in (2, 8, 32):
        found = balls(*rng.normal(size=(2, 500, dims)))["beta_recall"]
        grid = np.linspace(0, 1, 101)
        area = np.trapezoid(np.abs([np.mean(found <= b) - b for b in grid]), grid)
        assert 1 - 2 * area > 0.87, dims


def test_coverage_of_the_same_distribution_is_naeems_expectation(make_table):
    """Lemma 2 of Naeem et al.: 1 - Π (n - i)/(2n - i), i = 1 … k, and density 1, for k = 5."""
    n, k, found = 200, 5, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parts = [make_table(x=rng.normal(size=n), y=rng.normal(size=n)) for _ in range(3)]
        found.append([s.value for s in manifold(Trial(*parts), seed=0)])
    mean = dict(zip(("p", "r", "density", "coverage"), np.mean(found, axis=0), strict=False))
    assert mean["coverage"] == pytest.approx(
        1 - prod((n - i) / (2 * n - i) for i in range(1, k + 1)), abs=0.01
    )
    assert mean["density"] == pytest.approx(1, abs=0.03)


def test_modes_lost_and_modes_invented(make_table):
    rng = np.random.default_rng(0)

    def modes(*centres):
        return make_table(
            x=np.concatenate([rng.normal(c, 0.3, 300 // len(centres)) for c in centres])
        )

    train, real = modes(0, 10, 20), modes(0, 10, 20)
    lost = {s.metric.split(".")[1]: s.value for s in manifold(Trial(train, real, modes(0)), seed=0)}
    assert lost["precision"] > 0.9 and lost["coverage"] < 0.4 and lost["recall"] < 0.4
    invented = manifold(Trial(modes(0), modes(0), modes(0, 10, 20)), seed=0)
    found = {s.metric.split(".")[1]: s.value for s in invented}
    assert found["precision"] < 0.4 and found["coverage"] > 0.6


def test_duplicates_lie_in_their_own_balls(make_table):
    part = make_table(x=list("abab" * 20), y=list("aabb" * 20))
    found = {s.metric.split(".")[1]: s.value for s in manifold(Trial(part, part, part), seed=0)}
    assert found["precision"] == found["recall"] == found["coverage"] == 1


def test_authenticity_worked_by_hand():
    """Known bug elsewhere: a training row's own distance is looked up with a synthetic index.

    Training 0, 10, 11: own distances 10, 1, 1. Synthetic 12.5, 3 and 0: nearest 11, 0, 0 at 1.5,
    3 and 0: 1.5 > 1 is authentic, 3 < 10 and 0 < 10 are not. By synthetic index it would be
    1.5 < 10, 3 > 1, 0 < 1: no, yes, no.
    """
    assert _authentic(column(0, 10, 11), column(12.5, 3, 0)).tolist() == [1, 0, 0]


def test_copies_are_not_authentic_and_noise_is(make_table):
    rng = np.random.default_rng(0)

    def table(scale=1.0):
        return make_table(x=rng.normal(0, scale, 500), y=rng.normal(0, scale, 500))

    train, real = table(), table()
    values = [
        authenticity(Trial(train, real, fake), seed=0)[0].value
        for fake in (train, table(), table(9))
    ]
    assert values[0] == 0 and 0.35 < values[1] < 0.65 and values[2] > 0.8
