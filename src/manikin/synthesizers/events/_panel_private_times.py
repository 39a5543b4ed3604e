"""When visits are and what is measured at them, by noisy counts on public grids.

Times since the first visit are counted on an even grid. Where its peaks stand apart they are the
slots of a plan; where they do not, gaps are counted by how long the record has gone on. Moves from
slot to slot, ends of records and what was measured are counted by slot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

import manikin.synthesizers.events._bounded as bounded
from manikin.privacy.account import Account, measuring
from manikin.synthesizers.events._bounded import Behind
from manikin.synthesizers.events._panel_chances import NEIGHBOURS, Chances
from manikin.synthesizers.events._panel_channels import Channel
from manikin.synthesizers.events._panel_marginals import Marginal
from manikin.synthesizers.events._panel_private_sheet import Lengths, Visited, simplex
from manikin.synthesizers.events._panel_slots import _steps
from manikin.synthesizers.events._panel_times import Times

__all__ = ["Moved", "chances_of", "counted_moves", "times_bought", "together_bought", "whens_of"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

STEPS_US = (1, 1000, 10**6, 15 * 10**6, 6 * 10**7, 3 * 10**8, 9 * 10**8, 36 * 10**8, 216 * 10**8,
            864 * 10**8, 7 * 864 * 10**8, 30 * 864 * 10**8)  # fmt: skip
FINE = 24  # steps of the grid in the usual gap, at least
MOST_CELLS = 2048
MOST_SLOTS = 48
GRID = 0.7  # share of what times cost that goes to the even grid
WHOLE = 0.7  # share of visits that are in slots of a plan, at least
PLANNED = 0.15  # most mean deviation from slots, by the usual gap
CLEAR = 4.0  # deviations of noise by which a slot's visits stand out
FAR = 0.03  # of a peak: what is lower at its foot belongs to no slot
DEEP = 0.5  # of the lower of two peaks: how deep it must be between them
WHENS = 6  # bins of time since the first visit, where there is no plan
GAPS, REACH = 24, 8.0  # cells of a gap on either side of the usual one; times it that they reach
OFTEN = 0.6  # length of a subject's shares of gaps: they are hardly ever all in one cell
SAME = 0.97  # share of visits with either of two channels that have both, in one block
NEVER = 0.002  # least chance of anything


@dataclass(frozen=True, eq=False)
class Grid:
    """Noisy shares of visits after the first by time since it, on an even grid."""

    step: float  # units
    mass: Floats  # (cells,) weights a subject
    raw: Floats  # (cells,) before they were made nought or more
    noise: float  # deviation of each of those


def grid_bought(
    own: Behind[Visited], lengths: Lengths, unit_us: int, account: Account, rho: float,
    subjects: float,
) -> Grid:  # fmt: skip
    """Return how visits lie after the first.

    Sensitivity: a subject's weights are 1/V each; V cells of its own make 1/√V, to which it is
    shortened where several visits share a cell.
    """
    fit = [s for s in STEPS_US if s <= lengths.gap * unit_us / FINE]
    step = max(1.0, float(round((fit[-1] if fit else 1) / unit_us)), math.ceil(
        lengths.extent / MOST_CELLS))  # fmt: skip
    n_cells = int(min(MOST_CELLS, lengths.extent // step + 1))
    norm = 1 / math.sqrt(lengths.typical)
    with measuring():
        visited = own.it
        later = np.flatnonzero(~visited.first)
        cell = np.minimum(visited.since[later] // step, n_cells - 1).astype(np.int64)
        noisy, deviation = bounded.counted(
            account, visited.sheet.whose[later], cell, visited.weight[later], n_cells, norm=norm,
            rho=rho, what="visits by time since the first",
        )  # fmt: skip
    number = np.arange(lengths.visits.size)
    total = lengths.expected(np.maximum(number - 1, 0) / np.maximum(number, lengths.typical))
    return Grid(step, simplex(noisy, total, subjects), noisy / subjects, deviation / subjects)


def slots_of(grid: Grid, gap: float) -> list[tuple[int, int]] | None:
    """Return the cells of each slot after the first; None where peaks do not stand apart."""
    if not grid.mass.sum():
        return None
    half = max(1, round(0.12 * gap / grid.step))
    kernel = np.bartlett(2 * half + 3)[1:-1]
    smooth = np.convolve(grid.mass, kernel / kernel.sum(), mode="same")
    inside = np.flatnonzero(smooth > 0)
    peaks: list[int] = []
    for at in inside[np.argsort(-smooth[inside], kind="stable")].tolist():
        if smooth[at] < 0.02 * smooth.max():
            break
        near = grid.raw[max(0, at - half) : at + half + 1]
        if near.sum() < CLEAR * grid.noise * math.sqrt(near.size):
            continue
        if all(smooth[min(at, p) : max(at, p) + 1].min() < DEEP * smooth[at] for p in peaks):
            peaks.append(at)
        if len(peaks) > MOST_SLOTS:
            return None
    peaks.sort()
    cuts = [0]
    for one, two in pairwise(peaks):
        cuts.append(one + int(np.argmin(smooth[one:two])) + 1)
    cuts.append(grid.mass.size)
    found = []
    for peak, (a, b) in zip(peaks, pairwise(cuts), strict=True):
        foot = np.flatnonzero(smooth[a:b] < FAR * smooth[peak]) + a
        below, above = foot[foot < peak], foot[foot > peak]
        found.append((int(below[-1]) + 1 if below.size else a, int(above[0]) if above.size else b))
    cells = np.arange(grid.mass.size)
    off = sum(float((grid.mass[a:b] * np.abs(cells[a:b] - _middle(grid.mass[a:b], a))).sum())
              for a, b in found)  # fmt: skip
    inside_of = sum(float(grid.mass[a:b].sum()) for a, b in found)
    near_enough = off * grid.step <= PLANNED * gap * inside_of
    return found if found and near_enough and inside_of >= WHOLE * grid.mass.sum() else None


def _middle(mass: Floats, start: int) -> float:
    below = np.cumsum(mass) / max(float(mass.sum()), 1e-12)
    return start + float(np.searchsorted(below, 0.5))


def times_bought(
    own: Behind[Visited], lengths: Lengths, unit_us: int, account: Account, rho: float,
    subjects: float, n_channels: int,
) -> tuple[Times, float]:  # fmt: skip
    """Return when visits are, moves aside, and the units after which no record goes on."""
    grid = grid_bought(own, lengths, unit_us, account, rho * GRID, subjects)
    below = np.cumsum(grid.mass) / max(float(grid.mass.sum()), 1e-12)
    longest = grid.step * (1 + float(np.searchsorted(below, 0.995)))
    if (cells := slots_of(grid, lengths.gap)) is not None:
        return _planned(grid, cells, n_channels), longest
    edges = [0.0]
    for share in np.linspace(0, 1, WHENS + 1)[1:-1]:
        edges.append(grid.step * float(np.searchsorted(below, share)))
    centre = np.unique(np.array(edges))
    gaps = _gaps_bought(own, centre, lengths, account, rho * (1 - GRID), subjects)
    n = centre.size
    step = np.full((2, 2), 0.5)
    return Times(False, centre, np.full(n, 1 / n), step, gaps, 0.0, np.zeros(n), 0, np.zeros(0),
                 np.zeros((0, n_channels))), longest  # fmt: skip


def _planned(grid: Grid, cells: list[tuple[int, int]], n_channels: int) -> Times:
    """Return a plan that begins with the first visit."""
    centre, width, shift = [0.0], [1.0], [Marginal(np.zeros(1), np.zeros(1), np.ones(1), 0)]
    for a, b in cells:
        mass = grid.mass[a:b]
        middle = grid.step * _middle(mass, a) + (grid.step - 1) // 2
        kept = np.flatnonzero(mass)
        low = np.asarray(grid.step * (a + kept) - middle, np.float64)
        high = low + grid.step - 1
        shift.append(Marginal(low, np.maximum(high, low), mass[kept], 0) if kept.size else shift[0])
        centre.append(max(middle, centre[-1]))
        spread = float((mass[kept] * np.abs((low + high) / 2)).sum())
        width.append(max(0.5, spread / max(float(mass.sum()), 1e-12)))
    n = len(centre)
    return Times(True, np.array(centre), np.eye(n)[0], np.eye(n), tuple(shift), 0.0, np.zeros(n), 0,
                 np.array(width), np.full((n, n_channels), 0.5))  # fmt: skip


def _gaps_bought(
    own: Behind[Visited], centre: Floats, lengths: Lengths, account: Account, rho: float,
    subjects: float,
) -> tuple[Marginal, ...]:  # fmt: skip
    """Return gaps by time since the first visit.

    Sensitivity: weights of a subject add up to one at most; its vector is shortened to a part.
    """
    around = lengths.gap * np.geomspace(1 / REACH, REACH, 2 * GAPS + 1)
    edges = np.unique(np.concatenate([[1.0], np.maximum(np.rint(around), 1), [
        max(lengths.extent, 2.0)]]))  # fmt: skip
    n_cells, n = edges.size - 1, centre.size
    with measuring():
        visited = own.it
        on = np.flatnonzero(~np.isnan(visited.gap))
        when = np.searchsorted(centre, visited.since[on], side="right") - 1
        cell = np.clip(np.searchsorted(edges, visited.gap[on], side="right") - 1, 0, n_cells - 1)
        noisy, deviation = bounded.counted(
            account, visited.sheet.whose[on], when * n_cells + cell, visited.weight[on],
            n * n_cells, norm=OFTEN, rho=rho, what="gaps by time since the first visit",
        )  # fmt: skip
    counts = noisy.reshape(n, n_cells)
    together = simplex(counts.sum(0), max(float(counts.sum()), deviation))
    found = []
    for row in counts:
        total = float(row.sum())
        clear = total > 4 * deviation * math.sqrt(n_cells)
        mass = simplex(row, total) if clear else together
        kept = np.flatnonzero(mass)
        high = np.maximum(edges[kept + 1] - 1, edges[kept])
        found.append(Marginal(edges[kept], high, mass[kept], 0))
    return tuple(found)


def whens_of(times: Times, own: Visited) -> Ints:
    """Return the slot of each visit, or the bin of its time."""
    if not times.planned:
        return times.whens(own.since, np.zeros(own.since.size, bool))
    middle = (times.centre[1:] + times.centre[:-1]) / 2
    return np.where(own.first, 0, np.maximum(np.searchsorted(middle, own.since),
                                             int(times.n > 1)))  # fmt: skip


# ------------------------------------------------------------------ moves and measuring


@dataclass(frozen=True, eq=False)
class Moved:
    """Noisy weights a subject, by when."""

    visits: Floats  # (whens,)
    step: Floats  # (whens, whens) of the next, where there is a plan
    ends: Floats  # (whens,) no other visit
    seen: Floats  # (whens, channels)
    noise: float  # deviation of each


def counted_moves(
    own: Behind[Visited], times: Times, account: Account, rho: float, subjects: float,
    typical: float,
) -> Moved:  # fmt: skip
    """Return moves, ends and what is measured, by when.

    Sensitivity: each visit has one move or end, and the channels measured at it; of V visits in
    cells of their own this is √((1 + channels) / V), to which a subject's vector is shortened.
    """
    n = times.n
    with measuring():
        visited = own.it
        when = whens_of(times, visited)
        n_channels = visited.sheet.cells.shape[1]
        moves = n if times.planned else 1
        on = ~np.isnan(visited.gap)
        to = np.zeros(when.size, np.int64)
        if times.planned:
            middle = (times.centre[1:] + times.centre[:-1]) / 2
            next_at = np.where(on, visited.since + visited.gap, 0.0)
            to = np.maximum(np.searchsorted(middle, next_at), int(n > 1))
        to = np.where(on, to, moves)
        cell = [when * (moves + 1) + to]
        rows = [np.arange(when.size)]
        for j, seen in enumerate(visited.seen.T):
            rows.append(np.flatnonzero(seen))
            cell.append(n * (moves + 1) + when[rows[-1]] * n_channels + j)
        at = np.concatenate(rows)
        noisy, deviation = bounded.counted(
            account, visited.sheet.whose[at], np.concatenate(cell), visited.weight[at],
            n * (moves + 1 + n_channels), norm=math.sqrt((1 + n_channels) / typical), rho=rho,
            what="moves, ends and what is measured",
        )  # fmt: skip
    noisy, noise = noisy / subjects, deviation / subjects
    gone = noisy[: n * (moves + 1)].reshape(n, moves + 1)
    seen = noisy[n * (moves + 1) :].reshape(n, n_channels)
    # a move that noise alone might show is none; what is left adds up as all of it does
    gone = np.array([simplex(row, max(float(row.sum()), noise)) for row in gone])
    return Moved(gone.sum(1), gone[:, :-1], gone[:, -1], seen, noise)


def moving(times: Times, moved: Moved, subjects: float, lengths: Lengths) -> Times:
    """Return a plan with its moves."""
    if not times.planned:
        return times
    by = subjects * lengths.typical  # weights as visits
    there = np.concatenate([[1.0], moved.step.sum(0)[1:] * lengths.typical])
    measured = np.clip(moved.seen / np.maximum(moved.visits, 1e-9)[:, None], NEVER, 1 - NEVER)
    return Times(True, times.centre, times.first, _steps(moved.step * by, there), times.shift, 0.0,
                 times.lasting, 0, times.width, measured)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Together:
    """Noisy shares of visits."""

    both: Floats  # (channels, channels) at which both are measured
    lasting: Floats  # (channels,) log odds ratio of being measured again


def together_bought(own: Behind[Visited], account: Account, rho: float) -> Together:
    """Return which channels are measured together, and again.

    Sensitivity: averages over a subject's visits of yes and no, C (C + 1) / 2 + 2 C of them; the
    root of that is the longest that they can be, and what they are shortened to.
    """
    with measuring():
        visited = own.it
        seen = visited.seen.astype(np.float64)
        n, (v, c) = visited.sheet.n_subjects, seen.shape
        rows, columns = np.triu_indices(c)
        last = np.nan_to_num(visited.before)
        later = (~visited.first).astype(np.float64)[:, None]
        parts = np.concatenate([seen[:, rows] * seen[:, columns], seen * last, last,
                                seen * later, later, np.ones((v, 1))], 1)  # fmt: skip
        vectors = np.zeros((n, parts.shape[1]))
        np.add.at(vectors, visited.sheet.whose, parts * visited.weight[:, None])
        noisy, deviation = bounded.summed(
            account, vectors, norm=math.sqrt(parts.shape[1]), rho=rho,
            what="channels measured together, and again",
        )  # fmt: skip
    total = max(float(noisy[-1]), 1e-9)
    both = np.zeros((c, c))
    both[rows, columns] = np.clip(noisy[: rows.size] / total, 0, 1)
    both = np.maximum(both, both.T)
    again, was, now = noisy[rows.size : -2].reshape(3, c)
    later_total = float(noisy[-2])
    cells = np.stack([again, was - again, now - again, later_total - was - now + again], 1)
    sound = (cells > 4 * deviation).all(1)
    cells = np.maximum(cells, deviation)
    ratio = np.log(cells[:, 0] * cells[:, 3] / (cells[:, 1] * cells[:, 2]))
    return Together(both, np.where(sound, np.clip(ratio, -4, 4), 0.0))


def chances_of(
    moved: Moved, together: Together, channels: tuple[Channel, ...], terminal: Ints, n_facts: int
) -> Chances:
    """Return chances that fit the counts: each block looks at one that is drawn before it."""
    c, n_whens = len(channels), len(moved.visits)
    prior = 4 * moved.noise + 1e-3
    # of all slots together, and by slot as far as noise leaves it legible
    share = np.clip(moved.seen.sum(0) / max(float(moved.visits.sum()), 1e-9), NEVER / 4, 1.0)
    by_when = (moved.seen + prior * share) / (moved.visits[:, None] + prior)
    by_when = np.clip(by_when, NEVER / 4, 1 - NEVER).T  # (channels, whens)
    block = np.full(c, -1)
    either = share[:, None] + share[None] - together.both
    alike = together.both >= SAME * np.maximum(either, 1e-9)
    for j in range(c):
        if block[j] < 0:
            block[(alike[j] | (np.arange(c) == j)) & (block < 0)] = block.max(initial=-1) + 1
    n_blocks = int(block.max(initial=-1)) + 1
    first = np.array([int(np.flatnonzero(block == b)[0]) for b in range(n_blocks)], int)
    chance = np.array([by_when[block == b].max(0) for b in range(n_blocks)]).reshape(-1, n_whens)
    within = np.array([min(1.0, by_when[j].mean() / chance[block[j]].mean()) for j in range(c)])
    whens, others = np.zeros((n_blocks + 1, n_whens)), np.zeros((n_blocks + 1, n_blocks))
    own = np.zeros((n_blocks, 2))
    for b in range(n_blocks):
        own[b, 0] = together.lasting[first[b]]
        parent, ratio = _parent(together.both, first, b)
        given = np.zeros(n_whens) if parent < 0 else chance[parent]
        if parent >= 0:
            others[b, parent] = ratio
        whens[b] = _intercept(chance[b], given, ratio, own[b, 0], float(share[first[b]]))
    over = moved.visits * by_when[terminal].sum(0)
    ends, left = moved.ends - over, np.maximum(moved.visits - over, 1e-9)
    hazard = (np.maximum(ends, 0) + prior * max(float(ends.sum()), 0.0) / left.sum()) / (
        left + prior
    )
    hazard = np.clip(hazard, NEVER, 1 - NEVER)
    whens[n_blocks] = np.log(hazard / (1 - hazard))
    return Chances(block.astype(np.int64), within, whens, np.zeros((n_blocks + 1, n_facts)), own,
                   np.zeros((n_blocks + 1, c)), others)  # fmt: skip


def _parent(both: Floats, first: Ints, b: int) -> tuple[int, float]:
    """Return the earlier block that tells most of this one (mutual information), and how."""
    best, found, ratio = 1e-3, -1, 0.0
    mine = float(both[first[b], first[b]])
    for a in range(max(0, b - 4 * NEIGHBOURS), b):
        its, p = float(both[first[a], first[a]]), float(both[first[a], first[b]])
        cells = np.array([p, mine - p, its - p, 1 - mine - its + p])
        cells = np.maximum(cells, 1e-4) / np.maximum(cells, 1e-4).sum()
        alone = np.array([its * mine, (1 - its) * mine, its * (1 - mine), (1 - its) * (1 - mine)])
        told = float((cells * np.log(cells / np.maximum(alone, 1e-8))).sum())
        if told > best:
            best, found = told, a
            odds = np.log(cells[0] * cells[3] / (cells[1] * cells[2]))
            ratio = float(np.clip(odds, -6, 6))
    return found, ratio


def _intercept(wanted: Floats, given: Floats, ratio: float, lasting: float, last: float) -> Floats:
    """Return the odds by when at which the mean chance over what is beside is as wanted."""
    low, high = np.full(wanted.size, -20.0), np.full(wanted.size, 20.0)
    for _ in range(50):
        middle = (low + high) / 2
        mean = np.zeros(wanted.size)
        for beside, p in ((0.0, 1 - given), (ratio, given)):
            for before, q in ((0.0, 1 - last), (lasting, last)):
                mean += p * q * expit(middle + beside + before)
        low, high = np.where(mean < wanted, middle, low), np.where(mean < wanted, high, middle)
    return np.asarray((low + high) / 2)
