import dataclasses
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.ensemble import HistGradientBoostingClassifier

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.knowledge.conditions import parse_conditions
from manikin.synthesizer import State
from manikin.synthesizers.table._boosting import BINS, Booster, Growth, grow, none
from manikin.synthesizers.table._cloud import Cloud
from manikin.synthesizers.table._foresight import binned, check_line, cuts, fit_line, place
from manikin.synthesizers.table._halving import Halving, even
from manikin.synthesizers.table.boosted import Boosted
from manikin.synthesizers.table.boosted import Column as Factor


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ------------------------------------------------------------------ halving


def test_missing_marks_stand_apart_and_values_are_halved_by_rows() -> None:
    # rows: mark 5; values 10, 1, 1, 8 → {mark | values}, {10 | 1 1 8}, {1 1 | 8}, {1 | 1}
    halving = Halving.fit(np.array([5, 10, 1, 1, 8]), tokens=1, order=np.arange(5))
    assert halving.children.tolist() == [[~0, 1], [~1, 2], [3, ~4], [~2, ~3]]
    assert halving.steps.tolist() == [
        [0, -1, -1, -1], [0, 1, -1, -1], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, -1],
    ]  # fmt: skip
    assert halving.rows(np.array([5, 10, 1, 1, 8])).tolist() == [[5, 20], [10, 10], [2, 8], [1, 1]]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=40), st.integers(0, 3), st.randoms())
@settings(max_examples=60, deadline=None)
def test_without_trees_every_code_has_its_frequency(
    counts: list[int], tokens: int, shuffle: Any
) -> None:
    order = list(range(len(counts)))
    shuffle.shuffle(order)
    held = np.array(counts)
    halving = Halving.fit(held, tokens=min(tokens, held.size - 1), order=np.array(order))
    factor = Factor(0, np.zeros(0, np.int64), halving, held, np.zeros(0), np.zeros((0, BINS)), ())
    seen = np.zeros((held.size, 1), np.uint8)
    p = np.exp(factor.likelihood(seen, np.arange(held.size)))
    assert p.sum() == pytest.approx(1.0)
    if held.sum() > 100:  # each side of each step is shrunk by half a row
        assert p == pytest.approx(held / held.sum(), abs=0.5 * halving.n_levels / held.sum() + 0.01)


@pytest.mark.parametrize(
    "children",
    [
        [[0, ~0], [~1, ~2]],  # its own child
        [[1, ~0], [~1, ~1]],  # a code twice
        [[~0, ~1]],  # a code too few
        [[1, 1], [~0, ~1]],  # a node twice
        [[~0, ~1], [~2, 0]],  # the root below another
        [[1, ~0], [~1, ~7]],  # a code that there is not
    ],
)
def test_what_is_no_tree_of_codes_is_refused(children: list[list[int]]) -> None:
    with pytest.raises(ValueError):
        Halving(np.array(children, np.int64), 3)


def test_a_tree_of_codes_deeper_than_any_table_is_refused() -> None:
    chain = [[~i, i + 1] for i in range(99)] + [[~99, ~100]]
    with pytest.raises(ValueError, match="deep"):
        Halving(np.array(chain, np.int64), 101)


@given(st.integers(1, 300), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_even_draws_are_as_many_as_are_due_at_any_chance(n: int, seed: int) -> None:
    chance, group = rng(seed).random(n), rng(seed + 1).integers(0, 3, n)
    drawn = even(chance, group, rng(seed + 2))
    for g in range(3):
        rows = np.flatnonzero(group == g)
        rows = rows[np.argsort(chance[rows], kind="stable")]
        gap = np.cumsum(drawn[rows] - chance[rows])
        assert (np.ptp(np.append(gap, 0.0)) < 2).all()
    certain = even(np.array([0.0, 1.0, 1.0, 0.0]), np.zeros(4, np.int64), rng(seed))
    assert certain.tolist() == [False, True, True, False]


# ------------------------------------------------------------------ boosting


def rows_of_bins(n: int = 3000) -> tuple[Any, Any]:
    seen = np.stack([rng(1).integers(0, 60, n), rng(2).integers(0, 9, n)], axis=1).astype(np.uint8)
    odds = np.where(np.isin(seen[:, 1], [0, 3, 8]), 1.5, -0.5) * np.where(seen[:, 0] > 29, 1, -1)
    return seen, rng(3).random(n) < 1 / (1 + np.exp(-odds))


def test_trees_are_those_of_scikit_learn_bin_by_bin() -> None:
    seen, target = rows_of_bins()
    start = np.full(len(seen), np.log(target.mean() / (1 - target.mean())))
    nominal = np.array([False, True])
    growth = Growth(rounds=12, rate=0.2, leaf=15, penalty=2.0, patience=99)
    held = rng(4).random(len(seen)) < 0.2
    booster = grow(seen, target, start, held, nominal, growth, rng(5))
    oracle = HistGradientBoostingClassifier(
        learning_rate=0.2, max_iter=booster.n_trees, max_leaf_nodes=8, min_samples_leaf=15,
        l2_regularization=2.0, categorical_features=[1], early_stopping=False,
    ).fit(seen, target)  # fmt: skip
    assert booster.n_trees >= 8
    # scikit-learn cuts 60 values between two of them, as bins do
    found = start + booster.scores(seen)
    assert found == pytest.approx(oracle.decision_function(seen), abs=1e-4)
    fresh = np.array([[i, c] for i in range(60) for c in range(9)], np.uint8)
    assert start[0] + booster.scores(fresh) == pytest.approx(
        oracle.decision_function(fresh), abs=1e-4
    )


def test_noise_grows_next_to_nothing() -> None:
    seen = rng(1).integers(0, 60, (2000, 6)).astype(np.uint8)
    target, held = rng(2).random(2000) < 0.3, rng(3).random(2000) < 0.2
    growth = Growth(rounds=200, rate=0.1, leaf=20, penalty=1.0, patience=5)
    start = np.full(2000, np.log(0.3 / 0.7))
    booster = grow(seen, target, start, held, np.zeros(6, bool), growth, rng(4))
    assert booster.n_trees <= 3
    assert np.abs(booster.scores(seen)).max(initial=0) < 0.3


def test_fewer_rows_than_two_leaves_grow_nothing() -> None:
    seen, target = rows_of_bins(45)
    growth = Growth(rounds=20, rate=0.1, leaf=20, penalty=1.0, patience=5)
    held = np.arange(45) < 9  # 36 rows are left, two leaves need 40
    args = (np.zeros(45), held, np.zeros(2, bool), growth, rng(4))
    assert grow(seen, target, *args).n_trees == 0
    assert none().scores(seen).tolist() == [0.0] * 45


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("feature", lambda a: a + 5),
        ("feature", lambda a: a - 9),
        ("feature", lambda a: a.astype(float)),
        ("tree", lambda a: a + 10**6),
        ("right", lambda a: a[:, :3]),
        ("keeps", lambda a: a[:-1]),
        ("keeps", lambda a: a.astype(np.int64)),
        ("values", lambda a: a * np.float32(np.nan)),
        ("values", lambda a: a + np.float32(1e30)),
        ("values", lambda a: a[:, :4]),
    ],
)
def test_arrays_that_are_no_trees_are_refused(name: str, wrong: Any) -> None:
    seen, target = rows_of_bins(500)
    growth = Growth(rounds=20, rate=0.3, leaf=20, penalty=1.0, patience=5)
    held = rng(4).random(500) < 0.2
    booster = grow(seen, target, np.zeros(500), held, np.zeros(2, bool), growth, rng(5))
    assert booster.n_trees
    whole = booster.arrays()
    assert np.array_equal(Booster.restore(whole, 2).scores(seen), booster.scores(seen))
    with pytest.raises(ValueError):
        Booster.restore(whole | {name: wrong(whole[name])}, 2)


def test_any_bits_in_a_file_lead_to_some_leaf() -> None:
    r = rng(6)
    booster = Booster(
        r.integers(0, 3, 50), r.integers(0, 4, 50),
        r.integers(0, 256, (50, BINS // 8)).astype(np.uint8),
        r.integers(0, 256, 50).astype(np.uint8), r.normal(size=(4, 8)).astype(np.float32),
    )  # fmt: skip
    scores = Booster.restore(booster.arrays(), 3).scores(r.integers(0, BINS, (99, 3)).astype("u1"))
    assert np.isfinite(scores).all()


# ------------------------------------------------------------------ lines


def test_places_are_those_of_lines_that_did_not_see_the_row() -> None:
    x, y = rng(1).normal(size=(30, 2)), rng(2).normal(size=30)
    line, left_out = fit_line(x, y)
    for row in (0, 7, 29):
        others = np.arange(30) != row
        again, _ = fit_line(x[others], y[others])
        assert left_out[row] == pytest.approx(place(again, x[[row]])[0], abs=1e-9)
    assert line.shape == (4,) and line[-1] == pytest.approx((y - left_out).std())


def test_cuts_lie_between_the_two_sides() -> None:
    # four codes of 25 rows: mid-ranks 1/8, 3/8, 5/8, 7/8; the median, then the quartiles
    counts = np.full(4, 25)
    halving = Halving.fit(counts, tokens=0, order=np.arange(4))
    found = cuts(counts, halving.sides, halving.steps, 3)
    low, high = 0.5 * (1.150349 + 0.318639), 0.0  # normal quantiles of 7/8 and 5/8
    assert found == pytest.approx([high, -low, low], abs=1e-5)


def test_far_above_a_cut_is_the_last_bin_and_far_below_the_first() -> None:
    line = np.array([0.0, 1.0, 0.5])
    bins = binned(line, np.array([-99.0, 0.0, 0.5, 99.0]), np.zeros(4))
    assert bins.tolist() == [0, BINS // 2, BINS // 2 + 16, BINS - 2]


@pytest.mark.parametrize(
    ("line", "scores"),
    [
        (np.zeros(3), np.zeros((1, BINS))),  # no spread
        (np.full(3, np.nan), np.zeros((1, BINS))),
        (np.ones(9), np.zeros((1, BINS))),
        (np.ones(3), np.zeros((1, 5))),
        (np.ones(3), np.full((1, BINS), np.inf)),
        (np.ones(3, np.float32), np.zeros((1, BINS))),
    ],
)
def test_what_is_no_line_is_refused(line: Any, scores: Any) -> None:
    check_line(np.zeros(0), np.zeros((1, BINS)), 1)
    check_line(np.ones(3), np.zeros((1, BINS)), 1)
    with pytest.raises(ValueError):
        check_line(line, scores, 1)


def test_close_numbers_stay_close() -> None:
    n = 300
    x = rng(1).normal(100, 15, n)
    columns = {"x": np.round(x, 2), "y": np.round(3 * x + rng(2).normal(0, 4, n), 2)}
    schema = TableSchema(tuple(Column(name, "continuous", decimals=2) for name in columns))
    made = Boosted().fit(Table(schema, np.arange(n), columns), seed=1).sample(3000, seed=1)
    found = np.corrcoef(made.columns["x"], made.columns["y"])[0, 1]
    assert found > 0.95  # 0.996 in the rows: 300 of them are few for steps this fine


# ------------------------------------------------------------------ candidates


def test_candidates_come_back_by_weight() -> None:
    # a row of four candidates of weights 0, 1, 0, 3: two draws, systematic: 1 and 3, or 3 and 3
    weight = np.log(np.array([1e-300, 1.0, 1e-300, 3.0]))
    cloud = Cloud.of(1, 4)
    stream = rng()
    taken = np.concatenate([cloud.choose(weight, 2, stream) for _ in range(2000)])
    assert set(taken.tolist()) == {1, 3}
    assert (taken == 3).mean() == pytest.approx(0.75, abs=0.03)


def test_candidates_are_renewed_only_where_few_count() -> None:
    weight = np.log(np.array([1.0, 1, 1, 1, 1e-9, 1e-9, 1, 1e-9]))
    cloud = Cloud.of(2, 4)
    again, left = cloud.renew(weight, rng())
    assert again.tolist() == [0, 1, 2, 3, 6, 6, 6, 6] and left.tolist() == [0.0] * 8
    assert cloud.effective == pytest.approx([4, 1])
    assert cloud.evidence == pytest.approx([0, np.log(0.25)])


# ------------------------------------------------------------------ the model


def crossed(n: int = 4000) -> Table:
    """A third column that is the other two's exclusive or, nine times in ten; a number by it."""
    r = rng(7)
    a, b = r.integers(0, 2, n), r.integers(0, 2, n)
    c = np.where(r.random(n) < 0.9, a ^ b, 1 - (a ^ b))
    x = np.where(c == 1, 50, 20) + np.round(r.normal(0, 5, n), 1)
    kinds = [Column(name, "categorical", categories=("no", "yes")) for name in "abc"]
    schema = TableSchema((*kinds, Column("x", "continuous", decimals=1)))
    columns: dict[str, Any] = {"a": a, "b": b, "c": c}
    columns = {name: values.astype(np.int32) for name, values in columns.items()}
    columns["x"] = np.where(r.random(n) < 0.2 * (1 + b), np.nan, x)
    return Table(schema, np.arange(n), columns)


@pytest.fixture(scope="module")
def model() -> Any:
    return Boosted(first=("c",)).fit(crossed(), seed=1)


def test_what_only_two_columns_together_tell_is_kept(model: Any) -> None:
    made = model.sample(8000, seed=1).columns
    both = made["a"] ^ made["b"]
    assert (both == made["c"]).mean() == pytest.approx(0.9, abs=0.03)
    assert np.isnan(made["x"][made["b"] == 0]).mean() == pytest.approx(0.2, abs=0.03)
    assert np.isnan(made["x"][made["b"] == 1]).mean() == pytest.approx(0.4, abs=0.03)
    for c, centre in ((0, 20), (1, 50)):
        values = made["x"][made["c"] == c]
        assert np.nanmean(values) == pytest.approx(centre, abs=1)
        assert np.nanstd(values) == pytest.approx(5, abs=1)


def test_columns_that_come_late_are_met_by_their_posterior(model: Any) -> None:
    # given a, b and nothing else: c = a xor b nine times in ten, though c is drawn first
    schema = TableSchema(tuple(crossed(3).schema)[:2])
    n = 2000
    columns = {"a": np.arange(n) % 2, "b": np.arange(n) // 2 % 2}
    columns = {name: values.astype(np.int32) for name, values in columns.items()}
    made = model.sample_given(Table(schema, np.arange(n), columns), seed=1)
    share = (made.columns["c"] == (columns["a"] ^ columns["b"])).mean()
    assert share == pytest.approx(0.9, abs=0.03)


def test_conditions_reach_columns_before_them(model: Any) -> None:
    made = model.sample_where(2000, parse_conditions("x > 40", model.schema), seed=1)
    assert (made.columns["x"] > 40).all()
    assert (made.columns["c"] == 1).mean() > 0.98
    both = made.columns["a"] ^ made.columns["b"]
    assert (both == made.columns["c"]).mean() == pytest.approx(0.9, abs=0.04)


def test_a_condition_that_the_model_only_guesses_is_refused() -> None:
    n = 4000
    x = rng(1).integers(0, 40, n).astype(float)
    columns = {name: x + 100 * i + rng(i).integers(0, 2, n) for i, name in enumerate("xyz")}
    schema = TableSchema(tuple(Column(name, "integer") for name in columns))
    fitted = Boosted(rounds=400).fit(Table(schema, np.arange(n), columns), seed=1)
    assert fitted.sample_where(50, parse_conditions("x = 9, y = 109", schema), seed=1).n_rows == 50
    with pytest.raises(ConditionError, match="too rare"):
        fitted.sample_where(50, parse_conditions("x < 4, y > 135, z < 204", schema), seed=1)


def test_the_outcome_leads_and_what_is_asked_for_before_it() -> None:
    table = crossed(300)
    schema = table.schema.replace(dataclasses.replace(table.schema["x"], roles=("target",)))
    fitted = Boosted(first=("b",)).fit(Table(schema, table.subjects, table.columns), seed=1)
    assert [column.target for column in fitted.joint.columns][:2] == [1, 3]


def test_fitting_is_capped_and_frequencies_are_not() -> None:
    fitted = Boosted(max_rows=400).fit(crossed(3000), seed=1)
    assert all(column.counts.sum() == 3000 for column in fitted.joint.columns)
    assert fitted.sample(20, seed=1).n_rows == 20


def test_held_out_rows_are_whole_subjects() -> None:
    table = crossed(900)
    subjects = np.repeat(np.arange(90), 10)
    from manikin.synthesizers.table import _coded

    several = Table(table.schema, subjects, table.columns)
    learnt = _coded.learn(several, seed=1, k=5)
    _, held, _ = Boosted()._planned(learnt, subjects, 1)
    share = held.reshape(90, 10).mean(axis=1)
    assert set(share.tolist()) == {0.0, 1.0} and held.sum() == 180


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("joint/0/children", lambda a: a * 0),
        ("joint/0/counts", lambda a: a - 10**9),
        ("joint/0/counts", lambda a: a.astype(float)),
        ("joint/bins 0", lambda a: a + 200),
        ("joint/bins 0", lambda a: a[:-1]),
        ("joint/1/predictors", lambda a: a + 1),
        ("joint/1/predictors", lambda a: a - 9),
        ("joint/3/0/feature", lambda a: a + 99),
    ],
)
def test_a_strangers_model_is_refused(model: Any, name: str, wrong: Any) -> None:
    state = model.state()
    assert Boosted().restore(model.schema, state).sample(3, seed=1).n_rows == 3
    arrays = {**state.arrays, name: wrong(state.arrays[name])}
    with pytest.raises(InputError):
        Boosted().restore(model.schema, State(arrays, state.values))


@pytest.mark.parametrize("columns", [[[0, 1]], [[0, 0]] * 4, [[9, 0]] * 4, [[0, 99]] * 4])
def test_columns_that_do_not_fit_are_refused(model: Any, columns: Any) -> None:
    state = model.state()
    values = {**state.values, "joint": {"columns": columns}}
    with pytest.raises(InputError):
        Boosted().restore(model.schema, State(state.arrays, values))
