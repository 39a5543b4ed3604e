"""What lasts in a subject beside its factors: levels, trends and how often something is measured.

Reference  Laird and Ware, Biometrics 38 (1982): effects of subjects, several at once; Aalen, Ann.
           Appl. Probab. 2 (1992) (frailty); regularised discriminant analysis, in which each group
           has a covariance drawn towards that of all: Friedman, J. Am. Stat. Assoc. 84 (1989)
Idea       a row of traits a subject: of common codes the level of its numbers, their trend over
           the record, and how often a day it is measured; and the pace of moments. They are what
           the factors say, and a rest that has a covariance of its own in each group of outcome:
           of those who die numbers are not only higher or lower, but further apart
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from manikin.data.codes import EventSchema
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.synthesizers.events._parts import array
from manikin.synthesizers.events._quantiles import KNOTS, Quantiles, normal_scores, quantiles
from manikin.synthesizers.events._visits_moments import Moments, moments_of, usual_kinds
from manikin.synthesizers.events._visits_own import Own
from manikin.synthesizers.events._visits_seen import (
    Shares,
    common,
    levels_of,
    paces_of,
    shares_of,
    trends_of,
)
from manikin.synthesizers.events._visits_values import Values
from manikin.synthesizers.events.encoding import Histories

__all__ = ["NO_TRAITS", "Traits", "checked", "draw_traits", "factors_of", "find_traits", "outcomes",
           "within_groups"]  # fmt: skip

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

MOST = 40  # codes of each kind of trait
FEWEST = 10  # times k: subjects that have a trait
PAIRS = 15.0  # subjects that have both traits: at which half of a covariance is believed
POOLED = 150.0  # subjects of a group: at which half of its covariance is believed
SHIFT = 5.0  # subjects of a group: at which half of its mean is believed
TREND_FACTORS = 3
LEAST = 0.01  # variance of a trait
STEEP = np.linspace(-12.0, 12.0, 49)  # shifts of log odds between which is interpolated


@dataclass(frozen=True)
class Traits:
    """What is learnt of traits, in the order levels, trends, rates of measuring, pace."""

    level: Annotated[Ints, array("?", kind="i", low=0, high="codes")]
    trend: Annotated[Ints, array("?", kind="i", low=0, high="codes")]
    often: Annotated[Ints, array("?", kind="i", low=0, high="codes")]
    pace: Annotated[Ints, array(1, kind="i", low=0, high=1)]  # whether the pace is a trait
    load: Annotated[Floats, array("?", "factors", low=-10, high=10)]
    mean: Annotated[Floats, array("?", "?", low=-10, high=10)]  # (groups, traits)
    root: Annotated[Floats, array("?", "?", "?", low=-10, high=10)]  # of the covariance
    scale: Annotated[Floats, array("?", low=0, high=10)]  # (often,) deviation of scores
    knots: Annotated[Floats, array("?", KNOTS, low=-20, high=20)]  # (often,) log rates a day
    heaped: Annotated[NDArray[np.bool_], array("?", KNOTS, kind="b")]
    regular: Annotated[Floats, array("?", low=0, high=1)]  # (often,) how evenly it is measured
    centre: Annotated[Floats, array("?", "factors", low=-10, high=10)]  # (groups, factors)
    spread: Annotated[Floats, array("?", "factors", low=0, high=10)]

    @property
    def n(self) -> int:
        """Number of traits."""
        return int(self.level.size + self.trend.size + self.often.size + self.pace[0])

    @property
    def ends(self) -> tuple[int, int, int]:
        """Where levels, trends and rates end."""
        one = self.level.size
        return one, one + self.trend.size, one + self.trend.size + self.often.size


def _none(factors: int = 0) -> Traits:
    no, some = np.zeros(0, np.int64), np.zeros(1, np.int64)
    return Traits(
        no, no, no, some, np.zeros((0, factors)), np.zeros((1, 0)), np.zeros((1, 0, 0)),
        np.zeros(0), np.zeros((0, KNOTS)), np.zeros((0, KNOTS), bool), np.zeros(0),
        np.zeros((1, factors)), np.ones((1, factors)),
    )  # fmt: skip


NO_TRAITS = _none()


def checked(traits: Traits) -> None:
    """Raise InputError for arrays that are each in range but do not go together."""
    p, groups = traits.n, len(traits.mean)
    shapes = (
        traits.load.shape[0] == p,
        traits.mean.shape == (groups, p),
        traits.root.shape == (groups, p, p),
        groups >= 1,
        len(traits.centre) == len(traits.spread) >= 1,
        traits.regular.size
        == traits.scale.size
        == len(traits.knots)
        == len(traits.heaped)
        == traits.often.size,
        all(np.unique(at).size == at.size for at in (traits.level, traits.trend, traits.often)),
        max(traits.level.size, traits.trend.size, traits.often.size) <= MOST,
    )
    if not all(shapes):
        raise InputError(
            "a model of histories with traits that do not go together",
            "the arrays that a fitted model has", "fit it anew",
        )  # fmt: skip


def outcomes(static: Table, schema: EventSchema, died: NDArray[np.bool_]) -> tuple[Ints, int]:
    """Return the group of outcome of each subject, by target and death, and how many there are."""
    target = schema.static.holder("target")
    found, size = np.zeros(static.n_rows, np.int64), 1
    if target is not None and target.is_coded and len(target.categories) <= 8:
        size = len(target.categories) + 1
        found[:] = size - 1
        if target.name in static.schema and static.schema[target.name].is_coded:
            place = {spelling: i for i, spelling in enumerate(target.categories)}
            to = [place.get(one, size - 1) for one in static.schema[target.name].categories]
            found = np.array([*to, size - 1], np.int64)[static.columns[target.name]]
    return found * 2 + died, size * 2


# ------------------------------------------------------------------ learning


def find_traits(
    h: Histories,
    values: Values,
    rest: tuple[Ints, Floats],
    moments: Moments,
    own: Floats,
    group: tuple[Ints, int],
    k: int,
) -> tuple[Traits, Values]:
    """Learn traits, and return values with the loads and levels that go with them.

    `rest` are the events that bear numbers, and their scores without the effects of classes, sex
    and target; `own` the factors of subjects, `group` their outcomes.
    """
    rows, score = rest
    level, often = _codes(h, rows, FEWEST * k)
    at_trend = trends_of(h, rows, score, level)
    steady = (~np.isnan(at_trend)).sum(axis=0) >= 4 * PAIRS
    trend = level[steady]
    shares = shares_of(h, often)
    varied = (shares.usual > 0.01) & (shares.usual < 0.97)
    often, shares = often[varied], shares.of(varied)
    at_often, noise = _scored(shares)
    pace = _paces(h, moments)
    seen = np.column_stack([
        levels_of(h, rows, score, level), at_trend[:, steady], at_often,
        *([] if pace is None else [pace]),
    ])  # fmt: skip
    centre, spread = centred(own, *group, k)
    if not seen.shape[1]:
        return dataclasses.replace(_none(own.shape[1]), centre=centre, spread=spread), values
    load = _loads(seen, own)
    left = seen - np.nan_to_num(own) @ load.T
    variance = _lasting(left, level.size, trend.size, values.lasting[level], noise)
    mean, root = _by_group(left, variance, *group, k)
    who, of = np.nonzero(~np.isnan(shares.rate))
    found = quantiles(shares.rate[who, of], of, often.size, who, k, least=k)
    traits = Traits(
        level, trend, often, np.array([int(pace is not None)]), load, mean, root,
        np.sqrt(np.maximum(1.0 - noise, LEAST)), np.clip(found.knots, -20, 20), found.heaped,
        shares.regular, centre, spread,
    )  # fmt: skip
    whole, within = values.load.copy(), values.within.copy()
    whole[level] = load[: level.size]
    end = level.size + trend.size
    slope = variance[level.size : end] + (load[level.size : end] ** 2).sum(axis=1)
    within[trend] = np.sqrt(np.maximum(within[trend] ** 2 - slope / 12, 0.25 * within[trend] ** 2))
    return traits, dataclasses.replace(values, load=whole, within=within)


def centred(own: Floats, group: Ints, groups: int, k: int) -> tuple[Floats, Floats]:
    """Return mean and deviation of factors in each group; a small group has those of all."""
    centre, spread = np.zeros((groups, own.shape[1])), np.ones((groups, own.shape[1]))
    for g in range(groups):
        some = own[(group == g) & ~np.isnan(own).any(axis=1)]
        if len(some) >= 4 * k:
            centre[g] = np.clip(some.mean(axis=0), -10, 10)
            spread[g] = np.clip(some.std(axis=0), 0.1, 10)
    return centre, spread


def _codes(h: Histories, rows: Ints, least: int) -> tuple[Ints, Ints]:
    """Return the codes whose levels, and whose rates, may be traits."""
    level = common(h.code[rows], h.whose[h.of[rows]], h.n_codes, least, MOST)
    many = np.bincount(moments_of(h)[0], minlength=h.n)
    starts, codes = h.multi_hot
    at = np.repeat(np.arange(h.n), np.diff(starts))
    long = many[at] > 1
    return level, common(codes[long], h.whose[at[long]], h.n_codes, least, MOST)


def _scored(shares: Shares) -> tuple[Floats, Floats]:
    """Return normal scores of rates of measuring, and how much of their variance is chance."""
    there = ~np.isnan(shares.rate)
    score = np.full(there.shape, np.nan)
    score[there] = normal_scores(shares.rate[there], np.nonzero(there)[1])
    middle = np.where(there, shares.rate, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    spread = np.where(there, (shares.rate - middle) ** 2, 0).sum(axis=0)
    spread = np.maximum(spread / np.maximum(there.sum(axis=0), 1), 1e-6)
    return score, np.clip(shares.chance * (1 - 0.9 * shares.regular) / spread, 0.0, 0.95)


def _paces(h: Histories, moments: Moments) -> Floats | None:
    """Return scores of how far apart moments of subjects are; None if it lasts in nobody."""
    found = paces_of(h)
    there = ~np.isnan(found)
    if float(moments.spread[0]) < 0.05 or there.sum() < 4 * PAIRS:
        return None
    found[there] = normal_scores(found[there], np.zeros(int(there.sum()), np.int64))
    return found


def _loads(seen: Floats, own: Floats) -> Floats:
    """Return the regression of each trait on factors, (traits, factors)."""
    rank = own.shape[1]
    found = np.zeros((seen.shape[1], rank))
    if not rank:
        return found
    known = ~np.isnan(own).any(axis=1)
    for j, column in enumerate(seen.T):
        rows = known & ~np.isnan(column)
        x = own[rows]
        found[j] = np.linalg.solve(x.T @ x + 5.0 * np.eye(rank), x.T @ column[rows])
    return np.clip(found, -10, 10)


def _lasting(left: Floats, levels: int, trends: int, lasting: Floats, noise: Floats) -> Floats:
    """Return the variance of each trait that is not chance, (traits,)."""
    there = ~np.isnan(left)
    raw = np.where(there, left, 0) ** 2
    found = raw.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    end = levels + trends
    found[:levels] = np.minimum(found[:levels], lasting**2)
    # a number that drifts by chance has a trend of its own: only what codes share is a trait
    shared = _covariance(left[:, levels:end])
    shared[np.diag_indices_from(shared)] = 0.0
    value, vector = np.linalg.eigh(shared) if trends else (np.zeros(0), shared)
    top = np.maximum(value[-TREND_FACTORS:], 0.0)
    found[levels:end] = np.minimum(
        found[levels:end], (vector[:, -TREND_FACTORS:] ** 2 * top).sum(axis=1)
    )
    of_shares = found[end : end + noise.size]
    found[end : end + noise.size] = np.maximum(of_shares - noise, 0.05 * of_shares)
    return np.asarray(np.maximum(found, LEAST))


def _covariance(left: Floats) -> Floats:
    """Return products of traits over subjects that have both; what few have is drawn to none."""
    there = (~np.isnan(left)).astype(np.float64)
    filled = np.nan_to_num(left)
    both = there.T @ there
    found = filled.T @ filled / np.maximum(both, 1.0) * both / (both + PAIRS)
    return np.asarray(found)


def _by_group(
    left: Floats, variance: Floats, group: Ints, groups: int, k: int
) -> tuple[Floats, Floats]:
    """Return the mean and the root of the covariance of traits in each group of outcome."""
    p = left.shape[1]
    mean, root = np.zeros((groups, p)), np.zeros((groups, p, p))
    centred = left.copy()
    large = [g for g in range(groups) if (group == g).sum() >= 4 * k]
    for g in large:
        own = left[group == g]
        held = (~np.isnan(own)).sum(axis=0)
        mean[g] = np.nansum(own, axis=0) / (held + SHIFT)
        centred[group == g] -= mean[g]
    whole = _covariance(centred)
    there = (~np.isnan(centred)).sum(axis=0)
    raw = np.nansum(centred**2, axis=0) / np.maximum(there, 1)
    chance = np.maximum(raw - variance, 0.0)
    usual = _rooted(whole, np.maximum(raw - chance, LEAST))
    for g in range(groups):
        root[g] = usual
    for g in large if len(large) > 1 else ():
        own = centred[group == g]
        n = (~np.isnan(own)).sum(axis=0)
        weight = np.sqrt(np.outer(n, n))
        weight = weight / (weight + POOLED)
        mixed = weight * _covariance(own) + (1 - weight) * whole
        spread = np.nansum(own**2, axis=0) / np.maximum(n, 1)
        part = n / (n + SHIFT * 4)
        spread = part * spread + (1 - part) * raw
        root[g] = _rooted(mixed, np.maximum(spread - chance, 0.25 * variance))
    return np.clip(mean, -10, 10), np.clip(root, -10, 10)


def _rooted(covariance: Floats, variance: Floats) -> Floats:
    """Return the symmetric root of a covariance with this diagonal, made positive."""
    bound = 0.98 * np.sqrt(np.outer(variance, variance))
    found = np.clip(covariance, -bound, bound)
    found[np.diag_indices_from(found)] = variance
    value, vector = np.linalg.eigh(found)
    made = (vector * np.maximum(value, 1e-4)) @ vector.T
    shrink = np.sqrt(variance / np.maximum(np.diag(made), 1e-9))
    value, vector = np.linalg.eigh(made * np.outer(shrink, shrink))
    return np.asarray((vector * np.sqrt(np.maximum(value, 0.0))) @ vector.T)


# ------------------------------------------------------------------ drawing


def draw_traits(
    t: Traits, moments: Moments, own: Floats, group: Ints, rng: np.random.Generator
) -> Own:
    """Draw traits of subjects with these factors and outcomes."""
    n, n_codes = group.size, moments.share.shape[1]
    group = np.minimum(group, len(t.mean) - 1)
    noise = rng.standard_normal((n, t.n))
    for g in np.unique(group):
        rows = group == g
        noise[rows] = noise[rows] @ t.root[g] + t.mean[g]
    one, two, three = t.ends
    noise[:, one:] += np.nan_to_num(own) @ t.load[one:].T
    pace = noise[:, three] if t.pace[0] else np.full(n, np.nan)
    return Own(
        noise[:, :one], _placed(t.level, n_codes), noise[:, one:two], _placed(t.trend, n_codes),
        _rates(t, noise[:, two:three]), _placed(t.often, n_codes), t.regular,
        _reached(t, moments), STEEP, pace,
    )  # fmt: skip


def _placed(codes: Ints, n_codes: int) -> Ints:
    found = np.full(n_codes, -1, np.int64)
    found[codes] = np.arange(codes.size)
    return found


def within_groups(t: Traits, own: Floats, group: Ints) -> Floats:
    """Return factors of subjects as deviations within their group of outcome."""
    return np.asarray((own - t.centre[group]) / t.spread[group])


def factors_of(t: Traits, drawn: Floats, group: Ints) -> Floats:
    """Return the factors of subjects, drawn as deviations within their group of outcome."""
    group = np.minimum(group, len(t.centre) - 1)
    return np.asarray(t.centre[group] + t.spread[group] * drawn)


def _rates(t: Traits, score: Floats) -> Floats:
    """Return how often a day, as a logarithm, codes are measured for scores of it."""
    found = np.zeros(score.shape)
    rates = Quantiles(t.knots, t.heaped)
    whole = np.zeros(len(score), np.int64)
    for j in range(t.often.size):
        wanted = rates.at(whole + j, ndtr(score[:, j] / t.scale[j]))
        middle = rates.at(np.array([j]), np.array([0.5]))
        found[:, j] = middle + (wanted - middle) * t.scale[j]
    return found


def _reached(t: Traits, moments: Moments) -> Floats:
    """Return the log odds to be at any moment if those of each kind shift, (often, shifts)."""
    by_kind = logit(np.clip(moments.share[:, t.often], 1e-4, 1 - 1e-4)).T
    reached = expit(by_kind[:, None] + STEEP[None, :, None]) @ usual_kinds(moments)
    return np.asarray(logit(np.clip(reached, 1e-6, 1 - 1e-6)) + 1e-9 * np.arange(STEEP.size))
