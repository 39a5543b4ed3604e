"""Transitions: does what comes after what come after it as often as it does?

The state of a visit is its code of domain "visit", or, where there is none, the commonest training
code at it; the commonest training states are told apart and all others are one. With the start and
the end of a record as states of their own:
agreement    1 - total variation distance of the joint distribution (state, next state) between
             synthetic and held-out histories
matrix       1 - mean total variation distance of the rows P(next | state), weighted by how common
             the state is in held-out histories
Intervals resample subjects of both sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import Side, no_histories, sides
from manikin.metrics.intervals import Blocks, Floats, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["transitions"]

CARD = Card(
    title="Transitions between visits",
    family="fidelity",
    better="near ceiling",
    reads="Whether visits of one kind are followed by visits of another as often as in held-out "
    "histories, with the start and the end of the record: 1 is the same. `agreement` is of pairs "
    "of states, `matrix` of the chances of what is next, given what was. It sees one step, and of "
    "each visit only its type or its commonest code.",
    profile="quick",
    modality="events",
)
NAME = "fidelity/transitions"
DRAWS = 100
STATES = 24  # that are told apart


def transitions(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Compare the matrices of transitions between states of visits."""
    names = f"{NAME}.agreement", f"{NAME}.matrix"
    if not isinstance(trial.train, Events):
        return no_histories(names[0])
    rng = generator(seed, NAME)
    train, real, drawn = sides(trial, seed=seed)
    if not all(side.visits.n for side in (train, real, drawn)):
        return tuple(not_estimable(name, "no visits to compare") for name in names)
    rank = _ranks(train)
    tables = [_matrix(side, rank, side.dealt(rng, DRAWS)) for side in (real, drawn)]
    found = (_joint(tables), _rows(tables))
    return tuple(
        Score(name, value, recentred(value, draws, 0, 1))
        for name, (value, draws) in zip(names, found, strict=True)
    )


def _ranks(train: Side) -> NDArray[np.int64]:
    """Return the rank of every code by how many training visits have it, visit types first."""
    common = np.asarray(train.at_visits.sum(axis=0)).ravel()
    types = list(train.events.schema.of("visit"))
    common[types] += (common[types] > 0) * train.visits.n
    rank = np.empty(common.size, np.int64)
    rank[np.argsort(-common, kind="stable")] = np.arange(common.size)
    return rank


def _states(side: Side, rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the state of each visit, (visits,)."""
    state = np.full(side.visits.n, STATES, np.int64)
    timed = side.visits.of >= 0
    np.minimum.at(state, side.visits.of[timed], rank[side.events.code[timed]])
    return state


def _matrix(side: Side, rank: NDArray[np.int64], dealt: Blocks) -> tuple[Floats, Floats]:
    """Return how often each transition occurs, (cells,), and in each replicate, (draws, cells)."""
    n = STATES + 3  # states, others, start, end
    state, visits = _states(side, rank), side.visits
    opening = np.diff(visits.whose, prepend=-1) != 0
    closing = np.diff(visits.whose, append=-1) != 0
    before = np.concatenate([np.where(opening, n - 2, np.roll(state, 1)), state[closing]])
    after = np.concatenate([state, np.full(int(closing.sum()), n - 1)])
    cells = before * n + after
    of_row = dealt.among(np.concatenate([visits.whose, visits.whose[closing]]))
    total = np.bincount(cells, minlength=n * n).astype(np.float64)
    return total, of_row.counts(cells, n * n)


Tables = list[tuple[Floats, Floats]]


def _joint(tables: Tables) -> tuple[float, Floats]:
    exact, drawn = (
        [part / _or_none(part.sum(axis=-1, keepdims=True)) for part in parts]
        for parts in zip(*tables, strict=True)
    )
    return 1 - float(_apart(*exact)), 1 - _apart(*drawn)


def _or_none(sizes: Floats) -> Floats:
    return np.where(sizes > 0, sizes, np.nan)


def _apart(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.abs(one - other).sum(axis=-1) / 2)


def _rows(tables: Tables) -> tuple[float, Floats]:
    """Return 1 - the weighted mean distance of rows, a state that never occurs being all wrong."""
    found = []
    for parts in zip(*tables, strict=True):
        square = [part.reshape(*part.shape[:-1], STATES + 3, STATES + 3) for part in parts]
        size = [part.sum(axis=-1) for part in square]
        shares = [
            part / np.maximum(total, 1e-300)[..., None]
            for part, total in zip(square, size, strict=True)
        ]
        apart = np.abs(shares[0] - shares[1]).sum(axis=-1) / 2
        apart = np.where(size[1] > 0, apart, 1.0)
        weight = size[0] / _or_none(size[0].sum(axis=-1, keepdims=True))
        found.append(1 - (apart * weight).sum(axis=-1))
    return float(found[0]), found[1]
