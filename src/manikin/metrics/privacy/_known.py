"""What an attacker knows, what they want to know, and what counts as having learned it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.intervals import Floats

__all__ = [
    "column_group",
    "equally_many",
    "given",
    "quasi_identifiers",
    "ranked",
    "sought",
    "tolerance",
]

INFORMATIVE = 3  # columns that stand for the sensitive ones where neither they nor a target are
CLEAR = 0.9  # a column whose commonest level more than this share holds teaches little
LEVELS = 20  # of a coded column that stands for the sensitive ones
CLOSE = 0.05  # of a number's training interquartile range: a guess that near is a hit


def quasi_identifiers(schema: TableSchema) -> tuple[str, ...]:
    """Return the learned columns declared to be quasi-identifiers."""
    return tuple(c.name for c in schema.holders("quasi_identifier") if c.is_learned)


def given(schema: TableSchema, wanted: str) -> tuple[str, ...]:
    """Return what the attacker has of a target: the quasi-identifiers, or else all but `wanted`."""
    known = quasi_identifiers(schema) or tuple(c.name for c in schema.learned)
    return tuple(name for name in known if name != wanted)


def sought(train: Table) -> tuple[Column, ...]:
    """Return the columns that the attacker wants to learn.

    Those with the role sensitive; without any the target; without one up to three that can teach
    something: coded columns of 2 to 20 levels, the most even ones first, then numbers.
    """
    schema = train.schema
    declared = tuple(c for c in schema.holders("sensitive") if c.is_learned)
    if declared:
        return declared
    target = schema.holder("target")
    if target is not None and target.is_learned:
        return (target,)
    told = set(quasi_identifiers(schema))
    coded, numbers = [], []
    for column in schema.learned:
        values = train.numbers(column.name)
        _, counts = np.unique(values[np.isfinite(values)], return_counts=True)
        if counts.size < 2 or column.name in told:
            continue
        commonest = float(counts.max() / counts.sum())
        if not column.is_coded:
            numbers.append(column)
        elif counts.size <= LEVELS and commonest <= CLEAR:
            coded.append((commonest, column))
    coded.sort(key=lambda entry: entry[0])
    return (*(column for _, column in coded), *numbers)[:INFORMATIVE]


def tolerance(train: Table, column: Column) -> float:
    """Return how far a guess may be off and still be a hit: an absolute distance.

    0 for codes; for numbers 5 % of the training interquartile range, and never less than what
    reads the same: half a unit of the last decimal.
    """
    if column.is_coded:
        return 0.0
    values = train.numbers(column.name)
    values = values[np.isfinite(values)]
    written = 0.5 * 10.0**-column.decimals if column.kind != "datetime" else 0.5
    if not values.size:
        return written
    low, high = np.quantile(values, [0.25, 0.75])
    return max(CLOSE * float(high - low), written)


def ranked(synthetic: Table, table: Table, names: Iterable[str]) -> Floats:
    """Return columns as twice their ranks among the synthetic values, (rows, features).

    A number between two synthetic values lies between their ranks. No value is -1, "<0.5" and its
    like -2, -3 and so on.
    """
    features = []
    for name in names:
        known, values = synthetic.numbers(name), table.numbers(name)
        unique = np.unique(known[np.isfinite(known)])
        place = np.searchsorted(unique, values) + np.searchsorted(unique, values, side="right")
        features.append(np.where(np.isfinite(values), place, -table.state(name).astype(np.float64)))
    return np.column_stack(features) if features else np.zeros((table.n_rows, 0))


def equally_many(train: Table, holdout: Table, rng: np.random.Generator) -> tuple[Table, Table]:
    """Return both parts, the larger one thinned to as many subjects as the other has."""
    everyone = [np.unique(part.subjects) for part in (train, holdout)]
    n = min(who.size for who in everyone)
    kept = (
        part if who.size == n else part.take(rng.choice(who, n, replace=False))
        for part, who in zip((train, holdout), everyone, strict=True)
    )
    one, other = kept
    return one, other


def column_group(column: Column) -> str:
    """Return the group of scores that speak of one column."""
    return f"column={column.name}"
