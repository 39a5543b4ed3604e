"""Effects: would an analyst of synthetic rows find the treatment effect that is there?

Measured on cohorts whose effects are known (`metrics/known_truth.py`), never claimed of real data:

ate_bias     estimated minus true average effect; the mean over repeats
ate_error    the root of its mean square: bias and spread together
ate_covered  how often the nominal 95 % interval of one copy, read as if it were real, holds the
             truth
pehe         precision in estimating heterogeneous effects (Hill, J. Comput. Graph. Stat. 2011):
             root mean square of estimated minus true effect over new patients of the population

The average effect is the doubly robust one (AIPW: Robins, Rotnitzky and Zhao, JASA 1994), a
patient's the difference of one regression an arm. Their models are those that the truth was written
in, so that what is wrong comes from the rows. Ceiling: fresh rows of the population; floor: the
real rows with independent columns. No metric of one trial: it needs the generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.metrics.controls import independent
from manikin.metrics.intervals import Floats, share
from manikin.metrics.known_truth import KnownTruth
from manikin.metrics.regression import logistic
from manikin.metrics.score import Score, not_estimable
from manikin.metrics.validity.coverage import Refit

__all__ = ["Effect", "Effects", "effects", "estimate", "of_table"]

FEWEST = 20  # complete rows an arm
SURE = 0.02  # chances of treatment beyond are taken for this one: no row weighs more than fifty
PATIENTS = 5_000  # new ones, whose effects are predicted
Z = 1.959963984540054
NAMES = ("ate_bias", "ate_error", "ate_covered", "pehe")


@dataclass(frozen=True)
class Effect:
    """What one table says: the average effect, its error, and the regression of effects.

    All NaN where an arm has too few rows with every value.
    """

    average: float
    error: float
    slopes: Floats  # (1 + covariates,): intercept first

    def of(self, x: Floats) -> Floats:
        """Return the effect on patients with these covariates (rows, p), (rows,)."""
        return np.asarray(self.slopes[0] + x @ self.slopes[1:])


def estimate(x: Floats, treated: Floats, outcome: Floats) -> Effect:
    """Estimate the effect of `treated` (0 or 1) on `outcome`, given covariates (rows, p).

    Rows that lack any value take no part; one row is taken for one subject.
    """
    known = np.isfinite(x).all(axis=1) & np.isfinite(treated) & np.isfinite(outcome)
    x, t, y = x[known], treated[known], outcome[known]
    if min(int((t == arm).sum()) for arm in (0, 1)) < FEWEST:
        return Effect(math.nan, math.nan, np.full(1 + x.shape[1], math.nan))
    design = np.column_stack([np.ones(y.size), x])
    # least norm where a covariate does not vary within an arm
    arms = [np.linalg.lstsq(design[t == arm], y[t == arm], rcond=None)[0] for arm in (0, 1)]
    without, with_it = (design @ beta for beta in arms)
    chance = np.clip(_chance(x, t), SURE, 1 - SURE)
    gained = with_it - without
    gained += t * (y - with_it) / chance - (1 - t) * (y - without) / (1 - chance)
    error = float(gained.std(ddof=1)) / math.sqrt(y.size)
    return Effect(float(gained.mean()), error, arms[1] - arms[0])


def _chance(x: Floats, treated: Floats) -> Floats:
    """Return the chance of treatment given covariates, by logistic regression."""
    fit = logistic(x, treated > 0.5, np.arange(treated.size))
    beta = np.nan_to_num(fit.value)  # of a covariate that does not vary
    return np.asarray(1 / (1 + np.exp(-np.clip(beta[0] + x @ beta[1:], -35, 35))))


@dataclass(frozen=True)
class Effects:
    """Repeats of the simulation: what each found of the average effect and of patients' own."""

    truth: float
    synthetic: Floats  # (repeats, 3): average, its error, PEHE; NaN where not estimable
    fresh: Floats
    floor: Floats

    def scores(self) -> tuple[Score, ...]:
        """Return the four numbers with intervals over repeats, floor and ceiling."""
        found = []
        sides = [_measured(part, self.truth) for part in (self.synthetic, self.floor, self.fresh)]
        estimable = np.isfinite(self.synthetic).all(axis=1)
        for what in NAMES:
            name = f"validity/effects.{what}"
            if estimable.sum() < max(2, estimable.size / 2):
                why = f"fewer than {FEWEST} complete synthetic rows an arm in most repeats"
                found.append(not_estimable(name, why))
                continue
            note = "" if estimable.all() else (
                f"not estimable in {int((~estimable).sum())} of {estimable.size} repeats"
            )  # fmt: skip
            value, interval = sides[0][what]
            ends = (side[what][0] for side in sides[1:])
            low, high = (None if math.isnan(end) else end for end in ends)
            found.append(Score(name, value, interval, low, high, note=note))
        return tuple(found)


def effects(
    refit: Refit, world: KnownTruth, *, n: int = 1000, repeats: int = 20, seed: int
) -> Effects:
    """Simulate: draw `n` patients, fit, draw a copy, and estimate effects from it.

    `refit` fits a generator to rows under a seed and returns what draws a copy for a seed. Raises
    InputError for fewer than two repeats, or patients too few for two arms.
    """
    if repeats < 2 or n < 4 * FEWEST:
        raise InputError(
            f"{repeats} repeats of {n} patients",
            f"at least 2 repeats, better 20, of at least {4 * FEWEST} patients",
            "simulate more",
        )
    patients = world.draw(PATIENTS, int(generator(seed, "effects patients").integers(2**31)))
    x, truth = world.covariates(patients), world.effects(patients)
    found = np.full((3, repeats, 3), math.nan)
    for i, seeds in enumerate(
        generator(seed, "validity/effects").integers(2**31, size=(repeats, 5))
    ):
        a, b, c, d, e = map(int, seeds)
        real = world.draw(n, a)
        sides = (refit(real, b)(c), world.draw(n, d), independent(real, seed=e))
        for j, table in enumerate(sides):
            one = of_table(world, table)
            away = math.sqrt(float(np.mean((one.of(x) - truth) ** 2)))
            found[j, i] = one.average, one.error, away
    return Effects(world.effect, *found)


def of_table(world: KnownTruth, table: Table) -> Effect:
    """Estimate the effect from any table with the cohort's columns."""
    return estimate(world.covariates(table), table.numbers("treated"), table.numbers("outcome"))


def _measured(found: Floats, truth: float) -> dict[str, tuple[float, tuple[float, float]]]:
    """Return each number and its 95 % interval over the repeats that could be estimated."""
    average, error, away = found[np.isfinite(found).all(axis=1)].T
    if average.size < 2:
        return dict.fromkeys(NAMES, (math.nan, (math.nan, math.nan)))
    off = average - truth
    held = np.abs(off) <= Z * error
    square, ends = _mean(off**2)
    return {
        "ate_bias": _mean(off),
        "ate_error": (math.sqrt(square), (math.sqrt(max(0.0, ends[0])), math.sqrt(ends[1]))),
        "ate_covered": share(held, np.arange(held.size)),
        "pehe": (float(away.mean()), (max(0.0, _mean(away)[1][0]), _mean(away)[1][1])),
    }


def _mean(values: Floats) -> tuple[float, tuple[float, float]]:
    """Return the mean over repeats and its interval by Student's t."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, values.size - 1)) * float(values.std(ddof=1))
    half /= math.sqrt(values.size)
    return mean, (mean - half, mean + half)
