"""Spending a budget: noise of the size that was paid for, and nothing beyond it."""

import math

import numpy as np
import pytest

from manikin.errors import PrivacyError
from manikin.privacy.account import Account, measuring, threshold
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Choice, Gaussian, Keys
from manikin.privacy.rows import Halves, Rows, at_most

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
@pytest.mark.parametrize("names_keys", [False, True])
def test_a_whole_budget_spent_is_within_the_budget(epsilon: float, names_keys: bool) -> None:
    account = Account(Budget(epsilon), names_keys=names_keys)
    if names_keys:
        account.named(np.array([5, 5000]), keys_a_subject=2, epsilon=0.02, what="k")
    account.choose(np.array([1.0, 2.0]), sensitivity=1.0, rho=account.rho / 10, what="c")
    for _ in range(3):
        account.sums(np.zeros(2, np.int64), sensitivity=1.0, rho=account.rho / 5, what="x")
    account.sums(np.zeros(2, np.int64), sensitivity=1.0, rho=account.left, what="y")
    assert len(account.ledger()) == 5 + names_keys  # which checks the accountants
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
    # scale 1, δ = .01: noise is at least t - 1 with q^(t-1)/(1 + q), q = 1/e:
    # t - 1 = 4: .0134 is too much, t - 1 = 5: .0049 is not; so t = 6
    assert threshold(1.0, 0.01, 1) == 6
    # the textbook's 1 + ln(1/2δ)/ε at ε = 0.05, δ = 1e-6: 263 (continuous noise)
    assert threshold(20.0, 1e-6, 1) == pytest.approx(263, abs=2)
    account = Account(Budget(1.0), names_keys=True)
    kept, noisy = account.named(np.array([1, 100_000]), keys_a_subject=1, epsilon=0.1, what="k")
    assert kept.tolist() == [1] and noisy[0] == pytest.approx(100_000, abs=500)
    (release,) = account.releases
    assert isinstance(release, Keys) and release.delta == pytest.approx(1e-7)
    with pytest.raises(PrivacyError, match="nothing of δ"):
        account.named(np.array([1]), keys_a_subject=1, epsilon=0.1, what="k")


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


def test_halves_cover_every_code_once_a_depth() -> None:
    halves = Halves.of(2, 9)  # two marks, then 7 codes: depth 1 + ceil(log2 7) = 4
    assert halves.depth == 4
    held = np.zeros(9, int)
    leaves = halves.left < 0
    for start, end in zip(halves.start[leaves], halves.end[leaves], strict=True):
        held[start:end] += 1
    assert (held == 1).all()
    for i in np.flatnonzero(halves.left >= 0):
        a, b = halves.left[i], halves.right[i]
        assert (halves.start[i], halves.end[a], halves.end[b]) == (
            halves.start[a], halves.start[b], halves.end[i],
        )  # fmt: skip


def test_rows_cannot_be_read_without_paying() -> None:
    for name in ("codes", "subjects"):
        with pytest.raises(PrivacyError, match="outside a release"):
            getattr(rows(), name)


def test_rows_show_nothing_of_themselves() -> None:
    assert repr(rows()) == "Rows(columns=3, most_rows=1)"
