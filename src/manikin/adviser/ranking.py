"""The ranking: who is ahead for a goal, by how much, and how sure that is.

A measure is averaged over splits, as if all splits were equally hard (levels of families and of
splits, by least squares): not everyone is judged on every split. Its standard error is the larger
of two: what the splits' own intervals say, and how much splits differ, with the correction for
overlapping training rows of Nadeau and Bengio (Mach. Learn. 2003). Differences between two families
are paired by split; from three splits on their own spread may narrow the interval that the two
families' intervals give.

Each goal orders by what can be told apart, and says so where nothing can:
realism           detection score against held-out rows, less what the rows lose in use (the gap,
                  where it is a loss); a family that surely leaks is put behind
privacy           the upper end of the membership attack's AUC; those not surely above the lowest
                  are alike, and ordered by realism
speed             seconds to fit and draw, among those that reach most of the best one's realism
interpretability  how much of the model a person can read (the framework's grade), then realism;
                  a family that is not surely better than independent columns is put behind
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from manikin.adviser.bakeoff import HELD, MEASURES, Baked
from manikin.errors import InputError

if TYPE_CHECKING:
    from manikin.adviser.framework import Family
    from manikin.metrics.score import Score

__all__ = [
    "BOUNDS",
    "FLOOR",
    "GOALS",
    "Goal",
    "Measured",
    "Placed",
    "check_goal",
    "contenders",
    "placed",
    "pooled",
]

Goal = Literal["realism", "interpretability", "privacy", "speed"]
GOALS: tuple[Goal, ...] = get_args(Goal)
FLOOR = "table/marginals"
LEAK = 0.55  # a membership AUC that lies surely above this is a leak
LOST = 0.02  # of an AUC, a C-index or R²: what is surely lost beyond this is said
ENOUGH = 0.8  # share of the best one's gain over the floor that is realism enough for speed
BOUNDS = {"detection": (0.0, 1.0), "gap": (-math.inf, math.inf), "membership": (0.0, 1.0)}
PAIRS = 3  # splits from which differences between splits are trusted by themselves


@dataclass(frozen=True)
class Measured:
    """A number over splits, with its 95 % interval."""

    value: float
    low: float
    high: float
    splits: int


@dataclass(frozen=True)
class Placed:
    """One family: its place for the goal, its measures, and why it stands there."""

    name: str
    rank: int | None  # None: it was not judged
    measures: dict[str, Measured]
    seconds: float | None  # to fit and draw, mean
    behind: Measured | None  # what it lacks to the first in the goal's deciding measure
    tied: bool  # whether it cannot be told apart from the first
    reasons: tuple[str, ...]
    failed: str = ""


def check_goal(goal: str) -> None:
    """Raise InputError for a goal that there is not."""
    if goal not in GOALS:
        raise InputError("a goal that is not known", f"one of: {', '.join(GOALS)}", "choose one")


def pooled(scores: Sequence[Score], low: float = -math.inf, high: float = math.inf) -> Measured:
    """Return the mean of a measure over splits, its interval within what there can be."""
    values = np.array([score.value for score in scores])
    errors = np.array([_error(score) for score in scores])
    within = float(np.sqrt((errors**2).sum())) / values.size
    half = 1.96 * max(within, _between(values))
    mean = float(values.mean())
    return Measured(mean, max(low, mean - half), min(high, mean + half), int(values.size))


def levels(table: np.ndarray) -> list[float]:
    """Return each row's level where value = level of its row + effect of its column.

    By least squares; the columns' effects sum to 0. (families, splits), NaN for not judged.

    A family judged on an easy split only must not be ahead for that.
    """
    known = np.isfinite(table)
    rows, columns = np.nonzero(known)
    n, k = table.shape
    design = np.zeros((rows.size + 1, n + k))  # the last equation: effects sum to 0
    at = np.arange(rows.size)
    design[at, rows] = design[at, n + columns] = 1.0
    design[-1, n:] = known.any(axis=0)
    found = np.linalg.lstsq(design, np.append(table[known], 0.0), rcond=None)[0]
    return [float(level) for level in np.where(known.any(axis=1), found[:n], np.nan)]


def difference(first: Sequence[Score], other: Sequence[Score]) -> Measured:
    """Return by how much `first` is above `other`, paired by split."""
    values = np.array([a.value - b.value for a, b in zip(first, other, strict=True)])
    mean, n = float(values.mean()), int(values.size)
    # as if both were judged on rows of their own, and more splits were no more rows: too wide
    half = 1.96 * math.sqrt(sum(_error(s) ** 2 for s in (*first, *other)) / n)
    if n >= PAIRS:
        from scipy.stats import t

        half = min(half, float(t.ppf(0.975, n - 1)) * _between(values))
    return Measured(mean, mean - half, mean + half, n)


def placed(
    baked: Baked, names: Sequence[str], goal: Goal, families: Sequence[Family]
) -> tuple[Placed, ...]:
    """Return everyone, the best for the goal first, those not judged last."""
    field = Field(baked, tuple(n for n in names if baked.of(n)), {f.name: f for f in families})
    order = field.order(goal)
    found = [field.place(goal, name, i, order[0]) for i, name in enumerate(order)]
    failed = [
        Placed(n, None, {}, None, None, False, (), baked.failure(n))
        for n in names
        if n not in order
    ]
    return (*found, *failed)


def contenders(
    baked: Baked, names: Sequence[str], goal: Goal, families: Sequence[Family]
) -> tuple[str, ...]:
    """Return who may still be the best for the goal: the first and those not surely behind it.

    After one split that is two at least: one draw of luck settles nothing.
    """
    field = Field(baked, tuple(n for n in names if baked.of(n)), {f.name: f for f in families})
    order = [name for name in field.order(goal) if name != FLOOR or len(field.names) == 1]
    if goal == "interpretability":  # grades are no matter of chance
        order = [n for n in order if field.readable(n) == field.readable(order[0])]
    left = tuple(n for n in order if n == order[0] or field.tied(goal, order[0], n))
    if baked.splits < 2 and len(left) < 2:
        left = (*left, *(n for n in field.order(goal) if n not in left))[:2]
    return left


@dataclass(frozen=True)
class Field:
    """Everyone who was judged."""

    baked: Baked
    names: tuple[str, ...]
    families: dict[str, Family]

    def measure(self, name: str, what: str) -> Measured | None:
        """Return a family's measure over splits, None where no split has it."""
        scores = [a.measures[what] for a in self.baked.of(name) if what in a.measures]
        if not scores:
            return None
        shift = self.levelled[what][name] - float(np.mean([score.value for score in scores]))
        return pooled([_shifted(score, shift) for score in scores], *BOUNDS[what])

    @cached_property
    def levelled(self) -> dict[str, dict[str, float]]:
        """Return every mean as if all splits were alike, by measure and name."""
        found = {}
        for what in MEASURES:
            table = np.full(
                (len(self.names), 1 + max(a.split for a in self.baked.attempts)), np.nan
            )
            for i, name in enumerate(self.names):
                for one in self.baked.of(name):
                    if what in one.measures:
                        table[i, one.split] = one.measures[what].value
            found[what] = dict(zip(self.names, levels(table), strict=True))
        return found

    def seconds(self, name: str) -> float:
        """Return how long it took to fit and draw."""
        return float(np.mean([one.seconds for one in self.baked.of(name)]))

    def readable(self, name: str) -> int:
        """Return the framework's grade of how much of the model a person can read."""
        return self.families[name].readable

    def value(self, name: str, what: str = "detection", missing: float = 0.0) -> float:
        """Return the mean of a measure."""
        found = self.measure(name, what)
        return missing if found is None else found.value

    def ahead(self, first: str, other: str, what: str) -> Measured | None:
        """Return by how much `first` is above `other` on the splits that both have."""
        mine, its = (
            {a.split: a.measures[what] for a in self.baked.of(n) if what in a.measures}
            for n in (first, other)
        )
        both = sorted(mine.keys() & its.keys())
        return difference([mine[s] for s in both], [its[s] for s in both]) if both else None

    def leaks(self, name: str) -> bool:
        """Whether the membership attack surely succeeds, and better than on the floor.

        Independent columns tell nobody apart: what an attack reaches there is chance of the split.
        """
        found = self.measure(name, "membership")
        if found is None or found.low <= LEAK:
            return False
        over = self.ahead(name, FLOOR, "membership") if FLOOR in self.names else None
        return over is None or over.low > 0

    def above_floor(self, name: str) -> bool:
        """Whether it is surely more like real rows than independent columns are."""
        if FLOOR not in self.names:
            return True
        gain = self.ahead(name, FLOOR, "detection")
        return gain is not None and gain.low > 0

    def order(self, goal: Goal) -> list[str]:
        """Return the names, best first; independent columns last: they are the floor."""
        return sorted(self.names, key=lambda name: (name == FLOOR, *self._key(goal, name), name))

    def _key(self, goal: Goal, name: str) -> tuple[float, ...]:
        realism = -self.value(name)
        if goal == "privacy":
            found = self.measure(name, "membership")
            if found is None:
                return (2, 0, realism)
            over = self.ahead(name, self._most_private(), "membership")
            surely = over is not None and over.low > 0
            return (1, found.high, realism) if surely else (0, 0, realism)
        if goal == "speed":
            return (not self._enough(name), self.seconds(name) if self._enough(name) else realism)
        if goal == "interpretability":
            return (not self.above_floor(name), -self.readable(name), realism)
        return (self.leaks(name), -self._worth(name))

    def _worth(self, name: str) -> float:
        """Return the detection score less the gap: families are often alike in the former alone."""
        return self.value(name) - max(0.0, self.value(name, "gap"))

    def _most_private(self) -> str:
        judged = [n for n in self.names if self.measure(n, "membership") and n != FLOOR]
        return min(judged or self.names, key=lambda n: self.value(n, "membership", math.inf))

    def _enough(self, name: str) -> bool:
        best = max(self.value(n) for n in self.names)
        floor = self.value(FLOOR) if FLOOR in self.names else 0.0
        return self.value(name) >= floor + ENOUGH * (best - floor)

    def tied(self, goal: Goal, first: str, other: str) -> bool:
        """Whether the first and another cannot be told apart in what the goal is about."""
        if goal == "realism" and self.leaks(other) > self.leaks(first):
            return False
        if goal == "privacy" and self._key(goal, other)[0] > self._key(goal, first)[0]:
            return False
        if goal == "speed":
            return self._enough(other) and self.seconds(other) < 1.5 * self.seconds(first)
        gap = self.ahead(first, other, "detection")
        return gap is None or gap.low <= 0

    def place(self, goal: Goal, name: str, i: int, first: str) -> Placed:
        """Return a family's place with its reasons."""
        measures = {w: m for w in MEASURES if (m := self.measure(name, w)) is not None}
        behind = None if name == first else self.ahead(first, name, "detection")
        tied = name != first and name != FLOOR and self.tied(goal, first, name)
        reasons = tuple(self._reasons(goal, name, measures))
        return Placed(name, i + 1, measures, self.seconds(name), behind, tied, reasons)

    def _reasons(self, goal: Goal, name: str, measures: dict[str, Measured]) -> list[str]:
        said = []
        if name == FLOOR:
            said.append("the floor: independent columns, never advised where another one ran")
        elif FLOOR in self.names and not self.above_floor(name):
            said.append("not surely more like real rows than independent columns")
        if self.leaks(name):
            low = measures["membership"].low
            said.append(f"leaks: the membership attack's AUC is {low:.2f} or more")
        elif "membership" not in measures:
            said.append("its membership risk could not be assessed")
        if goal == "interpretability":
            words = self.families[name].interpretability
            said.append(f"a person can read: {words}")
        if goal == "speed" and name != FLOOR and not self._enough(name):
            said.append(f"reaches less than {ENOUGH:.0%} of the best one's gain".replace("%", " %"))
        if "gap" in measures and measures["gap"].low > LOST:
            low = measures["gap"].low
            said.append(f"surely loses use: real rows teach to predict better by {low:.2f} or more")
        return said


def _error(score: Score) -> float:
    """Return the standard error that a 95 % interval stands for."""
    low, high = score.interval
    return (high - low) / (2 * 1.96)


def _shifted(score: Score, by: float) -> Score:
    low, high = score.interval
    return dataclasses.replace(score, value=score.value + by, interval=(low + by, high + by))


def _between(values: np.ndarray) -> float:
    """Return the standard error of a mean over splits whose training rows overlap."""
    n = values.size
    return float(values.std(ddof=1)) * math.sqrt(1 / n + HELD / (1 - HELD)) if n > 1 else 0.0
