"""Outcomes that histories tell, and the scores of models that foretell them.

death        an event of domain "death" comes, known half of the subject's visits (at least one)
readmission  the next stay begins within 30 days of the end of this one
stay         a stay lasts longer than the median training stay, known its first day
target       the static column whose role is target (above its median, or its commonest level),
             known the whole record and no other static fact that tells it
A stay is an event of domain "visit" that lasts (OMOP, FHIR), or an admission with the discharge
that follows it, as MEDS has them. A row whose outcome nobody could see yet is left out: the last
stay of a record of a subject who is not known to live on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.codes import EventSchema
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.histories import Side, sides
from manikin.metrics.intervals import Floats, auc, auc_draws, recentred
from manikin.metrics.score import Score, Trial, not_estimable
from manikin.metrics.utility._prefixes import Moments

__all__ = ["PARTS", "TASKS", "Learner", "Task", "hidden", "outcomes_of"]

PARTS = ("tstr", "trtr", "gap", "trts")
FEWEST = 10  # subjects with the outcome, and without, in each part
SOON_DAYS = 30
FIRST_DAY = np.timedelta64(1, "D")
DRAWS = 200


@dataclass(frozen=True)
class Task:
    """Moments of one side and what came of them."""

    rows: Moments
    truth: NDArray[np.bool_]


Asked: TypeAlias = Callable[[Side, Side], Task | None]
Sides: TypeAlias = tuple[Side, Side, Side]  # held-out, synthetic, training
# (outcome, sides, their tasks, seed) → (trained on which side, asked of which) → scores of rows
Learner: TypeAlias = Callable[[str, Sides, list[Task], int], Callable[[int, int], Floats]]


def outcomes_of(
    trial: Trial[Events],
    name: str,
    learner: Learner,
    *,
    seed: int,
    most: int,
) -> tuple[Score, ...]:
    """Predict every outcome that the histories have, by models of synthetic and of real ones.

    Of more than `most` rows a part, a random choice.
    """
    train, real, drawn = sides(trial, seed=seed)
    parts = (real, drawn, train)
    scores: list[Score] = []
    for what, asked in TASKS.items():
        tasks = [asked(side, train) for side in parts]
        if tasks[2] is not None:
            # each part by a stream of its own: real rows are the same ones beside floor and ceiling
            found = [
                None if task is None else _some(task, most, generator(seed, f"{name} {what}", i))
                for i, task in enumerate(tasks)
            ]
            scores += _scored(f"{name}.{what}", what, found, parts, learner, seed)
    return tuple(scores) or (not_estimable(f"{name}.tstr", "no outcome that histories tell"),)


def _some(task: Task, most: int, rng: np.random.Generator) -> Task:
    if task.truth.size <= most:
        return task
    kept = np.sort(rng.choice(task.truth.size, most, replace=False))
    return Task(Moments(task.rows.visit[kept], task.rows.until[kept]), task.truth[kept])


def _scored(
    name: str,
    what: str,
    tasks: list[Task | None],
    parts: Sides,
    learner: Learner,
    seed: int,
) -> list[Score]:
    names = [f"{name}_{part}" for part in PARTS]
    told = [_told(task, side) for task, side in zip(tasks, parts, strict=True)]
    for side, least in zip(("held-out", "synthetic", "training"), told, strict=True):
        if least < FEWEST:
            why = f"fewer than {FEWEST} {side} subjects with the outcome, or without"
            return [not_estimable(one, why) for one in names]
    known = [task for task in tasks if task is not None]
    real, drawn, _ = known
    rng = generator(seed, name)
    taught = learner(what, parts, known, int(rng.integers(2**31)))
    dealt = parts[0].dealt(rng, DRAWS).among(parts[0].visits.whose[real.rows.visit])
    pair = []
    for source in (1, 2):
        guess = taught(source, 0)
        pair.append((auc(guess, real.truth), auc_draws(guess, real.truth, dealt)))
    (one, of_one), (other, of_other) = pair
    own = parts[1].dealt(rng, DRAWS).among(parts[1].visits.whose[drawn.rows.visit])
    guess = taught(0, 1)
    swapped, of_swapped = auc(guess, drawn.truth), auc_draws(guess, drawn.truth, own)
    share = real.truth.mean()
    return [
        Score(names[0], one, recentred(one, of_one, 0, 1), note=f"in {share:.0%} of held-out rows"),
        Score(names[1], other, recentred(other, of_other, 0, 1)),
        Score(names[2], other - one, recentred(other - one, of_other - of_one)),
        Score(names[3], swapped, recentred(swapped, of_swapped, 0, 1)),
    ]


def hidden(what: str, schema: EventSchema) -> frozenset[int]:
    """Return the codes that are the outcome itself."""
    return frozenset(schema.of("death")) if what == "death" else frozenset()


def _told(task: Task | None, side: Side) -> int:
    """Return how many subjects have the outcome, or how many lack it, whichever is fewer."""
    if task is None:
        return 0
    whose = side.visits.whose[task.rows.visit]
    return min(np.unique(whose[task.truth]).size, np.unique(whose[~task.truth]).size)


# ── the outcomes ──────────────────────────────────────────────────────────────────────────────


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


@dataclass(frozen=True, eq=False)
class _Stays:
    """Stays in order of subject and time."""

    first: NDArray[np.int64]  # visit at the first day's end, beyond which nothing is known then
    last: NDArray[np.int64]  # visit at the end
    start: NDArray[np.datetime64]
    end: NDArray[np.datetime64]

    @property
    def days(self) -> Floats:
        return np.asarray((self.end - self.start) / np.timedelta64(1, "D"), np.float64)


def _stays(side: Side) -> _Stays:
    """Return visits that last, and admissions with the discharge that follows."""
    events, visits = side.events, side.visits
    types = np.isin(events.code, events.schema.of("visit")) & (visits.of >= 0)
    lasts = types & (events.end > events.time)
    if not lasts.any():
        return _pairs(side)
    visit = np.unique(visits.of[lasts])
    length = np.zeros(visits.n, "timedelta64[us]")
    np.maximum.at(length, visits.of[lasts], (events.end - events.time)[lasts])
    start = visits.start[visit]
    return _Stays(visit, visit, start, start + length[visit])


IN = re.compile(r"(?i)(?:[^/]*/)?(?:hospital_|inpatient_)?(?:admission|admit)")
OUT = re.compile(r"(?i)(?:[^/]*/)?(?:hospital_|inpatient_)?discharge")


def _pairs(side: Side) -> _Stays:
    """Return the stays that events tell: an admission, then a discharge of the same subject.

    Of a ward's own (ICU_ADMISSION) nothing is made: it is within the hospital's.
    """
    events, visits = side.events, side.visits
    kind = np.zeros(len(events.schema) + 1, np.int64)
    for place in events.schema.of("visit"):
        named = events.schema.codes[place].name
        kind[place] = 1 if IN.match(named) else 2 if OUT.match(named) else 0
    rows = np.flatnonzero((kind[events.code] > 0) & (visits.of >= 0))
    at, whose = kind[events.code[rows]], events.whose[rows]
    closed = (at[:-1] == 1) & (at[1:] == 2) & (whose[:-1] == whose[1:])
    came, left = rows[:-1][closed], rows[1:][closed]
    start, end = events.time[came], events.time[left]
    # events bear no visit's number here, or that of the stay: the visits that began by then
    own = visits.of[came]
    first = own if (events.visit[came] >= 0).any() else _by(side, own, start + FIRST_DAY)
    return _Stays(np.minimum(first, visits.of[left]), visits.of[left], start, end)


def _by(side: Side, visit: NDArray[np.int64], moment: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return the last visit of the same subject that began by each moment."""
    visits = side.visits
    whose = visits.whose[visit]
    # one sorted key for all: subjects far apart, and times within
    times = visits.start.astype("datetime64[us]").view(np.int64)
    order = np.lexsort((np.append(times, moment.astype("datetime64[us]").view(np.int64)),
                        np.append(visits.whose, whose)))  # fmt: skip
    asked = order >= visits.n
    before = np.maximum.accumulate(np.where(asked, -1, order))
    found = np.empty(visit.size, np.int64)
    found[order[asked] - visits.n] = before[asked]
    return found


def _readmission(side: Side, train: Side) -> Task | None:
    if _stays(train).first.size < 2 * FEWEST:
        return None
    stays = _stays(side)
    whose = side.visits.whose[stays.last]
    following = np.append(np.diff(whose) == 0, np.zeros(min(1, whose.size), np.bool_))
    start = np.append(stays.start[1:], np.datetime64("NaT", "us"))[: whose.size]
    gap = np.asarray((start - stays.end) / np.timedelta64(1, "D"), np.float64)
    # seen are those who come back, and those of whom something is known 30 days on
    last = side.visits.start[side.visits.starts[1:][whose] - 1]
    watched = np.asarray((last - stays.end) / np.timedelta64(1, "D"), np.float64) >= SOON_DAYS
    soon = following & (gap <= SOON_DAYS)
    seen = soon | watched
    return Task(_whole(stays.last[seen]), soon[seen])


def _stay(side: Side, train: Side) -> Task | None:
    length = _stays(train).days
    if length.size < 2 * FEWEST:
        return None
    stays = _stays(side)
    return Task(Moments(stays.first, stays.start + FIRST_DAY), stays.days > np.median(length))


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
