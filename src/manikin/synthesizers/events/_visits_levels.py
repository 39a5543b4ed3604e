"""What lasts in the numbers of subjects: factors that several codes share, and a level of each.

Idea  factor analysis of subjects' levels. Products of two different numbers of one subject have the
      covariance of their levels for a mean, however few numbers there are; its leading
      eigenvectors are the loadings (principal factors: Thurstone, 1947), and a subject's factors
      are their posterior means
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from manikin.synthesizers.events._quantiles import normal_scores
from manikin.synthesizers.events.encoding import Histories

__all__ = ["FACTORS", "Levels", "find_levels"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

FACTORS = 6  # at most
LEAST = 0.15  # variance of levels, summed over codes, that a factor carries at least
SUBJECTS = 15.0  # that both have two codes: at which half of a covariance is believed


@dataclass(frozen=True, eq=False)
class Levels:
    """Scores of numbers, and what of them lasts in a subject."""

    score: Floats  # (events,) normal score of each number, NaN for none
    own: Floats  # (subjects, factors) posterior means, of variance 1; NaN without a number
    load: Floats  # (codes, factors)
    common: Floats  # (codes,) variance of the level


def find_levels(h: Histories, k: int) -> Levels:
    """Find the factors of subjects' levels; as many as stand out, none where there are few."""
    rows = np.flatnonzero(~np.isnan(h.value))
    score = np.full(h.of.size, np.nan)
    score[rows] = normal_scores(h.value[rows], h.code[rows])
    whose = h.whose[h.of[rows]]
    n = h.n_codes
    none = Levels(score, np.zeros((h.n_subjects, 0)), np.zeros((n, 0)), np.zeros(n))
    codes, at = np.unique(h.code[rows], return_inverse=True)
    if not codes.size:
        return none
    shape = (h.n_subjects, codes.size)
    size = sp.csr_matrix((np.ones(rows.size), (whose, at)), shape=shape)
    total = sp.csr_matrix((score[rows], (whose, at)), shape=shape)
    covariance = _covariance(
        size, total, np.asarray(np.bincount(at, weights=score[rows] ** 2), np.float64)
    )
    value, vector = np.linalg.eigh(covariance)
    most = min(FACTORS, codes.size, h.n_subjects // (4 * k))
    order = np.argsort(-value)[: max(most, 0)]
    # of noise alone as much is below nothing as above
    order = order[value[order] > max(LEAST, 1.2 * float(-value.min()))]
    common = np.clip(np.diag(covariance), 0.0, 0.98)
    load = vector[:, order] * np.sqrt(value[order])
    over = (load**2).sum(axis=1) / np.maximum(common, 1e-9)
    load /= np.sqrt(np.maximum(over, 1.0))[:, None]
    whole, lasting = np.zeros((n, order.size)), np.zeros(n)
    whole[codes], lasting[codes] = load, common
    if not order.size:
        return Levels(score, none.own, whole, lasting)
    return Levels(score, _posterior(size, total, load, common), whole, lasting)


def _covariance(size: sp.csr_matrix, total: sp.csr_matrix, square: Floats) -> Floats:
    """Return the covariance of levels, (codes, codes); a pair that few have is drawn to none."""
    product = np.asarray((total.T @ total).todense(), np.float64)
    pairs = np.asarray((size.T @ size).todense(), np.float64)
    held = size.copy()
    held.data[:] = 1.0
    both = np.asarray((held.T @ held).todense(), np.float64)
    events = np.asarray(size.sum(axis=0)).ravel()
    product[np.diag_indices_from(product)] -= square
    pairs[np.diag_indices_from(pairs)] -= events
    found = product / np.maximum(pairs, 1.0)
    found *= both / (both + SUBJECTS)
    # a level that one number a subject tells nothing of is taken to be as that of other codes
    diagonal = np.diag_indices_from(found)
    usual = np.trace(product) / max(float(np.trace(pairs)), 1.0)
    weight = pairs[diagonal] / (pairs[diagonal] + SUBJECTS)
    raw = product[diagonal] / np.maximum(pairs[diagonal], 1.0)
    found[diagonal] = np.clip(weight * raw + (1 - weight) * max(usual, 0.0), 0.0, 0.98)
    bound = np.sqrt(np.outer(found[diagonal], found[diagonal]))
    bound[diagonal] = 1.0
    return np.asarray(np.clip(found, -bound, bound))


def _posterior(size: sp.csr_matrix, total: sp.csr_matrix, load: Floats, common: Floats) -> Floats:
    """Return the posterior means of factors, standardised; NaN for who has no number."""
    subjects, rank = size.shape[0], load.shape[1]
    unlike = np.maximum(common - (load**2).sum(axis=1), 0.02)
    count = size.tocoo()
    noise = np.maximum(1.0 - common, 0.02)
    precision = 1.0 / (unlike[count.col] + noise[count.col] / count.data)
    mean = np.asarray(total.tocsr()[count.row, count.col]).ravel() / count.data
    left = np.tile(np.eye(rank), (subjects, 1, 1))
    right = np.zeros((subjects, rank))
    for i in range(rank):
        one = precision * load[count.col, i]
        right[:, i] = np.bincount(count.row, weights=one * mean, minlength=subjects)
        for j in range(rank):
            left[:, i, j] += np.bincount(
                count.row, weights=one * load[count.col, j], minlength=subjects
            )
    found = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    some = np.bincount(count.row, minlength=subjects) > 0
    middle, spread = found[some].mean(axis=0), np.maximum(found[some].std(axis=0), 1e-9)
    return np.where(some[:, None], (found - middle) / spread, np.nan)
