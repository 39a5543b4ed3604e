"""Numbers of many kinds as normal scores, from edges that k subjects share, and back.

Idea  each kind of number (a laboratory test, a length of stay, a gap) has a line of normal scores
      through the means of its quantile bins, each of at least k subjects, so that no patient's own
      number is an edge; numbers that are common are classes of their own (atoms); and the step in
      which numbers are written tells how wide an interval each of them stands for
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.errors import InputError

__all__ = ["Scales", "malformed"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

MOST_KNOTS = 40
BEYOND = 1.0  # normal scores by which a line goes on beyond its last bins
FEW_VALUES = 10  # up to so many unlike numbers, each of k subjects, each is an atom
COMMON = 0.12  # share of a kind's numbers from which on one of them is an atom
WRITTEN = 0.98  # share of the numbers that stand on a grid which is taken for theirs
STEPS = (1.0, 2.0, 5.0)
MOST_WIDE, MOST_FAR = 4096, 1e15  # of what a model file may hold


@dataclass(frozen=True, eq=False)
class Scales:
    """The line of each kind, its atoms, and its step. Kinds without numbers have no knots."""

    knots: Floats  # (kinds, knots) numbers, ascending; NaN where there are fewer
    scores: Floats  # (kinds, knots) their normal scores, ascending; NaN where there are fewer
    atoms: Floats  # (kinds, atoms) NaN where there are fewer
    steps: Floats  # (kinds,) the grid on which numbers are written
    logged: bool = False  # whether the line is that of logarithms

    @staticmethod
    def fit(
        kind: Ints, values: Floats, whose: Ints, kinds: int, *, k: int, steps: Floats | None = None,
        logged: bool = False, common: float = COMMON, most_atoms: int = 16,
    ) -> Scales:  # fmt: skip
        """Learn from numbers (rows,) of a kind each; `steps` are finest ones that are known."""
        order = np.argsort(kind, kind="stable")
        bounds = np.searchsorted(kind[order], np.arange(kinds + 1))
        lines: list[tuple[Floats, Floats]] = []
        atoms: list[Floats] = []
        grid = np.full(kinds, 1e-6) if steps is None else steps.astype(np.float64).copy()
        for j in range(kinds):
            rows = order[bounds[j] : bounds[j + 1]]
            own, owner = values[rows], whose[rows]
            if np.unique(owner).size < k:
                lines.append((np.zeros(0), np.zeros(0)))
                atoms.append(np.zeros(0))
                continue
            grid[j] = _step(own, grid[j], free=steps is None)
            atoms.append(_atoms(own, owner, k, common, most_atoms))
            rest = ~np.isin(own, atoms[-1])
            lines.append(_line(_moved(own[rest], logged), owner[rest], k))
        return Scales(
            _padded([line[0] for line in lines]), _padded([line[1] for line in lines]),
            _padded(atoms), grid, logged,
        )  # fmt: skip

    @property
    def kinds(self) -> int:
        """Number of kinds."""
        return int(self.steps.size)

    @property
    def lined(self) -> NDArray[np.bool_]:
        """Whether a kind has a line, (kinds,)."""
        return np.asarray(np.isfinite(self.knots[:, :2]).sum(1) == 2)

    def atom_of(self, kind: Ints, values: Floats) -> Ints:
        """Return which atom of its kind a number is, -1 for none, (rows,)."""
        found = np.full(len(values), -1, np.int64)
        for a in range(self.atoms.shape[1]):
            near = np.abs(values - self.atoms[kind, a]) < 1e-3 * self.steps[kind]
            found[near] = a
        return found

    def intervals(self, kind: Ints, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Return score, and the scores of the ends of what each number stands for, (rows,)."""
        half = self.steps[kind] / 2
        score = self.to_score(kind, values)
        low, high = self.to_score(kind, values - half), self.to_score(kind, values + half)
        wide = np.maximum(high - low, 1e-3)  # beyond the ends all is one
        return score, score - wide / 2, score + wide / 2

    def to_score(self, kind: Ints, values: Floats) -> Floats:
        """Return normal scores, within what a line reaches; 0 for kinds that have none."""
        found = np.zeros(len(values))
        order = np.argsort(kind, kind="stable")
        bounds = np.searchsorted(kind[order], np.arange(self.kinds + 1))
        for j in np.flatnonzero((np.diff(bounds) > 0) & self.lined):
            rows = order[bounds[j] : bounds[j + 1]]
            knots, scores = _own(self.knots[j], self.scores[j])
            found[rows] = _through(_moved(values[rows], self.logged), knots, scores)
            found[rows] = found[rows].clip(scores[0] - BEYOND, scores[-1] + BEYOND)
        return found

    def to_value(self, kind: Ints, scores: Floats) -> Floats:
        """Return numbers on their grid, (rows,); NaN for kinds without a line."""
        found = np.full(len(scores), np.nan)
        order = np.argsort(kind, kind="stable")
        bounds = np.searchsorted(kind[order], np.arange(self.kinds + 1))
        for j in np.flatnonzero((np.diff(bounds) > 0) & self.lined):
            rows = order[bounds[j] : bounds[j + 1]]
            knots, line = _own(self.knots[j], self.scores[j])
            at = scores[rows].clip(line[0] - BEYOND, line[-1] + BEYOND)
            values = _through(at, line, knots)
            values = np.exp(values) if self.logged else values
            decimals = int(max(0, np.ceil(-np.log10(self.steps[j])) + 1))
            found[rows] = np.round(np.rint(values / self.steps[j]) * self.steps[j], decimals)
        return found

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return what `restore` needs."""
        counts = [np.isfinite(self.knots).sum(1), np.isfinite(self.atoms).sum(1)]
        return {
            f"{name}/knots": np.nan_to_num(self.knots),
            f"{name}/scores": np.nan_to_num(self.scores),
            f"{name}/atoms": np.nan_to_num(self.atoms),
            f"{name}/steps": self.steps,
            f"{name}/there": np.stack(counts, 1).astype(np.int64),
        }

    @staticmethod
    def restore(
        arrays: Mapping[str, NDArray[Any]], name: str, kinds: int, *, logged: bool = False
    ) -> Scales:
        """Rebuild from a stranger's arrays. Raises InputError when they are no scales."""
        there = arrays.get(f"{name}/there")
        if there is None or there.dtype != np.int64 or there.shape != (kinds, 2):
            raise malformed(f"scales of '{name}'")
        parts = []
        for part in ("knots", "scores", "atoms", "steps"):
            array = arrays.get(f"{name}/{part}")
            shape = (kinds,) if part == "steps" else (kinds, -1)
            if array is None or array.dtype != np.float64 or not np.isfinite(array).all():
                raise malformed(f"scales of '{name}'")
            if array.ndim != len(shape) or len(array) != kinds or array.shape[-1] > MOST_WIDE:
                raise malformed(f"scales of '{name}' of another size")
            parts.append(array)
        knots, scores, atoms, steps = parts
        widths = (knots.shape[1], atoms.shape[1])
        if knots.shape != scores.shape or (there < 0).any() or (there > widths).any():
            raise malformed(f"scales of '{name}' of another size")
        lines, classes = np.arange(widths[0]) < there[:, :1], np.arange(widths[1]) < there[:, 1:]
        for array in (knots, scores):
            rising = (np.diff(array, axis=1) > 0) | ~lines[:, 1:]
            if not rising.all():
                raise malformed(f"scales of '{name}' out of order")
        far = max(np.abs(knots).max(initial=0), np.abs(atoms).max(initial=0))
        if (there[:, 0] == 1).any() or not (steps > 0).all() or far > MOST_FAR:
            raise malformed(f"scales of '{name}' that no numbers have")
        if np.abs(scores).max(initial=0) > 10 or (logged and np.abs(knots).max(initial=0) > 80):
            raise malformed(f"scales of '{name}' that no numbers have")
        return Scales(
            np.where(lines, knots, np.nan), np.where(lines, scores, np.nan),
            np.where(classes, atoms, np.nan), steps, logged,
        )  # fmt: skip


def malformed(what: str) -> InputError:
    """Return the error for arrays that do not make a model."""
    return InputError(
        f"a model of histories with {what} that do not make one",
        "the arrays that it was saved with",
        "get the model again from where it was made",
    )


def _moved(values: Floats, logged: bool) -> Floats:
    return np.log(np.maximum(values, 1e-12)) if logged else values


def _own(knots: Floats, scores: Floats) -> tuple[Floats, Floats]:
    there = np.isfinite(knots)
    return knots[there], scores[there]


def _through(x: Floats, xs: Floats, ys: Floats) -> Floats:
    """Return the line through points at x, straight on beyond its ends."""
    at = np.clip(np.searchsorted(xs, x) - 1, 0, xs.size - 2)
    slope = (ys[at + 1] - ys[at]) / (xs[at + 1] - xs[at])
    return np.asarray(ys[at] + slope * (x - xs[at]))


def _step(values: Floats, finest: float, *, free: bool) -> float:
    """Return the grid on which nearly all numbers stand: powers of ten, or times 2 and 5."""
    grids = [10.0**-d * m for d in range(-1, 7) for m in reversed(STEPS)] if free else [
        day for day in (7.0, 1.0, 1 / 24, 1 / 1440, 1 / 86400) if day >= finest
    ]  # fmt: skip
    for grid in grids:
        if np.mean(np.abs(values / grid - np.rint(values / grid)) < 1e-4) >= WRITTEN:
            return max(grid, finest)
    return finest


def _atoms(values: Floats, whose: Ints, k: int, common: float, most: int) -> Floats:
    """Return the numbers that are classes of their own, each of at least `k` subjects."""
    unlike, at = np.unique(values, return_inverse=True)
    held = np.bincount(np.unique(at * (int(whose.max()) + 1) + whose) // (int(whose.max()) + 1))
    share = np.bincount(at) / values.size
    if unlike.size <= FEW_VALUES and (held >= k).all():
        return unlike
    found = np.flatnonzero((share >= common) & (held >= k))
    found = found[np.argsort(-share[found], kind="stable")][:most]
    return np.sort(unlike[found])


def _line(values: Floats, whose: Ints, k: int) -> tuple[Floats, Floats]:
    """Return the means of quantile bins and their mean normal scores; each bin is k subjects'."""
    nothing = (np.zeros(0), np.zeros(0))
    subjects = np.unique(whose).size
    if subjects < k:
        return nothing
    order = np.argsort(values, kind="stable")
    rank = np.empty(values.size)
    rank[order] = np.arange(values.size)
    # equal numbers share the middle of their ranks
    _, at = np.unique(values, return_inverse=True)
    middle = np.bincount(at, rank) / np.bincount(at)
    score = ndtri((middle[at] + 0.5) / values.size)
    bins = min(MOST_KNOTS, subjects // k)
    while bins >= 3:
        of = np.minimum((rank * bins // values.size).astype(np.int64), bins - 1)
        pairs = np.unique(of * (int(whose.max()) + 1) + whose) // (int(whose.max()) + 1)
        if np.bincount(pairs, minlength=bins).min() >= k:
            size = np.bincount(of)
            knots, scores = np.bincount(of, values) / size, np.bincount(of, score) / size
            rising = np.concatenate(
                [[True], np.diff(knots) > 1e-9 * max(np.abs(knots).max(), 1e-9)]
            )
            rising[1:] &= np.diff(scores) > 1e-6
            if rising.sum() >= 3:
                return knots[rising], scores[rising]
            break
        bins = bins * 3 // 4
    mean, sd = float(values.mean()), float(values.std())
    if not sd > 1e-9 * max(abs(mean), 1e-9):
        return nothing
    return np.array([mean - sd, mean + sd]), np.array([-1.0, 1.0])


def _padded(rows: list[Floats]) -> Floats:
    wide = max((row.size for row in rows), default=0)
    found = np.full((len(rows), max(wide, 2)), np.nan)
    for i, row in enumerate(rows):
        found[i, : row.size] = row
    return found
