"""Rare values: does the synthetic table reproduce values that few patients hold?

`unique`: of the values that one training subject alone holds, the share that occurs in the
synthetic rows, minus the share that occurs in as many held-out rows. `rare`: the same for
categories that fewer than eleven training subjects hold.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import difference, share
from manikin.metrics.score import Card, Score, Trial
from manikin.metrics.spaces import row_keys, subsample
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["rare_values"]

Found: TypeAlias = tuple[NDArray[np.bool_], NDArray[np.int64]]  # (2, values), (values,) holders

CARD = Card(
    title="Rare values beyond chance",
    family="privacy",
    better="lower",
    reads="How many more of the training table's rare values occur in the synthetic rows than in "
    "as many fresh real rows, as a share of them: 0 or below is no more than chance. `unique` "
    "speaks of values that one person alone holds, `rare` of categories held by fewer than 11.",
    profile="quick",
)


def rare_values(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare how many rare training values the synthetic and the held-out rows reproduce."""
    n = min(trial.holdout.n_rows, trial.synthetic.n_rows)
    if not n or not trial.train.n_rows:
        return ()
    rng = generator(seed, "privacy/rare_values")
    parts = [subsample(part, n, rng) for part in (trial.synthetic, trial.holdout)]
    unique: list[Found] = []
    rare: list[Found] = []
    for column in trial.train.schema.learned:
        values, held_by, holder = _held(trial.train, column.name)
        again = np.array([np.isin(values, row_keys(part, (column.name,))) for part in parts])
        one = held_by == 1
        unique.append((again[:, one], holder[one]))
        if column.is_coded:
            few = held_by < SMALLEST_CELL
            rare.append((again[:, few], holder[few]))
    return (
        # a subject's several unique values come or stay away together
        *_excess("privacy/rare_values.unique", unique),
        *_excess("privacy/rare_values.rare", rare, apart=True),
    )


def _excess(name: str, found: list[Found], *, apart: bool = False) -> tuple[Score, ...]:
    """Return how many more values occur in the synthetic rows than in the held-out ones."""
    again = np.concatenate([hits for hits, _ in found], axis=1) if found else np.empty((2, 0))
    if not again.size:
        return ()
    units = np.concatenate([holders for _, holders in found])
    if apart:
        units = np.arange(units.size)
    (one, of_one), (null, of_null) = (share(hits, units) for hits in again)
    low, high = difference(one, of_one, null, of_null)
    value = one - null
    note = f"{100 * one:.1f} % of {units.size} values, and {100 * null:.1f} % by chance"
    return (Score(name, value, (min(low, value), max(high, value)), note=note),)


def _held(
    table: Table, name: str
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Return a column's values, how many subjects hold each, and one of these subjects."""
    _, subject = np.unique(table.subjects, return_inverse=True)
    present = table.present(name)
    keys, subject = row_keys(table, (name,))[present], subject[present]
    order = np.lexsort((subject, keys))
    keys, subject = keys[order], subject[order]
    new = np.ones(keys.size, dtype=np.bool_)  # a subject's second row with the value is no holder
    new[1:] = (keys[1:] != keys[:-1]) | (subject[1:] != subject[:-1])
    values, first, held_by = np.unique(keys[new], return_index=True, return_counts=True)
    return values, held_by.astype(np.int64), subject[new][first].astype(np.int64)
