"""Spending a budget: noise of the size that was paid for, and nothing beyond it."""

import math

import numpy as np
import pytest

import manikin.privacy.account as account_module
from manikin.errors import PrivacyError
from manikin.privacy.account import Account, measuring, threshold
from manikin.privacy.accountant import spent
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Choice, Gaussian, Keys
from manikin.privacy.rows import Rows, at_most

pytest.importorskip("opendp", reason="needs the extra 'dp'")


def test_noise_is_as_large_as_was_paid_for() -> None:
    account = Account(Budget(1.0))
    rho = account.rho / 2
    noisy = account.sums(np.zeros(4000, np.int64), sensitivity=3.0, rho=rho, what="x")
    deviation = 3 / math.sqrt(2 * rho)
    # the standard error of a standard deviation of 4,000 is 1.1 %: five of them
    assert noisy.std() == pytest.approx(deviation, rel=0.056)
    assert noisy.dtype == np.int64
    assert account.left == pytest.approx(rho)
    (release,) = account.releases
    assert isinstance(release, Gaussian)
    assert release.noise_multiplier == pytest.approx(1 / math.sqrt(2 * rho))


def test_counts_have_laplace_noise() -> None:
    account = Account(Budget(3.0))
    noisy = account.count(np.full(4000, 7), sensitivity=2, epsilon=0.5, what="x")
    assert np.abs(noisy - 7).mean() == pytest.approx(2 / 0.5, rel=0.1)  # mean of |Laplace|: scale


def test_an_overdraft_is_refused_and_nothing_is_drawn() -> None:
    account = Account(Budget(1.0))
    account.sums(np.zeros(3, np.int64), sensitivity=1.0, rho=0.9 * account.rho, what="x")
    spent = list(account.releases)
    with pytest.raises(PrivacyError, match="is left of"):
        account.sums(np.zeros(3, np.int64), sensitivity=1.0, rho=0.2 * account.rho, what="y")
    assert account.releases == spent
    for price in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(PrivacyError):
            account.sums(np.zeros(3, np.int64), sensitivity=1.0, rho=price, what="y")
    assert account.releases == spent


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
@pytest.mark.parametrize("names", [0, 1, 3])
def test_a_whole_budget_spent_is_within_the_budget(epsilon: float, names: int) -> None:
    account = Account(Budget(epsilon), names=names)
    for _ in range(names):
        account.named(np.array([5, 5000]), keys_a_subject=2, rho=2e-4, what="k")
    account.choose(np.array([1.0, 2.0]), sensitivity=1.0, rho=account.rho / 10, what="c")
    for _ in range(3):
        account.sums(np.zeros(2, np.int64), sensitivity=1.0, rho=account.rho / 5, what="x")
    account.sums(np.zeros(2, np.int64), sensitivity=1.0, rho=account.left, what="y")
    assert len(account.ledger()) == 5 + names  # which checks the accountants
    assert account.left == pytest.approx(0, abs=1e-12)


def test_choices_prefer_high_scores_as_the_mechanism_says() -> None:
    account = Account(Budget(1000.0))
    rho = 0.5  # ε = 2: odds of e^(ε Δscore / 2) = e for scores 1 apart, share e/(1 + e) = .731
    drawn = [
        account.choose(np.array([1.0, 0.0]), sensitivity=1.0, rho=rho, what="c") for _ in range(150)
    ]
    assert 1 - np.mean(drawn) == pytest.approx(math.e / (1 + math.e), abs=0.15)  # four errors
    (first, *_) = account.releases
    assert isinstance(first, Choice) and first.epsilon == pytest.approx(2.0)
    with pytest.raises(PrivacyError, match="finite"):
        account.choose(np.array([1.0, math.nan]), sensitivity=1.0, rho=rho, what="c")


def test_a_key_of_one_subject_is_named_with_a_chance_below_delta() -> None:
    # scale 1, δ = .01: the normal quantile is 2.33, so t = 2 + 3 = 5, and noise must be 4 or more:
    # (e^-8 + e^-12.5 + …) / 2.507 = 1.4e-4 (t = 4 would do too: .0046; the bound costs one)
    assert threshold(1.0, 0.01, 1) == 5
    # two keys: δ/2 each, the quantile is 2.58: the same; scale 20, δ = 1e-6: 2 + ⌈20 x 4.753⌉ = 98
    assert threshold(1.0, 0.01, 2) == 5
    assert threshold(20.0, 1e-6, 1) == 98
    account = Account(Budget(1.0), names=1)
    kept, noisy = account.named(np.array([1, 100_000]), keys_a_subject=1, rho=5e-3, what="k")
    assert kept.tolist() == [1] and noisy[0] == pytest.approx(100_000, abs=100)  # ten deviations
    (release,) = account.releases
    assert isinstance(release, Keys) and release.delta == pytest.approx(1e-7)
    assert release.noise_multiplier == pytest.approx(10)
    with pytest.raises(PrivacyError, match="nothing of δ"):
        account.named(np.array([1]), keys_a_subject=1, rho=5e-3, what="k")


def test_the_chance_that_is_kept_for_keys_is_split_among_the_columns() -> None:
    account = Account(Budget(1.0), names=4)
    for _ in range(4):
        account.named(np.array([1]), keys_a_subject=1, rho=account.rho / 8, what="k")
    assert [one.delta for one in account.releases] == pytest.approx([2.5e-8] * 4)  # type: ignore[union-attr]
    with pytest.raises(PrivacyError, match="4 times"):
        account.named(np.array([1]), keys_a_subject=1, rho=account.rho / 8, what="k")
    assert len(account.releases) == 4, "a refused release was paid for"
    account.sums(np.zeros(1, np.int64), sensitivity=1.0, rho=account.left, what="x")
    account.ledger()  # which checks the accountants


def test_keys_of_single_subjects_are_named_as_rarely_as_is_claimed() -> None:
    """30,000 keys that one subject each holds, at δ = 1e-4: each by itself is a game."""
    budget, n, k = Budget(1.0, 0.9999e-4), 30_000, 8
    for names, keys in ((1, 1), (2, k)):
        account = Account(budget, names=names)
        claimed = account.delta_each / keys  # of one key: 1e-5, and 6e-7
        kept, _ = account.named(np.ones(n, np.int64), keys_a_subject=keys, rho=1e-3, what="k")
        expected = n * claimed  # .3 and .02; four errors of a Poisson count
        assert kept.size <= expected + 4 * math.sqrt(expected) + 1


def test_keys_are_named_at_the_chance_that_was_asked_for() -> None:
    # at δ = .02 it can be counted; σ = 30: t = 2 + ⌈30 x 2.054⌉ = 64, and noise is 63 or more with
    # a chance of Φ(-62.5/30) = .0186; 40,000 keys: a standard error of .0007
    noise = account_module._noised(np.ones(40_000, np.int64), "gaussian", 30.0)
    share = float((noise >= threshold(30.0, 0.02, 1)).mean())
    assert 0.0186 - 0.0035 < share < 0.02 + 0.003


def test_what_was_bought_before_is_counted_and_cannot_be_spent_again() -> None:
    first = Account(Budget(1.0), names=2)
    whole = first.rho
    first.named(np.array([500]), keys_a_subject=1, rho=whole / 20, what="k")
    first.sums(np.zeros(3, np.int64), sensitivity=1.0, rho=whole / 20, what="x")
    then = Account(Budget(1.0, spent=tuple(first.releases)))
    # one of two names was used, so a little more of δ is left to the rest
    assert 0.9 * whole < then.rho < 0.92 * whole
    assert then.left == pytest.approx(then.rho)
    with pytest.raises(PrivacyError, match="is left of"):
        then.sums(np.zeros(1, np.int64), sensitivity=1.0, rho=0.95 * whole, what="y")
    then.sums(np.zeros(1, np.int64), sensitivity=1.0, rho=then.left, what="y")
    assert then.left == pytest.approx(0, abs=1e-9)
    assert [one.what for one in then.ledger()] == ["k", "x", "y"]
    assert spent(then.releases, 1e-6).epsilon == pytest.approx(1.0, rel=0.02)


def test_a_budget_that_is_spent_buys_nothing() -> None:
    gone = Budget(1.0, spent=(Keys("k", 100.0, 2e-6, 900.0),))  # its δ is more than all
    assert Account(gone).rho == 0
    with pytest.raises(PrivacyError, match="is left of"):
        Account(gone).sums(np.zeros(1, np.int64), sensitivity=1.0, rho=1e-6, what="y")


def rows(n: int = 400, most_rows: int = 1, budget: float = 3.0) -> Rows:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (n, 3)).astype(np.int32)
    return Rows(codes, np.arange(n) // most_rows, (4, 4, 4), most_rows, Account(Budget(budget)))


def test_counts_of_rows_are_right_but_for_noise() -> None:
    found = rows(budget=1e6).counts((2, 0), rho=1e5, what="x")  # next to no noise
    with measuring():
        codes = rows().codes
    exact = np.zeros((4, 4), int)
    np.add.at(exact, (codes[:, 2], codes[:, 0]), 1)
    assert np.array_equal(found, exact)


def test_noise_grows_with_rows_a_subject() -> None:
    some = rows(most_rows=4)
    some.counts((0,), rho=some.account.rho, what="x")
    (release,) = some.account.releases
    assert isinstance(release, Gaussian)
    # four rows in one cell are four times the sensitivity, so four times the noise for the same ρ
    assert release.noise_multiplier == pytest.approx(1 / math.sqrt(2 * some.account.rho))
    drawn = rows(most_rows=4).counts((0, 1, 2), rho=rows().account.rho, what="x")
    exact = rows(budget=1e6).counts((0, 1, 2), rho=1e5, what="x")
    expected = 4 / math.sqrt(2 * rows().account.rho)
    assert (drawn - exact).std() == pytest.approx(expected, rel=0.4)


def test_a_subject_with_more_rows_than_count_is_refused() -> None:
    with pytest.raises(PrivacyError, match="more rows"):
        Rows(np.zeros((3, 1), np.int32), np.array([1, 1, 2]), (1,), 1, Account(Budget(1.0)))
    kept = at_most(np.array([5, 5, 5, 9, 5, 9]), 2)
    assert sorted(np.array([5, 5, 5, 9, 5, 9])[kept].tolist()) == [5, 5, 9, 9]
    assert at_most(np.zeros(0, np.int64), 2).size == 0


def test_rows_cannot_be_read_without_paying() -> None:
    for name in ("codes", "subjects"):
        with pytest.raises(PrivacyError, match="outside a release"):
            getattr(rows(), name)


def test_rows_show_nothing_of_themselves() -> None:
    assert repr(rows()) == "Rows(columns=3, most_rows=1)"
