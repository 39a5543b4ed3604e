"""Trajectories of numbers: does a patient stay the patient, measurement after measurement?

Of each code with numbers that enough subjects have twice, against held-out histories:
lag_1_error  |difference of lag-1 autocorrelations|: Pearson's r between a value and the one before
             it in the same subject, over all such pairs (what persons differ by counts)
within_error |difference| of the same r of deviations from each subject's own mean: what is left
             when persons are taken out
icc_error    |difference of intraclass correlations| ICC(1) of a one-way analysis of variance
             (Shrout and Fleiss, Psychological Bulletin 1979), the share of variance between persons
values       1 - Kolmogorov-Smirnov distance of all values
steps        the same of differences between a value and the one before
Each is a mean over codes, beside the commonest codes by themselves. Intervals resample subjects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.summaries import called
from manikin.metrics.fidelity.visit_times import compared
from manikin.metrics.histories import Side, mean_over, no_histories, sides, steps
from manikin.metrics.intervals import Blocks, Floats
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["trajectories"]

CARD = Card(
    title="Trajectories of values",
    family="fidelity",
    better="near ceiling",
    reads="Whether measurements of one patient hang together as in held-out patients. "
    "`lag_1_error`, `within_error` and `icc_error` are differences of correlations: 0 is the "
    "same, and a generator that draws each visit afresh has the whole correlation as its error. "
    "`values` and `steps` compare distributions of values and of changes: 1 is the same.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/trajectories"
DRAWS = 100
CODES = 30  # with most subjects
FEWEST = SMALLEST_CELL  # subjects a side with two values, as each code stands by itself
ERRORS = ("lag_1_error", "within_error", "icc_error")


def trajectories(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Compare how values of one subject hang together, and how they are distributed."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.values")
    rng = generator(seed, NAME)
    _, real, drawn = sides(trial, seed=seed)
    codes = _common(real, drawn)
    names = [f"{NAME}.{what}" for what in (*ERRORS, "values", "steps")]
    if not codes.size:
        few = f"no number that {FEWEST} subjects of each side have twice"
        return tuple(not_estimable(name, few) for name in names)
    dealt = [side.dealt(rng, DRAWS) for side in (real, drawn)]
    found: dict[str, dict[str, tuple[float, Floats]]] = {name: {} for name in names}
    parts = [_Numbers(side, codes) for side in (real, drawn)]
    for code in codes:
        label = called(real.events.schema, int(code))
        for name, statistic in zip(names, (_lag_1, _within, _icc), strict=False):
            both = [statistic(part, int(code), one) for part, one in zip(parts, dealt, strict=True)]
            value = abs(both[0][0] - both[1][0])
            if np.isfinite(value):  # a number that never changes has no correlation
                found[name][label] = value, np.abs(both[0][1] - both[1][1])
        for name, take in zip(names[3:], (_values, _steps), strict=True):
            pair = [take(part, int(code)) for part in parts]
            of = [one.among(whose) for one, (_, whose) in zip(dealt, pair, strict=True)]
            found[name][label] = compared([values for values, _ in pair], of)[0]
    return tuple(score for name in names for score in mean_over(name, found[name], "code"))


def _common(real: Side, drawn: Side) -> NDArray[np.int64]:
    """Return the codes whose numbers most held-out subjects have twice, at most CODES."""
    n, sizes = len(real.events.schema), []
    for side in (real, drawn):
        later, _ = steps(side.events, np.arange(n))
        pairs = np.unique(side.events.whose[later] * n + side.events.code[later])
        sizes.append(np.bincount(pairs % n, minlength=n))
    order = np.argsort(-sizes[0], kind="stable")[:CODES]
    return np.asarray(order[np.minimum(*sizes)[order] >= FEWEST])


class _Numbers:
    """The numbers of one side, by code: values, whose they are, and steps between them."""

    def __init__(self, side: Side, codes: NDArray[np.int64]) -> None:
        events = side.events
        self.events = events
        later, before = steps(events, codes)
        self.later, self.before = _by_code(later, events), _by_code(before, events)
        rows = np.flatnonzero(np.isfinite(events.value) & np.isin(events.code, codes))
        self.rows = _by_code(rows, events)
        self.n = events.n_subjects

    def of(self, code: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return the values of a code and whose they are."""
        rows = self.rows[code]
        return self.events.value[rows], self.events.whose[rows]

    def pairs(self, code: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Return values, those before them, and whose they are."""
        later = self.later[code]
        return (
            self.events.value[self.before[code]],
            self.events.value[later],
            self.events.whose[later],
        )


def _by_code(rows: NDArray[np.int64], events: Events) -> dict[int, NDArray[np.int64]]:
    order = rows[np.argsort(events.code[rows], kind="stable")]
    codes, starts = np.unique(events.code[order], return_index=True)
    return {int(c): part for c, part in zip(codes, np.split(order, starts[1:]), strict=True)}


def _correlation(x: Floats, y: Floats, dealt: Blocks) -> tuple[float, Floats]:
    """Return Pearson's r and its replicates; centred and scaled first, for the sums' sake."""
    scale = float(np.std(x)) or 1.0
    x, y = (x - x.mean()) / scale, (y - x.mean()) / scale
    terms = np.stack([np.ones(x.size), x, y, x * x, y * y, x * y])
    drawn = np.stack([dealt.sums(term) for term in terms])
    return float(_r(terms.sum(axis=1, keepdims=True))[0]), _r(drawn)


def _r(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        n, x, y, xx, yy, xy = sums
        spread = (xx / n - (x / n) ** 2) * (yy / n - (y / n) ** 2)
        found = (xy / n - x * y / n**2) / np.sqrt(np.where(spread > 1e-18, spread, np.nan))
    return np.asarray(found)


def _lag_1(part: _Numbers, code: int, dealt: Blocks) -> tuple[float, Floats]:
    before, later, whose = part.pairs(code)
    return _correlation(before, later, dealt.among(whose))


def _within(part: _Numbers, code: int, dealt: Blocks) -> tuple[float, Floats]:
    values, whose = part.of(code)
    size = np.maximum(np.bincount(whose, minlength=part.n), 1)
    mean = np.bincount(whose, values, minlength=part.n) / size
    before, later, of = part.pairs(code)
    return _correlation(before - mean[of], later - mean[of], dealt.among(of))


def _icc(part: _Numbers, code: int, dealt: Blocks) -> tuple[float, Floats]:
    """Return ICC(1) = (MSB - MSW) / (MSB + (k0 - 1) MSW), with k0 for unequal numbers."""
    values, whose = part.of(code)
    values = (values - values.mean()) / (float(values.std()) or 1.0)
    n = np.bincount(whose, minlength=part.n).astype(np.float64)
    total = np.bincount(whose, values, minlength=part.n)
    square = np.bincount(whose, values**2, minlength=part.n)
    seen = np.flatnonzero(n)
    n, total, square = n[seen], total[seen], square[seen]
    inside = square - total**2 / n  # a subject's own sum of squares
    terms = np.stack([np.ones(n.size), n, n**2, total, total**2 / n, inside])
    of_subject = dealt.among(seen)
    drawn = np.stack([of_subject.sums(term) for term in terms])
    return float(_icc_of(terms.sum(axis=1, keepdims=True))[0]), _icc_of(drawn)


def _icc_of(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        groups, n, n_squared, total, between, inside = sums
        msb = (between - total**2 / n) / (groups - 1)
        msw = inside / (n - groups)
        k0 = (n - n_squared / n) / (groups - 1)
        below = msb + (k0 - 1) * msw
        found = (msb - msw) / np.where(below > 1e-12, below, np.nan)
    return np.asarray(np.where((n > groups) & (groups > 1), found, np.nan))


def _values(part: _Numbers, code: int) -> tuple[Floats, NDArray[np.int64]]:
    return part.of(code)


def _steps(part: _Numbers, code: int) -> tuple[Floats, NDArray[np.int64]]:
    before, later, whose = part.pairs(code)
    return later - before, whose
