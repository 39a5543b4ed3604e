"""Code prevalence: is each code, and each pair of codes, as common as in real visits?

R² of synthetic against held-out probabilities over all codes or pairs that either side has
(Theodorou, Xiao, Sun: HALO, Nature Communications 2023, Results):
unigram     P(c in v), the share of visits that have code c
in_visit    P(c, d in v), of unordered pairs of two codes
sequential  P(c in v_t, d in v_t+1), of ordered pairs, over visits that have one after them
R² = 1 - Σ (real - synthetic)² / Σ (real - mean of real)²; a few common codes decide it.
And as PyHealth reckons (arXiv 2606.06990): of the share of patients who ever have a code,
`patients_r2`, `patients_pearson` and `patients_rmse`, intervals by bootstrap over codes. The other
intervals resample subjects of both sides; of pairs, the rarest stay as they are in replicates.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import Side, no_histories, sides
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["code_prevalence", "r_squared"]

CARD = Card(
    title="Code prevalence (R²)",
    family="fidelity",
    better="higher",
    reads="How well the probability of each code in a visit (`unigram`), of two codes in the same "
    "visit (`in_visit`) and in a visit and the next (`sequential`) agrees with held-out visits: 1 "
    "is the same, 0 no better than one number for all. `patients_` is the same for the share of "
    "patients who ever have a code. Common codes decide it; of rare ones see the metric for them.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/code_prevalence"
DRAWS = 100
CELLS = 20_000  # pairs that replicates reckon anew, the commonest
PAIRS = 20_000_000  # pairs of codes to be counted a side; beyond, a random choice of subjects

Counts = tuple[sparse.csr_matrix, Floats, Blocks]
"""How often each cell occurs in each block, (blocks, cells); visits of each; the blocks."""


def code_prevalence(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Compare how common codes and pairs of codes are in synthetic and held-out visits."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.unigram")
    rng = generator(seed, NAME)
    _, real, drawn = sides(trial, seed=seed)
    scores = []
    kinds = {"unigram": _unigrams, "in_visit": _bigrams, "sequential": _sequential}
    for what, counted in kinds.items():
        parts = [counted(side, rng) for side in (real, drawn)]
        scores.append(_agreement(f"{NAME}.{what}", parts))
    return (*scores, *_of_patients(real, drawn, rng))


def _unigrams(side: Side, rng: np.random.Generator) -> Counts:
    of_block, dealt = _blocks_of_visits(side, rng)
    return of_block @ side.at_visits, np.asarray(of_block.sum(axis=1)).ravel(), dealt


def _bigrams(side: Side, rng: np.random.Generator) -> Counts:
    of_block, dealt = _blocks_of_visits(side, rng)
    everyone = np.arange(side.visits.n)
    both = side.at_visits, side.at_visits
    return (*_pairs(*both, of_block, everyone, rng, upper=True), dealt)


def _sequential(side: Side, rng: np.random.Generator) -> Counts:
    of_block, dealt = _blocks_of_visits(side, rng)
    later = side.following
    before, after = side.at_visits[later - 1], side.at_visits[later]
    return (*_pairs(before, after, of_block, later, rng, upper=False), dealt)


def _blocks_of_visits(side: Side, rng: np.random.Generator) -> tuple[sparse.csr_matrix, Blocks]:
    """Return which block each visit is in, (blocks, visits), and the blocks."""
    dealt = side.dealt(rng, DRAWS)
    row = dealt.of_row[side.visits.whose]
    ones = np.ones(row.size)
    shape = (dealt.n, side.visits.n)
    return sparse.csr_matrix((ones, (row, np.arange(row.size))), shape=shape), dealt


def _pairs(
    left: sparse.csr_matrix,
    right: sparse.csr_matrix,
    of_block: sparse.csr_matrix,
    visits: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    upper: bool,
) -> tuple[sparse.csr_matrix, Floats]:
    """Return how often each pair of codes occurs in each block, and the rows of each block."""
    n_codes = left.shape[1]
    belongs = of_block.tocsc().indices[visits]  # (rows,) the block of each
    cost = np.diff(left.indptr) * np.diff(right.indptr)
    kept = np.arange(visits.size)
    if cost.sum() > PAIRS:
        kept = np.flatnonzero(rng.random(visits.size) < PAIRS / cost.sum())
    cells: list[NDArray[np.int64]] = []
    data: list[Floats] = []
    indptr = [0]
    order = kept[np.argsort(belongs[kept], kind="stable")]
    edges = np.searchsorted(belongs[order], np.arange(of_block.shape[0] + 1))
    for start, stop in pairwise(edges):
        rows = order[start:stop]
        found = (left[rows].T @ right[rows]).tocoo()
        mine = found.row < found.col if upper else np.ones(found.nnz, np.bool_)
        cells.append(found.row[mine].astype(np.int64) * n_codes + found.col[mine])
        data.append(found.data[mine])
        indptr.append(indptr[-1] + cells[-1].size)
    sizes = np.diff(edges).astype(np.float64)
    matrix = sparse.csr_matrix(
        (np.concatenate([np.empty(0), *data]), np.concatenate([np.empty(0, np.int64), *cells]),
         np.array(indptr)),
        shape=(of_block.shape[0], n_codes * n_codes),
    )  # fmt: skip
    return matrix, sizes


def _agreement(name: str, parts: list[Counts]) -> Score:
    """Return R² over the cells that either side has, and its interval."""
    if not all(sizes.sum() for _, sizes, _ in parts):
        return not_estimable(name, "no visits to compare")
    seen = np.unique(np.concatenate([counts.indices for counts, _, _ in parts]))
    if seen.size < 2:
        return not_estimable(name, "fewer than two codes or pairs that occur")
    shares = []
    for counts, sizes, _ in parts:
        place = np.searchsorted(seen, counts.indices)
        total = np.bincount(place, counts.data, minlength=seen.size)
        shares.append(total / sizes.sum())
    value = r_squared(shares[0], shares[1])
    if math.isnan(value):
        return not_estimable(name, "all codes or pairs are equally common in held-out visits")
    common = np.sort(np.argsort(-(shares[0] + shares[1]), kind="stable")[:CELLS])
    rest = np.ones(seen.size, np.bool_)
    rest[common] = False
    drawn = [_replicates(*part, seen, common) for part in parts]
    kept = [share[rest] for share in shares]
    off = ((drawn[0] - drawn[1]) ** 2).sum(axis=1) + ((kept[0] - kept[1]) ** 2).sum()
    mean = (drawn[0].sum(axis=1) + kept[0].sum()) / seen.size
    squares = (drawn[0] ** 2).sum(axis=1) + (kept[0] ** 2).sum()
    around = squares - seen.size * mean**2
    draws = 1 - np.divide(off, around, out=np.full(off.size, np.nan), where=around > 0)
    return Score(name, value, recentred(value, draws, high=1))


def _replicates(
    counts: sparse.csr_matrix,
    sizes: Floats,
    dealt: Blocks,
    seen: NDArray[np.int64],
    common: NDArray[np.int64],
) -> Floats:
    """Return the probability of the common cells in each replicate, (draws, common)."""
    place = np.full(seen.size, -1, np.int64)
    place[common] = np.arange(common.size)
    at = place[np.searchsorted(seen, counts.indices)]
    block = np.repeat(np.arange(dealt.n), np.diff(counts.indptr))
    mine = at >= 0
    shape = (dealt.n, common.size)
    table = sparse.csr_matrix((counts.data[mine], (block[mine], at[mine])), shape=shape)
    total = dealt.weights @ sizes
    weighed = np.asarray((table.T @ dealt.weights.T).T)
    return np.asarray(weighed / np.where(total > 0, total, np.nan)[:, None])


def r_squared(real: Floats, synthetic: Floats) -> float:
    """Return the coefficient of determination of `synthetic` for `real`; NaN if that is flat."""
    around = float(((real - real.mean()) ** 2).sum())
    return 1 - float(((real - synthetic) ** 2).sum()) / around if around > 0 else math.nan


def _of_patients(real: Side, drawn: Side, rng: np.random.Generator) -> list[Score]:
    """Return R², Pearson's r and RMSE of the share of patients who ever have a code."""
    names = [f"{NAME}.patients_{what}" for what in ("r2", "pearson", "rmse")]
    if not real.events.n_events or not drawn.events.n_events:
        return [not_estimable(name, "no events to compare") for name in names]
    shares = [
        np.asarray(side.of_subjects.sum(axis=0)).ravel() / side.events.n_subjects
        for side in (real, drawn)
    ]
    seen = np.flatnonzero(shares[0] + shares[1])
    one, other = (share[seen] for share in shares)
    if seen.size < 3 or not one.std():
        return [
            not_estimable(name, "fewer than three codes, or all equally common") for name in names
        ]
    weights = blocks(np.arange(seen.size), rng, draws=300)
    w = weights.rows()  # (draws, codes)
    values = _fits(np.ones((1, seen.size)), one, other)
    draws = _fits(w, one, other)
    bounds = ((-math.inf, 1.0), (-1.0, 1.0), (0.0, math.inf))
    return [
        Score(name, float(value[0]), recentred(float(value[0]), drawn_, low, high))
        if math.isfinite(value[0])
        else not_estimable(name, "synthetic codes are all equally common")
        for name, value, drawn_, (low, high) in zip(names, values, draws, bounds, strict=True)
    ]


def _fits(w: Floats, one: Floats, other: Floats) -> tuple[Floats, Floats, Floats]:
    """Return R², r and RMSE under each row of weights of codes, (draws,) each."""
    n = w.sum(axis=1)
    means = [w @ x / n for x in (one, other)]
    around = [np.maximum(w @ x**2 / n - m**2, 0) for x, m in zip((one, other), means, strict=True)]
    product = w @ (one * other) / n - means[0] * means[1]
    off = w @ (one - other) ** 2 / n
    none = np.full(n.size, np.nan)
    r2 = 1 - np.divide(off, around[0], out=none.copy(), where=around[0] > 0)
    spread = np.sqrt(around[0] * around[1])
    r = np.divide(product, spread, out=none.copy(), where=spread > 0)
    return r2, r, np.sqrt(off)
