"""Who draws panels: ours, a plain copula, floors and a ceiling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin import catalogue
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.visits import Visits, visits_of

__all__ = ["ENGINES", "MAKERS", "dense"]

Floats = NDArray[np.float64]


def copula(train: Events, n: int, seed: int) -> Events:
    """Draw by the plain panel copula: the 40 lines that any engine has to beat.

    Normal scores of each channel; one level a subject, and one first-order residual with the same
    variance for everybody; gaps and numbers of visits from the training subjects.
    """
    rng = generator(seed, "plain panel copula")
    visits, cells = dense(train)
    scores = np.full(cells.shape, np.nan)
    for j in range(cells.shape[1]):
        own = ~np.isnan(cells[:, j])
        order = np.argsort(np.argsort(cells[own, j] + 1e-9 * rng.random(own.sum())))
        scores[own, j] = ndtri((order + 0.5) / own.sum())
    filled = np.nan_to_num(scores)
    known = (~np.isnan(scores)).astype(float)
    total = np.maximum(np.add.reduceat(known, visits.starts[:-1], 0), 1)
    mean = np.add.reduceat(filled, visits.starts[:-1], 0) / total
    rest = np.where(known > 0, filled - mean[visits.whose], 0.0)
    follows = np.flatnonzero(np.diff(visits.whose) == 0)
    kept = (rest[follows] * rest[follows + 1]).sum(0) / np.maximum((rest[follows] ** 2).sum(0), 1)
    level = rng.multivariate_normal(np.zeros(len(kept)), np.cov(mean.T).reshape(len(kept), -1), n)
    spread = (rest.T @ rest) / max(1, len(rest))
    days = visits.gaps_days()
    rows, walk = [], np.zeros(level.shape)
    counts = rng.choice(visits.counts[visits.counts > 0], n)
    day = np.zeros(n)
    for v in range(counts.max()):
        on = np.flatnonzero(counts > v)
        at = np.flatnonzero(visits.place == v)
        day[on] += np.nan_to_num(rng.choice(days[at], on.size)) if v else 0
        fresh = rng.multivariate_normal(np.zeros(len(kept)), spread, on.size)
        walk[on] = fresh if v == 0 else kept * walk[on] + np.sqrt(1 - kept**2) * fresh
        seen = rng.choice(at, on.size)
        for j in range(len(kept)):
            own = known[seen, j] > 0
            z = level[on[own], j] + walk[on[own], j]
            p = np.clip(np.argsort(np.argsort(z)) + 0.5, 0, None) / max(1, own.sum())
            value = np.quantile(cells[known[:, j] > 0, j], p, method="nearest")
            rows.append((on[own], day[on[own]], np.full(own.sum(), j), value))
    whose, when, code, value = (np.concatenate(column) for column in zip(*rows, strict=True))
    time_of = np.datetime64("2000-01-01", "us") + (when * 86_400e6).astype("timedelta64[us]")
    static = train.static.rows(rng.integers(0, train.n_subjects, n))
    return Events.of(train.schema, replace(static, subjects=np.arange(n)), whose, time_of, code,
                     value)  # fmt: skip


def apart(train: Events, n: int, seed: int) -> Events:
    """Give every value to somebody else at random: visits that owe nothing to each other."""
    rng = generator(seed, "independent visits")
    value = train.value.copy()
    for code in range(len(train.schema)):
        own = np.flatnonzero(train.code == code)
        value[own] = value[rng.permutation(own)]
    return replace(train, value=value)


def shuffled(train: Events, n: int, seed: int) -> Events:
    """Shuffle each subject's own values over the visits of that subject."""
    rng = generator(seed, "shuffled within subjects")
    key = rng.random(train.n_events)
    fixed = np.lexsort((np.arange(key.size), train.code, train.whose))
    mixed = np.lexsort((key, train.code, train.whose))
    value = train.value.copy()
    value[fixed] = train.value[mixed]
    return replace(train, value=value)


def own(name: str) -> Callable[[Events, int, int], Events]:
    """Return a maker by one of our engines."""

    def make(train: Events, n: int, seed: int) -> Events:
        drawn: Events = catalogue.build(name).fit(train, seed=seed).sample(n, seed=seed + 1)
        return drawn

    return make


ENGINES = {
    f"`events/{name}`": f"events/{name}"
    for name in ("panel", "visits", "trajectory", "par", "rcgan", "timediff")
}
MAKERS: dict[str, Callable[[Events, int, int], Events]] = {
    "fresh real subjects (ceiling)": lambda train, n, seed: train,
    **{title: own(name) for title, name in ENGINES.items()},
    "plain panel copula (40 lines)": copula,
    "shuffled within subjects (floor)": shuffled,
    "independent visits (floor)": apart,
}


def dense(events: Events) -> tuple[Visits, Floats]:
    """Return visits, and their values by channel."""
    visits = visits_of(events)
    cells = np.full((visits.n, len(events.schema)), np.nan)
    timed = visits.of >= 0
    cells[visits.of[timed], events.code[timed]] = events.value[timed]
    return visits, cells
