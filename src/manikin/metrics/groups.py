"""Groups of patients: by the columns whose role is sensitive or quasi-identifier.

The levels of a coded column that at least eleven training subjects have, commonest first up to a
cap; the training thirds of a number. Everything is decided on training rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.spaces import Codes
from manikin.privacy.cells import SMALLEST_CELL, subjects_per_cell

__all__ = ["GROUPS", "Grouping", "groupings"]

GROUPS = 24  # a column's commonest levels
THIRDS = ("lowest third", "middle third", "highest third")


@dataclass(frozen=True)
class Grouping:
    """How one column parts the patients: by level, or by the thirds of a number."""

    column: str
    labels: tuple[str, ...]
    of_level: Codes | None
    edges: Floats

    def of(self, table: Table) -> Codes:
        """Return every row's group, -1 for none, (rows,)."""
        values = table.numbers(self.column)
        known = np.nan_to_num(values)
        if self.of_level is None:
            found = np.searchsorted(self.edges, known)
        else:
            level = np.clip(known.astype(np.int64), 0, self.of_level.size - 1)
            found = np.where(known < self.of_level.size, self.of_level[level], -1)
        return np.where(np.isnan(values), -1, found).astype(np.int64)


def groupings(train: Table) -> tuple[Grouping, ...]:
    """Return one grouping a column that has such a role and parts the training rows at all."""
    found = []
    for column in train.schema.learned:
        if not {"sensitive", "quasi_identifier"} & set(column.roles):
            continue
        if column.is_coded:
            levels = train.columns[column.name]
            counts = subjects_per_cell(levels, train.subjects, len(column.categories))
            common = np.argsort(-counts, kind="stable")[:GROUPS]
            common = np.sort(common[counts[common] >= SMALLEST_CELL])
            common = common[common < len(column.categories)]
            of_level = np.full(max(1, counts.size), -1, dtype=np.int64)
            of_level[common] = np.arange(common.size)
            labels = tuple(column.categories[k] for k in common)
            if labels:
                found.append(Grouping(column.name, labels, of_level, np.empty(0)))
            continue
        known = train.numbers(column.name)
        known = known[np.isfinite(known)]
        if np.unique(known).size >= 3:
            edges = np.quantile(known, [1 / 3, 2 / 3])
            found.append(Grouping(column.name, THIRDS, None, edges))
    return tuple(found)
