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

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._coded as coded
from manikin.data.table import Table
from manikin.errors import ConditionError
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import refuse_budget
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes

__all__ = ["Marginals"]


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class Marginals:
    """Recipe: independent columns."""

    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer

    def __post_init__(self) -> None:
        check_settings(self, k=(1, math.inf))

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Learn each column's frequencies."""
        refuse_budget(budget, "table/marginals")
        report(watch, 0, 1, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        report(watch, 1, 1, "encoding")
        return learnt.model(Independent(tuple(cells.counts for cells in learnt.encoding.cells)))

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state."""
        arrays, values = coded.saved(state)
        counts = tuple(arrays[f"{j}"] for j in range(values["columns"]))
        return coded.restore(schema, state, Independent(counts))


# ------------------------------------------------------------------ distribution


@dataclass(frozen=True)
class Independent:
    """The product of the columns' own distributions."""

    counts: tuple[NDArray[np.int64], ...]  # a column: (codes,) training rows of each
    name = "marginals"
    released = ()

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        return self.complete(np.full((n, len(self.counts)), -1, np.int32), {}, rng)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known, each by itself."""
        whole = codes.copy()
        for j, counts in enumerate(self.counts):
            open_rows = np.flatnonzero(codes[:, j] < 0)
            share = counts * allowed.get(j, np.ones(counts.size, bool))
            total = np.cumsum(share if share.sum() > 0 else allowed.get(j, np.ones(counts.size)))
            if not total[-1] > 0:
                raise ConditionError("no value is possible", "one or more", "loosen a condition")
            drawn = rng.random(open_rows.size) * total[-1]
            found = np.searchsorted(total, drawn, side="right").clip(max=counts.size - 1)
            whole[open_rows, j] = found
        return whole

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        return {f"{j}": counts for j, counts in enumerate(self.counts)}

    def values(self) -> Mapping[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        return {"columns": len(self.counts)}
