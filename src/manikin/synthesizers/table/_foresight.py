"""Where a number is to be expected, by a ridge line on normal scores of earlier columns.

Halving asks at each node whether a number lies above a cut. When numbers hang closely together,
the answer depends on how far the expected place is from that cut, at whatever node: one predictor
that means the same at all of them. Rows are placed as if the line did not know them (leave-one-out
residuals: Allen, Technometrics 16 (1974)), so that trees do not trust it more than they may.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.table._boosting import BINS
from manikin.synthesizers.table.encoding import normal_scores

__all__ = ["bin_scores", "binned", "check_line", "cuts", "fit_line", "place", "scored"]

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

RIDGE = 1.0  # rows' worth of shrinkage of standardised predictors
STEPS = 16  # bins a residual standard deviation
MOST = 1e4  # largest coefficient that a model file may hold


def bin_scores(counts: Ints, bins: Bytes) -> Floats:
    """Return the mean normal score of the codes in each bin, (BINS,)."""
    scores, rows = normal_scores(counts), counts + 1e-9
    total = np.bincount(bins, weights=scores * rows, minlength=BINS)
    return np.asarray(total / np.maximum(np.bincount(bins, weights=rows, minlength=BINS), 1e-9))


def fit_line(predictors: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Return intercept, slopes and residual standard deviation; and places of left-out rows."""
    n, p = predictors.shape
    design = np.column_stack([np.ones(n), predictors])
    penalty = np.diag([1e-9, *np.full(p, RIDGE)])
    inverse = np.linalg.inv(design.T @ design + penalty)
    slopes = inverse @ (design.T @ target)
    lever = np.einsum("ij,jk,ik->i", design, inverse, design, optimize=True)
    residual = (target - design @ slopes) / np.maximum(1 - lever, 0.1)
    spread = max(float(residual.std()), 1e-3)
    return np.clip(np.append(slopes, spread), -MOST, MOST), target - residual


def place(line: Floats, predictors: Floats) -> Floats:
    """Return the expected score of rows (rows, predictors)."""
    return np.asarray(line[0] + predictors @ line[1:-1])


def scored(seen: Bytes, scores: Floats) -> Floats:
    """Return the scores of bins (rows, predictors), which `scores` (predictors, BINS) has."""
    return np.asarray(scores[np.arange(len(scores)), seen])


def cuts(counts: Ints, above: NDArray[np.bool_], steps: NDArray[np.int32], n_nodes: int) -> Floats:
    """Return the score between the two sides of each node, (nodes,).

    `above` and `steps` (codes, levels) are the sides and nodes of each code's way.
    """
    scores = normal_scores(counts)
    low, high = np.full(n_nodes, -np.inf), np.full(n_nodes, np.inf)
    for node, side in zip(steps.T, above.T, strict=True):
        under, over = np.flatnonzero((node >= 0) & ~side), np.flatnonzero((node >= 0) & side)
        np.maximum.at(low, node[under], scores[under])
        np.minimum.at(high, node[over], scores[over])
    return np.asarray((low + high) / 2)


def binned(line: Floats, expected: Floats, cut: Floats) -> Bytes:
    """Return how far the expected score is above a cut, in residuals, as bins (rows,)."""
    far = (expected - cut) / line[-1] * STEPS + BINS // 2
    return np.asarray(np.clip(far, 0, BINS - 2), dtype=np.uint8)


def check_line(line: Floats, scores: Floats, n_predictors: int) -> None:
    """Raise ValueError unless this is a line and the scores of its predictors' bins."""
    if line.dtype != np.float64 or line.shape not in ((0,), (n_predictors + 2,)):
        raise ValueError("line of a column")
    if scores.dtype != np.float64 or scores.shape != (n_predictors, BINS):
        raise ValueError("scores of a column")
    if not ((np.abs(line) <= MOST).all() and (np.abs(scores) <= MOST).all()):
        raise ValueError("numbers of a line")
    if line.size and line[-1] < 1e-3:
        raise ValueError("spread of a line")
