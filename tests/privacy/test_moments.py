"""Sums of products against hand-made ones, and what one row changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("opendp", reason="needs the extra 'dp'")

from manikin.privacy.account import Account
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Gaussian
from manikin.privacy.moments import UNIT, WEIGHT, Features
from manikin.privacy.rows import Rows

SIGNED = np.array([[-1.0], [1.0]])  # of a column of two codes


def test_products_of_two_columns_by_hand() -> None:
    # rows (0, 0), (0, 1), (1, 1): products 1, -1, 1; their mean is a third. No row is shortened
    codes = np.array([[0, 0], [0, 1], [1, 1]], np.int32)
    found = Features.of((SIGNED, SIGNED), norm=1.01).mean(codes)
    assert found == pytest.approx(np.array([[0, 1 / 3], [1 / 3, 0]]), abs=1e-3)


def test_a_row_is_shortened_to_the_norm() -> None:
    # three columns of -1 or 1: three products, together √3 long, each shortened to 1 / √3
    codes = np.ones((1, 3), np.int32)
    found = Features.of((SIGNED,) * 3, norm=1.0).mean(codes)
    assert found[0, 1] == pytest.approx(3**-0.5, abs=0.01)


def test_features_of_one_column_make_no_products() -> None:
    one = Features.of((np.eye(3), SIGNED), norm=9.0)
    assert not one.mean(np.array([[0, 1]], np.int32))[:3, :3].any()
    assert one.apart().sum() == 6


@given(st.integers(0, 10**6), st.floats(0.05, 8.0))
def test_no_row_moves_the_sums_by_more_than_is_paid_for(seed: int, norm: float) -> None:
    rng = np.random.default_rng(seed)
    tables = tuple(rng.normal(0, 2, (4, k)) for k in (1, 3, 2, 1))
    codes = rng.integers(0, 4, (9, 4)).astype(np.int32)
    features = Features.of(tables, norm)
    moved = features.sums(codes) - features.sums(codes[1:])
    assert np.array_equal(moved, np.round(moved))
    assert np.linalg.norm(moved) <= WEIGHT * features.norm


def test_noise_is_that_of_its_price() -> None:
    """Of 200 sums with noise of deviation d around 0 the mean square is d² ± 4 √(2/200) d²."""
    rng = np.random.default_rng(0)
    columns, n = 21, 400  # 210 pairs
    codes = rng.integers(0, 2, (n, columns)).astype(np.int32)
    account = Account(Budget(1.0))
    rows = Rows(codes, np.arange(n), (2,) * columns, 1, account)
    features = Features.of((SIGNED,) * columns, norm=10.0)
    found, noise = features.bought(rows, n, rho=account.rho, what="pairs")
    off = (found - features.mean(codes))[np.triu_indices(columns, 1)]
    assert abs(np.mean(off**2) / noise**2 - 1) < 4 * np.sqrt(2 / 210)
    assert noise == pytest.approx(10.0 / np.sqrt(2 * account.rho) / n, rel=1e-9)
    (release,) = account.ledger()
    assert isinstance(release, Gaussian) and UNIT > 1


def test_nobody_and_no_column() -> None:
    none = Features.of((), norm=1.0)
    assert none.mean(np.zeros((0, 0), np.int32)).shape == (0, 0)
    assert not Features.of((SIGNED, SIGNED), 1.0).mean(np.zeros((0, 2), np.int32)).any()
