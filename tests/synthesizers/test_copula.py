import numpy as np
import pytest
from scipy import stats

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, SchemaError
from manikin.knowledge.conditions import all_hold, parse_conditions
from manikin.synthesizers.table import _gaussian as gaussian
from manikin.synthesizers.table._latents import Chain, Race, chain
from manikin.synthesizers.table.copula import GaussianCopula

RHO = 0.7


def normals(n: int, seed: int, rho: float = RHO) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n)


def two_columns(n: int = 3000) -> Table:
    z = normals(n, 0)
    schema = TableSchema(
        (Column("x", "continuous", decimals=3), Column("y", "continuous", decimals=3))
    )
    columns = {"x": np.round(z[:, 0], 3), "y": np.round(np.exp(z[:, 1]), 3)}
    return Table(schema, np.arange(n), columns)


def one(table: Table, name: str) -> Table:
    schema = TableSchema((table.schema[name],))
    return Table(schema, table.subjects, {name: table.columns[name]})


def test_truncated_normal_against_its_known_mean() -> None:
    rng = np.random.default_rng(0)
    for low, high in ((-1.0, 0.5), (2.0, 3.0), (-np.inf, -1.0), (6.0, np.inf), (-9.0, -8.0)):
        ends = np.full(40_000, low), np.full(40_000, high)
        drawn = gaussian.truncated(np.zeros(40_000), 1.0, *ends, rng)
        assert drawn.min() >= low and drawn.max() <= high
        assert drawn.mean() == pytest.approx(stats.truncnorm.mean(low, high), abs=0.01)
    far = gaussian.truncated(np.zeros(9), 1.0, np.full(9, 50.0), np.full(9, 51.0), rng)
    assert np.isfinite(far).all()


def test_correlation_of_continuous_columns_is_found() -> None:
    model = GaussianCopula().fit(two_columns(), seed=1)
    assert model.correlation[0, 1] == pytest.approx(RHO, abs=0.03)
    made = model.sample(20_000, seed=1)
    assert stats.spearmanr(made.columns["x"], made.columns["y"])[0] == pytest.approx(
        6 / np.pi * np.arcsin(RHO / 2), abs=0.03
    )


def test_correlation_of_halves_is_tetrachoric() -> None:
    z = normals(4000, 3)
    kinds = tuple(Column(name, "boolean", categories=("no", "yes")) for name in "ab")
    columns = {"a": (z[:, 0] > 1).astype(np.int32), "b": (z[:, 1] > 0).astype(np.int32)}
    model = GaussianCopula().fit(Table(TableSchema(kinds), np.arange(4000), columns), seed=1)
    assert abs(model.correlation[0, 1]) == pytest.approx(RHO, abs=0.06)
    made = model.sample(40_000, seed=0)
    for a in (0, 1):
        for b in (0, 1):
            real = ((columns["a"] == a) & (columns["b"] == b)).mean()
            got = ((made.columns["a"] == a) & (made.columns["b"] == b)).mean()
            assert got == pytest.approx(real, abs=0.012)


def test_margin_of_an_unordered_column_is_exact_and_its_links_are_kept() -> None:
    rng = np.random.default_rng(5)
    levels = rng.choice(9, 4000, p=[0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05, 0.03, 0.02])
    effect = np.array([0, 3, -1, 2, 0, -3, 1, -2, 4.0])
    x = np.round(effect[levels] + rng.normal(size=4000), 2)
    kinds = (
        Column("site", "categorical", categories=tuple("ABCDEFGHI")),
        Column("x", "continuous", decimals=2),
    )
    columns = {"site": levels.astype(np.int32), "x": x}
    table = Table(TableSchema(kinds), np.arange(4000), columns)
    made = GaussianCopula().fit(table, seed=0).sample(30_000, seed=0)
    got = np.bincount(made.columns["site"], minlength=9) / 30_000
    assert np.abs(got - np.bincount(levels, minlength=9) / 4000).max() < 0.015
    means = np.array(
        [made.columns["x"][made.columns["site"] == level].mean() for level in range(9)]
    )
    assert np.corrcoef(means, effect)[0, 1] > 0.8


def test_chain_by_hand() -> None:
    made = chain(0, np.array([10, 60, 30]), 1, ordered=True, order=np.array([1, 2]), split=6)
    assert isinstance(made, Chain) and made.width == 2
    lower, upper = made.bounds(np.array([[0], [1], [2], [-1]], np.int32))
    ninety, twice = stats.norm.ppf(0.1), stats.norm.ppf(2 / 3)
    assert upper[0] == pytest.approx([ninety, np.inf]) and (lower[0] == -np.inf).all()
    assert lower[1] == pytest.approx([ninety, -np.inf]) and upper[1, 1] == pytest.approx(twice)
    assert lower[2, 1] == pytest.approx(twice)
    assert (lower[3] == -np.inf).all() and (upper[3] == np.inf).all()
    codes, place = made.decode(np.array([[-3.0, 9.0], [0.0, 0.0], [0.0, 2.0]]))
    assert codes.ravel().tolist() == [0, 1, 2]
    assert place[1] == pytest.approx(0.75)


def test_race_by_hand() -> None:
    # 4 subjects: death at 0; censored at 0; death at 1; censored at 2
    codes = np.array([[0, 0], [0, 1], [1, 0], [2, 1]], np.int32)
    race = Race.fit(0, 1, codes, np.array([3, 2]))
    death = stats.norm.cdf(race.edges[0])
    assert death == pytest.approx([0, 1 / 4, 1 - 3 / 4 * 1 / 2, 1 - 3 / 4 * 1 / 2, 1])
    lower, upper = race.bounds(codes)
    assert lower[1, 0] == pytest.approx(race.edges[0, 1])  # censored at 0: death is later
    assert upper[1, 0] == np.inf
    z = np.random.default_rng(0).standard_normal((40_000, 2))
    made, _ = race.decode(z)
    for row in codes:
        assert (made == row).all(axis=1).mean() == pytest.approx(0.25, abs=0.01)


def survival_table(n: int = 3000) -> Table:
    rng = np.random.default_rng(2)
    age = np.round(rng.normal(60, 10, n))
    death = rng.exponential(np.exp(-(age - 60) / 10) * 5)
    censored = rng.uniform(1, 8, n)
    kinds = (
        Column("age", "integer"),
        Column("time", "continuous", decimals=2, roles=("time",)),
        Column("dead", "boolean", categories=("no", "yes"), roles=("event",)),
    )
    columns = {
        "age": age,
        "time": np.round(np.minimum(death, censored), 2),
        "dead": (death <= censored).astype(np.int32),
    }
    return Table(TableSchema(kinds), np.arange(n), columns)


def kaplan_meier(table: Table, at: float) -> float:
    time, dead = table.columns["time"], table.columns["dead"] == 1
    order = np.argsort(time)
    at_risk = np.arange(time.size, 0, -1)
    steps = np.where(dead[order], 1 - 1 / at_risk, 1.0)
    return float(np.prod(steps[time[order] <= at]))


def test_survival_curve_and_its_dependence_on_a_covariate() -> None:
    real = survival_table()
    model = GaussianCopula().fit(real, seed=0)
    assert isinstance(model.groups[0], Race)
    made = model.sample(20_000, seed=0)
    assert (made.columns["dead"] == 1).mean() == pytest.approx(
        (real.columns["dead"] == 1).mean(), abs=0.015
    )
    for part in (slice(None), "old", "young"):
        tables = [real, made]
        if isinstance(part, str):
            tables = [t.rows((t.columns["age"] > 65) == (part == "old")) for t in tables]
        for at in (1.0, 3.0, 6.0):
            gap = kaplan_meier(tables[0], at) - kaplan_meier(tables[1], at)
            assert abs(gap) < 0.08, (part, at)


@pytest.mark.parametrize("name", ["time", "dead"])
def test_half_of_a_survival_outcome_may_be_given(name: str) -> None:
    real = survival_table(800)
    made = GaussianCopula().fit(real, seed=0).sample_given(one(real, name), seed=0)
    assert (made.columns[name] == real.columns[name]).all()
    dead = made.columns["dead"] == 1
    assert dead.mean() == pytest.approx((real.columns["dead"] == 1).mean(), abs=0.08)


def test_conditional_mean_given_a_column_is_that_of_the_normal() -> None:
    real = two_columns()
    model = GaussianCopula().fit(real, seed=1)
    x = np.repeat([-1.0, 0.0, 1.5], 3000)
    given = Table(TableSchema((real.schema["x"],)), np.arange(x.size), {"x": x})
    y = np.log(np.maximum(model.sample_given(given, seed=2).columns["y"], 1e-3)).reshape(3, -1)
    assert np.median(y, axis=1) == pytest.approx(RHO * np.array([-1.0, 0.0, 1.5]), abs=0.1)
    assert y.std(axis=1) == pytest.approx(np.full(3, np.sqrt(1 - RHO**2)), abs=0.1)


def test_rare_conditions_are_met_without_waiting() -> None:
    real = two_columns()
    model = GaussianCopula().fit(real, seed=1)
    where = parse_conditions("x > 1, y < 0.4", real.schema)  # about 1 subject in 2000
    made = model.sample_where(500, where, seed=0)
    assert (made.columns["x"] > 1).all() and (made.columns["y"] < 0.4).all()
    # against rejection from the true distribution
    z = normals(2_000_000, 9)
    true = z[(z[:, 0] > 1) & (np.exp(z[:, 1]) < 0.4)]
    assert made.columns["x"].mean() == pytest.approx(true[:, 0].mean(), abs=0.06)


def test_one_sided_condition_has_the_distribution_of_rejection() -> None:
    real = two_columns()
    model = GaussianCopula().fit(real, seed=1)
    made = model.sample_where(4000, parse_conditions("x >= 0.5", real.schema), seed=0)
    pool = model.sample(40_000, seed=5)
    kept = pool.rows(pool.columns["x"] >= 0.5)
    assert stats.ks_2samp(made.columns["y"], kept.columns["y"]).statistic < 0.04
    assert stats.ks_2samp(made.columns["x"], kept.columns["x"]).statistic < 0.04


def test_missing_values_leave_the_dependence_alone() -> None:
    real = two_columns()
    x = real.columns["x"].copy()
    x[real.columns["y"] > 2] = np.nan  # missing at random given y
    holed = Table(real.schema, real.subjects, {**real.columns, "x": x})
    model = GaussianCopula().fit(holed, seed=1)
    made = model.sample(20_000, seed=0)
    missing = np.isnan(made.columns["x"])
    assert missing.mean() == pytest.approx(np.isnan(x).mean(), abs=0.015)
    assert (made.columns["y"][missing] > 1.5).mean() > 0.85
    assert np.isfinite(made.columns["x"][~missing]).all()


def panels(n: int = 600) -> Table:
    """Two laboratory panels, each measured as a whole or not at all, and one column before."""
    rng = np.random.default_rng(6)
    sick = rng.normal(size=n)
    holes = [rng.random(n) < 0.4, sick > 0.5]
    kinds = [Column("age", "continuous", decimals=1), Column("sick", "continuous", decimals=2)]
    columns = {"age": np.round(rng.normal(60, 9, n), 1), "sick": np.round(sick, 2)}
    for j in range(6):
        kinds.append(Column(f"lab{j}", "continuous", decimals=2))
        columns[f"lab{j}"] = np.where(holes[j % 2], np.nan, np.round(rng.normal(size=n), 2))
    return Table(TableSchema(tuple(kinds)), np.arange(n), columns)


def test_what_is_missing_together_stays_missing_together() -> None:
    real = panels()
    model = GaussianCopula().fit(real, seed=0)
    assert len(model.correlation) == 2 + 6 + 2  # one latent for the holes of each panel
    made = model.sample(4000, seed=0)
    for first, other in ((0, 2), (0, 4), (1, 3), (1, 5)):
        assert (made.present(f"lab{first}") == made.present(f"lab{other}")).all()
    sick = made.columns["sick"]
    assert (sick[~made.present("lab1")] > 0.3).mean() > 0.85
    given = model.sample_given(one(real, "lab4"), seed=0)
    assert (given.present("lab0") == real.present("lab4")).all()


@pytest.mark.parametrize(
    "text",
    [
        "lab3 > 0, lab0 missing",
        "lab5 > 0, lab4 < 0, sick < 0",
        "lab4 present, lab0 present, age>60",
    ],
)
def test_conditions_on_columns_that_share_a_latent(text: str) -> None:
    real = panels()
    model = GaussianCopula().fit(real, seed=0)
    where = parse_conditions(text, real.schema)
    made = model.sample_where(3000, where, seed=0)
    assert all_hold(where, made).all()
    pool = model.sample(40_000, seed=5)
    kept = pool.rows(all_hold(where, pool))
    for name in ("age", "sick", "lab1"):
        a, b = made.columns[name], kept.columns[name]
        assert abs(np.isnan(a).mean() - np.isnan(b).mean()) < 0.05
        if name != "lab1":
            assert stats.ks_2samp(a, b).statistic < 0.05


def test_what_shares_a_latent_cannot_differ() -> None:
    model = GaussianCopula().fit(panels(), seed=0)
    with pytest.raises(ConditionError):
        model.sample_where(9, parse_conditions("lab0 missing, lab2 present", model.schema), seed=0)


def test_values_that_repeat_another_column() -> None:
    rng = np.random.default_rng(7)
    death = np.round(rng.exponential(5, 2000), 2)
    relapse = np.where(rng.random(2000) < 0.6, death, np.round(death * rng.random(2000), 2))
    kinds = tuple(Column(name, "continuous", decimals=2) for name in ("death", "relapse"))
    real = Table(TableSchema(kinds), np.arange(2000), {"death": death, "relapse": relapse})
    model = GaussianCopula().fit(real, seed=0)
    made = model.sample_given(one(real, "death"), seed=0)
    same = made.columns["relapse"] == made.columns["death"]
    assert same.mean() == pytest.approx(0.6, abs=0.05)
    where = parse_conditions("relapse > 4", real.schema)
    chosen = model.sample_where(1000, where, seed=0)
    assert (chosen.columns["relapse"] > 4).all()
    got = (chosen.columns["relapse"] == chosen.columns["death"]).mean()
    late = relapse > 4
    assert got == pytest.approx((relapse[late] == death[late]).mean(), abs=0.1)


def test_rows_of_a_subject_are_alike_as_in_training() -> None:
    rng = np.random.default_rng(4)
    subjects = np.repeat(np.arange(400), 5)
    level = rng.normal(size=400)[subjects] * 2
    x = np.round(level + rng.normal(size=2000), 2)
    y = np.round(rng.normal(size=2000), 2)
    kinds = (Column("x", "continuous", decimals=2), Column("y", "continuous", decimals=2))
    table = Table(TableSchema(kinds), subjects, {"x": x, "y": y})
    made = GaussianCopula().fit(table, seed=0).sample(1000, seed=0)
    assert made.n_rows == 5000

    def alike(values: np.ndarray) -> float:
        means = values.reshape(-1, 5).mean(axis=1)
        return float(1 - 5 / 4 * (1 - means.var() / values.var()))

    assert alike(made.columns["x"]) == pytest.approx(0.8, abs=0.06)
    assert alike(made.columns["y"]) == pytest.approx(0.0, abs=0.06)


def test_more_columns_than_rows() -> None:
    rng = np.random.default_rng(0)
    kinds = tuple(Column(f"c{j}", "continuous", decimals=1) for j in range(80))
    columns = {c.name: np.round(rng.normal(size=40), 1) for c in kinds}
    model = GaussianCopula(sweeps=6).fit(Table(TableSchema(kinds), np.arange(40), columns), seed=0)
    off = model.correlation - np.eye(len(model.correlation))
    assert np.abs(off).max() < 0.5, "chance correlations must be shrunk away"
    assert model.sample(30, seed=0).n_rows == 30


def test_given_columns_that_the_model_does_not_know_are_refused() -> None:
    model = GaussianCopula(sweeps=4).fit(two_columns(100), seed=0)
    for column in (Column("z", "continuous"), Column("x", "datetime")):
        kind = "datetime64[us]" if column.kind == "datetime" else float
        given = Table(TableSchema((column,)), np.arange(2), {column.name: np.zeros(2, kind)})
        with pytest.raises(SchemaError):
            model.sample_given(given, seed=0)
    with pytest.raises(ConditionError):
        model.sample_where(5, parse_conditions("x > 50", model.schema), seed=0)
