"""Coverage: how often do nominal 95 % intervals from synthetic copies hold the truth?

Simulated: real rows are drawn from a population whose truth is known, a generator is fitted to
them, copies are drawn and analysed, and it is counted how often the interval holds the truth: of
one copy read as if it were real (naive), of all copies combined (Raghunathan; Raab: see
`metrics/combining.py`), and of the real rows themselves. Decruyenaere et al. (UAI 2024) found naive
intervals of deep generators to hold far less often than they say. No metric of one trial: it needs
the generator, and is for pipelines that may refit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.metrics.analyses import Analysis
from manikin.metrics.combining import Rule, combine
from manikin.metrics.intervals import Floats, share
from manikin.metrics.regression import Fit
from manikin.metrics.score import Score

__all__ = ["GATE", "Coverage", "Draw", "Refit", "coverage", "population", "resampled"]

Draw: TypeAlias = Callable[[int], Table]
"""Gives rows for a seed: a population's, or a fitted generator's."""
Refit: TypeAlias = Callable[[Table, int], Draw]
"""Fits a generator to real rows under a seed."""

GATE = 0.90  # coverage of nominal 95 % intervals below which conclusions must not be drawn
Z = 1.959963984540054


@dataclass(frozen=True)
class Coverage:
    """Whether each interval held the truth, (repeats, estimates), for each way to make it."""

    labels: tuple[str, ...]
    combined: NDArray[np.bool_]
    naive: NDArray[np.bool_]
    real: NDArray[np.bool_]
    widths: Floats  # (estimates,): mean width of combined intervals, in widths of the real rows'

    @property
    def value(self) -> float:
        """Share of combined intervals that hold the truth."""
        return float(self.combined.mean())

    @property
    def passed(self) -> bool:
        """Whether combined intervals hold the truth in at least nine of ten."""
        return self.value >= GATE

    def scores(self) -> tuple[Score, ...]:
        """Return both coverages, that of the real rows as ceiling; the intervals are exact."""
        held = (("combined", self.combined), ("naive", self.naive))
        top = float(self.real.mean())
        found = []
        for name, part in held:
            value, interval = _pooled(part)
            found.append(Score(f"validity/coverage.{name}", value, interval, ceiling=top))
        return tuple(found)


def coverage(
    refit: Refit,
    draw: Draw,
    analysis: Analysis,
    truth: Floats,
    *,
    rule: Rule,
    repeats: int = 100,
    copies: int = 5,
    seed: int,
) -> Coverage:
    """Simulate: draw real rows, fit, draw copies, and see whether the intervals hold `truth`.

    Under the plug-in rule all copies come from one fit, under the posterior rule each from a refit
    to a bootstrap sample of the real subjects. An interval that cannot be had does not hold. Raises
    InputError when `truth` is not one number an estimate.
    """
    if truth.shape != (len(analysis.labels),) or repeats < 1 or copies < 2:
        raise InputError(
            f"{truth.size} true values, {repeats} repeats of {copies} copies",
            f"{len(analysis.labels)} true values, 1 repeat or more, 2 copies or more",
            "give the truth of every estimate of the analysis, in its order",
        )
    rng = generator(seed, "validity/coverage")
    shape = (repeats, truth.size)
    held = [np.zeros(shape, dtype=np.bool_) for _ in range(3)]
    widths = np.full(shape, np.nan)
    for i, seeds in enumerate(rng.integers(2**31, size=(repeats, 2 * copies + 1))):
        real = draw(int(seeds[0]))
        drawn = _copies(refit, real, rule, [int(s) for s in seeds[1:]])
        fits = [analysis.fit(copy) for copy in drawn]
        q, u = (np.stack(part) for part in zip(*((f.value, f.error**2) for f in fits), strict=True))
        told = np.isfinite(q).all(axis=0) & np.isfinite(u).all(axis=0)
        said = combine(
            q[:, told], u[:, told], rule=rule, n_real=real.n_rows, n_copy=drawn[0].n_rows
        )
        held[0][i, told] = (said.low <= truth[told]) & (truth[told] <= said.high)
        held[1][i] = _holds(fits[0], truth)
        own = analysis.fit(real)
        held[2][i] = _holds(own, truth)
        widths[i, told] = (said.high - said.low) / np.maximum(2 * Z * own.error[told], 1e-300)
    known = np.isfinite(widths)
    mean = np.where(known, widths, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return Coverage(analysis.labels, held[0], held[1], held[2], mean)


def population(table: Table, n_subjects: int | None = None) -> Draw:
    """Take a table for the whole population; draw as many of its subjects, with replacement.

    The truth is then the analysis of the table itself: how to simulate coverage without knowing
    what the real world's is.
    """
    n = table.n_subjects if n_subjects is None else n_subjects
    return lambda seed: resampled(table, n, generator(seed, "population"))


def resampled(table: Table, n: int, rng: np.random.Generator) -> Table:
    """Return all rows of `n` subjects drawn with replacement, each draw a subject of its own."""
    order = np.argsort(table.subjects, kind="stable")
    _, starts, sizes = np.unique(table.subjects[order], return_index=True, return_counts=True)
    chosen = rng.integers(starts.size, size=n)
    taken = sizes[chosen]
    own = np.repeat(np.arange(n), taken)
    within = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    rows = table.rows(order[np.repeat(starts[chosen], taken) + within])
    return Table(rows.schema, own.astype(np.int64), rows.columns, rows.states)


def _copies(refit: Refit, real: Table, rule: Rule, seeds: list[int]) -> list[Table]:
    fits, draws = seeds[: len(seeds) // 2], seeds[len(seeds) // 2 :]
    if rule == "plug-in":
        sample = refit(real, fits[0])
        return [sample(s) for s in draws]
    n = real.n_subjects
    return [
        refit(resampled(real, n, generator(fit, "bootstrap")), fit)(s)
        for fit, s in zip(fits, draws, strict=True)
    ]


def _holds(fit: Fit, truth: Floats) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(fit.value - truth) <= Z * fit.error)


def _pooled(held: NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """Return the share over all estimates; those of one repeat are not independent."""
    return share(held.ravel(), np.repeat(np.arange(held.shape[0]), held.shape[1]).astype(np.int64))
