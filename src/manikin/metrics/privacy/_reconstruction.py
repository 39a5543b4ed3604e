"""Linear reconstruction: the secrets of all rows at once, solved for from synthetic marginals.

Annamalai, Gadotti and Rocher, "A Linear Reconstruction Approach for Attribute Inference Attacks
against Synthetic Data", USENIX Security 2024. The attacker knows everybody's row but for a secret
bit s, and asks the synthetic rows for its share p_q in cells q of up to three of the known columns.
Every cell is an equation, mean of s over the cell's people = p_q, weighted by the root of its size;
least squares gives all s, and those above a half are guessed to be 1.
Idea       every answer speaks of the very people who are in the training data, so that many noisy
           answers fix each of them
Null       the attack is made twice: on the training rows, and on the same rows with some of them
           replaced by as many strangers. Both systems are equally large, and had the synthetic
           rows come from neither, the replaced and their replacements would be hit equally often
Differs    from the paper in: shares among synthetic rows rather than counts; cells of binned
           columns drawn at random rather than all; least squares rather than a linear programme
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import lsqr

from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy._success import Success, by_subject
from manikin.metrics.score import Trial
from manikin.metrics.spaces import Bins, Codes

__all__ = ["reconstruct"]

ENTRIES = 600_000  # rows × column sets of the systems of all secrets
MOST_SETS = 120
LARGEST = 3  # columns of a set
CELLS = 50_000  # of one set: above it the set is left out
STEPS = 25  # of LSQR (Paige and Saunders, ACM TOMS 1982)
DAMPING = 0.3  # pulls what no equation speaks of to the base rate


def reconstruct(
    trial: Trial[Table],
    name: str,
    bit: Callable[[Table], NDArray[np.bool_]],
    given: tuple[str, ...],
    rng: np.random.Generator,
    *,
    secrets: int = 1,
) -> Success | None:
    """Return the hits on members and strangers, or None when no cell speaks of anybody.

    `bit` says whose secret, a fact about column `name`, is set. It is one of so many `secrets`,
    which share what is spent.
    """
    synthetic, train, holdout = (
        part.rows(part.present(name)) for part in (trial.synthetic, trial.train, trial.holdout)
    )
    if not min(synthetic.n_rows, train.n_rows, holdout.n_rows):
        return None
    told = bit(synthetic)
    truth = np.concatenate([bit(train), bit(holdout)])
    pool = _Pool.of(synthetic, told, [train, holdout], given, ENTRIES // secrets, rng)
    if pool is None:
        return None
    replaced, replacing = _exchanged(train, holdout, rng)
    first = train.n_rows
    members = np.arange(first)
    mixed = np.concatenate([members[~replaced], first + np.flatnonzero(replacing)])
    found = []
    for rows, scored, part in (
        (members, np.flatnonzero(replaced), trial.train),
        (mixed, first + np.flatnonzero(replacing), trial.holdout),
    ):
        solved = np.full(truth.size, np.nan)
        solved[rows] = pool.solve(rows)
        right = ((solved[scored] > 0.5) == truth[scored]).astype(np.float64)
        everybody = np.concatenate([train.subjects, holdout.subjects])
        found.append(by_subject(right, everybody[scored], np.unique(part.subjects)))
    return Success(*found)


def _exchanged(
    train: Table, holdout: Table, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows of equally many random subjects are left out and put in instead."""
    everyone = [np.unique(part.subjects) for part in (train, holdout)]
    n = min(who.size for who in everyone)
    out, into = (
        np.isin(part.subjects, rng.choice(who, n, replace=False))
        for part, who in zip((train, holdout), everyone, strict=True)
    )
    return out, into


class _Pool:
    """Which cells every real row lies in, and the share of the bit in each, by the synthetic."""

    def __init__(self, cells: NDArray[np.int64], shares: Floats, base: float) -> None:
        self.cells = cells  # (rows, sets), -1 where no synthetic row is in the cell
        self.shares = shares  # (cells,)
        self.base = base

    @staticmethod
    def of(
        synthetic: Table,
        told: NDArray[np.bool_],
        real: list[Table],
        given: tuple[str, ...],
        entries: int,
        rng: np.random.Generator,
    ) -> _Pool | None:
        bins = Bins.fit(synthetic)  # all that the attacker has
        codes = {
            name: (bins.codes(synthetic, name), np.concatenate([bins.codes(t, name) for t in real]))
            for name in given
        }
        names = [name for name in given if np.ptp(codes[name][0]) > 0]
        n_rows = sum(t.n_rows for t in real)
        n_sets = max(8, min(MOST_SETS, entries // n_rows))
        cells, shares, start = [], [], 0
        for chosen in _sets(names, n_sets, rng):
            size = int(np.prod([bins.sizes[name] for name in chosen]))
            if size > CELLS:
                continue
            known, asked = (_joint(codes, chosen, bins, side) for side in (0, 1))
            rows = np.bincount(known, minlength=size)
            ones = np.bincount(known[told], minlength=size)
            cells.append(np.where(rows[asked] > 0, start + asked, -1))
            shares.append(ones / np.maximum(rows, 1))
            start += size
        if not cells:
            return None
        return _Pool(np.column_stack(cells), np.concatenate(shares), float(told.mean()))

    def solve(self, rows: Codes) -> Floats:
        """Return the least-squares bits of these rows, (rows,)."""
        cells = self.cells[rows]
        of_row, of_set = np.nonzero(cells >= 0)
        used, equation = np.unique(cells[of_row, of_set], return_inverse=True)
        size = np.bincount(equation, minlength=used.size).astype(np.float64)
        weights = 1 / np.sqrt(size[equation])
        system = csr_matrix((weights, (equation, of_row)), (used.size, rows.size))
        answers = np.sqrt(size) * (self.shares[used] - self.base)
        solved = lsqr(system, answers, damp=DAMPING, iter_lim=STEPS)[0]
        return np.asarray(self.base + solved)


def _sets(names: list[str], n: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Return `n` sets of up to three of these columns, or all there are, the larger ones first."""
    found: list[tuple[str, ...]] = []
    for size in range(min(LARGEST, len(names)), 0, -1):
        wanted = n - len(found)
        if comb(len(names), size) <= 4 * n:
            every = list(combinations(names, size))
            found += [every[i] for i in rng.permutation(len(every))[:wanted]]
        else:
            drawn = {tuple(sorted(rng.choice(len(names), size, replace=False))) for _ in range(n)}
            found += [tuple(names[i] for i in chosen) for chosen in sorted(drawn)]
    return found[:n]


def _joint(
    codes: dict[str, tuple[Codes, Codes]], chosen: tuple[str, ...], bins: Bins, side: int
) -> Codes:
    joint = np.zeros(codes[chosen[0]][side].size, np.int64)
    for name in chosen:
        joint = joint * bins.sizes[name] + codes[name][side]
    return joint
