import math

import numpy as np
import pytest

from manikin.metrics.controls import copy_share
from manikin.metrics.privacy.singling_out import alone, holds, predicates, singling_out
from manikin.metrics.score import Trial


def rng(seed=0):
    return np.random.default_rng(seed)


def mixed(make_table, draw, n, **more):
    return make_table(
        x=[["a", "b", "c", "d"][i] for i in draw.integers(0, 4, n)],
        y=[["a", "b"][i] for i in draw.integers(0, 2, n)],
        age=draw.integers(20, 90, n),
        dose=draw.normal(size=n).round(2),
        **more,
    )


def test_values_that_one_subject_holds_by_hand():
    keys = np.array([1, 1, 2, 3, 3, 4], np.uint64)
    # 1 is held by subject 7 alone, twice; 3 by two subjects
    assert alone(keys, np.array([7, 7, 7, 8, 9, 9])).tolist() == [1, 2, 4]


def test_predicates_by_hand():
    sex, ward = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    made = predicates([sex, ward], np.arange(4), 10, rng())
    assert sorted(made) == [((0, s), (1, w)) for s in (0, 1) for w in (0, 1)]
    # twins cannot be singled out; one subject's two rows can
    twins = predicates([np.array([0, 0, 1]), np.array([0, 0, 1])], np.array([1, 2, 3]), 10, rng())
    assert twins == [((0, 1), (1, 1))]
    rows = predicates([np.array([0, 0, 1]), np.array([0, 0, 1])], np.array([1, 1, 3]), 10, rng())
    assert len(rows) == 2


def test_the_quasi_identifiers_come_first():
    cells = [np.arange(5), np.arange(5), np.arange(5), np.arange(5)]
    for predicate in predicates(cells, np.arange(5), 5, rng(), first=2):
        assert [column for column, _ in predicate] == [0, 1]


def test_a_predicate_holds_where_all_its_parts_do():
    cells = [np.array([0, 0, 1, 0]), np.array([2, 3, 2, 2])]
    assert holds(cells, ((0, 0), (1, 2))).tolist() == [0, 3]
    assert holds(cells, ((0, 1), (1, 3))).tolist() == []


def test_rates_are_shares_of_the_predicates_that_were_made(make_table):
    """30 values and 2 extremes make 32 predicates, however many were asked for."""
    train, holdout = make_table(x=list(range(30))), make_table(x=[100.0] * 15 + [-100.0] * 15)
    single = {s.metric: s for s in singling_out(Trial(train, holdout, train), seed=0)}
    score = single["privacy/singling_out.univariate"]
    assert "100.0 % of 32 predicates" in score.note and "0.0 % of 32" in score.note
    assert score.value == 1.0 and single["privacy/singling_out.residual"].value == 1.0


def test_a_description_of_two_people_singles_out_neither(make_table):
    fake = make_table(x=list(range(30)))
    twice = make_table(x=[*range(30), *range(30)])
    nobody = make_table(x=[200.0] * 30 + [-200.0] * 30)
    (_, univariate) = singling_out(Trial(twice, nobody, fake), seed=0)
    assert univariate.value == 0
    # the same value on two rows of one person is still that person's alone
    one = make_table(x=[*range(30), *range(30)], subjects=[*range(30), *range(30)])
    half = make_table(x=[200.0] * 15 + [-200.0] * 15)
    assert singling_out(Trial(one, half, fake), seed=0)[1].value == 1


def test_nothing_to_describe_is_said(make_table):
    flat = make_table(x=[1.0] * 40, y=["a"] * 40)
    (score,) = singling_out(Trial(flat, flat, flat), seed=0)
    assert math.isnan(score.value) and "no predicate" in score.note


def test_copies_are_singled_out_and_more_of_them_more(make_table):
    draw = rng(1)
    trial = Trial(*(mixed(make_table, draw, 1000) for _ in range(3)))
    found = [
        {s.metric.rpartition(".")[2]: s for s in singling_out(copy_share(trial, p, seed=1), seed=0)}
        for p in (0, 0.3, 0.6, 1)
    ]
    for kind in ("univariate", "multivariate", "whole", "residual"):
        values = [scores[kind].value for scores in found]
        assert values == sorted(values) and values[-1] > 0.95, kind
        assert found[0][kind].interval[0] <= 0 < found[3][kind].interval[0], kind


def test_few_copies_are_found_where_few_rows_are_held_out(make_table):
    draw = rng(2)

    def wide(n):
        return make_table(**{name: draw.normal(size=n) for name in "pqrstuv"})

    trial = Trial(wide(2000), wide(500), wide(2000))
    worst, *_, whole = singling_out(copy_share(trial, 0.05, seed=1), seed=0)
    assert worst.interval[0] > 0 and worst.note.startswith("strongest: whole")
    # one copy in four is of a member among the 500 that are compared with 500 strangers
    assert whole.value == pytest.approx(0.05, abs=0.02)
    for score in singling_out(copy_share(trial, 1.0, seed=1), seed=0)[2:]:
        assert score.value > 0.6, score


def test_fresh_real_rows_raise_no_more_alarms_than_stated(make_table):
    alarms, tried = 0, 0
    for seed in range(20):
        draw = rng(50 + seed)
        trial = Trial(*(mixed(make_table, draw, n) for n in (400, 200, 400)))
        scores = singling_out(trial, seed=seed)
        alarms += sum(score.interval[0] > 0 for score in scores)
        tried += len(scores)
    assert tried == 80 and alarms <= 6  # 80 at 1 in 40: 99 % quantile


@pytest.mark.parametrize("rows_each", [1, 5])
def test_missing_values_and_many_rows_a_subject(make_table, rows_each):
    draw = rng(3)

    def part():
        table = mixed(make_table, draw, 300, subjects=(np.arange(300) // rows_each).tolist())
        table.columns["dose"][::3] = np.nan
        table.columns["x"][::4] = -1
        return table

    train = part()
    (whole, *_) = singling_out(Trial(train, part(), train), seed=0)
    assert whole.interval[0] > 0
