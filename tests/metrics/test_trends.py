import pytest

from manikin.metrics.fidelity.trends import trends
from manikin.metrics.score import Trial


def test_pairs_by_hand(make_table):
    real = make_table(x=["a", "a", "b", "b"], y=["a", "a", "b", "b"])
    fake = make_table(x=["a", "a", "b", "b"], y=["a", "b", "a", "b"])
    # the real table holds half in each of two cells, the other a quarter in each of four
    (score,) = trends(Trial(real, real, fake), seed=0)
    assert score.value == pytest.approx(0.5)
    assert trends(Trial(real, real, real), seed=0)[0].value == pytest.approx(1.0)


def test_numbers_are_cut_at_training_deciles(make_table):
    train = make_table(x=list(range(100)), y=list(range(100)))
    near = make_table(x=[v + 0.4 for v in range(100)], y=list(range(100)))
    # an edge lies half way to the next whole number, so 0.4 moves no value over it
    assert trends(Trial(train, train, near), seed=0)[0].value == pytest.approx(1.0)


def test_one_column_has_no_pair(make_table):
    table = make_table(x=[1, 2, 3])
    (score,) = trends(Trial(table, table, table), seed=0)
    assert score.value != score.value and "pair" in score.note
