"""Subgroups: is every group of patients there as often, and as faithfully, as among real rows?

`disparity`: the log odds of belonging to the group among synthetic rows minus that among held-out
ones (Bhanot et al., Entropy 2021); 0 is the same, below it the group is under-represented.
`shapes`: how alike columns are within the group. Groups are the levels of the columns whose role is
sensitive or quasi-identifier, or their training thirds for numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.metrics.fidelity.shapes import column_shapes
from manikin.metrics.intervals import Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.privacy.cells import SMALLEST_CELL, subjects_per_cell

__all__ = ["subgroups"]

CARD = Card(
    title="Subgroups",
    family="fairness",
    better="near ceiling",
    reads="Whether each group of patients is as frequent (disparity, a log odds ratio: 0 is the "
    "same, -0.22 is a fifth fewer) and as faithfully drawn (shapes: 1 is the same) as among "
    "held-out real rows. Groups of fewer than 20 subjects cannot be assessed.",
    profile="quick",
)
FEWEST = 20  # subjects a side
GROUPS = 24  # a column's commonest levels
THIRDS = ("lowest third", "middle third", "highest third")


def subgroups(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare the frequency and the columns of every group with the held-out rows."""
    schema = trial.train.schema
    columns = [c for c in schema.learned if {"sensitive", "quasi_identifier"} & set(c.roles)]
    if not columns or not trial.holdout.n_rows or not trial.synthetic.n_rows:
        return ()
    scores: list[Score] = []
    for column in columns:
        labels, *members = _groups(trial, column)
        for k, label in enumerate(labels):
            group = f"{column.name}={label}"
            scores += _of_group(trial, group, [part == k for part in members], seed)
    return tuple(scores)


def _groups(
    trial: Trial[Table], column: Column
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return the groups' labels, and each held-out and synthetic row's group (-1: none)."""
    sides = [part.numbers(column.name) for part in (trial.holdout, trial.synthetic)]
    if column.is_coded:
        levels = trial.train.columns[column.name]
        counts = subjects_per_cell(levels, trial.train.subjects, len(column.categories))
        common = np.argsort(-counts, kind="stable")[:GROUPS]
        common = np.sort(common[counts[common] >= SMALLEST_CELL])
        of_level = np.full(max(1, counts.size), -1, dtype=np.int64)
        of_level[common] = np.arange(common.size)
        labels = [column.categories[k] for k in common if k < len(column.categories)]
        one, other = (
            np.where(np.isnan(s), -1, of_level[np.nan_to_num(s).astype(np.int64)]) for s in sides
        )
        return labels, one, other
    known = trial.train.numbers(column.name)
    known = known[np.isfinite(known)]
    if np.unique(known).size < 3:
        return [], *(np.full(s.size, -1) for s in sides)  # type: ignore[return-value]
    edges = np.quantile(known, [1 / 3, 2 / 3])
    one, other = (np.where(np.isnan(s), -1, np.searchsorted(edges, s)) for s in sides)
    return list(THIRDS), one, other


def _of_group(
    trial: Trial[Table], group: str, members: list[NDArray[np.bool_]], seed: int
) -> tuple[Score, Score]:
    names = ("fairness/subgroups.disparity", "fairness/subgroups.shapes")
    sides = (trial.holdout, trial.synthetic)
    inside = [side.rows(member) for side, member in zip(sides, members, strict=True)]
    few = [side.n_subjects < FEWEST for side in inside]
    if few[0]:
        why = f"not assessable: fewer than {FEWEST} held-out subjects"
        return not_estimable(names[0], why, group), not_estimable(names[1], why, group)
    rng = generator(seed, f"fairness/subgroups {group}")
    values, draws = [], []
    for side, member in zip(sides, members, strict=True):
        dealt = blocks(side.subjects, rng)
        hits = member.astype(np.float64)
        values.append(float(_log_odds(np.array([hits.sum()]), hits.size)[0]))
        draws.append(_log_odds(dealt.sums(hits), dealt.sums(np.ones(hits.size))))
    disparity = values[1] - values[0]
    frequency = Score(names[0], disparity, recentred(disparity, draws[1] - draws[0]), group=group)
    if few[1]:
        why = f"not assessable: fewer than {FEWEST} synthetic subjects"
        return frequency, not_estimable(names[1], why, group)
    found = column_shapes(*inside, seed=seed)
    mean = float(np.mean([value for value, _ in found.values()]))
    spread = np.mean([draw for _, draw in found.values()], axis=0)
    return frequency, Score(names[1], mean, recentred(mean, spread, 0, 1), group=group)


def _log_odds(hits: Floats, n: Floats | int) -> Floats:
    """Return the log odds, half a row being added to either side (Haldane 1956)."""
    return np.asarray(np.log((hits + 0.5) / (np.maximum(n - hits, 0) + 0.5)))
