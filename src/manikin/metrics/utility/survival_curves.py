"""Survival curves in depth: follow-up that ends early, life lost, and predicted curves.

short_sightedness   1 - synthetic / real time at which follow-up ends (Norcliffe et al.,
                    SurvivalGAN, AISTATS 2023), above 0: too early. A maximum is somebody's own
                    time: taken instead where eleven held-out subjects are still followed, and as
                    large a share of the synthetic rows
rmst_difference     restricted mean survival time up to there, synthetic - real, in the unit of the
                    time column (Royston and Parmar, BMC Med. Res. Methodol. 2013)
ibs_tstr, _trtr     integrated Brier score, weighted for censoring (Graf et al., Stat. Med. 1999),
                    on held-out rows, of a Cox model trained on synthetic and on real rows, with
                    Breslow's baseline; ibs_gap = TRTR - TSTR
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.cox import Covariates, fit_cox
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import subsample
from manikin.metrics.utility.survival import FollowUp, horizon, kaplan_meier, replicates
from manikin.privacy.cells import n_different

__all__ = ["survival_curves"]

CARD = Card(
    title="Survival curves in depth",
    family="utility",
    better="near ceiling",
    reads="Whether synthetic follow-up ends when real follow-up does (short_sightedness, 0 is the "
    "same, above 0 too early), how much longer synthetic patients live within it "
    "(rmst_difference, in the unit of the time column), and how well a Cox model of synthetic "
    "rows predicts real patients' survival (ibs, a squared error: lower is better). Hazard ratios "
    "are compared under conclusions of standard analyses. Causes of death are not told apart.",
)
ROWS = 8_000  # to train on
TEST = 5_000
GRID = 100  # times at which predicted curves are compared
EDGES = 400  # times at which replicates look at a curve
DRAWS = 200
FEWEST = 20


def survival_curves(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare the length of follow-up, mean survival, and predicted curves."""
    schema = trial.train.schema
    time, event = schema.holder("time"), schema.holder("event")
    if time is None or event is None or not (time.is_learned and event.is_learned):
        return ()
    rng = generator(seed, "utility/survival_curves")
    real, synthetic, train = (
        FollowUp.of(part, time.name, event.name)
        for part in (trial.holdout, trial.synthetic, trial.train)
    )
    name = "utility/survival_curves.short_sightedness"
    if min(n_different(side.table.subjects) for side in (real, synthetic, train)) < FEWEST:
        return (not_estimable(name, f"fewer than {FEWEST} subjects with follow-up"),)
    end = horizon(real.longest)
    left = float((real.time >= end).mean())
    if end <= 0:
        return (not_estimable(name, "no follow-up time"),)
    dealt = [blocks(side.table.subjects, rng, draws=DRAWS) for side in (real, synthetic)]
    return (
        _short_sightedness(real, synthetic, left, dealt),
        _mean_survival(real, synthetic, end, dealt),
        *_brier(real, synthetic, train, end, rng),
    )


# ── Follow-up and mean survival ────────────────────────────────────────────────────────────────


def reach(time: Floats, left: float, weights: Floats | None = None) -> float:
    """Return the last time at which this share of the rows is still followed."""
    order = np.argsort(-time, kind="stable")
    weight = np.ones(time.size) if weights is None else weights[order]
    beyond = np.cumsum(weight)
    at = int(np.searchsorted(beyond, left * beyond[-1] * (1 - 1e-12)))
    return float(time[order][min(at, time.size - 1)])


def _short_sightedness(
    real: FollowUp, synthetic: FollowUp, left: float, dealt: list[Blocks]
) -> Score:
    ends = []
    for side, deal in zip((real, synthetic), dealt, strict=True):
        rows = deal.rows()
        drawn = [reach(side.time, left, row) for row in rows]  # a replicate each, not a row
        ends.append(np.array([reach(side.time, left), *drawn]))
    shares = 1 - ends[1] / np.maximum(ends[0], 1e-300)
    value = float(shares[0])
    interval = recentred(value, shares[1:], high=1)
    return Score("utility/survival_curves.short_sightedness", value, interval)


def mean_survival(time: Floats, event: NDArray[np.bool_], end: float) -> float:
    """Return the area under the Kaplan-Meier curve up to `end`."""
    edges = np.unique(np.concatenate([[0.0], time[event & (time < end)], [end]]))
    return float(kaplan_meier(time, event, edges[:-1]) @ np.diff(edges))


def _mean_survival(real: FollowUp, synthetic: FollowUp, end: float, dealt: list[Blocks]) -> Score:
    means = [mean_survival(side.time, side.event, end) for side in (real, synthetic)]
    value = means[1] - means[0]
    pooled = np.concatenate(
        [side.time[side.event & (side.time < end)] for side in (real, synthetic)]
    )
    edges = np.unique(np.concatenate([[0.0], pooled, [end]]))
    if edges.size > EDGES:
        edges = np.unique(np.quantile(edges, np.linspace(0, 1, EDGES)))
    drawn = [
        replicates(side, deal, edges) @ np.diff(edges)
        for side, deal in zip((real, synthetic), dealt, strict=True)
    ]
    interval = recentred(value, drawn[1] - drawn[0], -end, end)
    return Score("utility/survival_curves.rmst_difference", value, interval)


# ── Predicted curves ───────────────────────────────────────────────────────────────────────────


def _brier(
    real: FollowUp, synthetic: FollowUp, train: FollowUp, end: float, rng: np.random.Generator
) -> tuple[Score, ...]:
    """Return the integrated Brier scores of both Cox models, and their paired gap."""
    names = [f"utility/survival_curves.ibs_{what}" for what in ("tstr", "trtr", "gap")]
    schema = train.table.schema
    time, event = schema.holder("time"), schema.holder("event")
    assert time is not None and event is not None
    covariates = Covariates.fit(train.table, frozenset({time.name, event.name}))
    if not covariates.columns:
        return tuple(not_estimable(name, "no column to predict from") for name in names)
    if not real.event.any():
        return tuple(not_estimable(name, "no event among the held-out rows") for name in names)
    test = FollowUp.of(subsample(real.table, TEST, rng), time.name, event.name)
    grid = np.linspace(0, end, GRID + 1)[1:]
    dealt = blocks(test.table.subjects, rng, draws=DRAWS)
    n = np.maximum(dealt.sums(np.ones(test.time.size)), 1e-300)
    found = []
    for source in (synthetic, train):
        rows = FollowUp.of(subsample(source.table, ROWS, rng), time.name, event.name)
        x = covariates.matrix(rows.table)
        beta = fit_cox(x, rows.time, rows.event)
        hazard = baseline(x @ beta, rows.time, rows.event, grid)
        risk = np.exp(np.clip(covariates.matrix(test.table) @ beta, -30, 30))
        curves = np.exp(-np.minimum(risk[:, None] * hazard[None, :], 700))  # (rows, times)
        errors = brier(curves, test.time, test.event, grid).mean(axis=1)
        found.append((float(errors.mean()), dealt.sums(errors) / n))
    (tstr, of_tstr), (trtr, of_trtr) = found
    gap = trtr - tstr
    if not math.isfinite(gap):
        return tuple(not_estimable(name, "no held-out row to test on") for name in names)
    return (
        Score(names[0], tstr, recentred(tstr, of_tstr, 0)),
        Score(names[1], trtr, recentred(trtr, of_trtr, 0)),
        Score(names[2], gap, recentred(gap, of_trtr - of_tstr)),
    )


def baseline(eta: Floats, time: Floats, event: NDArray[np.bool_], at: Floats) -> Floats:
    """Return Breslow's cumulative hazard of a patient with log risk 0, at the times `at`."""
    deaths = np.unique(time[event])
    if not deaths.size:
        return np.zeros(at.shape)
    order = np.argsort(time, kind="stable")
    risk = np.exp(np.clip(eta, -30, 30))[order]
    at_risk = np.cumsum(risk[::-1])[::-1][np.searchsorted(time[order], deaths)]
    n = np.bincount(np.searchsorted(deaths, time[event]), minlength=deaths.size)
    steps = np.concatenate([[0.0], np.cumsum(n / at_risk)])
    return np.asarray(steps[np.searchsorted(deaths, at, side="right")])


def brier(curves: Floats, time: Floats, event: NDArray[np.bool_], at: Floats) -> Floats:
    """Return every row's weighted squared error at the times `at`, (rows, times).

    Rows that died by then count 1 / G just before their death, rows still followed 1 / G then,
    rows censored before nothing; G is the Kaplan-Meier curve of being followed.
    """
    just_before = np.nextafter(time, -np.inf)
    order = np.argsort(just_before, kind="stable")
    followed = np.empty(time.size)
    followed[order] = kaplan_meier(time, ~event, just_before[order])
    still = np.maximum(kaplan_meier(time, ~event, at), 1e-12)
    died = (time[:, None] <= at[None, :]) & event[:, None]
    alive = time[:, None] > at[None, :]
    for_dead = curves**2 * died / np.maximum(followed, 1e-12)[:, None]
    return np.asarray(for_dead + (1 - curves) ** 2 * alive / still[None, :])
