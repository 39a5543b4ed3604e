"""The judge: every metric on the synthetic rows, on the floor and on the ceiling.

A number alone says little. Each comes with what independent columns would score and what fresh
real rows would, computed on the same held-out rows in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

from manikin.data.events import Events
from manikin.data.table import Table
from manikin.errors import NotSupported, Stopped
from manikin.metrics import histories
from manikin.metrics.controls import floor, fresh
from manikin.metrics.score import Metric, Score, Trial, not_estimable

__all__ = ["Assessed", "Listener", "assess", "judge", "scored"]

Listener: TypeAlias = Callable[[int, int, str], bool | None]
"""Receives (step, steps, what) before each step; returning True asks the judge to stop."""


@dataclass(frozen=True)
class Assessed:
    """A metric's scores with floors and ceilings, and all that it said of fresh real rows."""

    scores: tuple[Score, ...]
    null: tuple[Score, ...]


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

    for i, (name, metric) in enumerate(metrics.items()):

        def step(part: int, what: str, i: int = i) -> None:
            if watch(3 * i + part, steps, what):
                raise Stopped("the evaluation")

        scores += assess(trial, name, metric, seed=seed, floored=floored, step=step).scores
    if watch(steps, steps, "done"):
        raise Stopped("the evaluation")
    return tuple(scores)


def assess(
    trial: Trial[Table],
    name: str,
    metric: Metric[Table],
    *,
    seed: int,
    floored: Trial[Table],
    step: Callable[[int, str], None] = lambda part, what: None,
) -> Assessed:
    """Score one metric on the trial, its floor (given, since all metrics share it) and ceiling."""
    step(0, name)
    found = scored(name, metric, trial, seed)
    if not found:
        return Assessed((), ())
    step(1, f"{name}: independent columns")
    low = _values(scored(name, metric, floored, seed))
    step(2, f"{name}: fresh real rows")
    real = fresh(trial, family=name.partition("/")[0], seed=seed)
    null = () if real is None else scored(name, metric, real, seed)
    high = _values(null)
    keys = [(score.metric, score.group) for score in found]
    full = [
        replace(score, floor=low.get(key), ceiling=high.get(key))
        for score, key in zip(found, keys, strict=True)
    ]
    if isinstance(trial.train, Events) and not name.startswith("privacy/"):
        step(2, f"{name}: {histories.SHUFFLED}")
        mixed = histories.shuffled(cast("Trial[Events]", trial), seed=seed)
        full = _beside(full, _values(scored(name, metric, cast("Trial[Table]", mixed), seed)))
    return Assessed(tuple(full), null)


def _beside(scores: list[Score], other: dict[tuple[str, str], float]) -> list[Score]:
    """Return the scores with a note of what histories out of order score."""
    found = []
    for score in scores:
        value = other.get((score.metric, score.group))
        if value is not None and score.group == "all" and score.value == score.value:
            said = f"{histories.SHUFFLED}: {value:.3g}"
            score = replace(score, note=f"{score.note}; {said}" if score.note else said)
        found.append(score)
    return found


def scored(name: str, metric: Metric[Table], trial: Trial[Table], seed: int) -> tuple[Score, ...]:
    """Return a metric's scores; what it does not support is one score that says why."""
    try:
        return metric(trial, seed=seed)
    except NotSupported as reason:
        return (not_estimable(name, str(reason)),)


def _values(scores: tuple[Score, ...]) -> dict[tuple[str, str], float]:
    """Return the numbers that could be estimated, by what they are of."""
    return {(s.metric, s.group): s.value for s in scores if s.value == s.value}
