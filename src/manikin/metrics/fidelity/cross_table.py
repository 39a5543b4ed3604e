"""Cross-table relations: does a row fit the rows it hangs on, and its siblings?

pairs       1 - total variation distance between synthetic and held-out rows of the joint
            distribution of a column and a column of a row above, as a mean over all such pairs
succession  the same of a column and that column of the sibling before it in time
auc, score  detection (see fidelity/detection) on one row a subject: own columns, and of each table
            below the number of rows, the means of its numbers and its last values; subjects that
            the judge has not seen, against held-out ones
"all" is the mean over tables. Intervals resample subjects of both sides.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from manikin.data.cohort import Cohort
from manikin.data.flattening import flatten
from manikin.data.randomness import generator
from manikin.metrics.fidelity.cardinality import mean_over_tables
from manikin.metrics.fidelity.detection import detection
from manikin.metrics.fidelity.trends import agreement
from manikin.metrics.intervals import Blocks, Floats
from manikin.metrics.linked import (
    dealt_of,
    not_linked,
    successions,
    time_of,
    with_rows_above,
)
from manikin.metrics.score import Card, Score, Trial
from manikin.metrics.spaces import Bins

__all__ = ["cross_table"]

CARD = Card(
    title="Cross-table relations",
    family="fidelity",
    better="near ceiling",
    reads="Whether rows fit the rows they hang on: `pairs` compares each column with each column "
    "above it, `succession` with itself in the sibling before, 1 being as in held-out real tables. "
    "`score` is the detection of whole patients, joined with counts, means and last values of all "
    "that hangs on them: 1 means that boosted trees cannot tell them from real ones (`auc` 0.5), 0 "
    "that they always can. Relations between two tables below the same row are seen by it alone.",
    profile="quick",
    modality="cohort",
)
PAIRS = 400  # of a table; beyond as many, a random choice of pairs
DRAWS = 100


def cross_table(trial: Trial[Cohort], *, seed: int) -> tuple[Score, ...]:
    """Compare relations of rows with those above, with siblings, and whole subjects."""
    name = "fidelity/cross_table"
    if not isinstance(trial.synthetic, Cohort):
        return not_linked(name)
    rng = generator(seed, name)
    sides = (trial.holdout, trial.synthetic)
    dealt = [dealt_of(side, rng, draws=DRAWS) for side in sides]

    def of_table(table: str) -> dict[str, tuple[float, Floats]]:
        found: dict[str, tuple[float, Floats]] = {}
        pairs = _pairs(trial, table, dealt, rng)
        if pairs is not None:
            found["pairs"] = pairs
        followed = _succession(trial, table, dealt)
        if followed is not None:
            found["succession"] = followed
        return found

    tables = trial.train.schema.tree.order[1:]
    scores = mean_over_tables(name, ("pairs", "succession"), tables, of_table)
    flat = Trial(*(flatten(part, trial.train) for part in (trial.train, *sides)))
    of_flat = detection(flat, seed=seed)
    return (*scores, *(_renamed(score, name) for score in of_flat))


def _renamed(score: Score, name: str) -> Score:
    return dataclasses.replace(score, metric=f"{name}.{score.metric.partition('.')[2]}")


def _pairs(
    trial: Trial[Cohort], table: str, dealt: list[dict[str, Blocks]], rng: np.random.Generator
) -> tuple[float, Floats] | None:
    """Return the agreement of pairs of an own column and one of a row above."""
    known, own, above = with_rows_above(trial.train, table)
    joined = [with_rows_above(side, table)[0] for side in (trial.holdout, trial.synthetic)]
    pairs = [(a, b) for a in own for b in above]
    if not pairs or not all(part.n_rows for part in (known, *joined)):
        return None
    if len(pairs) > PAIRS:
        pairs = [pairs[i] for i in np.sort(rng.choice(len(pairs), PAIRS, replace=False))]
    bins = Bins.fit(known)
    codes = [{c: bins.codes(part, c) for c in (*own, *above)} for part in joined]
    blocks = [
        one[table].among(side.parts[table].subjects >= 0)
        for one, side in zip(dealt, (trial.holdout, trial.synthetic), strict=True)
    ]
    found = []
    for a, b in pairs:
        size = bins.sizes[b]
        joint = [part[a] * size + part[b] for part in codes]
        found.append(agreement(joint, bins.sizes[a] * size, blocks))
    values, draws = zip(*found, strict=True)
    return float(np.mean(values)), np.mean(draws, axis=0)


def _succession(
    trial: Trial[Cohort], table: str, dealt: list[dict[str, Blocks]]
) -> tuple[float, Floats] | None:
    """Return the agreement of pairs of a column and itself in the sibling before."""
    time = time_of(trial, table)
    bins = Bins.fit(trial.train.parts[table])
    sides = (trial.holdout, trial.synthetic)
    steps = [successions(side, table, time) for side in sides]
    if not bins.sizes or not all(later.size for later, _ in steps):
        return None
    blocks = [one[table].among(later) for one, (later, _) in zip(dealt, steps, strict=True)]
    found = []
    for column, size in bins.sizes.items():
        joint = []
        for side, (later, before) in zip(sides, steps, strict=True):
            codes = bins.codes(side.parts[table], column)
            joint.append(codes[later] * size + codes[before])
        found.append(agreement(joint, size * size, blocks))
    values, draws = zip(*found, strict=True)
    return float(np.mean(values)), np.mean(draws, axis=0)
