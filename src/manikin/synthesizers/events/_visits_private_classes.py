"""Classes of visits and of subjects under a budget: spectral, by a noisy second moment.

Reference  Dwork, Talwar, Thakurta and Zhang, "Analyze Gauss", STOC 2014 (a noisy second moment and
           its leading directions); Blum, Dwork, McSherry and Nissim, "Practical privacy: the SuLQ
           framework", PODS 2005 (k-means by noisy sums); Lazarsfeld and Henry, "Latent structure
           analysis" (1968): what speaks for a class, by noisy counts of codes in classes
Idea       a set of codes is a point of norm 1. The noisy sum of products of its coordinates has
           directions in which sets differ more than noise does; the rows of that sum are first
           centres, at no cost; k-means moves them by noisy sums; codes counted within classes then
           say which class a set is of. A set's class hangs on nothing but itself and what was paid
Sensitivity  a set adds a matrix, or a point and 1, of norm 1 (or of the root of 2); a subject's
           sum of these is shortened to the norm that the noise is of
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from manikin.synthesizers.events._visits_classes import Classes
from manikin.synthesizers.events._visits_private_purse import Noisy, Purse, Told
from manikin.synthesizers.events.encoding import Histories

__all__ = ["Sets", "classes_by_centres", "found_centres", "label_of", "products", "speaking",
           "told_products", "trusted"]  # fmt: skip

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

WIDEST = 400  # codes among which products are counted
DIRECTIONS = 24
ABOVE = 1.1  # of the greatest direction that noise alone is expected to have
LLOYD = 2  # noisy rounds of k-means
CLEAR = 4.0  # deviations that a class must hold
PAIRED = 48  # codes of a set whose products are counted, the first by `codes`


@dataclass(frozen=True, eq=False)
class Sets:
    """Sets of codes of histories, public in all but what `of` returns while it is paid for."""

    of: Callable[[Histories], Any]  # → sparse (sets, codes) of 0 and 1
    owners: Callable[[Histories], Ints]
    codes: Ints  # those among which products are counted

    @property
    def width(self) -> int:
        """How many codes there are."""
        return self.codes.size

    def points(self, h: Histories) -> Any:
        """Return the sets as points of norm 1, or 0, sparse (sets, width)."""
        own = self.of(h)[:, self.codes]
        held = np.asarray(own.sum(axis=1)).ravel()
        return (sp.diags(1.0 / np.sqrt(np.maximum(held, 1.0))) @ own).tocsr()


def found_centres(
    purse: Purse, sets: Sets, most: int, norm: float, share: str, what: str,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Noisy]:  # fmt: skip
    """Return directions, (width, rank), centres in them, (classes, rank), and the products."""
    moment = _second_moment(purse, sets, norm, share, what)
    value, vector = np.linalg.eigh(moment.value)
    order = np.argsort(-value)[:DIRECTIONS]
    # the norm of a symmetric matrix of noise alone is about twice its deviation by its root
    edge = 2 * moment.noise * np.sqrt(sets.width) * ABOVE
    kept = order[value[order] > edge]
    if kept.size < 2 or most < 2:
        return np.zeros((sets.width, 0)), np.zeros((1, 0)), moment
    directions = vector[:, kept]
    mass = np.maximum(np.diag(moment.value), 0.0)
    rows = moment.value @ directions
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    clear = np.flatnonzero(mass > 2 * moment.noise)
    centres = _clustered(rows[clear], mass[clear], most, rng)
    for _ in range(LLOYD):
        centres = _moved(purse, sets, directions, centres, norm, share, what)
    return directions, centres, moment


def _second_moment(purse: Purse, sets: Sets, norm: float, share: str, what: str) -> Noisy:
    """Return the noisy sum of products of points' coordinates, (width, width), symmetric."""
    width = sets.width

    size = width * (width + 1) // 2
    found = purse.buy(
        lambda h: told_products(sets, h),
        size,
        norm=norm,
        share=share,
        what=f"products of {what}",
        part=0.6,
    )
    upper = np.zeros((width, width))
    upper[np.triu_indices(width)] = found.value
    return Noisy(upper + np.triu(upper, 1).T, found.noise)


def told_products(sets: Sets, h: Histories) -> Told:
    """Return the products of the sets of histories, in the order of an upper half by rows."""
    points, owners, width = sets.points(h), sets.owners(h), sets.width
    i, j, amount, of = products(points)
    return Told(owners[of], i * width - i * (i - 1) // 2 + j - i, amount)


def products(points: Any) -> tuple[Ints, Ints, Floats, Ints]:
    """Return the products of coordinates of each point: i ≤ j, how much, and of which point."""
    points.sort_indices()
    rank = np.arange(points.nnz) - np.repeat(points.indptr[:-1], np.diff(points.indptr))
    size = np.minimum(np.diff(points.indptr), PAIRED)
    first = rank < PAIRED
    starts = np.concatenate([[0], np.cumsum(size)])
    points = sp.csr_matrix((points.data[first], points.indices[first], starts), points.shape)
    size = np.diff(points.indptr).astype(np.int64)
    row = np.repeat(np.arange(size.size), size)
    again = np.repeat(np.arange(row.size), size[row])
    begin = points.indptr[:-1].astype(np.int64)[row]
    after = np.arange(again.size) - np.repeat(np.cumsum(size[row]) - size[row], size[row])
    other = begin[again] + after
    i, j = points.indices[again].astype(np.int64), points.indices[other].astype(np.int64)
    upper = i <= j
    amount = points.data[again] * points.data[other]
    return i[upper], j[upper], amount[upper], row[again][upper]


def _clustered(points: Floats, mass: Floats, most: int, rng: np.random.Generator) -> Floats:
    """Return centres of weighted points: the best of some starts (k-means++), all of it public."""
    best, least = points[:1], np.inf
    for _ in range(8):
        centres = [points[rng.choice(len(points), p=mass / mass.sum())]]
        away = ((points - centres[0]) ** 2).sum(axis=1)
        while len(centres) < min(most, len(points)) and (away * mass).sum() > 1e-9:
            chance = away * mass
            centres.append(points[rng.choice(len(points), p=chance / chance.sum())])
            away = np.minimum(away, ((points - centres[-1]) ** 2).sum(axis=1))
        now = np.stack(centres)
        for _ in range(20):
            label = nearest(points, now)
            total, size = np.zeros_like(now), np.bincount(label, mass, len(now))
            np.add.at(total, label, points * mass[:, None])
            now = np.where(size[:, None] > 0, total / np.maximum(size, 1e-9)[:, None], now)
        error = float((((points - now[nearest(points, now)]) ** 2).sum(axis=1) * mass).sum())
        if error < least:
            best, least = now, error
    return best


def nearest(points: Floats, centres: Floats) -> Ints:
    """Return the centre that is nearest to each point."""
    away = (centres**2).sum(axis=1)[None] - 2 * points @ centres.T
    return np.asarray(np.argmin(away, axis=1), np.int64)


def _moved(
    purse: Purse, sets: Sets, directions: Floats, centres: Floats, norm: float, share: str,
    what: str,
) -> Floats:  # fmt: skip
    """Return centres moved to the noisy means of the points nearest to them; faint ones go."""
    n, rank = centres.shape
    wide = rank + 1

    def tell(h: Histories) -> Told:
        flat, owners = _flat(sets, h, directions), sets.owners(h)
        label = nearest(flat, centres)
        place = (label * wide)[:, None] + np.arange(wide)[None]
        amount = np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
        return Told(np.repeat(owners, wide), place.ravel(), amount.ravel())

    found = purse.buy(
        tell, n * wide, norm=norm * np.sqrt(2), share=share, what=f"centres of {what}",
        part=0.4 / LLOYD,
    ).shaped(n, wide)  # fmt: skip
    size = found.value[:, -1]
    kept = np.flatnonzero(size > CLEAR * found.noise)
    if not kept.size:
        return centres[:1]
    mean = found.value[kept, :-1] / size[kept, None]
    # as far as noise lets a mean be believed
    doubt = (found.noise / size[kept, None]) ** 2 * rank
    trust = np.maximum(0.0, 1 - doubt / np.maximum((mean**2).sum(axis=1, keepdims=True), 1e-12))
    return np.asarray(trust * mean + (1 - trust) * centres[kept])


def _flat(sets: Sets, h: Histories, directions: Floats) -> Floats:
    found = np.asarray(sets.points(h) @ directions)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))


def classes_by_centres(
    sets: Sets, directions: Floats, centres: Floats
) -> Callable[[Histories], Ints]:
    """Return what tells the class of each set by the nearest centre."""

    def of(h: Histories) -> Ints:
        if len(centres) == 1:
            return np.zeros(sets.owners(h).size, np.int64)
        return nearest(_flat(sets, h, directions), centres)

    return of


def speaking(count: Floats, size: Floats, noise: float) -> Classes:
    """Return how codes speak for classes, by their noisy counts, (classes, codes), and sizes.

    What stands out of noise no more than noise does speaks for none.
    """
    size = np.maximum(size, max(noise, 1.0))
    share = np.clip(count.sum(axis=0) / size.sum(), 1e-6, 0.98)
    expected = size[:, None] * share
    told = trusted(count - expected, noise)
    p = np.clip((expected + told + 0.5 * share) / (size[:, None] + 1.0), 1e-6, 1 - 1e-4)
    # a share that noise could have made is not taken for nought
    p = np.maximum(p, np.minimum(share, 0.5 * noise / size[:, None]))
    constant = np.log1p(-p).sum(axis=1) + np.log(size / size.sum())
    return Classes(np.clip((np.log(p) - np.log1p(-p)).T, -50, 50), constant)


def trusted(excess: Floats, noise: float) -> Floats:
    """Return what is left of excesses, column by column, when noise of that deviation goes.

    By empirical Bayes (James and Stein): as much as the column varies beyond noise.
    """
    if noise <= 0 or not excess.size:
        return excess
    wide = np.maximum((excess**2).mean(axis=0) - noise**2, 0.0)
    # few columns' own variance is told well: one in many is drawn to what stands out by itself
    weight = np.maximum(wide / (wide + noise**2), excess**2 / (excess**2 + 9 * noise**2))
    return np.asarray(weight * excess)


def label_of(sets: Any, fitted: Classes) -> Ints:
    """Return the likeliest class of each set, without chance: a function of the set alone."""
    score = np.asarray(sets @ fitted.log_odds) + fitted.constant
    return np.asarray(np.argmax(score, axis=1), np.int64)
