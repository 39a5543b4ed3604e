import pytest

from manikin.metrics.privacy.rare_values import rare_values
from manikin.metrics.score import Trial


def test_unique_values_by_hand(make_table):
    train = make_table(x=[1.0, 2.0, 3.0, 4.0, 4.0])  # 1, 2 and 3 have one holder each
    holdout = make_table(x=[3.0, 4.0, 4.0, 5.0, 6.0])
    fake = make_table(x=[1.0, 2.0, 3.0, 4.0, 4.0])
    (unique,) = rare_values(Trial(train, holdout, fake), seed=0)
    assert unique.value == pytest.approx(3 / 3 - 1 / 3)


def test_a_subject_with_many_rows_is_one_holder(make_table):
    train = make_table(x=[7.0, 7.0, 7.0, 1.0, 1.0], subjects=[0, 0, 0, 1, 2])
    fake = make_table(x=[7.0] * 5)
    (unique,) = rare_values(Trial(train, make_table(x=[9.0] * 5), fake), seed=0)
    assert unique.value == 1.0  # 7 is held by one person, 1 by two


def test_categories_below_eleven_holders_are_rare(make_table):
    train = make_table(x=["a"] * 30 + ["b"] * 10 + ["c"] * 11)
    holdout, fake = make_table(x=["a"] * 51), make_table(x=["a"] * 50 + ["b"])
    scores = {
        s.metric.rpartition(".")[2]: s for s in rare_values(Trial(train, holdout, fake), seed=0)
    }
    assert set(scores) == {"rare"} and scores["rare"].value == 1.0
