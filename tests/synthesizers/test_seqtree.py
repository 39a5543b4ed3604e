"""Known answers for sequential conditional trees."""

import json

import numpy as np
import polars as pl
import pytest

from manikin.data.rules import Condition
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, PrivacyError
from manikin.knowledge.conditions import parse_conditions
from manikin.privacy.budget import Budget
from manikin.synthesizer import State
from manikin.synthesizers.table._line import Line
from manikin.synthesizers.table._stage import stratified
from manikin.synthesizers.table._trees import grow
from manikin.synthesizers.table.seqtree import SeqTree

YES_NO = ("no", "yes")


def table(columns: list[Column], subjects: np.ndarray | None = None, **values: np.ndarray) -> Table:
    n = len(next(iter(values.values())))
    return Table(
        TableSchema(tuple(columns)), np.arange(n) if subjects is None else subjects, values
    )


def cohort(n: int = 1500, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    sex = rng.integers(0, 2, n).astype(np.int32)
    age = np.round(rng.normal(60, 12, n))
    weight = np.round(50 + 15 * sex + 0.2 * age + rng.normal(0, 6, n), 1)
    dead = (rng.random(n) < 1 / (1 + np.exp(-(age - 70) / 6))).astype(np.int32)
    return table(
        [
            Column("sex", "boolean", categories=("F", "M")),
            Column("age", "integer"),
            Column("weight", "continuous", decimals=1),
            Column("dead", "boolean", categories=YES_NO, roles=("target",)),
        ],
        sex=sex, age=age, weight=weight, dead=dead,
    )  # fmt: skip


def test_exclusive_or_is_reproduced() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 1000)).astype(np.int32)
    kinds = [Column(name, "boolean", categories=YES_NO) for name in ("a", "b", "c")]
    made = SeqTree().fit(table(kinds, a=a, b=b, c=a ^ b), seed=1).sample(1000, seed=2)
    assert np.array_equal(made.columns["c"], made.columns["a"] ^ made.columns["b"])
    assert abs(made.columns["a"].mean() - a.mean()) < 0.01  # draws are spread evenly


def test_noise_is_not_followed() -> None:
    rng = np.random.default_rng(0)
    view = rng.integers(0, 50, (2000, 10)).astype(np.float32)
    settings = {
        "min_leaf": 20, "evidence": 12.0, "pooling": 0.5, "max_features": None, "seed": 1,
    }  # fmt: skip
    noise = rng.integers(0, 2, 2000)
    followed = grow(view, noise, classify=True, **(settings | {"evidence": -99.0})).n_nodes
    assert grow(view, noise, classify=True, **settings).n_nodes < 0.4 * followed
    told = (view[:, 3] > 25).astype(int)
    assert grow(view, told, classify=True, **settings).n_nodes == 3


def test_stratified_numbers_fill_each_group_evenly() -> None:
    group = np.array([0, 1, 0, 1, 0, 0, 1])
    u = stratified(group, np.random.default_rng(0))
    for g, n in ((0, 4), (1, 3)):
        assert np.array_equal(np.sort((u[group == g] * n).astype(int)), np.arange(n))


def test_dependence_of_numbers_is_kept() -> None:
    real = cohort()
    made = SeqTree().fit(real, seed=1).sample(1500, seed=2)
    for one, other in (("age", "weight"), ("age", "dead"), ("sex", "weight")):
        r, s = (np.corrcoef(t.numbers(one), t.numbers(other))[0, 1] for t in (real, made))
        assert abs(r - s) < 0.08, (one, other)


def test_a_close_pair_is_carried_by_a_line() -> None:
    rng = np.random.default_rng(0)
    radius = np.round(rng.lognormal(2, 0.3, 300), 3)
    perimeter = np.round(6.3 * radius + rng.normal(0, 0.5, 300), 3)
    kinds = [Column(name, "continuous", decimals=3) for name in ("radius", "perimeter")]
    model = SeqTree().fit(table(kinds, radius=radius, perimeter=perimeter), seed=1)
    assert any(isinstance(stage, Line) for stage in model.stages)
    made = model.sample(300, seed=2)
    assert np.corrcoef(made.columns["radius"], made.columns["perimeter"])[0, 1] > 0.95


def test_rows_of_few_values_are_met_hardly_more_often_than_by_chance() -> None:
    real, fresh = cohort(seed=0), cohort(seed=9)
    made = SeqTree().fit(real, seed=1).sample(1500, seed=2)

    def rows(t: Table) -> set[tuple[float, ...]]:
        names = ("sex", "age", "weight", "dead")
        return set(zip(*(t.numbers(name) for name in names), strict=True))

    chance = len(rows(fresh) & rows(real))
    # in few columns of few values, sharing the frequencies alone makes half as many again
    assert len(rows(made) & rows(real)) <= 2 * chance


def test_no_row_of_a_wide_table_is_copied() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 2))
    x = np.round(10 + z @ rng.normal(size=(2, 8)) + 0.3 * rng.normal(size=(400, 8)), 1)
    kinds = [Column(f"x{j}", "continuous", decimals=1) for j in range(8)]
    real = table(kinds, **{f"x{j}": x[:, j] for j in range(8)})
    made = SeqTree().fit(real, seed=1).sample(2000, seed=2)
    copied = np.stack([made.columns[f"x{j}"] for j in range(8)], axis=1)
    assert not {tuple(row) for row in copied} & {tuple(row) for row in x}


def test_a_date_never_precedes_the_one_it_follows() -> None:
    rng = np.random.default_rng(0)
    came = np.datetime64("2021-01-01", "us") + rng.integers(0, 700, 400) * np.timedelta64(1, "D")
    left = came + rng.integers(0, 30, 400) * np.timedelta64(1, "D")
    kinds = [Column("came", "datetime"), Column("left", "datetime")]
    real = table(kinds, came=came.astype("datetime64[us]"), left=left.astype("datetime64[us]"))
    made = SeqTree().fit(real, seed=1).sample(500, seed=2)
    assert (made.columns["left"] >= made.columns["came"]).all()


@pytest.mark.parametrize(
    "where",
    [
        (Condition("sex", "=", ("F",)), Condition("age", ">=", (75.0,))),
        (Condition("weight", "<", (55.0,)),),
        (Condition("dead", "!=", ("no",)), Condition("age", "<", (55.0,))),
    ],
)
def test_conditions_hold_and_the_rest_follows(where: tuple[Condition, ...]) -> None:
    from manikin.knowledge.conditions import all_hold

    real = cohort(6000)
    made = SeqTree().fit(real, seed=1).sample_where(300, where, seed=2)
    assert made.n_subjects == 300 and all_hold(where, made).all()
    like = real.rows(all_hold(where, real))
    gap = abs(made.numbers("age").mean() - like.numbers("age").mean())
    assert gap < 5 * like.numbers("age").std() / min(like.n_rows, 300) ** 0.5


def test_an_unreachable_condition_says_so_without_data() -> None:
    model = SeqTree().fit(cohort(), seed=1)
    with pytest.raises(ConditionError, match="age > 500"):
        model.sample_where(5, (Condition("age", ">", (500.0,)),), seed=1)


def test_given_columns_late_in_the_order_shift_the_early_ones() -> None:
    real = cohort(4000)
    model = SeqTree().fit(real, seed=1)  # dead comes first, weight last
    kinds = TableSchema((real.schema["age"],))
    shares = []
    for age in (45.0, 85.0):
        given = Table(kinds, np.arange(400), {"age": np.full(400, age)})
        made = model.sample_given(given, seed=1)
        assert (made.columns["age"] == age).all()
        shares.append(made.columns["dead"].mean())
    assert shares[0] < 0.15 and shares[1] > 0.75


def test_rows_of_a_subject_hang_together() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 6, 400)
    subjects = np.repeat(np.arange(400), rows)
    sex = rng.integers(0, 2, 400).astype(np.int32)[subjects]
    level = rng.normal(100, 15, 400)[subjects]
    pulse = np.round(level + rng.normal(0, 3, subjects.size))
    kinds = [Column("sex", "boolean", categories=("F", "M")), Column("pulse", "integer")]
    made = SeqTree().fit(table(kinds, subjects, sex=sex, pulse=pulse), seed=1).sample(400, seed=2)
    count = np.bincount(made.subjects)
    assert count.min() == 1 and count.max() == 5 and abs(count.mean() - rows.mean()) < 0.2
    first = np.flatnonzero(np.diff(made.subjects, prepend=-1))
    assert np.array_equal(made.columns["sex"], made.columns["sex"][first][made.subjects])
    later = np.flatnonzero(np.diff(made.subjects, prepend=-1) == 0)
    now, before = made.columns["pulse"][later], made.columns["pulse"][later - 1]
    assert np.corrcoef(now, before)[0, 1] > 0.8


def test_restored_model_draws_the_same_bytes() -> None:
    for recipe in (SeqTree(), SeqTree(trees=3, honest=True)):
        model = recipe.fit(cohort(600), seed=1)
        state = model.state()
        values = json.loads(json.dumps(state.values))
        again = recipe.restore(model.schema, State(state.arrays, values))
        one, two = model.sample(200, seed=3), again.sample(200, seed=3)
        assert all(one.columns[n].tobytes() == two.columns[n].tobytes() for n in one.columns)


def test_budget_is_refused() -> None:
    with pytest.raises(PrivacyError):
        SeqTree().fit(cohort(50), seed=1, budget=Budget(1.0))


def test_many_more_columns_than_rows() -> None:
    rng = np.random.default_rng(0)
    kinds = [Column(f"x{j}", "continuous", decimals=2) for j in range(120)]
    values = {f"x{j}": np.round(rng.normal(size=100), 2) for j in range(120)}
    model = SeqTree().fit(table(kinds, **values), seed=1)
    assert max(stage.predictors.size for stage in model.stages) <= 24
    assert model.sample(50, seed=1).n_rows == 50


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_tiny_and_degenerate_tables(n: int) -> None:
    kinds = [Column("x", "continuous"), Column("none", "integer"),
             Column("one", "categorical", categories=("a",))]  # fmt: skip
    x = np.arange(n, dtype=float)
    real = table(kinds, x=x, none=np.full(n, np.nan), one=np.zeros(n, np.int32))
    made = SeqTree().fit(real, seed=1).sample(20, seed=1)
    assert made.n_rows == 20 and not made.present("none").any()


def test_what_never_occurs_together_is_not_made() -> None:
    rng = np.random.default_rng(0)
    n = 600
    sex = rng.integers(0, 2, n)
    age = rng.integers(18, 90, n)
    pregnant = (sex == 0) & (age < 45) & (rng.random(n) < 0.4)
    frame = pl.DataFrame(
        {
            "age": age,
            "parity": rng.integers(0, 4, n),
            "sex": np.where(sex == 0, "F", "M"),
            "pregnant": np.where(pregnant, "yes", "no"),
        }
    )
    model = SeqTree(leaf=400).fit(Table.from_frame(frame), seed=0)  # leaves mix the sexes
    made = model.sample(3000, seed=1).to_polars()
    assert made.filter(pl.col("pregnant") == "yes").height > 50
    assert made.filter((pl.col("pregnant") == "yes") & (pl.col("sex") == "M")).height == 0
    where = parse_conditions("pregnant=yes", model.schema)
    assert set(model.sample_where(200, where, seed=2).to_polars()["sex"]) == {"F"}
    restored = SeqTree(leaf=400).restore(model.schema, model.state())
    assert restored.sample(200, seed=3).to_polars().equals(model.sample(200, seed=3).to_polars())
