"""Trials of histories: their floors, ceiling and leaks, and the forms that metrics compute on.

Two floors. `independent` keeps how common each code and value is, how many visits there are and
when in a record: visits go to subjects at random, and what was at a visit to visits at random.
`shuffled` keeps each subject's own visits and their times, and puts what was at them in random
order: what is worse than it knows nothing of time, however well it knows persons.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.together import alike
from manikin.data.visits import Visits, visits_of
from manikin.metrics.intervals import Blocks, Floats, blocks, recentred
from manikin.metrics.score import Score, Trial, not_estimable
from manikin.metrics.whole_subjects import fresh, resized

__all__ = [
    "SHUFFLED",
    "Side",
    "copy_share",
    "floor",
    "fresh",
    "independent",
    "mean_over",
    "no_histories",
    "shuffled",
    "sides",
    "steps",
    "together",
]

Places = NDArray[np.int64]
SHUFFLED = "visits shuffled within subjects"
EVENTS = 2_000_000  # of a side; of more, a random choice of subjects is judged


def no_histories(metric: str) -> tuple[Score, ...]:
    """Return what a metric of histories says of a table."""
    return (not_estimable(metric, "no histories: nothing happens in time"),)


# ── What stands beside a score ─────────────────────────────────────────────────────────────────


def floor(trial: Trial[Events], *, seed: int) -> Trial[Events]:
    """Return the trial with independent visits in place of the synthetic histories."""
    real = resized(trial.train, trial.synthetic.n_subjects, seed)
    return dataclasses.replace(trial, synthetic=independent(real, seed=seed))


def copy_share(trial: Trial[Events], share: float, *, seed: int) -> Trial[Events]:
    """Return the trial with this share of the synthetic subjects replaced by training subjects."""
    rng = generator(seed, "copies")
    trial = together(trial)
    drawn, known = trial.synthetic, trial.train
    n = round(share * drawn.n_subjects)
    kept = drawn.take(np.sort(rng.permutation(drawn.subjects)[n:]))
    taken = [
        known.take(rng.permutation(known.subjects)[: n - done])
        for done in range(0, n, max(1, known.n_subjects))
        if known.n_subjects
    ]
    parts, after = [], 0
    for part in (kept, *taken):
        parts.append(part.renumbered(after))
        after += part.n_subjects
    return dataclasses.replace(trial, synthetic=Events.concatenate(parts))


def independent(events: Events, *, seed: int) -> Events:
    """Return histories whose visits are anybody's, and whose events were at any visit."""
    rng = generator(seed, "floor histories")
    found = visits_of(events)
    timed = np.flatnonzero(found.of >= 0)
    moved = np.arange(events.n_events)
    moved[timed] = timed[rng.permutation(timed.size)]  # whose code and value an event gets
    whose = rng.integers(0, max(1, events.n_subjects), found.n)
    # a visit stays as far from the start of a record as it was
    opening = _openings(found)
    known = np.flatnonzero(found.counts)
    lent = known[rng.integers(0, max(1, known.size), events.n_subjects)] if known.size else known
    begins = np.where(found.counts > 0, opening, opening[lent] if known.size else opening)
    shift = begins[whose] - opening[found.whose]
    lasted = events.end - events.time
    return _placed(events, found, whose, shift, moved, lasted[moved])


def shuffled(trial: Trial[Events], *, seed: int) -> Trial[Events]:
    """Return the trial with training subjects, whose visits changed places, as the synthetic."""
    events = resized(trial.train, trial.synthetic.n_subjects, seed)
    rng = generator(seed, "floor order")
    found = visits_of(events)
    # visits stand in order of subject: a random order within each is a sort by two keys
    slot = np.lexsort((rng.random(found.n), found.whose))
    shift = found.start[slot] - found.start if found.n else found.start - found.start
    everything = np.arange(events.n_events)
    mixed = _placed(events, found, found.whose, shift, everything, events.end - events.time)
    return dataclasses.replace(trial, synthetic=mixed)


def _openings(found: Visits) -> NDArray[np.datetime64]:
    """Return the start of each subject's first visit, NaT for none, (subjects,)."""
    start = np.append(found.start, np.datetime64("NaT", "us"))
    return start[np.where(found.counts > 0, found.starts[:-1], found.n)]


def _placed(
    events: Events,
    found: Visits,
    whose: Places,
    shift: NDArray[Any],
    moved: Places,
    lasted: NDArray[Any],
) -> Events:
    """Return events with each visit at another subject or time; the rest stay where they are."""
    at = found.of >= 0
    visit = found.of[at]
    owner = events.whose.copy()
    owner[at] = whose[visit]
    time = events.time.astype("datetime64[us]").copy()
    time[at] += shift[visit]
    number = events.visit.copy()
    number[at] = visit  # of a visit, and so of one subject
    return Events.of(
        events.schema, events.static, owner, time, events.code[moved], events.value[moved],
        events.text[moved], time + lasted, number, events.texts,
    )  # fmt: skip


# ── Both sides in one vocabulary ───────────────────────────────────────────────────────────────


def together(trial: Trial[Events]) -> Trial[Events]:
    """Return the trial with one schema: that of the training part, made wide enough for all."""
    parts: dict[str, Events] = {
        name: getattr(trial, name)
        for name in ("train", "holdout", "synthetic", "reference")
        if getattr(trial, name) is not None
    }
    first = trial.train.schema
    if all(part.schema is first or part.schema == first for part in parts.values()):
        return trial
    return Trial(**alike(parts))


@dataclass(frozen=True, eq=False)
class Side:
    """One part of a trial, and what metrics make of it."""

    events: Events

    @cached_property
    def visits(self) -> Visits:
        """Its visits."""
        return visits_of(self.events)

    @cached_property
    def at_visits(self) -> sparse.csr_matrix:
        """Whether a code was at a visit, (visits, codes)."""
        timed = self.visits.of >= 0
        return _once(
            self.visits.of[timed], self.events.code[timed], self.visits.n, len(self.events.schema)
        )

    @cached_property
    def of_subjects(self) -> sparse.csr_matrix:
        """Whether a subject ever had a code, (subjects, codes)."""
        events = self.events
        return _once(events.whose, events.code, events.n_subjects, len(events.schema))

    @cached_property
    def following(self) -> Places:
        """The visits that have one before them, of the same subject."""
        return np.flatnonzero(np.diff(self.visits.whose, prepend=-1) == 0)

    def dealt(self, rng: np.random.Generator, draws: int) -> Blocks:
        """Return blocks of subjects, one row a subject."""
        return blocks(self.events.subjects, rng, draws=draws)


def _once(row: Places, column: NDArray[Any], n: int, m: int) -> sparse.csr_matrix:
    keys = np.unique(row * m + column)
    ones = np.ones(keys.size, np.float64)
    return sparse.csr_matrix((ones, (keys // max(m, 1), keys % max(m, 1))), shape=(n, m))


def sides(trial: Trial[Events], *, seed: int) -> tuple[Side, Side, Side]:
    """Return the training, held-out and synthetic histories in one vocabulary.

    Of very many events, those of a random choice of subjects.
    """
    trial = together(trial)
    parts = []
    for part in (trial.train, trial.holdout, trial.synthetic):
        share = EVENTS / max(1, part.n_events)
        parts.append(Side(resized(part, max(1, int(share * part.n_subjects)), seed)))
    return parts[0], parts[1], parts[2]


def steps(events: Events, codes: Places) -> tuple[Places, Places]:
    """Return the events of numbers that follow one of the same code and subject, and those.

    `codes` are the places looked at. Events of unknown time take no part.
    """
    wanted = np.zeros(len(events.schema) + 1, np.bool_)
    wanted[codes] = True
    timed = np.isfinite(events.value) & ~np.isnat(events.time) & wanted[events.code]
    rows = np.flatnonzero(timed)
    order = rows[np.lexsort((rows, events.code[rows], events.whose[rows]))]
    same = (np.diff(events.code[order]) == 0) & (np.diff(events.whose[order]) == 0)
    at = np.flatnonzero(same)
    return order[at + 1], order[at]


# ── Scores ─────────────────────────────────────────────────────────────────────────────────────


def mean_over(
    name: str,
    found: dict[str, tuple[float, Floats]],
    group: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    shown: int = 12,
) -> tuple[Score, ...]:
    """Return the mean of several values with its interval, and the first ones by themselves."""
    if not found:
        return (not_estimable(name, "nothing that both sides have often enough"),)
    values, draws = zip(*found.values(), strict=True)
    value = float(np.mean(values))
    scores = [Score(name, value, recentred(value, np.mean(draws, axis=0), low, high))]
    for label, (one, drawn) in list(found.items())[:shown]:
        # no '=', which would name a group of patients
        part = f"{group} {label.replace('=', ' ')}"
        scores.append(Score(name, one, recentred(one, drawn, low, high), group=part))
    return tuple(scores)
