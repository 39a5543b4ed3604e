"""Linkage: do the synthetic rows join two parts of one person's record?

Linkability of the Article 29 Working Party (Opinion 05/2014, WP216, §2.2). One source holds half of
a person's columns, another source the other half; for each half the attacker looks up the nearest
synthetic row. Where that is one and the same row, the two parts are taken to be one person's. Of
several equally near rows one is drawn at random; what is scored is the chance that both draws meet,
so nothing depends on luck. Tried on training subjects and on held-out strangers alike.
The columns are the quasi-identifiers, where the schema declares four or more, or else all.
"""

from __future__ import annotations

import numpy as np

from manikin.data.randomness import generator
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy._groups import TILE, distances, strata, vulnerable
from manikin.metrics.privacy._known import quasi_identifiers
from manikin.metrics.privacy._success import Success, by_subject, residual
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Space, subsample

__all__ = ["linkage"]

CARD = Card(
    title="Linkability",
    family="privacy",
    better="lower",
    reads="How much more often two halves of a record can be joined through the synthetic rows for "
    "persons in the training data than for strangers, as a share of what chance leaves: 0 or below "
    "is no more. It speaks of this split of the columns and of nearest rows, not of every way to "
    "join two sources.",
)
TARGETS = 1_000  # rows a side
ROWS = 20_000  # synthetic
FEWEST_KNOWN = 4  # quasi-identifiers to be split: one column a source says too little
CANDIDATES = 4_000  # rows a side, among which the most vulnerable are found


def linkage(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Join halves of members' and strangers' rows through their nearest synthetic rows."""
    name = "privacy/linkage.residual"
    if not all(part.n_rows for part in (trial.train, trial.holdout, trial.synthetic)):
        return (not_estimable(name, "no rows to compare"),)
    rng = generator(seed, "privacy/linkage")
    synthetic = subsample(trial.synthetic, ROWS, rng)
    halves = _halves(synthetic, rng)
    if halves is None:
        return (not_estimable(name, "not assessable: fewer than two columns that vary"),)
    parts = trial.train, trial.holdout
    candidates = [subsample(part, CANDIDATES, rng) for part in parts]
    space = Space.fit(synthetic)
    exposed = vulnerable((candidates[0], candidates[1]), parts, space, rng)
    drawn: list[Floats] = []
    apart: list[Floats] = []
    for part, table, far in zip(parts, candidates, exposed, strict=True):
        random = rng.permutation(table.n_rows) < TARGETS
        asked = table.rows(random | far)
        met, everyone = links(asked, synthetic, halves), np.unique(part.subjects)
        for found, mask in ((drawn, random), (apart, far)):
            tried = np.where(mask[random | far], met, np.nan)
            found.append(by_subject(tried, asked.subjects, everyone))
    success = Success(*drawn)
    return (
        residual(name, success),
        residual(name, Success(*apart), "vulnerable"),
        *(residual(name, success.only(who), group) for group, who in strata(*parts)),
    )


def _halves(
    synthetic: Table, rng: np.random.Generator
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the columns of the two sources, or None without two that vary.

    Columns of many values tell people apart; each source gets about as many of them: pairs of
    about equally many values are parted by a coin.
    """
    schema = synthetic.schema
    resolving = {c.name: _n_values(synthetic, c.name) for c in schema.learned}
    names = [name for name in quasi_identifiers(schema) if resolving[name] > 1]
    if len(names) < FEWEST_KNOWN:
        names = [name for name, n in resolving.items() if n > 1]
    if len(names) < 2:
        return None
    names.sort(key=lambda name: -resolving[name])
    turned = rng.random(len(names)) < 0.5
    dealt: tuple[list[str], list[str]] = ([], [])
    for i, name in enumerate(names):
        dealt[(i + int(turned[i // 2])) % 2].append(name)
    return tuple(dealt[0]), tuple(dealt[1])


def _n_values(table: Table, name: str) -> int:
    """Return how many values a column has, where absence is one too."""
    values = table.numbers(name)
    return int(np.unique(np.where(np.isfinite(values), values, np.inf)).size)


def links(
    targets: Table, synthetic: Table, halves: tuple[tuple[str, ...], tuple[str, ...]]
) -> Floats:
    """Return the chance that both halves of each target lead to one synthetic row, (rows,)."""
    spaces = [
        (space.points(_only(targets, half)), space.points(_only(synthetic, half)))
        for half in halves
        for space in (Space.fit(_only(synthetic, half)),)
    ]
    found = np.zeros(targets.n_rows)
    for start in range(0, targets.n_rows, TILE):
        rows = slice(start, start + TILE)
        near = []
        for asked, known in spaces:
            distance = distances(asked, known, rows)
            near.append(distance == distance.min(axis=1, keepdims=True))
        both = (near[0] & near[1]).sum(axis=1)
        found[rows] = both / (near[0].sum(axis=1) * near[1].sum(axis=1))
    return found


def _only(table: Table, names: tuple[str, ...]) -> Table:
    schema = TableSchema(tuple(c for c in table.schema if c.name in names))
    return Table(
        schema,
        table.subjects,
        {name: table.columns[name] for name in names},
        {name: table.states[name] for name in names if name in table.states},
    )
