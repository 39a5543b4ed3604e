"""How columns are divided and pairs are counted under a budget, with the noise taken out."""

from dataclasses import replace

import numpy as np
import pytest

from manikin.privacy.account import Account
from manikin.privacy.budget import Budget
from manikin.privacy.rows import Rows

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.synthesizers.table import _private as private
from manikin.synthesizers.table import _private_bins as bins
from manikin.synthesizers.table._pgm import Measured, fit
from manikin.synthesizers.table.mst import MST

RHO = 0.02  # a deviation of 5


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manikin.privacy.account._noised", lambda values, kind, scale: values)


def rows_of(codes: list[int] | np.ndarray, size: int) -> Rows:
    column = np.asarray(codes, np.int32)[:, None]
    return Rows(column, np.arange(len(column)), (size,), 1, Account(Budget(3.0)))


def test_ranges_are_even_and_divided_by_what_is_in_them() -> None:
    assert bins._even(2, 12, 4).tolist() == [2, 4, 7, 9]  # 2 + 10 k / 4, rounded down
    assert bins._even(0, 3, 8).tolist() == [0, 1, 2]  # no more ranges than codes
    # a mark, then [1, 5) with 60 rows and [5, 9) with 20; 100 rows in 5: 20 each, so 3 and 1 parts
    found = bins._refined(np.array([0, 1, 5]), np.array([20, 60, 20]), 1, 9, 5)
    assert found.tolist() == [0, 1, 2, 3, 5]
    # nobody, or less than that: nothing is divided
    assert bins._refined(np.array([0, 4]), np.array([-5, 0]), 0, 8, 6).tolist() == [0, 4]


@pytest.mark.usefixtures("_exact")
def test_a_skewed_number_is_divided_where_rows_are_and_costs_what_it_may() -> None:
    codes = np.concatenate([np.arange(400) % 8, [500, 900]])  # of 1024: nearly all below 8
    rows = rows_of(codes, 1024)
    own, measured = bins.divided(rows, 0, 0, True, 24, RHO, "x", 400.0, merging=True)
    # √(3 · 400 / 5) = 15 ranges of 68; of the first 15 parts of 4 or 5; of both heavy ones 7 parts
    assert (own.of[:5] < own.of[1:6]).any() and own.of[100] == own.of[130]
    assert np.unique(own.of[:8]).size >= 6
    assert rows.account.left == pytest.approx(rows.account.rho - RHO)
    for one in measured:
        assert one.counts.sum() == 402
        exact = np.bincount(one.groups[0][own.of[codes]], minlength=one.counts.size)
        assert one.counts.tolist() == exact.tolist()
    spent = sum(1 / (2 * one.deviation**2) for one in measured)
    assert spent == pytest.approx(RHO)


@pytest.mark.usefixtures("_exact")
def test_levels_that_noise_hides_are_one_and_so_are_hidden_marks() -> None:
    # code 0 is a mark with 3 rows (below 4 deviations), 1 has 90, 2 has 9 and 3 has 4 (below 2)
    own, (one,) = bins.divided(
        rows_of([0] * 3 + [1] * 90 + [2] * 9 + [3] * 4, 4),
        0,
        1,
        False,
        24,
        RHO,
        "x",
        1.0,
        merging=True,
    )
    assert own.of.tolist() == [0, 0, 1, 1] and own.share[0] == 0
    assert own.share[2:] == pytest.approx([14 / 23, 9 / 23])  # 9 and 4 rows, and 5 each
    assert one.counts.tolist() == [90, 13] and one.deviation == pytest.approx(5)


def test_rows_are_counted_by_how_sure_counts_are() -> None:
    sure, not_sure = (Measured((0,), np.array(c), d) for c, d in (([60.0, 40.0], 1), ([160.0], 2)))
    # variances 2 and 4: weights 2 and 1
    assert bins.counted([sure, not_sure]) == pytest.approx(120)
    assert bins.counted([]) == 1 and bins.counted([Measured((0,), np.array([-9.0]), 1)]) == 1


SCHEMA = TableSchema(
    (
        Column("a", "categorical", categories=("0", "1")),
        Column("b", "categorical", categories=("0", "1")),
        Column("died", "boolean", categories=("no", "yes"), roles=("target",)),
    ),
    declared=True,
)


def table(n: int) -> Table:
    a = np.arange(n, dtype=np.int32) % 2
    columns = {"a": a, "b": a, "died": (np.arange(n, dtype=np.int32) // 2) % 2}
    return Table(SCHEMA, np.arange(n), columns)


@pytest.mark.usefixtures("_exact")
def test_what_a_pair_shares_is_shrunk_as_its_noise_asks() -> None:
    prepared = private.prepare(table(400), Budget(3.0), bins=8, most_rows=1, share=0.5)
    alone = fit(prepared.rows.sizes, prepared.measured, steps=200)
    groups = (np.arange(2), np.arange(2))
    # a and b are the same: 200 0 / 0 200 beside 100 100 / 100 100, so Σ² = 4 · 100² and 1 is free
    measured = private.count(prepared, alone, (0, 1), groups, 1 / 2 / 50**2)
    assert measured.deviation == pytest.approx(50)
    kept = 1 - 50**2 / 4 / 100**2
    assert measured.counts == pytest.approx(100 + 100 * kept * np.array([[1, -1], [-1, 1]]), abs=1)
    # a and died share nothing
    nothing = private.count(prepared, alone, (0, 2), groups, 1 / 2 / 50**2)
    assert nothing.counts == pytest.approx(np.full((2, 2), 100), abs=1)


def test_the_outcome_goes_with_every_column_and_noise_leaves_pairs_out() -> None:
    many = [r.what for r in MST(steps=20).fit(table(3000), seed=1, budget=Budget(3.0)).ledger]
    assert {"'a' and 'died'", "'b' and 'died'", "'a' and 'b'"} <= set(many)
    few = [r.what for r in MST(steps=20).fit(table(20), seed=1, budget=Budget(0.5)).ledger]
    assert not any(" and " in what for what in few)
    assert "'a' once more" in few
    without = replace(SCHEMA, columns=tuple(replace(c, roles=()) for c in SCHEMA))
    free = replace(table(3000), schema=without)
    names = [r.what for r in MST(steps=20).fit(free, seed=1, budget=Budget(3.0)).ledger]
    assert sum(" and " in what for what in names) == 2  # a tree
