"""Rare values: does the synthetic table reproduce values that few patients hold?

`unique`: of the values that one training subject alone holds, the share that occurs in the
synthetic rows, minus the share that occurs in as many held-out rows. `rare`: the same for
categories that fewer than eleven training subjects hold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial
from manikin.metrics.spaces import row_keys, subsample
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["rare_values"]

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
    unique: list[tuple[NDArray[np.int64], Floats]] = []
    rare: list[Floats] = []
    for column in trial.train.schema.learned:
        values, held_by, holder = _held(trial.train, column.name)
        again = [np.isin(values, row_keys(part, (column.name,))) for part in parts]
        excess = again[0].astype(np.float64) - again[1]
        unique.append((holder[held_by == 1], excess[held_by == 1]))
        if column.is_coded:
            rare.append(excess[held_by < SMALLEST_CELL])
    scores = []
    holders, found = (np.concatenate(side) for side in zip(*unique, strict=True))
    if found.size:
        # a subject's several unique values come or stay away together
        scores.append(_mean("privacy/rare_values.unique", found, holders, rng))
    of_rare = np.concatenate(rare) if rare else np.empty(0)
    if of_rare.size:
        labels = np.arange(of_rare.size, dtype=np.int64)
        scores.append(_mean("privacy/rare_values.rare", of_rare, labels, rng))
    return tuple(scores)


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


def _mean(name: str, excess: Floats, units: NDArray[np.int64], rng: np.random.Generator) -> Score:
    dealt = blocks(units, rng)
    value = float(excess.mean())
    draws = dealt.sums(excess) / np.maximum(dealt.sums(np.ones(excess.size)), 1e-300)
    return Score(name, value, recentred(value, draws, -1, 1))
