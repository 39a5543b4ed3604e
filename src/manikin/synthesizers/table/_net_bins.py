"""Columns of many codes in a few bins, and the code within a bin.

A network's tables need few values a column: every missing mark stays its own bin, and so does
every level of a column that has few. Codes of the others are put into an order (their own, or for
levels without one the first correspondence component) and neighbours are merged, always the two
whose merging loses least: of the column's mutual information with the other columns (supervised;
after Kerber, "ChiMerge", AAAI 1992), or of its entropy (quantile bins). The code is then drawn
within its bin by the training counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.table._binning import alike, stratified

__all__ = ["Bins", "learn_bins"]

Codes: TypeAlias = NDArray[np.int32]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

FINE = 64  # neighbouring codes of about equal shares that merging starts from
COARSE = 8  # bins of the other columns that a column is merged against
OWN = 0.25  # weight of a column's own entropy beside its information on the others
SPARE = 1e-6  # rows that a code without any counts as, so that it can be asked for


@dataclass(frozen=True)
class Bins:
    """The bins of one column."""

    of: Ints  # (codes,) the bin of each code
    share: Floats  # (codes,) of each code among the codes of its bin

    @property
    def size(self) -> int:
        """Number of bins."""
        return int(self.of.max(initial=-1)) + 1

    def likely(self, allowed: NDArray[np.bool_]) -> Floats:
        """Return the share of each bin that is allowed."""
        found = np.bincount(self.of, weights=self.share * allowed, minlength=self.size)
        return found.astype(np.float64)

    def draw(
        self, bins: Ints, rng: np.random.Generator, allowed: NDArray[np.bool_] | None = None
    ) -> Codes:
        """Draw a code of each bin, one of the allowed ones."""
        order = np.argsort(self.of, kind="stable")
        share = self.share if allowed is None else self.share * allowed
        heap = np.concatenate([[0.0], np.cumsum(share[order])])
        ends = np.cumsum(np.bincount(self.of, minlength=self.size))
        before, after = heap[np.append(0, ends[:-1])], heap[ends]  # (bins,)
        sought = before[bins] + stratified(bins, rng) * (after - before)[bins]
        at = np.searchsorted(heap[1:], sought, side="right")
        last = np.searchsorted(heap[1:], after, side="left")  # last code of a bin with a share
        return np.asarray(order[np.minimum(at, last[bins])], np.int32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        return {"bin": self.of, "share": self.share}

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]], codes: int) -> Bins:
        """Rebuild bins of so many codes. Raises ValueError when they are no bins."""
        of, share = arrays["bin"], arrays["share"]
        if of.dtype.kind != "i" or share.dtype.kind != "f" or of.shape != (codes,):
            raise ValueError("bins of codes")
        if share.shape != of.shape or not np.isfinite(share).all() or (share < 0).any():
            raise ValueError("shares of codes")
        held = np.unique(of)
        if not np.array_equal(held, np.arange(held.size)):
            raise ValueError("bins without a code")
        if not np.allclose(np.bincount(of, weights=share), 1.0):
            raise ValueError("shares that do not sum to one")
        return Bins(of.astype(np.int64), share.astype(np.float64))


def learn_bins(
    codes: Codes,
    counts: Sequence[Ints],
    n_tokens: Sequence[int],
    ordered: Sequence[bool],
    *,
    most: int,
    supervised: bool,
) -> tuple[Bins, ...]:
    """Put the codes (rows, columns) into at most `most` bins a column, missing marks beside."""
    wide = range(len(counts))
    first = [_fine(counts[j], n_tokens[j], None, COARSE) for j in wide]
    coarse = np.stack(
        [first[j][codes[:, j]] for j in wide] or [np.zeros(len(codes), np.int64)], axis=1
    ).astype(np.uint8)
    found = []
    for j in wide:
        of = np.arange(counts[j].size)
        if counts[j].size - n_tokens[j] > most:
            rest = np.delete(coarse, j, axis=1)
            order = None
            if not ordered[j] and rest.shape[1]:
                order = alike(codes[:, j], counts[j].size, rest)
            of = _fine(counts[j], n_tokens[j], order, max(FINE, 2 * most))
            against = _against(of[codes[:, j]], int(of.max()) + 1, rest if supervised else None)
            of = np.asarray(_merged(against, n_tokens[j], most)[of])
        weight = counts[j] + SPARE
        found.append(Bins(of, weight / np.bincount(of, weights=weight)[of]))
    return tuple(found)


def _fine(counts: Ints, n_tokens: int, order: Ints | None, most: int) -> Ints:
    """Return a bin of each code: missing marks alone, the others in `most` of about equal shares.

    A code that fills a bin alone has it alone.
    """
    order = np.arange(counts.size) if order is None else order
    order = order[order >= n_tokens]
    of = np.arange(counts.size)
    if order.size <= most:
        of[order] = n_tokens + np.arange(order.size)
        return of
    rows = counts[order].astype(float)
    large = rows >= rows.sum() / most
    left = max(most - int(large.sum()), 1)
    middle = np.cumsum(np.where(large, 0.0, rows))
    step = np.minimum((middle - 1e-9) / max(middle[-1], 1.0) * left, left - 1).astype(np.int64)
    # a bin begins where the step changes, and before and after each large code
    begins = np.concatenate([[True], (np.diff(step) > 0) | large[1:] | large[:-1]])
    of[order] = n_tokens + np.cumsum(begins) - 1
    return of


def _against(own: Ints, size: int, rest: NDArray[np.uint8] | None) -> list[Floats]:
    """Return the counts of a column's fine bins with the values of each other column."""
    tables = [OWN * np.diag(np.bincount(own, minlength=size).astype(float))]
    for other in rest.T if rest is not None else ():
        width = int(other.max(initial=0)) + 1
        cells = np.bincount(own * width + other, minlength=size * width)
        tables.append(cells.reshape(size, width).astype(float))
    return tables


def _merged(tables: list[Floats], n_tokens: int, most: int) -> Ints:
    """Return the bin of each fine bin after merging neighbours, losing least information."""
    whole = np.concatenate(tables, axis=1)  # (fine, values of all tables)
    own = np.stack([table.sum(axis=1) for table in tables], axis=1)
    groups = [[i] for i in range(len(whole))]

    def weight(cells: Floats, rows: Floats) -> Floats:
        return np.asarray(_xlogx(cells).sum(axis=-1) - _xlogx(rows).sum(axis=-1))

    held = weight(whole, own)
    while len(groups) - n_tokens > most:
        pair, rows = whole[:-1] + whole[1:], own[:-1] + own[1:]
        loss = held[:-1] + held[1:] - weight(pair, rows)
        loss[:n_tokens] = np.inf
        at = int(np.argmin(loss))
        groups[at] += groups.pop(at + 1)
        whole = np.concatenate([whole[:at], pair[at : at + 1], whole[at + 2 :]])
        own = np.concatenate([own[:at], rows[at : at + 1], own[at + 2 :]])
        held = weight(whole, own)
    of = np.empty(sum(map(len, groups)), np.int64)
    for i, group in enumerate(groups):
        of[group] = i
    return of


def _xlogx(x: Floats) -> Floats:
    return np.asarray(x * np.log(np.maximum(x, 1e-300)))
