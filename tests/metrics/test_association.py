import numpy as np
import pytest
from scipy import stats

from manikin.metrics.association import association_matrix, cramers_v


def test_numbers_agree_with_scipy_gaps_included(make_table):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = np.where(rng.random(200) < 0.1, np.nan, x + rng.normal(size=200))
    z = rng.integers(0, 5, 200).astype(float)
    table = make_table(x=x, y=y, z=z)
    names, pearson = association_matrix(table, numbers="pearson")
    both = ~np.isnan(y)
    assert names == ("x", "y", "z")
    assert pearson[0, 1] == pytest.approx(stats.pearsonr(x[both], y[both]).statistic)
    spearman = association_matrix(table)[1]
    assert spearman[0, 2] == pytest.approx(stats.spearmanr(x, z).statistic)
    assert spearman[0, 1] == pytest.approx(stats.spearmanr(x[both], y[both]).statistic, abs=0.01)
    assert np.allclose(spearman, spearman.T) and np.allclose(np.diag(spearman), 1)


def test_cramers_v_by_hand():
    one = np.array([0, 1] * 50)
    assert cramers_v(one, one) == pytest.approx(1.0)
    table = np.array([[30, 20], [20, 30]])  # φ² = 0.04, corrected by 1/99; 2 levels less 1/99
    a, b = np.repeat([0, 0, 1, 1], table.ravel()), np.repeat([0, 1, 0, 1], table.ravel())
    assert cramers_v(a, b) == pytest.approx(np.sqrt((0.04 - 1 / 99) / (1 - 1 / 99)))
    assert np.isnan(cramers_v(one, np.zeros(100, int)))


def test_categories_with_numbers(make_table):
    rng = np.random.default_rng(1)
    groups = rng.choice(["a", "b", "c"], 300)
    means = {"a": 0.0, "b": 5.0, "c": 10.0}
    table = make_table(
        g=list(groups),
        told=[means[g] for g in groups],
        noise=rng.normal(size=300),
        flat=[1.0] * 300,
    )
    matrix = association_matrix(table)[1]
    assert matrix[0, 1] == pytest.approx(1.0) and matrix[0, 2] < 0.15
    assert np.isnan(matrix[0, 3]) and np.isnan(matrix[1, 3])
