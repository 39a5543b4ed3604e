import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from manikin.metrics import logistic
from manikin.metrics.embedding import FARTHEST, Embedding, squared_distances, whitened


def test_numbers_are_normal_scores_and_go_on_outside_training(make_table):
    train = make_table(x=[1.0, 2, 3, 4])
    space = Embedding.fit(train)
    # mid-ranks 1/8, 3/8, 5/8, 7/8; beyond: the slope of the whole range, here 2 Φ⁻¹(7/8) / 3
    assert space.dense(train)[:, 0] == pytest.approx(ndtri([0.125, 0.375, 0.625, 0.875]))
    slope = 2 * ndtri(0.875) / 3
    there = space.dense(make_table(x=[5.0, 1e6, -1e6, None]))
    assert there[:, 0] == pytest.approx([ndtri(0.875) + slope, FARTHEST, -FARTHEST, 0])
    assert there[:, 1].tolist() == [0, 0, 0, 1]  # no value, which training never had


def test_categories_are_indicators(make_table):
    train = make_table(c=["a", "b", "b", None])
    space = Embedding.fit(train)
    rows = space.dense(train)
    assert set(rows.sum(axis=1)) == {1.0} and space.dims == rows.shape[1]
    assert np.array_equal(rows[1], rows[2]) and rows[3, -1] == 1


@pytest.mark.parametrize("values", [[3.0, 3.0], [None, None]])
def test_a_column_that_was_constant_or_empty_in_training(make_table, values):
    space = Embedding.fit(make_table(x=values))
    there = space.dense(make_table(x=[3.0, 9.0, -9.0, None]))
    assert np.isfinite(there).all()
    assert len({tuple(row) for row in there}) == (4 if values[0] else 3)


def test_the_largest_numbers_there_are(make_table):
    space = Embedding.fit(make_table(x=[-1e308, 0.0, 1e308]))
    assert np.isfinite(space.dense(make_table(x=[1.7e308, -1.7e308, 5.0]))).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_a_unit_does_not_matter(seed, scale, shift):
    from manikin.data.schema import Column, TableSchema
    from manikin.data.table import Table

    rng = np.random.default_rng(seed)
    x, y = rng.gamma(2, size=20), rng.gamma(2, size=9) * 2
    places = []
    for a, b in ((1.0, 0.0), (scale, shift)):
        tables = [
            Table(TableSchema((Column("x", "continuous"),)), np.arange(v.size), {"x": v * a + b})
            for v in (x, y)
        ]
        places.append(Embedding.fit(tables[0]).dense(tables[1]))
    assert places[0] == pytest.approx(places[1], abs=1e-5)


def test_equal_rows_are_at_distance_zero():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 30)) * 5
    found = squared_distances(rows, rows[::-1])
    assert (found[np.arange(50), 49 - np.arange(50)] == 0).all()
    exact = ((rows[:, None] - rows[::-1][None]) ** 2).sum(axis=2)
    assert found == pytest.approx(exact, abs=1e-9)


def test_whitened_features_are_uncorrelated_and_drop_what_repeats():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) * (1, 10, 0.1)
    rows = np.column_stack([x, x[:, 0] + x[:, 1], np.ones(200)])
    white = whitened(rows, 99)
    assert white.shape == (200, 3)
    assert white.T @ white / 200 == pytest.approx(np.eye(3), abs=1e-6)
    assert whitened(rows, 2).shape == (200, 2)
    assert whitened(np.ones((4, 2)), 9).shape == (4, 0)


def test_logistic_regression_finds_the_coefficients():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2))
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 + 1.0 * x[:, 0] - 2.0 * x[:, 1])))
    assert logistic.fit(x, truth) == pytest.approx([0.5, 1.0, -2.0], abs=0.08)
    apart = np.repeat([-1.0, 1.0], 20)[:, None]
    assert np.isfinite(logistic.fit(apart, apart[:, 0] > 0)).all(), "the ridge bounds it"
    assert logistic.predict(np.array([0.0]), np.zeros((3, 0))).tolist() == [0.5, 0.5, 0.5]
