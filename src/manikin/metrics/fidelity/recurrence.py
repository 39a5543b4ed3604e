"""Recurrence: does what a patient had come again as often as it does?

again      P(c at a later visit | c at a visit before the last), of each code: 1 - mean absolute
           difference between synthetic and held-out, codes weighing as much as held-out subjects
           have them
next       the same of P(c at the next visit | c at this one)
new_share  the share of codes at visits (after a subject's first) that this subject never had
           before, synthetic minus held-out: above 0, persons forget; below 0, nothing new happens
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

__all__ = ["recurrence"]

CARD = Card(
    title="Recurrence",
    family="fidelity",
    better="near ceiling",
    reads="Whether codes come again in the same patient as often as in held-out ones, ever "
    "(`again`) and at the very next visit (`next`): 1 is the same. `new_share` is how much larger "
    "the share of codes new to the patient is than in real histories: 0 is the same, above 0 "
    "patients forget what they had. Codes that hold for life are where generators fail first.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/recurrence"
DRAWS = 100
CODES = 500  # the commonest among held-out subjects with two visits
FEWEST = 5  # subjects who could have a code again


def recurrence(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Compare how often codes come again, and how much is new."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.again")
    rng = generator(seed, NAME)
    _, real, drawn = sides(trial, seed=seed)
    dealt = [side.dealt(rng, DRAWS) for side in (real, drawn)]
    parts = [_Again.of(side) for side in (real, drawn)]
    scores = [
        _agreement(f"{NAME}.{what}", [part.pair(what) for part in parts], (real, drawn), dealt)
        for what in ("again", "next")
    ]
    return (*scores, _new(parts, (real, drawn), dealt))


class _Again:
    """Where a code was at a visit, and whether it was there before and comes after."""

    def __init__(self, visit: NDArray[np.int64], code: NDArray[np.int64], side: Side) -> None:
        self.whose = side.visits.whose[visit]
        self.code = code
        n = side.visits.n
        last = np.append(np.diff(side.visits.whose) != 0, n > 0)
        self.could = ~last[visit] if n else np.zeros(0, np.bool_)
        same = (np.diff(self.whose) == 0) & (np.diff(code) == 0)
        edge = np.zeros(min(1, visit.size), np.bool_)
        self.comes = np.append(same, edge)
        self.was = np.append(edge, same)
        self.follows = self.comes & np.append(np.diff(visit) == 1, edge)
        self.later = side.visits.place[visit] > 0 if n else np.zeros(0, np.bool_)

    @staticmethod
    def of(side: Side) -> _Again:
        """Return the codes at visits, in order of subject, code and visit."""
        found = side.at_visits.tocoo()
        visit, code = found.row.astype(np.int64), found.col.astype(np.int64)
        order = np.lexsort((visit, code, side.visits.whose[visit]))
        return _Again(visit[order], code[order], side)

    def pair(self, what: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_], _Again]:
        """Return which codes at visits could come again, and which do."""
        return self.could, self.comes if what == "again" else self.follows, self


Pair = tuple[NDArray[np.bool_], NDArray[np.bool_], _Again]


def _tables(could: NDArray[np.bool_], hit: NDArray[np.bool_], found: _Again, n: int, dealt: Blocks,
            codes: NDArray[np.int64]) -> tuple[Floats, Floats]:  # fmt: skip
    """Return the rate of each code, and in each replicate, NaN where nobody could have it again."""
    place = np.full(n, -1, np.int64)
    place[codes] = np.arange(codes.size)
    at = place[found.code]
    counts = []
    for rows in (could & hit & (at >= 0), could & (at >= 0)):
        cells = (dealt.of_row[found.whose[rows]], at[rows])
        ones = np.ones(int(rows.sum()))
        counts.append(sparse.csr_matrix((ones, cells), shape=(dealt.n, codes.size)))
    totals = [np.asarray(table.sum(axis=0)).ravel() for table in counts]
    drawn = [np.asarray((table.T @ dealt.weights.T).T) for table in counts]
    with np.errstate(invalid="ignore", divide="ignore"):
        return totals[0] / totals[1], drawn[0] / drawn[1]


def _agreement(name: str, pairs: list[Pair], both: tuple[Side, Side], dealt: list[Blocks]) -> Score:
    n = len(both[0].events.schema)
    could, _, found = pairs[0]
    # a subject counts once a code
    holders = np.unique(found.whose[could] * n + found.code[could]) % max(n, 1)
    weight = np.bincount(holders, minlength=n).astype(np.float64)
    common = np.argsort(-weight, kind="stable")[:CODES]
    common = common[weight[common] >= FEWEST]
    if not common.size or not pairs[1][0].any():
        return not_estimable(name, f"no code that {FEWEST} subjects could have again")
    rates = [_tables(*pair, n, one, common) for pair, one in zip(pairs, dealt, strict=True)]
    # what nobody could have again in synthetic histories never comes again there
    of_code = weight[common] / weight[common].sum()
    value = 1 - float(of_code @ np.abs(rates[0][0] - np.nan_to_num(rates[1][0])))
    off = np.abs(np.nan_to_num(rates[0][1]) - np.nan_to_num(rates[1][1]))
    return Score(name, value, recentred(value, 1 - off @ of_code, 0, 1),
                 note=f"of {common.size:,} codes")  # fmt: skip


def _new(parts: list[_Again], both: tuple[Side, Side], dealt: list[Blocks]) -> Score:
    name = f"{NAME}.new_share"
    if not all(part.later.any() for part in parts):
        return not_estimable(name, "no second visits")
    values, draws = [], []
    for part, one in zip(parts, dealt, strict=True):
        of_row = one.among(part.whose[part.later])
        new = (~part.was[part.later]).astype(np.float64)
        values.append(float(new.mean()))
        total = of_row.sums(np.ones(new.size))
        draws.append(of_row.sums(new) / np.where(total > 0, total, np.nan))
    value = values[1] - values[0]
    note = f"{values[1]:.3f} in synthetic, {values[0]:.3f} in held-out histories"
    return Score(name, value, recentred(value, draws[1] - draws[0], -1, 1), note=note)
