"""Copies: does the synthetic table repeat training rows more often than chance does?

`exact`: the share of synthetic rows that read like some training row, minus the share of held-out
rows that do. `near`: the same for rows closer to a training row than the closest hundredth of
held-out rows are. In a table of few small columns, strangers coincide: that is what the held-out
rows are subtracted for.
`exact` of the group "quasi-identifiers": the share of synthetic rows with the quasi-identifiers of
some training subject, minus the share with those of one of equally many held-out subjects. Here
combinations are few and repeat, and a generator that leaves out rare ones coincides with real rows
more often than real rows do; it does so with both sides alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import difference, share
from manikin.metrics.privacy._known import equally_many, quasi_identifiers
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Space, nearest, row_keys, subsample

__all__ = ["copies"]

CARD = Card(
    title="Copies beyond chance",
    family="privacy",
    better="lower",
    reads="How many more synthetic rows than fresh real rows repeat a training row, exactly or "
    "nearly, as a share of all rows. 0 or below: no more than chance. It finds copying; it does "
    "not prove privacy, because a person can be given away without being copied.",
    profile="quick",
)
QUERIES = 4_000  # rows whose nearest training row is looked up; beyond as many, a random choice
REFERENCES = 50_000
NEAR = 0.01  # the share of held-out rows that counts as near


def copies(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Count exact and near copies of training rows in excess of the held-out null."""
    names = ("privacy/copies.exact", "privacy/copies.near")
    if not all(part.n_rows for part in (trial.train, trial.holdout, trial.synthetic)):
        return tuple(not_estimable(name, "no rows to compare") for name in names)
    rng = generator(seed, "privacy/copies")
    known = np.unique(row_keys(trial.train))
    exact = [np.isin(row_keys(part), known) for part in (trial.synthetic, trial.holdout)]
    scores = [_excess(names[0], exact, [trial.synthetic, trial.holdout])]

    parts = [subsample(part, QUERIES, rng) for part in (trial.synthetic, trial.holdout)]
    space = Space.fit(trial.train)
    references = space.points(subsample(trial.train, REFERENCES, rng))
    distances = [nearest(space.points(part), references) for part in parts]
    # ties at the threshold count on both sides: where strangers coincide, it is 0
    threshold = float(np.quantile(distances[1], NEAR, method="higher"))
    near = [distance <= threshold for distance in distances]
    scores.append(_excess(names[1], near, parts))
    known_by = quasi_identifiers(trial.train.schema)
    return (*scores, _of_people(trial, known_by, rng)) if known_by else tuple(scores)


def _of_people(trial: Trial[Table], known_by: tuple[str, ...], rng: np.random.Generator) -> Score:
    """Return how many more synthetic rows hold a training subject's quasi-identifiers."""
    metric, group = "privacy/copies.exact", "quasi-identifiers"
    asked = row_keys(trial.synthetic, known_by)
    sides = equally_many(trial.train, trial.holdout, rng)
    shares = [
        # rows of one combination are hits together: they are one observation
        share(np.isin(asked, row_keys(part, known_by)), asked.view(np.int64))
        for part in sides
    ]
    (one, of_one), (null, of_null) = shares
    kept = sides[0].n_subjects / trial.train.n_subjects  # of the members whom a row may copy
    excess, *limits = (
        float(np.clip(found / kept, -1, 1))
        for found in (one - null, *difference(one, of_one, null, of_null))
    )
    return Score(metric, excess, (min(limits[0], excess), max(limits[1], excess)), group=group)


def _excess(name: str, hits: list[NDArray[np.bool_]], tables: list[Table]) -> Score:
    """Return the share of hits in the first table minus that in the second, with its interval."""
    (one, of_one), (null, of_null) = (
        share(hit, table.subjects) for hit, table in zip(hits, tables, strict=True)
    )
    lower, upper = difference(one, of_one, null, of_null)
    excess = one - null
    return Score(name, excess, (min(lower, excess), max(upper, excess)))
