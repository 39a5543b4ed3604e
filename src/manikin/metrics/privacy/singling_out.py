"""Singling out: does a description read off the synthetic table fit exactly one real person?

Singling out of the Article 29 Working Party (Opinion 05/2014, WP216, §2.2). The attacker writes
down predicates that hold for exactly one synthetic subject and bets that each holds for exactly one
person in the training data. The same predicates are tried on equally many held-out strangers: a
narrow description fits one person of a population by chance.
univariate    the column holds this very value; or it is at least, or at most, the extreme one
multivariate  several columns each lie in one cell (a level, or a twentieth of the synthetic
              values), columns being added in random order, the quasi-identifiers before the
              others, until one synthetic subject is left
Rates are shares of the predicates that were made and tried, never of those that were wanted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy._known import equally_many, quasi_identifiers
from manikin.metrics.privacy._success import Success, residual, worst
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Bins, Codes, row_keys
from manikin.privacy.cells import n_different

__all__ = ["singling_out"]

CARD = Card(
    title="Singling out",
    family="privacy",
    better="lower",
    reads="How much more often a description that fits one synthetic row fits exactly one person "
    "of the training data than exactly one of as many strangers, as a share of what chance leaves: "
    "0 or below is no more. It speaks of descriptions drawn at random by this recipe; somebody who "
    "looks for one person in particular may find a better one.",
)
QUERIES = 1_000  # predicates of each kind
BINS, LEVELS = 20, 200

Predicate = tuple[tuple[int, int], ...]  # (column, cell) of each part


def singling_out(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Try predicates that single out a synthetic subject on members and on strangers."""
    name = "privacy/singling_out"
    if not all(part.n_rows for part in (trial.train, trial.holdout, trial.synthetic)):
        return (not_estimable(f"{name}.residual", "no rows to compare"),)
    rng = generator(seed, name)
    sides = equally_many(trial.train, trial.holdout, rng)
    found = {
        "univariate": _univariate(trial.synthetic, sides, rng),
        "multivariate": _multivariate(trial.synthetic, sides, rng),
    }
    attacks = {(kind, "all"): success for kind, success in found.items() if success.members.size}
    if not attacks:
        why = "not assessable: no predicate holds for exactly one synthetic subject"
        return (not_estimable(f"{name}.residual", why),)
    return (
        worst(f"{name}.residual", attacks, rng, what="predicates"),
        *(
            residual(f"{name}.{kind}", success, what="predicates")
            for (kind, _), success in attacks.items()
        ),
    )


# ── One column ─────────────────────────────────────────────────────────────────────────────────


def _univariate(synthetic: Table, sides: tuple[Table, Table], rng: np.random.Generator) -> Success:
    """Return which univariate predicates hold for one subject of each side."""
    tried: list[list[Floats]] = [[], []]
    for column in synthetic.schema.learned:
        values = held_by_one(synthetic, column.name)
        for side, table in enumerate(sides):
            again = held_by_one(table, column.name)
            tried[side].append(np.isin(values, again).astype(np.float64))
        if not column.is_coded:
            for low in (True, False):
                limit = _extreme(synthetic, column.name, low)
                if limit is not None:
                    for side, table in enumerate(sides):
                        hit = _beyond(table, column.name, limit, low) == 1
                        tried[side].append(np.array([float(hit)]))
    members, strangers = (np.concatenate(side) if side else np.empty(0) for side in tried)
    chosen = rng.permutation(members.size)[:QUERIES]
    return Success(members[chosen], strangers[chosen])


def held_by_one(table: Table, name: str) -> NDArray[np.uint64]:
    """Return the keys of a column's values that exactly one subject holds."""
    present = table.present(name)
    keys, subjects = row_keys(table, (name,))[present], table.subjects[present]
    order = np.lexsort((subjects, keys))
    keys, subjects = keys[order], subjects[order]
    new = np.ones(keys.size, np.bool_)  # a subject's second row with the value is no second holder
    new[1:] = (keys[1:] != keys[:-1]) | (subjects[1:] != subjects[:-1])
    values, holders = np.unique(keys[new], return_counts=True)
    return np.asarray(values[holders == 1])


def _extreme(table: Table, name: str, low: bool) -> float | None:
    """Return the least or greatest value where one subject alone reaches it."""
    values = table.numbers(name)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    limit = float(values.min() if low else values.max())
    return limit if _beyond(table, name, limit, low) == 1 else None


def _beyond(table: Table, name: str, limit: float, low: bool) -> int:
    values = table.numbers(name)
    return n_different(table.subjects[values <= limit if low else values >= limit])


# ── Several columns ────────────────────────────────────────────────────────────────────────────


def _multivariate(
    synthetic: Table, sides: tuple[Table, Table], rng: np.random.Generator
) -> Success:
    """Return which multivariate predicates hold for one subject of each side."""
    first = quasi_identifiers(synthetic.schema)
    names = (*first, *(c.name for c in synthetic.schema.learned if c.name not in first))
    if len(names) < 2:
        return Success(np.empty(0), np.empty(0))
    bins = Bins.fit(synthetic, n_bins=BINS, most_levels=LEVELS)  # all that the attacker has
    cells, *real = ([bins.codes(table, name) for name in names] for table in (synthetic, *sides))
    made = predicates(cells, synthetic.subjects, QUERIES, rng, first=len(first))
    return Success(
        *(
            np.array([float(n_different(t.subjects[holds(c, p)]) == 1) for p in made])
            for c, t in zip(real, sides, strict=True)
        )
    )


def predicates(
    cells: list[Codes], subjects: Codes, most: int, rng: np.random.Generator, *, first: int = 0
) -> list[Predicate]:
    """Return different predicates, at most `most`, that hold for exactly one of these subjects.

    Each starts from a synthetic row of another subject and takes two or more of its cells, those
    of the `first` columns before the others.
    """
    everyone, row = np.unique(subjects, return_index=True)
    found: dict[Predicate, None] = {}
    for at in rng.permutation(row)[: min(most, everyone.size)]:
        parts: list[tuple[int, int]] = []
        left = None
        later = first + rng.permutation(len(cells) - first)
        for column in np.concatenate([rng.permutation(first), later]):
            cell = int(cells[column][at])
            parts.append((int(column), cell))
            fits = cells[column] == cell if left is None else cells[column][left] == cell
            left = np.flatnonzero(fits) if left is None else left[fits]
            if len(parts) > 1 and n_different(subjects[left]) == 1:
                found[tuple(sorted(parts))] = None
                break
    return list(found)


def holds(cells: list[Codes], predicate: Predicate) -> Codes:
    """Return the rows that a predicate holds for."""
    (column, cell), *others = predicate
    left = np.flatnonzero(cells[column] == cell)
    for column, cell in others:
        left = left[cells[column][left] == cell]
    return left
