import numpy as np
import pytest

from manikin.metrics.fidelity.detection import _areas, _by_logistic, _p_value, detection
from manikin.metrics.intervals import blocks
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


def test_decimals_where_there_are_none_are_seen(make_table):
    """Some hundred whole numbers fit the trees' 254 bins; decimals between them do not."""
    rng = np.random.default_rng(5)
    real = make_table(x=np.rint(rng.normal(0, 30, 600)))
    fake = make_table(x=rng.normal(0, 30, 600))
    assert detection(Trial(real, real, fake), seed=0)[0].value > 0.95


def by_name(scores):
    return {(s.metric.split(".")[1], s.group): s for s in scores}


def test_a_line_sees_a_shift_and_only_trees_a_relation(make_table):
    rng = np.random.default_rng(4)
    real = make_table(**normal(rng, 1500))
    x = rng.normal(size=1500)
    related = make_table(x=x, y=0.9 * x + np.sqrt(1 - 0.81) * rng.normal(size=1500))
    found = by_name(detection(Trial(real, real, related), seed=0))
    assert found["auc", "all"].value > 0.75
    assert found["auc_logistic", "all"].value < 0.56
    assert found["p_value", "classifier=trees"].value < 0.01
    shifted = make_table(**normal(rng, 1500, shift=1.0))
    found = by_name(detection(Trial(real, real, shifted), seed=0))
    # the best AUC for a shift of one standard deviation is Φ(1/√2) = 0.760, and it is linear
    assert found["auc_logistic", "all"].value == pytest.approx(0.76, abs=0.03)
    assert found["p_value", "classifier=logistic"].value < 0.01


def test_the_p_value_is_of_its_level_and_the_interval_covers_one_half(make_table):
    """A trained judge under the null, ten alike rows a subject: pooled permutation would fail."""
    rejected, covered = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        parts = []
        for _ in range(3):
            x, y = (np.repeat(rng.normal(size=40), 5) for _ in range(2))
            parts.append(make_table(x=x, y=y, subjects=list(np.repeat(np.arange(40), 5))))
        sides = [parts[1], parts[2]]
        judged = _by_logistic(parts[0], sides, rng)
        rejected += _p_value(judged, "logistic", sides, rng).value <= 0.05
        (_, (low, high)), _ = _areas(judged, [blocks(p.subjects, rng) for p in sides])
        covered += low <= 0.5 <= high
    assert rejected <= 8  # 3 expected; P(more than 8) < .005
    assert covered >= 0.85 * 60
