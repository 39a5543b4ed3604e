"""How scores hang together over time, by clipped sums that are computed alike for drawn panels.

Bought are, a subject's averages each: products of two channels at a visit; sizes of differences of
a channel over pairs of visits by their distance; products of differences of two channels; how much
a subject's steps are alike in size; how often a value comes back; how visits' lateness lasts. The
same averages of drawn panels, shortened in the same way, correct the model: what shortening does to
the real ones it does to them, and no private row is read again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.events._bounded as bounded
import manikin.synthesizers.events._panel_latent as model
import manikin.synthesizers.events._panel_process as process
from manikin.data.randomness import generator
from manikin.privacy.account import Account, measuring
from manikin.synthesizers.events._bounded import Behind
from manikin.synthesizers.events._panel_latent import Latent
from manikin.synthesizers.events._panel_moments import STEPS, Moments, Pairs, _steps, last_known
from manikin.synthesizers.events._panel_private_sheet import Visited
from manikin.synthesizers.events._panel_private_times import Together, whens_of
from manikin.synthesizers.events._panel_private_values import residuals
from manikin.synthesizers.events._panel_process import Process
from manikin.synthesizers.events._panel_times import Times

__all__ = ["Bought", "corrected", "covariances_bought", "lasting"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

TRIAL = 1500  # subjects that are drawn to correct a model by
TYPICAL = 0.8  # size of a step of scores, by which others are measured
ROOTS = 2.5  # most root of a step's size by that
LATE = 4.0  # most lateness, by the usual one
MANY = 1e6  # pairs of visits: as good as enough
ALIKE = 0.5  # correlation of how lively a subject's channels are: none is bought


@dataclass(frozen=True, eq=False)
class Shape:
    """What is public of the averages: their number, and the length to which each is shortened."""

    n: int  # channels
    pairs: Pairs
    typical: float  # visits

    @property
    def groups(self) -> int:
        """Distances between visits that are told apart."""
        return max(0, self.pairs.apart.size - 1)

    @property
    def paired(self) -> float:
        """Return how many pairs of visits a usual record has."""
        return max(1.0, sum(max(self.typical - step, 0.0) for step in STEPS))

    @property
    def over_time(self) -> float:
        """Length of averages over visits and pairs of visits: of scores as they usually are."""
        return math.sqrt(0.8 * self.n * (self.n + 1) / 2 + 1.5 * self.n)

    @property
    def of_habits(self) -> float:
        """Length of averages over steps, and of what lasts of lateness."""
        return math.sqrt(2.5 * self.n + 3)


def over_time(left: Floats, visited: Visited, shape: Shape) -> Floats:
    """Return averages of products and differences, (subjects, width)."""
    whose, n = visited.sheet.whose, shape.n
    rows, columns = np.triu_indices(n, 1)
    known = ~np.isnan(left)
    y, seen = np.where(known, left, 0.0), known.astype(np.float64)
    at_once = np.zeros((visited.sheet.n_subjects, rows.size))
    np.add.at(at_once, whose, y[:, rows] * y[:, columns] * visited.weight[:, None])
    steps = _steps(whose)
    pairs = np.zeros(visited.sheet.n_subjects)
    for a, _ in steps:
        np.add.at(pairs, whose[a], 1.0)
    share = 1 / np.maximum(pairs, shape.paired)
    size = np.zeros((visited.sheet.n_subjects, shape.groups, n))
    many = np.zeros_like(size)
    both_rows, both_columns = np.triu_indices(n)
    across = np.zeros((visited.sheet.n_subjects, both_rows.size))
    for a, b in steps:
        group = np.searchsorted(shape.pairs.edges, visited.sheet.time[b] - visited.sheet.time[a],
                                side="right")  # fmt: skip
        both = seen[a] * seen[b]
        step, weight = (y[b] - y[a]) * both, share[whose[a]][:, None]
        np.add.at(size, (whose[a], group), np.abs(step) * weight)
        np.add.at(many, (whose[a], group), both * weight)
        np.add.at(across, whose[a], step[:, both_rows] * step[:, both_columns] * weight / 2)
    even = math.sqrt(max(shape.groups, 1))  # a group has a part of the pairs only
    return np.concatenate([at_once, even * size.reshape(len(size), -1),
                           even * many.reshape(len(many), -1), across], 1)  # fmt: skip


def of_habits(left: Floats, visited: Visited, times: Times, when: Ints, shape: Shape) -> Floats:
    """Return averages of steps: alike in size, none at all; and how lateness lasts."""
    sheet, n = visited.sheet, shape.n
    size = np.abs(left - last_known(left, sheet.whose))
    step = sheet.cells - last_known(sheet.cells, sheet.whose)
    known = ~np.isnan(size)
    root = np.minimum(np.sqrt(np.where(known, size, 0.0) / TYPICAL), ROOTS)
    same = np.where(np.isnan(step), 0.0, step == 0)
    parts = (root, root**2, known.astype(float), same, (~np.isnan(step)).astype(float))
    total = np.zeros((5, sheet.n_subjects, n))
    for k, part in enumerate(parts):
        np.add.at(total[k], sheet.whose, part)
    follows = np.flatnonzero(np.diff(sheet.whose) == 0)
    beside, beside_many = np.zeros((2, sheet.n_subjects, n))
    np.add.at(beside, sheet.whose[follows], root[follows] * root[follows + 1])
    np.add.at(
        beside_many, sheet.whose[follows], (known[follows] & known[follows + 1]).astype(float)
    )
    many = total[2] ** 2 - total[2] - 2 * beside_many
    has = many > 0
    alike = np.where(has, (total[0] ** 2 - total[1] - 2 * beside) / np.maximum(many, 1.0), 0.0)
    alone = np.where(has, total[0] / np.maximum(total[2], 1.0), 0.0)
    again = total[3] / np.maximum(total[4], 1.0)
    late = _lateness(visited, times, when)
    whole = np.concatenate([alike, alone, has, again, again**2, total[4] > 0, late], 1)
    return np.asarray(whole, np.float64)


def _lateness(visited: Visited, times: Times, when: Ints) -> Floats:
    """Return averages of products of lateness one and four visits apart, and of its square."""
    sheet, found = visited.sheet, np.zeros((visited.sheet.n_subjects, 5))
    if times.planned:
        score = (visited.since - np.rint(times.centre[when])) / times.width[when]
        score = np.where(visited.first, np.nan, score)
    else:
        score = np.full(when.size, np.nan)
        for w in range(times.n):
            own = (when == w) & ~np.isnan(visited.gap)
            score[own] = times.shift[w].scores(visited.gap[own])
    score = np.clip(score, -LATE, LATE) / 2
    for place, lag in enumerate((0, 1, 4)):
        if lag >= score.size:
            continue
        a, b = score[: score.size - lag], score[lag:]
        own = np.flatnonzero((sheet.whose[: score.size - lag] == sheet.whose[lag:])
                             & ~np.isnan(a) & ~np.isnan(b))  # fmt: skip
        many = np.bincount(sheet.whose[own], minlength=sheet.n_subjects)
        total = np.bincount(sheet.whose[own], a[own] * b[own], minlength=sheet.n_subjects)
        found[:, place] = total / np.maximum(many, 1)
        if lag:
            found[:, 2 + place] = many > 0
    return found


def shortened(vectors: Floats, norm: float) -> Floats:
    """Return the mean of vectors none of which counts for more than `norm`."""
    length = np.sqrt((vectors**2).sum(1, keepdims=True))
    return np.asarray((vectors * np.minimum(1.0, norm / np.maximum(length, 1e-12))).mean(0))


# ------------------------------------------------------------------ what was bought


@dataclass(frozen=True, eq=False)
class Bought:
    """Noisy means over subjects of both kinds of averages, and their noise's deviations."""

    time: Floats
    time_noise: float
    habits: Floats
    habits_noise: float
    shape: Shape


def covariances_bought(
    own: Behind[Visited], facts: Behind[Floats], made: Process, shape: Shape, account: Account,
    rho: tuple[float, float], subjects: float,
) -> Bought:  # fmt: skip
    """Return both kinds of averages.

    Sensitivity: each kind is one vector a subject, shortened to the public length of `shape`.
    """
    with measuring():
        visited = own.it
        left = residuals(made.marginals, made.times, made.latent.beta, made.latent.unit, visited,
                         facts.it)  # fmt: skip
        time, far = bounded.summed(
            account, over_time(left, visited, shape), norm=shape.over_time, rho=rho[0],
            what="products of scores over pairs of visits",
        )  # fmt: skip
        when = whens_of(made.times, visited)
        habits, wide = bounded.summed(
            account, of_habits(left, visited, made.times, when, shape), norm=shape.of_habits,
            rho=rho[1], what="sizes of steps, values that come back, lateness",
        )  # fmt: skip
    return Bought(time / subjects, far / subjects, habits / subjects, wide / subjects, shape)


def moments_of(bought: Bought, together: Together, total: Floats, kept: float) -> Moments:
    """Return averages as moments; `total` are variances at a visit, `kept` weights a subject."""
    n, groups, noise = bought.shape.n, bought.shape.groups, bought.time_noise
    even = math.sqrt(max(groups, 1))
    upper = np.triu_indices(n, 1)
    cuts = np.cumsum([upper[0].size, groups * n, groups * n])
    at_once, size, many, across = np.split(bought.time, cuts)
    products, pairs = np.zeros((groups + 1, n, n)), np.zeros((groups + 1, n, n))
    share = np.maximum(together.both[upper], 0.02) * max(kept, 1e-9)
    covariance = at_once / share
    covariance *= covariance**2 / (covariance**2 + (noise / share) ** 2 + 1e-12)
    most = 0.98 * np.sqrt(total[upper[0]] * total[upper[1]])
    products[0][upper] = np.clip(covariance, -most, most)
    products[0] += products[0].T + np.diag(total)
    size, many = size.reshape(groups, n) / even, np.maximum(many.reshape(groups, n) / even, 0.0)
    prior = 3 * noise + 1e-9
    whole = np.maximum(size.sum(0), 0.0) / np.maximum(many.sum(0), prior)
    mean = (np.maximum(size, 0) + prior * whole) / (many + prior)
    variance = np.clip(np.pi / 4 * mean**2, 1e-4, 4.0)
    lower = np.triu_indices(n)
    semi = np.zeros((n, n))
    semi[lower] = across
    semi = semi + semi.T - np.diag(semi.diagonal())
    deviation = np.sqrt(np.maximum(semi.diagonal(), noise + 1e-9))
    near = together.both / np.sqrt(np.outer(together.both.diagonal(),
                                            together.both.diagonal()) + 1e-9)  # fmt: skip
    outer = np.outer(deviation, deviation)
    shown = semi / outer
    shown *= shown**2 / (shown**2 + (noise / outer) ** 2 + 1e-12)
    r = np.clip(shown / np.maximum(near, 0.2), -0.98, 0.98)
    r[np.diag_indices(n)] = 1.0
    for g in range(groups):
        products[1 + g] = r * np.sqrt(np.outer(variance[g], variance[g]))
        pairs[1 + g] = MANY * (np.sqrt(np.outer(many[g], many[g])) + 1e-6)
    pairs[0] = MANY
    lively, same, again = _habits(bought)
    return Moments(products, pairs, lively, whole, same, again)


def _habits(bought: Bought) -> tuple[Floats, Floats, Floats]:
    n, noise = bought.shape.n, bought.habits_noise
    alike, alone, has, share, square, some = bought.habits[: 6 * n].reshape(6, n)
    has, some = np.maximum(has, 3 * noise + 1e-9), np.maximum(some, 3 * noise + 1e-9)
    mean = np.maximum(alone / has, 0.05)
    # towards none at all, by what noise might show
    uncertain = noise / (has * mean**2)
    log = 4 * np.log(np.clip(alike / has / mean**2, 0.7, 1.6))
    log *= log**2 / (log**2 + (8 * uncertain) ** 2 + 1e-12)
    spread = np.sqrt(np.maximum(log, 0.0))
    lively = ALIKE * np.outer(spread, spread)
    lively[np.diag_indices(n)] = log
    same = np.clip(share / some, 0.0, 1.0)
    return lively, same, np.clip(square / some, same**2, same)


def lasting(bought: Bought, times: Times) -> Times:
    """Return times whose lateness lasts as noisy products say."""
    n, noise = bought.shape.n, bought.habits_noise
    square, near, far, has_near, has_far = bought.habits[6 * n :]
    if has_near < 4 * noise or square < 4 * noise:
        return times
    typical = square / max(min(1.0, has_near + noise), 1e-9)
    one = float(np.clip(near / has_near / max(typical, 1e-9), -0.5, 0.95))
    four = float(np.clip(far / has_far / max(typical, 1e-9), 0.0, 0.9)) if (
        has_far > 4 * noise) else 0.0  # fmt: skip
    if not times.planned:
        steady = min(four, max(one, 0.0))
        kept = float(np.clip((one - steady) / (1 - steady), -0.5, 0.95))
        return replace(times, steady=steady, lasting=np.full(times.n, kept))
    part = max(one, 0.0)
    # of lateness that lasts in part, what is new is less than all of it
    new = math.sqrt(1 - part**2)
    shift = tuple(replace(m, low=np.rint(m.low * new), high=np.rint(m.high * new))
                  for m in times.shift)  # fmt: skip
    return replace(times, lasting=np.full(times.n, part), shift=shift)


# ------------------------------------------------------------------ correcting


def _variance(left: Floats) -> Floats:
    """Return the variance of each column; of what has no value, one."""
    known = ~np.isnan(left)
    many, y = known.sum(0), np.where(known, left, 0.0)
    mean = y.sum(0) / np.maximum(many, 1)
    return np.where(many > 1, (y**2).sum(0) / np.maximum(many, 1) - mean**2, 1.0)


def corrected(
    made: Process, real: Moments, bought: Bought, together: Together, rounds: int, seed: int,
    again: Callable[[int], tuple[Floats, Ints]], kept: float,
) -> Process:  # fmt: skip
    """Draw from the model, take the same averages, and move the model by what they lack."""
    wanted, shape = real, bought.shape
    none = np.zeros((0, shape.n))
    for turn in range(rounds):
        facts, anchor = again(TRIAL)
        rng = generator(seed, "panel private correction", turn)
        sheet, y = process.draw(made, facts, anchor, rng)
        if not sheet.whose.size:
            return made
        bend = process._bend(y)
        cells = process._valued(made, process.bent(bend, y), sheet.whose, rng)
        visited = Visited.of(replace(sheet, cells=cells), None, shape.typical)
        left = residuals(made.marginals, made.times, made.latent.beta, made.latent.unit, visited,
                         facts)  # fmt: skip
        when = whens_of(made.times, visited)
        found = moments_of(
            replace(
                bought, time=shortened(over_time(left, visited, shape), shape.over_time),
                habits=shortened(of_habits(left, visited, made.times, when, shape),
                                 shape.of_habits),
            ),
            together, real.products[0].diagonal(), kept,
        )  # fmt: skip
        # variances at a visit are known: those of normal scores
        found.products[0][np.diag_indices(shape.n)] = np.maximum(_variance(left), 1e-3)
        wanted = replace(
            wanted,
            products=process._moved(wanted.products, real, found),
            lively=wanted.lively + np.clip(real.lively - found.lively, -0.3, 0.3),
        )
        repeat = made.repeat + np.stack([real.same - found.same, real.again - found.again], 1)
        repeat[:, 0] = np.clip(repeat[:, 0], 0.0, 0.95)
        repeat[:, 0] = np.where(repeat[:, 0] > 3 * bought.habits_noise, repeat[:, 0], 0.0)
        repeat[:, 1] = np.clip(repeat[:, 1], repeat[:, 0] ** 2, 0.95 * repeat[:, 0])
        effects, lively, scales, parts = model.fit_covariances(
            wanted, shape.pairs, np.zeros((0, facts.shape[1])), none, none
        )
        latent = Latent(made.latent.beta, lively, effects, scales, parts, made.latent.unit)
        made = replace(made, latent=latent, bend=bend, repeat=repeat)
    return made
