"""A small Cox model with a ridge, and Harrell's C: the learner of the survival judge.

Cox, J. R. Stat. Soc. B 1972; ties after Breslow; the ridge of Verweij and van Houwelingen
(Stat. Med. 1994). C: Harrell et al., JAMA 1982.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.table import Table
from manikin.metrics.intervals import Blocks, Floats
from manikin.metrics.spaces import Bins

__all__ = ["Covariates", "concordance", "fit_cox"]

LEVELS = 8  # of a coded column that have an indicator of their own
RIDGE = 0.01  # penalty a row and standardised covariate
STEPS = 25


@dataclass(frozen=True)
class Covariates:
    """Columns as standardised numbers: indicators of frequent levels, numbers, absence."""

    columns: tuple[str, ...]
    bins: Bins
    centre: Mapping[str, tuple[float, float, float, float]]  # lowest, highest, mean, deviation

    @staticmethod
    def fit(train: Table, leave_out: frozenset[str]) -> Covariates:
        """Learn levels, means and deviations from the training rows."""
        centre = {}
        names = tuple(c.name for c in train.schema.learned if c.name not in leave_out)
        for name in names:
            if not train.schema[name].is_coded:
                values = train.numbers(name)
                values = values[np.isfinite(values)]
                if values.size:
                    low, high = np.quantile(values, [0.005, 0.995])
                    cut = np.clip(values, low, high)
                    centre[name] = (float(low), float(high), float(cut.mean()), float(cut.std()))
        return Covariates(names, Bins.fit(train, most_levels=LEVELS), centre)

    def matrix(self, table: Table) -> Floats:
        """Return the covariates, (rows, covariates)."""
        found = []
        for name in self.columns:
            if table.schema[name].is_coded:
                cells = self.bins.codes(table, name)
                found += [(cells == k).astype(np.float64) for k in range(self.bins.sizes[name])]
                continue
            values = table.numbers(name)
            low, high, mean, deviation = self.centre.get(name, (0.0, 0.0, 0.0, 0.0))
            scaled = (
                (np.clip(values, low, high) - mean) / deviation if deviation > 0 else 0 * values
            )
            found += [np.where(np.isnan(values), 0, scaled), np.isnan(values).astype(np.float64)]
        return np.column_stack(found) if found else np.zeros((table.n_rows, 0))


def fit_cox(
    covariates: Floats, time: Floats, event: NDArray[np.bool_], *, ridge: float = RIDGE
) -> Floats:
    """Return the coefficients of the largest penalised partial likelihood (Newton's method)."""
    order = np.argsort(-time, kind="stable")  # latest first, so that risk sets are prefixes
    x, t, d = covariates[order], time[order], event[order].astype(np.float64)
    n, p = x.shape
    beta = np.zeros(p)
    # the risk set of a time holds all that tie with it: read sums at the end of its tie
    last = np.searchsorted(-t, -t, side="right") - 1
    penalty = ridge * max(1.0, d.sum())
    best = -np.inf
    step = np.zeros(p)
    for _ in range(STEPS):
        eta = np.clip(x @ beta, -30, 30)
        risk = np.exp(eta)
        total = np.cumsum(risk)[last]  # (rows,)
        fitness = float(d @ (eta - np.log(total)) - penalty * beta @ beta / 2)
        if fitness < best - 1e-9:  # overshot: halve the step
            step /= 2
            beta -= step
            continue
        if fitness - best < 1e-7 * max(1.0, abs(fitness)):
            break
        best = fitness
        mean = np.cumsum(risk[:, None] * x, axis=0)[last] / total[:, None]
        gradient = d @ (x - mean) - penalty * beta
        # Σ over events of Σ over their risk set = Σ over rows of the hazard up to their time
        share = np.bincount(last, d / total, minlength=n)
        hazard = np.cumsum(share[::-1])[::-1]
        hessian = (x * (risk * hazard)[:, None]).T @ x - (mean * d[:, None]).T @ mean
        step = np.linalg.solve(hessian + penalty * np.eye(p), gradient)
        beta = beta + step
    return beta


def concordance(
    time: Floats, event: NDArray[np.bool_], risk: Floats, dealt: Blocks
) -> tuple[Floats, Floats]:
    """Return the concordant and the comparable pairs of every two blocks, (blocks, blocks).

    A pair is comparable where the earlier time is an event; it is concordant where that row has
    the higher risk, half so where risks tie.
    """
    won = np.zeros((dealt.n, dealt.n))
    comparable = np.zeros((dealt.n, dealt.n))
    member = np.zeros((time.size, dealt.n), dtype=np.float32)
    member[np.arange(time.size), dealt.of_row] = 1
    for rows in np.array_split(np.flatnonzero(event), max(1, int(event.sum()) // 500)):
        later = (time[rows, None] < time[None, :]) | (
            (time[rows, None] == time[None, :]) & ~event[None, :]
        )
        better = (risk[rows, None] > risk[None, :]) + 0.5 * (risk[rows, None] == risk[None, :])
        pairs = member[rows].T @ np.stack([later * better, later]).astype(np.float32)
        won += pairs[0] @ member
        comparable += pairs[1] @ member
    return won, comparable
