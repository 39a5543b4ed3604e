import math

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.controls import copy_share, floor
from manikin.metrics.privacy._known import equally_many
from manikin.metrics.privacy.unique_values import _listed, _sets, held_alone, unique_values
from manikin.metrics.score import Score, Trial

LEVELS = ("a", "b", "c", "d", "e", "f")
ROLES = {"p": ("quasi_identifier",), "q": ("quasi_identifier",), "s": ("sensitive",)}


def coded(make_table, rng, n, p=(0.4, 0.3, 0.2, 0.08, 0.015, 0.005), **more):
    """Four columns of six levels, which in combination are unique."""
    return make_table(
        **{name: list(rng.choice(LEVELS, n, p=p)) for name in "pqrt"},
        s=list(rng.choice(["a", "b"], n)),
        roles=ROLES,
        **more,
    )


def patients(make_table, rng, n):
    """The same with a number that is mostly unique."""
    return coded(make_table, rng, n, dose=rng.normal(50, 10, n).round(3))


def named(scores: tuple[Score, ...]) -> dict[tuple[str, str], Score]:
    return {(s.metric.rpartition(".")[2], s.group): s for s in scores}


def test_what_one_subject_alone_holds_by_hand():
    keys = np.array([5, 5, 7, 7, 8, 9, 9], np.uint64)
    # 5 is held by subject 0 twice; 7 by two subjects; 8 by one; 9 by subject 0 and another
    who = np.array([0, 0, 1, 2, 1, 3, 0])
    assert held_alone(keys, who).tolist() == [True, True, False, False, True, False, False]


def test_a_combination_is_unique_only_where_no_part_of_it_is(make_table):
    table = make_table(
        x=["a", "a", "b", "b", "c", "a", "b"],
        y=["a", "b", "a", "b", "a", "a", "b"],
    )
    fake = make_table(x=["a", "c"], y=["b", "a"])
    pair = _listed(table, fake, [("x", "y")])["combinations"][0]
    # ab and ba are held once; c is unique by itself; aa and bb are held twice. Of ab and ba the
    # synthetic rows hold ab; in ca they hold what one column gave away already
    assert [None if math.isnan(v) else v for v in pair] == [None, 1, 0, None, None, None, None]


def test_triples_are_minimal_too(make_table):
    """Rows of three bits: the odd ones twice, one of them once; each pair is held often."""
    bits = [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)] * 2 + [(1, 1, 1)]
    x, y, z = (["ab"[row[i]] for row in bits] for i in range(3))
    table = make_table(x=x, y=y, z=z)
    sets = [("x", "y"), ("x", "z"), ("y", "z"), ("x", "y", "z")]
    *pairs, triple = _listed(table, table, sets)["combinations"]
    assert all(np.isnan(pair).all() for pair in pairs)
    assert np.isnan(triple[:-1]).all() and triple[-1] == 1


def test_values_that_are_found_by_hand(make_table):
    """Thirty numbers held once and one held twice; a third of the members' are in the table."""
    train = make_table(x=[*range(30), 99, 99])
    holdout = make_table(x=[*range(100, 130), 199, 199])
    fake = make_table(x=[*range(10), *range(100, 103), 99])
    found = named(unique_values(Trial(train, holdout, fake), seed=0))
    score = found["numbers", "all"]
    assert score.value == pytest.approx((10 / 30 - 3 / 30) / (1 - 3 / 30))
    assert "33.3 % of 30 holders on members and 10.0 % of 30" in score.note
    assert found["numbers", "column=x"].value == score.value
    assert found["success", "kind=numbers"].value == pytest.approx(1 / 3)
    assert score.interval[0] < score.value < score.interval[1]


def test_absence_is_no_unique_value(make_table):
    table = make_table(x=[None, *[1.0] * 30], y=["a"] * 31)
    found = _listed(table, table, [("x", "y")])
    assert np.isnan(found["numbers"][0]).all() and np.isnan(found["codes"][0]).all()


def test_columns_somebody_knows_are_combined_first(make_table):
    cells = {name: [1.0, 2.0] for name in "abcdefghijkl"}
    roles = {"l": ("quasi_identifier",), "k": ("sensitive",)}
    sets = _sets(make_table(**cells, roles=roles), np.random.default_rng(0))
    assert len({name for names in sets for name in names}) == 8
    assert ("k", "l") in sets and sum(len(names) == 2 for names in sets) == 28
    assert sum(len(names) == 3 for names in sets) == 40 and len(set(sets)) == 68


def test_few_holders_are_not_assessable(make_table):
    table = make_table(x=[*range(19), *[50] * 30])
    for score in unique_values(Trial(table, table, table), seed=0):
        assert math.isnan(score.value) and "fewer than 20 holders" in score.note
    empty = Table(TableSchema((Column("t", "text"),)), np.arange(30), {})
    (score,) = unique_values(Trial(empty, empty, empty), seed=0)
    assert math.isnan(score.value) and "no column" in score.note


def test_copies_give_away_all_and_five_in_a_hundred_are_seen(make_table):
    rng = np.random.default_rng(1)
    trial = Trial(*(patients(make_table, rng, 2500) for _ in range(3)))
    found = [named(unique_values(copy_share(trial, p, seed=1), seed=0)) for p in (0, 0.05, 0.4, 1)]
    for key in (("numbers", "all"), ("combinations", "all"), ("combinations", "s=a")):
        values = [scores[key].value for scores in found]
        assert values == sorted(values), key
        assert found[0][key].interval[0] <= 0 < found[2][key].interval[0], key
        # copies are drawn without replacement: 40 % of rows are 40 % of the people
        assert abs(values[2] - values[0] - 0.4) < 0.1 and values[3] == 1, key
    # at 5 %, numbers that strangers seldom share tell; combinations are too few here
    assert found[1]["numbers", "all"].interval[0] > 0


def test_independent_columns_hold_unique_values_but_not_combinations(make_table):
    """Shuffled columns give every value away, and nobody's combination more than a stranger's."""
    rng = np.random.default_rng(2)
    trial = Trial(*(patients(make_table, rng, 1500) for _ in range(3)))
    found = named(unique_values(floor(trial, seed=0), seed=0))
    assert found["numbers", "all"].value == 1 and found["success", "kind=numbers"].value == 1
    trial = Trial(*(coded(make_table, rng, 1500) for _ in range(3)))
    score = named(unique_values(floor(trial, seed=0), seed=0))["combinations", "all"]
    assert score.interval[0] <= 0 and score.value < 0.1


def test_a_table_rich_in_values_is_no_leak(make_table):
    """It holds most combinations there are, of strangers too: more than fresh real rows would."""
    rng = np.random.default_rng(3)
    train, holdout, real = (coded(make_table, rng, 800) for _ in range(3))
    rich = coded(make_table, rng, 600, p=[1 / 6] * 6)
    score, other = (
        named(unique_values(Trial(train, holdout, rows), seed=0))["combinations", "all"]
        for rows in (rich, real)
    )
    right = [float(s.note.split()[2]) for s in (score, other)]
    assert right[0] > 85 > 70 > right[1]  # % of members' combinations
    assert score.interval[0] <= 0


@pytest.mark.parametrize("n_holdout", [400, 150])
def test_fresh_real_rows_raise_no_more_alarms_than_stated(make_table, n_holdout):
    alarms, tried = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(90 + seed)
        trial = Trial(*(patients(make_table, rng, n) for n in (400, n_holdout, 400)))
        scores = [s for s in unique_values(trial, seed=seed) if not s.metric.endswith("success")]
        scores = [s for s in scores if not math.isnan(s.value) and s.group == "all"]
        alarms += sum(score.interval[0] > 0 for score in scores)
        tried += len(scores)
    assert tried >= 40 and alarms <= 4  # 40 at 1 in 40: 99 % quantile


def test_a_subject_with_many_rows_is_one_holder(make_table):
    of = np.repeat(np.arange(40), 5)
    train = make_table(x=of * 1.0, subjects=of.tolist())  # each holds one value, on five rows
    holdout = make_table(x=of + 500.0, subjects=of.tolist())
    found = named(unique_values(Trial(train, holdout, train), seed=0))
    assert "of 40 holders on members" in found["numbers", "all"].note
    assert found["numbers", "all"].value == 1


def test_the_same_numbers_are_compared_however_large_the_parts(make_table):
    rng = np.random.default_rng(5)
    one, other = equally_many(patients(make_table, rng, 300), patients(make_table, rng, 100), rng)
    assert one.n_subjects == other.n_subjects == 100
