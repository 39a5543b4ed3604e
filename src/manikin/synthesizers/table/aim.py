"""AIM: noisy marginals, each chosen where the model is still most wrong, under a privacy budget.

Reference  McKenna, Mullins, Sheldon and Miklau, "AIM: an adaptive and iterative mechanism for
           differentially private synthetic data", PVLDB 15(11), 2022
Idea       rounds of choosing the marginal that the present model has most wrong, beyond what noise
           would make of it, of counting it with noise, and of fitting the model again
Algorithm  1 count every column with noise (Alg. 1, line 7), and with the outcome, if there is one
           · 2 choose a pair by the exponential mechanism, by how wrong the model has it (eq. 1 and
           2), among those that keep the model small (§5.3) · 3 count it with noise · 4 fit the
           graphical model · 5 where a round changed less than its noise, take two times finer noise
           (§5.2, annealing) · until the budget is spent · 6 draw
Differs    from the paper in: numbers are divided step by step where noisy counts say that rows are;
           what is counted together is counted in as many cells as noise leaves legible, and what it
           shares is shrunk; pairs with the outcome need no choice, and no round is cheaper than a
           legible pair; half of the budget for single columns, fewer and dearer rounds; a subject's
           rows are bounded; any column can be given
Use when   privacy must be guaranteed: the most useful rows for a budget, in a minute or a few;
           not when the table has hundreds of columns (mst), or nothing must be guaranteed
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
        now = fit(rows.sizes, measured, zeros=zeros, cells=self.cells, steps=self.steps)
        pairs = list(combinations(range(len(rows.sizes)), 2))
        least = (private.CLEAR * rows.most_rows / now.total) ** 2 / 2 / (1 - CHOOSING)
        share = 1.0 if private.outcome(prepared) is None else 1 - private.OUTCOME
        more = least <= share * account.left
        measured += private.outcome_pairs(prepared, now, more=more)
        if not more and account.left > 1e-9 * account.rho:
            measured += private.once_more(prepared)
        now = fit(rows.sizes, measured, zeros=zeros, cells=self.cells, start=now, steps=self.steps)
        held = [*(one.columns for one in measured), *(one.columns for one in zeros)]
        base = cells_of(held, rows.sizes)
        begun = account.left
        price = min(begun, max(begun / max(1.0, self.rounds * len(rows.sizes)), least))
        step = 0
        while account.left > 1e-9 * account.rho:
            if account.left < 2 * price:
                price = account.left  # the last round takes what is left
            used = 1 - (account.left - price) / begun
            scopes = {one.columns for one in measured} | {one.columns for one in zeros}
            able = _able(pairs, scopes, rows.sizes, base + used * (self.cells - base))
            if not able:
                return measured + private.once_more(prepared)
            report(watch, step, None, "choosing and counting", left=account.left / begun)
            deviation = rows.most_rows / math.sqrt(2 * (1 - CHOOSING) * price)
            masses = private.singles(now)
            groups = {c: private.coarser(prepared, masses, c, deviation) for c in able}
            chosen = _chosen(prepared, able, now, groups, deviation, CHOOSING * price)
            own = groups[chosen]
            before = grouped(now.marginal(chosen), own)
            measured.append(private.count(prepared, now, chosen, own, (1 - CHOOSING) * price))
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
    pairs: Sequence[tuple[int, int]],
    scopes: set[tuple[int, ...]],
    sizes: tuple[int, ...],
    most: float,
) -> list[tuple[int, int]]:
    """Return the candidates with which the model holds so many numbers at most."""
    tree = junction_tree(list(scopes), sizes)
    cells, now = tree.enlarged(sizes), cells_of(tree.cliques, sizes)
    return [pair for pair in pairs if cells[pair] <= max(most, now)]


def _chosen(
    prepared: Prepared,
    able: Sequence[tuple[int, int]],
    now: Fitted,
    groups: Mapping[tuple[int, int], Groups],
    deviation: float,
    rho: float,
) -> tuple[int, int]:
    """Choose the columns that the model has most wrong, beyond noise (eq. 2)."""
    expected = [grouped(now.marginal(pair), groups[pair]) for pair in able]

    def score(i: int, exact: Any) -> float:
        wrong = float(np.abs(grouped(exact, groups[able[i]]) - expected[i]).sum())
        return wrong - NOISE * deviation * expected[i].size

    at = prepared.rows.choose(
        able, score, sensitivity=1.0, rho=rho, what="columns to count together"
    )
    return able[at]
