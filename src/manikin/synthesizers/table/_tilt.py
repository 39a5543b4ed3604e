"""Weights on the codes of a leaf, a factor for each of some earlier columns: what pairs tell.

A split has to earn its place in one leaf; a pair of columns may be related a little in all of
them. The codes of a column are therefore grouped into parts, and the real counts O of parts by
bins of an earlier column are compared with E, which the leaves of drawn rows lead to expect. O is
Poisson with mean E θ, and θ gamma with mean 1 whose variance is the chi-square's excess over its
degrees of freedom, a row; codes are weighted by its posterior mean (DuMouchel, The American
Statistician 53 (1999), with one gamma for two). Pairs are taken one after another, the one
farthest from chance first, each given those before: stagewise fitting of a log-linear model
(Darroch and Ratcliff, Annals of Mathematical Statistics 43 (1972)) over the tree's leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

FEW = 12  # levels up to which a column is looked at as it stands
PARTS = 12  # parts of the distribution of a column with order
OWN = 96  # commonest codes without order that are parts of their own, where there are more
GROUPS = 32  # parts that all other codes without order are joined to
CERTAIN = 1.0  # standard deviations of chance that a pair must exceed; with an outcome: none
CERTAIN_TRIPLE = 3.0  # the same of a pair and an outcome together
ROWS_PER_CELL = 20  # rows that there must be for every cell of such a triple
SWEEPS = 2  # most times that all pairs of a column are gone through
MOST = 10.0  # no code is made likelier or less likely than by e to this
BLOCK = 4_000_000  # rows times parts that are worked on at a time


@dataclass(frozen=True)
class Tilt:
    """Factors of one earlier column, or of two together."""

    columns: tuple[int, ...]
    bins: tuple[Ints, ...]  # per column: the bin of each code
    factors: Floats  # (bins of the first times bins of the second, parts), logarithms

    def at(self, codes: Codes) -> Ints:
        """Return the row of `factors` for rows of chain codes (rows, columns)."""
        return _together(self.columns, self.bins, codes)


@dataclass(frozen=True)
class Tilts:
    """How the codes of a leaf are weighted, given earlier columns."""

    part: Ints  # (codes,) the part of each code
    tilts: tuple[Tilt, ...] = ()

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return int(self.part.max(initial=0)) + 1

    def weights(self, codes: Codes) -> Floats:
        """Return the weight of each part for rows of chain codes (rows, columns)."""
        weights = np.zeros((len(codes), self.n_parts))
        for tilt in self.tilts:
            weights += tilt.factors[tilt.at(codes)]
        return np.asarray(np.exp(np.clip(weights, -MOST, MOST)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return arrays for a model file."""
        arrays: dict[str, NDArray[Any]] = {"part": self.part}
        for i, tilt in enumerate(self.tilts):
            arrays |= {f"tilt {i}/columns": np.array(tilt.columns, np.int64)}
            arrays |= {f"tilt {i}/bins {c}": bins for c, bins in enumerate(tilt.bins)}
            arrays |= {f"tilt {i}/factors": tilt.factors}
        return arrays

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]]) -> Tilts:
        """Rebuild what `arrays` describes."""
        found: list[Tilt] = []
        while f"tilt {len(found)}/columns" in arrays:
            start = f"tilt {len(found)}/"
            columns = tuple(int(j) for j in arrays[start + "columns"])
            bins = tuple(arrays[f"{start}bins {c}"] for c in range(len(columns)))
            found.append(Tilt(columns, bins, arrays[start + "factors"]))
        part = arrays["part"]  # there are as many parts as codes, or fewer
        if (
            part.ndim != 1
            or part.dtype.kind != "i"
            or (part < 0).any()
            or (part >= part.size).any()
        ):
            raise ValueError("parts of the codes")
        return Tilts(part, tuple(found))


def _together(columns: Sequence[int], bins: Sequence[Ints], codes: Codes) -> Ints:
    at = np.zeros(len(codes), np.int64)
    for j, bin_of in zip(columns, bins, strict=True):
        at = at * (int(bin_of.max(initial=0)) + 1) + bin_of[codes[:, j]]
    return at


def divide(counts: Ints, *, ordered: bool, tokens: int, alike: Ints | None) -> Ints:
    """Return the part of each code: missing marks and common codes alone, others with their like.

    `alike` is an order of the codes in which neighbours resemble each other.
    """
    n_codes = counts.size
    part = np.arange(n_codes)
    if ordered and n_codes - tokens > PARTS:
        own = counts[tokens:]
        middle = (np.cumsum(own) - own / 2) / max(own.sum(), 1)
        place = np.minimum(middle * PARTS, PARTS - 1).astype(np.int64)
        part[tokens:] = tokens + np.unique(place, return_inverse=True)[1]
    elif not ordered and n_codes > OWN + GROUPS:
        order = np.arange(n_codes) if alike is None else alike
        common = np.sort(np.argsort(-counts, kind="stable")[:OWN])
        rest = order[~np.isin(order, common)]
        share = np.cumsum(counts[rest]) / max(counts[rest].sum(), 1)
        part[common] = np.arange(OWN)
        place = np.minimum(share * GROUPS, GROUPS - 1).astype(np.int64)
        part[rest] = OWN + np.unique(place, return_inverse=True)[1]
    return part


def blocks(rows: int, n_parts: int) -> Iterator[slice]:
    """Yield slices of rows that are few enough to be weighted together."""
    step = max(1, BLOCK // max(n_parts, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def learn_tilts(
    part: Ints,
    labels: Codes,
    real: Codes,
    drawn: Codes,
    usual: Floats,
    candidates: Sequence[int],
    bins: Sequence[Ints],
    first: Sequence[int],
) -> Tilts:
    """Return the weights with which drawn rows get the real relations of their code to others.

    `labels` (rows,) and `real` (rows, columns) are training rows, `drawn` (rows', columns) drawn
    ones and `usual` (rows', parts) the shares of parts in their leaves; `bins` are those of every
    column. The columns in `first`, outcomes, are tilted to whatever their effect; and where rows
    are many, each other column is looked at once more at every level of the outcome.
    """
    n_parts = int(part.max(initial=0)) + 1
    if not labels.size or not len(drawn) or n_parts < 2:
        return Tilts(part)
    widths = [int(of.max(initial=0)) + 1 for of in bins]
    outcomes = [i for i in first if i in candidates and widths[i] <= FEW]
    triples = [
        (i, j) for i in outcomes for j in candidates
        if i != j and widths[i] * widths[j] * n_parts * ROWS_PER_CELL <= labels.size
    ]  # fmt: skip
    weights = np.zeros_like(usual)  # logarithms
    found: dict[tuple[int, ...], Floats] = {}
    alone = [(j,) for j in candidates]
    for sets, certain in ((alone, CERTAIN), (triples, CERTAIN_TRIPLE)):
        leading = set(sets) & {(j,) for j in first}
        _fit(sets, leading, certain, part[labels], real, drawn, usual, bins, weights, found)
    return Tilts(part, tuple(Tilt(c, tuple(bins[j] for j in c), f) for c, f in found.items()))


def _fit(
    sets: Sequence[tuple[int, ...]],
    leading: set[tuple[int, ...]],
    certain: float,
    own: Ints,
    real: Codes,
    drawn: Codes,
    usual: Floats,
    bins: Sequence[Ints],
    weights: Floats,
    found: dict[tuple[int, ...], Floats],
) -> None:
    """Add to `weights` (rows', parts) and `found` the factors, as logarithms, of `sets`.

    In each sweep the `leading` sets come first, then the one farthest from chance.
    """
    n_parts = usual.shape[1]
    observed, cells = [], []
    for columns in sets:
        of = [bins[j] for j in columns]
        size = int(np.prod([int(b.max()) + 1 for b in of])) * n_parts
        cell = _together(columns, of, real) * n_parts + own
        observed.append(np.bincount(cell, minlength=size).reshape(-1, n_parts).astype(float))
        cells.append(_together(columns, of, drawn))
    share = _shares(usual, weights)
    before = range(len(sets))
    for sweep in range(SWEEPS):
        excess = [_posterior(observed[s], _summed(cells[s], share, observed[s]))[0] for s in before]
        ahead = [not sweep and sets[s] in leading for s in before]
        order = sorted(before, key=lambda s: (ahead[s], excess[s]), reverse=True)
        taken = False
        for s in order:
            now, factors = _posterior(observed[s], _summed(cells[s], share, observed[s]))
            if now > (0 if ahead[s] else certain):
                weights += factors[cells[s]]
                found[sets[s]] = found.get(sets[s], 0.0) + factors
                share, taken = _shares(usual, weights), True
        if not taken:
            return


def _shares(usual: Floats, weights: Floats) -> Floats:
    share = usual * np.exp(np.clip(weights, -MOST, MOST))
    return np.asarray(share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300))


def _summed(cell: Ints, share: Floats, like: Floats) -> Floats:
    """Return the sums of rows of `share` (rows, parts) by cell, in the shape of `like`."""
    at = (np.ones(cell.size), cell, np.arange(cell.size + 1))
    indicator = sparse.csr_matrix(at, shape=(cell.size, len(like)))
    return np.asarray(indicator.T @ share)


def _posterior(observed: Floats, expected: Floats) -> tuple[float, Floats]:
    """Return the excess of chi-square in standard deviations (0: none), and log θ of each cell."""
    # as many drawn as real rows of each bin
    drawn = np.maximum(expected.sum(axis=1, keepdims=True), 1e-9)
    expected = expected * observed.sum(axis=1, keepdims=True) / drawn
    some = expected > 0
    chi = float(((observed - expected)[some] ** 2 / expected[some]).sum())
    freedom = float((observed.any(axis=1).sum() - 1) * (observed.any(axis=0).sum() - 1))
    if freedom <= 0 or chi <= freedom:
        return 0.0, np.zeros(observed.shape)
    variance = (chi - freedom) / expected.sum()
    theta = (observed * variance + 1) / (expected * variance + 1)
    return (chi - freedom) / (2 * freedom) ** 0.5, np.asarray(np.log(theta))
