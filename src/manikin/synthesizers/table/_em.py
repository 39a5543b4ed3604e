"""Expectation and maximisation for a mixture of products of categorical distributions.

Codes are grouped into bins; a class k has weight w_k and, per column, probabilities over bins.
All bins of all columns lie one after another, so that a set of rows is a sparse matrix X of
(rows, bins) with a one a column, and both steps are products: log p(x, k) = X log θ, counts = RᵀX.
Dempster, Laird and Rubin, J. Royal Statistical Society B 39 (1977), §4.3. In each M-step the
counts are drawn towards everybody's shares and, in columns with an order, towards the class's own
smoothed over neighbouring bins (after EMS: Silverman, Jones, Wilson and Nychka, same journal, 52
(1990)), without which a class of few rows would be those rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from manikin.synthesizers.table._cells import Cells
from manikin.synthesizers.table.encoding import normal_scores

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

NOMINAL = 256  # bins of a column without order; its rarer codes share one
BLOCK = 20_000  # rows in one product
WEIGHT_PRIOR = 1.0  # pseudo-rows of every class
LEAST = 1e-12  # probability of a cell
STILL = 1e-4  # mean log-likelihood a row that an iteration must gain, or it is the last


def bins_of(cells: Cells, most: int) -> Ints:
    """Return the bin of each code: missing marks and common codes alone, others with their like."""
    counts, tokens = cells.counts, cells.n_tokens
    if cells.ordered and counts.size - tokens > most:
        own = counts[tokens:] / max(counts[tokens:].sum(), 1)
        place = np.minimum((np.cumsum(own) - own / 2) * most, most - 1).astype(np.int64)
        heavy = own * most >= 0.5
        edge = (np.diff(place) > 0) | heavy[1:] | heavy[:-1]
        group = np.concatenate([[0], np.cumsum(edge)])
        return np.concatenate([np.arange(tokens), tokens + group]).astype(np.int64)
    if not cells.ordered and counts.size > NOMINAL:
        common = np.sort(np.argsort(-counts, kind="stable")[: NOMINAL - 1])
        bins = np.full(counts.size, NOMINAL - 1, np.int64)
        bins[common] = np.arange(NOMINAL - 1)
        return bins
    return np.arange(counts.size)


@dataclass(frozen=True)
class Layout:
    """The cells of all columns, one after another: bins, or pairs of bins of a column's parent."""

    bins: tuple[Ints, ...]  # a column: (codes,) the bin of each code
    counts: tuple[Ints, ...]  # a column: (codes,) training rows of each code
    ordered: tuple[bool, ...]
    tokens: tuple[int, ...]  # a column: how many codes are missing marks
    parent: tuple[int, ...]  # the column it still depends on within classes; -1: none
    base: tuple[Floats, ...]  # (parent's bins, bins) everybody's shares; (1, bins) without parent

    @staticmethod
    def of(cells: Sequence[Cells], most: int) -> Layout:
        """Lay out the bins of columns, `most` a column with an order, none with a parent."""
        plain = Layout(
            tuple(bins_of(c, most) for c in cells),
            tuple(c.counts for c in cells),
            tuple(bool(c.ordered) for c in cells),
            tuple(c.n_tokens for c in cells),
            (-1,) * len(cells),
            (),
        )
        return replace(plain, base=plain.margins)

    @cached_property
    def start(self) -> Ints:
        """Where each column's cells begin, and the end, (columns + 1,)."""
        return np.cumsum([0, *(b.size for b in self.base)]).astype(np.int64)

    def n_bins(self, j: int) -> int:
        """Return how many bins column j has."""
        return int(self.bins[j].max()) + 1

    def frequency(self, j: int) -> Floats:
        """Everybody's share of each bin of column j."""
        counts = self.counts[j]
        held = np.bincount(self.bins[j], weights=counts + 0.5 / counts.size)
        return np.asarray(held / held.sum())

    def part(self, j: int) -> slice:
        """Return where the cells of column j lie."""
        return slice(int(self.start[j]), int(self.start[j + 1]))

    @property
    def margins(self) -> tuple[Floats, ...]:
        """Everybody's shares of each column's bins, (1, bins)."""
        return tuple(self.frequency(j)[None] for j in range(len(self.bins)))

    def rows(self, j: int) -> Floats:
        """Return the training rows of each bin of column j."""
        return np.asarray(np.bincount(self.bins[j], weights=self.counts[j]), np.float64)

    def shares(self, j: int) -> Floats:
        """Return the share of each code of column j within its bin."""
        counts = self.counts[j] + 1e-9
        return np.asarray(counts / np.bincount(self.bins[j], weights=counts)[self.bins[j]])

    def allowed(self, j: int, which: NDArray[np.bool_]) -> Floats:
        """Return the share of each bin of column j that is allowed, from its allowed codes."""
        share = np.bincount(self.bins[j], weights=self.shares(j) * which)
        return np.asarray(share, np.float64)

    def log_within(self, codes: Codes) -> Floats:
        """Return the log share of each row's known codes within their bins."""
        total = np.zeros(len(codes))
        for j in range(len(self.bins)):
            total += np.where(codes[:, j] >= 0, np.log(self.shares(j))[codes[:, j]], 0.0)
        return total

    def codes(
        self, j: int, bins: Ints, place: Floats, which: NDArray[np.bool_] | None
    ) -> NDArray[np.int32]:
        """Return the codes of column j at `place` in [0, 1] within their bins."""
        shares = self.shares(j) if which is None else self.shares(j) * which
        order = np.argsort(self.bins[j], kind="stable")
        order = order[shares[order] > 0]
        of = self.bins[j][order]
        total = np.bincount(self.bins[j], weights=shares)
        within = np.cumsum(shares[order] / total[of])
        first, last = np.searchsorted(of, bins), np.searchsorted(of, bins, side="right") - 1
        before = within[first] - shares[order[first]] / total[bins]
        at = np.searchsorted(within, before + place, side="right")
        return np.asarray(order[np.clip(at, first, last)], np.int32)

    def binned(self, codes: Codes) -> Ints:
        """Return the bins of codes, (rows, columns); -1 where unknown."""
        found = np.empty(codes.shape, np.int64)
        for j, bins in enumerate(self.bins):
            found[:, j] = np.where(codes[:, j] < 0, -1, bins[np.maximum(codes[:, j], 0)])
        return found

    def indicator(self, codes: Codes) -> sparse.csr_matrix:
        """Return X, (rows, cells), of rows of which all is known."""
        bins = self.binned(codes)
        at = np.empty(codes.shape, np.int32)
        for j, i in enumerate(self.parent):
            above = bins[:, i] * self.n_bins(j) if i >= 0 else 0
            at[:, j] = self.start[j] + above + bins[:, j]
        ends = np.arange(len(codes) + 1) * codes.shape[1]
        ones = np.ones(at.size, np.float32)
        return sparse.csr_matrix((ones, at.ravel(), ends), shape=(len(codes), int(self.start[-1])))

    def kernel(self, j: int, width: float) -> Floats:
        """Return how a row of each bin of column j counts for the others, (bins, bins).

        A Gaussian of `width` on normal scores, times how common a bin is: the smoothed thing is
        the ratio of a class's shares to everybody's. Missing marks stand for themselves.
        """
        share, tokens = self.frequency(j), self.tokens[j]
        if not self.ordered[j] or width <= 0 or share.size - tokens < 2:
            return np.eye(share.size)
        score = scores(self, j)[tokens:]
        near = np.exp(-0.5 * ((score[:, None] - score) / width) ** 2) * share[tokens:]
        kernel = np.eye(share.size)
        kernel[tokens:, tokens:] = near / near.sum(axis=1, keepdims=True)
        return kernel


def scores(layout: Layout, j: int) -> Floats:
    """Return the normal score of each bin of column j; of missing marks 0."""
    tokens = layout.tokens[j]
    held = np.bincount(layout.bins[j], weights=layout.counts[j]).astype(np.int64)[tokens:]
    return np.concatenate([np.zeros(tokens), normal_scores(held)])


@dataclass(frozen=True)
class Fit:
    """Classes and what they were made of."""

    weight: Floats  # (classes,)
    theta: Floats  # (classes, bins) probability of each bin within its column
    size: Floats  # (classes,) expected rows
    score: float  # mean log-likelihood a row in training


def responsibilities(x: sparse.csr_matrix, log_theta: Any, log_weight: Any) -> tuple[Any, Any]:
    """Return p(class | row), (rows, classes), and log p(row) over its known bins, (rows,)."""
    joint = x @ log_theta.T
    joint += log_weight
    most = joint.max(axis=1, keepdims=True)
    np.exp(joint - most, out=joint)
    total = joint.sum(axis=1, keepdims=True)
    joint /= total
    return joint, (most + np.log(total))[:, 0]


def expected(x: sparse.csr_matrix, fit: Fit) -> tuple[Floats, Floats, float]:
    """Return expected counts (classes, bins), class sizes and the mean log-likelihood of rows."""
    log_theta = np.log(fit.theta).astype(np.float32)
    log_weight = np.log(fit.weight).astype(np.float32)
    counts, size, total = np.zeros(fit.theta.shape), np.zeros(fit.weight.size), 0.0
    for start in range(0, x.shape[0], BLOCK):
        block = x[start : start + BLOCK]
        share, score = responsibilities(block, log_theta, log_weight)
        counts += (block.T @ share).T
        size += share.sum(axis=0, dtype=np.float64)
        total += float(score.sum(dtype=np.float64))
    return counts, size, total / max(x.shape[0], 1)


@dataclass(frozen=True)
class Maximiser:
    """The M-step: counts, and Dirichlet priors: the class's own smooth shares, and everybody's."""

    layout: Layout
    kernels: tuple[Floats | None, ...]  # a column: (bins, bins); None: not smoothed
    smooth: float  # rows that the smooth shares stand for
    prior: float  # rows that everybody's shares stand for
    pair: float  # rows that everybody's shares given the parent stand for

    @staticmethod
    def of(layout: Layout, width: float, smooth: float, prior: float, pair: float) -> Maximiser:
        """Prepare the smoothing of each column, over `width` normal scores."""
        kernels = tuple(
            layout.kernel(j, width) if width * smooth > 0 and layout.ordered[j] else None
            for j in range(len(layout.bins))
        )
        return Maximiser(layout, kernels, smooth, prior, pair)

    def smoothed(self, j: int, held: Floats, size: Floats) -> Floats:
        """Return counts (classes, bins) of column j and their smooth shares."""
        kernel = self.kernels[j]
        if kernel is None:
            return held
        return np.asarray(held + self.smooth * (held @ kernel) / size[:, None])

    def pulled(self, j: int, held: Floats, size: Floats) -> Floats:
        """Return counts (classes, bins) of column j with what the priors add to them."""
        return self.smoothed(j, held, size) + self.prior * self.layout.frequency(j)

    def __call__(self, counts: Floats, size: Floats, fit: Fit | None, score: float) -> Fit:
        """Return the classes that these expected counts (classes, cells) make.

        A column with a parent has everybody's shares given the parent's bin, times a factor by
        class and bin: one step of iterative proportional fitting (Deming and Stephan 1940) makes
        the class's own shares those that were counted.
        """
        weight = (size + WEIGHT_PRIOR) / (size.sum() + WEIGHT_PRIOR * size.size)
        theta, rows = np.empty(counts.shape), np.maximum(size, 1e-9)
        for j, base in enumerate(self.layout.base):
            part = self.layout.part(j)
            found = counts[:, part].reshape(len(size), *base.shape)
            held = found.sum(axis=1)
            if self.layout.parent[j] < 0:
                held = self.pulled(j, held, rows)
                theta[:, part] = held / held.sum(axis=1, keepdims=True)
                continue
            above = found.sum(axis=2)
            now = np.broadcast_to(base, found.shape)
            if fit is not None:
                now = fit.theta[:, part].reshape(found.shape)
            due = np.einsum("ki,kib->kb", above, now)
            pull = self.pair / rows[:, None]
            held = self.smoothed(j, held, rows) + pull * (above @ base) + 1e-9
            due = self.smoothed(j, due, rows) + pull * due + 1e-9
            fresh = now * np.clip(held / due, 0.1, 10.0)[:, None, :]
            fresh = fresh / fresh.sum(axis=2, keepdims=True)
            theta[:, part] = fresh.reshape(len(size), -1)
        return Fit(weight, np.maximum(theta, LEAST), size, score)


def start(
    codes: Codes, layout: Layout, k: int, maximise: Maximiser, rng: np.random.Generator
) -> Fit:
    """Return first classes: rows go to the nearest of `k` rows drawn far from one another."""
    points = embed(codes, layout)
    centres = spread_rows(points, k, rng)
    share = np.zeros((len(codes), k), np.float32)
    for turn in range(4):
        near = np.argmin((centres**2).sum(axis=1) - 2 * points @ centres.T, axis=1)
        share[:] = 0
        share[np.arange(len(codes)), near] = 1
        held = share.sum(axis=0)
        if turn < 3:
            means = (share.T @ points) / np.maximum(held, 1)[:, None]
            centres = np.where(held[:, None] > 0, means, centres)
    counts = (layout.indicator(codes).T @ share).T.astype(np.float64)
    return maximise(counts, share.sum(axis=0, dtype=np.float64), None, -np.inf)


def embed(codes: Codes, layout: Layout) -> NDArray[np.float32]:
    """Return rows as points: normal scores, and indicators of missing marks and of levels."""
    parts = []
    for j, counts in enumerate(layout.counts):
        tokens = layout.tokens[j]
        column = codes[:, j]
        if layout.ordered[j]:
            score = np.concatenate([np.zeros(tokens), normal_scores(counts[tokens:])])
            parts.append(score[column][:, None])
            levels = np.arange(tokens)
        else:
            levels = np.argsort(-counts, kind="stable")[:24]
        for level in levels:
            share = counts[level] / max(counts.sum(), 1)
            here = (column == level).astype(float) - share
            parts.append(here[:, None] / np.sqrt(max(share * (1 - share), 0.02) * 2))
    return np.concatenate(parts, axis=1).astype(np.float32)


def spread_rows(points: Any, k: int, rng: np.random.Generator) -> Any:
    """Return `k` of the points, each drawn by squared distance to the nearest before it."""
    chosen = [int(rng.integers(len(points)))]
    distance = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    for _ in range(k - 1):
        mass = np.cumsum(distance, dtype=np.float64)
        at = int(np.searchsorted(mass, rng.random() * mass[-1], side="right"))
        chosen.append(min(at, len(points) - 1))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return points[chosen].copy()


def climb(x: sparse.csr_matrix, fit: Fit, maximise: Maximiser, most: int, floor: float) -> Fit:
    """Alternate both steps; classes of fewer than `floor` rows are dissolved on the way."""
    before = -np.inf
    for turn in range(most):
        counts, size, score = expected(x, fit)
        fit = maximise(counts, size, fit, score)
        still = score - before < STILL
        small = size < min(floor, float(size.max()))
        if small.any() and (turn % 5 == 4 or still):
            kept = ~small
            fit = Fit(fit.weight[kept] / fit.weight[kept].sum(), fit.theta[kept], size[kept], score)
            before = -np.inf
        elif still:
            break
        else:
            before = score
    return fit


# ------------------------------------------------------------------ drawing


def even(groups: Ints, rng: np.random.Generator) -> Floats:
    """Return numbers in [0, 1), evenly spread within each group, in random order."""
    n = groups.size
    order = np.lexsort((rng.random(n), groups))
    held = np.bincount(groups, minlength=1)
    first = np.cumsum(held) - held
    rank = np.empty(n)
    rank[order] = np.arange(n) - first[groups[order]]
    return np.asarray((rank + rng.random(n)) / np.maximum(held, 1)[groups])


def search(ends: Floats, at: Ints, place: Floats) -> Ints:
    """Return where `place` falls among the cumulative `ends` (rows, bins) of rows `at`."""
    width = ends.shape[1]
    keys = np.arange(len(ends))[:, None] + ends / ends[:, -1:]
    found = np.searchsorted(keys.ravel(), at + place / ends[at, -1], side="right")
    bins = np.clip(found - at * width, 0, width - 1)
    # a bin of no probability is never drawn, not even by rounding
    empty = np.diff(ends, axis=1, prepend=0.0)[at, bins] <= 0
    bins[empty] = np.diff(ends, axis=1, prepend=0.0)[at[empty]].argmax(axis=1)
    return np.asarray(bins)
