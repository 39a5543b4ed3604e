"""How differently one column comes out in the groups of another: the demographic-parity gap.

The largest difference between any two groups in how common any outcome is (Dwork, Hardt, Pitassi,
Reingold & Zemel, "Fairness through awareness", ITCS 2012, sec. 3.1, for statistical parity). A
number is split at the real median. Groups of fewer than 20 real subjects, and outcomes of fewer
than eleven, are left out. The gap of a sample is a little above that of its population, since the
largest of several differences is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.fairness.parity import spread
from manikin.metrics.intervals import Floats, blocks, recentred
from manikin.privacy.cells import SMALLEST_CELL, n_different

__all__ = ["Split", "parity_gap"]

FEWEST = 20  # real subjects of a group


@dataclass(frozen=True)
class Split:
    """The cells of a column: levels that enough real subjects have, or both sides of a median."""

    name: str
    levels: tuple[float, ...]  # codes; of a number (0, 1)
    median: float | None

    @staticmethod
    def fit(real: Table, name: str, fewest: int) -> Split:
        """Decide on the cells by the real rows."""
        values = real.numbers(name)
        coded = real.schema[name].is_coded
        median = None if coded or np.isnan(values).all() else float(np.nanmedian(values))
        cells = Split(name, (), median).of(real)
        present = np.unique(cells[np.isfinite(cells)])
        enough = [v for v in present if n_different(real.subjects[cells == v]) >= fewest]
        return Split(name, tuple(map(float, enough)), median)

    def of(self, table: Table) -> Floats:
        """Return the cell of every row, NaN where there is no value."""
        values = table.numbers(self.name)
        if self.median is None:
            return values
        return np.where(np.isnan(values), np.nan, values > self.median)


def parity_gap(
    table: Table, real: Table, group: str, outcome: str, *, seed: int
) -> tuple[float, tuple[float, float]] | None:
    """Return the gap of `outcome` between groups, and its 95 % interval over subjects.

    None where fewer than two groups or outcomes can be spoken of.
    """
    groups, outcomes = Split.fit(real, group, FEWEST), Split.fit(real, outcome, SMALLEST_CELL)
    whose, what = groups.of(table), outcomes.of(table)
    known: NDArray[np.bool_] = np.isfinite(what)
    members = [(whose == level) & known for level in groups.levels]
    members = [member for member in members if member.any()]
    if len(members) < 2 or len(outcomes.levels) < 2:
        return None
    dealt = blocks(table.subjects, generator(seed, "parity gap"))
    rates = [((what == level).astype(np.float64), known) for level in outcomes.levels]
    value, draws = spread(rates, members, dealt)
    return value, recentred(value, draws, 0.0, 1.0)
