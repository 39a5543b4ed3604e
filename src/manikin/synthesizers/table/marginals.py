"""Marginals: every column by itself, as if nothing depended on anything.

Reference  Reiter, "Using CART to generate partially synthetic public use microdata",
           J. Official Statistics 21 (2005), compares with such draws; the frequencies are those
           of the shared encoder: values that about k subjects hold stand for those of fewer
Idea       the product of the columns' own distributions: the floor under every other method
Algorithm  1 encode each column (missing marks, spikes, rare levels) · 2 draw each column's code
           from its frequencies, columns that never change once a subject · 3 decode · 4 obey rules
           given columns come back as they are; a condition restricts its own column's codes
Differs    from a bootstrap of each column in: no rare value and no extreme comes back as it was
Use when   a floor is wanted, or test data that must tell nothing but each column's distribution;
           not when anything between columns matters
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._given as _given
from manikin.data.dataset import Dataset
from manikin.data.randomness import generator
from manikin.data.rules import Condition, IfThen, Rule
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.knowledge import conditions, constraints
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import NonPrivate, Release, refuse_budget
from manikin.synthesizer import State, Watch, report, silent
from manikin.synthesizers.table._cells import FREQUENCIES
from manikin.synthesizers.table._subjects import RowCounts, settle, static_columns
from manikin.synthesizers.table._where import code_weights
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["Marginals"]

Floats: TypeAlias = NDArray[np.float64]

ROUNDS = 30  # draws, each twice the last, before a condition is called too rare


@dataclass(frozen=True)
class Marginals:
    """Recipe: independent columns."""

    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer

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
        return (NonPrivate(FREQUENCIES),)

    def sample(self, n: int, *, seed: int) -> Table:
        """Draw `n` new subjects."""
        if n < 0:
            raise InputError(f"{n} subjects asked for", "none or more", "ask for a positive number")
        return self._obeying(seed, self.rules, lambda m, attempt: self._draw(m, seed, attempt), n)

    def sample_given(self, given: Dataset, *, seed: int) -> Table:
        """Draw one row for each given row; the columns that are not given do not heed it."""
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "a Table", "build one with Table(…)")
        rng = generator(seed, "marginals given")
        known = _given.known(self.encoding, given, rng)
        drawn = self._codes(given.subjects, {}, rng)
        codes = np.where(known.codes >= 0, known.codes, drawn)
        table = self.encoding.decode(codes, given.subjects, seed=int(rng.integers(2**62)))
        table = _given.put_back(self.encoding, settle(table, self._static()), known)
        fixed = frozenset(known.table.columns)
        return constraints.enforce(table, self.rules, rng=rng, fixed=fixed)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Table:
        """Draw `n` new subjects for whom every condition holds.

        Raises ConditionError when none can.
        """
        checked = tuple(conditions.check(condition, self.schema) for condition in where)
        wanted = IfThen((), checked)
        constraints.check_rules(self.schema, (*self.rules, wanted))
        weights = code_weights(checked, self.encoding)

        def draw(m: int, attempt: int) -> Table:
            return self._draw_where(m, checked, weights, seed, attempt)

        return self._obeying(seed, (*self.rules, wanted), draw, n)

    def state(self) -> State:
        """Return what `Marginals.restore` needs."""
        encoded = self.encoding.state()
        rows = {"rows/sizes": self.row_counts.sizes, "rows/subjects": self.row_counts.subjects}
        rules = constraints.rules_to_json(self.rules, self.schema)
        return State({**encoded.arrays, **rows}, {**encoded.values, "rules": rules})

    def _draw(
        self, n: int, seed: int, attempt: int, weights: Mapping[int, Floats] | None = None
    ) -> Table:
        rng = generator(seed, "marginals", attempt)
        subjects = self.row_counts.draw(n, rng)
        codes = self._codes(subjects, weights or {}, rng)
        table = self.encoding.decode(codes, subjects, seed=int(rng.integers(2**62)))
        return settle(table, self._static())

    def _draw_where(
        self,
        n: int,
        where: tuple[Condition, ...],
        weights: Mapping[int, Floats],
        seed: int,
        attempt: int,
    ) -> Table:
        """Draw from the allowed codes until `n` subjects satisfy what codes alone cannot tell."""
        found = [self._draw(0, seed, attempt)]
        missing, tried, size = n, 0, max(2 * n, 100)
        while missing and tried < ROUNDS:
            fresh = self._draw(size, seed, ROUNDS * (1 + attempt) + tried, weights)
            wrong = fresh.subjects[~conditions.all_hold(where, fresh)]
            right = np.setdiff1d(np.arange(size), wrong)[:missing]
            chosen = fresh.take(right)
            number = n - missing + np.searchsorted(right, chosen.subjects)
            found.append(dataclasses.replace(chosen, subjects=number))
            missing, tried = missing - right.size, tried + 1
            size = min(2 * size, 50_000)
        if missing:
            raise ConditionError(
                f"only {n - missing} subjects satisfied the conditions",
                "conditions that a fair share of subjects can satisfy",
                "loosen the conditions, or ask for fewer subjects",
            )
        return Table.concatenate(found)

    def _codes(
        self,
        subjects: NDArray[np.int64],
        weights: Mapping[int, Floats],
        rng: np.random.Generator,
    ) -> NDArray[np.int32]:
        """Draw the codes of rows, one draw a subject where a column never changes."""
        everyone, whose = np.unique(subjects, return_inverse=True)
        codes = np.empty((subjects.size, len(self.encoding.names)), dtype=np.int32)
        for j, cells in enumerate(self.encoding.cells):
            share = cells.counts * weights.get(j, np.ones(cells.size))
            once = self.encoding.static[j] and not self.row_counts.single
            total = np.cumsum(share if share.sum() > 0 else np.ones(cells.size))
            drawn = rng.random(everyone.size if once else subjects.size) * total[-1]
            picked = np.searchsorted(total, drawn, side="right").clip(max=cells.size - 1)
            codes[:, j] = picked[whose] if once else picked
        return codes

    def _obeying(
        self, seed: int, rules: tuple[Rule, ...], draw: constraints.Redraw, n: int
    ) -> Table:
        return constraints.enforce(
            draw(n, 0),
            rules,
            rng=generator(seed, "marginals rules"),
            redraw=lambda m, attempt: draw(m, 1 + attempt),
            static=self._static(),
        )

    def _static(self) -> frozenset[str]:
        return frozenset() if self.row_counts.single else static_columns(self.encoding)
