"""Classes of sets of codes: a mixture of independent Bernoulli variables, on sparse data.

Reference  Lazarsfeld and Henry, "Latent structure analysis" (1968); Dempster, Laird and Rubin,
           J. R. Stat. Soc. B 39 (1977): EM, whose two steps are products with a sparse matrix
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from manikin.synthesizers.events._parts import array

__all__ = ["Classes", "mixture"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

MOST_ROWS = 60_000  # on which classes are learnt; all rows are put into one
ROUNDS = 25
LLOYD = 12
PRIOR = 0.5  # of a row that has a code, in every class, spread as the code is overall


@dataclass(frozen=True)
class Classes:
    """A fitted mixture: how each code speaks for a class, and the class by itself."""

    log_odds: Annotated[Floats, array("codes", "dated", low=-50, high=50)]
    constant: Annotated[Floats, array("dated", low=-1e9, high=1e9)]

    def draw(self, sets: Any, rng: np.random.Generator) -> Ints:
        """Return the class of each row of a sparse matrix of 0 and 1, drawn by how it fits."""
        return _drawn(_posterior(sets, self.log_odds, self.constant), rng)


def mixture(
    sets: Any, owners: Ints, classes: int, k: int, rng: np.random.Generator
) -> tuple[Classes, Ints]:
    """Return classes of the rows of a sparse matrix of 0 and 1, and the class of each, (rows,).

    A class of fewer than `k` owners is none: its rows go where they fit best beside it.
    """
    rows, codes = sets.shape
    alone = Classes(np.zeros((codes, 1)), np.zeros(1))
    if rows == 0 or classes <= 1 or sets.nnz == 0:
        return alone, np.zeros(rows, np.int64)
    chosen = np.arange(rows)
    if rows > MOST_ROWS:
        chosen = np.sort(rng.choice(rows, MOST_ROWS, replace=False))
    own = sets[chosen]
    label = _start(own, classes, rng)
    share = np.asarray((own.sum(axis=0) + PRIOR) / (own.shape[0] + 1.0)).ravel()
    weight = np.zeros((own.shape[0], int(label.max()) + 1))
    weight[np.arange(label.size), label] = 1.0
    for _ in range(ROUNDS):
        weight = _posterior(own, *_densities(weight, own, share))
    size = int(owners.max()) + 1
    while True:
        fitted = Classes(*_densities(weight, own, share))
        label = fitted.draw(sets, rng)
        held = np.bincount(np.unique(label * size + owners) // size, minlength=weight.shape[1])
        keep = np.flatnonzero(held >= k)
        if keep.size == weight.shape[1]:
            return fitted, label
        if keep.size <= 1:
            return alone, np.zeros(rows, np.int64)
        weight = weight[:, keep] + 1e-12
        weight /= weight.sum(axis=1, keepdims=True)


def _start(sets: Any, classes: int, rng: np.random.Generator) -> Ints:
    """Return first labels: nearest centres of the rows' leading singular vectors."""
    n, d = sets.shape
    rarity = np.log((n + 1.0) / (np.asarray(sets.sum(axis=0)).ravel() + 1.0)) + 0.5
    weighted = sets.astype(np.float64) @ sp.diags(rarity)
    rank = int(min(24, n - 1, d))
    if rank < 1:
        return np.zeros(n, np.int64)
    state = int(rng.integers(2**31 - 1))
    u, s, _ = randomized_svd(weighted, rank, random_state=state, n_iter=3)
    points = u * s
    length = np.linalg.norm(points, axis=1, keepdims=True)
    points = points / np.maximum(length, 1e-9)
    centres = _seeds(points, classes, rng)
    label = np.zeros(n, np.int64)
    for _ in range(LLOYD):
        away = (centres**2).sum(axis=1)[None] - 2 * points @ centres.T
        label = np.argmin(away, axis=1)
        size = np.bincount(label, minlength=len(centres))
        total = np.zeros_like(centres)
        np.add.at(total, label, points)
        centres = np.where(size[:, None] > 0, total / np.maximum(size, 1)[:, None], centres)
    return np.asarray(np.unique(label, return_inverse=True)[1], np.int64)


def _seeds(points: Floats, classes: int, rng: np.random.Generator) -> Floats:
    """Return first centres, each drawn by how far it is from those before (k-means++)."""
    found = [points[rng.integers(len(points))]]
    away = ((points - found[0]) ** 2).sum(axis=1)
    while len(found) < classes and away.sum() > 1e-9 * len(points):
        found.append(points[rng.choice(len(points), p=away / away.sum())])
        away = np.minimum(away, ((points - found[-1]) ** 2).sum(axis=1))
    return np.stack(found)


def _densities(weight: Floats, sets: Any, share: Floats) -> tuple[Floats, Floats]:
    """Return the log odds of each code in each class, and each class's constant."""
    size = weight.sum(axis=0)
    held = np.asarray(sets.T @ weight)  # (codes, classes)
    p = (held + PRIOR * share[:, None]) / (size[None] + 2 * PRIOR)
    p = np.clip(p, 1e-9, 1 - 1e-6)
    constant = np.log1p(-p).sum(axis=0) + np.log((size + PRIOR) / (size.sum() + PRIOR * size.size))
    return np.log(p) - np.log1p(-p), constant


def _posterior(sets: Any, log_odds: Floats, constant: Floats) -> Floats:
    found = np.asarray(sets @ log_odds) + constant
    found -= found.max(axis=1, keepdims=True)
    np.exp(found, out=found)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _drawn(posterior: Floats, rng: np.random.Generator) -> Ints:
    below = np.cumsum(posterior, axis=1) < rng.random((len(posterior), 1))
    return np.asarray(np.minimum(below.sum(axis=1), posterior.shape[1] - 1), np.int64)
