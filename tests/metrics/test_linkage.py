import math

import numpy as np
import pytest

from manikin.metrics.controls import copy_share
from manikin.metrics.privacy.linkage import _halves, linkage, links
from manikin.metrics.score import Trial

HALVES = (("x",), ("y",))


def wide(make_table, draw, n, **more):
    return make_table(
        **{name: draw.normal(size=n) for name in "pqrs"},
        sex=[["a", "b"][i] for i in draw.integers(0, 2, n)],
        **more,
    )


def test_links_by_hand(make_table):
    fake = make_table(x=[0, 10, 20, 30], y=[0, 10, 20, 30])
    real = make_table(x=[1, 1, 29], y=[2, 28, 31])
    # (1, 2): both nearest to the first row; (1, 28): to the first and the last; (29, 31): the last
    assert links(real, fake, HALVES).tolist() == [1.0, 0.0, 1.0]


def test_of_equally_near_rows_one_is_drawn(make_table):
    fake = make_table(x=["a", "a", "b", "b"], y=["c", "d", "c", "d"])
    real = make_table(x=["a", "e"], y=["c", "c"])
    # (a, c): rows {0, 1} and {0, 2} meet with chance 1/4; e is as far from all: {0..3}, {0, 2}: 2/8
    assert links(real, fake, HALVES).tolist() == [0.25, 0.25]


def test_absence_is_a_value_like_others(make_table):
    fake = make_table(x=[None, 1.0, 2.0, 3.0], y=[5.0, 6.0, 7.0, 8.0])
    assert links(make_table(x=[None], y=[5.0]), fake, HALVES).tolist() == [1.0]


def test_the_quasi_identifiers_are_split_where_there_are_enough(make_table):
    draw = np.random.default_rng(0)
    declared = {name: ("quasi_identifier",) for name in ("p", "q", "r", "sex")}
    one, other = _halves(wide(make_table, draw, 50, roles=declared), draw)
    assert sorted((*one, *other)) == ["p", "q", "r", "sex"] and len(one) == len(other) == 2
    few = wide(make_table, draw, 50, roles={"p": ("quasi_identifier",)})
    one, other = _halves(few, draw)
    assert sorted((*one, *other)) == ["p", "q", "r", "s", "sex"]
    # of four columns that tell people apart, each source has two
    assert len(set(one) & set("pqrs")) == 2


def test_one_column_is_not_assessable(make_table):
    table = make_table(x=list(range(30)), constant=[1.0] * 30)
    (score,) = linkage(Trial(table, table, table), seed=0)
    assert math.isnan(score.value) and "fewer than two columns" in score.note


@pytest.mark.parametrize("n_holdout", [1000, 300])
def test_copies_are_linked_and_more_of_them_more(make_table, n_holdout):
    draw = np.random.default_rng(1)
    trial = Trial(*(wide(make_table, draw, n) for n in (1000, n_holdout, 1000)))
    found = [linkage(copy_share(trial, p, seed=1), seed=0)[0] for p in (0, 0.05, 0.3, 1)]
    values = [score.value for score in found]
    assert values == sorted(values) and values[-1] > 0.95
    assert found[0].interval[0] <= 0 < found[1].interval[0]
    assert values[2] == pytest.approx(0.3, abs=0.06)


def test_fresh_real_rows_raise_no_more_alarms_than_stated(make_table):
    alarms = 0
    for seed in range(20):
        draw = np.random.default_rng(70 + seed)
        trial = Trial(*(wide(make_table, draw, n) for n in (400, 200, 400)))
        alarms += linkage(trial, seed=seed)[0].interval[0] > 0
    assert alarms <= 2  # 20 at 1 in 40: 99 % quantile


def test_subjects_with_many_rows_count_once(make_table):
    draw = np.random.default_rng(2)
    of = np.repeat(np.arange(40), 5).tolist()
    trial = Trial(*(wide(make_table, draw, 200, subjects=of) for _ in range(3)))
    assert "of 40 tries on members" in linkage(trial, seed=0)[0].note
