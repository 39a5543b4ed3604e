"""Singling out: does a description read off the synthetic table fit exactly one real person?

Singling out of the Article 29 Working Party (Opinion 05/2014, WP216, §2.2). The attacker writes
down predicates that hold for exactly one synthetic subject and bets that each holds for exactly one
person in the training data. The same predicates are tried on equally many held-out strangers: a
narrow description fits one person of a population by chance.
univariate    the column holds this very value; or it is at least, or at most, the extreme one
multivariate  several columns each lie in one cell (a level, or a twentieth of the synthetic
              values), columns being added in random order, the quasi-identifiers before the
              others, until one synthetic subject is left
whole         every column lies in its cell: the narrowest description, which hardly ever fits a
              stranger, so that a few copies are enough to tell
Rates are shares of the predicates that were made and tried, never of those that were wanted. Where
members outnumber strangers they are thinned, and with them go the persons whom some predicates
fit; so the excess is divided by the share of members who stayed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy._groups import Mask, levels
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
QUERIES = 1_000  # predicates of one column, and of several
WHOLE = 5_000  # of whole rows
BINS, LEVELS = 20, 200

Predicate = tuple[tuple[int, int], ...]  # (column, cell) of each part


def singling_out(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Try predicates that single out a synthetic subject on members and on strangers."""
    name = "privacy/singling_out"
    if not all(part.n_rows for part in (trial.train, trial.holdout, trial.synthetic)):
        return (not_estimable(f"{name}.residual", "no rows to compare"),)
    rng = generator(seed, name)
    sides = equally_many(trial.train, trial.holdout, rng)
    kept = sides[0].n_subjects / trial.train.n_subjects
    found = {"univariate": _univariate(trial.synthetic, sides, rng)}
    named: dict[str, Mask] = {}
    if len(trial.synthetic.columns) > 1:
        told, *real = _cells((trial.synthetic, *sides))
        found["multivariate"] = _multivariate(told, real, rng)
        found["whole"], made_of = _whole(told, real, rng)
        named = {
            group: trial.synthetic.columns[column][made_of] == level
            for group, column, level in levels(trial.train)
        }
    attacks = {(kind, "all"): success for kind, success in found.items() if success.members.size}
    if not attacks:
        why = "not assessable: no predicate holds for exactly one synthetic subject"
        return (not_estimable(f"{name}.residual", why),)
    return (
        *worst(f"{name}.residual", attacks, rng, what="predicates", kept=kept),
        *(
            residual(f"{name}.{kind}", success, what="predicates", kept=kept)
            for (kind, _), success in attacks.items()
        ),
        *(
            residual(
                f"{name}.whole",
                found["whole"].only((made, made)),
                group,
                what="predicates",
                kept=kept,
            )
            for group, made in named.items()
        ),
    )


# ── One column ─────────────────────────────────────────────────────────────────────────────────


def _univariate(synthetic: Table, sides: tuple[Table, Table], rng: np.random.Generator) -> Success:
    """Return which univariate predicates hold for one subject of each side."""
    tried: list[list[Floats]] = [[], []]
    for column in synthetic.schema.learned:
        values = _held_by_one(synthetic, column.name)
        for side, table in enumerate(sides):
            again = _held_by_one(table, column.name)
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


def _held_by_one(table: Table, name: str) -> NDArray[np.uint64]:
    present = table.present(name)
    return alone(row_keys(table, (name,))[present], table.subjects[present])


def alone(keys: NDArray[np.uint64], subjects: Codes) -> NDArray[np.uint64]:
    """Return the keys that exactly one subject holds, however many rows that subject has."""
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


@dataclass(frozen=True)
class _Cells:
    """Rows as cells of what the attacker has cut the columns into, quasi-identifiers first."""

    columns: list[Codes]
    subjects: Codes
    n_known: int  # quasi-identifiers

    def keys(self) -> NDArray[np.uint64]:
        """Return one number a row, equal for rows that lie in the same cells."""
        keys = np.zeros(self.subjects.size, np.uint64)
        for column in self.columns:
            keys = keys * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.uint64)
        return keys


def _cells(tables: tuple[Table, ...]) -> list[_Cells]:
    """Return the tables, the first of which is synthetic, in cells that are cut by it."""
    synthetic = tables[0]
    first = quasi_identifiers(synthetic.schema)
    names = (*first, *(c.name for c in synthetic.schema.learned if c.name not in first))
    bins = Bins.fit(synthetic, n_bins=BINS, most_levels=LEVELS)
    return [
        _Cells([bins.codes(table, name) for name in names], table.subjects, len(first))
        for table in tables
    ]


def _multivariate(told: _Cells, real: list[_Cells], rng: np.random.Generator) -> Success:
    """Return which multivariate predicates hold for one subject of each side."""
    made = predicates(told.columns, told.subjects, QUERIES, rng, first=told.n_known)
    return Success(
        *(
            np.array([float(n_different(t.subjects[holds(t.columns, p)]) == 1) for p in made])
            for t in real
        )
    )


def _whole(told: _Cells, real: list[_Cells], rng: np.random.Generator) -> tuple[Success, Codes]:
    """Return which whole rows of cells hold for one subject of each side, and the rows."""
    keys = told.keys()
    made = alone(keys, told.subjects)
    made = made[rng.permutation(made.size)[:WHOLE]]
    _, row = np.unique(keys, return_index=True)
    at = row[np.searchsorted(keys[row], made)]
    one, other = (np.isin(made, alone(t.keys(), t.subjects)).astype(float) for t in real)
    return Success(one, other), at


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
