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
