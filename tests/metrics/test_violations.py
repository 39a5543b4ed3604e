import dataclasses

import numpy as np
import pytest

from manikin.data.rules import Combinations, Inequality, Range
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.score import Trial
from manikin.metrics.validity.violations import CARD, violations

RULES = (Range("a", 0, 10), Inequality("a", "<=", "b"), Combinations(("s", "t")))
SCHEMA = TableSchema(
    (
        Column("a", "integer"),
        Column("b", "integer"),
        Column("s", "categorical", categories=("x", "y")),
        Column("t", "categorical", categories=("u", "v")),
    ),
    RULES,
)


def table(a: list[float], b: list[float], s: list[int], t: list[int]) -> Table:
    codes = [np.array(c, dtype=np.int32) for c in (s, t)]
    columns = {"a": np.array(a, float), "b": np.array(b, float), "s": codes[0], "t": codes[1]}
    return Table(SCHEMA, np.arange(len(a)), columns)


REAL = table([1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 1, 1])
FAKE = table([11, 2, 3, np.nan], [12, 1, 3, 4], [0, 1, 1, -1], [0, 0, 1, 1])


def test_by_hand() -> None:
    scores = violations(Trial(REAL, REAL, FAKE), seed=0)
    assert [s.group for s in scores] == [
        "all",
        "0 <= a <= 10",
        "a <= b",
        "combinations of s, t as seen in training",
    ]
    assert [s.value for s in scores] == [500.0, 250.0, 250.0, 250.0]
    # Clopper-Pearson for 1 of 4 and 2 of 4, from published tables
    assert scores[1].interval == pytest.approx((6.3, 805.9), abs=0.1)
    assert scores[0].interval == pytest.approx((67.6, 932.4), abs=0.1)


def test_none_and_all() -> None:
    (overall, *_) = violations(Trial(REAL, REAL, REAL), seed=0)
    assert (overall.value, overall.interval[0]) == (0.0, 0.0)
    assert overall.interval[1] == pytest.approx(602.4, abs=0.1)
    bad = table([11] * 4, [0] * 4, [0] * 4, [1] * 4)
    (overall, *_) = violations(Trial(REAL, REAL, bad), seed=0)
    assert (overall.value, overall.interval[1]) == (1000.0, 1000.0)


def test_several_rows_a_subject_are_resampled_together() -> None:
    wide = FAKE.rows(np.tile(np.arange(4), 50))
    alone = dataclasses.replace(wide, subjects=np.arange(200))
    together = dataclasses.replace(wide, subjects=np.repeat(np.arange(4), 50)[np.argsort(
        np.tile(np.arange(4), 50), kind="stable").argsort()])  # fmt: skip
    narrow = violations(Trial(REAL, REAL, alone), seed=0)[0].interval
    broad = violations(Trial(REAL, REAL, together), seed=0)[0].interval
    assert broad[1] - broad[0] > 3 * (narrow[1] - narrow[0])
    assert violations(Trial(REAL, REAL, together), seed=0)[0].interval == broad


def test_no_rules_no_scores() -> None:
    bare = dataclasses.replace(REAL, schema=dataclasses.replace(SCHEMA, rules=()))
    assert violations(Trial(bare, bare, bare), seed=0) == ()
    assert violations(Trial(REAL, REAL, REAL.rows(np.arange(0))), seed=0) == ()
    assert CARD.family == "validity"
