"""Measuring: is what is measured, and when, as it is in held-out histories?

That a value is there says something of its own. Of each code with numbers:
rate      share of visits at which it is measured
ever      share of subjects in whom it is ever measured
repeat    P(measured at the next visit | measured at this one)
resume    P(measured at the next visit | not measured at this one)
value     share of its events that bear a number
after_high, after_low   P(measured at the next visit | its value now is in the highest, lowest
          training quarter): whether measuring depends on what was found (missing not at random)
Each is 1 - mean absolute difference over codes, each code weighing alike. Intervals resample
subjects of both sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import Side, no_histories, sides
from manikin.metrics.intervals import Blocks, Floats, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["measuring"]

CARD = Card(
    title="What is measured, and when",
    family="fidelity",
    better="near ceiling",
    reads="Whether tests are done as often, in as many patients, and again as soon as in held-out "
    "histories, whatever their values: 1 is the same. `repeat` and `resume` tell how measuring "
    "goes on and starts anew, `after_high` and `after_low` whether it depends on the last value. "
    "Values themselves are judged elsewhere.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/measuring"
DRAWS = 100
CODES = 50  # that most held-out subjects have
FEWEST = 10  # visits a side that a share is of
WHATS = ("rate", "ever", "repeat", "resume", "value", "after_high", "after_low")

Terms = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]
"""Whose each row is, hits (rows, codes), and which rows count (rows, codes)."""


def measuring(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Compare how often and when numbers are measured."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.rate")
    rng = generator(seed, NAME)
    train, real, drawn = sides(trial, seed=seed)
    codes = _chosen(train, real)
    if not codes.size or not all(side.visits.n for side in (real, drawn)):
        return tuple(not_estimable(f"{NAME}.{what}", "no numbers to compare") for what in WHATS)
    edges = _quarters(train, codes)
    dealt = [side.dealt(rng, DRAWS) for side in (real, drawn)]
    tables = [
        _shares(side, codes, edges, one) for side, one in zip((real, drawn), dealt, strict=True)
    ]
    scores = []
    for what in WHATS:
        (one, of_one), (other, of_other) = (table[what] for table in tables)
        kept = np.isfinite(one) & np.isfinite(other)
        name = f"{NAME}.{what}"
        if not kept.any():
            scores.append(not_estimable(name, f"fewer than {FEWEST} cases a side of every code"))
            continue
        value = 1 - float(np.abs(one - other)[kept].mean())
        draws = 1 - np.abs(of_one - of_other)[:, kept].mean(axis=1)
        note = f"of {int(kept.sum()):,} codes"
        scores.append(Score(name, value, recentred(value, draws, 0, 1), note=note))
    return tuple(scores)


def _chosen(train: Side, real: Side) -> NDArray[np.int64]:
    """Return the codes with numbers in training events that most held-out subjects have."""
    n = len(train.events.schema)
    known = np.isfinite(train.events.value)
    numeric = np.bincount(train.events.code[known], minlength=n) > 0
    held = np.where(numeric, np.asarray(real.of_subjects.sum(axis=0)).ravel(), 0)
    order = np.argsort(-held, kind="stable")[:CODES]
    return np.asarray(order[held[order] > 0])


def _quarters(train: Side, codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the lower and upper quartile of each code's training values, (codes, 2)."""
    events, found = train.events, []
    known = np.isfinite(events.value)
    for code in codes:
        found.append(np.quantile(events.value[known & (events.code == code)], (0.25, 0.75)))
    return np.array(found)


def _shares(
    side: Side, codes: NDArray[np.int64], edges: NDArray[np.float64], dealt: Blocks
) -> dict[str, tuple[Floats, Floats]]:
    """Return every share of each code, (codes,), and in each replicate, (draws, codes)."""
    visits = side.visits
    there = np.asarray(side.at_visits[:, codes].todense()) > 0  # (visits, codes)
    ever = np.asarray(side.of_subjects[:, codes].todense()) > 0
    later = side.following
    before, after = there[later - 1], there[later]
    last = _last_values(side, codes)[later - 1]
    whose, everybody = visits.whose[later], np.arange(side.events.n_subjects)
    with np.errstate(invalid="ignore"):
        high, low = last > edges[:, 1], last < edges[:, 0]
    terms: dict[str, Terms] = {
        "rate": (visits.whose, there.astype(np.float64), np.ones_like(there)),
        "ever": (everybody, ever.astype(np.float64), np.ones_like(ever)),
        "repeat": (whose, after.astype(np.float64), before),
        "resume": (whose, after.astype(np.float64), ~before),
        "after_high": (whose, after.astype(np.float64), high),
        "after_low": (whose, after.astype(np.float64), low),
    }
    found = {what: _share(*part, dealt) for what, part in terms.items()}
    return found | {"value": _with_value(side, codes, dealt)}


def _share(
    whose: NDArray[np.int64], hits: Floats, counted: NDArray[np.bool_], dealt: Blocks
) -> tuple[Floats, Floats]:
    block = dealt.of_row[whose]
    shape = (dealt.n, whose.size)
    of_block = sparse.csr_matrix((np.ones(whose.size), (block, np.arange(whose.size))), shape=shape)
    sums = [np.asarray(of_block @ part) for part in (hits * counted, counted.astype(np.float64))]
    return _ratio(sums[0].sum(axis=0), sums[1].sum(axis=0), FEWEST), _ratio(
        dealt.weights @ sums[0], dealt.weights @ sums[1], 1
    )


def _ratio(hits: Floats, of: Floats, fewest: int) -> Floats:
    found = np.full(of.shape, np.nan)
    np.divide(hits, of, out=found, where=of >= fewest)
    return found


def _last_values(side: Side, codes: NDArray[np.int64]) -> Floats:
    """Return the last value of each code at each visit, NaN for none, (visits, codes)."""
    events = side.events
    place = np.full(len(events.schema) + 1, -1, np.int64)
    place[codes] = np.arange(codes.size)
    rows = np.flatnonzero(
        np.isfinite(events.value) & (place[events.code] >= 0) & (side.visits.of >= 0)
    )
    found = np.full((side.visits.n, codes.size), np.nan)
    found[side.visits.of[rows], place[events.code[rows]]] = events.value[rows]
    return found


def _with_value(side: Side, codes: NDArray[np.int64], dealt: Blocks) -> tuple[Floats, Floats]:
    events = side.events
    place = np.full(len(events.schema) + 1, -1, np.int64)
    place[codes] = np.arange(codes.size)
    rows = np.flatnonzero(place[events.code] >= 0)
    of_row = dealt.among(events.whose[rows])
    slot, known = place[events.code[rows]], np.isfinite(events.value[rows])
    there = np.flatnonzero(known)
    hits = of_row.among(there).counts(slot[there], codes.size)
    total = np.bincount(slot, minlength=codes.size).astype(np.float64)
    exact = np.bincount(slot[there], minlength=codes.size).astype(np.float64)
    return _ratio(exact, total, FEWEST), _ratio(hits, of_row.counts(slot, codes.size), 1)
