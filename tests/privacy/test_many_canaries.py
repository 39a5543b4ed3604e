"""Canaries in whole fits: a promise that is kept is not refuted, one that is not is."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from manikin.errors import InputError
from manikin.privacy.game import many_canaries

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

pytest.importorskip("opendp", reason="needs the extra 'dp'")
pytest.importorskip("dp_accounting", reason="needs the extra 'dp'")

import audit
import canaries
from hearing import hearing

from manikin.privacy.account import Account
from manikin.privacy.budget import Budget
from manikin.privacy.rows import Rows


def test_scores_of_canaries_by_hand() -> None:
    # 100 coins, all read: of 60 guesses (the most of the three ways) 60 are right. Each way has
    # 5 % / 3: p^60 = .01667 at p = .9340, ε = ln(p / (1 - p)) = 2.650
    inside = np.arange(100) < 50
    assert many_canaries(inside * 1.0, inside, 0.0).epsilon == pytest.approx(2.650, abs=0.01)
    assert many_canaries(~inside * 1.0, inside, 0.0).epsilon == 0
    assert many_canaries(np.zeros(0), np.zeros(0, bool), 0.0).epsilon == 0


def test_scores_that_tie_tell_nothing_of_how_coins_are_sorted() -> None:
    inside = np.arange(1000) < 500
    assert many_canaries(np.zeros(1000), inside, 0.0).epsilon < 0.3


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError):
        many_canaries(np.array([np.nan, 1]), np.array([True, False]), 0.0)
    with pytest.raises(InputError):
        many_canaries(np.zeros(3), np.zeros(2, bool), 0.0)


def test_randomised_response_is_not_refuted_by_many_canaries() -> None:
    """Every score is the coin, right with e^ε / (1 + e^ε): at ε itself 1 time in 20 by chance."""
    rng, epsilon, above, proven = np.random.default_rng(0), 1.5, 0, []
    for _ in range(30):
        inside = rng.random(600) < 0.5
        right = rng.random(600) < 1 / (1 + math.exp(-epsilon))
        scores = np.where(right, inside, ~inside) + 0.01 * rng.random(600)
        found = many_canaries(scores, inside, 0.0).epsilon
        above += found > epsilon
        proven.append(found)
    assert above <= 6  # 1.5 expected at most; 4 standard errors: 1.5 + 4 · 1.2
    assert np.mean(proven) > 1.0


def test_what_is_heard_of_a_row_by_hand() -> None:
    """One column of three codes. Known rows are at 0, 0; asked ones at 1, 2, 2; true is 0, 0, 2.

    Without noise (ρ = 1e12): row 1: (0 - 0)/(0 + 0) is huge, so ρ = .5 and the noise is told.
    Variance of noise 1/(2ρ) = 1; of two rows in a cell the other's coin adds 1/4.
    Counts (2, 0, 1): row 1: (0 - 0)/1 = 0; rows 2: (1 - 1/2)/1.25 = .4.
    """
    rows = Rows(np.array([[0], [0], [2]], np.int32), np.arange(3), (3,), 1, Account(Budget(40.0)))
    exact = audit.replaced(audit.account, _noised=lambda values, kind, scale: values)
    with exact, hearing(np.array([[1], [2], [2]]), np.array([[0], [0]])) as heard:
        rows.counts((0,), rho=0.5, what="x")
        assert heard == pytest.approx([0, 0.4, 0.4])
        # the same by groups {0}, {1, 2}: 1 there, and of 3 asked rows two others
        rows.counts((0,), rho=0.5, what="x", groups=(np.array([0, 1, 1]),))
        assert heard == pytest.approx([0 + 0, 0.4 + 0, 0.4 + 0])  # (1 - 2/2) / 1.5
        coarse = rows.coarser([np.array([0, 0, 1])])
        coarse.counts((0,), rho=0.5, what="x")  # row 1 is with 0: 2 are known; (2 - 2)/1
        assert heard == pytest.approx([0, 0.8, 0.8])


def test_every_recipe_that_begins_under_a_budget_is_found() -> None:
    """Those that say they need one, and none of those that refuse."""
    from manikin import catalogue

    needing = {name for name in catalogue.names() if catalogue.needs_budget(name)}
    assert needing <= set(canaries.names())
    assert not {"table/marginals", "table/smote", "table/seqtree"} & set(canaries.names())


@pytest.mark.parametrize("kind", canaries.KINDS)
def test_no_promise_is_refuted(kind: str) -> None:
    found = canaries.judged("table/mst", 1.0, kind, canaries=100, runs=2)
    assert {"noisy counts", "rows"} <= set(found)
    assert all(proven.epsilon <= 1.0 for proven in found.values()), found


def test_a_fit_without_noise_is_caught() -> None:
    """Of 200 coins 120 guesses are right: p^120 = .01667 at p = .9665, ε = 3.36, beside δ."""
    with audit.bug("exact counts"):
        found = canaries.judged("table/mst", 3.0, "rare", canaries=100, runs=2)
    assert found["noisy counts"].epsilon > 3.0


def test_rows_alone_show_a_huge_budget() -> None:
    found = canaries.judged("table/mst", 1000.0, "rare", canaries=100, runs=2)
    assert found["rows"].epsilon > 0.3 and found["noisy counts"].epsilon > 3.0
