"""Scores of channels over time: what a subject's own level is, how lively it is, and what persists.

y(t) = mean(when, facts, t) + level + exp(lively) * sum of Ornstein-Uhlenbeck processes, one for
each of a few time scales, with covariances across channels (Uhlenbeck and Ornstein, 1930; exact
steps as in Gillespie, Phys. Rev. E 54, 1996). Level and liveliness are jointly Gaussian across
channels. Covariances are fitted to averages of products over pairs of visits by non-negative
least squares (Lawson and Hanson, 1974) and are made positive semidefinite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtri

from manikin.synthesizers.events._panel_moments import Moments, Pairs

__all__ = ["Latent", "mean_coefficients", "mean_design", "spread_effects"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

SCALES = 3  # time scales between one visit's noise and what never changes
MOST_LIVELY = 1.0  # variance of a log scale
PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FOLDS = 5
LEAST_VALUES, LEAST_SUBJECTS = 3, 40  # from which the spread of levels is learnt
SPREAD_PRIOR, BEYOND = 10.0, 3.0  # ridge, and errors of estimates beyond which it is no chance


@dataclass(frozen=True, eq=False)
class Latent:
    """Parameters of all channels."""

    beta: Floats  # (channels, whens + 2 * facts)
    lively: Floats  # (channels, facts) what facts say of the log scale
    effects: Floats  # (2 channels, 2 channels) covariance of levels, then log scales
    scales: Floats  # (scales,) units of time; 0 for noise of one visit
    parts: Floats  # (scales, channels, channels) covariance of each process
    unit: float  # units of time to which the slope of facts counts
    spread: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # (channels, facts) what facts
    # say of the log spread of levels, or none

    @property
    def n(self) -> int:
        """Number of channels."""
        return len(self.beta)

    def spreads(self, facts: Floats) -> Floats:
        """Return what levels of subjects of these facts are multiplied by, (subjects, channels)."""
        if not self.spread.size:
            return np.ones((len(facts), self.n))
        log = np.clip(facts @ self.spread.T, -2.5, 1.5)
        return np.asarray(np.exp(log - (self.spread**2).sum(1)))  # the mean square is about one


def mean_design(when: Ints, n_whens: int, facts: Floats, since: Floats) -> Floats:
    """Return the design of means: when, facts, and facts by time: (rows, whens + 2 * facts)."""
    return np.concatenate([np.eye(n_whens)[when], facts, facts * since[:, None]], 1)


def mean_coefficients(
    scores: Floats, design: Floats, whose: Ints, n_whens: int, seed: int
) -> Floats:
    """Return coefficients of the means by ridge regression, penalties chosen by subjects."""
    n, width = scores.shape[1], design.shape[1]
    rng = np.random.Generator(np.random.Philox(seed))
    subjects = np.unique(whose)
    fold = rng.permutation(subjects.size)[np.searchsorted(subjects, whose)] % FOLDS
    found = np.zeros((n, width))
    grams = np.zeros((n, FOLDS, width + 1, width + 1))
    for j in range(n):
        own = ~np.isnan(scores[:, j])
        both = np.concatenate([design[own], scores[own, j : j + 1]], 1)
        both = _freed(both, whose[own])
        for f in range(FOLDS):
            chosen = both[fold[own] == f]
            grams[j, f] = chosen.T @ chosen
    whole = grams.sum(1)
    penalty = np.ones(width)
    penalty[:n_whens] = 0.5
    wrong, each = [], []
    for strength in PENALTIES:
        penalty[n_whens:] = strength
        total = np.zeros(n)
        for f in range(FOLDS):
            kept = whole - grams[:, f]
            b = np.linalg.solve(kept[:, :-1, :-1] + np.diag(penalty), kept[:, :-1, -1:])
            held = grams[:, f]
            square = np.einsum("ji,jik,jk->j", b[..., 0], held[:, :-1, :-1], b[..., 0])
            total += square - 2 * (b[..., 0] * held[:, :-1, -1]).sum(1)
        wrong.append(total)
        each.append(np.linalg.solve(whole[:, :-1, :-1] + np.diag(penalty), whole[:, :-1, -1:]))
    found = np.stack(each)[np.argmin(wrong, axis=0), np.arange(n), :, 0]
    return np.asarray(found)


def _freed(both: Floats, whose: Ints) -> Floats:
    """Take a part of each subject's mean off, so that what is left is as good as independent.

    Generalised least squares with a subject's own level (Fuller and Battese, 1973); the last
    column is the outcome.
    """
    if len(both) < 2:
        return both
    start = np.flatnonzero(np.diff(whose, prepend=-1) != 0)
    counts = np.diff([*start, len(both)])
    mean = np.add.reduceat(both, start, 0) / counts[:, None]
    of = np.repeat(np.arange(start.size), counts)
    y = both[:, -1]
    within = float(((y - mean[of, -1]) ** 2).sum()) / max(1, len(y) - start.size)
    between = max(0.0, float(y.var()) - within)
    theta = 1 - np.sqrt(within / np.maximum(within + counts * between, 1e-12))
    return np.asarray(both - theta[of, None] * mean[of])


def time_scales(apart: Floats) -> Floats:
    """Return time scales between the usual distance of neighbours and the whole follow-up."""
    later = apart[apart > 0]
    if not later.size:
        return np.zeros(1)
    low, high = max(1e-6, 0.7 * float(later.min())), 1.2 * float(later.max())
    return np.concatenate([[0.0], np.geomspace(low, max(high, low * 1.01), SCALES)])


def covariances(
    products: Floats, pairs: Floats, apart: Floats, scales: Floats
) -> tuple[Floats, Floats]:
    """Return covariances of levels and of each process that fit semivariances best.

    Of a pair of visits h apart, half the squared difference is sum of S (1 - exp(-h / scale));
    what is left of the variance at a visit is the subjects' levels'.
    """
    n, n_scales = products.shape[1], scales.size
    rise = np.array([np.where(s > 0, 1 - np.exp(-apart[1:] / max(s, 1e-12)), 1.0) for s in scales])
    design = rise.T.reshape(apart.size - 1, n_scales)
    total = np.maximum(products[0].diagonal(), 1e-9)
    parts = np.zeros((n_scales, n, n))
    if not design.size:  # no subject has two visits: half is taken for the subject's own
        parts[0] = positive(products[0]) / 2
        return parts[0].copy(), parts
    for j in range(n):
        seen = np.maximum(products[1:, j, j], 1e-6 * total[j])
        weight = np.sqrt(pairs[1:, j, j] / max(pairs[1:, j, j].max(), 1.0)) / seen
        a = np.concatenate([design * weight[:, None], 0.02 * np.eye(n_scales) / seen.mean()])
        parts[:, j, j] = nnls(a, np.append(products[1:, j, j] * weight, np.zeros(n_scales)))[0]
        within = parts[:, j, j].sum()
        if within > 0.98 * total[j]:
            parts[:, j, j] *= 0.98 * total[j] / within
    deviation = np.sqrt(np.einsum("kjj->kj", parts))
    lower, upper = np.tril_indices(n, -1)
    outer = deviation[:, lower] * deviation[:, upper]  # (scales, pairs of channels)
    a = design.T[:, :, None] * outer[:, None, :]  # correlations, so that none is impossible
    weight = pairs[1:, lower, upper] / np.maximum(pairs[1:, lower, upper].max(0), 1.0)
    gram = np.einsum("kgp,gp,lgp->pkl", a, weight, a)
    ridge = 0.03 * np.einsum("pkk->p", gram) / n_scales + 1e-12
    gram += ridge[:, None, None] * np.eye(n_scales)
    right = np.einsum("kgp,gp,gp->pk", a, weight, products[1:, lower, upper])
    r = np.clip(np.linalg.solve(gram, right[..., None])[..., 0].T, -0.99, 0.99)
    parts[:, lower, upper] = parts[:, upper, lower] = r * outer
    parts = np.array([positive(part) for part in parts])
    return positive(products[0] - parts.sum(0)), parts


def positive(covariance: Floats) -> Floats:
    """Return the nearest matrix without negative eigenvalues, the diagonal as it was."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    clipped = (vectors * np.maximum(values, 0.0)) @ vectors.T
    wanted, now = np.maximum(covariance.diagonal(), 0.0), clipped.diagonal()
    scale = np.sqrt(wanted / np.maximum(now, 1e-12))
    scale[now <= 1e-12] = 0.0
    return np.asarray(clipped * np.outer(scale, scale))


def root(covariance: Floats) -> Floats:
    """Return a matrix whose product with its transpose is the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def fit_covariances(
    moments: Moments, pairs: Pairs, facts: Floats, sizes: Floats, levels: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return effects, what facts say of liveliness, time scales and parts.

    `sizes` are logs of subjects' mean steps, and `levels` their means, (subjects, channels).
    """
    scales = time_scales(pairs.apart)
    level, parts = covariances(moments.products, moments.pairs, pairs.apart, scales)
    return (*lively_effects(moments.lively, level, facts, sizes, levels), scales, parts)


def lively_effects(
    lively: Floats, level: Floats, facts: Floats, sizes: Floats, levels: Floats
) -> tuple[Floats, Floats]:
    """Return the covariance of levels and log scales, and the log scales' regression on facts."""
    n = len(level)
    variance = np.clip(lively, -MOST_LIVELY, MOST_LIVELY)
    variance[np.diag_indices(n)] = np.clip(variance.diagonal(), 0.0, MOST_LIVELY)
    wide = positive(variance)
    known = ~np.isnan(sizes).any(1) if n else np.zeros(0, bool)
    told = np.zeros((n, facts.shape[1]))
    cross = np.zeros((n, n))
    if known.sum() >= 20:
        x, y, b = facts[known], sizes[known], levels[known]
        y = y - y.mean(0)
        if x.shape[1]:
            told = np.linalg.solve(x.T @ x + 20.0 * np.eye(x.shape[1]), x.T @ y).T
            explained = (x @ told.T).var(0)
            # what facts explain is taken out of the rest
            told *= np.sqrt(np.minimum(1.0, MOST_LIVELY / np.maximum(explained, 1e-12)))[:, None]
            left = np.maximum(wide.diagonal() - (x @ told.T).var(0), 0.0)
            shrink = np.sqrt(left / np.maximum(wide.diagonal(), 1e-12))
            wide = wide * np.outer(shrink, shrink)
        b = b - b.mean(0)
        spread = np.sqrt(np.maximum(b.var(0), 1e-9))
        slope = (b / spread).T @ (y - x @ told.T) / (known.sum() + 20.0)
        cross = slope * np.sqrt(level.diagonal())[:, None]
        most = 0.9 * np.sqrt(np.outer(level.diagonal(), wide.diagonal()))
        cross = np.clip(cross, -most, most)
    whole = np.block([[level, cross], [cross.T, wide]])
    return positive(whole), told


def spread_effects(levels: Floats, known: Floats, facts: Floats) -> Floats:
    """Return what facts say of the log spread of levels, (channels, facts).

    Subjects' mean scores, (subjects, channels), of so many values each: the logs of their sizes
    are regressed on facts, and what is within chance is nought.
    """
    found = np.zeros((levels.shape[1], facts.shape[1]))
    for j in range(len(found)):
        own = known[:, j] >= LEAST_VALUES
        x, y = facts[own] - facts[own].mean(0) if own.any() else facts[own], levels[own, j]
        if len(x) < LEAST_SUBJECTS or not x.shape[1]:
            continue
        size = np.log(np.abs(y - y.mean()) + 0.1 * y.std() + 1e-6)
        inverse = np.linalg.inv(x.T @ x + SPREAD_PRIOR * np.eye(x.shape[1]))
        b = inverse @ (x.T @ (size - size.mean()))
        left = float((size - size.mean() - x @ b).var())
        error = np.sqrt(np.maximum(left * np.diag(inverse), 1e-12))
        found[j] = np.where(np.abs(b) > BEYOND * error, b, 0.0)
    return found


def even(n: int, width: int, rng: np.random.Generator) -> Floats:
    """Return normal numbers, (n, width), that are spread evenly over the rows of each column.

    Latin hypercube sampling (McKay, Beckman and Conover, 1979): every one is normal, and the mean
    of few rows is near nought.
    """
    place = np.argsort(rng.random((n, width)), axis=0)
    return np.asarray(ndtri((place + rng.uniform(1e-6, 1 - 1e-6, (n, width))) / max(1, n)))


class Walk:
    """Latent paths of subjects, one visit after another."""

    def __init__(self, latent: Latent, facts: Floats, rng: np.random.Generator) -> None:
        n = latent.n
        drawn = even(len(facts), 2 * n, rng) @ root(latent.effects).T
        self.latent, self.facts = latent, facts
        self.level = drawn[:, :n] * latent.spreads(facts)
        told = facts @ latent.lively.T
        log = drawn[:, n:] + told
        # the mean square of scales is one
        spread = latent.effects.diagonal()[n:] + told.var(0) if len(facts) else 0.0
        self.scale = np.exp(np.clip(log - spread, -2.5, 1.5))
        self.roots = [root(part) for part in latent.parts]
        shape = (len(facts), n)
        self.u = [np.zeros(shape) for _ in self.roots]

    def step(
        self, rows: Ints, gap: Floats | None, mean: Floats, rng: np.random.Generator
    ) -> Floats:
        """Return scores at the next visits, so long after the last; None at the first."""
        total = np.zeros(mean.shape)
        for k, (scale, half) in enumerate(zip(self.latent.scales, self.roots, strict=True)):
            if not half.any():
                continue
            fresh = rng.standard_normal(mean.shape) @ half.T
            if gap is None or scale <= 0:
                self.u[k][rows] = fresh
            else:
                kept = np.exp(-gap / scale)[:, None]
                self.u[k][rows] = kept * self.u[k][rows] + np.sqrt(1 - kept**2) * fresh
            total += self.u[k][rows]
        return np.asarray(mean + self.level[rows] + self.scale[rows] * total)
