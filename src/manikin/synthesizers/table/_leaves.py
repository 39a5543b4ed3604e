"""A mixture over leaves whose columns depend on each other by one Gaussian copula of factors.

Each column's codes stand at places, in an order in which leaves are boxes. Within leaf l, column j
has the histogram F_lj of Watson et al. (2023, eq. 5) on places. Where in F_lj a row lies, u_j in
[0, 1], is independent of the other columns given the row's node m, one of M points of a few normal
factors (`_ranks`): P(u_j <= u | m) = C_jm(u), whose mean over m is u. So

    p(x) = Σ_l w_l (1/M) Σ_m Π_j [C_jm(F_lj(x_j + 1)) - C_jm(F_lj(x_j))],

a finite mixture of products: densities, posteriors and sums over anything unknown are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.errors import ConditionError
from manikin.synthesizers.table._binning import stratified
from manikin.synthesizers.table._ranks import Ranks

__all__ = ["Leaves", "Steps"]

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

CELLS = 4_000_000  # (rows, leaves) or (pairs, nodes) weighed at a time


@dataclass(frozen=True)
class Steps:
    """One column's distribution functions in all leaves, straight between their edges."""

    place: Ints  # (codes,) where each code stands
    share: Floats  # (codes,) of the table's rows, by place; none is 0
    start: Ints  # (leaves + 1,) where each leaf's edges begin
    edge: NDArray[np.int32]  # (edges,) places, ascending in each leaf: the box and between bars
    upto: Floats  # (edges,) the leaf's mass before each: from 0 to 1

    def below(self, leaf: Ints, place: Ints) -> Floats:
        """Return the mass that lies before a place, in each of the leaves `leaf`."""
        within, width = self._within(), self.share.size + 1
        place = np.clip(place, self.edge[self.start[leaf]], self.edge[self.start[leaf + 1] - 1])
        keys = np.repeat(np.arange(self.start.size - 1), np.diff(self.start)) * width + self.edge
        at = np.searchsorted(keys, leaf * width + place, side="right") - 1
        at = np.minimum(at, self.start[leaf + 1] - 2)
        low, high = within[self.edge[at]], within[self.edge[at + 1]]
        part = (within[place] - low) / (high - low)
        return np.asarray(self.upto[at] + part * (self.upto[at + 1] - self.upto[at]))

    def place_at(self, leaf: Ints, u: Floats) -> Ints:
        """Return the place before and in which `u` of the leaf's mass lies."""
        within = self._within()
        keys = np.repeat(np.arange(self.start.size - 1), np.diff(self.start)) + self.upto
        at = np.searchsorted(keys, leaf + u, side="right") - 1
        at = np.clip(at, self.start[leaf], self.start[leaf + 1] - 2)
        low, step = self.upto[at], self.upto[at + 1] - self.upto[at]
        part = np.clip((u - low) / np.maximum(step, 1e-300), 0, 1)
        first, last = within[self.edge[at]], within[self.edge[at + 1]]
        found = np.searchsorted(within, first + part * (last - first), side="right") - 1
        return np.asarray(np.clip(found, self.edge[at], self.edge[at + 1] - 1), np.int64)

    def code(self, place: Ints) -> Codes:
        """Return the code that stands at each place."""
        return np.argsort(self.place).astype(np.int32)[place]

    def check(self, n_leaves: int) -> None:
        """Raise ValueError unless these are distribution functions of `n_leaves` leaves."""
        size, edges = self.share.size, self.edge.size
        shapes: list[tuple[NDArray[Any], int, str]] = [
            (self.place, size, "i"), (self.share, size, "f"), (self.start, n_leaves + 1, "i"),
            (self.edge, edges, "i"), (self.upto, edges, "f"),
        ]  # fmt: skip
        if any(a.shape != (length,) or a.dtype.kind != kind for a, length, kind in shapes):
            raise ValueError("steps of a leaf")
        if not size or not np.array_equal(np.sort(self.place), np.arange(size)):
            raise ValueError("places of codes")
        if not (self.share > 0).all() or not np.isclose(self.share.sum(), 1):
            raise ValueError("shares of codes")
        if self.start[0] != 0 or self.start[-1] != edges or (np.diff(self.start) < 2).any():
            raise ValueError("steps of leaves")
        if not ((self.edge >= 0) & (self.edge <= size)).all():
            raise ValueError("edges of steps")
        if not ((self.upto >= 0) & (self.upto <= 1)).all():
            raise ValueError("masses of steps")
        inner = np.ones(edges - 1, bool)
        inner[self.start[1:-1] - 1] = False
        if not ((np.diff(self.edge) > 0) & (np.diff(self.upto) >= 0))[inner].all():
            raise ValueError("steps that go back")
        if self.upto[self.start[:-1]].any() or (self.upto[self.start[1:] - 1] != 1).any():
            raise ValueError("steps that do not add up")

    def _within(self) -> Floats:
        """Return the share of codes that stand before each place, (codes + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.share)])


@dataclass(frozen=True)
class Leaves:
    """The mixture: leaf l with probability `weight[l]`, columns by `steps` and `ranks` within."""

    weight: Floats  # (leaves,) sum to 1
    columns: tuple[Steps, ...]
    ranks: Ranks

    def check(self) -> None:
        """Raise ValueError unless this is a mixture: arrays of a stranger may be anything."""
        if self.weight.ndim != 1 or self.weight.dtype.kind != "f" or not self.weight.size:
            raise ValueError("weights of leaves")
        if not ((self.weight >= 0) & (self.weight <= 1)).all():
            raise ValueError("weights of leaves")
        if not np.isclose(self.weight.sum(), 1):
            raise ValueError("weights of leaves")
        for steps in self.columns:
            steps.check(self.weight.size)
        self.ranks.check(len(self.columns))

    # ---------------------------------------------------------------- drawing

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows, spread evenly: leaves by their weights, and each column within leaves.

        The ranks of a leaf's rows in a column are those of its draws from the copula; the places
        of these ranks are spread evenly over its distribution.
        """
        upto = np.cumsum(self.weight)
        u = stratified(np.zeros(n, np.int64), rng) * upto[-1]
        leaf = np.minimum(np.searchsorted(upto, u, side="right"), self.weight.size - 1)
        node = rng.integers(0, self.ranks.n_nodes, n)
        size = np.bincount(leaf, minlength=self.weight.size)
        drawn = np.empty((n, len(self.columns)), np.int32)
        for j, steps in enumerate(self.columns):
            order = np.lexsort((self.ranks.quantile(j, node, rng.random(n)), leaf))
            rank = np.arange(n) - (np.cumsum(size) - size)[leaf[order]]
            even = np.empty(n)
            even[order] = (rank + rng.random(n)) / size[leaf[order]]
            drawn[:, j] = steps.code(steps.place_at(leaf, even))
        return drawn

    def complete(
        self, codes: Codes, allowed: Mapping[int, Mask], rng: np.random.Generator
    ) -> Codes:
        """Draw the codes that are not known (-1), given those that are, of the allowed ones.

        Exact: a leaf and a node are drawn by their posterior probability given what is known and
        allowed, then each column. Raises ConditionError when no code of a column is allowed.
        """
        for j, mask in allowed.items():
            if not mask.any():
                raise ConditionError(
                    f"column {j + 1} is left without a value",
                    "a condition that one value or more can satisfy",
                    "loosen the condition",
                )
        if not allowed and (codes < 0).all():
            return self.draw(len(codes), rng)
        whole = codes.copy()
        leaf, node = self._chosen(codes, allowed, rng)
        for j, steps in enumerate(self.columns):
            rows = np.flatnonzero(codes[:, j] < 0)
            if not rows.size:
                continue
            v = stratified(leaf[rows], rng)
            if j in allowed:
                place = self._among(j, leaf[rows], node[rows], v, allowed[j])
            else:
                place = steps.place_at(leaf[rows], self.ranks.quantile(j, node[rows], v))
            whole[rows, j] = steps.code(place)
        return whole

    def _among(self, j: int, leaf: Ints, node: Ints, v: Floats, mask: Mask) -> Ints:
        """Return the places of allowed codes at which `v` of their mass lies before."""
        steps = self.columns[j]
        begin, end = _runs(mask[np.argsort(steps.place)])
        found = np.empty(leaf.size, np.int64)
        block = max(1, CELLS // (8 * begin.size))
        for start in range(0, leaf.size, block):
            each = slice(start, start + block)
            rows = np.repeat(leaf[each], begin.size)
            nodes = np.repeat(node[each], begin.size)
            shape = (-1, begin.size)
            n = rows.size // begin.size
            low, high = (
                self.ranks.share(j, nodes, steps.below(rows, np.tile(at, n))).reshape(shape)
                for at in (begin, end)
            )
            upto = np.cumsum(np.maximum(high - low, 0), axis=1)
            sought = v[each] * upto[:, -1]
            run = np.minimum((upto <= sought[:, None]).sum(axis=1), begin.size - 1)
            at = np.arange(n), run
            share = high[at] - (upto[at] - sought)
            place = steps.place_at(leaf[each], self.ranks.quantile(j, node[each], share))
            found[each] = np.clip(place, begin[run], end[run] - 1)
        return found

    # ---------------------------------------------------------------- inference

    def log_density(self, codes: Codes) -> Floats:
        """Return the log-probability of each row's known codes, those not known summed out."""
        kinds, inverse = _kinds(codes)
        found = np.full(len(kinds), -np.inf)
        for first, last, kind, _, weight, scale in self._posterior(codes[kinds], {}):
            with np.errstate(divide="ignore"):
                each = np.log(weight.sum(axis=1, dtype=np.float64)) + scale
            most = np.full(last - first, -np.inf)
            np.maximum.at(most, kind, each)
            shift = np.where(np.isfinite(most), most, 0.0)
            total = np.bincount(kind, weights=np.exp(each - shift[kind]), minlength=last - first)
            with np.errstate(divide="ignore"):
                found[first:last] = np.log(total) + shift
        return found[inverse]

    def posterior(self, codes: Codes, allowed: Mapping[int, Mask]) -> Floats:
        """Return the probability of each leaf for each row, (rows, leaves)."""
        found = np.zeros((len(codes), self.weight.size))
        for first, last, kind, leaf, weight, scale in self._posterior(codes, allowed):
            each = _scaled(kind, weight, scale, last - first).sum(axis=1)
            found[first + kind, leaf] = each
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def _chosen(
        self, codes: Codes, allowed: Mapping[int, Mask], rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """Return a leaf and a node of each row, drawn from their posterior, evenly spread."""
        kinds, inverse = _kinds(codes)
        u = stratified(inverse, rng)
        leaf, node = np.zeros(len(codes), np.int64), np.zeros(len(codes), np.int64)
        order = np.argsort(inverse, kind="stable")
        where = np.searchsorted(inverse[order], np.arange(len(kinds) + 1))
        n_nodes = self.ranks.n_nodes
        for first, last, kind, leaves, weight, scale in self._posterior(codes[kinds], allowed):
            rows = order[where[first] : where[last]]
            mass = _scaled(kind, weight, scale, last - first).astype(np.float64)
            upto = np.concatenate([[0.0], np.cumsum(mass)])
            begin = np.searchsorted(kind, np.arange(last - first + 1)) * n_nodes
            own = inverse[rows] - first
            low, high = upto[begin[own]], upto[begin[own + 1]]
            found = np.searchsorted(upto, low + u[rows] * (high - low), side="right") - 1
            found = np.clip(found, begin[own], begin[own + 1] - 1)
            leaf[rows], node[rows] = leaves[found // n_nodes], found % n_nodes
        return leaf, node

    def _posterior(
        self, codes: Codes, allowed: Mapping[int, Mask]
    ) -> Iterator[tuple[int, int, Ints, Ints, NDArray[np.float32], Floats]]:
        """Yield blocks of rows: first, last, then of their (row, leaf) pairs that are possible
        the row, counted from the first, the leaf, weights (pairs, nodes), log of their scale.
        """
        n_leaves, n_nodes = self.weight.size, self.ranks.n_nodes
        reach = {j: self._reach(j, mask) for j, mask in allowed.items()}
        start, size = 0, max(1, CELLS // n_leaves)
        while start < len(codes):
            block = codes[start : start + size]
            possible = self._possible(block, reach)
            pairs = np.cumsum(possible.sum(axis=1))
            fitting = int(np.searchsorted(pairs, max(CELLS // n_nodes, pairs[0]), side="right"))
            kind, leaf = np.nonzero(possible[:fitting])
            yield start, start + fitting, kind, leaf, *self._weigh(block, kind, leaf, reach)
            start += fitting

    def _possible(self, codes: Codes, reach: Mapping[int, NDArray[np.float32]]) -> Mask:
        """Return which leaves hold what is known of a row, (rows, leaves); all, if none does."""
        possible = np.repeat((self.weight > 0)[None, :], len(codes), axis=0)
        leaves = np.arange(self.weight.size)
        for j, steps in enumerate(self.columns):
            known = np.flatnonzero(codes[:, j] >= 0)
            if known.size:
                some, at = np.unique(codes[known, j], return_inverse=True)
                leaf, place = np.tile(leaves, some.size), np.repeat(steps.place[some], leaves.size)
                held = steps.below(leaf, place + 1) > steps.below(leaf, place)
                possible[known] &= held.reshape(some.size, -1)[at]
            if j in reach and known.size < len(codes):
                possible[codes[:, j] < 0] &= reach[j].max(axis=1) > 0
        possible[~possible.any(axis=1)] = True
        return possible

    def _weigh(
        self, codes: Codes, kind: Ints, leaf: Ints, reach: Mapping[int, NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], Floats]:
        """Return the weights of the pairs' nodes, (pairs, nodes), and the log of their scale."""
        weight = np.ones((kind.size, self.ranks.n_nodes), np.float32)
        scale = np.log(np.maximum(self.weight[leaf], 1e-300) / self.ranks.n_nodes)
        for j, steps in enumerate(self.columns):
            code = codes[kind, j]
            known = np.flatnonzero(code >= 0)
            if known.size:
                place = steps.place[code[known]]
                low, high = (steps.below(leaf[known], place + more) for more in (0, 1))
                step = self.ranks.between(j, low, high)
                most = np.maximum(step.max(axis=1), np.float32(1e-30))
                weight[known] *= step / most[:, None]
                scale[known] += np.log(most)
            if j in reach and known.size < kind.size:
                weight[code < 0] *= reach[j][leaf[code < 0]]
            if known.size or j in reach:
                most = np.maximum(weight.max(axis=1), np.float32(1e-30))
                weight /= most[:, None]
                scale += np.log(most)
        return weight, scale

    def _reach(self, j: int, mask: Mask) -> NDArray[np.float32]:
        """Return the mass of allowed codes in each leaf and node, (leaves, nodes)."""
        steps = self.columns[j]
        begin, end = _runs(mask[np.argsort(steps.place)])
        found = np.zeros((self.weight.size, self.ranks.n_nodes), np.float32)
        leaves = np.arange(self.weight.size)
        for low, high in zip(begin, end, strict=True):
            found += self.ranks.between(
                j,
                steps.below(leaves, np.full(leaves.size, low)),
                steps.below(leaves, np.full(leaves.size, high)),
            )
        return found


def _scaled(
    kind: Ints, weight: NDArray[np.float32], scale: Floats, n_kinds: int
) -> NDArray[np.float32]:
    """Return the weights of (row, leaf) pairs on one scale a row."""
    most = np.full(n_kinds, -np.inf)
    np.maximum.at(most, kind, scale)
    return np.asarray(weight * np.exp(scale - most[kind]).astype(np.float32)[:, None])


def _runs(allowed: Mask) -> tuple[Ints, Ints]:
    """Return where each run of allowed places begins, and the place after its last."""
    change = np.diff(np.concatenate([[False], allowed, [False]]).astype(np.int8))
    return np.flatnonzero(change > 0), np.flatnonzero(change < 0)


def _kinds(codes: Codes) -> tuple[Ints, Ints]:
    """Return one row of each kind of row, and which kind each row is of."""
    kind = np.zeros(len(codes), np.int64)
    for column in codes.T:
        if (column >= 0).any():
            key = kind * (int(column.max()) + 2) + column + 1
            kind = np.unique(key, return_inverse=True)[1]
    _, first = np.unique(kind, return_index=True)
    return first.astype(np.int64), kind
