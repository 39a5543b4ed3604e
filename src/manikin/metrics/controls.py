"""Controls: datasets whose scores are known beforehand, to read all other scores by.

The floor has the real columns and no relation between them; the ceiling is fresh real rows; the
copies are generators that leak by a known amount, which a privacy metric worth its name catches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import cast

import numpy as np

from manikin.data.cohort import Cohort
from manikin.data.dataset import split_subjects
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import NotSupported
from manikin.metrics import histories, linked
from manikin.metrics.score import Metric, Score, Trial

__all__ = [
    "Control",
    "copy_share",
    "floor",
    "fresh",
    "independent",
    "null_of",
    "positive_controls",
]

SHARES = {"exact copy": 1.0, "5 % copied": 0.05}
NULLS = {"auc": 0.5, "tpr_at_10": 0.1, "tpr_at_1": 0.01, "tpr_at_01": 0.001}  # a coin's


def floor(trial: Trial[Table], *, seed: int) -> Trial[Table]:
    """Return the trial with independent columns in place of the synthetic rows."""
    if isinstance(trial.train, Cohort):
        return cast("Trial[Table]", linked.floor(cast("Trial[Cohort]", trial), seed=seed))
    if isinstance(trial.train, Events):
        return cast("Trial[Table]", histories.floor(cast("Trial[Events]", trial), seed=seed))
    n = trial.synthetic.n_rows
    return replace(trial, synthetic=independent(_resized(trial.train, n, seed), seed=seed))


def fresh(trial: Trial[Table], *, family: str, seed: int) -> Trial[Table] | None:
    """Return the trial with fresh real rows in place of the synthetic ones, or None without any.

    Where scores compare with the held-out rows, training rows are fresh. For privacy, where they
    compare with training rows, one half of the held-out subjects stands for the synthetic rows
    and the other half remains the null.
    """
    if isinstance(trial.train, Cohort):
        of_linked = linked.fresh(cast("Trial[Cohort]", trial), family=family, seed=seed)
        return cast("Trial[Table] | None", of_linked)
    if isinstance(trial.train, Events):
        real = histories.fresh(cast("Trial[Events]", trial), family=family, seed=seed)
        return cast("Trial[Table] | None", real)
    n = trial.synthetic.n_rows
    if family != "privacy":
        return replace(trial, synthetic=_resized(trial.train, n, seed))
    if trial.holdout.n_subjects < 2:
        return None
    null, stranger = split_subjects(trial.holdout, (0.5, 0.5), seed=seed)
    return replace(trial, holdout=null, synthetic=_resized(stranger, n, seed))


def independent(table: Table, *, seed: int) -> Table:
    """Return the table with the cells of every column permuted between rows."""
    columns, states = {}, {}
    for name, values in table.columns.items():
        order = generator(seed, f"floor {name}").permutation(table.n_rows)
        columns[name] = values[order]
        if name in table.states:
            states[name] = table.states[name][order]
    return Table(table.schema, table.subjects, columns, states)


def copy_share(trial: Trial[Table], share: float, *, seed: int) -> Trial[Table]:
    """Return the trial with this share of the synthetic rows replaced by training rows."""
    if isinstance(trial.train, Events):
        whole = histories.copy_share(cast("Trial[Events]", trial), share, seed=seed)
        return cast("Trial[Table]", whole)
    rng = generator(seed, "copies")
    rows, known = trial.synthetic, trial.train
    n = round(share * rows.n_rows)
    replaced = rng.choice(rows.n_rows, n, replace=False)
    taken = rng.choice(known.n_rows, n, replace=n > known.n_rows)

    def mixed(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        out = old.copy()
        out[replaced] = new[taken]
        return out

    columns = {name: mixed(rows.columns[name], known.columns[name]) for name in rows.columns}
    states = {name: mixed(rows.state(name), known.state(name)) for name in rows.columns}
    return replace(trial, synthetic=Table(rows.schema, rows.subjects, columns, states))


@dataclass(frozen=True)
class Control:
    """What the attacks said of a generator that leaks by a known amount, and which caught it."""

    name: str
    share: float
    by: tuple[str, ...]  # scores that caught it, "privacy/membership.auc (attack=domias)"
    suffices: int | None  # held-out subjects with which it would be caught, where it was not
    scores: tuple[Score, ...]

    @property
    def caught(self) -> bool:
        """Whether any attack caught it."""
        return bool(self.by)


def positive_controls(
    trial: Trial[Table],
    metrics: Mapping[str, Metric[Table]],
    *,
    seed: int,
    null: Iterable[Score] = (),
    step: Callable[[str], None] = lambda what: None,
) -> tuple[Control, ...]:
    """Return whether these metrics catch an exact copy and a 5 % leak, and which of them do.

    The leak is planted in the synthetic rows at hand, so its power is the power of this very run.
    Where it is not caught the run is underpowered: silence about it means nothing.

    A score catches a leak when its 95 % interval, widened for as many scores as are looked at
    (Bonferroni), lies above its null: one half for an AUC, the share of false
    alarms for a rate at it, 0 for any other. One that says so of fresh real rows too (their scores
    are `null`) has another null, and catches nothing.
    """
    alarms = {(s.metric, s.group) for s in null if _above(s, 1.0) > 0}
    found = []
    for name, share in SHARES.items():
        leaky = copy_share(trial, share, seed=seed)
        scores: list[Score] = []
        for called, metric in metrics.items():
            step(f"{name}: {called}")
            with suppress(NotSupported):
                scores += metric(leaky, seed=seed)
        looked = [
            s for s in scores if math.isfinite(s.interval[0]) and (s.metric, s.group) not in alarms
        ]
        wider = _for_several(len(looked))
        by = tuple(_title(s) for s in looked if _above(s, wider) > 0)
        enough = None if by else _suffices(looked, wider, trial.holdout.n_subjects)
        found.append(Control(name, share, by, enough, tuple(scores)))
    return tuple(found)


def null_of(score: Score) -> float:
    """Return what a score is of rows that leak nothing."""
    return NULLS.get(score.metric.rpartition(".")[2], 0.0)


def _above(score: Score, wider: float) -> float:
    """Return how far the widened interval's lower end lies above the null."""
    return score.value - wider * (score.value - score.interval[0]) - null_of(score)


def _for_several(n: int) -> float:
    """Return by how much a 95 % interval widens for `n` looks, in the normal approximation."""
    normal = NormalDist()
    return normal.inv_cdf(1 - 0.025 / max(1, n)) / normal.inv_cdf(0.975)


def _suffices(scores: list[Score], wider: float, n: int) -> int | None:
    """Return the number of held-out subjects with which the best of these would catch the leak.

    An interval's width falls with the root of the sample: n grows by (half-width / effect)².
    """
    effects = [(s.value - null_of(s), wider * (s.value - s.interval[0])) for s in scores]
    factors = [(width / effect) ** 2 for effect, width in effects if effect > 0]
    if not factors or min(factors) > 1e4:
        return None
    return max(n + 1, math.ceil(1.05 * n * min(factors)))  # a twentieth more: not on the edge


def _title(score: Score) -> str:
    return score.metric if score.group == "all" else f"{score.metric} ({score.group})"


def _resized(table: Table, n: int, seed: int) -> Table:
    """Return whole subjects' rows drawn without replacement until there are about `n` rows."""
    if table.n_rows <= n or not n:
        return table
    everyone, sizes = np.unique(table.subjects, return_counts=True)
    order = generator(seed, "fresh").permutation(everyone.size)
    last = int(np.searchsorted(np.cumsum(sizes[order]), n)) + 1
    return table.take(np.sort(everyone[order[:last]]))
