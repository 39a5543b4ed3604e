"""Numbers of histories are drawn along a smooth distribution; only heaps come back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from manikin.synthesizers.events._panel_marginals import Marginal
from manikin.synthesizers.events._quantiles import KNOTS, Quantiles, _earlier, _windows, quantiles
from manikin.synthesizers.events._smooth import independent, spread_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def panel(n: int, seed: int) -> tuple[Floats, Ints]:
    """Return values of `n` subjects at 8 visits each on a lattice of tenths, and whose they are."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(n), 8)
    return np.round(70 + 5 * rng.normal(size=n)[whose] + 3 * rng.normal(size=8 * n), 1), whose


def by_visits(values: Floats, whose: Ints, scores: Floats, *, smooth: bool) -> Floats:
    decimals = np.array([1]) if smooth else None
    found = quantiles(values, np.zeros(values.size, np.int64), 1, whose, 5, least=5,
                      decimals=decimals)  # fmt: skip
    return np.round(found.at(np.zeros(scores.size, np.int64), scores), 1)


def by_panel(values: Floats, whose: Ints, scores: Floats) -> Floats:
    from scipy.special import ndtri

    return Marginal.fit(values, whose, 5, 1).values(ndtri(scores))


def hits(make: object, *, smooth: bool = True) -> Floats:
    """Return, for each of 60 worlds, how much more of what is drawn is in training only."""
    found = []
    for seed in range(60):
        values, whose = panel(120, seed)
        mine, others = whose < 60, whose >= 60
        scores = np.random.default_rng(1000 + seed).random(500)
        if make == "panel":
            drawn = by_panel(values[mine], whose[mine], scores)
        else:
            drawn = by_visits(values[mine], whose[mine], scores, smooth=smooth)
        here = np.setdiff1d(values[mine], values[others])
        there = np.setdiff1d(values[others], values[mine])
        found.append(np.isin(drawn, here).mean() / max(here.size, 1)
                     - np.isin(drawn, there).mean() / max(there.size, 1))  # fmt: skip
    return np.array(found)


def leaning(of: Floats) -> float:
    """Return a mean in standard errors."""
    return float(of.mean() / (of.std(ddof=1) / of.size**0.5))


class TestWhoseValues:
    @pytest.mark.parametrize("make", ["panel", "visits"])
    def test_values_of_training_come_no_more_than_those_of_strangers(self, make: str) -> None:
        assert abs(leaning(hits(make))) < 4

    def test_control_values_that_are_kept_give_training_away(self) -> None:
        gaps = []
        for seed in range(60):
            values, whose = panel(120, seed)
            mine, others = values[whose < 60], values[whose >= 60]
            drawn = np.random.default_rng(1000 + seed).choice(mine, 500)
            here, there = np.setdiff1d(mine, others), np.setdiff1d(others, mine)
            gaps.append(np.isin(drawn, here).mean() / max(here.size, 1)
                        - np.isin(drawn, there).mean() / max(there.size, 1))  # fmt: skip
        assert leaning(np.array(gaps)) > 10

    def test_what_five_have_by_chance_is_no_heap(self) -> None:
        # 60 subjects at 8 visits on about 200 values: 2.4 a value, five or more on many
        values, whose = panel(60, 3)
        each, counts = np.unique(values, return_counts=True)
        assert (counts >= 6).sum() > 10
        found = spread_of(values, whose, 5, 1)
        # chances of neighbouring values are alike, as counts are not
        assert np.abs(np.diff(found.mass)).max() < 0.003
        assert np.abs(np.diff(counts / counts.sum())).max() > 0.009
        assert each.size < found.mass.size  # values that did not occur come too


class TestHeaps:
    def test_floor_and_ceiling_keep_their_shares(self) -> None:
        rng = np.random.default_rng(0)
        whose = np.repeat(np.arange(200), 5)
        kind = rng.random(1000)
        values = np.where(kind < 0.3, 0.0, np.where(kind < 0.4, 100.0, rng.uniform(20, 80, 1000)))
        values = np.round(values, 1)
        scores = (np.arange(2000) + 0.5) / 2000
        for drawn in (by_panel(values, whose, scores),
                      by_visits(values, whose, scores, smooth=True)):  # fmt: skip
            assert (drawn == 0).mean() == pytest.approx((values == 0).mean(), abs=0.02)
            assert (drawn == 100).mean() == pytest.approx((values == 100).mean(), abs=0.02)

    @pytest.mark.parametrize("digit", [5, 10])
    def test_preferred_digits_stay(self, digit: int) -> None:
        rng = np.random.default_rng(1)
        whose = np.repeat(np.arange(300), 6)
        exact = rng.normal(130, 18, whose.size)
        coarse = rng.random(whose.size) < 0.5
        values = np.where(coarse, np.rint(exact / digit) * digit, np.rint(exact))
        drawn = Marginal.fit(values, whose, 5, 0).values(rng.standard_normal(20_000))
        wanted = (values % digit == 0).mean()  # a half and a tenth of the rest: 0.55, or 0.6
        assert (drawn % digit == 0).mean() == pytest.approx(wanted, abs=0.04)

    def test_even_numbers_stay_even(self) -> None:
        rng = np.random.default_rng(2)
        whose = np.repeat(np.arange(300), 6)
        values = np.rint(rng.normal(120, 15, whose.size) / 2) * 2
        drawn = Marginal.fit(values, whose, 5, 0).values(rng.standard_normal(5000))
        assert (drawn % 2 == 0).mean() > 0.99

    def test_converted_units_stay_on_their_lattice(self) -> None:
        # pounds as kilograms, with two decimals: steps of 0.4536, of which 0.45 and 0.46 are seen
        rng = np.random.default_rng(4)
        whose = np.repeat(np.arange(400), 5)
        pounds = np.rint(rng.normal(160, 12, whose.size))
        values = np.round(pounds * 0.45359237, 2)
        drawn = Marginal.fit(values, whose, 5, 2).values(rng.standard_normal(5000))
        back = np.round(np.rint(drawn / 0.45359237) * 0.45359237, 2)
        assert (np.abs(back - drawn) < 0.011).mean() > 0.95

    def test_few_values_are_kept_as_they_are(self) -> None:
        whose = np.arange(1000)
        values = np.repeat([0.0, 0.5, 1.0], [700, 200, 100])
        drawn = Marginal.fit(values, whose, 5, 1).values(np.linspace(-3, 3, 999))
        assert set(drawn) == {0.0, 0.5, 1.0}


class TestOwners:
    def test_windows_are_those_of_subjects(self) -> None:
        # the upper tenth is one subject's: a window of five values there is one patient
        values = np.concatenate([np.arange(90.0), 1000 + np.arange(10.0)])
        owners = np.concatenate([np.arange(90), np.full(10, 90)])
        begin, n = np.array([[0]]), np.array([[100]])
        low, high = _windows(begin, n, _earlier(owners), 5)
        spans = [np.unique(owners[a:b]).size for a, b in zip(low[0], high[0], strict=True)]
        assert min(spans) >= 5
        found = quantiles(values, np.zeros(100, np.int64), 1, owners, 5)
        # the last knot is the mean of that subject's ten and of four others at least:
        # (10 * 1004.5 + 4 * 87.5) / 14 = 742.5
        assert found.knots[0, -1] <= 742.5 + 1e-9

    def test_one_subjects_values_are_no_group_of_their_own(self) -> None:
        values = np.concatenate([np.full(50, 900.0), np.arange(100.0)])
        group = np.repeat([0, 1], [50, 100])
        owners = np.concatenate([np.full(50, 0), np.arange(100)])
        found = quantiles(values, group, 2, owners, 5, least=5)
        assert isinstance(found, Quantiles) and found.knots.shape == (2, KNOTS)
        assert (found.knots[0] < 900).any()

    def test_what_values_are_worth(self) -> None:
        # four subjects whose ten values never change are worth four
        whose = np.repeat(np.arange(40), 10)
        assert independent(whose.astype(np.float64), whose) == pytest.approx(40, rel=0.02)
        rng = np.random.default_rng(0)
        assert independent(rng.random(400), whose) > 300


def test_hundreds_of_subjects_with_one_value_each() -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.lognormal(1, 1, 300), 2)
    found = spread_of(values, np.arange(300), 5, 2)
    assert (found.low > 0).all() and found.mass.sum() == pytest.approx(1)
    ends = np.stack([found.low, found.high], 1).ravel()
    assert (np.diff(ends) >= 0).all()
