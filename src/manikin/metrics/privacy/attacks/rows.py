"""Rows as attacks see them, fitted on what an attacker holds: synthetic and reference rows.

Numbers become normal scores (van der Waerden, 1952) of unit variance: no outlier rules a distance,
and none is lost. A category becomes one indicator a level, so that two that differ are as far
apart, squared, as two numbers are on average.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.neighbors import NearestNeighbors

from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.spaces import Bins, Codes, Space, row_keys
from manikin.metrics.trees import TreeFeatures

__all__ = ["NEIGHBOURS", "Neighbours", "Rows", "Sight", "closest"]

NEIGHBOURS = 10  # that are looked up
LEVELS = 12  # of a column that have an indicator; the rest share one
BINS = 8  # of a column's numbers in a histogram
SAME = 1e-5  # a distance below it is a rounding error

Neighbours: TypeAlias = tuple[Floats, NDArray[np.intp]]  # distances and places, nearest first


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one table in the forms that attacks compute on."""

    dense: NDArray[np.float32]  # (rows, dimensions)
    cells: Codes  # (columns, rows)
    n_cells: tuple[int, ...]  # of each column
    features: Floats  # (rows, features), for trees
    unordered: list[bool]
    keys: NDArray[np.uint64]  # equal for rows that read the same; may be of more rows than these
    near: MutableMapping[Rows, Neighbours] = field(default_factory=WeakKeyDictionary)

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.dense.shape[0])

    def some(self, n: int, rng: np.random.Generator) -> Rows:
        """Return `n` rows drawn without replacement, or all."""
        if self.n <= n:
            return self
        return self.take(np.sort(rng.choice(self.n, n, replace=False)))

    def take(self, at: NDArray[np.intp]) -> Rows:
        """Return the rows of an index."""
        return Rows(
            self.dense[at], self.cells[:, at], self.n_cells, self.features[at], self.unordered,
            self.keys[at],
        )  # fmt: skip


@dataclass(frozen=True)
class Sight:
    """How an attacker turns a table into rows."""

    space: Space
    spread: dict[str, float]
    bins: Bins
    trees: TreeFeatures

    @staticmethod
    def fit(synthetic: Table, reference: Table) -> Sight:
        """Learn ranks, frequent levels and bins from what the attacker holds."""
        held = Table.concatenate([synthetic, reference])
        space = Space.fit(held)
        spread = {name: _spread(held.numbers(name), knots) for name, knots in space.knots.items()}
        bins = Bins.fit(held, n_bins=BINS, most_levels=LEVELS)
        return Sight(space, spread, bins, TreeFeatures.fit(held))

    def rows(self, table: Table) -> Rows:
        """Return a table's rows."""
        learned = [column.name for column in table.schema.learned]
        cells = [self.bins.codes(table, name) for name in learned]
        sizes = tuple(self.bins.sizes[name] for name in learned)
        dense: list[Floats] = []
        for name, codes, size in zip(learned, cells, sizes, strict=True):
            if name in self.space.knots:
                dense.append(
                    _scores(table.numbers(name), self.space.knots[name]) / self.spread[name]
                )
                codes, size = table.state(name).astype(np.int64), len(table.schema[name].tokens) + 1
            dense += _indicators(codes, size)
        none = np.zeros((len(learned), table.n_rows), np.int64)
        return Rows(
            np.column_stack(dense).astype(np.float32) if dense else none.T.astype(np.float32),
            np.array(cells) if cells else none,
            sizes,
            self.trees.matrix(table),
            self.trees.unordered,
            row_keys(table),
        )


def _scores(values: Floats, knots: tuple[Floats, Floats]) -> Floats:
    """Return the normal scores of numbers, 0 for no value."""
    unique, ranks = knots
    if unique.size < 2:
        return np.zeros(values.size)
    placed = ndtri(np.interp(values, unique, ranks))
    return np.where(np.isnan(values), 0.0, placed)


def _spread(values: Floats, knots: tuple[Floats, Floats]) -> float:
    """Return the standard deviation of a column's normal scores; 1 where they do not vary."""
    found = float(np.std(_scores(values, knots))) if values.size else 0.0
    return found if found > 0 else 1.0


def _indicators(codes: Codes, size: int) -> list[Floats]:
    """Return an indicator a code, (rows,) each; for two codes one, of the same distance."""
    if size <= 1:
        return []
    if size == 2:
        return [np.sqrt(2.0) * codes]
    return [(codes == k).astype(np.float64) for k in range(size)]


def closest(queries: Rows, others: Rows) -> Neighbours:
    """Return the distances to the nearest `others` and which they are, (queries, ≤ NEIGHBOURS)."""
    found = queries.near.get(others)
    if found is None:
        n = min(NEIGHBOURS, others.n)
        search = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(others.dense)
        distances, places = search.kneighbors(queries.dense)
        found = np.where(distances < SAME, 0.0, distances).astype(np.float64), places
        queries.near[others] = found
    return found
