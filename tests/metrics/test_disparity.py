"""The demographic-parity gap by hand."""

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.disparity import Split, parity_gap

SCHEMA = TableSchema((
    Column("group", "categorical", categories=("a", "b", "c")),
    Column("outcome", "categorical", categories=("x", "y", "z")), Column("dose", "continuous"),
))  # fmt: skip


def table(group: list[int], outcome: list[int], dose: list[float] | None = None) -> Table:
    n = len(group)
    return Table(SCHEMA, np.arange(n), {
        "group": np.array(group, np.int32), "outcome": np.array(outcome, np.int32),
        "dose": np.array(dose if dose is not None else np.arange(n), float),
    })  # fmt: skip


def gap(one: Table, real: Table | None = None, group: str = "group", of: str = "outcome") -> float:
    found = parity_gap(one, one if real is None else real, group, of, seed=0)
    assert found is not None and found[1][0] <= found[0] <= found[1][1]
    return found[0]


def test_the_gap_is_the_largest_difference_between_groups() -> None:
    # a: 30 of 40 are x; b: 10 of 40. Only two of c, who are not looked at
    one = table([0] * 40 + [1] * 40 + [2] * 2, [0] * 30 + [1] * 10 + [0] * 10 + [1] * 30 + [0, 0])
    assert gap(one) == pytest.approx(0.5)
    even = table([0] * 40 + [1] * 40, ([0] * 20 + [1] * 20) * 2)
    assert gap(even) == 0
    # shares of x, y: .5, .5 in a; .25, .25 and of z .5 in b: the largest difference is of z
    three = table([0] * 40 + [1] * 40, [0] * 20 + [1] * 20 + [0] * 10 + [1] * 10 + [2] * 20)
    assert gap(three) == pytest.approx(0.5)


def test_numbers_are_split_at_the_real_median() -> None:
    real = table([0] * 40 + [1] * 40, [0] * 80, [*range(80)])
    # all of b lie above the median of 39.5, none of a
    assert gap(real, of="dose") == 1
    shifted = table([0] * 40 + [1] * 40, [0] * 80, [*([30.0] * 20), *([50.0] * 20)] * 2)
    assert gap(shifted, real, of="dose") == 0
    assert Split.fit(real, "dose", 20).median == 39.5
    assert gap(real, group="dose", of="group") == 1


def test_nothing_is_said_of_too_few_or_of_one() -> None:
    few = table([0] * 40 + [1] * 19, [0, 1] * 29 + [0])
    assert parity_gap(few, few, "group", "outcome", seed=0) is None
    same = table([0] * 40 + [1] * 40, [0] * 80)
    assert parity_gap(same, same, "group", "outcome", seed=0) is None
    missing = table([0] * 40 + [1] * 40, [-1] * 80)
    assert parity_gap(missing, missing, "group", "outcome", seed=0) is None
    # a group that a model never draws is not compared
    real = table([0] * 40 + [1] * 40, [0, 1] * 40)
    assert parity_gap(table([0] * 40, [0, 1] * 20), real, "group", "outcome", seed=0) is None
