"""Violations: how often synthetic rows break the rules that the schema declares.

Value     rows that break a rule, per 1,000 rows; one score a rule, and one for any rule
Interval  one row a subject: exact binomial (Clopper and Pearson, Biometrika 1934);
          several rows a subject: percentiles of a bootstrap of subjects
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.knowledge import constraints
from manikin.metrics.score import Card, Score, Trial

__all__ = ["violations"]

CARD = Card(
    title="Rule violations per 1,000 rows",
    family="validity",
    better="lower",
    reads=(
        "How many of 1,000 synthetic rows break a rule declared in the schema, such as a discharge "
        "before an admission. 0 is what every synthesizer should reach; the ceiling shows how "
        "often real rows break the same rules. It says nothing about rules nobody declared."
    ),
    profile="quick",
)
_RESAMPLES = 400


def violations(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Score each rule of the schema, and all of them together; no rules give no scores."""
    declared = trial.train.schema.rules
    if not declared or not trial.synthetic.n_rows:
        return ()
    rules = constraints.learn(declared, trial.train)
    broken = np.column_stack([constraints.violations(rule, trial.synthetic) for rule in rules])
    broken = np.column_stack([broken.any(axis=1), broken])  # (rows, 1 + rules)
    rates = 1000 * broken.mean(axis=0)
    low, high = _interval(broken, trial.synthetic.subjects, seed)
    groups = ("all", *map(constraints.describe, declared))
    return tuple(
        Score("validity/violations", float(rate), (float(a), float(b)), group=group)
        for group, rate, a, b in zip(groups, rates, low, high, strict=True)
    )


def _interval(
    broken: NDArray[np.bool_], subjects: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both ends of a 95 % interval for each column of `broken`, per 1,000 rows."""
    everyone, inverse = np.unique(subjects, return_inverse=True)
    n, counts = len(broken), broken.sum(axis=0)
    if everyone.size == n:
        low = np.where(counts > 0, betaincinv(np.maximum(counts, 1), n - counts + 1, 0.025), 0.0)
        high = np.where(counts < n, betaincinv(counts + 1, np.maximum(n - counts, 1), 0.975), 1.0)
        return 1000 * low, 1000 * high
    per_subject = np.zeros((everyone.size, broken.shape[1]))
    np.add.at(per_subject, inverse, broken)
    rows = np.bincount(inverse)
    rng = generator(seed, "violations")
    weights = rng.multinomial(
        everyone.size, np.full(everyone.size, 1 / everyone.size), size=_RESAMPLES
    )
    rates = 1000 * (weights @ per_subject) / (weights @ rows)[:, None]
    low, high = np.percentile(rates, [2.5, 97.5], axis=0)
    # none in n subjects is no proof of none: the rule of three bounds what was never seen
    none = 1000 * (1 - 0.025 ** (1 / everyone.size))
    return low, np.where(counts == 0, none, high)
