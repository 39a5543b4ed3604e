"""SMOTE by hand and by property, and imbalanced-learn's as the oracle where it is installed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manikin.data.rules import Inequality
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.transforms.smote import Place, neighbours, smote

CLASS = Column("ill", "boolean", categories=("no", "yes"))


def table(
    ill: list[int], subjects: list[int] | None = None, rules: tuple = (), **columns: list
) -> Table:
    """Numbers become continuous columns, lists of texts categories in order of appearance."""
    made, arrays, n = [CLASS], {"ill": np.array(ill, np.int32)}, len(ill)
    for name, cells in columns.items():
        if all(isinstance(cell, str) for cell in cells):
            levels = tuple(dict.fromkeys(cell for cell in cells if cell))
            made.append(Column(name, "categorical", categories=levels))
            arrays[name] = np.array([levels.index(c) if c else -1 for c in cells], np.int32)
        else:
            made.append(Column(name, "continuous", decimals=12))
            arrays[name] = np.array([np.nan if c is None else c for c in cells], float)
    whose = np.arange(n) if subjects is None else np.array(subjects)
    return Table(TableSchema(tuple(made), rules), whose.astype(np.int64), arrays)


def place(given: Table, level: int = 1) -> Place:
    return Place.of(given, np.flatnonzero(given.columns["ill"] == level), "ill")


# ---------------------------------------------------------------------------- by hand
def test_a_new_row_lies_between_two_neighbours_in_all_numbers_at_once() -> None:
    # two ill rows: every new one is (1, 10) + u (2, -4) for one u
    given = table([1, 1, 0], x=[1.0, 3.0, 50.0], y=[10.0, 6.0, 0.0])
    new = smote(given, "ill", {"yes": 40}, seed=0)
    u = (new.columns["x"] - 1) / 2
    assert new.n_rows == 40 and (u >= 0).all() and (u <= 1).all() and np.unique(u).size == 40
    np.testing.assert_allclose(new.columns["y"], 10 - 4 * u, atol=1e-9)
    assert (new.columns["ill"] == 1).all() and new.subjects.tolist() == list(range(40))


def test_neighbours_are_the_nearest_of_the_class_in_standard_deviations() -> None:
    # x has standard deviation 2 over all four rows (0, 4, 0, 4); y is 100 times as wide
    given = table([1, 1, 1, 1], x=[0.0, 4.0, 0.0, 4.0], y=[0.0, 100.0, 300.0, 500.0])
    found, many = neighbours(place(given), 3)
    # y's deviation: mean 225, squares 50625 + 15625 + 5625 + 75625 = 147500 / 4, root 192.03
    # row 0: to 1 (4/2)² + (100/192)² = 4.27; to 2 (300/192)² = 2.44; to 3 4 + 6.78 = 10.78
    assert found[0].tolist() == [2, 1, 3] and many.tolist() == [3, 3, 3, 3]
    # unscaled, row 1 would have been nearest to row 0


def test_a_nominal_cell_that_differs_counts_as_the_median_deviation() -> None:
    # the ill: x of deviation 1 in its own unit, so one differing cell is worth (median)² = s²
    given = table([1, 1, 1, 0], x=[0.0, 0.5, 3.0, 10.0], s=["a", "b", "a", "a"])
    spot = place(given)
    # mean 3.375, squares 11.391 + 8.266 + .141 + 43.891 = 63.688 / 4, deviation 3.9902
    own = np.std(np.array([0.0, 0.5, 3.0]) / 3.9902)  # .32936
    np.testing.assert_allclose(spot.penalty, own**2, rtol=1e-4)
    squared = spot.squared(slice(0, 3))
    np.testing.assert_allclose(squared[0, 1], (0.5 / 3.9902) ** 2 + own**2, rtol=1e-4)
    np.testing.assert_allclose(squared[0, 2], (3 / 3.9902) ** 2, rtol=1e-4)


def test_a_nominal_cell_is_what_most_neighbours_have() -> None:
    # the row at 0 has neighbours at 1, 2, 3, 4, 5 of sites b b b a a: its new rows are of site b
    # although it is of site a itself; the far row 99 is nobody's neighbour with k = 5
    given = table(
        [1] * 7, x=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 99.0], site=["a", "b", "b", "b", "a", "a", "c"]
    )
    found, _ = neighbours(place(given), 5)
    assert set(found[0].tolist()) == {1, 2, 3, 4, 5}
    new = smote(given, "ill", {"yes": 700}, seed=1)
    levels = given.schema["site"].categories
    low = new.columns["x"] < 1  # only the row at 0, or the row at 1 beside it, lie so low
    assert {levels[c] for c in new.columns["site"][low]} <= {"a", "b"}
    assert (new.columns["site"] != levels.index("c")).all(), "no majority is ever of c"


def test_ties_go_to_the_level_of_the_nearest() -> None:
    # neighbours of the row at 0, nearest first: b (at 1), c (at 2): one vote each
    given = table([1, 1, 1], x=[0.0, 1.0, 2.1], site=["a", "b", "c"])
    new = smote(given, "ill", {"yes": 1}, k=2, seed=0)
    assert new.n_rows == 1
    many = smote(given, "ill", {"yes": 300}, k=2, seed=0)
    x, levels = many.columns["x"], given.schema["site"].categories
    # rows above 1 by the row at 2.1 or the row at 1; those of the row at 2.1 vote b, a → b
    assert {levels[c] for c in many.columns["site"][x > 1.9]} <= {"a", "b"}


def test_neighbours_are_never_the_same_subject() -> None:
    # rows of one subject lie together; its nearest rows are its own, and must not be taken
    given = table([1] * 4, subjects=[7, 7, 8, 8], x=[0.0, 0.1, 5.0, 5.1])
    found, many = neighbours(place(given), 5)
    assert many.tolist() == [2, 2, 2, 2]
    assert [set(row[:2]) for row in found.tolist()] == [{2, 3}, {2, 3}, {0, 1}, {0, 1}]
    new = smote(given, "ill", {"yes": 200}, seed=0)
    assert ((new.columns["x"] > 0.2) & (new.columns["x"] < 4.9)).mean() > 0.8
    with pytest.raises(InputError, match="fewer than two subjects"):
        smote(table([1, 1], subjects=[7, 7], x=[0.0, 1.0]), "ill", {"yes": 1}, seed=0)


def test_missing_numbers_follow_most_neighbours_and_are_a_difference() -> None:
    # y is missing in three of the four: a new row's neighbours are mostly without
    given = table([1] * 4, x=[0.0, 1.0, 2.0, 3.0], y=[None, None, None, 8.0])
    new = smote(given, "ill", {"yes": 100}, k=3, seed=0)
    assert np.isnan(new.columns["y"]).all()
    # two of three neighbours have a value: the row without one takes its neighbour's, or another's
    given = table([1] * 3, x=[0.0, 1.0, 2.0], y=[None, 4.0, 4.0])
    new = smote(given, "ill", {"yes": 100}, k=2, seed=0)
    y = new.columns["y"]
    assert set(y[~np.isnan(y)].tolist()) == {4.0} and (~np.isnan(y)).any()
    spot = place(given)
    # x apart by 1 of deviation .8165, and y there beside none: one difference more
    np.testing.assert_allclose(spot.squared(slice(0, 1))[0, 1], 1.5 + spot.penalty, rtol=1e-3)


def test_dates_whole_numbers_and_marks_stay_what_they_are() -> None:
    schema = TableSchema((
        CLASS, Column("seen", "datetime", date_format="%Y-%m-%d"), Column("age", "integer"),
        Column("crp", "continuous", decimals=1, missing=("", "?"), special=("<5",)),
    ))  # fmt: skip
    given = Table(
        schema, np.arange(4),
        {"ill": np.ones(4, np.int32), "age": np.array([30.0, 41.0, 52.0, 60.0]),
         "seen": np.array(["2020-01-01", "2020-02-01", "2020-03-01", "NaT"], "datetime64[us]"),
         "crp": np.array([np.nan] * 4)},
        {"crp": np.array([3, 3, 3, 2], np.int8)},
    )  # fmt: skip
    new = smote(given, "ill", {"yes": 50}, k=3, seed=0)
    assert (new.columns["age"] % 1 == 0).all() and new.columns["age"].min() >= 30
    assert new.columns["seen"].min() >= np.datetime64("2020-01-01")
    assert (new.states["crp"] == 3).all(), "below the limit, as most neighbours are"
    assert set(new.to_polars()["crp"]) == {"<5"}


def test_declared_rules_hold_in_new_rows() -> None:
    rng = np.random.default_rng(0)
    low = np.round(rng.normal(0, 1, 40), 3)
    given = table(
        [1] * 40, rules=(Inequality("low", "<=", "high"),),
        low=low.tolist(), high=(low + np.round(rng.exponential(1, 40), 3)).tolist(),
    )  # fmt: skip
    new = smote(given, "ill", {"yes": 200}, seed=0)
    assert (new.columns["low"] <= new.columns["high"]).all()


def test_distances_are_the_same_however_they_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    given = table(
        [1] * 50, subjects=(np.arange(50) // 2).tolist(), x=rng.normal(0, 1, 50).tolist(),
        y=[None if u < 0.3 else u for u in rng.random(50)],
        site=rng.choice(["a", "b", "c", ""], 50).tolist(), always=["x"] * 50,
    )  # fmt: skip
    quick = place(given)
    monkeypatch.setattr("manikin.transforms.smote.INDICATORS", 1)
    slow = place(given)
    assert quick.alike is not None and slow.alike is None
    one, other = (p.squared(slice(0, 50)) for p in (quick, slow))
    np.testing.assert_allclose(one, other)
    # by hand, two rows: numbers where both are known, cells that differ, a value beside none
    i, j = 0, 7
    both = quick.present[i] & quick.present[j]
    step = ((quick.numbers[i] - quick.numbers[j])[both] ** 2).sum()
    site = given.columns["site"]
    differ = (site[i] != site[j]) + (quick.present[i] != quick.present[j]).sum()
    assert one[i, j] == pytest.approx(step + quick.penalty * differ)
    assert np.isinf(one[0, 1]) and np.isinf(one[0, 0])


# ---------------------------------------------------------------------------- properties
@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(0, 60), st.integers(1, 8), st.integers(0, 99))
def test_new_rows_never_leave_the_range_of_their_class(n: int, m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, 2 * n)
    given = table([1] * n + [0] * n, x=x.tolist(), site=[*"ab"] * n)
    new = smote(given, "ill", {"yes": m}, k=k, seed=seed)
    assert new.n_rows == m
    if m:
        assert x[:n].min() - 1e-9 <= new.columns["x"].min()
        assert new.columns["x"].max() <= x[:n].max() + 1e-9
    again = smote(given, "ill", {"yes": m}, k=k, seed=seed)
    assert all(np.array_equal(again.columns[c], new.columns[c]) for c in new.columns)


def test_every_row_of_a_class_is_taken_in_turn() -> None:
    given = table([1] * 5, x=[0.0, 100.0, 200.0, 300.0, 400.0])
    new = smote(given, "ill", {"yes": 10}, k=1, seed=0)
    assert new.n_rows == 10
    with pytest.raises(InputError, match="0 neighbours"):
        smote(given, "ill", {"yes": 1}, k=0, seed=0)


# ---------------------------------------------------------------------------- the oracle
def test_rows_of_imbalanced_learn_lie_between_our_neighbours() -> None:
    oversampling = pytest.importorskip("imblearn.over_sampling", reason="an oracle")
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1, (120, 3))
    x = (x - x.mean(axis=0)) / x.std(axis=0)  # ours standardises, theirs does not
    ill = np.repeat([1, 0], [30, 90])
    theirs, _ = oversampling.SMOTE(k_neighbors=5, random_state=0).fit_resample(x, ill)
    made = theirs[120:]
    given = table(ill.tolist(), a=x[:, 0].tolist(), b=x[:, 1].tolist(), c=x[:, 2].tolist())
    near, _ = neighbours(place(given), 5)
    ours = smote(given, "ill", {"yes": 60}, seed=0)
    own = np.stack([ours.columns[name] for name in "abc"], axis=1)
    for rows in (made, own):
        start, end = x[:30][:, None, :], x[:30][near]  # (base, k, 3)
        step = end - start
        u = ((rows[:, None, None, :] - start) * step).sum(-1) / (step**2).sum(-1)
        off = np.abs(start + u[..., None] * step - rows[:, None, None, :]).max(-1)
        on = (off < 1e-6) & (u > -1e-9) & (u < 1 + 1e-9)
        assert on.any(axis=(1, 2)).all()
