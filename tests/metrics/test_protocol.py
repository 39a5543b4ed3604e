"""Who is who in an attack: no subject twice, and nothing said of too few."""

import numpy as np
import pytest

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.errors import NotSupported
from manikin.metrics.protocol import parties
from manikin.metrics.score import Trial


def rows(first: int, n: int) -> Table:
    schema = TableSchema((Column("x", "integer"),))
    return Table(schema, np.repeat(np.arange(first, first + n), 2), {"x": np.arange(2.0 * n)}, {})


def test_nobody_is_in_two_parts() -> None:
    trial = Trial(rows(0, 40), rows(100, 50), rows(500, 40))
    found = parties(trial, seed=3)
    people = [set(p.subjects) for p in (found.members, found.strangers, found.reference)]
    assert people[1] | people[2] == set(trial.holdout.subjects)
    assert not (people[0] & people[1] or people[1] & people[2])
    assert 20 <= len(people[1]) <= 30


def test_reference_rows_that_are_given_are_the_attackers() -> None:
    reference = rows(300, 25)
    found = parties(Trial(rows(0, 40), rows(100, 30), rows(500, 40), reference), seed=3)
    assert found.reference is reference
    assert found.strangers.n_subjects == 30


def test_too_few_are_not_assessed() -> None:
    with pytest.raises(NotSupported, match="fewer than 20"):
        parties(Trial(rows(0, 40), rows(100, 30), rows(500, 40)), seed=3)


def test_one_held_out_subject_is_too_few_for_attacks() -> None:
    with pytest.raises(NotSupported, match=r"held-out|reference"):
        parties(Trial(rows(0, 50), rows(100, 1), rows(500, 50)), seed=0)
