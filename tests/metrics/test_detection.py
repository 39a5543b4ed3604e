import numpy as np
import pytest

from manikin.metrics.fidelity.detection import detection
from manikin.metrics.score import Trial


def normal(rng, n, shift=0.0):
    return {"x": rng.normal(shift, 1, n), "y": rng.normal(0, 1, n)}


def test_the_same_distribution_cannot_be_told_apart(make_table):
    rng = np.random.default_rng(0)
    parts = [make_table(**normal(rng, 1000)) for _ in range(3)]
    area, score, *_ = detection(Trial(*parts), seed=0)
    assert area.value == pytest.approx(0.5, abs=0.05)
    assert score.value > 0.9
    assert area.interval[0] < 0.5 < area.interval[1]


def test_a_shift_is_told_apart_about_as_well_as_theory_says(make_table):
    rng = np.random.default_rng(1)
    real = make_table(**normal(rng, 3000))
    fake = make_table(**normal(rng, 3000, shift=1.0))
    area, score, *_ = detection(Trial(real, real, fake), seed=0)
    # the best AUC for a shift of one standard deviation is Φ(1/√2) = 0.760
    assert 0.72 < area.value < 0.775
    assert score.value == pytest.approx(1 - (2 * area.value - 1), abs=0.01)


def test_disjoint_columns_are_always_told_apart(make_table):
    real, fake = make_table(x=list(range(50))), make_table(x=list(range(100, 150)))
    area, score, *_ = detection(Trial(real, real, fake), seed=0)
    assert area.value == 1.0 and score.value == 0.0


def test_a_subject_is_in_one_fold(make_table):
    """With ten rows of one value a subject, a judge that saw the subject would know the row."""
    rng = np.random.default_rng(2)
    parts = []
    for _ in range(2):
        values = np.repeat(rng.normal(size=100), 10)
        parts.append(make_table(x=values, subjects=list(np.repeat(np.arange(100), 10))))
    area = detection(Trial(parts[0], parts[0], parts[1]), seed=0)[0]
    assert area.value < 0.62


def test_a_wrong_last_decimal_is_seen(make_table):
    rng = np.random.default_rng(3)
    real = make_table(x=rng.normal(0, 100, 2000).round(2))
    coarse = make_table(x=rng.normal(0, 100, 2000).round(1))
    assert detection(Trial(real, real, coarse), seed=0)[0].value > 0.9
