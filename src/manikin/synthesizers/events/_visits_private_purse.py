"""Noisy sums over subjects of histories: bounded, shortened to a public norm, paid for at once.

Whatever is bought here is one vector a subject, added up by `_bounded.counted`, which shortens
each to a public norm L. Nothing but public facts, sums that were paid for and the subject's own
record enters its vector: so to add or to remove a subject adds or takes away one vector of norm L
at most, and leaves all others as they were. That is the proof for every release of
`events/visits`: its sensitivity is L, in the Euclidean norm.

Reference  Bun and Steinke, TCC 2016 (zCDP); weights of long contributions: Biswas, Dong, Kamath
           and Ullman, NeurIPS 2020; a bound by quantiles: Andrew, Thakkar, McMahan and Ramaswamy,
           NeurIPS 2021
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.privacy.account import Account, measuring
from manikin.privacy.rows import at_most, paid
from manikin.synthesizers.events._bounded import counted, shortened
from manikin.synthesizers.events._visits_risk import Cells, cells_of
from manikin.synthesizers.events.encoding import Histories

__all__ = ["Bounds", "Noisy", "Purse", "Told", "bounded", "lengths"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

STEP = 1.5  # by which lengths of histories grow from one count to the next
USUAL, NEARLY = 0.9, 0.98  # shares of subjects within bounds: the second where noise is little
LITTLE = 0.005  # of all subjects


@dataclass(frozen=True, eq=False)
class Told:
    """What subjects add to a sum: so much each time, at a place of it."""

    whose: Ints
    place: Ints
    amount: Floats | None = None  # 1 if it is not given

    @property
    def amounts(self) -> Floats:
        """How much each time."""
        return np.ones(self.whose.size) if self.amount is None else self.amount

    def alike(self, size: int, norm: float) -> Floats:
        """Return the sum of drawn subjects, each shortened as a private one is, (size,)."""
        return shortened(self.whose, self.place, self.amounts, size, norm=norm)


@dataclass(frozen=True, eq=False)
class Noisy:
    """A sum over all subjects, and the standard deviation of the noise of each of its places."""

    value: Floats
    noise: float

    def shaped(self, *shape: int) -> Noisy:
        """Return the same in another shape."""
        return Noisy(self.value.reshape(shape), self.noise)


@dataclass(frozen=True)
class Bounds:
    """Lengths of histories within which nearly all are, by noisy counts: what norms are made of."""

    visits: float
    different: float  # codes that a subject ever has
    by_code: float  # norm of a subject's codes at visits, counted by code
    subjects: float = 1.0  # how many there are
    whole: float = 1.0  # visits of all of them together

    @property
    def by_class(self) -> float:
        """Usual norm of a subject's visits, counted by class."""
        return max(1.0, 0.6 * self.visits)

    @property
    def firsts(self) -> float:
        """Norm of the different codes of a subject."""
        return max(1.0, math.sqrt(self.different))

    @property
    def cells(self) -> float:
        """Codes at visits of a subject, were all its codes as frequent."""
        return self.by_code * math.sqrt(max(self.different, 1.0))


@dataclass
class Purse:
    """Histories that nobody reads but for a release, and the budget for these."""

    account: Account
    histories: Histories
    shares: Mapping[str, float]  # release → share of `money`
    money: float  # zCDP

    def __post_init__(self) -> None:
        whole = sum(self.shares.values())
        self.shares = {name: share / whole for name, share in self.shares.items()}

    def __repr__(self) -> str:
        return f"Purse(releases={len(self.shares)})"

    @property
    def private(self) -> Histories:
        """The histories. Raises PrivacyError unless they are read for a release."""
        return paid(self.histories)

    def noise(self, share: str, norm: float) -> float:
        """Return the deviation of the noise that such a release will have."""
        return norm / math.sqrt(2 * self.shares[share] * self.money)

    def buy(
        self,
        tell: Callable[[Histories], Told],
        size: int,
        *,
        norm: float,
        share: str,
        what: str,
        part: float = 1.0,
    ) -> Noisy:
        """Return the noisy sum of what `tell` says of histories, (size,).

        Its sensitivity is `norm`: each subject's vector is shortened to that.
        """
        rho = part * self.shares[share] * self.money
        with measuring():
            told = tell(self.private)
            value, noise = counted(
                self.account, told.whose, told.place, told.amounts, size, norm=norm, rho=rho,
                what=what,
            )  # fmt: skip
        return Noisy(value, noise)


def bounded(h: Histories, most_visits: int, most_events: int) -> Histories:
    """Return the first visits of each subject, and at random as many events of them as count.

    A subject's visits and events are chosen by themselves: to remove another changes none of them.
    """
    place = np.arange(h.n) - h.starts[:-1][h.whose]
    kept = place < most_visits
    to = np.cumsum(kept) - 1
    there = np.flatnonzero(kept[h.of])
    events = there[at_most(h.whose[h.of[there]], most_events)]
    return dataclasses.replace(
        h, whose=h.whose[kept], start=h.start[kept], length=h.length[kept], kind=h.kind[kept],
        ended=h.ended[kept], numbered=h.numbered[kept], of=to[h.of[events]], code=h.code[events],
        offset=h.offset[events], value=h.value[events], text=h.text[events],
        duration=h.duration[events],
    )  # fmt: skip


def lengths(purse: Purse, most_visits: int, most_events: int) -> tuple[Bounds, Floats]:
    """Return bounds that most histories are within, and how many subjects have more visits.

    Three counts of subjects on public steps: one place of each a subject, so sqrt(3).
    """
    steps = np.concatenate([[0.5], 1.01 * STEP ** np.arange(_steps(max(most_visits, most_events)))])
    n = steps.size + 1

    def tell(h: Histories) -> Told:
        cells = cells_of(h)
        whose = h.whose[cells.visit]
        size = h.n_subjects
        every = (
            np.bincount(h.whose, minlength=size),
            np.bincount(whose[cells.first], minlength=size),
            np.sqrt(np.bincount(whose[cells.first], _squares(cells), minlength=size)),
        )
        place = [np.searchsorted(steps, own) + n * i for i, own in enumerate(every)]
        return Told(np.tile(np.arange(size), 3), np.concatenate(place))

    found = purse.buy(
        tell, 3 * n, norm=math.sqrt(3), share="lengths", what="how long histories are"
    ).shaped(3, n)
    ends = np.append(steps, steps[-1] * STEP)
    bounds = [float(ends[_quantile(row, found.noise)]) for row in found.value]
    count = np.maximum(found.value[0], 0.0)
    above = 1.0 - np.cumsum(count) / max(count.sum(), 1.0)
    ranks = np.arange(1, most_visits + 1)
    reached = np.interp(np.log(ranks), np.log(ends), above)
    subjects = max(float(found.value.sum()) / 3, 1.0)
    middle = np.concatenate([[0.0], np.sqrt(ends[1:] * ends[:-1])])
    usual = count * (count > found.noise)
    mean = float((usual * middle).sum()) / max(float(usual.sum()), 1.0)
    return (
        Bounds(min(bounds[0], most_visits), min(bounds[1], most_events),
               max(1.0, bounds[2]), subjects, max(1.0, subjects * mean)),
        np.minimum.accumulate(np.clip(reached, 0.0, 1.0)),
    )  # fmt: skip


def _squares(cells: Cells) -> Floats:
    """Return for each code of each subject the square of at how many visits it was."""
    at = np.cumsum(cells.first) - 1
    return np.asarray(np.bincount(at).astype(np.float64) ** 2)


def _steps(most: int) -> int:
    return math.ceil(math.log(max(most, 2)) / math.log(STEP)) + 1


def _quantile(count: Floats, noise: float) -> int:
    """Return the first step beyond which no more than few are, as far as noise lets it be seen."""
    beyond = np.append(np.cumsum(count[::-1])[::-1][1:], 0.0)
    doubt = noise * np.sqrt(np.arange(count.size - 1, -1, -1))
    whole = max(float(count.sum()), 0.0)
    few = (1 - (NEARLY if noise < LITTLE * whole else USUAL)) * whole + doubt
    return int(np.argmax(beyond <= few))
