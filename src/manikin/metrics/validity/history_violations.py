"""Violations in histories: events that break a hard rule, of every 1,000.

Rules are those that always hold (knowledge/history_rules: nothing before birth or after death,
nothing ends before it begins, one death), those that the schema declares, and those that training
shows where enough subjects support them (knowledge/learned: codes of one sex, of an age, of once a
life). Of each rule that some event breaks there is a line of its own. Real histories break rules
too: the ceiling says how often. Intervals resample subjects.
"""

from __future__ import annotations

import numpy as np

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.knowledge.histories import broken
from manikin.knowledge.history_rules import describe, standard
from manikin.knowledge.learned import learned
from manikin.metrics.histories import Side, no_histories, sides
from manikin.metrics.intervals import recentred
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["history_violations"]

CARD = Card(
    title="Rule violations in histories",
    family="validity",
    better="lower",
    reads="How many of every 1,000 synthetic events break a hard rule: something before birth or "
    "after death, an end before its beginning, codes of the other sex, values out of bounds. 0 is "
    "none. Beside it what real histories break; only rules that are known here are looked at.",
    profile="quick",
    modality="events",
)
NAME = "validity/history_violations"
DRAWS = 200
SHOWN = 12  # rules, those broken most


def history_violations(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Count events that break rules, per 1,000 events."""
    name = f"{NAME}.per_1000"
    if not isinstance(trial.train, Events):
        return no_histories(name)
    rng = generator(seed, NAME)
    train, _, drawn = sides(trial, seed=seed)
    if not drawn.events.n_events:
        return (not_estimable(name, "no synthetic events"),)
    known = standard(drawn.events.schema).with_more(learned(train.events))
    found = broken(drawn.events, known)
    scores = [_rate(name, found.event, drawn, rng, note=f"of {len(found.rules)} rules")]
    order = np.argsort(-found.counts, kind="stable")[:SHOWN]
    for rule in order[found.counts[order] > 0]:
        group = describe(found.rules[rule]).replace("=", " ")  # '=' would name a group of patients
        scores.append(_rate(name, found.event[found.rule == rule], drawn, rng, group=group))
    return tuple(scores)


def _rate(
    name: str,
    event: np.ndarray,
    drawn: Side,
    rng: np.random.Generator,
    *,
    group: str = "all",
    note: str = "",
) -> Score:
    events = drawn.events
    dealt = drawn.dealt(rng, DRAWS)
    breaches = np.bincount(events.whose[event], minlength=events.n_subjects).astype(np.float64)
    total = dealt.sums(events.counts.astype(np.float64))
    draws = 1000 * dealt.sums(breaches) / np.where(total > 0, total, np.nan)
    value = 1000 * event.size / events.n_events
    # none in n subjects is no proof of none: the rule of three bounds what was never seen
    none = 0.0, 1000 * (1 - 0.025 ** (1 / events.n_subjects))
    interval = recentred(value, draws, 0) if event.size else none
    return Score(name, value, interval, group=group, note=note)
