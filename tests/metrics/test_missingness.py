import numpy as np
import pytest

from manikin.metrics.fidelity.missingness import missingness
from manikin.metrics.score import Trial


def test_patterns_by_hand(make_table):
    both = make_table(x=[1, 2, None, None], y=[1, 2, None, None])
    apart = make_table(x=[1, 2, None, None], y=[None, None, 3, 4])
    pattern, correlation = missingness(Trial(both, both, apart), seed=0)
    # real: none or both are absent; synthetic: always one of them
    assert pattern.value == pytest.approx(0.0)
    assert correlation.value == pytest.approx(0.0)  # correlation 1 against -1
    pattern, correlation = missingness(Trial(both, both, both), seed=0)
    assert pattern.value == 1 and correlation.value == 1


def test_phi_is_the_correlation_of_absence(make_table):
    rng = np.random.default_rng(0)
    real, fake = ((rng.random((500, 2)) < 0.3) for _ in range(2))
    real[:, 1] = real[:, 0] ^ (rng.random(500) < 0.2)
    tables = [
        make_table(**{n: np.where(part[:, i], np.nan, 1.0) for i, n in enumerate("xy")})
        for part in (real, fake)
    ]
    expected = 1 - abs(np.corrcoef(real.T)[0, 1] - np.corrcoef(fake.T)[0, 1]) / 2
    found = missingness(Trial(tables[0], *tables), seed=0)[1]
    assert found.value == pytest.approx(expected)


def test_nothing_missing_no_score(make_table):
    table = make_table(x=[1, 2, 3])
    assert missingness(Trial(table, table, table), seed=0) == ()


def test_patterns_of_three_columns_by_hand(make_table):
    """Real: none 2/4, x 1/4, xy 1/4. Synthetic: none 1/4, x 1/4, y 1/4, xy 1/4. TV = 1/4."""
    train = make_table(x=[1, 1, None, None, 1], y=[1, 1, 1, None, None], z=[1, 2, 3, 4, 5])
    real = make_table(x=[1, 1, None, None], y=[1, 1, 1, None], z=[1, 2, 3, 4])
    fake = make_table(x=[1, None, 1, None], y=[1, 1, None, None], z=[1, 2, 3, 4])
    assert missingness(Trial(train, real, fake), seed=0)[0].value == pytest.approx(0.75)


def lost(make_table, rng, n, together):
    """Two tests that are not done in a third of patients each, both at once or by chance."""
    first = rng.random(n) < 1 / 3
    second = first if together else rng.random(n) < 1 / 3
    return make_table(
        x=np.where(first, np.nan, 1.0), y=np.where(second, np.nan, 1.0), z=rng.normal(size=n)
    )


def test_the_same_rates_apart_are_seen(make_table):
    """Patterns 2/3, 0, 0, 1/3 against 4/9, 2/9, 2/9, 1/9: TV = 4/9; correlation 1 against 0."""
    rng = np.random.default_rng(1)
    real = lost(make_table, rng, 4000, together=True)
    fake = lost(make_table, rng, 4000, together=False)
    pattern, correlation = missingness(Trial(real, real, fake), seed=0)
    assert pattern.value == pytest.approx(5 / 9, abs=0.03)
    assert correlation.value == pytest.approx(0.5, abs=0.03)


def test_the_intervals_hold_the_truth(make_table):
    """100 pairs of samples of 400: nominal 95 % intervals hold 5/9 and 1/2 in 88 or more."""
    held = np.zeros(2)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        real, fake = (lost(make_table, rng, 400, together=t) for t in (True, False))
        found = missingness(Trial(real, real, fake), seed=seed)
        for i, truth in enumerate((5 / 9, 0.5)):
            low, high = found[i].interval
            held[i] += low <= truth <= high
    assert held.min() >= 88


def test_rows_of_one_subject_are_one_observation(make_table):
    """Ten alike rows a subject: the interval is as wide as with one row, not a third of it."""
    widths = []
    for rows_each in (1, 10):
        rng = np.random.default_rng(3)
        parts = []
        for _ in range(2):
            gone = np.repeat(rng.random((80, 2)) < 0.4, rows_each, axis=0)
            cells = {n: np.where(gone[:, i], np.nan, 1.0) for i, n in enumerate("xy")}
            subjects = list(np.repeat(np.arange(80), rows_each))
            parts.append(make_table(**cells, subjects=subjects))
        low, high = missingness(Trial(parts[0], *parts), seed=0)[0].interval
        widths.append(high - low)
    assert widths[1] > 0.7 * widths[0]
