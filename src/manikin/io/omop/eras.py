"""Eras of conditions and drugs: spans of one concept that lie less than a month apart are one.

OHDSI, OMOP CDM v5.4, CONDITION_ERA and DRUG_ERA, with their persistence window of 30 days. A
condition without an end lasts a day. Drugs stand at their own concept: what their ingredients are,
only a vocabulary tells.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["ERAS", "eras_of"]

WINDOW = 30  # days
ERAS = {  # domain → table, and the days that one without an end lasts
    "condition": ("condition_era", 1),
    "drug": ("drug_era", 0),
}


def eras_of(rows: pl.DataFrame, domain: str) -> pl.DataFrame:
    """Return eras of rows with person, concept, day and ended, in the fields of their table.

    These come after the number of an era. Rows of concept 0 are in no era.
    """
    rows = rows.filter(pl.col("concept") > 0)
    days = rows.select(pl.col("day", "ended").dt.date().cast(pl.Int64))
    start = days["day"].to_numpy()
    least = ERAS[domain][1]
    end = np.maximum(days["ended"].fill_null(days["day"] + least).to_numpy(), start)
    person, concept = rows["person"].to_numpy(), rows["concept"].to_numpy()
    order = _order(person, concept, start)
    start, end, person, concept = start[order], end[order], person[order], concept[order]
    other = np.ones(start.size, bool)
    other[1:] = (np.diff(person) != 0) | (np.diff(concept) != 0)
    before = _latest_before(end, other)
    fresh = other | (start > before + WINDOW)
    first = np.flatnonzero(fresh)
    columns = {
        "person": person[first],
        "concept": concept[first],
        "start": start[first],
        "end": np.maximum.reduceat(end, first) if first.size else end,
        "count": np.diff(np.append(first, start.size)),
    }
    if domain == "drug":
        gaps = np.where(fresh, 0, np.maximum(start - before, 0))
        columns["gap"] = np.add.reduceat(gaps, first) if first.size else gaps
    frame = pl.DataFrame(columns)
    return frame.with_columns(pl.col("start", "end").cast(pl.Int32).cast(pl.Date))


def _order(*keys: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the order of rows by several keys; they are one number where that has 63 bits."""
    packed, size = np.zeros(keys[0].size, np.int64), 1
    for key in keys if keys[0].size else ():
        least, most = int(key.min()), int(key.max())
        if most - least > 10 * key.size + 1000:  # far apart: their ranks take fewer bits
            key = np.unique(key, return_inverse=True)[1]
            least, most = 0, int(key.max())
        size *= most - least + 1
        if size >= 2**63:
            return np.lexsort(keys[::-1])
        packed = packed * (most - least + 1) + (key - least)
    return np.argsort(packed)


def _latest_before(end: NDArray[np.int64], other: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the latest end of the rows before within the same group, far back for none."""
    far = np.int64(2**31)
    # with the group's number in front, a running maximum begins again at every group
    running = np.maximum.accumulate(np.cumsum(other) * 2 * far + (end + far)) if end.size else end
    before = np.full(end.size, -far)
    before[1:] = running[:-1] % (2 * far) - far
    return np.where(other, -far, before)
