"""Progression: does disease run its course as in held-out patients?

Over time since a subject's first event, in bands cut at quantiles of the training times:
means      of each number, the mean curve; root mean square difference of synthetic and held-out
           bands, in standard deviations of the number
quantiles  the same of its lower and upper quartile
incidence  of each common code, the share of subjects who have had it by the end of each band
           (cumulative incidence, counting those whose record ended as not having had it): largest
           absolute difference, as a mean over codes
Bands with fewer than 11 subjects of either side are left out. Intervals resample subjects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.summaries import called
from manikin.metrics.histories import Side, mean_over, no_histories, sides
from manikin.metrics.intervals import Blocks, Floats
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["bands_of", "days_since_start", "progression"]

CARD = Card(
    title="Disease progression",
    family="fidelity",
    better="lower",
    reads="How far average courses lie from those of held-out patients, over time since the first "
    "event: `means` and `quantiles` of values in standard deviations, `incidence` the largest gap "
    "in the share of patients who have had a code by then. 0 is the same. It speaks of averages: "
    "each patient's own course is judged by trajectories and recurrence.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/progression"
DRAWS = 100
BANDS = 8
NUMBERS, CODES = 20, 40  # most common ones
WEIGHTED = 40  # replicates of quartiles, which are sorted anew in each


def progression(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Compare curves over time since the start of the record."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.means")
    names = tuple(f"{NAME}.{what}" for what in ("means", "quantiles", "incidence"))
    rng = generator(seed, NAME)
    train, real, drawn = sides(trial, seed=seed)
    edges = bands_of(train.events)
    if not edges.size:
        return tuple(not_estimable(name, "nothing happens after a first event") for name in names)
    both = (real, drawn)
    dealt = [side.dealt(rng, DRAWS) for side in both]
    days = [days_since_start(side.events) for side in both]
    means: dict[str, tuple[float, Floats]] = {}
    quartiles: dict[str, tuple[float, Floats]] = {}
    numeric = np.isfinite(train.events.value)
    for code in _commonest(train, train.events.code[numeric], train.events.whose[numeric], NUMBERS):
        label = called(train.events.schema, code)
        values = train.events.value[numeric & (train.events.code == code)]
        spread = float(np.std(values))
        if not spread:
            continue
        parts = [_in_bands(side, code, day, edges) for side, day in zip(both, days, strict=True)]
        if (found := _of_means(parts, dealt, edges.size + 1, spread)) is not None:
            means[label] = found
        if (found := _of_quartiles(parts, dealt, edges.size + 1, spread)) is not None:
            quartiles[label] = found
    onsets = _commonest(train, train.events.code, train.events.whose, CODES)
    curves = [
        _incidence(side, np.array(onsets, np.int64), day, edges, one)
        for side, day, one in zip(both, days, dealt, strict=True)
    ]
    gap = np.abs(curves[0][0] - curves[1][0]).max(axis=-1)
    gaps = np.abs(curves[0][1] - curves[1][1]).max(axis=-1)  # (draws, codes)
    incidence = {
        called(train.events.schema, code): (float(gap[i]), gaps[:, i])
        for i, code in enumerate(onsets)
    }
    top = np.inf
    return (
        *mean_over(names[0], means, "code", high=top),
        *mean_over(names[1], quartiles, "code", high=top),
        *mean_over(names[2], incidence, "code"),
    )


def days_since_start(events: Events) -> Floats:
    """Return the days since the first known time of the event's subject, NaN where unknown."""
    known = np.flatnonzero(~np.isnat(events.time))
    first = np.full(events.n_subjects, np.datetime64("NaT", "us"))
    whose = events.whose[known]
    opening = np.flatnonzero(np.diff(whose, prepend=-1))
    first[whose[opening]] = events.time[known[opening]]
    days = (events.time - first[events.whose]) / np.timedelta64(1, "D")
    return np.asarray(days, np.float64)


def bands_of(train: Events, bands: int = BANDS) -> Floats:
    """Return the inner edges of bands of days that hold about equally many later events."""
    days = days_since_start(train)
    days = days[np.isfinite(days)]
    later = days[days > 0]
    if not later.size:
        return np.empty(0)
    edges = np.unique(np.quantile(later, np.linspace(0, 1, bands + 1)[:-1], method="lower"))
    return np.asarray(edges)


def _commonest(
    train: Side, code: NDArray[np.int32], whose: NDArray[np.int64], most: int
) -> list[int]:
    """Return the codes of these events that most subjects have, at least eleven."""
    n = len(train.events.schema)
    holders = np.bincount(np.unique(whose * n + code) % n, minlength=n) if n else np.empty(0)
    order = np.argsort(-holders, kind="stable")[:most]
    return [int(c) for c in order if holders[c] >= SMALLEST_CELL]


Part = tuple[Floats, NDArray[np.int64], NDArray[np.int64]]  # values, bands, whose


def _in_bands(side: Side, code: int, days: Floats, edges: Floats) -> Part:
    events = side.events
    rows = np.flatnonzero((events.code == code) & np.isfinite(events.value) & np.isfinite(days))
    band = np.searchsorted(edges, days[rows], side="right")
    return events.value[rows], band, events.whose[rows]


def _held(parts: list[Part], n: int) -> NDArray[np.int64]:
    """Return the bands in which both sides have values of eleven subjects."""
    kept = np.ones(n, np.bool_)
    for _, band, whose in parts:
        pairs = np.unique(whose * n + band)
        kept &= np.bincount(pairs % n, minlength=n) >= SMALLEST_CELL
    return np.flatnonzero(kept)


def _of_means(
    parts: list[Part], dealt: list[Blocks], n: int, spread: float
) -> tuple[float, Floats] | None:
    bands = _held(parts, n)
    if not bands.size:
        return None
    exact, drawn = [], []
    for (values, band, whose), one in zip(parts, dealt, strict=True):
        total = np.bincount(band, values, minlength=n)[bands]
        exact.append(total / np.bincount(band, minlength=n)[bands])
        of_row = one.among(whose)
        joint = of_row.of_row * n + band
        sums = np.bincount(joint, values, minlength=one.n * n).reshape(one.n, n)[:, bands]
        sizes = of_row.counts(band, n)[:, bands]
        drawn.append((one.weights @ sums) / np.where(sizes > 0, sizes, np.nan))
    return _root_mean(exact[0] - exact[1], spread), _root_means(drawn[0] - drawn[1], spread)


def _root_mean(gap: Floats, spread: float) -> float:
    return float(np.sqrt(np.mean(gap**2))) / spread


def _root_means(gap: Floats, spread: float) -> Floats:
    # NaN of a whole replicate stays: it is left out of the interval
    return np.asarray(np.sqrt(np.mean(gap**2, axis=tuple(range(1, gap.ndim)))) / spread)


def _of_quartiles(
    parts: list[Part], dealt: list[Blocks], n: int, spread: float
) -> tuple[float, Floats] | None:
    bands = _held(parts, n)
    if not bands.size:
        return None
    exact, drawn = [], []
    for (values, band, whose), one in zip(parts, dealt, strict=True):
        own, replicates = [], []
        for b in bands:
            rows = np.flatnonzero(band == b)
            order = rows[np.argsort(values[rows], kind="stable")]
            weights = one.weights[:WEIGHTED, one.of_row[whose[order]]]
            everything = np.ones((1, order.size))
            own.append(_weighted(values[order], everything)[0])
            replicates.append(_weighted(values[order], weights))
        exact.append(np.array(own))
        drawn.append(np.stack(replicates, axis=1))
    return _root_mean(exact[0] - exact[1], spread), _root_means(drawn[0] - drawn[1], spread)


def _weighted(values: Floats, weights: Floats) -> Floats:
    """Return the quartiles of ascending values under each row of weights, (draws, 2)."""
    rising = np.cumsum(weights, axis=1)
    total = rising[:, -1:]
    found = []
    for share in (0.25, 0.75):
        at = np.minimum((rising < share * total).sum(axis=1), values.size - 1)
        found.append(np.where(total[:, 0] > 0, values[at], np.nan))
    return np.stack(found, axis=1)


def _incidence(
    side: Side, codes: NDArray[np.int64], days: Floats, edges: Floats, dealt: Blocks
) -> tuple[Floats, Floats]:
    """Return the share of subjects with each code by each band, (codes, bands), and replicates."""
    events, n = side.events, edges.size + 1
    place = np.full(len(events.schema) + 1, -1, np.int64)
    place[codes] = np.arange(codes.size)
    rows = np.flatnonzero((place[events.code] >= 0) & np.isfinite(days))
    key = events.whose[rows] * max(1, codes.size) + place[events.code[rows]]
    # events are in order of time within a subject, so the first of a key is the earliest
    first = rows[np.unique(key, return_index=True)[1]]
    cell = place[events.code[first]] * n + np.searchsorted(edges, days[first], side="right")
    block = dealt.of_row[events.whose[first]]
    shape = (dealt.n, codes.size * n)
    table = sparse.csr_matrix((np.ones(first.size), (block, cell)), shape=shape)
    sizes = np.bincount(dealt.of_row, minlength=dealt.n).astype(np.float64)
    total = np.asarray(table.sum(axis=0)).reshape(codes.size, n)
    drawn = np.asarray((table.T @ dealt.weights.T).T).reshape(DRAWS, codes.size, n)
    people = (dealt.weights @ sizes)[:, None, None]
    exact = np.cumsum(total, axis=-1) / max(1, events.n_subjects)
    return exact, np.cumsum(drawn, axis=-1) / np.where(people > 0, people, np.nan)
