"""Cardinality: as many rows below each row as in real tables, and below the right ones?

Of every table below the first, with k the number of its rows that hang on one row of its parent's:
counts      1 - total variation distance between the distributions of k in synthetic and in
            held-out rows; where training rows have more than 20 below them, k is cut at deciles
dependence  the same of the joint distribution of k and each column of the parent's table, as a mean
            over these columns
"all" is the mean over tables. Intervals resample subjects of both sides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from manikin.data.cohort import Cohort
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.fidelity.trends import agreement
from manikin.metrics.intervals import Floats, recentred
from manikin.metrics.linked import dealt_of, not_linked, with_counts
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Bins, Codes

__all__ = ["cardinality", "mean_over_tables"]

CARD = Card(
    title="Cardinality",
    family="fidelity",
    better="higher",
    reads="How alike the numbers of rows below a row (admissions of a patient) are in synthetic "
    "and in held-out real tables, 1 being the same: `counts` by themselves, `dependence` together "
    "with each column of the row that they hang on. Chance keeps both below 1 even for real rows, "
    "so read them beside their ceilings; keys drawn at random are the floor.",
    profile="quick",
    modality="cohort",
)
DRAWS = 100
MOST_COUNTS = 20  # up to as many, every count has a cell of its own


def cardinality(trial: Trial[Cohort], *, seed: int) -> tuple[Score, ...]:
    """Compare how many rows hang on each row."""
    name = "fidelity/cardinality"
    if not isinstance(trial.synthetic, Cohort):
        return not_linked(name)
    rng = generator(seed, name)
    sides = (trial.holdout, trial.synthetic)
    dealt = [dealt_of(side, rng, draws=DRAWS) for side in sides]

    def of_table(table: str) -> dict[str, tuple[float, Floats]]:
        parent = trial.train.schema.tree.up[table].parent
        parts = [with_counts(side, table) for side in sides]
        if not all(part.n_rows for part in parts) or not trial.train.parts[parent].n_rows:
            return {}
        known = with_counts(trial.train, table)
        bins = Bins.fit(known)
        *others, rows = bins.sizes
        blocks = [one[parent] for one in dealt]
        counted, size = _cells(known, parts, rows, bins)
        found = {"counts": agreement(counted, size, blocks)}
        pairs = []
        for other in others:
            codes = [bins.codes(part, other) for part in parts]
            joint = [k * bins.sizes[other] + c for k, c in zip(counted, codes, strict=True)]
            pairs.append(agreement(joint, size * bins.sizes[other], blocks))
        if pairs:
            values, draws = zip(*pairs, strict=True)
            found["dependence"] = (float(np.mean(values)), np.mean(draws, axis=0))
        return found

    return mean_over_tables(
        name, ("counts", "dependence"), trial.train.schema.tree.order[1:], of_table
    )


def _cells(known: Table, parts: list[Table], rows: str, bins: Bins) -> tuple[list[Codes], int]:
    """Return the cell of every count, and how many cells there are."""
    most = int(known.columns[rows].max(initial=0))
    if most > MOST_COUNTS:
        return [bins.codes(part, rows) for part in parts], bins.sizes[rows]
    return [np.minimum(part.columns[rows].astype(np.int64), most + 1) for part in parts], most + 2


def mean_over_tables(
    name: str,
    whats: tuple[str, ...],
    tables: tuple[str, ...],
    of_table: Callable[[str], dict[str, tuple[float, Floats]]],
) -> tuple[Score, ...]:
    """Return a score a table and their mean, from each one's value and replicates."""
    found = {table: of_table(table) for table in tables}
    scores: list[Score] = []
    for what in whats:
        called = f"{name}.{what}"
        told = {table: parts[what] for table, parts in found.items() if what in parts}
        if not told:
            scores.append(not_estimable(called, "no rows or columns to compare"))
            continue
        values, draws = zip(*told.values(), strict=True)
        value = float(np.mean(values))
        scores.append(Score(called, value, recentred(value, np.mean(draws, axis=0), 0, 1)))
        scores += [
            Score(called, value, recentred(value, draws, 0, 1), group=f"table={table}")
            for table, (value, draws) in told.items()
        ]
    return tuple(scores)
