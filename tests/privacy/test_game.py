"""Games on mechanisms whose privacy is known: never above it, and close to it."""

import math

import numpy as np
import pytest

from manikin.errors import InputError
from manikin.privacy.game import one_run, two_worlds


def test_gaussian_noise_is_found_out() -> None:
    rng = np.random.default_rng(0)
    found = two_worlds(rng.normal(0, 1, 4000), rng.normal(1, 1, 4000), 1e-6)
    assert found.mu == pytest.approx(1.0, abs=4 * (found.mu_error or 0))
    assert found.mu_error == pytest.approx(math.sqrt(2 / 4000 + 1 / 16000), rel=0.02)
    assert 1.0 < found.epsilon < 5.0  # μ = 1 at δ = 1e-6 is ε = 5.0


def test_randomised_response_is_found_out_and_not_more() -> None:
    # answers 1 with probability .75 with, .25 without: ε = ln 3 = 1.0986
    rng = np.random.default_rng(1)
    found = two_worlds(
        (rng.random(8000) < 0.25).astype(float), (rng.random(8000) < 0.75).astype(float), 0.0
    )
    assert 0.9 < found.epsilon <= math.log(3)


def test_the_same_mechanism_twice_shows_nothing() -> None:
    rng = np.random.default_rng(2)
    shown = [two_worlds(rng.normal(size=200), rng.normal(size=200), 1e-6) for _ in range(30)]
    assert np.mean([found.epsilon > 0 for found in shown]) <= 0.25  # two sides at 95 % each


def test_a_release_that_tells_is_far_above_any_claim() -> None:
    found = two_worlds(np.zeros(400), np.ones(400), 1e-6)
    # 200 of 200 right: Clopper-Pearson at 97.5 %: .9817 and .0183, ln(.9817 / .0183) = 3.98
    assert found.epsilon == pytest.approx(3.98, abs=0.01) and found.mu is None


def test_one_run_by_hand() -> None:
    # 100 of 100 right: p^100 = .05 at p = .9705, ε = ln(p / (1 - p)) = 3.49
    assert one_run(100, 100, 100, 0.0).epsilon == pytest.approx(3.49, abs=0.01)
    assert one_run(100, 50, 100, 0.0).epsilon == 0 == one_run(0, 0, 100, 0.0).epsilon
    assert one_run(100, 100, 100, 1e-4).epsilon < one_run(100, 100, 100, 0.0).epsilon


def test_one_run_on_randomised_response_stays_below() -> None:
    rng, epsilon = np.random.default_rng(3), 1.5
    above = 0
    for _ in range(80):
        right = int((rng.random(500) < 1 / (1 + math.exp(-epsilon))).sum())
        above += one_run(500, right, 500, 0.0).epsilon > epsilon
    assert above <= 10  # 5 % expected


def test_a_game_of_too_few_rounds_is_refused() -> None:
    with pytest.raises(InputError):
        two_worlds(np.zeros(5), np.ones(5), 0.0)
    with pytest.raises(InputError):
        two_worlds(np.full(40, np.nan), np.ones(40), 0.0)
    with pytest.raises(InputError):
        one_run(5, 6, 10, 0.0)
