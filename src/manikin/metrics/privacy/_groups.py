"""Whom an attack may hit harder than others: the most vulnerable, and every sensitive stratum.

An average hides the few who are easy to find. Vulnerable is who is far from other real rows, by
the mean distance to the nearest five (Meeus, Guepin, Cretu and de Montjoye, "Achilles' Heels",
ESORICS 2023), measured among equally many rows of the target's own part: so a member is as likely
to be called so as a stranger. The space is that of the synthetic rows, which belong to neither.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.spaces import Points, Space, subsample
from manikin.privacy.cells import SMALLEST_CELL, subjects_per_cell

__all__ = ["Mask", "distances", "levels", "strata", "vulnerable"]

Mask = NDArray[np.bool_]

VULNERABLE = 210  # rows a side
NEAREST = 5
AMONG = 1_000  # rows of the part that a row's distance is measured to
LEVELS = 12  # of a sensitive column, the commonest ones
TILE = 16  # queries at a time: what is computed of them stays in the cache


def vulnerable(
    targets: tuple[Table, Table], parts: tuple[Table, Table], space: Space, rng: np.random.Generator
) -> tuple[Mask, Mask]:
    """Return which rows of each side's targets are its most vulnerable ones, (rows,) each."""
    among = min(AMONG, *(part.n_rows for part in parts))
    share = min(0.25, VULNERABLE / max(1, *(table.n_rows for table in targets)))
    found = []
    for table, part in zip(targets, parts, strict=True):
        far = _farness(table, subsample(part, among, rng), space)
        most = round(share * table.n_rows)
        mask = np.zeros(table.n_rows, np.bool_)
        mask[np.argsort(-far, kind="stable")[:most]] = True
        found.append(mask)
    return found[0], found[1]


def _farness(table: Table, others: Table, space: Space) -> Floats:
    """Return each row's mean distance to the nearest rows of other subjects, (rows,)."""
    asked, known = space.points(table), space.points(others)
    found = np.zeros(table.n_rows)
    for start in range(0, table.n_rows, TILE):
        rows = slice(start, start + TILE)
        distance = distances(asked, known, rows)
        distance[table.subjects[rows, None] == others.subjects[None, :]] = np.iinfo(np.uint16).max
        k = min(NEAREST, known.n)
        found[rows] = np.partition(distance, k - 1, axis=1)[:, :k].mean(axis=1)
    return found


def distances(asked: Points, known: Points, rows: slice) -> NDArray[np.uint16]:
    """Return Gower's distances of some queries to all `known` points, (queries, known)."""
    numbers, codes = asked.numbers[:, rows], asked.codes[:, rows]
    shape = numbers.shape[1], known.n
    total = np.zeros(shape, np.uint16)  # the scale of points is such that sums fit
    gap, unequal = np.empty(shape, np.int16), np.empty(shape, np.bool_)
    for one, other in zip(numbers, known.numbers, strict=True):
        if one.any() or other.any():  # the marks of absence are mostly all 0
            np.subtract(one[:, None], other[None, :], out=gap)
            np.abs(gap, out=gap)
            total += gap.view(np.uint16)
    for one, other in zip(codes, known.codes, strict=True):
        np.not_equal(one[:, None], other[None, :], out=unequal)
        total += unequal.view(np.uint8) * np.uint16(asked.scale)
    return total


def strata(train: Table, holdout: Table) -> Iterator[tuple[str, tuple[Mask, Mask]]]:
    """Yield each level of a sensitive column that may be named, and who is in it, (subjects,) each.

    A subject is where their first row is.
    """
    first = [np.unique(part.subjects, return_index=True)[1] for part in (train, holdout)]
    for group, name, level in levels(train):
        one, other = (
            np.asarray(part.columns[name][rows] == level)
            for part, rows in zip((train, holdout), first, strict=True)
        )
        yield group, (one, other)


def levels(train: Table) -> Iterator[tuple[str, str, int]]:
    """Yield the group, the column and the code of each level that may be named.

    Named are the commonest levels of sensitive columns, held by eleven training subjects or more.
    """
    for column in train.schema.holders("sensitive"):
        if not column.is_coded:
            continue
        held = train.columns[column.name]
        counts = subjects_per_cell(held, train.subjects, len(column.categories))
        for level in np.sort(np.argsort(-counts, kind="stable")[:LEVELS]):
            if counts[level] >= SMALLEST_CELL:
                yield f"{column.name}={column.categories[level]}", column.name, int(level)
