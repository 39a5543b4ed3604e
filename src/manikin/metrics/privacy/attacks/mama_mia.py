"""MAMA-MIA: are the target's cells commoner in the marginals that the generator measured?

Golob, Pentyala, Maratkhan, De Cock. Privacy vulnerabilities in marginals-based synthetic data.
2024, arXiv:2410.05506 (the attack that won the SNAKE challenge, arXiv:2402.06699). A generator that
is made of marginals leaks through those that it measured, its focal points. 1 learn which these
are: run the choice of marginals again and again on rows that the attacker holds, a marginal's
weight w_q being the share of runs that choose it · 2 a target's score is Σ_q w_q S_q(t) / R_q(t),
the ratio of its cell's frequency among synthetic and among reference rows.
Differs from the paper in: a run is the maximum spanning tree of mutual information (what MST,
PrivBayes and AIM look for), so that no generator need be known; it runs on synthetic rows too,
which carry the tree they were drawn from as their own, and on shadow releases where there are any;
every pair keeps a little weight. And the ratio is bounded: (S_q - R_q) over the frequency in both
together rises with it, and a cell that nearly nobody is in does not outweigh all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks.rows import Rows

__all__ = ["Focal", "focal_points", "mama_mia", "ratios"]

RUNS = 20  # of the choice of marginals, on all sets of rows together
CELLS = 600  # of all columns, above which there are fewer runs: each takes their square
DRAWN = 2_000  # rows that a run draws, with replacement
LEAST = 0.05  # weight of a pair that no run has chosen
PAIRS = 400  # at most, the heaviest
ONE = 1.0  # rows that are added to a cell


@dataclass(frozen=True)
class Focal:
    """Pairs of columns that a generator measured, as the attacker believes."""

    pairs: NDArray[np.int64]  # (pairs, 2)
    weights: Floats  # (pairs,)


def mama_mia(targets: Rows, synthetic: Rows, reference: Rows, rng: np.random.Generator) -> Floats:
    """Return the weighted sum of bounded ratios over focal points learnt from both sides."""
    return ratios(targets, synthetic, reference, focal_points((synthetic, reference), rng))


def focal_points(shown: Sequence[Rows], rng: np.random.Generator) -> Focal:
    """Learn the focal points from sets of rows seen alike, each of which counts the same."""
    n = len(shown[0].n_cells)
    weights = np.zeros((n, n))
    dear = max(1.0, sum(shown[0].n_cells) / CELLS)
    runs = max(1, int(RUNS / (len(shown) * dear**2)))
    for rows in shown:
        for _ in range(runs):
            drawn = rows.cells[:, rng.integers(0, rows.n, min(rows.n, DRAWN))]
            for i, j in _tree(_information(drawn, rows.n_cells)):
                weights[min(i, j), max(i, j)] += 1 / (runs * len(shown))
    first, second = np.triu_indices(n, 1)
    if not first.size:  # one column
        return Focal(np.zeros((n, 2), np.int64), np.ones(n))
    found = weights[first, second] + LEAST
    heaviest = np.lexsort((rng.random(found.size), -found))[:PAIRS]
    return Focal(np.stack([first, second], axis=1)[heaviest], found[heaviest])


def ratios(targets: Rows, synthetic: Rows, reference: Rows, focal: Focal) -> Floats:
    """Return Σ_q w_q (S_q - R_q) / P_q at the targets' cells, P_q that of both sides together."""
    total, n = np.zeros(targets.n), synthetic.n + reference.n
    for (i, j), weight in zip(focal.pairs, focal.weights, strict=True):
        size = targets.n_cells[i] * targets.n_cells[j]
        cells = [side.cells[i] * targets.n_cells[j] + side.cells[j]
                 for side in (targets, synthetic, reference)]  # fmt: skip
        there, here = (np.bincount(cell, minlength=size) for cell in cells[1:])
        ratio = (there / synthetic.n - here / reference.n) / ((there + here + ONE) / n)
        total += weight * ratio[cells[0]]
    return total


def _information(cells: NDArray[np.int64], sizes: Sequence[int]) -> Floats:
    """Return the mutual information of every two columns, (columns, columns), in nats."""
    starts = np.cumsum([0, *sizes[:-1]])
    shown = np.zeros((cells.shape[1], int(sum(sizes))), np.float32)  # an indicator a cell
    for start, codes in zip(starts, cells, strict=True):
        shown[np.arange(codes.size), start + codes] = 1
    joint = (shown.T @ shown).astype(np.float64) / len(shown)
    entropy = -joint * np.log(np.where(joint > 0, joint, 1))
    entropy = np.add.reduceat(np.add.reduceat(entropy, starts, axis=0), starts, axis=1)
    own = np.diag(entropy)  # of a column with itself: its entropy
    return np.asarray(own[:, None] + own - entropy)


def _tree(weights: Floats) -> list[tuple[int, int]]:
    """Return the edges of the spanning tree of largest weight (Prim, 1957)."""
    n = len(weights)
    near, by = weights[0].copy(), np.zeros(n, np.int64)
    outside = np.arange(n) > 0
    edges = []
    for _ in range(n - 1):
        new = int(np.argmax(np.where(outside, near, -np.inf)))
        edges.append((int(by[new]), new))
        outside[new] = False
        closer = weights[new] > near
        near, by = np.where(closer, weights[new], near), np.where(closer, new, by)
    return edges
