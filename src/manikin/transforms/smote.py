"""SMOTE: new rows of a rare class, between a real row of it and one of its nearest neighbours.

Reference  Chawla, Bowyer, Hall & Kegelmeyer, "SMOTE: synthetic minority over-sampling technique",
           JAIR 16 (2002), sec. 4.2; SMOTE-NC for nominal columns, sec. 6.1
Idea       x' = x + u (y - x), y one of the k rows nearest to x in its class, u uniform in [0, 1];
           a nominal cell is what most of the k neighbours have there
Algorithm  1 numbers in standard deviations; a nominal cell that differs, or a value beside none,
           counts as the median standard deviation of the class's numbers · 2 find the k nearest
           rows of the class that are not the same subject's · 3 take the class's rows in turn, a
           neighbour and a place between by chance · 4 obey the declared rules
Differs    from the paper in: numbers are standardised over all rows, for else the unit decides who
           is near; one u a row, as in its text, and not one a cell, as in its pseudo-code; missing
           values; neighbours are other subjects; ties go to the nearest neighbour's level
Use when   somebody wants to know what the field's habit is worth; not to release anything: each row
           lies between two real patients. This is a transform of a table and no model: it would
           have to hold the rows (docs/decisions/0006-smote.md)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.knowledge import constraints

__all__ = ["Place", "neighbours", "smote"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

K = 5  # neighbours (sec. 4.2)
MOST = 20_000  # rows of a class among which neighbours are sought; of more, a random choice
INDICATORS = 500  # levels of all nominal columns up to which they are compared in one product
BLOCK = 256  # rows whose distances are held at once


@dataclass(frozen=True)
class Place:
    """Rows of one class where distances are measured."""

    numbers: Floats  # (rows, numbers) in standard deviations, 0 where there is no value
    present: NDArray[np.bool_]  # (rows, numbers)
    nominal: Ints  # (rows, nominal columns), and the state of each number
    penalty: float  # what a nominal cell that differs adds to a squared distance
    subjects: Ints  # (rows,)
    alike: NDArray[np.float32] | None = None  # (rows, levels) which level a row has, if few

    @staticmethod
    def of(table: Table, rows: Ints, leave_out: str) -> Place:
        """Place the rows of a class, whose column `leave_out` says only that it is the class."""
        names = [c.name for c in table.schema.learned if not c.is_coded]
        coded = [c.name for c in table.schema.learned if c.is_coded and c.name != leave_out]
        numbers = np.stack([table.numbers(n) for n in names], axis=1) if names else (
            np.zeros((table.n_rows, 0))
        )  # fmt: skip
        present = np.isfinite(numbers)
        scale = np.array([_deviation(numbers[:, j]) for j in range(len(names))])
        middle = np.array([_mean(numbers[:, j]) for j in range(len(names))])
        placed = np.where(present, (numbers - middle) / scale, 0.0)[rows]
        own = [
            _deviation(placed[present[rows, j], j], none=0.0) for j in range(len(names))
        ]  # of the class
        median = float(np.median(own)) if own else 1.0
        states = [table.state(n).astype(np.int64) for n in names]
        nominal = [*(_levels(table, n) for n in coded), *states]
        varying = [values[rows] for values in nominal if np.unique(values[rows]).size > 1]
        cells = np.stack(varying, axis=1) if varying else np.zeros((rows.size, 0), np.int64)
        return Place(
            placed, present[rows], cells, median**2, table.subjects[rows], _indicators(cells)
        )

    def squared(self, some: slice) -> Floats:
        """Return squared distances of some rows to all, infinite within a subject."""
        x = self.numbers
        if self.present.all():
            size = (x**2).sum(axis=1)
            near = size[some][:, None] + size[None, :] - 2 * x[some] @ x.T
        else:
            m = self.present.astype(np.float64)
            near = (x[some] ** 2) @ m.T + m[some] @ (x**2).T - 2 * x[some] @ x.T
        near = np.maximum(near, 0.0) + self.penalty * self._differ(some)
        near[self.subjects[some][:, None] == self.subjects[None, :]] = np.inf
        return np.asarray(near)

    def _differ(self, some: slice) -> Floats:
        """Return in how many nominal cells some rows differ from all."""
        if self.alike is not None:
            return np.asarray(self.nominal.shape[1] - self.alike[some] @ self.alike.T, float)
        differ = np.zeros((self.subjects[some].size, self.subjects.size))
        for column in self.nominal.T:
            differ += column[some][:, None] != column[None, :]
        return differ


def _indicators(nominal: Ints) -> NDArray[np.float32] | None:
    """Return a column of 0 and 1 for each level of each nominal column, None for too many."""
    if not nominal.size or sum(np.unique(column).size for column in nominal.T) > INDICATORS:
        return None
    parts = [column[:, None] == np.unique(column)[None, :] for column in nominal.T]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _levels(table: Table, name: str) -> Ints:
    """Return a coded column's levels; no value is a level, each way of writing it another."""
    return np.where(
        table.present(name), table.columns[name], -1 - table.state(name).astype(np.int64)
    ).astype(np.int64)


def _deviation(values: Floats, none: float = 1.0) -> float:
    known = values[np.isfinite(values)]
    spread = float(known.std()) if known.size else 0.0
    return spread if spread > 0 else none


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 0.0


def neighbours(place: Place, k: int) -> tuple[Ints, Ints]:
    """Return each row's `k` nearest rows of other subjects, nearest first, and how many there are.

    (rows, k); where there are fewer, the last places hold no neighbour.
    """
    n = place.subjects.size
    k = min(k, n - 1)
    found, many = np.zeros((n, k), np.int64), np.zeros(n, np.int64)
    for start in range(0, n, BLOCK):
        some = slice(start, min(start + BLOCK, n))
        squared = place.squared(some)
        order = np.argpartition(squared, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(squared, order, axis=1)
        sorted_ = np.lexsort((order, near), axis=1)  # of equals the first row
        found[some] = np.take_along_axis(order, sorted_, axis=1)
        many[some] = np.isfinite(near).sum(axis=1)
    return found, many


def smote(table: Table, column: str, wanted: Mapping[str, int], *, k: int = K, seed: int) -> Table:
    """Return `wanted[level]` new rows of each level of a coded column, each a new subject.

    Raises InputError where a level has rows of one subject only.
    """
    if k < 1:
        raise InputError(f"{k} neighbours", "1 or more", "5 are usual")
    categories = table.schema[column].categories
    made: list[Table] = []
    for level, n in wanted.items():
        rng = generator(seed, f"smote {categories.index(level)}")
        rows = np.flatnonzero(table.columns[column] == categories.index(level))
        if np.unique(table.subjects[rows]).size < 2:
            raise InputError(
                f"a level of '{column}' with fewer than two subjects",
                "two subjects or more, between whom new rows can lie",
                "leave the level out, or join it with another one",
            )
        if rows.size > MOST:
            rows = np.sort(rng.choice(rows, MOST, replace=False))
        made.append(_between(table, rows, Place.of(table, rows, column), n, k, rng))
    whole = Table.concatenate([table.rows(np.zeros(0, np.int64)), *made])
    whole = Table(table.schema, np.arange(whole.n_rows), whole.columns, whole.states)
    rng = generator(seed, "smote rules")
    fixed = frozenset({column})
    rules = constraints.learn(table.schema.rules, table, least=1)
    return constraints.enforce(whole, rules, rng=rng, fixed=fixed) if whole.n_rows else whole


def _between(
    table: Table, rows: Ints, place: Place, n: int, k: int, rng: np.random.Generator
) -> Table:
    """Return `n` rows between rows of a class and neighbours of theirs."""
    near, many = neighbours(place, k)
    open_ = np.flatnonzero(many > 0)  # a row whose class is of its own subject has no neighbour
    turns = [rng.permutation(open_) for _ in range(n // open_.size + 1)]
    base = np.concatenate(turns)[:n]
    chosen = near[base, (rng.random(n) * many[base]).astype(np.int64)]
    share = rng.random(n)
    around = np.where(np.arange(near.shape[1]) < many[base][:, None], near[base], -1)
    columns: dict[str, NDArray[Any]] = {}
    states: dict[str, NDArray[np.int8]] = {}
    ends = rows[base], rows[chosen]
    all_around = np.where(around >= 0, rows[around], -1)  # (n, k) rows of the table
    for item in table.schema.learned:
        name = item.name
        if item.is_coded:
            levels = _majority(_levels(table, name), all_around)
            columns[name] = np.where(levels >= 0, levels, -1).astype(np.int32)
            state = np.where(levels >= 0, 0, -1 - levels)
        else:
            state = _majority(table.state(name).astype(np.int64), all_around)
            values = _line(table.numbers(name), ends, all_around, share)
            values = np.where(state == 0, values, np.nan)
            columns[name] = _stored(values, item.kind, item.decimals)
        if name in table.states:
            states[name] = state.astype(np.int8)
    return Table(table.schema, np.arange(n, dtype=np.int64), columns, states)


def _majority(levels: Ints, around: Ints) -> Ints:
    """Return the level that most neighbours have; of equally many, the nearest one's, (rows,)."""
    theirs, there = levels[around], around >= 0
    alike = (theirs[:, :, None] == theirs[:, None, :]) & there[:, None, :]
    votes = np.where(there, alike.sum(axis=2), -1)
    return np.asarray(theirs[np.arange(len(theirs)), votes.argmax(axis=1)])


def _line(values: Floats, ends: tuple[Ints, Ints], around: Ints, share: Floats) -> Floats:
    """Return points between two rows; where one lacks a value the other's, else a neighbour's."""
    one, other = values[ends[0]], values[ends[1]]
    known = np.isfinite(np.where(around >= 0, values[around], np.nan))
    first = around[np.arange(len(around)), known.argmax(axis=1)]
    start = np.where(np.isfinite(one), one, np.where(np.isfinite(other), other, values[first]))
    end = np.where(np.isfinite(other), other, start)
    return np.asarray(start + share * (end - start))


def _stored(values: Floats, kind: str, decimals: int) -> NDArray[Any]:
    if kind == "datetime":
        moments = np.full(values.size, np.datetime64("NaT", "us"))
        known = np.isfinite(values)
        moments[known] = np.rint(values[known] * 1e6).astype(np.int64).astype("datetime64[us]")
        return moments
    return np.round(values, decimals)
