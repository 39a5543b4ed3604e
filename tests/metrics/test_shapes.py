import numpy as np
import pytest
from scipy.stats import ks_2samp

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.fidelity.shapes import column_shapes, shapes
from manikin.metrics.score import Trial


def test_categories_by_hand(make_table):
    real = make_table(x=["a", "a", "b", None])
    fake = make_table(x=["a", "b", "b", "b"])
    # shares: a 1/2 1/4, b 1/4 3/4, none 1/4 0: total variation (1/4 + 1/2 + 1/4) / 2 = 1/2
    assert column_shapes(real, fake, seed=0)["x"][0] == pytest.approx(0.5)


def test_numbers_by_hand(make_table):
    real = make_table(x=[1, 2, 3, 4])
    fake = make_table(x=[3, 4, 5, 6])
    assert column_shapes(real, fake, seed=0)["x"][0] == pytest.approx(0.5)


def test_a_missing_gap_counts_where_it_is_the_worse(make_table):
    real = make_table(x=[1, 2, 3, 4])
    fake = make_table(x=[1, None, None, 4])
    # KS of {1, 4} to {1, 2, 3, 4} is 1/4, the gap in missingness 1/2
    assert column_shapes(real, fake, seed=0)["x"][0] == pytest.approx(0.5)
    nothing = make_table(x=[None, None, None, None])
    assert column_shapes(real, nothing, seed=0)["x"][0] == pytest.approx(0.0)
    assert column_shapes(nothing, nothing, seed=0)["x"][0] == pytest.approx(1.0)


def test_agrees_with_scipy_beyond_the_grid(make_table):
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=3000), rng.normal(0.2, 1.3, size=2000)
    value, draws = column_shapes(make_table(x=one), make_table(x=other), seed=0)["x"]
    assert value == pytest.approx(1 - ks_2samp(one, other).statistic, abs=1e-12)
    assert np.std(draws) == pytest.approx(0.015, abs=0.008)


def test_the_interval_covers_what_it_says(make_table):
    """Over repetitions, the interval of a gap of 0.3 in a share covers it about 19 times in 20."""
    rng = np.random.default_rng(2)
    covered = 0
    for i in range(60):
        real = make_table(x=["a" if u < 0.6 else "b" for u in rng.random(300)])
        fake = make_table(x=["a" if u < 0.3 else "b" for u in rng.random(300)])
        score = shapes(Trial(real, real, fake), seed=i)[0]
        covered += score.interval[0] <= 0.7 <= score.interval[1]
    assert covered >= 52


def test_rows_of_a_subject_stay_together_in_the_interval(make_table):
    rng = np.random.default_rng(3)
    cells = ["a" if u < 0.5 else "b" for u in rng.random(100)]
    alone = make_table(x=cells * 5)
    together = make_table(x=cells * 5, subjects=list(range(100)) * 5)
    widths = []
    for table in (alone, together):
        low, high = shapes(Trial(table, table, make_table(x=["a"] * 500)), seed=0)[0].interval
        widths.append(high - low)
    assert widths[1] > 1.7 * widths[0]


def test_ten_thousand_levels_are_compared_exactly():
    rng = np.random.default_rng(4)
    schema = TableSchema((Column("x", "categorical", (), tuple(f"E{i}" for i in range(10_000))),))
    codes = [rng.integers(0, 10_000, 5000).astype(np.int32) for _ in range(2)]
    tables = [Table(schema, np.arange(5000), {"x": part}) for part in codes]
    counts = [np.bincount(part, minlength=10_000) / 5000 for part in codes]
    value, draws = column_shapes(*tables, seed=0)["x"]
    assert value == pytest.approx(1 - np.abs(counts[0] - counts[1]).sum() / 2)
    assert 0 < np.std(draws) < 0.05
