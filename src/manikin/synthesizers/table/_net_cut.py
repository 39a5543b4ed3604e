"""Edges of a network taken out before anything is drawn.

van Breugel, Kyono, Berrevoets & van der Schaar, "DECAF: generating fair synthetic data using
causally-aware generative networks", NeurIPS 2021, sec. 4.2: in place of a parent whose edge is
removed the child sees an independent draw from that parent's distribution. In a network of tables
that draw is summed out once and for all,

    P'(child | other parents) = Σ_p P(p) P(child | p, other parents),

so that what is drawn is exact, under conditions too, and the saved model cannot be drawn along the
removed edge any more. Where several edges into a child are removed, the draws are independent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._net_exact as exact
from manikin.synthesizers.table._net_search import Parents

__all__ = ["restored", "without"]

Floats: TypeAlias = NDArray[np.float64]


def without(
    parents: Parents, tables: tuple[Floats, ...], edges: Collection[tuple[int, int]]
) -> tuple[Parents, tuple[Floats, ...], NDArray[np.bool_]]:
    """Return parents and tables without these edges (source, target), and which edges are left.

    The last is in the order of the children, then of their parents, as a network lists them.
    """
    left: list[bool] = []
    new_parents: list[tuple[int, ...]] = []
    new_tables: list[Floats] = []
    anybody = np.full((1, len(parents)), -1, np.int64)
    for child, (above, table) in enumerate(zip(parents, tables, strict=True)):
        keeps = [(i, child) not in edges for i in above]
        left += keeps
        for axis in reversed(range(len(above))):  # from the last on, so that axes keep their number
            if not keeps[axis]:
                share = exact.posterior(parents, tables, anybody, {}, above[axis])[0]
                table = np.tensordot(share, table, axes=(0, axis))
        new_parents.append(tuple(i for i, keep in zip(above, keeps, strict=True) if keep))
        new_tables.append(table)
    return tuple(new_parents), tuple(new_tables), np.array(left, bool)


def restored(arrays: Mapping[str, NDArray[Any]], m: int) -> NDArray[np.int64]:
    """Return the removed edges (edges, 2) of a saved network of `m` columns.

    Raises ValueError when they are none.
    """
    removed = arrays.get("removed", np.zeros((0, 2), np.int64))
    if removed.dtype.kind != "i" or removed.ndim != 2 or removed.shape[1] != 2:
        raise ValueError("removed edges")
    if removed.size and not (0 <= removed.min() and removed.max() < m):
        raise ValueError("removed edges of another network")
    return removed.astype(np.int64)
