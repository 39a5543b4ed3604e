"""Visit times: how often, how far apart and for how long are patients seen?

Of each quantity 1 - the Kolmogorov-Smirnov distance between synthetic and held-out, and
`wasserstein`, the mean distance by which values would have to move, in standard deviations of the
held-out ones (after log(1 + x): all are skewed):
visits  number of visits of a subject      events  number of events of a subject
size    number of events at a visit        gap     days from a visit to the next of its subject
length  days from a subject's first event to the last
stay    days from the start of a visit to its end
Intervals resample subjects of both sides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import Side, mean_over, no_histories, sides
from manikin.metrics.intervals import Blocks, Floats
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["compared", "visit_times"]

CARD = Card(
    title="Visit times",
    family="fidelity",
    better="near ceiling",
    reads="How alike the distributions of the number of visits and events, gaps between visits, "
    "length of records and stays are in synthetic and held-out histories. `ks` is 1 where they are "
    "the same; `wasserstein` says how far off they are, in standard deviations on a log scale: 0 "
    "is the same. It does not look at what was at the visits.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/visit_times"
DRAWS = 100
GRID = 256  # points at which replicates look at a distribution
Quantity = tuple[Floats, NDArray[np.int64]]  # values, and whose each is


def visit_times(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Compare how often, how far apart and for how long subjects are seen."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.ks")
    rng = generator(seed, NAME)
    _, real, drawn = sides(trial, seed=seed)
    dealt = [side.dealt(rng, DRAWS) for side in (real, drawn)]
    kolmogorov: dict[str, tuple[float, Floats]] = {}
    moved: dict[str, tuple[float, Floats]] = {}
    for what, quantity in QUANTITIES.items():
        parts = [quantity(side) for side in (real, drawn)]
        if not all(values.size for values, _ in parts) or not np.ptp(
            np.concatenate([values for values, _ in parts])
        ):
            continue
        of = [one.among(whose) for one, (_, whose) in zip(dealt, parts, strict=True)]
        logs = [np.log1p(np.maximum(values, 0)) for values, _ in parts]
        kolmogorov[what], moved[what] = compared(logs, of)
    if not kolmogorov:
        return (not_estimable(f"{NAME}.ks", "no visits to compare"),)
    return (
        *mean_over(f"{NAME}.ks", kolmogorov, "of"),
        *mean_over(f"{NAME}.wasserstein", moved, "of", high=np.inf),
    )


def compared(
    values: list[Floats], dealt: list[Blocks]
) -> tuple[tuple[float, Floats], tuple[float, Floats]]:
    """Return 1 - the Kolmogorov-Smirnov distance, and Wasserstein's, with their replicates.

    The latter is in standard deviations of the first side.
    """
    pooled = np.concatenate(values)
    grid = np.unique(pooled)
    steps = np.diff(grid)
    rising = [np.searchsorted(np.sort(v), grid, side="right") / v.size for v in values]
    gap = np.abs(rising[0] - rising[1])
    spread = float(values[0].std()) or float(pooled.std()) or 1.0
    exact = 1 - float(gap.max()), float(gap[:-1] @ steps) / spread
    if grid.size > GRID:
        grid = np.unique(np.quantile(pooled, np.linspace(0, 1, GRID), method="nearest"))
        steps = np.diff(grid)
    found = []
    for v, one in zip(values, dealt, strict=True):
        counts = one.counts(np.searchsorted(grid, v, side="left"), grid.size + 1)
        rise = np.cumsum(counts, axis=1)
        total = rise[:, -1:]
        found.append(rise[:, : grid.size] / np.where(total > 0, total, np.nan))
    gaps = np.abs(found[0] - found[1])
    return (exact[0], 1 - gaps.max(axis=1)), (exact[1], gaps[:, :-1] @ steps / spread)


def _visits(side: Side) -> Quantity:
    return side.visits.counts.astype(np.float64), np.arange(side.events.n_subjects)


def _events(side: Side) -> Quantity:
    return side.events.counts.astype(np.float64), np.arange(side.events.n_subjects)


def _size(side: Side) -> Quantity:
    of = side.visits.of[side.visits.of >= 0]
    return np.bincount(of, minlength=side.visits.n).astype(np.float64), side.visits.whose


def _gap(side: Side) -> Quantity:
    gaps = side.visits.gaps_days()
    return gaps[side.following], side.visits.whose[side.following]


def _length(side: Side) -> Quantity:
    seen = np.flatnonzero(side.visits.counts)
    first = side.visits.start[side.visits.starts[:-1][seen]]
    last = side.visits.start[side.visits.starts[1:][seen] - 1]
    return np.asarray((last - first) / np.timedelta64(1, "D"), np.float64), seen


def _stay(side: Side) -> Quantity:
    days = (side.visits.end - side.visits.start) / np.timedelta64(1, "D")
    return np.asarray(days, np.float64), side.visits.whose


QUANTITIES: dict[str, Callable[[Side], Quantity]] = {
    "visits": _visits, "events": _events, "size": _size,
    "gap": _gap, "length": _length, "stay": _stay,
}  # fmt: skip
