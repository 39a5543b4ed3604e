"""Controls: datasets whose scores are known beforehand, to read all other scores by.

The floor has the real columns and no relation between them; the ceiling is fresh real rows; the
copies are generators that leak by a known amount, which a privacy metric worth its name catches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from manikin.data.dataset import split_subjects
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.score import Metric, Score, Trial

__all__ = ["Control", "copy_share", "floor", "fresh", "independent", "positive_controls"]

SHARES = {"exact copy": 1.0, "5 % copied": 0.05}


def floor(trial: Trial[Table], *, seed: int) -> Trial[Table]:
    """Return the trial with independent columns in place of the synthetic rows."""
    n = trial.synthetic.n_rows
    return replace(trial, synthetic=independent(_resized(trial.train, n, seed), seed=seed))


def fresh(trial: Trial[Table], *, family: str, seed: int) -> Trial[Table] | None:
    """Return the trial with fresh real rows in place of the synthetic ones, or None without any.

    Where scores compare with the held-out rows, training rows are fresh. For privacy, where they
    compare with training rows, one half of the held-out subjects stands for the synthetic rows
    and the other half remains the null.
    """
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
    """What a metric said of a generator that leaks by a known amount."""

    name: str
    share: float
    caught: bool
    scores: tuple[Score, ...]


def positive_controls(
    trial: Trial[Table], metrics: Mapping[str, Metric[Table]], *, seed: int
) -> tuple[Control, ...]:
    """Return whether these metrics, of which 0 is the null, catch an exact copy and a 5 % leak.

    The leak is planted in the synthetic rows at hand, so its power is the power of this very run.
    Where it is not caught the run is underpowered: silence about it means nothing.
    """
    found = []
    for name, share in SHARES.items():
        leaky = copy_share(trial, share, seed=seed)
        scores = tuple(s for metric in metrics.values() for s in metric(leaky, seed=seed))
        found.append(Control(name, share, any(s.interval[0] > 0 for s in scores), scores))
    return tuple(found)


def _resized(table: Table, n: int, seed: int) -> Table:
    """Return whole subjects' rows drawn without replacement until there are about `n` rows."""
    if table.n_rows <= n or not n:
        return table
    everyone, sizes = np.unique(table.subjects, return_counts=True)
    order = generator(seed, "fresh").permutation(everyone.size)
    last = int(np.searchsorted(np.cumsum(sizes[order]), n)) + 1
    return table.take(np.sort(everyone[order[:last]]))
