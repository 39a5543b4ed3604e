import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import manikin
from manikin.errors import InputError
from manikin.metrics.combining import combine


def test_the_facade_gives_it():
    assert manikin.combine is combine


def test_the_plug_in_rule_by_hand():
    # ū = (4 + 6) / 2 = 5, k = 200 / 100 = 2, m = 2: T = 5 (2 + 1/2) = 12.5
    said = combine([1.0, 3.0], [4.0, 6.0], rule="plug-in", n_real=100, n_copy=200)
    assert said.value == 2 and said.error**2 == pytest.approx(12.5)
    assert said.high - said.value == pytest.approx(1.959964 * 12.5**0.5)
    assert np.isinf(said.degrees) and "one fit" in said.assumes


def test_the_posterior_rule_by_hand():
    # q = 1, 3, 5: mean 3, b = 4; m = 3: (4/3) 4 = 16/3; ū = 1: T = 13/3
    # degrees: 2 (1 - 1 / (16/3))² = 2 (13/16)² = 1.3203; t at .975 there from its own table
    said = combine([1.0, 3.0, 5.0], [1.0] * 3, rule="posterior", n_real=50, n_copy=50)
    assert said.error**2 == pytest.approx(13 / 3)
    assert said.degrees == pytest.approx(2 * (13 / 16) ** 2)
    assert not said.fallback and said.low < 3 - 4 * said.error


def test_a_negative_variance_has_a_fallback():
    # b = 0: T_f = -ū, so k ū = 0.5 × 4 stands in, with m - 1 degrees of freedom
    said = combine([2.0, 2.0, 2.0], [4.0] * 3, rule="posterior", n_real=100, n_copy=50)
    assert said.fallback and said.error**2 == pytest.approx(2) and said.degrees == 2


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=8),
    st.sampled_from(["posterior", "plug-in"]),
    st.floats(0.1, 10),
)
def test_moving_and_stretching_the_scale_moves_and_stretches_the_answer(q, rule, k):
    q = np.array(q)
    u = np.full(q.size, 3.0)
    one = combine(q, u, rule=rule, n_real=100, n_copy=100 * k)
    other = combine(5 + 2 * q, 4 * u, rule=rule, n_real=100, n_copy=100 * k)
    if one.fallback == other.fallback:
        assert other.value == pytest.approx(5 + 2 * one.value, abs=1e-6)
        assert other.error == pytest.approx(2 * one.error, rel=1e-6)
    assert one.low <= one.value <= one.high


def test_several_estimates_at_once_are_each_alone():
    rng = np.random.default_rng(0)
    q, u = rng.normal(size=(4, 3)), rng.random((4, 3))
    both = combine(q, u, rule="posterior", n_real=10, n_copy=10)
    for j in range(3):
        alone = combine(q[:, j], u[:, j], rule="posterior", n_real=10, n_copy=10)
        assert (both.low[j], both.degrees[j]) == (alone.low, alone.degrees)


@pytest.mark.parametrize(
    ("q", "u", "changed"),
    [
        ([1.0], [1.0], {}),
        ([1.0, 2.0], [1.0], {}),
        ([1.0, np.nan], [1.0, 1.0], {}),
        ([1.0, 2.0], [1.0, -1.0], {}),
        ([1.0, 2.0], [1.0, 1.0], {"rule": "rubin"}),
        ([1.0, 2.0], [1.0, 1.0], {"n_real": 0}),
        ([1.0, 2.0], [1.0, 1.0], {"level": 95}),
    ],
)
def test_what_cannot_be_combined_is_refused(q, u, changed):
    with pytest.raises(InputError):
        combine(q, u, **{"rule": "posterior", "n_real": 10, "n_copy": 10, **changed})


@pytest.mark.parametrize("k", [0.5, 1, 3])
def test_both_rules_have_the_variance_that_simulation_shows(k):
    """The mean of n normal values with variance 1, many times; copies of k n rows, five each."""
    rng = np.random.default_rng(1)
    n, m, repeats = 50, 5, 20_000
    fitted = rng.normal(size=(repeats, 1)) / n**0.5
    rows = round(k * n)
    u = np.full((m, repeats), 1 / rows)
    for rule, own in (("plug-in", 0.0), ("posterior", 1.0)):
        parameter = fitted + own * rng.normal(size=(repeats, m)) / n**0.5
        q = (parameter + rng.normal(size=(repeats, m)) / rows**0.5).T
        said = combine(q, u, rule=rule, n_real=n, n_copy=rows)
        assert said.value.var() == pytest.approx(
            {"plug-in": 1 / n + 1 / (m * rows), "posterior": 1 / n * (1 + 1 / m) + 1 / (m * rows)}[
                rule
            ],
            rel=0.05,
        )
        if rule == "plug-in":
            assert (said.error**2).mean() == pytest.approx(said.value.var(), rel=0.05)
        else:  # without the fallback T_f is unbiased
            spread = (1 + 1 / m) * q.var(axis=0, ddof=1) - u[0]
            assert spread.mean() == pytest.approx(said.value.var(), rel=0.05)
        held = ((said.low <= 0) & (0 <= said.high)).mean()
        # T_f of five copies varies so much that its few degrees of freedom err on the safe side
        assert 0.94 <= held <= (0.96 if rule == "plug-in" else 1), (rule, held)


def test_the_posterior_rule_of_many_copies_covers_as_it_says():
    rng = np.random.default_rng(2)
    n, m, repeats = 50, 50, 4_000
    parameter = rng.normal(size=(1, repeats)) + rng.normal(size=(m, repeats))
    q = (parameter + rng.normal(size=(m, repeats))) / n**0.5
    said = combine(q, np.full(q.shape, 1 / n), rule="posterior", n_real=n, n_copy=n)
    assert 0.94 <= ((said.low <= 0) & (0 <= said.high)).mean() <= 0.97
