"""What is seen of each subject's traits: levels and trends of numbers, shares of moments, pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._visits_moments import moments_of
from manikin.synthesizers.events._visits_values import positions
from manikin.synthesizers.events.encoding import Histories

__all__ = ["Shares", "common", "levels_of", "paces_of", "shares_of", "trends_of"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

SHORTEST = 0.02  # days, to which a rate is told
SPAN = 0.05  # least mean square of the places of numbers in a record for a trend


def common(code: Ints, whose: Ints, n_codes: int, least: int, most: int) -> Ints:
    """Return the codes that most subjects have, at least so many subjects, ascending."""
    size = int(whose.max(initial=0)) + 1
    held = np.bincount(np.unique(code * size + whose) // size, minlength=n_codes)
    order = np.argsort(-held, kind="stable")[:most]
    return np.sort(order[held[order] >= least])


def _slots(codes: Ints, n_codes: int) -> Ints:
    found = np.full(n_codes, -1, np.int64)
    found[codes] = np.arange(codes.size)
    return found


def levels_of(h: Histories, rows: Ints, score: Floats, codes: Ints) -> Floats:
    """Return the mean score of each subject's numbers of some codes, (subjects, codes)."""
    slot = _slots(codes, h.n_codes)[h.code[rows]]
    some = slot >= 0
    key = h.whose[h.of[rows[some]]] * codes.size + slot[some]
    size = h.n_subjects * codes.size
    count = np.bincount(key, minlength=size)
    total = np.bincount(key, weights=score[some], minlength=size)
    found = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found.reshape(h.n_subjects, codes.size)


def trends_of(h: Histories, rows: Ints, score: Floats, codes: Ints) -> Floats:
    """Return by how much scores rise over each subject's record, NaN where too few tell."""
    slot = _slots(codes, h.n_codes)[h.code[rows]]
    some = slot >= 0
    x, y = positions(h)[rows[some]], score[some]
    key = h.whose[h.of[rows[some]]] * codes.size + slot[some]
    size = h.n_subjects * codes.size
    n, sx, sy, sxx, sxy = (
        np.bincount(key, weights=w, minlength=size) for w in (np.ones(y.size), x, y, x * x, x * y)
    )
    many = np.maximum(n, 1)
    square = sxx - sx**2 / many
    steady = (n >= 4) & (square / many >= SPAN)
    found = np.where(steady, (sxy - sx * sy / many) / np.maximum(square, 1e-9), np.nan)
    return np.clip(found, -4, 4).reshape(h.n_subjects, codes.size)


@dataclass(frozen=True, eq=False)
class Shares:
    """How often codes are measured in visits of several moments that have them."""

    rate: Floats  # (subjects, codes) logarithm of moments a day, NaN where there is none
    chance: Floats  # (codes,) mean variance that is that of independent moments
    usual: Floats  # (codes,) share of all
    regular: Floats  # (codes,) how far from independent its moments are: 1 is every so many

    def of(self, kept: NDArray[np.bool_]) -> Shares:
        """Return those of some of the codes."""
        return Shares(self.rate[:, kept], self.chance[kept], self.usual[kept], self.regular[kept])


def shares_of(h: Histories, codes: Ints) -> Shares:
    """Measure how often codes are at a moment, in visits of several."""
    if not codes.size:
        none = np.zeros(0)
        return Shares(np.zeros((h.n_subjects, 0)), none, none, none)
    visit, of = moments_of(h)
    many = np.bincount(visit, minlength=h.n)
    place, n = _slots(codes, h.n_codes), codes.size
    pairs = np.unique(of * max(h.n_codes, 1) + h.code)
    moment, code = np.divmod(pairs, max(h.n_codes, 1))
    some = (place[code] >= 0) & (many[visit[moment]] > 1) if code.size else np.zeros(0, bool)
    moment, slot = moment[some], place[code[some]]
    starts, held = h.multi_hot
    at = np.repeat(np.arange(h.n), np.diff(starts))
    long = (many[at] > 1) & (place[held] >= 0) if held.size else np.zeros(0, bool)
    size = h.n_subjects * n
    chances = np.bincount(h.whose[at[long]] * n + place[held[long]], weights=many[at[long]],
                          minlength=size).reshape(-1, n)  # fmt: skip
    hits = np.bincount(h.whose[visit[moment]] * n + slot, minlength=size).reshape(-1, n)
    usual = (hits.sum(axis=0) + 0.5) / (chances.sum(axis=0) + 1.0)
    days = np.bincount(h.whose[at[long]] * n + place[held[long]], weights=h.length[at[long]],
                       minlength=size).reshape(-1, n)  # fmt: skip
    there = (chances > 0) & (days > 0)
    rate = np.log((hits + 0.3) / np.maximum(days, SHORTEST))
    rate = np.where(there, np.clip(rate, -9, 9), np.nan)
    share = np.minimum(hits / np.maximum(chances, 1), 1.0)
    noise = np.where(there, (1.0 - share) / (hits + 0.5), 0.0)
    held_by = np.maximum(there.sum(axis=0), 1)
    regular = _regular(visit[moment], slot, moment, many, n)
    return Shares(rate, noise.sum(axis=0) / held_by, usual, regular)


def _regular(visit: Ints, slot: Ints, moment: Ints, many: Ints, n: int) -> Floats:
    """Return by how much steps between moments of a code vary less than by independence."""
    order = np.lexsort((moment, slot, visit))
    visit, slot, moment = visit[order], slot[order], moment[order]
    same = (np.diff(visit) == 0) & (np.diff(slot) == 0)
    step = np.diff(moment)[same].astype(np.float64)
    key, group = np.unique((visit * max(n, 1) + slot)[1:][same], return_inverse=True)
    count = np.bincount(group, minlength=key.size)
    mean = np.bincount(group, weights=step, minlength=key.size) / np.maximum(count, 1)
    spread = np.bincount(group, weights=(step - mean[group]) ** 2, minlength=key.size)
    of, owner = np.divmod(key, max(n, 1))
    share = np.minimum((count + 1) / np.maximum(many[of], 1), 1.0)
    due = np.maximum(count - 1, 0) * mean**2 * (1 - share)
    found = np.bincount(owner, weights=spread, minlength=n)
    expected = np.bincount(owner, weights=due, minlength=n)
    pooled = found.sum() / max(float(expected.sum()), 1e-9)
    prior = expected.sum() / max(n, 1) * 0.05 + 1e-9
    return np.asarray(np.clip(1.0 - (found + prior * pooled) / (expected + prior), 0.0, 1.0))


def paces_of(h: Histories) -> Floats:
    """Return the logarithm of the days from moment to moment of each subject, NaN for too few."""
    visit, _ = moments_of(h)
    many = np.bincount(visit, minlength=h.n)
    long = np.flatnonzero((many > 2) & (h.length > 0))
    pace = np.log(h.length[long] / many[long])
    count = np.bincount(h.whose[long], minlength=h.n_subjects)
    total = np.bincount(h.whose[long], weights=pace, minlength=h.n_subjects)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
