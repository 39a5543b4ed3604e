"""Survival: do time-to-event analyses of the synthetic rows reach the real conclusions?

`km_gap`: the mean absolute distance between the Kaplan-Meier curves of synthetic and held-out rows
over follow-up; `optimism`: the same, signed, above 0 where synthetic patients live longer; both as
defined by Norcliffe et al. (SurvivalGAN, AISTATS 2023). `censoring_gap`: how much larger the share
censored is. `c_tstr`, `c_trtr`, `c_gap`: Harrell's C on held-out rows of a Cox model trained on
synthetic and on real rows, and the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.cox import Covariates, concordance, fit_cox
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import subsample
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["survival"]

CARD = Card(
    title="Survival",
    family="utility",
    better="near ceiling",
    reads="Whether synthetic patients have their events when held-out real ones do (km_gap and "
    "optimism, as a share of follow-up: 0 is the same), are censored as often, and teach a Cox "
    "model to rank real patients by risk as well (c_gap: 0 is nothing lost). Any event counts as "
    "the event; the causes of competing risks are not told apart.",
    profile="quick",
)
GRID = 400  # times at which replicates look at a curve; the value itself is exact
ROWS = 20_000  # to train on
TEST = 3_000  # held-out rows whose pairs are compared
DRAWS = 200


@dataclass(frozen=True)
class FollowUp:
    """When each row's follow-up ended, and whether with the event; rows without either left out."""

    table: Table
    time: Floats
    event: NDArray[np.bool_]

    @staticmethod
    def of(table: Table, time: str, event: str) -> FollowUp:
        """Read the two columns; a coded event is any level but the first, a number any above 0."""
        times, events = table.numbers(time), table.numbers(event)
        known = np.isfinite(times) & np.isfinite(events) & (times >= 0)
        kept = table.rows(known)
        return FollowUp(kept, times[known], events[known] > 0)

    @property
    def longest(self) -> Floats:
        """How long each subject is followed, (subjects,): of several rows, the longest."""
        everyone, of_row = np.unique(self.table.subjects, return_inverse=True)
        found = np.zeros(everyone.size)
        np.maximum.at(found, of_row, self.time)
        return found


def survival(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Compare survival curves, censoring and Cox models of synthetic and held-out rows."""
    schema = trial.train.schema
    time, event = schema.holder("time"), schema.holder("event")
    if time is None or event is None or not (time.is_learned and event.is_learned):
        return ()
    rng = generator(seed, "utility/survival")
    real, synthetic, train = (
        FollowUp.of(part, time.name, event.name)
        for part in (trial.holdout, trial.synthetic, trial.train)
    )
    if min(side.time.size for side in (real, synthetic, train)) < 2 or not real.event.any():
        why = "fewer than two rows with follow-up, or no event among the held-out rows"
        return (not_estimable("utility/survival.km_gap", why),)
    dealt = (
        blocks(real.table.subjects, rng, draws=DRAWS),
        blocks(synthetic.table.subjects, rng, draws=DRAWS),
    )
    curves = curve_scores(real, synthetic, dealt)
    censored = _censoring(real, synthetic, dealt)
    return (*curves, censored, *_rankings(real, synthetic, train, {time.name, event.name}, rng))


# ── Kaplan-Meier ───────────────────────────────────────────────────────────────────────────────


def kaplan_meier(time: Floats, event: NDArray[np.bool_], at: Floats) -> Floats:
    """Return the share still without the event just after each of the times `at`, ascending."""
    grid = np.unique(time[event])
    if not grid.size:
        return np.ones(at.shape)
    deaths = np.bincount(np.searchsorted(grid, time[event]), minlength=grid.size)
    at_risk = time.size - np.searchsorted(np.sort(time), grid, side="left")
    curve = np.concatenate([[1.0], np.cumprod(1 - deaths / at_risk)])
    return np.asarray(curve[np.searchsorted(grid, at, side="right")])


def horizon(time: Floats) -> float:
    """Return the last time at which eleven are followed, or all if there are fewer."""
    ordered = np.sort(time)
    return float(ordered[-min(SMALLEST_CELL, ordered.size)])


def curve_scores(
    real: FollowUp, synthetic: FollowUp, dealt: tuple[Blocks, Blocks]
) -> tuple[Score, ...]:
    """Return km_gap and optimism up to where eleven real subjects are still followed."""
    end = horizon(real.longest)
    names = ("utility/survival.km_gap", "utility/survival.optimism")
    if end <= 0:
        return tuple(not_estimable(name, "no follow-up time") for name in names)
    pooled = np.concatenate([real.time[real.event], synthetic.time[synthetic.event]])
    edges = np.unique(np.concatenate([[0.0], pooled[pooled < end], [end]]))
    gaps = kaplan_meier(synthetic.time, synthetic.event, edges[:-1]) - kaplan_meier(
        real.time, real.event, edges[:-1]
    )
    width = np.diff(edges) / end
    if edges.size > GRID:
        edges = np.unique(np.quantile(edges, np.linspace(0, 1, GRID)))
    drawn = replicates(synthetic, dealt[1], edges) - replicates(real, dealt[0], edges)
    step = np.diff(edges) / end
    absolute, signed = float(np.abs(gaps) @ width), float(gaps @ width)
    return (
        Score(names[0], absolute, recentred(absolute, np.abs(drawn) @ step, 0, 1)),
        Score(names[1], signed, recentred(signed, drawn @ step, -1, 1)),
    )


def replicates(side: FollowUp, dealt: Blocks, edges: Floats) -> Floats:
    """Return each replicate's curve just after all `edges` but the last, (draws, edges - 1)."""
    n = edges.size
    last = np.searchsorted(edges, side.time, side="left")  # followed up to this edge
    left = dealt.counts(last, n + 1)
    deaths = dealt.counts(np.where(side.event, last, n + 1), n + 2)[:, :n]
    at_risk = np.cumsum(left[:, ::-1], axis=1)[:, ::-1][:, :n]
    hazard = np.divide(deaths, at_risk, out=np.zeros_like(deaths), where=~(at_risk <= 0))
    return np.asarray(np.cumprod(1 - hazard, axis=1)[:, :-1])


def _censoring(real: FollowUp, synthetic: FollowUp, dealt: tuple[Blocks, Blocks]) -> Score:
    value = float(real.event.mean() - synthetic.event.mean())  # censored is 1 - event
    shares = [
        of.sums(side.event.astype(np.float64)) / np.maximum(of.sums(np.ones(side.event.size)), 1)
        for side, of in zip((real, synthetic), dealt, strict=True)
    ]
    interval = recentred(value, shares[0] - shares[1], -1, 1)
    return Score("utility/survival.censoring_gap", value, interval)


# ── Cox models ─────────────────────────────────────────────────────────────────────────────────


def _rankings(
    real: FollowUp,
    synthetic: FollowUp,
    train: FollowUp,
    leave_out: set[str],
    rng: np.random.Generator,
) -> tuple[Score, ...]:
    """Return the C-index of Cox models trained on synthetic and on real rows, and their gap."""
    names = [f"utility/survival.c_{what}" for what in ("tstr", "trtr", "gap")]
    covariates = Covariates.fit(train.table, frozenset(leave_out))
    index = np.sort(rng.permutation(real.time.size)[:TEST])
    test = real.table.rows(index)
    if not covariates.columns:
        return tuple(not_estimable(name, "no column to predict from") for name in names)
    dealt = blocks(test.subjects, rng, draws=DRAWS)
    found = []
    for source in (synthetic, train):
        table = subsample(source.table, ROWS, rng)
        rows = FollowUp.of(table, *_pair(table))
        risk = covariates.matrix(test) @ fit_cox(
            covariates.matrix(rows.table), rows.time, rows.event
        )
        won, comparable = concordance(real.time[index], real.event[index], risk, dealt)
        value = float(won.sum() / comparable.sum()) if comparable.sum() else math.nan
        draws = [((dealt.weights @ part) * dealt.weights).sum(axis=1) for part in (won, comparable)]
        ratio = np.full(DRAWS, np.nan)
        np.divide(draws[0], draws[1], out=ratio, where=draws[1] > 0)
        found.append((value, ratio))
    if any(math.isnan(value) for value, _ in found):
        return tuple(not_estimable(name, "no two held-out rows to compare") for name in names)
    (tstr, of_tstr), (trtr, of_trtr) = found
    return (
        Score(names[0], tstr, recentred(tstr, of_tstr, 0, 1)),
        Score(names[1], trtr, recentred(trtr, of_trtr, 0, 1)),
        Score(names[2], trtr - tstr, recentred(trtr - tstr, of_trtr - of_tstr, -1, 1)),
    )


def _pair(table: Table) -> tuple[str, str]:
    time, event = table.schema.holder("time"), table.schema.holder("event")
    assert time is not None and event is not None
    return time.name, event.name
