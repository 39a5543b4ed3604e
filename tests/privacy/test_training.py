"""Samples and noise of private training: what is paid for, and no more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from manikin.errors import PrivacyError
from manikin.privacy import secret
from manikin.privacy.account import Account
from manikin.privacy.accountant import least_noise, spent
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import Choice, Gaussian, Sampled
from manikin.privacy.rows import Rows
from manikin.privacy.training import FINENESS, SLACK, Training, train_on

pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")


def rows_of(n: int, each: int = 1, epsilon: float = 1.0) -> Rows:
    subjects = np.repeat(np.arange(n), each)
    codes = subjects[:, None].astype(np.int32) % 5
    return Rows(codes, subjects, (5,), each, Account(Budget(epsilon)))


class TestPrice:
    def test_all_that_is_left_is_spent_and_no_more(self) -> None:
        rows = rows_of(1000)
        rows.counts((0,), rho=0.2 * rows.account.rho, what="a column")
        training = train_on(rows, batch=100, steps=200, subjects=1000.0, what="steps")
        found = spent(rows.account.ledger(), 1e-6).epsilon
        assert 0.99 < found <= 1.0
        event = rows.account.releases[-1]
        assert isinstance(event, Sampled) and event.noise_multiplier == training.noise_multiplier
        assert rows.account.left == 0.0
        with pytest.raises(PrivacyError, match="is left"):
            rows.counts((0,), rho=1e-6, what="one more")
        with pytest.raises(PrivacyError, match="nothing left"):
            train_on(rows, batch=100, steps=1, subjects=1000.0, what="more steps")

    def test_the_sampled_gaussian_is_counted_as_its_paper_does(self) -> None:
        # Mironov, Talwar and Zhang (2019), §3.3, at whole orders α:
        # exp((α - 1) RDP) = Σ_k C(α, k) (1 - q)^(α - k) q^k exp((k² - k) / 2σ²)
        q, noise, steps, delta = 256 / 60_000, 1.3, 3515, 1e-5
        found = []
        for a in range(2, 33):
            terms = [math.comb(a, k) * (1 - q) ** (a - k) * q**k
                     * math.exp((k * k - k) / (2 * noise**2)) for k in range(a + 1)]  # fmt: skip
            rdp = steps * math.log(math.fsum(terms)) / (a - 1)
            found.append(rdp + math.log1p(-1 / a) - math.log(delta * a) / (a - 1))
        counted = spent((Sampled("mnist", q, noise, steps),), delta)
        assert counted.rdp == pytest.approx(min(found), rel=1e-6)
        assert counted.pld is not None and 0.8 * counted.rdp < counted.pld < counted.rdp

    def test_every_subject_at_every_step_is_a_gaussian_of_all_steps(self) -> None:
        # T sums with σ are one with σ / √T: √(100) = 10
        one = spent((Sampled("all", 1.0, 30.0, 100),), 1e-6)
        other = spent((Gaussian("all", 3.0),), 1e-6)
        assert one.epsilon == pytest.approx(other.epsilon, rel=0.02)

    def test_more_steps_samples_or_releases_beside_need_more_noise(self) -> None:
        def noise(q: float = 0.05, steps: int = 100, *before: Choice) -> float:
            return least_noise(before, Budget(1.0), sampling_probability=q, steps=steps)

        usual = noise()
        assert usual < noise(0.1) and usual < noise(0.05, 400)
        assert usual < noise(0.05, 100, Choice("a pair", 0.3))


class TestDraw:
    def test_subjects_come_by_independent_coins_with_all_their_rows(self) -> None:
        rows = rows_of(400, each=3)
        training = Training(rows, 0.25, 1.0, 300, 100.0)
        sizes = []
        for _ in range(300):
            codes, whose = training.draw()
            assert np.array_equal(np.bincount(whose), np.full(whose.max() + 1, 3))
            assert (codes[np.flatnonzero(np.diff(whose) == 0), 0]
                    == codes[np.flatnonzero(np.diff(whose) == 0) + 1, 0]).all()  # fmt: skip
            sizes.append(whose.max() + 1)
        # binomial(400, 1/4): mean 100, standard deviation 8.66; of 300 draws ± 0.5 and ± 0.35
        assert np.mean(sizes) == pytest.approx(100, abs=2.5)
        assert np.std(sizes) == pytest.approx(8.66, abs=1.8)

    def test_nobody_may_come(self) -> None:
        codes, whose = Training(rows_of(0), 0.5, 1.0, 1, 1.0).draw()
        assert codes.shape == (0, 1) and whose.size == 0

    def test_a_step_too_many_is_refused(self) -> None:
        training = Training(rows_of(5), 1.0, 1.0, 2, 5.0)
        training.draw()
        training.draw()
        with pytest.raises(PrivacyError, match="more than the 2"):
            training.draw()


class TestNoise:
    def test_noise_is_as_wide_as_paid_for_and_lies_on_the_lattice(self) -> None:
        training = Training(rows_of(5), 1.0, 2.0, 1, 5.0)
        training.draw()
        total = np.full(200_000, 0.3)
        noisy = training.noised(total, clip=0.5)
        far = 0.5 * (1 + SLACK) + FINENESS * 0.5 * math.sqrt(total.size)
        # a standard deviation of 200,000 numbers is known to 0.16 %
        assert np.std(noisy) == pytest.approx(2.0 * far, rel=0.01)
        assert noisy.mean() == pytest.approx(0.3, abs=5 * 2 * far / math.sqrt(total.size))
        units = noisy / (FINENESS * 0.5)
        assert np.array_equal(units, np.rint(units))

    def test_one_sum_a_step(self) -> None:
        training = Training(rows_of(5), 1.0, 1.0, 3, 5.0)
        with pytest.raises(PrivacyError, match="second release"):
            training.noised(np.zeros(3), clip=1.0)
        training.draw()
        training.noised(np.zeros(3), clip=1.0)
        with pytest.raises(PrivacyError, match="second release"):
            training.noised(np.zeros(3), clip=1.0)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_no_number_is_not_released(self, bad: float) -> None:
        training = Training(rows_of(5), 1.0, 1.0, 1, 5.0)
        training.draw()
        with pytest.raises(PrivacyError, match="not finite"):
            training.noised(np.array([0.0, bad]), clip=1.0)


class TestSecret:
    def test_numbers_are_normal(self) -> None:
        drawn = secret.normal(400_000)
        # moments of a normal, each ± 5 standard errors
        assert abs(drawn.mean()) < 5 / math.sqrt(drawn.size)
        assert drawn.var() == pytest.approx(1, abs=5 * math.sqrt(2 / drawn.size))
        assert (drawn**4).mean() == pytest.approx(3, abs=5 * math.sqrt(96 / drawn.size))
        assert (drawn > 2).mean() == pytest.approx(0.02275, abs=5 * math.sqrt(0.0222 / drawn.size))
        assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 5 / math.sqrt(drawn.size)

    def test_nothing_repeats_them(self) -> None:
        np.random.seed(1)  # noqa: NPY002  (a global seed must not reach them)
        one = secret.normal(8)
        np.random.seed(1)  # noqa: NPY002
        assert not np.array_equal(one, secret.normal(8))

    def test_a_permutation_is_even(self) -> None:
        firsts = [int(secret.permutation(4)[0]) for _ in range(2000)]
        # each first in a quarter: 500 ± 19.4
        assert all(abs(firsts.count(i) - 500) < 100 for i in range(4))
        assert sorted(secret.permutation(50)) == list(range(50))
