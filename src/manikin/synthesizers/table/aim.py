"""AIM: noisy marginals, each chosen where the model is still most wrong, under a privacy budget.

Reference  McKenna, Mullins, Sheldon and Miklau, "AIM: an adaptive and iterative mechanism for
           differentially private synthetic data", PVLDB 15(11), 2022
Idea       rounds of choosing the marginal that the present model has most wrong, beyond what noise
           would make of it, of counting it with noise, and of fitting the model again
Algorithm  1 count every column with noise (Alg. 1, line 7) · 2 choose a pair by the
           exponential mechanism, weighted by what it is worth (eq. 1 and 2),
           among those that keep the model small (§5.3) · 3 count it with noise · 4 fit the
           graphical model · 5 where a round changed less than its noise, take two times finer noise
           (§5.2, annealing) · until the budget is spent · 6 draw
Differs    from the paper in: numbers are divided where noisy counts of halved ranges say that rows
           are; what is counted together is counted in as many cells as noise leaves legible;
           columns of roles (target, time, event) weigh more; half of the budget for single columns,
           fewer and dearer rounds at first; a subject's rows are bounded; any column can be given
Use when   privacy must be guaranteed: the most useful rows for a budget, in a minute or a few;
           not when the table has hundreds of columns (mst), or nothing must be guaranteed
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import manikin.synthesizers.table._private as private
from manikin.data.table import Table
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import need_budget
from manikin.privacy.rows import Groups, grouped
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._coded import CodedModel
from manikin.synthesizers.table._pgm import (
    Fitted,
    Measured,
    affordable,
    cells_of,
    fit,
    junction_tree,
)
from manikin.synthesizers.table._private import NOISE, Prepared

__all__ = ["AIM"]

SINGLE = 0.5  # share of the budget for single columns
CHOOSING = 0.1  # share of a round's budget for choosing (the paper's 1 - α)


@dataclass(frozen=True)
class AIM:
    """Recipe: adaptive noisy marginals."""

    needs_budget: ClassVar[bool] = True
    bins: int = 24  # most parts of a number column, and visible levels beside
    rounds: float = 1.0  # rounds a column that the budget is first divided into (16 in the paper)
    cells: int = 200_000  # most numbers that the graphical model may hold
    most_rows: int = 1  # rows of a subject that count; noise grows with it
    steps: int = 1500  # most steps of the last fit of the graphical model; a tenth in each round

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Measure and fit. The noise is secret: the same seed gives another model every time."""
        del seed
        money = need_budget(budget, "table/aim")
        check_settings(
            self, bins=(2, 256), rounds=(0.1, 100), cells=(1000, 10_000_000),
            most_rows=(1, 1000), steps=(1, math.inf),
        )  # fmt: skip
        report(watch, 0, None, "counting single columns")
        prepared = private.prepare(
            data, money, bins=self.bins, most_rows=self.most_rows, share=SINGLE
        )
        private.tell(prepared, watch)
        measured = self._rounds(prepared, watch)
        report(watch, 0, None, "fitting the graphical model")
        whole = fit(
            prepared.rows.sizes, measured,
            zeros=prepared.zeros, cells=self.cells, steps=self.steps,
        )  # fmt: skip
        return private.finish(prepared, whole, "aim")

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state."""
        return private.restore(schema, state, "aim")

    def _rounds(self, prepared: Prepared, watch: Watch) -> list[Measured]:
        """Choose, count and fit until the budget is spent."""
        rows, account = prepared.rows, prepared.account
        measured = list(prepared.measured)
        zeros = affordable((), prepared.zeros, rows.sizes, self.cells / 2)
        base = cells_of([one.columns for one in zeros], rows.sizes)
        now = fit(rows.sizes, measured, zeros=zeros, cells=self.cells, steps=self.steps)
        weights = private.workload(prepared)
        begun = account.left
        price = begun / max(1.0, self.rounds * len(rows.sizes))
        step = 0
        while account.left > 1e-9 * account.rho and weights:
            if account.left < 2 * price:
                price = account.left  # the last round takes what is left
            used = 1 - (account.left - price) / begun
            scopes = {one.columns for one in measured} | {one.columns for one in zeros}
            able = self._able(weights, scopes, rows.sizes, base + used * (self.cells - base))
            if not able:
                break
            report(watch, step, None, "choosing and counting", left=account.left / begun)
            deviation = rows.most_rows / math.sqrt(2 * (1 - CHOOSING) * price)
            masses = private.singles(now)
            groups = {c: private.coarser(prepared, masses, c, deviation) for c in able}
            chosen = _chosen(prepared, able, now, groups, deviation, CHOOSING * price)
            own = groups[chosen]
            names = " and ".join(f"'{prepared.encoding.names[j]}'" for j in chosen)
            counts = rows.counts(chosen, rho=(1 - CHOOSING) * price, what=names, groups=own)
            before = grouped(now.marginal(chosen), own)
            measured.append(Measured(chosen, counts.astype(np.float64), deviation, own))
            now = fit(
                rows.sizes, measured, zeros=zeros, cells=self.cells,
                start=now, steps=max(1, self.steps // 10),
            )  # fmt: skip
            moved = float(np.abs(grouped(now.marginal(chosen), own) - before).sum())
            if moved <= NOISE * deviation * before.size:
                price *= 4  # noise half as large
            step += 1
        return measured

    def _able(
        self,
        weights: Mapping[tuple[int, ...], float],
        scopes: set[tuple[int, ...]],
        sizes: tuple[int, ...],
        most: float,
    ) -> dict[tuple[int, ...], float]:
        """Return the candidates with which the model holds so many numbers at most."""
        tree = junction_tree(list(scopes), sizes)
        cells, now = tree.enlarged(sizes), cells_of(tree.cliques, sizes)
        return {pair: w for pair, w in weights.items() if cells[pair] <= max(most, now)}


def _chosen(
    prepared: Prepared,
    able: Mapping[tuple[int, ...], float],
    now: Fitted,
    groups: Mapping[tuple[int, ...], Groups],
    deviation: float,
    rho: float,
) -> tuple[int, ...]:
    """Choose the columns that the model has most wrong, beyond noise (eq. 2)."""
    candidates = list(able)
    expected = [grouped(now.marginal(columns), groups[columns]) for columns in candidates]

    def score(i: int, exact: Any) -> float:
        wrong = float(np.abs(grouped(exact, groups[candidates[i]]) - expected[i]).sum())
        return able[candidates[i]] * (wrong - NOISE * deviation * expected[i].size)

    at = prepared.rows.choose(
        candidates, score, sensitivity=max(able.values()), rho=rho, what="columns to count together"
    )
    return candidates[at]
