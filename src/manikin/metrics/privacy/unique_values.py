"""Unique values: does the synthetic table hold what one person alone holds?

Of every training subject (member) and of every held-out one (stranger) are listed
numbers       the numbers and dates that nobody else of the same part holds
codes         the categories that nobody else holds
combinations  two or three values that nobody else holds together, though others hold each less
              than all of them (minimal sample uniques: Elliot, Manning and Ford, Int. J. of
              Uncertainty, Fuzziness and Knowledge-Based Systems 2002), of the quasi-identifiers,
              the sensitive and then the other columns
and each is looked up in the synthetic rows. Both parts have equally many subjects, so that a member
is no more likely to be unique than a stranger; and both are looked up in the same rows, so that a
table rich in values, which holds many of anybody's by chance, has no excess. A value counts as it
is written; absence is no value of its own, but may be part of a combination.
"""

from __future__ import annotations

from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy._groups import Mask, strata
from manikin.metrics.privacy._known import column_group, equally_many, quasi_identifiers
from manikin.metrics.privacy._success import Success, by_subject, rate, residual
from manikin.metrics.protocol import FEWEST
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Codes, row_keys

__all__ = ["unique_values"]

CARD = Card(
    title="Unique values",
    family="privacy",
    better="lower",
    reads="How much more often a value, or a combination of values, that one person of the "
    "training data alone holds stands in the synthetic rows than one that a stranger alone holds, "
    "as a share of what chance leaves: 0 or below is no more. `success` is how often it stands "
    "there for whatever reason: by chance too. A value may point at a person without being unique.",
)
COLUMNS = 8  # that combinations are made of
TRIPLES = 40
MOST_NAMED = 30  # columns with a score of their own

Listed: TypeAlias = dict[str, list[Floats]]  # kind: 1 found, 0 not, NaN not unique; (rows,) each


def unique_values(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Look up in the synthetic rows what one member, or one stranger, alone holds."""
    name = "privacy/unique_values"
    if not all(part.n_rows for part in (trial.train, trial.holdout, trial.synthetic)):
        return (not_estimable(f"{name}.numbers", "no rows to compare"),)
    rng = generator(seed, name)
    sides = equally_many(trial.train, trial.holdout, rng)
    sets = _sets(trial.train, rng)
    listed = [_listed(part, trial.synthetic, sets) for part in sides]
    scores: list[Score] = []
    for kind in ("numbers", "codes", "combinations"):
        if kind not in listed[0]:  # no such columns
            continue
        success = _success(sides, [found[kind] for found in listed])
        metric = f"{name}.{kind}"
        scores.append(residual(metric, success, what="holders"))
        if kind == "combinations":
            for group, inside in strata(*sides):
                scores.append(residual(metric, success.only(inside), group, what="holders"))
    if not scores:
        return (not_estimable(f"{name}.numbers", "not assessable: no column is learned"),)
    return (*scores, *_by_column(name, sides, listed), *_absolute(f"{name}.success", trial))


def _by_column(name: str, sides: tuple[Table, Table], listed: list[Listed]) -> list[Score]:
    """Return the scores of the columns of which enough can be said."""
    found = []
    for column in sides[0].schema.learned:
        group = column_group(column)
        kind = "codes" if column.is_coded else "numbers"
        success = _success(sides, [side[group] for side in listed])
        score = residual(f"{name}.{kind}", success, group, what="holders")
        if not np.isnan(score.value):
            found.append(score)
    return found[:MOST_NAMED]


def _success(sides: tuple[Table, Table], found: list[list[Floats]]) -> Success:
    """Return which share of what each subject alone holds was found, members and strangers."""
    one, other = (_shares(part, lists) for part, lists in zip(sides, found, strict=True))
    return Success(one, other)


def _shares(part: Table, lists: list[Floats]) -> Floats:
    """Return the share of each subject's unique values that was found, (subjects,)."""
    right, of = np.concatenate(lists), np.tile(part.subjects, len(lists))
    return by_subject(right, of, np.unique(part.subjects))


def _absolute(metric: str, trial: Trial[Table]) -> list[Score]:
    """Return how often what one of all members alone holds stands in the synthetic rows."""
    listed = _listed(trial.train, trial.synthetic, [])
    scores = []
    for kind in ("numbers", "codes"):
        lists = listed.get(kind, [])
        right = _shares(trial.train, lists) if lists else np.empty(0)
        value, interval, n = rate(right)
        if n >= FEWEST:
            note = f"of {n} holders among members; its null is no zero"
            scores.append(Score(metric, value, interval, group=f"kind={kind}", note=note))
    return scores


# ── What somebody alone holds ──────────────────────────────────────────────────────────────────


def _listed(part: Table, synthetic: Table, sets: list[tuple[str, ...]]) -> Listed:
    """Return for each kind, and each column, which values of which rows are unique and found."""
    found: Listed = {}
    _, who = np.unique(part.subjects, return_inverse=True)
    lone: dict[tuple[str, ...], Mask] = {}
    for column in part.schema.learned:
        keys = row_keys(part, (column.name,))
        lone[column.name,] = held_alone(keys, who)
        told = synthetic.present(column.name)
        again = np.isin(keys, row_keys(synthetic, (column.name,))[told])
        unique = lone[column.name,] & part.present(column.name)
        right = np.where(unique, again.astype(np.float64), np.nan)
        found[column_group(column)] = [right]
        found.setdefault("codes" if column.is_coded else "numbers", []).append(right)
    for names in sets:  # pairs before triples
        keys = row_keys(part, names)
        lone[names] = held_alone(keys, who)
        minimal = lone[names].copy()
        for less in combinations(names, len(names) - 1):
            minimal &= ~lone[less]
        right = np.full(part.n_rows, np.nan)
        right[minimal] = np.isin(keys[minimal], row_keys(synthetic, names))
        found.setdefault("combinations", []).append(right)
    return found


def held_alone(keys: NDArray[np.uint64], who: Codes) -> Mask:
    """Return which rows hold a key that no other subject holds, (rows,)."""
    _, first, of = np.unique(keys, return_index=True, return_inverse=True)
    shared = np.zeros(first.size, np.bool_)
    shared[of[who != who[first][of]]] = True
    return ~shared[of]


def _sets(train: Table, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Return the pairs, then the triples, of the columns that somebody is most likely to know."""
    schema = train.schema
    known = (*quasi_identifiers(schema), *(c.name for c in schema.holders("sensitive")))
    learned = [c.name for c in schema.learned]
    order = [name for name in dict.fromkeys(known) if name in learned]
    rest = [name for name in learned if name not in order]
    order += [rest[i] for i in rng.permutation(len(rest))]
    columns = sorted(order[:COLUMNS], key=learned.index)
    triples = list(combinations(columns, 3))
    drawn = np.sort(rng.permutation(len(triples))[:TRIPLES])
    return [*combinations(columns, 2), *(triples[i] for i in drawn)]
