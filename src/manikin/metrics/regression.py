"""Means, linear, logistic and Cox models with errors that hold when a subject has many rows.

Every fit comes with the influence of each row: how far the estimate moves with that row's weight.
Errors are their sums by subject, squared (Huber 1967; White, Econometrica 1980; Liang and Zeger,
Biometrika 1986; for Cox models Lin and Wei, JASA 1989), and bootstrap replicates cost one matrix
product instead of as many fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from manikin.metrics.cox import fit_cox
from manikin.metrics.intervals import Blocks, Floats

__all__ = ["Fit", "cox", "linear", "logistic", "means"]

STEPS = 30
WEAK = 0.1  # prior precision of a logistic coefficient: keeps separated data finite, else unseen
TINY = 1e-7  # ridge a row of linear models, on standardised covariates
COX = 1e-4  # ridge an event and covariate


@dataclass(frozen=True)
class Fit:
    """Estimates, their standard errors, and each row's influence; NaN where not estimable."""

    value: Floats  # (p,)
    error: Floats  # (p,)
    influence: Floats  # (rows, p)

    def draws(self, dealt: Blocks) -> Floats:
        """Return the estimates in every bootstrap replicate, to first order, (draws, p)."""
        of_block = _summed(self.influence, dealt.of_row, dealt.n)
        return np.asarray(self.value + (dealt.weights - 1) @ of_block)


def means(values: Floats, subjects: NDArray[np.int64]) -> Fit:
    """Return the mean of every column over the rows that have a value."""
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    filled = np.where(known, values, 0.0)
    value = np.where(n > 0, filled.sum(axis=0) / np.maximum(n, 1), np.nan)
    influence = np.where(known, filled - value, 0.0) / np.maximum(n, 1)
    return _fit(value, influence, subjects)


def linear(x: Floats, y: Floats, subjects: NDArray[np.int64]) -> Fit:
    """Regress a number on covariates (rows, p) and an intercept, which is not returned."""
    varies = _varying(x)
    design = np.column_stack([np.ones(y.size), x[:, varies]])
    ridge = TINY * y.size * np.eye(design.shape[1])
    ridge[0, 0] = 0
    bread = np.linalg.inv(design.T @ design + ridge)
    beta = bread @ (design.T @ y)
    influence = (design * (y - design @ beta)[:, None]) @ bread
    return _spread(beta[1:], influence[:, 1:], varies, subjects)


def logistic(x: Floats, y: NDArray[np.bool_], subjects: NDArray[np.int64]) -> Fit:
    """Regress yes or no on covariates (rows, p) and an intercept, which comes first here.

    Nothing is estimable of one class. Newton's method on a weakly penalised likelihood.
    """
    varies = np.concatenate([[True], _varying(x)])
    if y.size == 0 or y.all() or not y.any():
        return _spread(np.empty(0), np.empty((y.size, 0)), np.zeros_like(varies), subjects)
    design = np.column_stack([np.ones(y.size), x])[:, varies]
    penalty = WEAK * np.eye(design.shape[1])
    penalty[0, 0] = 0
    truth = y.astype(np.float64)
    beta, step, best = np.zeros(varies.sum()), np.zeros(varies.sum()), -np.inf
    beta[0] = np.log(truth.mean() / (1 - truth.mean()))
    for _ in range(STEPS):
        eta = np.clip(design @ beta, -35, 35)
        fitness = float(truth @ eta - np.logaddexp(0, eta).sum() - beta @ penalty @ beta / 2)
        if fitness < best - 1e-9:  # overshot: halve the step
            step /= 2
            beta -= step
            continue
        if fitness - best < 1e-9 * max(1.0, abs(fitness)):
            break
        best = fitness
        p = 1 / (1 + np.exp(-eta))
        hessian = (design * (p * (1 - p))[:, None]).T @ design + penalty
        hessian += 1e-12 * np.eye(beta.size)
        step = np.linalg.solve(hessian, design.T @ (truth - p) - penalty @ beta)
        beta += step
    p = 1 / (1 + np.exp(-np.clip(design @ beta, -35, 35)))
    hessian = (design * (p * (1 - p))[:, None]).T @ design + penalty
    bread = np.linalg.inv(hessian + 1e-12 * np.eye(beta.size))
    influence = (design * (truth - p)[:, None]) @ bread
    return _spread(beta, influence, varies, subjects)


def cox(x: Floats, time: Floats, event: NDArray[np.bool_], subjects: NDArray[np.int64]) -> Fit:
    """Return log hazard ratios; nothing is estimable without events."""
    varies = _varying(x)
    if not event.any() or not varies.any():
        return _spread(
            np.empty(0), np.empty((time.size, 0)), np.zeros(x.shape[1], np.bool_), subjects
        )
    beta = fit_cox(x[:, varies], time, event, ridge=COX)
    order = np.argsort(-time, kind="stable")  # latest first, so that risk sets are prefixes
    z, t, d = x[order][:, varies], time[order], event[order].astype(np.float64)
    last = np.searchsorted(-t, -t, side="right") - 1
    risk = np.exp(np.clip(z @ beta, -30, 30))
    total = np.cumsum(risk)[last]
    mean = np.cumsum(risk[:, None] * z, axis=0)[last] / total[:, None]  # (rows, p)
    # hazard up to a row's own time: events that came no later, which stand at `first` and after
    first = np.searchsorted(-t, -t, side="left")
    hazard = np.cumsum((d / total)[::-1])[::-1][first]
    weighted = np.cumsum((mean * (d / total)[:, None])[::-1], axis=0)[::-1][first]
    score = d[:, None] * (z - mean) - risk[:, None] * (z * hazard[:, None] - weighted)
    information = (z * (risk * hazard)[:, None]).T @ z - (mean * d[:, None]).T @ mean
    information += COX * max(1.0, float(d.sum())) * np.eye(beta.size)
    influence = np.empty_like(score)
    influence[order] = np.linalg.solve(information, score.T).T
    return _spread(beta, influence, varies, subjects)


def _varying(x: Floats) -> NDArray[np.bool_]:
    """Return which columns take more than one value."""
    if not x.shape[0]:
        return np.zeros(x.shape[1], dtype=np.bool_)
    return np.asarray(np.ptp(x, axis=0) > 1e-12)


def _spread(
    beta: Floats, influence: Floats, where: NDArray[np.bool_], subjects: NDArray[np.int64]
) -> Fit:
    """Return the fit with NaN in the places of what was not estimated."""
    value = np.full(where.size, np.nan)
    value[where] = beta
    wide = np.full((subjects.size, where.size), np.nan)
    wide[:, where] = influence
    return _fit(value, wide, subjects)


def _fit(value: Floats, influence: Floats, subjects: NDArray[np.int64]) -> Fit:
    everyone, of_row = np.unique(subjects, return_inverse=True)
    sums = influence
    if everyone.size < subjects.size:
        sums = _summed(influence, of_row, everyone.size)
    if everyone.size < 2:
        return Fit(value, np.full(value.size, np.nan), influence)
    variance = everyone.size / (everyone.size - 1) * np.sum(sums**2, axis=0)
    return Fit(value, np.where(np.isnan(value), np.nan, np.sqrt(variance)), influence)


def _summed(values: Floats, group: NDArray[np.intp], n: int) -> Floats:
    """Return the sums of rows (rows, p) by group, (n, p)."""
    rows = np.arange(group.size)
    member = sparse.csr_array((np.ones(group.size), (group, rows)), shape=(n, group.size))
    return np.asarray(member @ values)
