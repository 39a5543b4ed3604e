"""A mixture over leaves of products of univariate distributions on codes.

Each column's codes stand at places, in an order in which leaves are boxes. Within a leaf, column
j has the density of Watson et al. (2023, eq. 5) on places: a histogram of the leaf's rows whose
bars hold the column's codes in proportion to their shares in the whole table, `background` of it
spread over the leaf's box in that proportion, and `LEAST` over all codes, so that nothing has no
probability at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.errors import ConditionError
from manikin.synthesizers.table._stage import stratified

__all__ = ["Bars", "Leaves"]

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

LEAST = 1e-6  # share of each column's distribution in a leaf that ignores the leaf
CELLS = 4_000_000  # (rows, leaves) weighed at a time
RESCALED = 3  # columns after which weights are divided by their largest


@dataclass(frozen=True)
class Bars:
    """One column in all leaves."""

    place: Ints  # (codes,) where each code stands
    share: Floats  # (codes,) of the table's rows, by place; none is 0
    start: Ints  # (leaves + 1,) where each leaf's bars begin
    begin: NDArray[np.int32]  # (bars,) first place of a bar
    end: NDArray[np.int32]  # (bars,) the place after its last
    mass: NDArray[np.float32]  # (bars,) sum to 1 in each leaf
    low: NDArray[np.int32]  # (leaves,) first place of the leaf's box
    high: NDArray[np.int32]  # (leaves,) the place after its last

    def masses(self, background: Floats, allowed: Mask | None) -> tuple[Floats, Floats, float]:
        """Return the mass (leaves,) of allowed codes in bars and box, and in all codes."""
        upto, within = self._upto(allowed), self._upto(None)
        bars = np.concatenate([[0.0], np.cumsum(self._held(upto, within))])
        box = (upto[self.high] - upto[self.low]) / (within[self.high] - within[self.low])
        own = (1 - LEAST) * (1 - background) * (bars[self.start[1:]] - bars[self.start[:-1]])
        return own, (1 - LEAST) * background * box, LEAST * float(upto[-1])

    def density(self, codes: Codes, background: Floats) -> NDArray[np.float32]:
        """Return the probability of each code in each leaf over its share, (codes, leaves)."""
        places, inverse = np.unique(self.place[codes], return_inverse=True)
        within = self._upto(None)
        box = background / (within[self.high] - within[self.low])
        inside = (places[:, None] >= self.low) & (places[:, None] < self.high)
        ratio = np.where(inside, (1 - LEAST) * box, 0.0).astype(np.float32) + np.float32(LEAST)
        first, last = np.searchsorted(places, self.begin), np.searchsorted(places, self.end)
        covered = np.flatnonzero(last > first)
        times = (last - first)[covered]
        bar = np.repeat(covered, times)
        step = np.arange(bar.size) - np.repeat(np.cumsum(times) - times, times)
        leaf = np.repeat(np.arange(self.low.size), np.diff(self.start))
        height = self.mass / (within[self.end] - within[self.begin])
        height *= (1 - LEAST) * (1 - background[leaf])
        ratio[first[bar] + step, leaf[bar]] += height[bar].astype(np.float32)  # bars are disjoint
        return np.asarray(ratio[inverse])

    def draw(
        self, leaf: Ints, background: Floats, allowed: Mask | None, rng: np.random.Generator
    ) -> Codes:
        """Draw one allowed code for each of the leaves `leaf` (rows,)."""
        own, box, _ = self.masses(background, allowed)
        upto, within = self._upto(allowed), self._upto(None)
        bars = np.concatenate([[0.0], np.cumsum(self._held(upto, within))])
        whole = own + box + LEAST * upto[-1]
        u = rng.random(leaf.size) * whole[leaf]
        in_bar, in_box = u < own[leaf], u < (own + box)[leaf]
        first, after = self.start[leaf], self.start[leaf + 1]
        sought = bars[first] + np.minimum(u / np.maximum(own[leaf], 1e-300), 1.0) * (
            bars[after] - bars[first]
        )
        bar = np.searchsorted(bars[1:], sought, side="right")
        bar = np.clip(bar, first, np.maximum(after - 1, first)).clip(max=self.mass.size - 1)
        low = np.where(in_bar, self.begin[bar], np.where(in_box, self.low[leaf], 0))
        high = np.where(in_bar, self.end[bar], np.where(in_box, self.high[leaf], self.share.size))
        at = upto[low] + rng.random(leaf.size) * (upto[high] - upto[low])
        drawn = np.clip(np.searchsorted(upto[1:], at, side="right"), low, high - 1)
        return np.argsort(self.place).astype(np.int32)[drawn]

    def check(self, n_leaves: int) -> None:
        """Raise ValueError unless these are bars of `n_leaves` leaves, one after another."""
        size, bars = self.share.size, self.mass.size
        shapes: list[tuple[NDArray[Any], int, str]] = [
            (self.place, size, "i"), (self.share, size, "f"), (self.start, n_leaves + 1, "i"),
            (self.begin, bars, "i"), (self.end, bars, "i"), (self.mass, bars, "f"),
            (self.low, n_leaves, "i"), (self.high, n_leaves, "i"),
        ]  # fmt: skip
        if any(a.shape != (length,) or a.dtype.kind != kind for a, length, kind in shapes):
            raise ValueError("bars of a leaf")
        if not size or not np.array_equal(np.sort(self.place), np.arange(size)):
            raise ValueError("places of codes")
        if self.start[0] != 0 or self.start[-1] != bars or (np.diff(self.start) < 1).any():
            raise ValueError("bars of leaves")
        for begin, end in ((self.begin, self.end), (self.low, self.high)):
            if not ((begin >= 0) & (begin < end) & (end <= size)).all():
                raise ValueError("reach of a bar or a box")
        opens = np.zeros(bars, bool)
        opens[self.start[:-1]] = True
        if ((self.begin[1:] < self.end[:-1]) & ~opens[1:]).any():
            raise ValueError("bars that overlap")
        whole = np.add.reduceat(self.mass, self.start[:-1])
        if not ((self.share > 0).all() and (self.mass >= 0).all()):
            raise ValueError("a negative share")
        if not (np.isclose(self.share.sum(), 1) and np.allclose(whole, 1, atol=1e-3)):
            raise ValueError("shares that do not add up")

    def _upto(self, allowed: Mask | None) -> Floats:
        """Return the share of (allowed) codes that stand before each place, (codes + 1,)."""
        share = self.share
        if allowed is not None:
            share = share * allowed[np.argsort(self.place)]
        return np.concatenate([[0.0], np.cumsum(share)])

    def _held(self, upto: Floats, within: Floats) -> Floats:
        part = (upto[self.end] - upto[self.begin]) / (within[self.end] - within[self.begin])
        return self.mass * part


@dataclass(frozen=True)
class Leaves:
    """The mixture: leaf l with probability `weight[l]`, columns independent within it."""

    weight: Floats  # (leaves,) sum to 1
    background: Floats  # (leaves,) share of a column's distribution that is spread over the box
    columns: tuple[Bars, ...]

    def check(self) -> None:
        """Raise ValueError unless this is a mixture: arrays of a stranger may be anything."""
        for array in (self.weight, self.background):
            if array.shape != self.weight.shape or array.ndim != 1 or array.dtype.kind != "f":
                raise ValueError("weights of leaves")
            if not array.size or not ((array >= 0) & (array <= 1)).all():
                raise ValueError("weights of leaves")
        if not np.isclose(self.weight.sum(), 1):
            raise ValueError("weights of leaves")
        for bars in self.columns:
            bars.check(self.weight.size)

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        return self.complete(np.full((n, len(self.columns)), -1, np.int32), {}, rng)

    def complete(
        self, codes: Codes, allowed: Mapping[int, Mask], rng: np.random.Generator
    ) -> Codes:
        """Draw the codes that are not known (-1), given those that are, of the allowed ones.

        Exact: a leaf is drawn by its posterior probability given what is known and allowed, and
        then each column within it. Raises ConditionError when no code of a column is allowed.
        """
        for j, mask in allowed.items():
            if not mask.any():
                raise ConditionError(
                    f"column {j + 1} is left without a value",
                    "a condition that one value or more can satisfy",
                    "loosen the condition",
                )
        whole = codes.copy()
        leaf = self._leaves(codes, allowed, rng)
        for j, bars in enumerate(self.columns):
            rows = np.flatnonzero(codes[:, j] < 0)
            whole[rows, j] = bars.draw(leaf[rows], self.background, allowed.get(j), rng)
        return whole

    def log_density(self, codes: Codes) -> Floats:
        """Return the log-probability of each row's known codes, those not known summed out."""
        kinds, inverse = _kinds(codes)
        found = np.empty(len(kinds))
        for start, weight, scale in self._posterior(codes[kinds], {}):
            total = weight.sum(axis=1, dtype=np.float64)
            found[start : start + len(weight)] = np.log(total) + scale
        for j, bars in enumerate(self.columns):
            known = codes[kinds, j] >= 0
            found[known] += np.log(bars.share[bars.place[codes[kinds[known], j]]])
        return found[inverse]

    def posterior(self, codes: Codes, allowed: Mapping[int, Mask]) -> Floats:
        """Return the probability of each leaf for each row, (rows, leaves)."""
        parts = [weight.astype(float) for _, weight, _ in self._posterior(codes, allowed)]
        weight = np.concatenate(parts)
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))

    def _leaves(self, codes: Codes, allowed: Mapping[int, Mask], rng: np.random.Generator) -> Ints:
        kinds, inverse = _kinds(codes)
        u, leaf = stratified(inverse, rng), np.zeros(len(codes), np.int64)
        order = np.argsort(inverse, kind="stable")
        first = np.searchsorted(inverse[order], np.arange(len(kinds) + 1))
        n_leaves = self.weight.size
        for start, weight, _ in self._posterior(codes[kinds], allowed):
            rows = order[first[start] : first[start + len(weight)]]
            upto = np.concatenate([[0.0], np.cumsum(weight, dtype=np.float64)])
            low = (inverse[rows] - start) * n_leaves
            sought = upto[low] + u[rows] * (upto[low + n_leaves] - upto[low])
            found = np.searchsorted(upto[1:], sought, side="right") - low
            leaf[rows] = np.clip(found, 0, n_leaves - 1)
        return leaf

    def _posterior(self, codes: Codes, allowed: Mapping[int, Mask]) -> Any:
        """Yield, block by block: its first row, leaf weights (rows, leaves), log of their scale."""
        tables: dict[int, tuple[Codes, NDArray[np.float32]]] = {}
        size = max(1, CELLS // max(self.weight.size, 1))
        reach: dict[int, NDArray[np.float32]] = {}
        for j, mask in allowed.items():
            own, box, least = self.columns[j].masses(self.background, mask)
            reach[j] = (own + box + least).astype(np.float32)
        for start in range(0, len(codes), size):
            block = codes[start : start + size]
            weight = np.repeat(self.weight[None, :].astype(np.float32), len(block), axis=0)
            scale, since = np.zeros(len(block)), 0
            for j, bars in enumerate(self.columns):
                known = np.flatnonzero(block[:, j] >= 0)
                if known.size:
                    if j not in tables:
                        some = np.unique(codes[:, j])
                        some = some[some >= 0]
                        tables[j] = (some, bars.density(some, self.background))
                    at = np.searchsorted(tables[j][0], block[known, j])
                    if known.size == len(block):
                        weight *= tables[j][1][at]
                    else:
                        weight[known] *= tables[j][1][at]
                if j in reach and known.size < len(block):
                    weight[block[:, j] < 0] *= reach[j]
                since += bool(known.size or j in reach)
                if since == RESCALED or (since and j == len(self.columns) - 1):
                    most = weight.max(axis=1, keepdims=True)
                    weight /= most
                    scale, since = scale + np.log(most[:, 0]), 0
            yield start, weight, scale


def _kinds(codes: Codes) -> tuple[Ints, Ints]:
    """Return one row of each kind of row, and which kind each row is of."""
    kind = np.zeros(len(codes), np.int64)
    for column in codes.T:
        if (column >= 0).any():
            key = kind * (int(column.max()) + 2) + column + 1
            kind = np.unique(key, return_inverse=True)[1]
    _, first = np.unique(kind, return_index=True)
    return first.astype(np.int64), kind
