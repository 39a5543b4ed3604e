"""One column as a finite code: first its missing marks, then cells in increasing order of value.

A cell of numbers holds at least `k` subjects; a category is kept from a threshold drawn between
`k` - 2 and `k` (never below 2), so that being kept does not tell how many hold it. A value that
many subjects share is a cell of its own (an atom: a spike, a heap, a detection limit, a category)
and comes back exactly; rarer values share a cell and come back as another value of the cell, on
the observed grid where values tie, interpolated and rounded to the cell's decimals where they do
not. The outermost values of a column are never
stored: a grid ends where `k` subjects lie at or beyond it, an ungridded tail is exponential with
the tail's mean excess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from manikin.privacy.cells import subjects_per_cell

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

MAX_CELLS = 1000  # finest division of a numeric column
SPIKES = 2  # the commonest values may be spikes of an otherwise ungridded column
STRETCH = 8  # neighbouring distinct values that are looked at together
FREQUENCIES = (  # what a ledger says of all this
    "frequencies of each column's values: numbers that k subjects or more share, categories that"
    " k - 2 or more do, and fewer in tables of fewer than 10 k subjects"
)
CHANCE = 0.9  # distinct values below this share of what chance gives: the column has a grid
HEAPED = 1.5  # times as many values with fewer decimals as multiples of a step have: no such step
LAST_DIGITS = np.array([-4, -3, -2, -1, 1, 2, 3, 4, 5])  # away from a zero: each digit as often
TAIL = 0.95  # share of the exponential tail that is drawn: none lies beyond 3 mean excesses


@dataclass(frozen=True)
class CodedCells:
    """A category column: code = token (0 to T - 1), then level (T + i)."""

    tokens: Ints  # (T,) the state each token code stands for
    levels: Ints  # (L,) the category of each level
    counts: Ints  # (T + L,) rows of each code in training
    rare_start: Ints  # (categories + 1,) where each category's candidates begin; none: kept
    rare_levels: Ints  # candidates (level positions) that stand in for a rare category
    ordered: bool  # categories have an order

    @property
    def n_tokens(self) -> int:
        """Number of codes that stand for a missing mark."""
        return int(self.tokens.size)

    @property
    def size(self) -> int:
        """Number of codes."""
        return int(self.counts.size)

    @property
    def atoms(self) -> NDArray[np.bool_]:
        """Codes that decode to one value exactly, (size,)."""
        return np.ones(self.size, bool)

    def encode(
        self, numbers: Floats, states: NDArray[np.int8], rng: np.random.Generator
    ) -> NDArray[np.int32]:
        """Return the code of each row; rare categories get a candidate by its frequency."""
        position = np.full(self.rare_start.size - 1, -1, np.int64)
        position[self.levels] = np.arange(self.levels.size)
        present = states == 0
        category = np.where(present, numbers, 0).astype(np.int64)
        level = position[np.minimum(category, position.size - 1)]
        for rare in np.unique(category[present & (level < 0)]):
            rows = np.flatnonzero(present & (category == rare))
            end = self.rare_start[min(rare + 1, position.size)]
            options = self.rare_levels[self.rare_start[min(rare, position.size)] : end]
            if options.size == 0 and self.levels.size:  # a category that training never showed
                options = np.arange(self.levels.size)
            # the least frequent of the candidates first: what was rare should stay so
            weights = 1.0 / np.maximum(self.counts[self.n_tokens + options], 1)
            level[rows] = rng.choice(options, rows.size, p=weights / weights.sum())
        return _with_tokens(level, present, states, self.tokens, self.counts, rng)

    def decode(
        self, codes: NDArray[np.int32], rng: np.random.Generator, position: Floats | None = None
    ) -> tuple[Floats, NDArray[np.int8]]:
        """Return numbers (NaN for none) and states of codes."""
        del rng, position
        missing = codes < self.n_tokens
        lookup = np.concatenate([np.full(self.n_tokens, np.nan), self.levels.astype(float)])
        states = np.concatenate([self.tokens, np.zeros(self.levels.size, np.int64)])
        return np.where(missing, np.nan, lookup[codes]), states[codes].astype(np.int8)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything but `ordered`, for a model file."""
        names = ("tokens", "levels", "counts", "rare_start", "rare_levels")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class NumericCells:
    """A number column: code = token (0 to T - 1), then cell (T + i) in increasing order."""

    tokens: Ints  # (T,) the state each token code stands for
    counts: Ints  # (T + C,) rows of each code in training
    bounds: Floats  # (C - 1,) a value belongs to the cell after the last bound that is <= it
    start: Ints  # (C + 1,) where each cell's grid values begin; none: an ungridded cell
    grid: Floats  # values that come back exactly
    cumulative: Floats  # (len(grid),) share of the cell's rows at or below each grid value
    low: Floats  # (C,) an ungridded cell spans low to high;
    high: Floats  # (C,) a tail instead decays from one of them with the mean excess between
    tail: Ints  # (C,) -1 lower tail, 1 upper tail, 0 neither
    fresh: Floats  # (C,) share of a gridded cell's rows that are drawn as in an ungridded one
    decimals: Floats  # (C, D) share of the cell's values with at most so many decimal places
    least: float  # nothing below
    most: float  # nothing above
    step: float  # every value is a multiple of it, from an offset; 0: not so
    offset: float

    ordered = True

    @property
    def n_tokens(self) -> int:
        """Number of codes that stand for a missing mark."""
        return int(self.tokens.size)

    @property
    def size(self) -> int:
        """Number of codes."""
        return int(self.counts.size)

    @property
    def atoms(self) -> NDArray[np.bool_]:
        """Codes that decode to one value exactly, (size,)."""
        return np.concatenate([np.ones(self.n_tokens, bool), np.diff(self.start) == 1])

    def encode(
        self, numbers: Floats, states: NDArray[np.int8], rng: np.random.Generator
    ) -> NDArray[np.int32]:
        """Return the code of each row."""
        present = states == 0
        cell = np.searchsorted(self.bounds, np.where(present, numbers, 0.0), side="right")
        return _with_tokens(cell, present, states, self.tokens, self.counts, rng)

    def decode(
        self, codes: NDArray[np.int32], rng: np.random.Generator, position: Floats | None = None
    ) -> tuple[Floats, NDArray[np.int8]]:
        """Return numbers (NaN for none) and states; `position` in [0, 1) places within the cell."""
        where = rng.random(codes.shape) if position is None else position
        present = codes >= self.n_tokens
        cell = np.where(present, codes - self.n_tokens, 0)
        if self.low.size == 0:
            states = self.tokens[codes].astype(np.int8)
            return np.full(codes.shape, np.nan), states
        numbers = self._ungridded(cell, where, rng)
        gridded = self.start[cell + 1] > self.start[cell]
        gridded &= rng.random(cell.shape) >= self.fresh[cell]
        if gridded.any():
            # cumulative shares end at 1 in every cell: add the cell's number to search them all
            keys = np.repeat(np.arange(self.low.size), np.diff(self.start)) + self.cumulative
            at = np.searchsorted(keys, cell[gridded] + where[gridded], side="right")
            at = np.clip(at, self.start[cell[gridded]], self.start[cell[gridded] + 1] - 1)
            numbers[gridded] = self.grid[at]
        numbers = np.clip(numbers, self.least, self.most)
        token = self.tokens[np.where(present, 0, codes)] if self.n_tokens else 0
        return np.where(present, numbers, np.nan), np.where(present, 0, token).astype(np.int8)

    def _ungridded(self, cell: Ints, where: Floats, rng: np.random.Generator) -> Floats:
        low, high, tail = self.low[cell], self.high[cell], self.tail[cell]
        numbers = low + where * (high - low)
        # inverse of the truncated exponential, rescaled to mean 1
        mean = 1 + (1 - TAIL) * np.log(1 - TAIL) / TAIL
        above = -np.log1p(-TAIL * where) / mean
        below = -np.log1p(-TAIL * (1 - where)) / mean
        numbers = np.where(tail > 0, low + above * (high - low), numbers)
        numbers = np.where(tail < 0, high - below * (high - low), numbers)
        if self.step:
            multiples = np.rint((numbers - self.offset) / self.step)
            return np.round(multiples * self.step + self.offset, self.decimals.shape[1] - 1)
        places = (rng.random(cell.shape)[:, None] >= self.decimals[cell]).sum(axis=1)
        scale = 10.0**places
        with np.errstate(invalid="ignore", over="ignore"):
            units = np.rint(numbers * scale)
            # one in ten ends in a zero, and would be written with fewer places than were drawn
            shorter = (units % 10 == 0) & (places > 0)
            units[shorter] += LAST_DIGITS[rng.integers(LAST_DIGITS.size, size=int(shorter.sum()))]
            rounded = units / scale
        return np.where(np.isfinite(rounded), rounded, numbers)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays, bounds included, for a model file."""
        names = ("tokens", "counts", "bounds", "start", "grid", "cumulative", "low", "high")
        found = {name: getattr(self, name) for name in names}
        limits = np.array([self.least, self.most, self.step, self.offset])
        tails = {"tail": self.tail, "fresh": self.fresh}
        return found | tails | {"decimals": self.decimals, "limits": limits}


Cells: TypeAlias = CodedCells | NumericCells
AnyCells = TypeVar("AnyCells", CodedCells, NumericCells)


def restore_cells(arrays: Mapping[str, NDArray[Any]], *, ordered: bool) -> Cells:
    """Rebuild the cells whose `arrays` these are."""
    parts = dict(arrays)
    if "levels" in parts:
        return CodedCells(**parts, ordered=ordered)
    least, most, step, offset = (float(number) for number in parts.pop("limits"))
    return NumericCells(**parts, least=least, most=most, step=step, offset=offset)


def _with_tokens(
    cell: NDArray[np.integer[Any]],
    present: NDArray[np.bool_],
    states: NDArray[np.int8],
    tokens: Ints,
    counts: Ints,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Join cells and missing marks to codes; a mark without a code takes a common one's place."""
    codes = np.asarray(cell, np.int64) + tokens.size
    code_of = np.full(int(max(states.max(initial=0), tokens.max(initial=0))) + 1, -1)
    code_of[tokens] = np.arange(tokens.size)
    codes = np.where(present, codes, code_of[states])
    lost = np.flatnonzero(codes < 0)
    if lost.size and tokens.size:
        codes[lost] = int(np.argmax(counts[: tokens.size]))
    elif lost.size:
        weights = counts / counts.sum()
        codes[lost] = rng.choice(counts.size, lost.size, p=weights)
    return codes.astype(np.int32)


# ------------------------------------------------------------------ learning the cells


def kept_tokens(states: NDArray[np.int8], subjects: Ints, k: int) -> Ints:
    """Return the states (1 and up) that at least `k` subjects hold, commonest mark if none."""
    held = subjects_per_cell(states, subjects, int(states.max(initial=0)) + 1)
    kept = np.flatnonzero(held >= k)
    kept = kept[kept > 0]
    if kept.size == 0 and not (states == 0).any() and held.size > 1:
        kept = np.array([int(np.argmax(held[1:])) + 1])
    return kept.astype(np.int64)


def learn_coded(
    numbers: Floats,
    states: NDArray[np.int8],
    subjects: Ints,
    categories: tuple[str, ...],
    *,
    ordered: bool,
    k: int,
    rng: np.random.Generator,
) -> CodedCells:
    """Keep the levels held by `k` subjects, or by one or two fewer where chance allows it.

    Where no level reaches that, the commonest are kept: they tell no more than the vocabulary.
    """
    present = states == 0
    labels = numbers[present].astype(np.int64)
    n_labels = max(len(categories), int(labels.max(initial=0)) + 1)
    held = subjects_per_cell(labels, subjects[present], n_labels)
    kept = np.flatnonzero(held >= np.maximum(k - rng.integers(0, 3, n_labels), 2))
    if kept.size == 0 and labels.size:
        # nobody shares a level: all are equally rare, and none tells more than the vocabulary
        kept = np.flatnonzero(held >= held.max())
    start, candidates = np.zeros(n_labels + 1, np.int64), []
    for label in range(n_labels):
        if held[label] and label not in kept:
            candidates += list(_stand_ins(label, kept, categories, ordered))
        start[label + 1] = len(candidates)
    tokens = kept_tokens(states, subjects, k)
    cells = CodedCells(
        tokens, kept, np.concatenate([np.zeros(tokens.size, np.int64), held[kept]]), start,
        np.array(candidates, np.int64), ordered,
    )  # fmt: skip
    return _counted(cells, numbers, states, rng)


def _stand_ins(label: int, kept: Ints, categories: tuple[str, ...], ordered: bool) -> Ints:
    """Return positions in `kept` of the levels most like a rare one."""
    if ordered:
        return np.argsort(np.abs(kept - label), kind="stable")[:2]
    if kept.size > 30 and len(categories) > int(kept.max()):
        # many levels are codes of a nomenclature: the longest common beginning is the near kin
        name = categories[label]
        shared = np.array([_common(name, categories[other]) for other in kept])
        if shared.max(initial=0) > 0:
            return np.flatnonzero(shared == shared.max())
    return np.arange(kept.size)


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def learn_numeric(
    numbers: Floats,
    states: NDArray[np.int8],
    subjects: Ints,
    *,
    decimals: int,
    least: float | None,
    most: float | None,
    k: int,
    rng: np.random.Generator,
) -> NumericCells:
    """Divide a number column into atoms, gridded cells and ungridded cells."""
    present = (states == 0) & np.isfinite(numbers)
    values, label = np.unique(numbers[present], return_inverse=True)
    rows = np.bincount(label, minlength=values.size)
    held = subjects_per_cell(label, subjects[present], values.size)
    need = max(k, int(np.ceil(held.sum() / MAX_CELLS)))
    groups = _group(held, need, k)
    tied = _on_grid(values, rows, decimals)
    below, above = np.cumsum(held), np.cumsum(held[::-1])[::-1]
    safe = (below >= k) & (above >= k)
    places = _places(values, decimals)
    parts = [
        _cell(values[a:b], rows[a:b], held[a:b], safe[a:b], places[a:b], tied, need, decimals, k)
        for a, b in groups
    ]
    tokens = kept_tokens(states, subjects, k)
    ends = [(values[b - 1] + values[b]) / 2 for _, b in groups[:-1]]
    low, high, tail = _spans(values, rows, groups, ends, [part[0] for part in parts])
    signs = (0.0 if values.size and values[0] >= 0 else -np.inf,
             0.0 if values.size and values[-1] <= 0 else np.inf)  # fmt: skip
    grid = [part[0] for part in parts]
    cells = NumericCells(
        tokens, np.zeros(tokens.size + len(groups), np.int64), np.array(ends, float),
        np.concatenate([[0], np.cumsum([len(g) for g in grid])]).astype(np.int64),
        np.concatenate([np.zeros(0), *grid]),
        np.concatenate([np.zeros(0), *(part[1] for part in parts)]),
        low, high, tail, np.array([part[3] for part in parts]),
        np.array([part[2] for part in parts]).reshape(len(groups), decimals + 1),
        max(signs[0], least if least is not None else -np.inf),
        min(signs[1], most if most is not None else np.inf), *_lattice(values, decimals),
    )  # fmt: skip
    return _counted(cells, numbers, states, rng)


def _spans(
    values: Floats,
    rows: Ints,
    groups: list[tuple[int, int]],
    ends: list[float],
    grid: list[Floats],
) -> tuple[Floats, Floats, Ints]:
    """Return lower and upper end of each cell, and which are tails; none is a column's extreme."""
    low = np.array([values[a] for a, _ in groups], float)
    high = np.array([values[b - 1] for _, b in groups], float)
    tail = np.zeros(len(groups), np.int64)
    low[1:], high[:-1] = ends, ends
    if not groups:
        return low, high, tail
    if len(grid[0]):  # its span ends where its grid does
        high[0] = ends[0] if ends else grid[0][-1]
        low[0] = min(grid[0][0], high[0])
    elif len(groups) == 1:
        centre = np.average(values, weights=rows)
        half = np.sqrt(3 * np.average((values - centre) ** 2, weights=rows))
        low[0], high[0] = centre - half, centre + half
    else:
        a, b = groups[0]
        low[0] = high[0] - _mean_excess(high[0] - values[a:b], rows[a:b])
        tail[0] = -1
    if len(grid[-1]):
        low[-1] = ends[-1] if ends else grid[-1][0]
        high[-1] = max(grid[-1][-1], low[-1])
    elif len(groups) > 1:
        a, b = groups[-1]
        high[-1] = low[-1] + _mean_excess(values[a:b] - low[-1], rows[a:b])
        tail[-1] = 1
    return low, high, tail


def _lattice(values: Floats, decimals: int) -> tuple[float, float]:
    """Return the step of which all values are multiples, from an offset; (0, 0): none."""
    if values.size < 3 or np.abs(values).max() * 10.0**decimals > 2**52:
        return 0.0, 0.0
    units = np.rint(values * 10.0**decimals).astype(np.int64)
    step = int(np.gcd.reduce(np.diff(units)))
    for coarser in range(1, decimals + 1):
        ten = 10**coarser  # a multiple of the step is one of ten units by chance in gcd / ten
        if (units % ten == 0).mean() > HEAPED * math.gcd(step, ten) / ten:
            return 0.0, 0.0  # most have fewer decimals: each cell has its share of those
    return (step / 10.0**decimals, units[0] % step / 10.0**decimals) if step > 1 else (0.0, 0.0)


def _mean_excess(excess: Floats, rows: Ints) -> float:
    """Return the mean of the exponential of this median, on which no single outlier weighs."""
    return float(np.median(np.repeat(excess, rows)) / np.log(2))


def _group(held: Ints, need: int, k: int) -> list[tuple[int, int]]:
    """Return ranges of distinct values, each held by at least `k`; atoms stand alone."""
    total = np.concatenate([[0], np.cumsum(held)])
    atoms = np.flatnonzero(held >= need)
    groups: list[tuple[int, int]] = []
    for left, right in zip([0, *(atoms + 1)], [*atoms, held.size], strict=True):
        at = left
        while at < right:
            end = int(np.searchsorted(total, total[at] + need))
            if end > right or total[right] - total[min(end, right)] < k:
                end = right
            groups.append((at, end))
            at = end
        if right < held.size:
            groups.append((right, right + 1))
    return _merge_rare(groups, total, k)


def _merge_rare(groups: list[tuple[int, int]], total: Ints, k: int) -> list[tuple[int, int]]:
    """Join a range held by fewer than `k` to the one below it (the first: above it)."""
    merged: list[tuple[int, int]] = []
    for a, b in groups:
        small = total[b] - total[a] < k
        before = bool(merged) and total[merged[-1][1]] - total[merged[-1][0]] < k
        if merged and (small or before):
            merged[-1] = (merged[-1][0], b)
        else:
            merged.append((a, b))
    return merged


def _cell(
    values: Floats,
    rows: Ints,
    held: Ints,
    safe: NDArray[np.bool_],
    places: Ints,
    tied: bool,
    need: int,
    decimals: int,
    k: int,
) -> tuple[Floats, Floats, Floats, float]:
    """Return grid values, their cumulative shares, shares of decimal places, share off the grid."""
    shares = np.bincount(places, weights=rows, minlength=decimals + 1)
    shares = np.cumsum(shares) / shares.sum()
    shares[-1] = 1.0
    atoms = held >= need
    fresh = 0.0
    if atoms.any():  # an atom, with or without a rare neighbour that it took in
        keep = atoms
    elif values.size == 1:
        keep = np.ones(1, bool)
    elif tied and (safe & (held >= k)).any():
        keep = safe & (held >= k)
        fresh = float(rows[safe & ~keep].sum() / rows[safe].sum())
    else:
        return np.zeros(0), np.zeros(0), shares, 0.0
    cumulative = np.cumsum(rows[keep]) / rows[keep].sum()
    return values[keep], cumulative, shares, fresh


def _on_grid(values: Floats, rows: Ints, decimals: int) -> bool:
    """Whether values repeat more than chance would have them, the commonest two left out.

    Values spread evenly over all numbers with that many decimals repeat by chance alone. Heaped
    ones, and ones that were computed or converted from a coarser scale, repeat more.
    """
    kept = np.sort(np.argsort(-rows, kind="stable")[SPIKES:])
    values, rows = values[kept], rows[kept].astype(float)
    start = np.arange(0, max(values.size - STRETCH, 0) + 1, STRETCH)
    end = np.append(start[1:], values.size) - 1
    if values.size < 2:
        return True
    points = np.maximum(np.rint((values[end] - values[start]) * 10.0**decimals) + 1, 1 + 1e-9)
    drawn = np.add.reduceat(rows, start)
    expected = points * -np.expm1(drawn * np.log1p(-1 / points))
    return bool(values.size < CHANCE * expected.sum())


def _places(values: Floats, decimals: int) -> Ints:
    """Return how many decimal places each value needs, `decimals` at most."""
    places = np.full(values.size, decimals, np.int64)
    for fewer in range(decimals - 1, -1, -1):
        exact = np.isclose(values, np.round(values, fewer), rtol=1e-12, atol=10.0**-decimals / 100)
        places[exact & (places == fewer + 1)] = fewer
    return places


def _counted(
    cells: AnyCells, numbers: Floats, states: NDArray[np.int8], rng: np.random.Generator
) -> AnyCells:
    """Fill in how many rows fall on each code."""
    provisional = replace(cells, counts=np.maximum(cells.counts, 1))
    codes = provisional.encode(numbers, states, rng)
    return replace(cells, counts=np.bincount(codes, minlength=cells.size))
