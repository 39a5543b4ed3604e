"""A forest of columns that stay dependent within classes, and exact inference on it.

Which pairs: those whose common counts O are farthest from E, what the classes lead to expect if
columns were independent within each; a maximum spanning forest of Σ O log O/E (Chow and Liu, IEEE
Trans. Information Theory 14 (1968); mixtures of trees: Meilă and Jordan, JMLR 1 (2000), §3).
Inference: sums over unknown bins, from the leaves to the roots (Pearl 1988, §4.2), exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from manikin.synthesizers.table._em import (
    Codes,
    Fit,
    Floats,
    Ints,
    Layout,
    responsibilities,
    scores,
)

Cube: TypeAlias = NDArray[np.float64]  # (classes, parent's bins or 1, own bins)

PARTS = 8  # parts of a column when pairs are compared
LARGEST = 16  # columns in one tree
CURVE = 0.35  # bandwidth, in normal scores, of the curve of one column on another
NARROWEST = 0.02  # standard deviation about that curve, in normal scores
WIDE = 0.5  # bandwidth of other shares over a parent with order


# ------------------------------------------------------------------ which pairs


def coarse(layout: Layout, j: int) -> Ints:
    """Return the part of each code of column j: missing marks, and about eight of the rest."""
    counts, tokens = layout.counts[j], layout.tokens[j]
    part = np.arange(counts.size)
    if counts.size - tokens <= PARTS:
        return part
    if layout.ordered[j]:
        share = counts[tokens:] / max(counts[tokens:].sum(), 1)
        place = np.minimum((np.cumsum(share) - share / 2) * PARTS, PARTS - 1).astype(np.int64)
        part[tokens:] = tokens + np.unique(place, return_inverse=True)[1]
        return part
    common = np.argsort(-counts, kind="stable")[: PARTS - 1]
    part[:] = PARTS - 1
    part[common] = np.arange(PARTS - 1)
    return part


def left_over(codes: Codes, layout: Layout, share: Any) -> Floats:
    """Return, in nats a row, what each pair has in common beyond the classes, less its chance.

    `share` is p(class | row), (rows, classes).
    """
    parts = [coarse(layout, j) for j in range(codes.shape[1])]
    widths = np.array([int(p.max()) + 1 for p in parts])
    start = np.concatenate([[0], np.cumsum(widths)[:-1]])
    x = np.zeros((len(codes), int(widths.sum())), np.float32)
    for j, part in enumerate(parts):
        x[np.arange(len(codes)), start[j] + part[codes[:, j]]] = 1
    observed = (x.T @ x).astype(np.float64)
    held = (share.T @ x).astype(np.float64)
    expected = held.T @ (held / np.maximum(share.sum(axis=0, dtype=np.float64), 1e-9)[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(observed > 0, observed * np.log(observed / expected), 0.0)
    gain = np.add.reduceat(np.add.reduceat(terms, start, axis=0), start, axis=1)
    freedom = np.outer(widths - 1, widths - 1)
    return np.asarray((gain - freedom / 2) / max(len(codes), 1))


def spanning(gain: Floats, least: float) -> tuple[int, ...]:
    """Return each column's parent, -1 for a root: the heaviest forest of pairs above `least`."""
    m = len(gain)
    tree = np.arange(m)
    beside: list[list[int]] = [[] for _ in range(m)]
    first, second = np.triu_indices(m, 1)
    for at in np.argsort(-gain[first, second], kind="stable"):
        i, j = int(first[at]), int(second[at])
        if gain[i, j] <= least:
            break
        joined = (tree == tree[i]) | (tree == tree[j])
        if tree[i] != tree[j] and joined.sum() <= LARGEST:
            tree[joined] = tree[i]
            beside[i].append(j)
            beside[j].append(i)
    parent = np.full(m, -1)
    seen = np.zeros(m, bool)
    for root in sorted(range(m), key=lambda j: (-len(beside[j]), j)):
        todo = [] if seen[root] else [root]
        seen[root] = True
        while todo:
            here = todo.pop()
            for near in beside[here]:
                if not seen[near]:
                    seen[near], parent[near] = True, here
                    todo.append(near)
    return tuple(int(p) for p in parent)


def grow(codes: Codes, some: Codes, layout: Layout, fit: Fit, least: float, prior: float) -> Layout:
    """Join the pairs that the classes of `fit` leave dependent in `some` of the rows."""
    log_theta, log_weight = np.log(fit.theta), np.log(fit.weight)
    x = layout.indicator(some)
    share, _ = responsibilities(x, log_theta.astype(np.float32), log_weight.astype(np.float32))
    parent = spanning(left_over(some, layout, share), least)
    base = tuple(
        conditional(codes, layout, i, j, prior) if i >= 0 else layout.base[j]
        for j, i in enumerate(parent)
    )
    return replace(layout, parent=parent, base=base)


# ------------------------------------------------------------------ one column given another


def conditional(codes: Codes, layout: Layout, i: int, j: int, prior: float) -> Floats:
    """Return everybody's p(bin of j | bin of i), (bins of i, bins of j).

    Counts, and `prior` rows a bin of i of what is smooth: between ordered columns a normal
    distribution about a curve, in normal scores; otherwise shares, smoothed over i's order.
    """
    a, b = layout.bins[i][codes[:, i]], layout.bins[j][codes[:, j]]
    n_a, n_b = layout.n_bins(i), layout.n_bins(j)
    counts = np.bincount(a * n_b + b, minlength=n_a * n_b).reshape(n_a, n_b).astype(float)
    smooth = layout.kernel(i, WIDE) @ counts + layout.frequency(j)
    smooth /= smooth.sum(axis=1, keepdims=True)
    t = layout.tokens[j]
    if layout.ordered[i] and layout.ordered[j] and n_b - t > 2:
        values = smooth[:, t:].sum(axis=1, keepdims=True)
        smooth[:, t:] = values * _about_a_curve(counts[:, t:], layout, i, j)
    mixed = counts + prior * smooth
    return np.asarray(mixed / mixed.sum(axis=1, keepdims=True))


def _about_a_curve(counts: Floats, layout: Layout, i: int, j: int) -> Floats:
    """Return shares of j's value bins given each bin of i, by local linear regression."""
    score, tokens = scores(layout, j)[layout.tokens[j] :], layout.tokens[i]
    x = scores(layout, i)
    near = np.exp(-0.5 * ((x[:, None] - x) / CURVE) ** 2)
    near[:tokens] = near[:, :tokens] = 0
    near[np.arange(tokens), np.arange(tokens)] = 1
    n, s, q = counts.sum(axis=1), counts @ score, counts @ score**2
    away = x - x[:, None]  # (bins, bins): from the bin of a row of this matrix to another
    w0, w1, w2 = near @ n, (near * away) @ n, (near * away**2) @ n
    t0, t1 = near @ s, (near * away) @ s
    ridge = 0.02 * np.maximum(w0, 1) * CURVE**2
    total = np.maximum(w0, 1e-9)
    slope = (t1 - w1 * t0 / total) / (w2 - w1**2 / total + ridge)
    middle = (t0 - slope * w1) / (total + 0.1)
    line = middle[:, None] + slope[:, None] * away
    spread = (near * (q - 2 * line * s + line**2 * n)).sum(axis=1)
    width = np.sqrt(np.maximum((spread + 1.0) / (total + 2.0), 0) + NARROWEST**2)
    width = np.where(total > 4, np.sqrt(np.maximum(spread, 0) / total + NARROWEST**2), width)
    share = layout.frequency(j)[layout.tokens[j] :]
    edges = ndtri(np.clip(np.cumsum(share)[:-1] / share.sum(), 1e-9, 1 - 1e-9))
    below = ndtr((edges - middle[:, None]) / width[:, None])
    cell = np.diff(below, axis=1, prepend=0.0, append=1.0) + 1e-7
    return np.asarray(cell / cell.sum(axis=1, keepdims=True))


# ------------------------------------------------------------------ inference


def trees(parent: tuple[int, ...]) -> list[list[int]]:
    """Return the columns of each tree, parents before their children."""
    depth_first: list[list[int]] = []
    for root in (j for j, p in enumerate(parent) if p < 0):
        found = [root]
        for here in found:
            found += [j for j, p in enumerate(parent) if p == here]
        depth_first.append(found)
    return depth_first


class Inference:
    """The classes' distributions over the bins of one tree, and sums over what is not known."""

    def __init__(self, columns: list[int], parent: tuple[int, ...], cubes: Mapping[int, Cube]):
        self.columns, self.parent, self.cubes = columns, parent, cubes

    def upward(
        self, bins: NDArray[np.int64], soft: Mapping[int, Floats]
    ) -> tuple[Floats, dict[int, Cube]]:
        """Return p(known bins, allowed bins | class), (rows, classes), and of unknown columns
        with something known below them, how likely each bin makes that, (rows, classes, bins).

        `bins` (rows, all columns) holds -1 where unknown; the same columns in all rows. `soft` is
        the share of each bin that is allowed.
        """
        rows = len(bins)
        unknown = {j: bins[:1, j].max(initial=-1) < 0 for j in self.columns}
        below: dict[int, Cube] = {
            j: np.broadcast_to(soft[j], (rows, len(self.cubes[j]), soft[j].size)).copy()
            for j in self.columns
            if unknown[j] and j in soft
        }
        known: dict[int, Floats] = {}  # likelihood of what lies below a known column
        for j in reversed(self.columns):
            i, cube = self.parent[j], self.cubes[j]
            message = self._message(j, i, cube, bins, unknown, below, known)
            if message is None:
                continue
            if i < 0:
                return message, below
            if unknown[i]:
                below[i] = below[i] * message if i in below else message
            else:
                known[i] = known[i] * message if i in known else message
        return np.ones((rows, len(self.cubes[self.columns[0]]))), below

    @staticmethod
    def _message(
        j: int,
        i: int,
        cube: Cube,
        bins: NDArray[np.int64],
        unknown: Mapping[int, bool],
        below: Mapping[int, Cube],
        known: Mapping[int, Floats],
    ) -> Any:
        """Return what column j tells its parent: (rows, classes), or by the parent's bin."""
        open_parent = i >= 0 and unknown[i]
        at = np.zeros(len(bins), np.int64) if i < 0 or open_parent else bins[:, i]
        if not unknown[j]:
            if open_parent:
                told = np.moveaxis(cube[:, :, bins[:, j]], 2, 0)  # (rows, classes, bins of i)
                return told * known[j][:, :, None] if j in known else told
            told = cube[:, at, bins[:, j]].T
            return told * known[j] if j in known else told
        if j not in below:
            return None
        if open_parent:
            return np.einsum("rkb,kib->rki", below[j], cube, optimize=True)
        return np.einsum("rkb,krb->rk", below[j], cube[:, at], optimize=True)


def cubes(fit: Fit, layout: Layout) -> dict[int, Cube]:
    """Return p(bin | class, parent's bin) of every column."""
    found = {}
    for j in range(len(layout.bins)):
        wide = fit.theta[:, layout.part(j)]
        found[j] = wide.reshape(len(wide), -1, layout.n_bins(j))
    return found
