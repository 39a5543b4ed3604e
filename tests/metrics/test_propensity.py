import numpy as np
import pytest

from manikin.metrics.fidelity.propensity import propensity
from manikin.metrics.score import Trial


def normals(make_table, rng, n, shift=0.0, correlation=0.0, columns=4):
    x = rng.normal(size=(n, columns))
    x[:, 1] = correlation * x[:, 0] + np.sqrt(1 - correlation**2) * x[:, 1]
    x[:, 0] += shift
    return make_table(**{f"x{i}": x[:, i] for i in range(columns)})


def by_name(scores):
    return {(s.metric.split(".")[1], s.group): s for s in scores}


def test_the_ratio_is_one_under_the_null_and_its_p_value_uniform(make_table):
    ratios, pairs, rejected = [], [], 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        parts = [normals(make_table, rng, 300) for _ in range(3)]
        found = by_name(propensity(Trial(*parts), seed=seed))
        ratios.append(found["ratio", "all"].value)
        pairs.append(found["ratio_pairs", "all"].value)
        rejected += found["p_value", "effects=main"].value <= 0.05
    # of k degrees of freedom the ratio has mean 1 and variance 2/k: for 4, ±.13 of 30 (1 s.e.)
    assert np.mean(ratios) == pytest.approx(1, abs=0.39)
    assert np.mean(pairs) == pytest.approx(1, abs=0.28)
    assert rejected <= 6  # 1.5 expected; P(more than 6) < .001


def test_the_expectation_is_that_of_two_samples(make_table):
    """E₀ = (k - 1)(1 - c)c/N: 4 columns, N = 2000, c = 1/2 give .0005."""
    ratios = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        train, real = (normals(make_table, rng, 1000) for _ in range(2))
        fake = normals(make_table, rng, 1000, shift=1.0)
        ratios.append(propensity(Trial(train, real, fake), seed=0)[0].value)
    # for N(0, 1) against N(1, 1), p = 1/(1 + exp(1/2 - x)): E (p - 1/2)² by numerical integration
    x = np.linspace(-8, 9, 20_001)
    density = (np.exp(-(x**2) / 2) + np.exp(-((x - 1) ** 2) / 2)) / 2 / np.sqrt(2 * np.pi)
    error = np.trapezoid((1 / (1 + np.exp(0.5 - x)) - 0.5) ** 2 * density, x)
    assert np.mean(ratios) == pytest.approx(error / 0.0005, rel=0.1)


def test_a_wrong_correlation_is_seen_by_products_only(make_table):
    rng = np.random.default_rng(1)
    train, real = (normals(make_table, rng, 2000, correlation=0.8) for _ in range(2))
    found = by_name(propensity(Trial(train, real, normals(make_table, rng, 2000)), seed=0))
    assert found["ratio", "all"].value < 3 and found["p_value", "effects=main"].value > 0.01
    assert found["ratio_pairs", "all"].value > 10
    assert found["p_value", "effects=pairs"].value < 0.01


def test_alike_rows_of_a_subject_are_no_evidence(make_table):
    ratios = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parts = []
        for _ in range(3):
            x = np.repeat(rng.normal(size=40), 8)
            parts.append(make_table(x=x, y=x**2, subjects=list(np.repeat(np.arange(40), 8))))
        ratios.append(propensity(Trial(*parts), seed=0)[0].value)
    assert np.mean(ratios) < 2  # counting rows, chance alone would give 8


def test_disjoint_sides_give_a_large_finite_ratio(make_table):
    rng = np.random.default_rng(2)
    real, fake = (normals(make_table, rng, 200, shift=s) for s in (0, 50))
    found = by_name(propensity(Trial(real, real, fake), seed=0))["ratio", "all"]
    assert np.isfinite(found.value) and found.value > 50


def test_one_column_has_no_products_and_equal_rows_no_number(make_table):
    one = make_table(x=np.arange(40.0))
    assert {s.metric for s in propensity(Trial(one, one, one), seed=0)} == {
        "fidelity/propensity.ratio", "fidelity/propensity.p_value",
    }  # fmt: skip
    flat = make_table(x=[1.0] * 40)
    assert np.isnan(propensity(Trial(flat, flat, flat), seed=0)[0].value)
