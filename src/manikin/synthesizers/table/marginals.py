"""Marginals: every column by itself, as if nothing depended on anything.

Reference  Reiter, "Using CART to generate partially synthetic public use microdata",
           J. Official Statistics 21 (2005), compares with such draws; the frequencies are those
           of the shared encoder, which keeps nothing that fewer than k subjects hold
Idea       the product of the columns' own distributions: the floor under every other method
Algorithm  1 encode each column (missing marks, spikes, rare levels) · 2 draw each column's code
           from its frequencies, columns that never change once a subject · 3 decode · 4 obey rules
Differs    from a bootstrap of each column in: no rare value and no extreme comes back as it was
Use when   a floor is wanted, or test data that must tell nothing but each column's distribution;
           not when anything between columns matters
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.rules import Rule
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.knowledge import constraints
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release, refuse_budget
from manikin.synthesizer import State, Watch, report, silent
from manikin.synthesizers.table._subjects import RowCounts, settle, static_columns
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["Marginals"]


@dataclass(frozen=True)
class Marginals:
    """Recipe: independent columns."""

    k: int = 5  # fewest subjects that share whatever is kept as it stands

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> MarginalsModel:
        """Learn each column's frequencies."""
        refuse_budget(budget, "table/marginals")
        rules = constraints.learn(data.schema.rules, data, least=self.k)
        report(watch, 0, 1, "encoding")
        encoding = Encoding.fit(data, seed=seed, k=self.k)
        report(watch, 1, 1, "encoding")
        return MarginalsModel(encoding, RowCounts.fit(data.subjects, k=self.k), rules)

    def restore(self, schema: Any, state: State) -> MarginalsModel:
        """Rebuild a model from its state."""
        rules = constraints.rules_from_json(state.values["rules"], schema)
        counts = RowCounts(state.arrays["rows/sizes"], state.arrays["rows/subjects"])
        return MarginalsModel(Encoding.restore(schema, state), counts, rules)


@dataclass(frozen=True)
class MarginalsModel:
    """The frequencies of every column."""

    encoding: Encoding
    row_counts: RowCounts
    rules: tuple[Rule, ...]

    @property
    def schema(self) -> TableSchema:
        """Schema of what it generates."""
        return self.encoding.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was taken from the rows without formal protection."""
        return (NonPrivate("frequencies of each column's values, held by k subjects or more"),)

    def sample(self, n: int, *, seed: int) -> Table:
        """Draw `n` new subjects."""
        if n < 0:
            raise InputError(f"{n} subjects asked for", "none or more", "ask for a positive number")
        table = self._draw(n, seed, 0)
        return constraints.enforce(
            table,
            self.rules,
            rng=generator(seed, "marginals rules"),
            redraw=lambda m, attempt: self._draw(m, seed, 1 + attempt),
            static=self._static(),
        )

    def state(self) -> State:
        """Return what `Marginals.restore` needs."""
        encoded = self.encoding.state()
        rows = {"rows/sizes": self.row_counts.sizes, "rows/subjects": self.row_counts.subjects}
        rules = constraints.rules_to_json(self.rules, self.schema)
        return State({**encoded.arrays, **rows}, {**encoded.values, "rules": rules})

    def _draw(self, n: int, seed: int, attempt: int) -> Table:
        rng = generator(seed, "marginals", attempt)
        subjects = self.row_counts.draw(n, rng)
        codes = np.empty((subjects.size, len(self.encoding.names)), dtype=np.int32)
        for j, cells in enumerate(self.encoding.cells):
            once = self.encoding.static[j] and not self.row_counts.single
            drawn = _codes(cells.counts, n if once else subjects.size, rng)
            codes[:, j] = drawn[subjects] if once else drawn
        table = self.encoding.decode(codes, subjects, seed=int(rng.integers(2**62)))
        return settle(table, self._static())

    def _static(self) -> frozenset[str]:
        return frozenset() if self.row_counts.single else static_columns(self.encoding)


def _codes(counts: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int32]:
    total = np.cumsum(counts)
    return np.searchsorted(total, rng.integers(total[-1], size=size), side="right").astype(np.int32)
