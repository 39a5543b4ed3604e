"""Shapes: does each column have the distribution it has in real rows?

Numbers: 1 - the Kolmogorov-Smirnov distance between the values present, or 1 - the gap in how
often there is none, whichever is worse. Categories: 1 - total variation distance, a missing value
being a category of its own. Reported as the mean over columns and for every column.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["shapes"]

CARD = Card(
    title="Column shapes",
    family="fidelity",
    better="higher",
    reads="How alike single columns are in the synthetic and in held-out real rows: 1 is the same "
    "distribution. Independent columns score almost 1 too, so a high number says nothing about "
    "relations between columns.",
    profile="quick",
)
LEVELS = 2000  # beyond as many, rarer ones share a cell in replicates; the value itself is exact
GRID = 256  # points at which replicates look at a distribution; the value itself is exact


def shapes(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare every column of the synthetic rows with the held-out ones."""
    name = "fidelity/shapes"
    if not trial.holdout.n_rows or not trial.synthetic.n_rows:
        return (not_estimable(name, "no rows to compare"),)
    if not trial.holdout.schema.learned:
        return (not_estimable(name, "no column takes part in generation"),)
    found = column_shapes(trial.holdout, trial.synthetic, seed=seed)
    values = np.array([value for value, _ in found.values()])
    draws = np.mean([draw for _, draw in found.values()], axis=0)
    mean = float(values.mean())
    scores = [Score(name, mean, recentred(mean, draws, 0, 1))]
    for column, (value, draw) in found.items():
        interval = recentred(value, draw, 0, 1)
        scores.append(Score(name, value, interval, group=f"column={column}"))
    return tuple(scores)


def column_shapes(real: Table, synthetic: Table, *, seed: int) -> dict[str, tuple[float, Floats]]:
    """Return every learned column's similarity and its replicates; both tables hold rows."""
    rng = generator(seed, "fidelity/shapes")
    of_real, of_synthetic = blocks(real.subjects, rng), blocks(synthetic.subjects, rng)
    found = {}
    for column in real.schema.learned:
        compare = _categories if column.is_coded else _numbers
        found[column.name] = compare(real, synthetic, column.name, of_real, of_synthetic)
    return found


def _categories(
    real: Table, synthetic: Table, name: str, of_real: Blocks, of_synthetic: Blocks
) -> tuple[float, Floats]:
    states = 1 + max(int(table.state(name).max()) for table in (real, synthetic))
    codes: list[NDArray[np.int64]] = []  # the tokens first, then the levels
    for table in (real, synthetic):
        level = table.columns[name].astype(np.int64) + states
        codes.append(np.where(table.present(name), level, table.state(name).astype(np.int64)))
    n_codes = 1 + max(int(part.max()) for part in codes)
    value = 1 - _variation(*(np.bincount(part, minlength=n_codes)[None, :] for part in codes))
    if n_codes > LEVELS:  # replicates tell the commonest apart, and take the rest together
        pooled = np.bincount(np.concatenate(codes), minlength=n_codes)
        place = np.empty(n_codes, dtype=np.int64)
        place[np.argsort(-pooled, kind="stable")] = np.minimum(np.arange(n_codes), LEVELS)
        codes, n_codes = [place[part] for part in codes], LEVELS + 1
    draws = 1 - _variation(
        of_real.counts(codes[0], n_codes), of_synthetic.counts(codes[1], n_codes)
    )
    return float(value[0]), draws


def _numbers(
    real: Table, synthetic: Table, name: str, of_real: Blocks, of_synthetic: Blocks
) -> tuple[float, Floats]:
    values = [table.numbers(name) for table in (real, synthetic)]
    present = [np.sort(part[~np.isnan(part)]) for part in values]
    pooled = np.concatenate(present)
    grid = np.unique(pooled)
    gaps = [np.searchsorted(part, grid, side="right") / max(1, part.size) for part in present]
    both = present[0].size > 0 and present[1].size > 0
    distance = float(np.abs(gaps[0] - gaps[1]).max()) if both else 0.0
    if grid.size > GRID:
        grid = np.unique(np.quantile(pooled, np.linspace(0, 1, GRID), method="nearest"))
    n_states = 1 + max(int(table.state(name).max()) for table in (real, synthetic))
    codes = []  # the tokens' cells first (0 is a value), then the cells between grid points
    for table, part in zip((real, synthetic), values, strict=True):
        cell = n_states + np.searchsorted(grid, part, side="left")
        codes.append(np.where(np.isnan(part), table.state(name), cell))
    n_codes = n_states + grid.size + 1

    def worst(one: Floats, other: Floats, exact: float | None) -> Floats:
        absent = _variation(*(_with_presence(part, n_states) for part in (one, other)))
        steps = []
        for part in (one, other):
            rising = np.cumsum(part[:, n_states:], axis=1)
            steps.append(rising / np.maximum(rising[:, -1:], 1))
        if exact is None:
            steepest = np.abs(steps[0] - steps[1]).max(axis=1) if both else 0.0 * absent
        else:
            steepest = np.array([exact])
        return 1 - np.maximum(absent, steepest)

    counts = [np.bincount(part, minlength=n_codes)[None, :].astype(np.float64) for part in codes]
    value = worst(counts[0], counts[1], distance)
    draws = worst(of_real.counts(codes[0], n_codes), of_synthetic.counts(codes[1], n_codes), None)
    return float(value[0]), draws


def _with_presence(counts: Floats, n_states: int) -> Floats:
    """Return the counts of the tokens, with that of "has a value" first, (draws, states)."""
    present = counts[:, n_states:].sum(axis=1, keepdims=True) + counts[:, :1]
    return np.concatenate([present, counts[:, 1:n_states]], axis=1)


def _variation(one: NDArray[Any], other: NDArray[Any]) -> Floats:
    """Return the total variation distance between rows of counts, (draws,)."""
    shares = [part / np.maximum(part.sum(axis=1, keepdims=True), 1e-300) for part in (one, other)]
    return np.asarray(np.abs(shares[0] - shares[1]).sum(axis=1) / 2)
