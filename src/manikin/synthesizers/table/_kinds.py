"""Latent classes in words: how many patients, and what stands out against everybody.

A column's bins are joined to bands of a fifth of everybody or so; levels and missing marks stand
for themselves. A band stands out where it is more than by chance commoner in the class. Nothing
is said of fewer than eleven subjects: no class, no band of a class or of everybody, and no share
so near to all of a class that fewer are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.schema import Column
from manikin.privacy.cells import SMALLEST_CELL
from manikin.synthesizers.table._cells import Cells, CodedCells, NumericCells
from manikin.synthesizers.table._classes import LatentClasses
from manikin.synthesizers.table._structure import ECHO
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["Feature", "PatientClass", "described"]

BANDS = 5  # of everybody's values, where a column has an order
CERTAIN = 3.0  # standard errors by which a band must be commoner
TIMES = 1.25  # and how many times as common


@dataclass(frozen=True)
class Feature:
    """What stands out in one column."""

    column: str
    values: str  # a level, a range, a missing mark
    share: float  # of the class
    everybody: float  # the same of all patients

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.column} {self.values}: {self.share:.0%} (everybody {self.everybody:.0%})"


@dataclass(frozen=True)
class PatientClass:
    """One kind of patient."""

    share: float  # of patients
    features: tuple[Feature, ...]  # farthest from everybody first

    def __str__(self) -> str:
        """Return a heading, and a line a feature."""
        lines = [f"{self.share:.0%} of patients", *(f"  {f}" for f in self.features)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Band:
    """Some bins of a column: a level or a mark in `words`, or else a range."""

    bins: tuple[int, ...]
    words: str = ""
    low: float | None = None  # where a range begins; None: it has no end there
    high: float | None = None

    def __str__(self) -> str:
        """Return it in words."""
        if self.words or (self.low is None and self.high is None):
            return self.words or "has a value"
        if self.low is None:
            return f"< {self.high:.4g}"
        return f">= {self.low:.4g}" if self.high is None else f"{self.low:.4g} to < {self.high:.4g}"


def described(encoding: Encoding, joint: LatentClasses) -> tuple[PatientClass, ...]:
    """Return the classes of eleven subjects or more, the largest first."""
    held, start = joint.people[:, 0], 1
    found: list[list[tuple[float, Feature]]] = [[] for _ in held]
    for j, (name, cells) in enumerate(zip(encoding.names, encoding.cells, strict=True)):
        people = joint.people[:, start : start + joint.layout.n_bins(j)]
        start += people.shape[1]
        known = bands(encoding.schema[name], cells, joint.layout.bins[j], people.sum(axis=0))
        for k, size in enumerate(held):
            out = [band for band in known if _stands_out(people, size, k, band) > 0]
            for band in _joined(out):
                far = _stands_out(people, size, k, band)
                if far > 0:
                    inside = people[k, list(band.bins)].sum()
                    # fewer than eleven others of the class would be told by their share
                    share = min(inside, max(size - SMALLEST_CELL, 0)) / size
                    share = 1.0 if size - inside < 0.5 else share
                    everybody = people[:, list(band.bins)].sum() / held.sum()
                    found[k].append((far, Feature(name, str(band), float(share), float(everybody))))
    order = [int(k) for k in np.argsort(-held, kind="stable") if held[k] >= SMALLEST_CELL]
    return tuple(
        PatientClass(
            float(held[k] / held.sum()),
            tuple(feature for _, feature in sorted(found[k], key=lambda pair: -pair[0])),
        )
        for k in order
    )


def _stands_out(people: NDArray[np.float64], size: float, k: int, band: Band) -> float:
    """Return by how many standard errors the band is commoner in class k; 0: not to be told."""
    inside, n = people[:, list(band.bins)].sum(axis=1), people.sum()
    everybody = inside.sum() / max(n, 1e-9)
    few = min(inside[k], n - inside.sum()) < SMALLEST_CELL
    if few or inside[k] / size <= TIMES * everybody:
        return 0.0
    far = (inside[k] / size - everybody) / np.sqrt(everybody * (1 - everybody) / size)
    return float(far) if far > CERTAIN else 0.0


def _joined(known: Sequence[Band]) -> list[Band]:
    """Return the bands with ranges that touch made one."""
    found: list[Band] = []
    for band in known:
        last = found[-1] if found else None
        if last and not last.words and not band.words and last.high == band.low is not None:
            found[-1] = Band(last.bins + band.bins, "", last.low, band.high)
        else:
            found.append(band)
    return found


def bands(
    column: Column, cells: Cells, bin_of: NDArray[np.int64], people: NDArray[np.float64]
) -> list[Band]:
    """Return the bands of a column, ranges in ascending order."""
    t = cells.n_tokens
    found: list[Band] = []
    for token in range(t):
        state = int(cells.tokens[token])
        mark = column.tokens[state - 1] if 0 < state <= len(column.tokens) else ""
        words = f"= {mark}" if mark in column.special else "missing"
        found.append(Band((token,), "repeats another column" if state == ECHO else words))
    if isinstance(cells, CodedCells):
        alone = np.bincount(bin_of) == 1
        for level, category in enumerate(cells.levels):
            at = int(bin_of[t + level])
            if alone[at]:  # not one of the rare, which share a bin
                found.append(Band((at,), f"= {column.categories[int(category)]}"))
        return found
    if column.kind == "datetime":
        return found  # days since another date mean little to a reader
    return found + _ranges(cells, bin_of, people)


def _ranges(
    cells: NumericCells, bin_of: NDArray[np.int64], people: NDArray[np.float64]
) -> list[Band]:
    """Return ranges of about a fifth of everybody each."""
    t = cells.n_tokens
    own = people[t:]
    if own.sum() < SMALLEST_CELL:
        return []
    middle = (np.cumsum(own) - own / 2) / own.sum()
    place = np.minimum((middle * BANDS).astype(np.int64), BANDS - 1)
    first_code = np.searchsorted(bin_of[t:], np.arange(t, t + own.size))  # of each bin
    edges = cells.bounds[first_code[1:] - 1]  # a bin begins at the bound before its first code
    found: list[Band] = []
    for band in np.unique(place):
        members = np.flatnonzero(place == band)
        low = float(edges[members[0] - 1]) if members[0] > 0 else None
        high = float(edges[members[-1]]) if members[-1] < own.size - 1 else None
        if low is not None or high is not None:
            found.append(Band(tuple(int(i) + t for i in members), "", low, high))
    return found
