from functools import partial

import numpy as np
import pytest

from manikin.metrics.fidelity import detection as detection_module
from manikin.metrics.fidelity.detection import (
    Judged,
    _areas,
    _by_logistic,
    _folds,
    _p_value,
    detection,
)
from manikin.metrics.intervals import auc, blocks
from manikin.metrics.score import Trial
from manikin.metrics.trees import Boosting


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
    for seed in range(30):
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
    assert rejected <= 6  # 1.5 expected; P(more than 6) < .001
    assert covered >= 0.83 * 30


def subjects_at_random(rng, n_subjects, rows_each):
    """Scores of a judge that knows nothing but tells subjects apart, on both sides, in folds."""
    n = n_subjects * rows_each
    whose = np.repeat(np.arange(n_subjects), rows_each)
    scores = np.repeat(rng.normal(size=2 * n_subjects), rows_each)
    fold = np.concatenate([_folds(whose, 5, rng) for _ in range(2)])
    return Judged(scores, np.repeat([False, True], n), fold), whose


def test_the_p_value_rejects_no_more_than_it_says(make_table, monkeypatch):
    """400 nulls, three alike rows a subject: at each level the share rejected is at most that.

    The folds' p-values are joined by a rule that holds however they depend, so it may be less; the
    bounds are the level and three standard errors of 400.
    """
    monkeypatch.setattr(detection_module, "PERMUTATIONS", 99)
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        judged, whose = subjects_at_random(rng, 20, 3)
        part = make_table(x=np.zeros(60), subjects=list(whose))
        found.append(_p_value(judged, "trees", [part, part], rng).value)
    for level in (0.05, 0.1, 0.2, 0.5):
        rejected = np.mean(np.array(found) <= level)
        assert rejected <= level + 3 * np.sqrt(level * (1 - level) / 400), level
    assert np.mean(np.array(found) <= 0.5) > 0.05, "it is not always 1"


def test_boosted_trees_keep_the_level_too(make_table, monkeypatch):
    """Trees that overfit forty rows are judged out of fold: 20 nulls, 1 expected below .05."""
    few = partial(detection_module.classifier, how=Boosting(5, 0.1, 31))
    monkeypatch.setattr(detection_module, "classifier", few)
    monkeypatch.setattr(detection_module, "PERMUTATIONS", 99)
    rejected, areas = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parts = [make_table(**normal(rng, 60)) for _ in range(3)]
        found = by_name(detection(Trial(*parts), seed=seed))
        rejected += found["p_value", "classifier=trees"].value <= 0.05
        areas.append(found["auc", "all"].value)
    assert rejected <= 5  # P(more than 5) < .001
    # within 3 standard errors of one half, each area's being about sqrt(121/(12·60·60)) = .053
    assert abs(np.mean(areas) - 0.5) < 3 * 0.053 / np.sqrt(20)


def test_a_judge_is_never_asked_about_rows_it_was_trained_on(make_table):
    """Known trap elsewhere: scored on its own training rows, the judge tells one table from itself.

    The same trees say more than .9 of rows of one distribution when they have seen them.
    """
    rng = np.random.default_rng(6)
    parts = [make_table(**normal(rng, 150)) for _ in range(3)]
    rows = np.concatenate([np.column_stack([p.columns["x"], p.columns["y"]]) for p in parts[1:]])
    fake = np.repeat([0, 1], 150)
    judge = detection_module.classifier(rows, fake, [False, False], seed=0)
    assert auc(judge(rows)[:, 1], fake == 1) > 0.9
    assert abs(detection(Trial(*parts), seed=0)[0].value - 0.5) < 0.12


def test_a_copy_of_the_training_rows_is_as_real_as_fresh_rows_no_more(make_table):
    """Known trap elsewhere: against training rows a copier cannot be told apart at all."""
    rng = np.random.default_rng(7)
    train, real, fresh = (make_table(**normal(rng, 600)) for _ in range(3))
    copied, new = (detection(Trial(train, real, part), seed=0)[0].value for part in (train, fresh))
    assert abs(copied - new) < 0.08 and copied > 0.4
