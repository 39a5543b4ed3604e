"""How many rows a subject has: learned with its longest histories held back, and drawn again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table
from manikin.synthesizers.table._structure import Constant
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["RowCounts", "settle", "static_columns"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RowCounts:
    """The distribution of rows per subject; no count that fewer than `k` subjects reach."""

    sizes: Ints  # (m,) rows of a subject, ascending
    subjects: Ints  # (m,) training subjects that have so many

    @staticmethod
    def fit(subjects: Ints, *, k: int = 5) -> RowCounts:
        """Count rows per subject; the longest histories count as what `k` subjects reach."""
        rows = np.sort(np.unique(subjects, return_counts=True)[1])
        rows = np.minimum(rows, rows[max(rows.size - k, 0)])
        sizes, held = np.unique(rows, return_counts=True)
        return RowCounts(sizes.astype(np.int64), held.astype(np.int64))

    @property
    def single(self) -> bool:
        """Every subject has one row."""
        return bool(self.sizes.max(initial=1) == 1)

    def draw(self, n: int, rng: np.random.Generator) -> Ints:
        """Return whose each row is, (rows,), for `n` new subjects numbered from 0."""
        if self.single:
            return np.arange(n, dtype=np.int64)
        rows = rng.choice(self.sizes, n, p=self.subjects / self.subjects.sum())
        return np.repeat(np.arange(n, dtype=np.int64), rows)


def static_columns(encoding: Encoding) -> frozenset[str]:
    """Return the columns, derived ones included, that never change within a subject."""
    fixed = {name for name, s in zip(encoding.names, encoding.static, strict=True) if s}
    for item in encoding.derived:
        if isinstance(item, Constant) or item.source in fixed:
            fixed.add(item.name)
    fixed -= {name for name, source in encoding.echoes.items() if source not in fixed}
    anchor = encoding.dates.anchor
    if anchor not in fixed:  # an unchanging interval to a changing date is a changing date
        dates = [c.name for c in encoding.schema.learned if c.kind == "datetime"]
        fixed -= {name for name in dates if encoding.dates.hangs_on_anchor(name)}
    return frozenset(fixed)


def settle(table: Table, names: frozenset[str]) -> Table:
    """Give every row of a subject the values of `names` that its first row has."""
    if not names or table.n_rows == 0:
        return table
    _, first, whose = np.unique(table.subjects, return_index=True, return_inverse=True)
    source = first[whose]
    columns = {n: v[source] if n in names else v for n, v in table.columns.items()}
    states = {n: v[source] if n in names else v for n, v in table.states.items()}
    return dataclasses.replace(table, columns=columns, states=states)
