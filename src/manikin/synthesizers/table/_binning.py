"""Codes in bins and in orders of likeness, and draws that are spread evenly: plain numpy."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["alike", "bin_codes", "components", "contingency", "stratified"]

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

BINS = 12  # codes are binned to this many where association is judged
COMPONENTS = 10  # correspondence components that stand for a nominal column of more levels


def bin_codes(codes: Codes, sizes: Ints, nominal: Mask) -> NDArray[np.uint8]:
    """Return codes in at most BINS bins of about as many rows each.

    Codes without order that are more than BINS are first put into an order in which neighbours
    go with like values of the other columns.
    """
    binned = np.empty(codes.shape, np.uint8)
    for j in range(sizes.size):
        binned[:, j] = _bins(codes[:, j], np.arange(sizes[j]))
    rough = binned.copy()
    for j in (int(j) for j in np.flatnonzero(nominal & (sizes > BINS))):
        others = [i for i in range(sizes.size) if i != j]
        binned[:, j] = _bins(codes[:, j], alike(codes[:, j], int(sizes[j]), rough[:, others]))
    return binned


def _bins(codes: Codes, order: Ints) -> NDArray[np.uint8]:
    """Return the bin of each row when codes stand in `order`."""
    size = order.size
    if size <= BINS:
        return codes.astype(np.uint8)
    share = np.cumsum(np.bincount(codes, minlength=size)[order]) / max(len(codes), 1)
    lookup = np.empty(size, np.int64)
    lookup[order] = np.minimum((share * BINS).astype(np.int64), BINS - 1)
    return lookup[codes].astype(np.uint8)


def alike(labels: Codes, n_codes: int, binned: NDArray[np.uint8]) -> Ints:
    """Return the codes in an order in which neighbours go with like `binned` values of others.

    Four groups by the first correspondence component, each ordered by the second.
    """
    against = [contingency(labels, n_codes, other) for other in binned.T]
    counts = np.bincount(labels, minlength=n_codes)
    found = components(np.concatenate(against, axis=1), counts)
    order = np.argsort(found[:, 0], kind="stable")
    share = np.cumsum(counts[order]) / max(labels.size, 1)
    group = np.empty(n_codes, np.int64)
    group[order] = np.minimum(share * 4, 3)
    second = found[:, min(1, found.shape[1] - 1)]
    return np.asarray(np.lexsort((second, group)))


def contingency(labels: Codes, n_codes: int, binned: NDArray[np.uint8]) -> Floats:
    """Return how many rows have each label in each bin, (codes, bins)."""
    n_bins = int(binned.max(initial=0)) + 1
    cell = labels.astype(np.int64) * n_bins + binned
    return np.bincount(cell, minlength=n_codes * n_bins).reshape(n_codes, n_bins).astype(float)


def components(table: Floats, counts: Ints) -> Floats:
    """Return correspondence components of levels (levels, components), rare levels shrunk."""
    table = table / max(table.sum(), 1.0)
    rows, columns = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    rows[rows == 0], columns[columns == 0] = 1.0, 1.0
    left, weight, _ = np.linalg.svd(
        (table - rows * columns) / np.sqrt(rows * columns), full_matrices=False
    )
    found = left[:, :COMPONENTS] * weight[:COMPONENTS] / np.sqrt(rows)
    return np.asarray(found * (counts / (counts + 10.0))[:, None], dtype=np.float64)


def stratified(group: Ints, rng: np.random.Generator) -> Floats:
    """Return uniform numbers in [0, 1) that are spread evenly within each group.

    The rows of a leaf then take its codes in their shares, rather than at random on top of the
    randomness of the sample: the difference is what a judge sees first.
    """
    shuffled = rng.permutation(group.size)
    by_group = shuffled[np.argsort(group[shuffled], kind="stable")]
    sizes = np.bincount(group) if group.size else np.zeros(1, np.int64)
    ordered = group[by_group]
    rank = np.arange(group.size) - (np.cumsum(sizes) - sizes)[ordered]
    u = np.empty(group.size)
    u[by_group] = (rank + rng.random(group.size)) / sizes[ordered]
    return np.minimum(u, np.nextafter(1.0, 0.0))
