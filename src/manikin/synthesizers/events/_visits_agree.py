"""Traits settled by drawing: where drawn subjects differ from real ones, means and spreads move.

Idea  classes of visits, factors from a table and chance all have a part in what is seen of a
      subject; what is drawn is measured as what was seen, and the difference is given back
      (stochastic approximation: Robbins and Monro, Ann. Math. Stat. 22, 1951)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._visits_seen import levels_of, paces_of, shares_of, trends_of
from manikin.synthesizers.events._visits_traits import LEAST, SHIFT, Traits
from manikin.synthesizers.events.encoding import Histories

__all__ = ["Seen", "seen_of", "settled_traits"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

ROUNDS = 2
FEWEST = 15  # subjects of a group on both sides
FARTHEST = 1.0  # of one move of a mean
MOST = 1.6  # of one move of a deviation


@dataclass(frozen=True, eq=False)
class Seen:
    """What is seen of subjects, (subjects, traits), and their group of outcome."""

    traits: Floats
    group: Ints


def seen_of(t: Traits, h: Histories, rows: Ints, score: Floats, group: Ints) -> Seen:
    """Measure the traits of subjects; `score` are those of the events `rows` that bear numbers."""
    parts = [levels_of(h, rows, score, t.level), trends_of(h, rows, score, t.trend),
             shares_of(h, t.often).rate]  # fmt: skip
    if t.pace[0]:
        parts.append(paces_of(h)[:, None])
    return Seen(np.column_stack(parts), group)


def settled_traits(t: Traits, real: Seen, draw: Callable[[Traits, int], Seen]) -> Traits:
    """Return the traits with which drawn subjects are as the real ones.

    `draw` returns what is seen of subjects drawn with some traits, by the number of the round.
    """
    if not t.n:
        return t
    spread, two = _moments(real.traits, real.group >= 0)[1], t.ends[1]
    unit = np.ones(t.n)
    unit[two:] = np.maximum(spread[two:], 1e-3)  # logarithms, for scores
    for turn in range(ROUNDS):
        t = _moved(t, real, draw(t, turn), unit, 0.8**turn)
    return t


def _moments(values: Floats, rows: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return means, deviations and numbers of what is known of some subjects."""
    own = values[rows]
    there = ~np.isnan(own)
    n = there.sum(axis=0)
    mean = np.where(there, own, 0).sum(axis=0) / np.maximum(n, 1)
    square = np.where(there, (own - mean) ** 2, 0).sum(axis=0) / np.maximum(n - 1, 1)
    return mean, np.sqrt(square), n.astype(np.float64)


def _moved(t: Traits, real: Seen, drawn: Seen, unit: Floats, by: float) -> Traits:
    """Return traits whose means, and deviations about them, are nearer to the real ones."""
    groups = len(t.mean)
    mean, root = t.mean.copy(), t.root.copy()
    total, weight = np.zeros((2, t.n)), np.zeros((2, t.n))
    for g in range(groups):
        sides = [_moments(side.traits, side.group == g) for side in (real, drawn)]
        n = np.minimum(sides[0][2], sides[1][2])
        enough = n >= FEWEST
        step = (sides[0][0] - sides[1][0]) / unit * np.where(enough, n / (n + SHIFT), 0)
        mean[g] += np.clip(by * step, -FARTHEST, FARTHEST)
        for i in range(2):
            total[i] += np.where(enough, n * sides[i][1] ** 2, 0)
            weight[i] += np.where(enough, n, 0)
    known = weight[0] > 0
    more = np.where(known, (total[0] - total[1]) / np.maximum(weight[0], 1), 0) / unit**2
    for g in range(groups):
        own = np.maximum((root[g] ** 2).sum(axis=0), LEAST)
        factor = np.sqrt(np.maximum(own + by * more, 0.05 * own) / own)
        root[g] = root[g] * np.clip(factor, 1 / MOST, MOST)[None]
    return dataclasses.replace(t, mean=np.clip(mean, -10, 10), root=np.clip(root, -10, 10))
