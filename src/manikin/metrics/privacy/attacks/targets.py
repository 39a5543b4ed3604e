"""Whom to attack: random subjects, the most vulnerable ones, and every sensitive stratum.

Members and strangers are chosen alike; their numbers may differ where strangers are few, because
all that is computed are rates of each. Vulnerable is who is far from other
real rows, by the mean distance to the nearest ones (Meeus, Guepin, Cretu, de Montjoye, Achilles'
heels, ESORICS 2023); the other rows are the reference's, which are neither members nor strangers,
so that being one does not make a target look vulnerable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows, Sight, closest
from manikin.metrics.protocol import Parties
from manikin.privacy.cells import SMALLEST_CELL, subjects_per_cell

__all__ = ["Targets", "choose_targets"]

Mask = NDArray[np.bool_]

CANDIDATES = 4_000  # subjects a side
VULNERABLE = 420  # subjects a side: half are for choosing the attack, 210 for reporting it
STRATUM = 120  # subjects a side and stratum, where there are as many
EACH = 5  # rows of a subject
ROWS = 2_000  # reference rows that vulnerability is measured by
LEVELS = 12  # of a sensitive column, the commonest ones
THIRDS = ("lowest third", "middle third", "highest third")


@dataclass(frozen=True)
class Targets:
    """The targets' rows, whose they are, and what each target is."""

    rows: Rows
    of: NDArray[np.intp]  # (rows,) the target of each row
    member: Mask  # (targets,), as all that follow
    random: Mask
    vulnerable: Mask
    first: Mask  # the half to choose the attack on
    strata: Mapping[str, Mask]  # "sex=F"


def choose_targets(
    who: Parties, sight: Sight, reference: Rows, n: int, rng: np.random.Generator
) -> Targets:
    """Choose `n` random members and strangers, or all, and beside them vulnerable and strata's."""
    tables: list[Table] = []
    owners: list[NDArray[np.intp]] = []
    ranks: list[NDArray[np.intp]] = []
    for part in (who.members, who.strangers):
        people = rng.permutation(np.unique(part.subjects))[:CANDIDATES]
        table, owner = _rows_of(part, people, rng)
        tables.append(table)
        owners.append(owner + sum(rank.size for rank in ranks))
        ranks.append(np.arange(people.size))
    table, of = Table.concatenate(tables), np.concatenate(owners)
    rows = sight.rows(table)
    rank, sides = np.concatenate(ranks), [ranks[0], ranks[0].size + ranks[1]]
    random = rank < max(1, round(n * rank.size / of.size))  # as many rows, whoever has several
    vulnerable = _vulnerable(rows, of, reference, sides, rng)
    strata = dict(_strata(who, table, of))
    chosen = random | vulnerable
    for label, inside in strata.items():
        strata[label] = _at_most(inside, chosen, sides)
        chosen = chosen | strata[label]
    first = rank % 2 == 0  # they stand in random order
    kept = chosen[of]
    place = np.cumsum(chosen) - 1
    return Targets(
        rows.take(np.flatnonzero(kept)),
        np.asarray(place[of[kept]], dtype=np.intp),
        (np.arange(rank.size) < ranks[0].size)[chosen],
        random[chosen],
        vulnerable[chosen],
        first[chosen],
        {label: inside[chosen] for label, inside in strata.items()},
    )


def _rows_of(
    part: Table, subjects: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Table, NDArray[np.intp]]:
    """Return at most EACH random rows of each subject, and the subject's place in `subjects`."""
    by_id = np.argsort(subjects)
    at = np.flatnonzero(np.isin(part.subjects, subjects))
    at = at[rng.permutation(at.size)]
    owner = by_id[np.searchsorted(subjects[by_id], part.subjects[at])]
    order = np.argsort(owner, kind="stable")
    at, owner = at[order], owner[order]
    starts = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))
    within = np.arange(at.size) - np.repeat(starts, np.diff([*starts, at.size]))
    return part.rows(at[within < EACH]), np.asarray(owner[within < EACH], dtype=np.intp)


def _vulnerable(
    rows: Rows,
    of: NDArray[np.intp],
    reference: Rows,
    sides: list[NDArray[np.intp]],
    rng: np.random.Generator,
) -> Mask:
    """Return the targets of each side that are farthest from the reference rows."""
    first = np.unique(of, return_index=True)[1]  # a random row each, since they are shuffled
    distance = closest(rows.take(first), reference.some(ROWS, rng))[0].mean(axis=1)
    share = min(0.25, VULNERABLE / max(side.size for side in sides))  # alike on both sides
    found = np.zeros(distance.size, np.bool_)
    for side in sides:
        most = round(share * side.size)
        found[side[np.argsort(-distance[side], kind="stable")[:most]]] = True
    return found


def _strata(who: Parties, table: Table, of: NDArray[np.intp]) -> Iterator[tuple[str, Mask]]:
    """Yield each sensitive stratum's name and the targets that are in it."""
    first = np.unique(of, return_index=True)[1]
    for column in table.schema.learned:
        if "sensitive" not in column.roles:
            continue
        labels, level = _levels(who, column, table.numbers(column.name)[first])
        for k, label in enumerate(labels):
            yield f"{column.name}={label}", level == k


def _levels(who: Parties, column: Column, values: Floats) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of a column's strata and that of each value (-1: none)."""
    missing = np.isnan(values)
    if column.is_coded:
        held = who.members.columns[column.name]
        counts = subjects_per_cell(held, who.members.subjects, len(column.categories))
        common = np.argsort(-counts, kind="stable")[:LEVELS]
        common = np.sort(common[counts[common] >= SMALLEST_CELL])
        place = np.full(max(1, counts.size, len(column.categories)), -1, np.int64)
        place[common] = np.arange(len(common))
        known = np.clip(np.nan_to_num(values), 0, place.size - 1).astype(np.int64)
        return [column.categories[k] for k in common], np.where(missing, -1, place[known])
    known_values = who.reference.numbers(column.name)
    known_values = known_values[np.isfinite(known_values)]
    if np.unique(known_values).size < 3:
        return [], np.full(values.size, -1)
    edges = np.quantile(known_values, [1 / 3, 2 / 3])
    return list(THIRDS), np.where(missing, -1, np.searchsorted(edges, values))


def _at_most(inside: Mask, chosen: Mask, sides: list[NDArray[np.intp]]) -> Mask:
    """Return a stratum's chosen targets, topped up with others to STRATUM a side."""
    found = inside & chosen
    for side in sides:
        others = side[inside[side] & ~chosen[side]]  # in random order already
        found[others[: max(0, STRATUM - int(found[side].sum()))]] = True
    return found
