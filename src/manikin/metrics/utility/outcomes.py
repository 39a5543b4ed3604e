"""Outcomes: do synthetic histories train models that work for real patients?

Train on synthetic, test on real (TSTR) beside train on real, test on real (TRTR), and train on
real, test on synthetic (TRTS; Esteban, Hyland and Rätsch 2017), by boosted trees on what is known
of a patient at a moment. Which outcomes there are follows from the histories:
death        an event of domain "death" comes, known half of the subject's visits (at least one)
readmission  the next stay begins within 30 days of the end of this one
stay         a stay lasts longer than the median training stay, known its first day
target       the static column whose role is target (above its median, or its commonest level),
             known the whole record and no other static fact that tells it
All are areas under the curve. `_gap` is TRTR - TSTR on the same held-out rows. Intervals resample
subjects. A row whose outcome nobody could see yet is left out: the last stay of a record of a
subject who is not known to live on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import Side, no_histories, sides
from manikin.metrics.intervals import Floats, auc, auc_draws, recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.trees import BRISK, classifier
from manikin.metrics.utility._prefixes import Known, Moments

__all__ = ["outcomes"]

CARD = Card(
    title="Outcomes of patients (TSTR, TRTR, TRTS)",
    family="utility",
    better="near ceiling",
    reads="How well a model trained on synthetic histories foretells death, readmission within 30 "
    "days, long stays and the named target in held-out real patients (tstr), beside one trained on "
    "real ones (trtr), as AUC. The gap is what is lost; 0 is none. trts tests a model of held-out "
    "patients on synthetic ones: below its ceiling their outcomes are too random, above too easy.",
    profile="quick",
    modality="events",
)
NAME = "utility/outcomes"
PARTS = ("tstr", "trtr", "gap", "trts")
FEWEST = 10  # subjects with the outcome, and without, in each part
SOON_DAYS = 30
FIRST_DAY = np.timedelta64(1, "D")
ROWS = 20_000
DRAWS = 200


@dataclass(frozen=True, eq=False)
class Task:
    """Moments of one side and what came of them."""

    rows: Moments
    truth: NDArray[np.bool_]


Asked = Callable[[Side, Side], Task | None]


def outcomes(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Predict every outcome that the histories have, by models of synthetic and of real ones."""
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.death_tstr")
    rng = generator(seed, NAME)
    train, real, drawn = sides(trial, seed=seed)
    scores: list[Score] = []
    for what, asked in TASKS.items():
        tasks = [asked(side, train) for side in (real, drawn, train)]
        if tasks[2] is not None:
            found = [None if task is None else _some(task, rng) for task in tasks]
            scores += _scored(what, found, (real, drawn, train), rng)
    return tuple(scores) or (not_estimable(f"{NAME}.tstr", "no outcome that histories tell"),)


def _some(task: Task, rng: np.random.Generator) -> Task:
    if task.truth.size <= ROWS:
        return task
    kept = np.sort(rng.choice(task.truth.size, ROWS, replace=False))
    return Task(Moments(task.rows.visit[kept], task.rows.until[kept]), task.truth[kept])


def _scored(
    what: str, tasks: list[Task | None], parts: tuple[Side, Side, Side], rng: np.random.Generator
) -> list[Score]:
    names = [f"{NAME}.{what}_{part}" for part in PARTS]
    told = [_told(task, side) for task, side in zip(tasks, parts, strict=True)]
    for side, least in zip(("held-out", "synthetic", "training"), told, strict=True):
        if least < FEWEST:
            why = f"fewer than {FEWEST} {side} subjects with the outcome, or without"
            return [not_estimable(name, why) for name in names]
    real, drawn, train = (task for task in tasks if task is not None)
    hidden = frozenset(parts[2].events.schema.of("death")) if what == "death" else frozenset[int]()
    known = Known.fit(parts[2], without=hidden, static=what != "target")
    features = [
        known.matrix(side, task.rows)
        for side, task in zip(parts, (real, drawn, train), strict=True)
    ]
    seed = int(rng.integers(2**31))

    def taught(x: Floats, task: Task) -> Callable[[Floats], Floats]:
        truth = task.truth.astype(np.int64)
        model = classifier(x, truth, [False] * x.shape[1], seed=seed, how=BRISK)
        return lambda rows: model(rows)[:, 1]

    dealt = parts[0].dealt(rng, DRAWS).among(parts[0].visits.whose[real.rows.visit])
    pair = []
    for x, task in ((features[1], drawn), (features[2], train)):
        guess = taught(x, task)(features[0])
        pair.append((auc(guess, real.truth), auc_draws(guess, real.truth, dealt)))
    (one, of_one), (other, of_other) = pair
    own = parts[1].dealt(rng, DRAWS).among(parts[1].visits.whose[drawn.rows.visit])
    guess = taught(features[0], real)(features[1])
    swapped, of_swapped = auc(guess, drawn.truth), auc_draws(guess, drawn.truth, own)
    share = real.truth.mean()
    return [
        Score(names[0], one, recentred(one, of_one, 0, 1), note=f"in {share:.0%} of held-out rows"),
        Score(names[1], other, recentred(other, of_other, 0, 1)),
        Score(names[2], other - one, recentred(other - one, of_other - of_one)),
        Score(names[3], swapped, recentred(swapped, of_swapped, 0, 1)),
    ]


def _told(task: Task | None, side: Side) -> int:
    """Return how many subjects have the outcome, or how many lack it, whichever is fewer."""
    if task is None:
        return 0
    whose = side.visits.whose[task.rows.visit]
    return min(np.unique(whose[task.truth]).size, np.unique(whose[~task.truth]).size)


def _death(side: Side, train: Side) -> Task | None:
    places = side.events.schema.of("death")
    if not places or not np.isin(train.events.code, places).any():
        return None
    events, visits = side.events, side.visits
    dead = np.isin(events.code, places)
    died = np.zeros(events.n_subjects, np.bool_)
    died[events.whose[dead]] = True
    # of those who died, visits before death: its own may be made of it alone
    at = np.full(events.n_subjects, np.iinfo(np.int64).max)
    np.minimum.at(at, events.whose[dead], np.where(visits.of[dead] >= 0, visits.of[dead], 0))
    usable = np.minimum(visits.counts, np.maximum(at - visits.starts[:-1], 0))
    seen = np.flatnonzero(usable > 0)
    # a living person's last visit may not be told from a dying one's by being whole
    cut = visits.starts[:-1][seen] + (np.maximum(usable[seen], 2) // 2 - 1)
    return Task(_whole(cut), died[seen])


def _whole(visit: NDArray[np.int64]) -> Moments:
    return Moments(visit, np.full(visit.size, np.datetime64("9999-01-01", "us")))


def _stays(side: Side) -> tuple[NDArray[np.int64], Floats]:
    """Return the visits that are stays, which last to another day or hour, and their days."""
    events = side.events
    types = np.isin(events.code, events.schema.of("visit"))
    lasts = types & (events.end > events.time) & (side.visits.of >= 0)
    visit = np.unique(side.visits.of[lasts])
    length = np.zeros(side.visits.n)
    days = (events.end[lasts] - events.time[lasts]) / np.timedelta64(1, "D")
    np.maximum.at(length, side.visits.of[lasts], np.asarray(days, np.float64))
    return visit, length[visit]


def _readmission(side: Side, train: Side) -> Task | None:
    if _stays(train)[0].size < 2 * FEWEST:
        return None
    visit, days = _stays(side)
    whose = side.visits.whose[visit]
    following = np.append(np.diff(whose) == 0, np.zeros(min(1, visit.size), np.bool_))
    over = side.visits.start[visit] + (days * 86_400e6).astype("timedelta64[us]")
    start = np.append(side.visits.start[visit][1:], np.datetime64("NaT", "us"))[: visit.size]
    gap = np.asarray((start - over) / np.timedelta64(1, "D"), np.float64)
    # seen are those who come back, and those of whom something is known 30 days on
    last = side.visits.start[side.visits.starts[1:][whose] - 1]
    watched = np.asarray((last - over) / np.timedelta64(1, "D"), np.float64) >= SOON_DAYS
    soon = following & (gap <= SOON_DAYS)
    seen = soon | watched
    return Task(_whole(visit[seen]), soon[seen])


def _stay(side: Side, train: Side) -> Task | None:
    length = _stays(train)[1]
    if length.size < 2 * FEWEST:
        return None
    visit, days = _stays(side)
    median = float(np.median(length))
    return Task(Moments(visit, side.visits.start[visit] + FIRST_DAY), days > median)


def _target(side: Side, train: Side) -> Task | None:
    column = train.events.static.schema.holder("target")
    if column is None or not column.is_learned:
        return None
    known, values = (
        train.events.static.numbers(column.name),
        side.events.static.numbers(column.name),
    )
    known = known[np.isfinite(known)]
    if not known.size:
        return None
    if column.is_coded and column.kind != "ordinal":
        level = int(np.argmax(np.bincount(known.astype(np.int64))))
        if column.kind == "boolean":
            level = 1
        truth = values == level
    else:
        truth = values > np.median(known)
    seen = np.flatnonzero(np.isfinite(values) & (side.visits.counts > 0))
    return Task(_whole(side.visits.starts[1:][seen] - 1), truth[seen])


TASKS: dict[str, Asked] = {
    "death": _death, "readmission": _readmission, "stay": _stay, "target": _target
}  # fmt: skip
