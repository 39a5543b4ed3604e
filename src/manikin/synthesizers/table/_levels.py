"""Levels as points: what a category looks like to a network that sees it.

Correspondence analysis (Greenacre, "Theory and Applications of Correspondence Analysis", 1984): a
level's place is how its rows are spread over the bins of the other columns, against everybody's;
levels that go with like rows lie together. A column of few levels keeps all there is to know of
them; of many, the axes that tell most. Rare levels are drawn towards the middle.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manikin.synthesizers.table._dense import Dense

__all__ = ["places"]

MOST_ROWS = 20_000  # rows looked at
PRIOR = 3.0  # rows in the middle that every level is given
FAINT = 0.2  # least length of an axis, of the longest


def places(dense: Dense, codes: NDArray[np.int32], binned: NDArray[np.uint8], embed: int) -> Tensor:
    """Return the numbers that each category's slot is seen as, (W, 1 + embed); the first is 1."""
    found = np.zeros((dense.slots, 1 + embed), np.float32)
    found[:, 0] = 1.0
    rows = slice(0, MOST_ROWS)
    n = len(codes[rows])
    category = dense.category.numpy()
    hot = _one_hot(binned[rows])  # (rows, bins of all columns)
    column_of = np.repeat(np.arange(binned.shape[1]), binned.max(axis=0, initial=0) + 1)
    share = hot.mean(axis=0)
    for j, size in enumerate(dense.sizes.tolist()):
        own = category[j, codes[rows, j]]
        m = int(category[j, :size].max()) + 1
        if m < 2:
            continue
        held = np.bincount(own, minlength=m).astype(float)
        order = np.argsort(own, kind="stable")
        starts = np.searchsorted(own[order], np.arange(m))
        together = np.zeros((m, hot.shape[1]))
        there = held > 0
        together[there] = np.add.reduceat(hot[order], starts[there], axis=0)
        others = (column_of != j) & (share > 0)
        apart = together[:, others] - held[:, None] * share[others]
        apart /= np.sqrt((held[:, None] + PRIOR) * share[others] * n)
        axes, lengths, _ = np.linalg.svd(apart, full_matrices=True)
        kept = min(m - 1, embed)
        own_lengths = np.zeros(m)
        own_lengths[: lengths.size] = lengths
        # the axis along which everybody is alike tells nothing: it has no length
        own_axes = axes[:, :kept] / np.sqrt((held[:, None] + PRIOR) / n)
        spread = np.sqrt(np.maximum((held[:, None] / n * own_axes**2).sum(0), 1e-6))
        longest = max(own_lengths[0], 1e-9)
        scale = np.sqrt(np.maximum(own_lengths[:kept] / longest, FAINT))
        slots = int(dense.start[j]) + np.arange(m) * int(dense.stride[j])
        points = np.clip(own_axes / spread * scale, -5.0, 5.0)
        found[slots, 1 : 1 + kept] = points - (held / n) @ points
    return torch.from_numpy(found)


def _one_hot(binned: NDArray[np.uint8]) -> NDArray[np.float32]:
    widths = binned.max(axis=0, initial=0).astype(np.int64) + 1
    start = np.cumsum(widths) - widths
    hot = np.zeros((len(binned), int(widths.sum())), np.float32)
    hot[np.arange(len(binned))[:, None], start + binned] = 1.0
    return hot
