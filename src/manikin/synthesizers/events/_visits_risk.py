"""Which codes could come back at which visit: every visit after the first at which one was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events.encoding import Histories

__all__ = ["PASTS", "SINCE", "Cells", "Returns", "cells_of", "past", "returns", "since"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

PASTS = 12  # kinds of past of a code: how long ago in visits, times how often
DAYS = np.array([2.5, 10.0, 45.0, 120.0, 280.0, 550.0])  # steps of the time since it was last seen
SINCE = DAYS.size + 1


@dataclass(frozen=True, eq=False)
class Cells:
    """Codes at visits, by subject, code and visit."""

    visit: Ints
    code: Ints
    first: NDArray[np.bool_]  # whether the subject never had the code before


@dataclass(frozen=True, eq=False)
class Returns:
    """Codes that a subject had before, at each visit since: whether they were there again."""

    visit: Ints
    code: Ints
    past: Ints  # kind of past
    since: Ints  # kind of time since it was last seen
    again: NDArray[np.bool_]


def past(lag: Ints, times: Ints, span: Ints) -> Ints:
    """Return the kind of past: `lag` visits ago last, `times` seen in `span` visits."""
    recent = np.where(lag <= 1, 0, np.where(lag <= 3, 1, 2))
    share = times / np.maximum(span, 1)
    often = np.where(times <= 1, 0, np.where(share <= 0.34, 1, np.where(share <= 0.67, 2, 3)))
    return np.asarray(recent * 4 + often, np.int64)


def since(days: Floats) -> Ints:
    """Return the kind of time since a code was last seen; unknown is the longest."""
    return np.where(np.isnan(days), DAYS.size, np.searchsorted(DAYS, days)).astype(np.int64)


def cells_of(h: Histories) -> Cells:
    """Return the different codes of each visit, by subject, code and visit."""
    starts, code = h.multi_hot
    visit = np.repeat(np.arange(h.n), np.diff(starts))
    order = np.lexsort((visit, code, h.whose[visit]))
    visit, code = visit[order], code[order]
    first = np.ones(visit.size, bool)
    first[1:] = (np.diff(h.whose[visit]) != 0) | (np.diff(code) != 0)
    return Cells(visit, code, first)


def returns(h: Histories, cells: Cells, subjects: tuple[int, int]) -> Returns:
    """Return what could come back at the visits of a range of subjects."""
    whose = h.whose[cells.visit]
    lo, hi = np.searchsorted(whose, subjects)
    visit, code, first = cells.visit[lo:hi], cells.code[lo:hi], cells.first[lo:hi]
    begin = visit[first]
    after = h.starts[h.whose[begin] + 1] - begin - 1
    start = np.concatenate([[0], np.cumsum(after)])
    at = np.repeat(begin + 1 - start[:-1], after) + np.arange(start[-1])
    which = np.repeat(np.arange(begin.size), after)
    group = np.cumsum(first) - 1
    again = np.zeros(start[-1], bool)
    later = ~first
    again[start[group[later]] + visit[later] - begin[group[later]] - 1] = True
    total = np.concatenate([[0], np.cumsum(again)])
    times = 1 + total[:-1] - total[start[which]]
    # the cell before in which it was, where that is of the same subject and code
    cell = np.maximum.accumulate(np.where(again, np.arange(at.size), -1))
    cell = np.concatenate([[-1], cell])[: at.size]
    last = np.where(cell >= start[which], at[cell], begin[which]) if at.size else at
    days = (h.start[at] - h.start[last]).astype(np.float64) / 86_400e6
    days = np.where(np.isnat(h.start[at]) | np.isnat(h.start[last]), np.nan, days)
    kind = past(at - last, times, at - begin[which])
    return Returns(at, code[first][which], kind, since(days), again)
