import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.knowledge.conditions import parse_conditions
from manikin.synthesizer import State
from manikin.synthesizers.table import _em as em
from manikin.synthesizers.table import _forest as forest
from manikin.synthesizers.table._classes import LatentClasses
from manikin.synthesizers.table._kinds import described
from manikin.synthesizers.table.mixture import (
    Mixture,
    anomaly,
    classes,
    log_density,
    membership_risk,
)

SIZES = (3, 2, 4, 2, 3)


def small(parent: tuple[int, ...], n_classes: int = 2, seed: int = 0) -> LatentClasses:
    """Any classes over five columns of 3, 2, 4, 2 and 3 codes, each a bin of its own."""
    rng = np.random.default_rng(seed)
    bins = tuple(np.arange(s) for s in SIZES)
    counts = tuple(rng.integers(5, 50, s) for s in SIZES)
    base = tuple(
        rng.dirichlet(np.ones(SIZES[j]), SIZES[i] if i >= 0 else 1) for j, i in enumerate(parent)
    )
    layout = em.Layout(bins, counts, (False,) * 5, (0,) * 5, parent, base)
    weight = rng.dirichlet(np.ones(n_classes))
    factors = rng.random((n_classes, sum(SIZES))) + 0.05
    people = np.ones((n_classes, 1 + sum(SIZES)))
    return LatentClasses(layout, weight, 100 * weight, factors, people, 0.0, 0.0, 1.0, 5.0)


def every_row() -> np.ndarray:
    return np.array(list(itertools.product(*(range(s) for s in SIZES))), np.int32)


def by_hand(joint: LatentClasses) -> np.ndarray:
    """p of every row, from the definition: Σ_k w_k Π_j p(x_j | x_parent, k)."""
    rows = every_row()
    total = np.zeros(len(rows))
    for k, weight in enumerate(joint.weight):
        term, at = np.full(len(rows), weight), 0
        for j, i in enumerate(joint.layout.parent):
            own = joint.factors[k, at : at + SIZES[j]]
            above = rows[:, i] if i >= 0 else np.zeros(len(rows), int)
            table = own * joint.layout.base[j] if i >= 0 else own[None]
            term *= (table / table.sum(axis=1, keepdims=True))[above, rows[:, j]]
            at += SIZES[j]
        total += term
    return total


FORESTS = [
    pytest.param((-1, -1, -1, -1, -1), id="product"),
    pytest.param((-1, 0, 1, 2, 3), id="chain"),
    pytest.param((2, 2, -1, 4, 2), id="star and chain"),
    pytest.param((-1, 0, 0, -1, 3), id="two trees"),
]


@pytest.mark.parametrize("parent", FORESTS)
def test_every_marginal_is_the_sum_of_brute_force(parent: tuple[int, ...]) -> None:
    joint, rows = small(parent), every_row()
    p = by_hand(joint)
    assert p.sum() == pytest.approx(1)
    for known in itertools.product((False, True), repeat=5):
        some = np.where(known, rows, -1).astype(np.int32)
        found = np.exp(joint.log_density(some))
        _, which = np.unique(some, axis=0, return_inverse=True)
        assert found == pytest.approx(np.bincount(which.ravel(), weights=p)[which.ravel()])


@pytest.mark.parametrize("parent", FORESTS)
@pytest.mark.parametrize("known", [(0,), (3,), (1, 4), (0, 2, 3), ()])
def test_completion_follows_the_exact_posterior(
    parent: tuple[int, ...], known: tuple[int, ...]
) -> None:
    joint, rows, n = small(parent), every_row(), 40_000
    row = np.array([1, 0, 2, 1, 2], np.int32)
    given = np.full((n, 5), -1, np.int32)
    given[:, known] = row[list(known)]
    allowed = {2: np.array([True, False, True, True]), 4: np.array([True, True, False])}
    allowed = {j: which for j, which in allowed.items() if j not in known}
    made = joint.complete(given, allowed, np.random.default_rng(1))
    assert (made[:, list(known)] == row[list(known)]).all()
    possible = (rows[:, list(known)] == row[list(known)]).all(axis=1)
    for j, which in allowed.items():
        assert which[made[:, j]].all()
        possible &= which[rows[:, j]]
    p = np.where(possible, by_hand(joint), 0)
    number = np.ravel_multi_index(tuple(made.T), SIZES)
    # the rows are in the order of their numbers; 4.5 standard errors of a share, and a little
    drawn = np.bincount(number, minlength=len(rows)) / n
    p /= p.sum()
    assert (np.abs(drawn - p) <= 4.5 * np.sqrt(p * (1 - p) / n) + 1e-4).all()


def test_what_is_known_may_differ_from_row_to_row() -> None:
    joint, rng = small((-1, 0, 1, 2, 3)), np.random.default_rng(3)
    rows = every_row()[rng.integers(0, 144, 500)]
    holes = np.where(rng.random(rows.shape) < 0.5, rows, -1).astype(np.int32)
    whole = joint.complete(holes, {}, rng)
    assert (whole >= 0).all() and ((whole == holes) | (holes < 0)).all()
    one_by_one = np.concatenate([joint.log_density(row[None]) for row in holes])
    assert joint.log_density(holes) == pytest.approx(one_by_one)


def test_nothing_possible_is_an_error() -> None:
    given = np.full((3, 5), -1, np.int32)
    with pytest.raises(ConditionError):
        small((-1,) * 5).complete(given, {0: np.zeros(3, bool)}, np.random.default_rng(0))


def test_codes_within_a_bin_follow_training() -> None:
    # codes 0 and 2 share bin 0 with 10 and 30 rows, code 1 is bin 1
    layout = em.Layout(
        (np.array([0, 1, 0]),), (np.array([10, 60, 30]),), (False,), (0,), (-1,), (np.ones((1, 2)),)
    )
    place = np.array([0.1, 0.249, 0.26, 0.9])
    found = layout.codes(0, np.zeros(4, int), place, None)
    assert found.tolist() == [0, 0, 2, 2]
    only = np.array([True, True, False])
    assert layout.codes(0, np.zeros(4, int), place, only).tolist() == [0, 0, 0, 0]
    assert layout.allowed(0, only) == pytest.approx([0.25, 1.0])
    assert layout.log_within(np.array([[2], [1], [-1]])) == pytest.approx([np.log(0.75), 0, 0])


def test_even_draws_are_even_in_every_group() -> None:
    groups = np.repeat([0, 3, 1], [4, 5, 1])
    drawn = em.even(groups, np.random.default_rng(0))
    assert sorted(np.floor(drawn[:4] * 4)) == [0, 1, 2, 3]
    assert sorted(np.floor(drawn[4:9] * 5)) == [0, 1, 2, 3, 4]


def kinds(n: int = 600, seed: int = 0) -> Table:
    """Two kinds of patient: the young and well, the old and ill; `twin` all but repeats `x`."""
    rng = np.random.default_rng(seed)
    ill = rng.random(n) < 0.3
    x = np.where(ill, rng.normal(3, 1, n), rng.normal(-1, 1, n))
    columns: dict[str, Any] = {
        "x": np.round(x, 2),
        "twin": np.round(x + rng.normal(0, 0.05, n), 2),
        "age": np.round(np.where(ill, rng.normal(75, 6, n), rng.normal(45, 6, n))),
        "drug": np.where(rng.random(n) < np.where(ill, 0.9, 0.1), 1, 0).astype(np.int32),
        "died": np.where(rng.random(n) < np.where(ill, 0.8, 0.05), 1, 0).astype(np.int32),
    }
    schema = TableSchema(
        (
            Column("x", "continuous", decimals=2),
            Column("twin", "continuous", decimals=2),
            Column("age", "integer"),
            Column("drug", "boolean", categories=("no", "yes")),
            Column("died", "boolean", categories=("no", "yes")),
        )
    )
    return Table(schema, np.arange(n), columns)


def test_classes_and_pairs_are_found() -> None:
    real = kinds()
    model = Mixture().fit(real, seed=1)
    joint = model.joint
    assert isinstance(joint, LatentClasses) and 2 <= joint.weight.size <= 16
    j, i = (model.encoding.names.index(name) for name in ("x", "twin"))
    assert joint.layout.parent[j] == i or joint.layout.parent[i] == j
    made = model.sample(4000, seed=2)
    assert np.corrcoef(made.columns["x"], made.columns["twin"])[0, 1] > 0.97
    for died in (0, 1):
        for name in ("age", "drug", "x"):
            a, b = (t.columns[name][t.columns["died"] == died].mean() for t in (real, made))
            assert a == pytest.approx(b, abs=0.15 * np.std(real.columns[name]))


def test_each_iteration_makes_the_rows_likelier() -> None:
    table = kinds()
    model = Mixture(classes=3, pairs=np.inf, smoothing=0.0).fit(table, seed=1)
    layout, codes = model.joint.layout, model.encoding.encode(table, seed=1)  # type: ignore[attr-defined]
    maximise = em.Maximiser.of(
        layout, 0.0, 0.0, 1e-9, 1e-9
    )  # no smoothing: plain maximum likelihood
    x, rng = layout.indicator(codes), np.random.default_rng(0)
    fit, scores = em.start(codes, layout, 3, maximise, rng), []
    for _ in range(12):
        counts, size, score = em.expected(x, fit)
        scores.append(score)
        fit = maximise(counts, size, fit, score)
    assert (np.diff(scores) > -1e-5).all() and scores[-1] - scores[0] > 0.01


def test_a_class_of_few_rows_is_dissolved() -> None:
    joint = Mixture(classes=40, least=30).fit(kinds(), seed=1).joint
    assert isinstance(joint, LatentClasses)
    assert joint.size.min() >= 25 and joint.weight.size <= 20


def test_density_of_part_given_part() -> None:
    real = kinds()
    model = Mixture().fit(real, seed=1)
    both = log_density(model, real)
    given = log_density(model, real, ["drug", "age"])
    alone = replace(
        real,
        schema=TableSchema(tuple(c for c in real.schema if c.name in ("drug", "age"))),
        columns={name: real.columns[name] for name in ("drug", "age")},
    )
    assert both - given == pytest.approx(log_density(model, alone))
    with pytest.raises(InputError):
        log_density(model, alone, ["x"])


def test_odd_rows_stand_out() -> None:
    real = kinds()
    model = Mixture().fit(real, seed=1)
    odd = kinds(2)
    odd.columns["age"][:] = 40, 76  # type: ignore[index]
    odd.columns["drug"][:] = 1, 1  # type: ignore[index]
    odd.columns["x"][:] = 4.0, 3.0  # type: ignore[index]
    odd.columns["twin"][:] = -2.0, 3.0  # type: ignore[index]
    odd.columns["died"][:] = 0, 1  # type: ignore[index]
    found = anomaly(model, odd)
    assert found[0] > 0.995 and found[1] < 0.9
    fresh = anomaly(model, kinds(1000, seed=9))
    assert fresh.mean() == pytest.approx(0.5, abs=0.08)


def test_rows_that_are_alone_are_more_exposed() -> None:
    real = kinds()
    for name in real.columns:
        real.columns[name][:100] = real.columns[name][0]  # type: ignore[index]
    model = Mixture().fit(real, seed=1)
    risk = membership_risk(model, real)
    assert risk[:100].max() < np.quantile(risk[100:], 0.1)
    assert risk.min() > -0.05
    with pytest.raises(InputError):
        membership_risk(model, replace(real, columns={"x": real.columns["x"]},
                                       schema=TableSchema((real.schema["x"],))))  # fmt: skip


def test_risk_is_the_fall_when_counts_lose_the_row() -> None:
    # one class, one column of codes held by 3 and 7 rows, a prior of one row: .5 rows more a
    # code over ten rows makes everybody's shares 3.25/10.5 and 7.25/10.5
    layout = em.Layout(
        (np.arange(2),), (np.array([3, 7]),), (False,), (0,), (-1,), (np.ones((1, 2)),)
    )
    layout = replace(layout, base=layout.margins)
    m = 3.25 / 10.5
    # 0.5 / 2 rows are added to each code: (3 + .25) / (10 + .5)
    with_it, without = (3 + m) / 11, (2 + m) / 10
    factors = np.array([[with_it, 1 - with_it]])
    joint = LatentClasses(
        layout, np.ones(1), np.array([10.0]), factors, np.ones((1, 3)), 0, 0, 1, 1
    )
    fall = joint.without(np.array([[0]], np.int32))
    assert fall[0] == pytest.approx(np.log(with_it / without))


def test_survival_comes_out_jointly() -> None:
    rng = np.random.default_rng(4)
    n = 500
    arm = rng.integers(0, 2, n).astype(np.int32)
    dies = rng.exponential(np.where(arm == 1, 30.0, 8.0))
    ends = rng.uniform(5, 25, n)
    schema = TableSchema(
        (
            Column("arm", "categorical", categories=("a", "b")),
            Column("months", "continuous", decimals=1, roles=("time",)),
            Column("dead", "boolean", categories=("no", "yes"), roles=("event",)),
        )
    )
    columns = {
        "arm": arm,
        "months": np.round(np.minimum(dies, ends), 1),
        "dead": (dies <= ends).astype(np.int32),
    }
    real = Table(schema, np.arange(n), columns)
    made = Mixture().fit(real, seed=0).sample(5000, seed=0)
    for a in (0, 1):
        rate = [
            t.columns["dead"][t.columns["arm"] == a].sum()
            / t.columns["months"][t.columns["arm"] == a].sum()
            for t in (real, made)
        ]
        assert rate[1] == pytest.approx(rate[0], rel=0.25)


def test_a_condition_changes_what_depends_on_it() -> None:
    real = kinds()
    made = (
        Mixture()
        .fit(real, seed=1)
        .sample_where(500, parse_conditions("died=yes, x > 2", real.schema), seed=1)
    )
    assert (made.columns["x"] > 2).all() and (made.columns["died"] == 1).all()
    assert np.mean(made.columns["age"]) > 68


def damaged(state: State, name: str, array: Any) -> State:
    return State({**state.arrays, f"joint/{name}": array}, state.values)


def test_a_damaged_file_is_refused() -> None:
    real = kinds(200)
    recipe = Mixture(classes=3, least=5)
    model = recipe.fit(real, seed=1)
    state = model.state()
    a = {k.removeprefix("joint/"): v for k, v in state.arrays.items() if k.startswith("joint/")}
    parent = a["parent"]
    assert (parent >= 0).any()
    child = int(np.flatnonzero(parent >= 0)[0])
    cycle = parent.copy()
    cycle[int(parent[child])] = child
    cycle[child] = parent[child]
    wrong = {
        "weight": [a["weight"][:-1], a["weight"] * 2, -a["weight"], a["weight"] * np.nan],
        "factors": [a["factors"][:, :-1], a["factors"] * 0, a["factors"] * np.inf],
        "size": [a["size"][:-1], -a["size"]],
        "people": [a["people"][:, 1:], a["people"] * np.nan],
        "parent": [parent[:-1], parent + 99, cycle, np.full(parent.size, -2)],
        f"base/{child}": [a[f"base/{child}"][:-1], a[f"base/{child}"] * 3, np.zeros(0)],
        "bins/0": [a["bins/0"][:-1], a["bins/0"] - 1, a["bins/0"] + 5, a["bins/0"].astype(float)],
    }
    for name, arrays in wrong.items():
        for array in arrays:
            with pytest.raises(InputError):
                recipe.restore(real.schema, damaged(state, name, array))
    recipe.restore(real.schema, state)


@pytest.mark.parametrize(
    "settings", [{"bins": 1}, {"classes": -1}, {"most": 0}, {"prior": 0.0}, {"prior": -1.0}]
)
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Mixture(**settings).fit(kinds(50), seed=1)


def test_the_heaviest_forest_wins() -> None:
    # 0-1 and 1-2 are worth more than 0-2; 3 has nothing above the least
    gain = np.zeros((4, 4))
    for i, j, worth in ((0, 1, 0.5), (1, 2, 0.4), (0, 2, 0.3), (2, 3, 0.01)):
        gain[i, j] = gain[j, i] = worth
    assert forest.spanning(gain, 0.02) == (1, -1, 1, -1)


# ------------------------------------------------------------------ classes in words


def test_classes_can_be_read() -> None:
    well, ill = classes(Mixture(classes=2).fit(kinds(), seed=1))
    assert well.share == pytest.approx(0.7, abs=0.06)
    assert well.share + ill.share == pytest.approx(1)
    told = {f.column: f for f in ill.features}
    assert told["died"].values == "= yes" and told["drug"].values == "= yes"
    assert told["died"].share == pytest.approx(0.8, abs=0.08)
    assert told["died"].everybody == pytest.approx(0.05 * 0.7 + 0.8 * 0.3, abs=0.05)
    # the fifth of everybody who are oldest lie above about 70
    assert told["age"].values.startswith(">= ") and float(told["age"].values[3:]) > 60
    assert "  died = yes: " in str(ill) and str(ill).startswith("2")


def one_column(people: list[list[float]]) -> tuple[Any, LatentClasses]:
    """A column of levels a, b and c; the first number of a class are its subjects."""
    total = int(sum(row[0] for row in people))
    counts = np.rint(np.sum(people, axis=0)[1:]).astype(int)
    schema = TableSchema((Column("level", "categorical", categories=("a", "b", "c")),))
    table = Table(schema, np.arange(total), {"level": np.repeat(np.arange(3), counts).astype("i4")})
    model = Mixture(classes=1, k=2).fit(table, seed=0)
    joint = model.joint
    assert isinstance(joint, LatentClasses)
    return model.encoding, replace(joint, people=np.array(people))


def test_nothing_is_told_of_fewer_than_eleven() -> None:
    # a class of 10 is not told; in the class of 40, level b has 12 and c 10 of 40 subjects
    encoding, joint = one_column([[100, 98, 1, 1], [40, 18, 12, 10], [10, 0, 0, 10]])
    first, second = described(encoding, joint)
    assert first.share == pytest.approx(100 / 150) and second.share == pytest.approx(40 / 150)
    assert [f.values for f in second.features] == ["= b"]
    assert second.features[0].share == pytest.approx(12 / 40)
    # 98 of 100 would tell that two have another level: at most 89 of 100 is said
    assert [f.values for f in first.features] == ["= a"] or not first.features
    assert all(f.share <= 0.89 for f in first.features)


def test_a_class_of_one_level_is_told_whole() -> None:
    encoding, joint = one_column([[60, 60, 0, 0], [60, 0, 30, 30]])
    first, _ = described(encoding, joint)
    assert [(f.values, f.share, f.everybody) for f in first.features] == [("= a", 1.0, 0.5)]


def test_another_model_is_not_read() -> None:
    from manikin.synthesizers.table.marginals import Marginals

    model = Marginals().fit(kinds(60), seed=1)
    for read in (classes, lambda m: anomaly(m, kinds(60)), lambda m: log_density(m, kinds(60))):
        with pytest.raises(InputError):
            read(model)
