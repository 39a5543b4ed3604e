"""Stand-ins by whole subjects, where data are no single table: fresh real ones, resized."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np

from manikin.data.cohort import Cohort
from manikin.data.dataset import split_subjects
from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.metrics.score import Trial

__all__ = ["fresh", "resized"]

W = TypeVar("W", Cohort, Events)


def fresh(trial: Trial[W], *, family: str, seed: int) -> Trial[W] | None:
    """Return the trial with fresh real subjects in place of the synthetic, None without any."""
    n = trial.synthetic.n_subjects
    if family != "privacy":
        return dataclasses.replace(trial, synthetic=resized(trial.train, n, seed))
    if trial.holdout.n_subjects < 2:
        return None
    null, stranger = split_subjects(trial.holdout, (0.5, 0.5), seed=seed)
    return dataclasses.replace(trial, holdout=null, synthetic=resized(stranger, n, seed))


def resized(data: W, n: int, seed: int) -> W:
    """Return `n` subjects drawn without replacement, or all if there are no more."""
    if data.n_subjects <= n or not n:
        return data
    return data.take(np.sort(generator(seed, "fresh").permutation(data.subjects)[:n]))
