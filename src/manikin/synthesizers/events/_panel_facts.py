"""Static facts as numbers for regressions: the same for real and for drawn subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table

__all__ = ["Facts"]

Floats: TypeAlias = NDArray[np.float64]

MOST_FACTS = 24


@dataclass(frozen=True)
class Fact:
    """One number: whether a column has a level, or how far it is from its mean."""

    column: str
    level: str  # "" for a number
    centre: float
    scale: float


@dataclass(frozen=True)
class Facts:
    """The numbers, in order."""

    each: tuple[Fact, ...]

    @staticmethod
    def fit(table: Table, k: int) -> Facts:
        """Choose levels that enough subjects have, and numbers that enough subjects have."""
        found: list[tuple[float, Fact]] = []
        n = max(1, table.n_rows)
        for column in table.schema.learned:
            if column.is_coded:
                held = np.bincount(table.columns[column.name] + 1, minlength=1)[1:]
                common = int(np.argmax(held)) if held.size else -1
                for code in np.flatnonzero(held >= max(k, 0.02 * n)).tolist():
                    if code != common:
                        share = held[code] / n
                        fact = Fact(column.name, column.categories[code], share,
                                    float(np.sqrt(share * (1 - share)) + 1e-9))  # fmt: skip
                        found.append((share * (1 - share), fact))
            else:
                values = table.numbers(column.name)
                values = values[~np.isnan(values)]
                if values.size >= 4 * k and (scale := float(values.std())) > 1e-9:
                    found.append((1.0, Fact(column.name, "", float(values.mean()), scale)))
        found.sort(key=lambda pair: -pair[0])
        return Facts(tuple(fact for _, fact in found[:MOST_FACTS]))

    def of(self, table: Table) -> Floats:
        """Return the numbers of each row, nought where there is no value: (rows, facts)."""
        columns = []
        for fact in self.each:
            if fact.level:
                names = table.schema[fact.column].categories
                codes = table.columns[fact.column]
                at = names.index(fact.level) if fact.level in names else -2
                value = np.where(codes < 0, 0.0, ((codes == at) - fact.centre) / fact.scale)
            else:
                value = (table.numbers(fact.column) - fact.centre) / fact.scale
                value = np.clip(np.where(np.isnan(value), 0.0, value), -4, 4)
            columns.append(value)
        return np.stack(columns, 1) if columns else np.zeros((table.n_rows, 0))

    def to_json(self) -> list[list[Any]]:
        """Return plain JSON values."""
        return [[fact.column, fact.level, fact.centre, fact.scale] for fact in self.each]

    @staticmethod
    def from_json(entries: Any) -> Facts:
        """Return what `to_json` wrote. Raises ValueError or TypeError for anything else."""
        found = []
        for column, level, centre, scale in entries:
            if not (isinstance(column, str) and isinstance(level, str)):
                raise TypeError
            if not (abs(float(centre)) < 1e15 and 0 < float(scale) < 1e15):
                raise ValueError
            found.append(Fact(column, level, float(centre), float(scale)))
        return Facts(tuple(found))
