"""Hard rules that training histories show by themselves, where enough subjects support them.

A code that only women have may be so by chance. Under chance alone, n subjects that hold a code
are all of a group of share p with probability p**n; that is to be below `CHANCE` over all codes
that are looked at (Bonferroni), so that a rule is a fact of medicine and not of a small sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.knowledge.history_rules import Aged, HistoryRule, Once, Only

__all__ = ["learned"]

CHANCE = 0.01  # that any rule of a kind is learnt where there is none
ONCE_RATE = 0.05  # a code of which more than this share of subjects has several is not once-only
FROM_YEARS, TO_YEARS = (1, 12, 18, 40), (18, 50, 60)  # ages at which medicine draws lines
_YEAR_DAYS = 365.2425


def learned(events: Events, *, least: int = 11) -> tuple[HistoryRule, ...]:
    """Return codes of one sex, of an age and of once a life, each held by `least` subjects.

    Nothing of them tells of fewer: levels of sex are the schema's and ages are round.
    """
    n, codes = events.n_subjects, len(events.schema)
    if not n or not codes:
        return ()
    keys, seen = np.unique(events.whose * codes + events.code, return_counts=True)
    whose, code = keys // codes, keys % codes
    holders = np.bincount(code, minlength=codes)
    rules: list[HistoryRule] = [*_of_one_sex(events, whose, code, holders, least)]
    rules += _of_an_age(events, holders, least)
    # no second event in n subjects: its rate is below 3 / n with 95 % confidence (rule of three)
    most = np.zeros(codes, np.int64)
    np.maximum.at(most, code, seen)
    for place in np.flatnonzero((holders >= max(least, 3 / ONCE_RATE)) & (most == 1)):
        name = events.schema.codes[place].name
        if len(events.schema.named[name]) == 1 and not _has_beneath(events, name):
            rules.append(Once(name))
    return tuple(dict.fromkeys(rules))


def _has_beneath(events: Events, name: str) -> bool:
    """Whether other codes say that they are beneath this one: a rule would reach them too."""
    return any(name in code.parents for code in events.schema.codes) or any(
        code.name != name and code.name.startswith(name) for code in events.schema.codes
    )


def _of_one_sex(
    events: Events, whose: NDArray[np.int64], code: NDArray[np.int64],
    holders: NDArray[np.int64], least: int,
) -> list[HistoryRule]:  # fmt: skip
    column = events.schema.sex
    if not column or not events.schema.static[column].is_coded:
        return []
    levels = events.schema.static[column].categories
    sex = events.static.columns[column]
    shares = np.bincount(sex[sex >= 0], minlength=len(levels)) / max(int((sex >= 0).sum()), 1)
    known = sex[whose] >= 0
    held = np.zeros((len(events.schema), len(levels)), np.int64)  # (codes, levels)
    np.add.at(held, (code[known], sex[whose][known]), 1)
    n = held.sum(axis=1)
    tried = max(int((n >= least).sum()), 1)
    rules: list[HistoryRule] = []
    for level, share in enumerate(shares):
        sure = (n >= least) & (held[:, level] == n) & (share**n * tried <= CHANCE)
        for place in np.flatnonzero(sure):
            name = events.schema.codes[place].name
            # a rule of a name speaks of all its units, and of what is beneath it
            same = [p for p in events.schema.named[name]]
            if all(held[p, level] == n[p] for p in same) and not _has_beneath(events, name):
                rules.append(Only(name, column, (levels[level],)))
    return rules


def _of_an_age(events: Events, holders: NDArray[np.int64], least: int) -> list[HistoryRule]:
    births = events.births()[events.whose]
    timed = np.flatnonzero(~np.isnat(events.time) & ~np.isnat(births))
    if not timed.size:
        return []
    years = (events.time[timed] - births[timed]) / np.timedelta64(1, "D") / _YEAR_DAYS
    years, code, whose = np.floor(years + 1e-9), events.code[timed], events.whose[timed]
    low, high = np.full(len(events.schema), np.inf), np.full(len(events.schema), -np.inf)
    np.minimum.at(low, code, years)
    np.maximum.at(high, code, years)
    eldest, youngest = np.full(events.n_subjects, -np.inf), np.full(events.n_subjects, np.inf)
    np.maximum.at(eldest, whose, years)
    np.minimum.at(youngest, whose, years)
    tried = max(int((holders >= least).sum()), 1)
    floor, ceiling = np.zeros(len(events.schema)), np.full(len(events.schema), np.inf)
    for edge in FROM_YEARS:
        young = float(np.mean(youngest[np.isfinite(youngest)] < edge))
        sure = (low >= edge) & (holders >= least) & ((1 - young) ** holders * tried <= CHANCE)
        floor[sure] = edge
    for edge in reversed(TO_YEARS):
        old = float(np.mean(eldest[np.isfinite(eldest)] > edge))
        sure = (high <= edge) & (holders >= least) & ((1 - old) ** holders * tried <= CHANCE)
        ceiling[sure] = edge
    rules: list[HistoryRule] = []
    for place in np.flatnonzero((floor > 0) | np.isfinite(ceiling)):
        name = events.schema.codes[place].name
        if len(events.schema.named[name]) == 1 and not _has_beneath(events, name):
            top = float(ceiling[place]) if np.isfinite(ceiling[place]) else None
            bottom = float(floor[place]) if floor[place] else None
            rules.append(Aged(name, bottom, top))
    return rules
