"""Rates settled by drawing: where drawn visits have more or less of a code than real ones, mend it.

Idea  what a model draws becomes the past of what it draws next, so small errors feed on themselves;
      rates are moved until first times and returns come as often, a code and a class, as they did
      (stochastic approximation: Robbins and Monro, Ann. Math. Stat. 22, 1951)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._visits_draw import draw_codes
from manikin.synthesizers.events._visits_rates import MOST, Learning, Rates
from manikin.synthesizers.events._visits_risk import Cells, Returns, cells_of, returns
from manikin.synthesizers.events.encoding import Histories

__all__ = ["settled"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

ROUNDS = 4
GAIN = 0.8  # by which moves shrink
ENOUGH = 90_000  # codes drawn a round, in few subjects by drawing them again
MOST_CODES = 600_000  # codes of real visits that are compared
OFTEN = 3  # times at most
STRENGTH = 2.0  # events that a factor of 1 weighs
FARTHEST = 1.5  # of one move, in logarithms


def settled(rates: Rates, h: Histories, data: Learning, rng: np.random.Generator) -> Rates:
    """Return the rates moved until drawn visits are as the real ones."""
    h, data = _some(h, data)
    real = _told(data.cells, data)
    risk = data.returns
    again = float(risk.again.sum())
    due = _by_code(risk.code, risk.again, data), np.bincount(risk.code, minlength=data.n_codes)
    day = np.where(h.dated, h.start.view(np.int64) / 86_400e6, np.nan)
    times = int(np.clip(ENOUGH // max(data.cells.code.size, 1), 1, OFTEN))
    subjects = (0, h.n_subjects)
    for turn in range(ROUNDS):
        drawn, hits, chances = np.zeros_like(real), np.zeros(data.n_codes), np.zeros(data.n_codes)
        for _ in range(times):
            visit, code = draw_codes(rates, data.contexts, h.starts, day, h.kind < 0, rng)
            own = _as_histories(h, visit, code)
            cells = cells_of(own)
            drawn += _told(cells, data)
            if again:
                found = returns(own, cells, subjects)
                hits += _by_code(found.code, found.again, data)
                chances += np.bincount(found.code, minlength=data.n_codes)
        rates = _moved(rates, real, drawn / times, h.n_subjects, GAIN**turn)
        if again:
            rates = _moved_again(rates, due, (hits / times, chances / times), GAIN**turn)
    return rates


def _some(h: Histories, data: Learning) -> tuple[Histories, Learning]:
    """Return the visits of so many subjects as are enough to settle by, evenly among all."""
    step = int(data.cells.code.size // MOST_CODES) + 1
    every = np.zeros(h.n_subjects, bool)
    every[::step] = True
    every[data.looked_at :] = False  # of whom possible returns were looked at
    if every.all():
        return h, data
    chosen = every[h.whose]
    place = np.cumsum(chosen) - 1
    rank = np.cumsum(every) - 1
    own = replace(
        h, n_subjects=int(every.sum()), whose=rank[h.whose[chosen]], start=h.start[chosen],
        length=h.length[chosen], kind=h.kind[chosen], ended=h.ended[chosen],
        numbered=h.numbered[chosen], death=h.death[every], death_delay=h.death_delay[every],
    )  # fmt: skip
    cells, risk = data.cells, data.returns
    kept, held = chosen[cells.visit], chosen[risk.visit]
    return own, replace(
        data,
        contexts=replace(data.contexts, of=data.contexts.of[chosen]),
        cells=Cells(place[cells.visit[kept]], cells.code[kept], cells.first[kept]),
        returns=Returns(place[risk.visit[held]], risk.code[held], risk.past[held],
                        risk.since[held], risk.again[held]),
    )  # fmt: skip


def _told(cells: Cells, data: Learning) -> Floats:
    """Return the first times of each code, (codes,)."""
    return np.bincount(cells.code[cells.first], minlength=data.n_codes).astype(np.float64)


def _by_code(code: Ints, again: NDArray[np.bool_], data: Learning) -> Floats:
    return np.asarray(np.bincount(code, weights=again, minlength=data.n_codes), np.float64)


def _moved(rates: Rates, real: Floats, drawn: Floats, n: int, by: float) -> Rates:
    """Return rates by which as many of `n` subjects have a code as did."""
    shares = [(found + STRENGTH) / (n + 2 * STRENGTH) for found in (real, drawn)]
    wanted, found = (-np.log1p(-np.minimum(share, 0.999)) for share in shares)
    step = np.log(wanted / found)
    step = np.clip(by * step, -FARTHEST, FARTHEST)
    return replace(rates, base=np.clip(rates.base + step, -60, 5))


def _moved_again(rates: Rates, real: tuple[Any, Any], drawn: tuple[Any, Any], by: float) -> Rates:
    """Return rates by which a code comes back as often, where it can."""
    wanted, found = _hazard(*real), _hazard(*drawn)
    strength = np.minimum(real[0], drawn[0])
    step = by * np.log(wanted / found) * strength / (strength + STRENGTH)
    step = np.clip(step, -FARTHEST, FARTHEST)
    return replace(rates, again=np.clip(rates.again * np.exp(step)[:, None], 1e-9, MOST))


def _hazard(hits: Floats, chances: Floats) -> Floats:
    share = (hits + 0.5) / (chances + 1.0)
    return -np.log1p(-np.minimum(share, 0.999))


def _as_histories(h: Histories, visit: Ints, code: Ints) -> Histories:
    none = np.full(visit.size, np.nan)
    return replace(h, of=visit, code=code, offset=none, value=none, text=visit, duration=none)
