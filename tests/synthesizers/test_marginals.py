import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.knowledge.conditions import parse_conditions
from manikin.synthesizers.table._subjects import RowCounts, settle
from manikin.synthesizers.table.marginals import Marginals


def correlated(n: int = 4000) -> Table:
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    kinds = (
        Column("x", "continuous", decimals=2),
        Column("y", "continuous", decimals=2),
        Column("group", "categorical", categories=("a", "b", "c")),
    )
    columns = {
        "x": np.round(x, 2),
        "y": np.where(rng.random(n) < 0.2, np.nan, np.round(x + 0.1 * rng.normal(size=n), 2)),
        "group": rng.choice(3, n, p=[0.6, 0.3, 0.1]).astype(np.int32),
    }
    return Table(TableSchema(kinds), np.arange(n), columns)


def test_margins_are_kept_and_dependence_is_not() -> None:
    real = correlated()
    made = Marginals().fit(real, seed=0).sample(20_000, seed=0)
    share = np.bincount(made.columns["group"], minlength=3) / 20_000
    assert share == pytest.approx(np.bincount(real.columns["group"]) / 4000, abs=0.012)
    assert np.isnan(made.columns["y"]).mean() == pytest.approx(0.2, abs=0.02)
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.quantile(made.columns["x"], quantiles) == pytest.approx(
        np.quantile(real.columns["x"], quantiles), abs=0.08
    )
    both = made.present("y")
    assert abs(np.corrcoef(made.columns["x"][both], made.columns["y"][both])[0, 1]) < 0.03


def test_a_condition_restricts_its_own_column_only() -> None:
    real = correlated()
    model = Marginals().fit(real, seed=0)
    where = parse_conditions("group in (b, c), x > 1", real.schema)
    made = model.sample_where(5000, where, seed=0)
    assert (made.columns["x"] > 1).all()
    assert (made.columns["group"] == 1).mean() == pytest.approx(0.75, abs=0.03)
    assert np.nanmedian(made.columns["y"]) == pytest.approx(0.0, abs=0.08)


def test_row_counts_hold_the_longest_histories_back() -> None:
    few = np.repeat(np.arange(50), 2)
    many = np.repeat([90, 91, 92, 93, 94], [3, 4, 5, 6, 900])
    subjects = np.concatenate([few, many])
    counts = RowCounts.fit(subjects, k=3)
    assert counts.sizes.tolist() == [2, 3, 4, 5] and counts.subjects.tolist() == [50, 1, 1, 3]
    assert not counts.single and RowCounts.fit(np.arange(9)).single
    drawn = counts.draw(1000, np.random.default_rng(0))
    assert np.unique(drawn).size == 1000 and np.bincount(drawn).max() <= 5


def test_settle_gives_each_subject_one_value() -> None:
    table = correlated(6)
    several = Table(table.schema, np.array([0, 0, 1, 1, 1, 2]), table.columns)
    made = settle(several, frozenset({"x"}))
    assert made.columns["x"].tolist() == several.columns["x"][[0, 0, 2, 2, 2, 5]].tolist()
    assert np.array_equal(made.columns["y"], several.columns["y"], equal_nan=True)
