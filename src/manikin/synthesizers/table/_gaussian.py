"""Latent Gaussian parts: truncated normal draws, Gibbs sweeps, correlations that stay valid."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

SMALLEST = 1e-8  # eigenvalue below which a correlation matrix counts as singular
STRONGEST = 0.9999  # correlation of latents whose cuts always agree
BLOCK = 32  # latents whose conditional means are computed together
FAR = 12.0  # no latent lies further out, in standard deviations


def truncated(
    mean: Floats, sd: Floats | float, lower: Floats, upper: Floats, rng: np.random.Generator
) -> Floats:
    """Draw from N(mean, sd²) between `lower` and `upper`, elementwise.

    Intervals far in the right tail are mirrored to the left, where probabilities keep precision.
    """
    a, b = (lower - mean) / sd, (upper - mean) / sd
    mirrored = a > 0
    left, right = np.where(mirrored, -b, a), np.where(mirrored, -a, b)
    below, above = ndtr(left), ndtr(right)
    drawn = ndtri(below + rng.random(np.shape(left)) * (above - below))
    # where both probabilities vanish, what is left of the density lies at the nearer end
    drawn = np.clip(np.where(np.isfinite(drawn), drawn, right), left, right)
    drawn = np.clip(np.where(mirrored, -drawn, drawn) * sd + mean, -FAR, FAR)
    return np.asarray(drawn)


def start(lower: Floats, upper: Floats) -> Floats:
    """Return the normal score of the middle of each interval, by probability."""
    middle = (ndtr(lower) + ndtr(upper)) / 2
    return np.asarray(np.clip(ndtri(middle), -FAR, FAR))


def gibbs(
    z: Floats, correlation: Floats, lower: Floats, upper: Floats, rng: np.random.Generator
) -> None:
    """Redraw each latent given the others, in place: one sweep (Hoff 2007, §3)."""
    precision = np.linalg.inv(correlation)
    weights = -precision / np.diag(precision)
    np.fill_diagonal(weights, 0.0)
    sd = 1 / np.sqrt(np.diag(precision))
    for first in range(0, len(precision), BLOCK):
        block = slice(first, min(first + BLOCK, len(precision)))
        # one product for the block, then each new draw corrects the means of those after it
        means = z @ weights[:, block]
        for i, k in enumerate(range(block.start, block.stop)):
            drawn = truncated(means[:, i], float(sd[k]), lower[:, k], upper[:, k], rng)
            means[:, i + 1 :] += (drawn - z[:, k])[:, None] * weights[k, k + 1 : block.stop]
            z[:, k] = drawn


def tetrachoric(lower: Floats, upper: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return which latents have one cut only, and the correlations between them.

    For two cuts the correlation follows from the share of rows above both (Pearson 1900), which
    stochastic EM would approach slowly. Cells that nobody is in count half a row.
    """
    cuts = [np.unique(lower[:, k][np.isfinite(lower[:, k])]) for k in range(lower.shape[1])]
    ends = [np.unique(upper[:, k][np.isfinite(upper[:, k])]) for k in range(lower.shape[1])]
    pairs = enumerate(zip(cuts, ends, strict=True))
    at = np.array([k for k, (a, b) in pairs if a.size == b.size == 1 and a[0] == b[0]], np.int64)
    above, below = np.isfinite(lower[:, at]).astype(float), np.isfinite(upper[:, at]).astype(float)
    cells = [above.T @ above, above.T @ below, below.T @ above, below.T @ below]
    both, first, second, neither = (np.maximum(cell, 0.5) for cell in cells)
    rows = both + first + second + neither
    a, b = ndtri((both + first) / rows), ndtri((both + second) / rows)
    share = both / rows
    low, high = np.full(share.shape, -np.pi / 2), np.full(share.shape, np.pi / 2)
    for _ in range(30):
        middle = (low + high) / 2
        more = _above_both(a, b, middle) < share
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    found = np.clip(np.sin((low + high) / 2), -STRONGEST, STRONGEST)
    np.fill_diagonal(found, 1.0)
    return at, np.asarray((found + found.T) / 2)


def _above_both(a: Floats, b: Floats, angle: Floats) -> Floats:
    """Return P(X < a, Y < b) of normals with correlation sin(angle), by quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    total = np.zeros(a.shape)
    for node, weight in zip(nodes, weights, strict=True):
        theta = angle * (node + 1) / 2
        exponent = (a**2 + b**2 - 2 * a * b * np.sin(theta)) / (2 * np.cos(theta) ** 2 + 1e-12)
        total += weight * np.exp(-exponent)
    return np.asarray(ndtr(a) * ndtr(b) + total * angle / (4 * np.pi))


def to_correlation(moments: Floats) -> Floats:
    """Scale a matrix of moments to a unit diagonal."""
    scale = np.sqrt(np.clip(np.diag(moments), SMALLEST, None))
    scaled = moments / np.outer(scale, scale)
    np.fill_diagonal(scaled, 1.0)
    return np.asarray((scaled + scaled.T) / 2)


def shrunk(correlation: Floats, n: int) -> Floats:
    """Shrink towards independence as far as sampling noise of `n` rows asks for.

    Schäfer and Strimmer (2005), table 2 target D, with the delta-method variance of a
    correlation, (1 - r²)² / (n - 1).
    """
    off = correlation - np.diag(np.diag(correlation))
    signal = float(np.sum(off**2))
    noise = float(np.sum((1 - off**2) ** 2) - len(off)) / max(n - 1, 1)
    share = min(1.0, noise / signal) if signal > 0 else 1.0
    # with many rows a latent the least squares solution stands by itself
    share *= min(1.0, 2.0 * len(off) / n)
    return np.asarray(np.eye(len(off)) + (1 - share) * off)


def valid(correlation: Floats, unrelated: Bools, *, rounds: int = 0) -> Floats:
    """Return a correlation matrix near this one, positive definite, zero where `unrelated`.

    `rounds` of alternating projections (Higham 2002), then as much of the identity as is still
    needed.
    """
    found = np.where(unrelated, 0.0, correlation)
    try:  # the quick way to see that all is well
        np.linalg.cholesky(found - SMALLEST * np.eye(len(found)))
        return found
    except np.linalg.LinAlgError:
        least = float(np.linalg.eigvalsh(found)[0])
    for _ in range(rounds if least < SMALLEST else 0):
        values, vectors = np.linalg.eigh(found)
        clipped = (vectors * np.clip(values, 10 * SMALLEST, None)) @ vectors.T
        found = np.where(unrelated, 0.0, to_correlation(clipped))
        least = float(np.linalg.eigvalsh(found)[0])
        if least >= SMALLEST:
            break
    if least < SMALLEST:
        share = (2 * SMALLEST - least) / (1 - least)
        found = (1 - share) * found + share * np.eye(len(found))
    return np.asarray(found)


def root(covariance: Floats) -> Floats:
    """Return A with A Aᵀ the covariance, whose negative eigenvalues count as none."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))


def between_within(
    z: Floats, subjects: NDArray[np.int64], correlation: Floats, static: Bools
) -> tuple[Floats, Floats]:
    """Split a correlation into what rows of one subject share and what each row has alone.

    The shared part is the mean product of different rows of a subject; static latents are shared
    wholly. Both parts are made positive semi-definite.
    """
    _, whose, rows = np.unique(subjects, return_inverse=True, return_counts=True)
    sums = np.zeros((rows.size, z.shape[1]))
    np.add.at(sums, whose, z)
    pairs = float(np.sum(rows * (rows - 1)))
    shared = (sums.T @ sums - z.T @ z) / max(pairs, 1.0) if pairs else correlation.copy()
    # the data cannot tell more of the latents' scale than that it is one
    shared = np.clip((shared + shared.T) / 2, -1.0, 1.0)
    either = static[:, None] | static[None, :]
    shared = np.where(either, correlation, shared)
    values, vectors = np.linalg.eigh(correlation)
    whiten = (vectors / np.sqrt(np.clip(values, SMALLEST, None))) @ vectors.T
    colour = (vectors * np.sqrt(np.clip(values, SMALLEST, None))) @ vectors.T
    # in coordinates where the whole is the identity, shares of variance lie between 0 and 1
    share, axes = np.linalg.eigh(whiten @ shared @ whiten)
    kept = (axes * np.clip(share, 0.0, 1.0)) @ axes.T
    between = colour @ kept @ colour
    within = correlation - between
    within[either] = 0.0
    return np.asarray(correlation - within), np.asarray(within)
