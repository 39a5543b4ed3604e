"""What releases cost: worked by hand, against closed forms, and one accountant by the other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from manikin.errors import PrivacyError
from manikin.privacy.accountant import most_rho, rho_of, spent, true_positives, zcdp_epsilon
from manikin.privacy.ledger import (
    Choice,
    Gaussian,
    Keys,
    Laplace,
    NonPrivate,
    Sampled,
    from_json,
    is_private,
    to_json,
)

pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")
DELTA = 1e-6


def exact_gaussian_delta(epsilon: float, mu: float) -> float:
    """δ of the Gaussian mechanism of parameter μ (Balle and Wang, ICML 2018, Theorem 8)."""
    return float(
        norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    )


def test_gaussian_lies_between_the_exact_value_and_that_of_renyi() -> None:
    # ten releases of noise multiplier 10 are one of μ = sqrt(10)/10
    found = spent((Gaussian("x", 10.0, 10),), DELTA)
    assert found.pld is not None and found.epsilon == found.rdp >= found.pld
    assert exact_gaussian_delta(found.pld, math.sqrt(10) / 10) == pytest.approx(DELTA, rel=0.02)
    assert found.rdp == pytest.approx(zcdp_epsilon(10 / 200, DELTA), rel=1e-3)


def test_pure_mechanisms_cost_no_more_than_their_sum() -> None:
    # two releases of ε = 0.4: ε = 0.8 is certain, and close to reached at a tiny δ
    found = spent((Laplace("x", 2.5, 2),), 1e-12)
    assert found.pld == pytest.approx(0.8, rel=1e-3)


def test_zcdp_by_hand() -> None:
    # ρ = 0.5, δ = 1e-6: ρ + 2 sqrt(ρ ln(1/δ)) = 5.757 (Bun and Steinke, Prop. 1.3) is an upper
    # bound, and the tightest known is below it
    simple = 0.5 + 2 * math.sqrt(0.5 * math.log(1e6))
    assert 0.8 * simple < zcdp_epsilon(0.5, DELTA) < simple
    assert zcdp_epsilon(0.0, DELTA) == 0.0


@given(st.floats(0.05, 8), st.floats(1e-9, 1e-5))
def test_the_largest_rho_spends_the_budget(epsilon: float, delta: float) -> None:
    rho = most_rho(epsilon, delta)
    assert zcdp_epsilon(rho, delta) <= epsilon < zcdp_epsilon(1.01 * rho, delta) * (1 + 1e-9)


def test_composition_in_rho() -> None:
    assert rho_of(Gaussian("x", 5.0, 2)) == pytest.approx(2 / 50)
    assert rho_of(Laplace("x", 5.0)) == pytest.approx(0.2**2 / 2)
    assert rho_of(Choice("x", 0.4, 3)) == pytest.approx(3 * 0.16 / 8)
    assert rho_of(Keys("x", 5.0, 1e-8, 40.0)) == pytest.approx(1 / 50)
    assert rho_of(NonPrivate("x")) == math.inf


def test_what_cannot_be_promised_is_infinite() -> None:
    assert spent((Gaussian("x", 5.0), NonPrivate("y")), DELTA).epsilon == math.inf
    assert spent((Keys("x", 10.0, 2e-6, 50.0),), DELTA).epsilon == math.inf  # its δ is more
    assert spent((), DELTA).epsilon == 0


def test_sampled_steps_are_cheaper_than_whole_ones() -> None:
    whole = spent((Gaussian("x", 2.0, 50),), DELTA).epsilon
    some = spent((Sampled("x", 0.02, 2.0, 50),), DELTA)
    assert some.epsilon < whole / 5
    assert some.pld is not None and some.pld <= some.rdp


def test_accountants_that_contradict_each_other_stop_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("manikin.privacy.accountant._rdp", lambda *_: 0.1)
    with pytest.raises(PrivacyError, match="contradict"):
        spent((Gaussian("x", 1.0),), DELTA)


@pytest.mark.parametrize(
    ("epsilon", "bound"), [(1, 0.027), (2, 0.074), (3, 0.201), (4, 0.546), (6, 0.998)]
)
def test_an_attackers_best_chances(epsilon: float, bound: float) -> None:
    # min(e^ε α + δ, 1 - e^-ε (1 - α - δ)) at α = .01; ε = 6: the second, 1 - .99/403 = .9975
    assert true_positives(0.01, epsilon, DELTA) == pytest.approx(bound, abs=6e-4)


@given(st.floats(0, 1), st.floats(0.01, 20))
def test_an_attacker_is_never_worse_than_guessing(false: float, epsilon: float) -> None:
    assert false <= true_positives(false, epsilon, DELTA) <= 1


def test_a_ledger_comes_back_from_json() -> None:
    ledger = (
        NonPrivate("n"), Gaussian("g", 2.0, 3), Laplace("l", 1.5), Choice("c", 0.3),
        Keys("k", 10.0, 1e-7, 90.0), Sampled("s", 0.01, 1.1, 100),
    )  # fmt: skip
    assert from_json(to_json(ledger)) == ledger
    assert not is_private(ledger) and is_private(ledger[1:]) and not is_private(())


@pytest.mark.parametrize(
    "document",
    [
        {}, [1], [{"release": "Nothing", "what": "x"}], [{"release": "Gaussian", "what": "x"}],
        [{"release": "Gaussian", "what": "x", "noise_multiplier": "1"}],
        [{"release": "Gaussian", "what": "x", "noise_multiplier": 1.0, "more": 1}],
        [{"release": "Gaussian", "what": "x", "noise_multiplier": -1.0}],
        [{"release": "Gaussian", "what": "x", "noise_multiplier": math.nan}],
        [{"release": "Sampled", "what": "x", "sampling_probability": 2.0, "noise_multiplier": 1.0,
          "steps": 3}],
        [{"release": "Choice", "what": "x", "epsilon": True}],
    ],
)  # fmt: skip
def test_a_strangers_ledger_is_refused(document: object) -> None:
    with pytest.raises(PrivacyError):
        from_json(document)


def test_orders_do_not_change_the_answer_much() -> None:
    orders = 1 + np.logspace(-3, 4, 20_000)
    for rho in (1e-3, 0.1, 5.0):
        fine = (rho * orders + np.log1p(-1 / orders)
                - (math.log(DELTA) + np.log(orders)) / (orders - 1)).min()  # fmt: skip
        assert zcdp_epsilon(rho, DELTA) == pytest.approx(fine, rel=2e-3)
        assert zcdp_epsilon(rho, DELTA) >= fine  # fewer orders are never too optimistic
