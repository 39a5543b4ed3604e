import dataclasses
import typing

import pytest

from manikin.data import rules


def test_every_rule_is_plain_frozen_data():
    for rule in (*typing.get_args(rules.Rule), rules.Condition):
        assert dataclasses.is_dataclass(rule)
        for field in dataclasses.fields(rule):
            assert "Callable" not in str(field.type)


def test_rules_compare_by_value_and_can_be_kept_in_sets():
    a = rules.IfThen((rules.Condition("x", "=", ("1",)),), (rules.Condition("y", "missing"),))
    b = rules.IfThen((rules.Condition("x", "=", ("1",)),), (rules.Condition("y", "missing"),))
    assert a == b and len({a, b, rules.Range("x", 0)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.when = ()
