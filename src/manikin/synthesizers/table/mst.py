"""MST: noisy counts of single columns and of the pairs of a tree, under a privacy budget.

Reference  McKenna, Miklau and Sheldon, "Winning the NIST contest: a scalable and general approach
           to differentially private synthetic data", J. Privacy and Confidentiality 11(3), 2021
Idea       a few marginals, chosen privately and measured with noise, tell most of a table; one
           graphical model explains them all (§3.1), and rows are drawn from that
Algorithm  1 count every column with noise, merging levels that noise hides (§3.2) · 2 count every
           column with the outcome, if there is one · 3 choose other pairs one after another, each
           by the exponential mechanism among those that join two parts of a tree, by how far it is
           from what is known so far (§3.3, Alg. 2) · 4 count the chosen pairs with noise
           · 5 fit the graphical model · 6 draw
Differs    from the paper in: numbers are divided step by step where noisy counts say that rows are;
           pairs are counted in as many cells as noise leaves legible, and what they share is
           shrunk; pairs with the outcome need no choice, and others are left out where noise would
           hide them; half of the budget for single columns; a subject's rows are bounded; any
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
from manikin.synthesizers.table._net_search import MAX_CLIQUE
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
        measured = [*prepared.measured, *self._pairs(prepared, alone, watch)]
        report(watch, 0, None, "fitting the graphical model")
        whole = fit(sizes, measured, zeros=prepared.zeros, steps=self.steps)
        return private.finish(prepared, whole, "mst")

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state."""
        return private.restore(schema, state, "mst")

    def _pairs(self, prepared: Prepared, alone: Fitted, watch: Watch) -> list[Measured]:
        """Count the pairs with the outcome, and those of a tree where noise leaves them clear."""
        account, sizes, hub = prepared.account, alone.sizes, private.outcome(prepared)
        free = [j for j in range(len(sizes)) if j != hub]
        able = [
            pair
            for pair in combinations(free, 2)
            if math.prod(sizes[j] for j in {hub, *pair} if j is not None) <= MAX_CLIQUE
        ]
        share = 1.0 if hub is None else 1 - private.OUTCOME
        most = max(1, len(free) - 1)
        deviation = _deviation(prepared, share * (1 - CHOOSING) * account.left / most)
        more = bool(able) and alone.total >= private.CLEAR * deviation
        found = private.outcome_pairs(prepared, alone, more=more)
        if not more:
            return found or private.once_more(prepared)
        measured = [*prepared.measured, *found]
        now = fit(sizes, measured, zeros=prepared.zeros, start=alone, steps=max(1, self.steps // 4))
        masses = private.singles(now)
        groups = {pair: private.coarser(prepared, masses, pair, deviation) for pair in able}
        pairs = _tree(prepared, now, groups, deviation, watch)
        rho = account.left / len(pairs)
        return found + [private.count(prepared, now, pair, groups[pair], rho) for pair in pairs]


def _deviation(prepared: Prepared, rho: float) -> float:
    return prepared.rows.most_rows / math.sqrt(2 * rho)


def _tree(
    prepared: Prepared,
    now: Fitted,
    groups: Mapping[tuple[int, int], Groups],
    deviation: float,
    watch: Watch,
) -> list[tuple[int, int]]:
    """Choose pairs that join the parts of a tree, one after another (Alg. 2)."""
    rows = prepared.rows
    part = list(range(len(rows.sizes)))
    chosen: list[tuple[int, int]] = []
    expected = {pair: grouped(now.marginal(pair), own) for pair, own in groups.items()}
    told: dict[tuple[int, int], float] = {}  # scores, which no choice changes
    most = len({j for pair in groups for j in pair}) - 1
    rho = CHOOSING * prepared.account.left / most
    while able := [pair for pair in expected if part[pair[0]] != part[pair[1]]]:
        report(watch, len(chosen), most, "choosing pairs")

        def score(i: int, exact: Any) -> float:
            pair = able[i]
            if pair not in told:
                wrong = float(np.abs(grouped(exact, groups[pair]) - expected[pair]).sum())
                told[pair] = wrong - NOISE * deviation * expected[pair].size
            return told[pair]

        at = rows.choose(able, score, sensitivity=1.0, rho=rho, what="a pair of columns")
        i, j = able[at]
        chosen.append((i, j))
        part = [part[i] if p == part[j] else p for p in part]
    return chosen
