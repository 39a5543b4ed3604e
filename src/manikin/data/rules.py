"""Conditions and rules as data: what a schema file declares and a command line asks for.

What they mean on a table (holding, repairing, counting violations) is `manikin.knowledge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "Combinations",
    "Condition",
    "IfThen",
    "Inequality",
    "Operator",
    "Order",
    "Range",
    "Rule",
    "Sum",
    "Value",
]

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "missing", "present"]
Order = Literal["<", "<=", ">", ">="]
Value: TypeAlias = str | float


@dataclass(frozen=True)
class Condition:
    """`column operator values`: one value for comparisons, several for `in`, none for `missing`.

    Values are written as in the source: a category's spelling, a number, a date in the column's
    own format or ISO 8601.
    """

    column: str
    operator: Operator
    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Range:
    """A number or date lies between two bounds, both allowed; None is no bound."""

    column: str
    minimum: Value | None = None
    maximum: Value | None = None


@dataclass(frozen=True)
class Inequality:
    """Two columns of a row stand in this order wherever both are present."""

    left: str
    operator: Order
    right: str


@dataclass(frozen=True)
class Sum:
    """`total` is the sum of `parts` to within its last decimal, where all are present."""

    total: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class IfThen:
    """Where every condition of `when` holds, every condition of `then` holds too."""

    when: tuple[Condition, ...]
    then: tuple[Condition, ...]


@dataclass(frozen=True)
class Combinations:
    """Only these combinations of values occur; with `allowed` None, those seen in training."""

    columns: tuple[str, ...]
    allowed: tuple[tuple[str, ...], ...] | None = None


Rule: TypeAlias = Range | Inequality | Sum | IfThen | Combinations
