"""MST: noisy counts of single columns and of the pairs of a tree, under a privacy budget.

Reference  McKenna, Miklau and Sheldon, "Winning the NIST contest: a scalable and general approach
           to differentially private synthetic data", J. Privacy and Confidentiality 11(3), 2021
Idea       a few marginals, chosen privately and measured with noise, tell most of a table; one
           graphical model explains them all (§3.1), and rows are drawn from that
Algorithm  1 count every column with noise, merging levels that noise hides (§3.2) · 2 choose pairs
           one after another, each by the exponential mechanism among those that join two parts of
           the tree, by how far it is from what single columns tell (§3.3, Alg. 2) · 3 count the
           chosen pairs with noise · 4 fit the graphical model · 5 draw
Differs    from the paper in: numbers are divided where noisy counts of halved ranges say that rows
           are; pairs are counted in as many cells as noise leaves legible, those with an outcome
           weigh more; half of the budget for single columns; a subject's rows are bounded; any
           column can be given; noise is OpenDP's, over integers
Use when   privacy must be guaranteed and the table is wide, or the budget small;
           not when aim's minutes can be spared, or nothing must be guaranteed
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

import manikin.synthesizers.table._private as private
from manikin.data.table import Table
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import need_budget
from manikin.privacy.rows import Groups, grouped
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._coded import CodedModel
from manikin.synthesizers.table._pgm import Fitted, Measured, fit
from manikin.synthesizers.table._private import NOISE, Prepared

__all__ = ["MST"]

SINGLE, CHOOSING = 0.5, 0.15  # shares of the budget for single columns, and for choosing pairs


@dataclass(frozen=True)
class MST:
    """Recipe: a tree of noisy pairs."""

    needs_budget: ClassVar[bool] = True
    bins: int = 24  # most parts of a number column, and visible levels beside
    most_rows: int = 1  # rows of a subject that count; noise grows with it
    steps: int = 1500  # most steps of fitting the graphical model

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Measure and fit. The noise is secret: the same seed gives another model every time."""
        del seed
        money = need_budget(budget, "table/mst")
        check_settings(self, bins=(2, 256), most_rows=(1, 1000), steps=(1, math.inf))
        report(watch, 0, None, "counting single columns")
        prepared = private.prepare(
            data, money, bins=self.bins, most_rows=self.most_rows, share=SINGLE
        )
        private.tell(prepared, watch)
        sizes = prepared.rows.sizes
        alone = fit(sizes, prepared.measured, zeros=prepared.zeros, steps=self.steps)
        if len(sizes) == 1:
            return private.finish(prepared, alone, "mst")
        account = prepared.account
        rho = (account.left - CHOOSING * account.rho) / (len(sizes) - 1)
        deviation = prepared.rows.most_rows / math.sqrt(2 * rho)
        masses = private.singles(alone)
        groups = {
            pair: private.coarser(prepared, masses, pair, deviation)
            for pair in combinations(range(len(sizes)), 2)
        }
        pairs = _tree(prepared, alone, groups, deviation, watch)
        measured = list(prepared.measured)
        for pair in pairs:
            names = " and ".join(f"'{prepared.encoding.names[j]}'" for j in pair)
            counts = prepared.rows.counts(pair, rho=rho, what=names, groups=groups[pair])
            measured.append(Measured(pair, counts.astype(np.float64), deviation, groups[pair]))
        report(watch, 0, None, "fitting the graphical model")
        whole = fit(sizes, measured, zeros=prepared.zeros, steps=self.steps)
        return private.finish(prepared, whole, "mst")

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state."""
        return private.restore(schema, state, "mst")


def _tree(
    prepared: Prepared,
    alone: Fitted,
    groups: Mapping[tuple[int, int], Groups],
    deviation: float,
    watch: Watch,
) -> list[tuple[int, int]]:
    """Choose the pairs of a spanning tree, one after another (Alg. 2)."""
    rows, d = prepared.rows, len(prepared.rows.sizes)
    part = list(range(d))
    chosen: list[tuple[int, int]] = []
    weights = private.workload(prepared)
    expected = {p: grouped(alone.marginal(p), groups[p]) for p in combinations(range(d), 2)}
    rho = CHOOSING * prepared.account.rho / (d - 1)
    while len(chosen) < d - 1:
        report(watch, len(chosen), d - 1, "choosing pairs")
        able = [pair for pair in expected if part[pair[0]] != part[pair[1]]]

        def score(i: int, exact: Any) -> float:
            told = expected[able[i]]  # noqa: B023
            wrong = float(np.abs(grouped(exact, groups[able[i]]) - told).sum())  # noqa: B023
            return weights[able[i]] * (wrong - NOISE * deviation * told.size)  # noqa: B023

        most = max(weights[pair] for pair in able)
        at = rows.choose(able, score, sensitivity=most, rho=rho, what="a pair of columns")
        i, j = able[at]
        chosen.append((i, j))
        part = [part[i] if p == part[j] else p for p in part]
    return chosen
