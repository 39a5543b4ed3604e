"""Dividing a column under a privacy budget: bins in which rows are seen through noise.

Levels that noise hides are merged (McKenna, Miklau and Sheldon, J. Privacy and Confidentiality
11(3), 2021, §3.2). Numbers are counted in a few even ranges; a range with more than its share of
rows is divided, and all ranges are counted again: the adaptive grid of Qardaji, Yang and Li
("Differentially private grids for geospatial data", ICDE 2013, §4), in one dimension. A row is in
one range of each count, so that a count costs what a column of levels does. How many ranges are
worth their noise follows from the noise, and from the rows as earlier counts have them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.privacy.rows import Rows
from manikin.synthesizers.table._net_bins import Bins
from manikin.synthesizers.table._pgm import Measured

__all__ = ["counted", "divided"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

SURE = 2.0  # standard deviations of noise that a level's count must exceed to stand alone
MARKED = 4.0  # ... and a missing mark's: one that nobody has would show in one column of 30,000
STEPS = 3  # times that a number column is counted, divided further each time
LEAST = 6  # ranges that a number column is divided into, whatever noise says
PEAKED = 3.0  # ranges worth their noise: √(this · rows / deviation)


def divided(
    rows: Rows,
    j: int,
    n_tokens: int,
    ordered: bool,
    most: int,
    rho: float,
    name: str,
    total: float,
    *,
    merging: bool,
) -> tuple[Bins, tuple[Measured, ...]]:
    """Return the bins of one column and their noisy counts. `total`: rows, about.

    Levels that noise hides are joined where `merging`.
    """
    deviation = rows.most_rows / math.sqrt(2 * rho)
    worth = int(min(most, max(LEAST, math.sqrt(PEAKED * total / deviation))))
    if ordered and rows.sizes[j] - n_tokens > worth:
        return _ranges(rows, j, n_tokens, worth, rho, name)
    counts = rows.counts((j,), rho=rho, what=f"'{name}'")
    return _levels(counts, n_tokens, j, deviation, merging)


def counted(measured: Sequence[Measured]) -> float:
    """Return how many rows there are: the surer a count is, the more its total weighs."""
    totals = [float(one.counts.sum()) for one in measured]
    weights = [1 / (one.counts.size * one.deviation**2) for one in measured]
    return max(1.0, float(np.average(totals, weights=weights))) if measured else 1.0


def _ranges(
    rows: Rows, j: int, n_tokens: int, worth: int, rho: float, name: str
) -> tuple[Bins, tuple[Measured, ...]]:
    """Count even ranges of codes; divide those of many rows, and count again."""
    size = rows.sizes[j]
    starts = np.concatenate([np.arange(n_tokens), _even(n_tokens, size, worth)])
    taken: list[tuple[Ints, Ints, float]] = []
    left = rho
    for step in range(STEPS):
        last = step == STEPS - 1 or (step > 0 and taken[-1][0].size == starts.size)
        price = left if last else left / 2
        of = np.searchsorted(starts, np.arange(size), side="right") - 1
        counts = rows.counts(
            (j,), rho=price, what=f"'{name}' in {starts.size} ranges", groups=(of,)
        )
        taken.append((starts, counts, rows.most_rows / math.sqrt(2 * price)))
        if last:
            break
        left -= price
        starts = _refined(starts, counts, n_tokens, size, worth)
    of = np.searchsorted(starts, np.arange(size), side="right") - 1
    measured = []
    for earlier, counts, deviation in taken:
        within = np.searchsorted(earlier, starts, side="right") - 1
        measured.append(Measured((j,), counts.astype(np.float64), deviation, (within,)))
    return _seen(Bins(of, 1.0 / np.bincount(of)[of]), measured, n_tokens)


def _even(first: int, end: int, parts: int) -> Ints:
    """Return the starts of so many ranges of about as many codes."""
    return first + np.arange(min(parts, end - first)) * (end - first) // min(parts, end - first)


def _refined(starts: Ints, counts: Ints, n_tokens: int, size: int, worth: int) -> Ints:
    """Return the starts with every range divided in which more rows are than its share."""
    ends = np.append(starts[1:], size)
    fair = max(1.0, float(np.maximum(counts, 0).sum())) / worth
    found = list(range(n_tokens))
    for start, end, count in zip(
        starts[n_tokens:], ends[n_tokens:], counts[n_tokens:], strict=True
    ):
        found += _even(int(start), int(end), max(1, round(float(count) / fair))).tolist()
    return np.array(found, np.int64)


def _levels(
    counts: Ints, n_tokens: int, j: int, deviation: float, merging: bool
) -> tuple[Bins, tuple[Measured, ...]]:
    """Keep the levels that noise leaves visible, and merge the others if asked."""
    visible = counts > SURE * deviation
    visible[:n_tokens] = True  # marks are looked at for themselves
    rare = np.flatnonzero(~visible)
    of, share = np.arange(counts.size), np.ones(counts.size)
    if rare.size > 1 and merging:
        of = np.cumsum(visible) - 1
        of[rare] = of.max() + 1
        weight = np.maximum(counts[rare], 0.0) + deviation
        share[rare] = weight / weight.sum()
    merged = np.bincount(of, weights=counts.astype(np.float64)).astype(np.float64)
    # a merged level's noise is larger; one deviation is kept, that of the others
    own = Measured((j,), merged, deviation, (np.arange(merged.size),))
    return _seen(Bins(of, share), [own], n_tokens)


def _seen(bins: Bins, measured: list[Measured], n_tokens: int) -> tuple[Bins, tuple[Measured, ...]]:
    """Leave out missing marks that noise hides: their few rows count with the commonest values.

    A mark that nobody has would come out in a share of rows that noise alone decides.
    """
    weights = [1 / one.deviation**2 for one in measured]
    marks = sum(w * one.counts[:n_tokens] for w, one in zip(weights, measured, strict=True))
    deviation = 1 / math.sqrt(sum(weights))
    hidden = np.flatnonzero(marks / sum(weights) <= MARKED * deviation)
    last = measured[-1].counts
    if not hidden.size or last.size == n_tokens:
        return bins, tuple(measured)
    kept = np.setdiff1d(np.arange(bins.size), hidden)
    most = int(np.argmax(last[kept]))
    place = np.full(bins.size, most)
    place[kept] = np.arange(kept.size)
    share = bins.share.copy()
    share[hidden] = 0.0  # a mark's bin is its own code
    found = []
    for one in measured:
        still = np.setdiff1d(np.arange(one.counts.size), hidden)
        of = np.searchsorted(still, one.groups[0][kept])
        found.append(Measured(one.columns, one.counts[still], one.deviation, (of,)))
    return Bins(place[bins.of], share), tuple(found)
