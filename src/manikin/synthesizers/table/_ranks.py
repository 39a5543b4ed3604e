"""How columns depend on each other within leaves: a Gaussian copula of a few factors, as a sum.

Where a row lies in its leaf, column by column, is turned into normal scores; their correlations,
pooled over leaves and shrunk one by one (James and Stein 1961, positive part), are those of a few
common factors and each column's own part: principal factors, iterated (Harman, Modern Factor
Analysis, 1976, ch. 8). The factors take one of M points, each as likely, whose mean is 0 and whose
covariance is the identity, so that everything is a finite sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

__all__ = ["Ranks", "factors", "independent", "points"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

GRID = 160  # points between which the knots are looked for
KNOTS = 64  # steps in which a column's distribution functions are kept
NARROWEST = 0.003  # least variance of a column's own part
LEAST_SPREAD = 0.3  # least product of two columns' sds that is made up for
ROUNDS = 25  # of the principal factors
MOST_HELD = 2**27  # columns times nodes times knots that a model file may ask for


@dataclass(frozen=True)
class Ranks:
    """The copula: z_j = loading_j · f + own part, for f one of the nodes; u_j is z_j's rank."""

    loading: Floats  # (columns, factors)
    node: Floats  # (nodes, factors)

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.node)

    def check(self, n_columns: int) -> None:
        """Raise ValueError unless this is a copula of so many columns."""
        for array in (self.loading, self.node):
            if array.ndim != 2 or array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ValueError("factors")
        if self.loading.shape != (n_columns, self.node.shape[1]) or not len(self.node):
            raise ValueError("factors")
        if ((self.loading**2).sum(axis=1) > 1).any() or (np.abs(self.node) > 1e3).any():
            raise ValueError("factors out of reach")
        if n_columns * len(self.node) * KNOTS > MOST_HELD:
            raise ValueError("too many nodes")

    @cached_property
    def curve(self) -> NDArray[np.float32]:
        """P(u_j <= k / KNOTS | node), (columns, knots + 1, nodes); its mean over nodes is k/KNOTS.

        The knots in z, whose ranks these are, between the points of a grid, then by Newton's steps.
        """
        mean = (self.loading @ self.node.T)[:, None, :]  # (columns, 1, nodes)
        width = np.sqrt(1 - (self.loading**2).sum(axis=1))[:, None, None]
        wanted = np.arange(1, KNOTS) / KNOTS
        z = np.repeat(ndtri(wanted)[None, :], len(self.loading), axis=0)
        if self.loading.any():
            most = float(np.abs(mean).max()) + 3.0
            grid = np.linspace(-most, most, GRID)
            upto = ndtr((grid[None, :, None] - mean) / width).mean(axis=2)
            z = np.stack([np.interp(wanted, each, grid) for each in upto])
            for _ in range(2):
                t = (z[:, :, None] - mean) / width
                slope = (np.exp(-0.5 * t**2) / width).mean(axis=2) / np.sqrt(2 * np.pi)
                step = (ndtr(t).mean(axis=2) - wanted) / np.maximum(slope, 0.02)
                z -= np.clip(step, -grid[-1] / GRID, grid[-1] / GRID)
        z = np.maximum.accumulate(z, axis=1)
        found = np.empty((len(self.loading), KNOTS + 1, self.n_nodes), np.float32)
        found[:, 0], found[:, -1] = 0.0, 1.0
        found[:, 1:-1] = ndtr((z[:, :, None] - mean) / width)
        return np.asarray(found)

    @cached_property
    def _by_node(self) -> Floats:
        """The curves, (columns, nodes × (knots + 1)), node m's from m to m + 1."""
        turned = self.curve.transpose(0, 2, 1) + np.arange(self.n_nodes)[:, None]
        return np.asarray(turned.reshape(len(self.loading), -1), np.float64)

    def between(self, j: int, low: Floats, high: Floats) -> NDArray[np.float32]:
        """Return P(low < u_j <= high | node), (rows, nodes)."""
        return np.asarray(np.maximum(self._at(j, high) - self._at(j, low), np.float32(0)))

    def _at(self, j: int, u: Floats) -> NDArray[np.float32]:
        at = np.minimum((u * KNOTS).astype(np.int64), KNOTS - 1)
        part = (u * KNOTS - at).astype(np.float32)[:, None]
        curve = self.curve[j]
        return np.asarray(curve[at] + part * (curve[at + 1] - curve[at]))

    def share(self, j: int, node: Ints, u: Floats) -> Floats:
        """Return P(u_j <= u | node) of each row's node and u."""
        at = np.minimum((u * KNOTS).astype(np.int64), KNOTS - 1)
        curve = self._by_node[j]
        low = curve[node * (KNOTS + 1) + at]
        return np.asarray(
            low + (u * KNOTS - at) * (curve[node * (KNOTS + 1) + at + 1] - low) - node
        )

    def quantile(self, j: int, node: Ints, v: Floats) -> Floats:
        """Return the u below which a share `v` of column j lies, of each row's node."""
        curve, first = self._by_node[j], node * (KNOTS + 1)
        at = np.searchsorted(curve, node + v, side="right") - 1
        at = np.clip(at, first, first + KNOTS - 1)
        step = curve[at + 1] - curve[at]
        part = np.clip((node + v - curve[at]) / np.maximum(step, 1e-12), 0, 1)
        return np.asarray(np.clip((at - first + part) / KNOTS, 0, 1))


def independent(n_columns: int) -> Ranks:
    """Return the copula of columns that are independent within leaves, as in the paper."""
    return Ranks(np.zeros((n_columns, 1)), np.zeros((1, 1)))


def factors(scores: Floats, leaf: Ints, n_factors: int, n_nodes: int) -> Ranks:
    """Return the copula of normal scores (rows, columns), of mean 0 in each of the rows' leaves."""
    n_columns = scores.shape[1]
    n_factors = min(n_factors, n_columns - 1)
    if min(n_factors, n_nodes - 1) < 1:
        return independent(n_columns)
    shrunk = _correlations(scores, leaf)
    if not np.triu(shrunk, 1).any():
        return independent(n_columns)
    own = np.clip(1 - np.abs(np.triu(shrunk, 1) + np.tril(shrunk, -1)).max(axis=1), NARROWEST, 1)
    for _ in range(ROUNDS):
        values, axes = np.linalg.eigh(shrunk - np.diag(own))
        values = np.maximum(values[: -n_factors - 1 : -1], 0)
        loading = axes[:, : -n_factors - 1 : -1] * np.sqrt(values)
        own = np.clip(1 - (loading**2).sum(axis=1), NARROWEST, 1)
    long = np.sqrt((loading**2).sum(axis=1) / (1 - NARROWEST))
    return Ranks(loading / np.maximum(long, 1)[:, None], points(n_nodes, n_factors))


def _correlations(scores: Floats, leaf: Ints) -> Floats:
    """Return correlations of the normal variables whose means within cells the scores are.

    Scores of few cells vary less than the variables: sd < 1. If r is the correlation of scores and
    k the product of their sds, it is about r/k near 0 and 1 at 1, as it is exactly for two columns
    halved at the median: r/k + (1 - 1/k) r³. Leaves in which a column is constant tell nothing.
    """
    number = np.unique(leaf, return_inverse=True)[1]
    rows = np.bincount(number)
    square = [np.bincount(number, weights=each**2) / rows for each in scores.T]
    sd = np.sqrt(np.stack(square, axis=1))  # (leaves, columns)
    most = np.maximum((sd * rows[:, None]).T @ sd, 1e-9)  # the sum of products if r were 1
    seen = np.clip(scores.T @ scores / most, -1, 1)
    free = np.maximum((sd * (rows - 1)[:, None]).T @ sd, 1e-9)
    noise = (1 - seen**2) ** 2 / free
    kept = seen * np.maximum(1 - noise / np.maximum(seen**2, 1e-12), 0)
    k = np.clip((sd**2 * rows[:, None]).T @ sd**2 / most, LEAST_SPREAD, 1)
    found = kept / k + (1 - 1 / k) * kept**3
    np.fill_diagonal(found, 1.0)
    return np.asarray(np.clip(found, -1, 1))


def points(n: int, d: int) -> Floats:
    """Return `n` points of a normal distribution in `d` dimensions: mean 0, covariance identity.

    An additive recurrence, its steps powers of the root of x^(d+1) = x + 1 (Roberts 2018).
    """
    root = 1.5
    for _ in range(60):
        root = (1 + root) ** (1 / (d + 1))
    u = (0.5 + np.arange(1, n + 1)[:, None] * root ** -np.arange(1.0, d + 1)) % 1
    found = ndtri(np.clip(u, 1e-6, 1 - 1e-6))
    found -= found.mean(axis=0)
    if n <= d:
        return np.asarray(found / np.maximum(found.std(axis=0), 1e-9))
    turn = np.linalg.cholesky(found.T @ found / n)
    return np.asarray(np.linalg.solve(turn, found.T).T)
