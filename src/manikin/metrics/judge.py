"""The judge: every metric on the synthetic rows, on the floor and on the ceiling.

A number alone says little. Each comes with what independent columns would score and what fresh
real rows would, computed on the same held-out rows in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from manikin.data.table import Table
from manikin.errors import NotSupported, Stopped
from manikin.metrics.controls import floor, fresh
from manikin.metrics.score import Metric, Score, Trial, not_estimable

__all__ = ["Listener", "judge"]

Listener: TypeAlias = Callable[[int, int, str], bool | None]
"""Receives (step, steps, what) before each step; returning True asks the judge to stop."""


def judge(
    trial: Trial[Table],
    metrics: Mapping[str, Metric[Table]],
    *,
    seed: int,
    watch: Listener = lambda step, steps, what: None,
) -> tuple[Score, ...]:
    """Return every metric's scores with their floors and ceilings.

    A metric that does not apply to these columns gives none; one whose number cannot be estimated
    gives NaN and a note. Raises Stopped when `watch` asks to stop.
    """
    scores: list[Score] = []
    steps = 3 * len(metrics)
    floored = floor(trial, seed=seed)

    def step(i: int, what: str) -> None:
        if watch(i, steps, what):
            raise Stopped("the evaluation")

    for i, (name, metric) in enumerate(metrics.items()):
        step(3 * i, name)
        found = _scored(name, metric, trial, seed)
        if not found:
            continue
        step(3 * i + 1, f"{name}: independent columns")
        low = _values(_scored(name, metric, floored, seed))
        step(3 * i + 2, f"{name}: fresh real rows")
        real = fresh(trial, family=name.partition("/")[0], seed=seed)
        high = {} if real is None else _values(_scored(name, metric, real, seed))
        for score in found:
            key = (score.metric, score.group)
            scores.append(replace(score, floor=low.get(key), ceiling=high.get(key)))
    step(steps, "done")
    return tuple(scores)


def _scored(name: str, metric: Metric[Table], trial: Trial[Table], seed: int) -> tuple[Score, ...]:
    try:
        return metric(trial, seed=seed)
    except NotSupported as reason:
        return (not_estimable(name, str(reason)),)


def _values(scores: tuple[Score, ...]) -> dict[tuple[str, str], float]:
    """Return the numbers that could be estimated, by what they are of."""
    return {(s.metric, s.group): s.value for s in scores if s.value == s.value}
