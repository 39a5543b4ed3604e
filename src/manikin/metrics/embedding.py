"""Rows as dense vectors, for judges that need one: neighbours, kernels, projections, logistic.

Numbers become normal scores of their training ranks (van der Waerden, 1952), so that neither a
unit nor a skewed column decides a distance; beyond the training range they go on in a straight
line, because a rank would not tell an impossible value from a high one. Categories become
indicators of their commonest training levels, and every token ("no value", "<0.5") has an
indicator of its own. Everything is fitted on training rows and merely applied to all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.spaces import Bins

__all__ = ["Embedding", "squared_distances", "whitened"]

KNOTS = 200  # at which the normal score of a number is known; between them it is interpolated
LEVELS = 20  # of a category that have an indicator of their own; rarer ones share one
FARTHEST = 8.0  # standard deviations at which a number outside the training range stops
NEW_VALUE = 3.0  # where a value lies in a column that was constant in training


@dataclass(frozen=True)
class Embedding:
    """A dense space that the training rows define."""

    columns: tuple[Column, ...]
    knots: Mapping[str, tuple[Floats, Floats]]  # of numbers and ordered levels: value, score
    bins: Bins  # of unordered levels
    of_column: NDArray[np.int64]  # (dims,) the column of each dimension

    @staticmethod
    def fit(train: Table) -> Embedding:
        """Learn normal scores and common levels from the training rows."""
        bins = Bins.fit(train, most_levels=LEVELS)
        knots, sizes = {}, []
        for column in train.schema.learned:
            name = column.name
            if _is_unordered(column):
                sizes.append(bins.sizes[name])
            else:
                knots[name] = _knots(train.numbers(name))
                sizes.append(1 + max(1, len(column.tokens)))
        of_column = np.repeat(np.arange(len(sizes)), sizes)
        return Embedding(train.schema.learned, knots, bins, of_column)

    @property
    def dims(self) -> int:
        """Number of dimensions."""
        return int(self.of_column.size)

    def dense(self, table: Table) -> Floats:
        """Return the rows' places, (rows, dims)."""
        parts = [np.zeros((table.n_rows, 0))]
        for column in self.columns:
            if column.name in self.knots:
                values = table.numbers(column.name)
                known = np.isfinite(values)
                place = np.zeros(values.shape)
                place[known] = _placed(values[known], *self.knots[column.name])
                n_tokens = max(1, len(column.tokens))
                state = np.minimum(table.state(column.name).astype(np.int64), n_tokens)
                parts += [place[:, None], np.eye(n_tokens + 1)[state][:, 1:]]
            else:
                codes = self.bins.codes(table, column.name)
                parts.append(np.eye(self.bins.sizes[column.name])[codes])
        return np.concatenate(parts, axis=1)


def _is_unordered(column: Column) -> bool:
    return column.is_coded and column.kind != "ordinal"


def _knots(values: Floats) -> tuple[Floats, Floats]:
    unique, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
    if unique.size > KNOTS:
        kept = np.unique(np.searchsorted(ranks, np.linspace(0, 1, KNOTS)).clip(0, unique.size - 1))
        unique, ranks = unique[kept], ranks[kept]
    return unique, np.asarray(ndtri(ranks))


def _placed(values: Floats, unique: Floats, scores: Floats) -> Floats:
    """Return the normal scores of numbers, in a straight line beyond the outermost knots."""
    if unique.size < 2:
        centre = unique[0] if unique.size else 0.0
        return np.asarray(NEW_VALUE * np.sign(values - centre))
    placed = np.interp(values, unique, scores)
    outside = values - np.clip(values, unique[0], unique[-1])
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = outside / (unique[-1] - unique[0]) * (scores[-1] - scores[0])
    return np.asarray(np.clip(placed + np.nan_to_num(beyond), -FARTHEST, FARTHEST))


def squared_distances(one: Floats, other: Floats) -> Floats:
    """Return all squared Euclidean distances, (rows of one, rows of other); equal rows give 0."""
    squares = [np.einsum("ij,ij->i", part, part) for part in (one, other)]
    found = squares[0][:, None] + squares[1][None, :] - 2 * (one @ other.T)
    # what is left of equal rows after cancellation is no distance
    found[found < 1e-9 * (1 + squares[0][:, None])] = 0
    return np.asarray(found)


def whitened(rows: Floats, most: int) -> Floats:
    """Return centred, uncorrelated features of variance 1: at most `most`, largest first."""
    centred = rows - rows.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred / max(1, rows.shape[0]))
    variances, axes = variances[::-1][:most], axes[:, ::-1][:, :most]
    kept = variances > 1e-9 * max(1e-300, float(variances[:1].sum()))
    return np.asarray(centred @ (axes[:, kept] / np.sqrt(variances[kept])))
