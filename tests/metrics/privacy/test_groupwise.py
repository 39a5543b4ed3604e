"""Groups that are less protected than others."""

import math

import numpy as np

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.judge import judge
from manikin.metrics.privacy.groupwise import groupwise, one_row_each
from manikin.metrics.score import Trial

SCHEMA = TableSchema(
    (
        Column("sex", "boolean", ("quasi_identifier",), ("F", "M")),
        Column("rare", "categorical", ("sensitive",), ("no", "yes")),
        *(Column(f"x{i}", "continuous", decimals=3) for i in range(4)),
    )
)


def patients(n: int, seed: int, rare: float = 0.25) -> Table:
    rng = np.random.default_rng(seed)
    cells = {
        "sex": rng.integers(0, 2, n).astype(np.int32),
        "rare": (rng.random(n) < rare).astype(np.int32),
        **{f"x{i}": rng.normal(size=n).round(3) for i in range(4)},
    }
    return Table(SCHEMA, np.arange(n), cells)


def copying(train: Table, fresh: Table) -> Table:
    """Fresh rows, but that patients with the rare disease are the training ones."""
    common = fresh.rows(np.flatnonzero(fresh.columns["rare"] == 0))
    copied = train.rows(np.flatnonzero(train.columns["rare"] == 1))
    both = Table.concatenate([common, copied])
    return Table(SCHEMA, np.arange(both.n_rows), both.columns)


def by_name(scores):
    return {(s.metric.rpartition(".")[2], s.group): s for s in scores}


def test_a_group_that_is_copied_is_found_and_the_other_is_not():
    train, holdout, fresh = patients(1500, 1), patients(1500, 2), patients(1500, 3)
    found = by_name(groupwise(Trial(train, holdout, copying(train, fresh)), seed=0))
    assert found["auc", "rare=yes"].interval[0] > 0.9
    assert found["excess", "rare=yes"].interval[0] > 0.3
    assert found["excess", "rare=no"].value == -found["excess", "rare=yes"].value
    assert abs(found["auc", "rare=no"].value - 0.5) < 0.08
    # both sexes have as many of them: neither is protected less
    low, high = found["excess", "sex=F"].interval
    assert low < 0 < high and high - low < 0.2


def test_fresh_rows_protect_all_alike_and_the_ceiling_is_fresh_rows():
    trial = Trial(patients(900, 4), patients(900, 5), patients(900, 6))
    for score in judge(trial, {"privacy/groupwise": groupwise}, seed=0):
        null = 0.5 if score.metric.endswith("auc") else 0.0
        low, high = score.interval
        assert low - 0.03 < null < high + 0.03, score
        assert abs(score.ceiling - null) < 0.15  # not the training rows: those would be 1


def test_small_groups_are_not_assessed():
    train, fresh = patients(600, 7), patients(600, 8)
    for n, few in ((15, 20), (6, 11)):
        holdout = patients(600, 9, rare=0.0)
        holdout.columns["rare"][:n] = 1
        trial = Trial(train, holdout, fresh, reference=patients(600, 10))
        small = by_name(groupwise(trial, seed=0))
        for what in ("auc", "excess"):
            assert math.isnan(small[what, "rare=yes"].value)
            assert f"fewer than {few} subjects" in small[what, "rare=yes"].note
        # and what is left of everybody without the others cannot be compared with them
        assert "other subjects" in small["excess", "rare=no"].note


def test_one_row_a_subject():
    table = patients(60, 11)
    visits = Table(SCHEMA, np.arange(60) // 3, table.columns)
    drawn = one_row_each(visits, np.random.default_rng(0))
    assert drawn.n_rows == 20 and np.unique(drawn.subjects).size == 20


def test_no_roles_no_score(make_table):
    table = make_table(x=[1.0] * 50)
    assert groupwise(Trial(table, table, table), seed=0) == ()
