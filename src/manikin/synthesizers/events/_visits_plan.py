"""Planned visits: kinds of stays that come once in a subject, in an order.

Reference  Markov renewal with absorbed states; experts whose chances are multiplied: Hinton, Neural
           Computation 14 (2002)
Idea       a protocol names its visits. The chance of a class of visits is multiplied by how much
           oftener the kinds that it has follow the last planned one than they are there at all,
           and a kind that was there is not there again
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events.encoding import Histories

if TYPE_CHECKING:
    from manikin.synthesizers.events._visits_process import Process

__all__ = ["Plan", "fit_plan"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

REPEATS = 0.05  # of those that independence would make, at most, where visits are planned
FEWEST = 20.0  # repeats that independence would make, for it to tell
PRIOR = 0.05  # transitions that the usual share of a kind weighs


def fit_plan(h: Histories, kinds: Ints) -> tuple[Floats, Floats]:
    """Return how much oftener kinds follow others than they are there, and which come once.

    (kinds, kinds) and (kinds,); of no kind, where visits are not planned. Row 0 is that of
    subjects who had none yet, as `kinds` begins with -1, for none.
    """
    none = np.zeros((0, 0)), np.zeros(0)
    rows = np.flatnonzero((h.kind >= 0) & h.dated)
    if not rows.size or kinds[0] != -1:
        return none
    n, whose, place = kinds.size, h.whose[rows], np.searchsorted(kinds, h.kind[rows])
    size = np.bincount(place, minlength=n)
    held = np.bincount(np.unique(whose * n + place) % n, minlength=n)
    due = np.bincount(whose, minlength=h.n_subjects)[:, None] * (size / rows.size)[None]
    expected = float((due + np.expm1(-due)).sum())
    repeats = size - held
    if expected < FEWEST or repeats.sum() > REPEATS * expected:
        return none
    once = (repeats <= REPEATS * held) & (held > 0)
    usual = (size + 0.5) / (rows.size + 0.5 * n)
    first = np.diff(whose, prepend=-1) != 0
    before = np.where(first, 0, np.concatenate([[0], place[:-1]]))
    count = np.bincount(before * n + place, minlength=n * n).reshape(n, n)
    share = (count + PRIOR * usual) / (count.sum(axis=1, keepdims=True) + PRIOR)
    follows = np.where(once[None], share / usual, 1.0)
    follows[:, 0] = 1.0
    return follows, once.astype(np.float64)


class Plan:
    """Where subjects are in the plan, while their visits are drawn."""

    def __init__(self, process: Process, n: int) -> None:
        """Begin with nobody having had a planned visit."""
        self._p = process
        self._last = np.zeros(n, np.int64)
        self._used = np.zeros((n, process.kinds.size), bool)

    @property
    def there(self) -> bool:
        """Whether visits are planned at all."""
        return bool(self._p.once.size)

    def of(self, h: Histories, rows: Ints) -> None:
        """Begin where the histories of subjects, which are these rows of theirs, ended."""
        if not self.there:
            return
        at = np.flatnonzero((h.kind >= 0) & h.dated & np.isin(h.kind, self._p.kinds))
        place = np.searchsorted(self._p.kinds, h.kind[at])
        last = np.zeros(h.n_subjects, np.int64)
        last[h.whose[at]] = place  # ascending in time: the last one stays
        used = np.zeros((h.n_subjects, self._p.kinds.size), bool)
        used[h.whose[at], place] = True
        self._last, self._used = last[rows], used[rows]

    def _ratio(self, who: Ints) -> Floats:
        free = ~(self._used[who] & (self._p.once > 0)[None])
        return np.asarray(self._p.follows[self._last[who]] * free)

    def factor(self, who: Ints) -> Floats:
        """Return the factors of the classes of the next visit, (who, classes)."""
        return np.asarray(self._ratio(who) @ self._p.kind.T)

    def choose(self, who: Ints, classes: Ints, rng: np.random.Generator) -> Ints:
        """Draw the kinds of visits of these classes, and remember them."""
        total = np.cumsum(self._p.kind[classes] * self._ratio(who), axis=1)
        draw = rng.random(who.size) * total[:, -1]
        place = np.minimum((total <= draw[:, None]).sum(axis=1), self._p.kinds.size - 1)
        place = np.where(total[:, -1] > 0, place, 0)
        stays = place > 0
        self._last[who[stays]] = place[stays]
        self._used[who[stays], place[stays]] = True
        return self._p.kinds[place]
