"""The small-cell rule: nothing that leaves the house comes from fewer than eleven subjects.

Eleven is the least cell size that the US Centers for Medicare & Medicaid Services allow in
published tables; a cell of none is allowed, since it speaks of nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMALLEST_CELL",
    "hidden",
    "merge_small",
    "n_different",
    "quantiles_of_many",
    "subjects_per_cell",
]

SMALLEST_CELL = 11  # subjects


def hidden(n_subjects: int) -> bool:
    """Whether a count of subjects must not be shown."""
    return 0 < n_subjects < SMALLEST_CELL


def n_different(subjects: NDArray[np.int64]) -> int:
    """Return how many different subjects these are; without sorting where numbers are dense."""
    if not subjects.size:
        return 0
    low, span = int(subjects.min()), int(subjects.max()) - int(subjects.min()) + 1
    if span > 8 * subjects.size + 1000:
        return int(np.unique(subjects).size)
    return int(np.count_nonzero(np.bincount(subjects - low, minlength=span)))


def subjects_per_cell(
    cells: NDArray[Any], subjects: NDArray[np.int64], n_cells: int
) -> NDArray[np.int64]:
    """Return how many different subjects each cell holds, (n_cells,); cells < 0 are left out."""
    inside = cells >= 0
    kept, who = cells[inside].astype(np.int64), subjects[inside]
    if n_different(who) < who.size:  # somebody has several rows: count each once a cell
        _, numbered = np.unique(who, return_inverse=True)
        n_subjects = int(numbered.max()) + 1
        kept = np.unique(kept * n_subjects + numbered) // n_subjects
    return np.bincount(kept, minlength=n_cells).astype(np.int64)


def merge_small(
    cells: NDArray[Any], subjects: NDArray[np.int64], n_cells: int
) -> NDArray[np.int64] | None:
    """Return which merged cell each of `n_cells` ordered cells goes to, (n_cells,).

    Neighbours are merged, lowest first, until every one holds at least eleven subjects or none;
    the outermost two are never empty. None when there are fewer than eleven subjects in all.
    """
    counts = subjects_per_cell(cells, subjects, n_cells)
    if subjects_per_cell(np.where(cells >= 0, 0, -1), subjects, 1)[0] < SMALLEST_CELL:
        return None
    goes_to = np.zeros(n_cells, np.int64)
    merged, start = 0, 0  # number and first cell of the one being filled
    last_full = -1
    for cell in range(n_cells):
        goes_to[cell] = merged
        members = np.where((cells >= start) & (cells <= cell), 0, -1)
        held = int(counts[cell]) if start == cell else subjects_per_cell(members, subjects, 1)[0]
        if held >= SMALLEST_CELL:
            last_full = merged
        elif held or last_full < 0:
            continue  # too few yet, or nothing before the first: goes on filling
        merged, start = merged + 1, cell + 1
    # what is left over, and empty cells at the end, belong to the last full one
    return np.minimum(goes_to, last_full)


def quantiles_of_many(
    values: NDArray[np.float64], subjects: NDArray[np.int64], shares: Sequence[float]
) -> list[float]:
    """Return quantiles as means of the values of the eleven subjects nearest to each in rank.

    A plain quantile is somebody's own value. Empty when fewer than eleven subjects have a value.
    """
    if n_different(subjects) < SMALLEST_CELL:
        return []
    order = np.argsort(values, kind="stable")
    found = []
    for share in shares:
        middle, width = share * (values.size - 1), SMALLEST_CELL
        while True:
            first = int(np.clip(round(middle - (width - 1) / 2), 0, max(values.size - width, 0)))
            window = order[first : first + width]
            if n_different(subjects[window]) >= SMALLEST_CELL:
                break
            width *= 2
        found.append(float(values[window].mean()))
    return found
