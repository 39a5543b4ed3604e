"""How the numbers of a channel or code are spread, smoothed so that no one's value shows.

Reference  Eilers and Borgoni (preference of last digits) in Camarda, Eilers and Gampe, Statistical
           Modelling 8 (2008): heaps stand out of a smooth distribution; Kish, "Survey Sampling"
           (1965), §8.2: how many independent values clustered ones are worth
Idea       on a fine lattice any value that occurred has five patients or so by chance, and were it
           kept, and its neighbours not, it would tell whose values it was learnt from. A heap is
           what clearly exceeds its neighbours; all else lies along a quantile function with as few
           bends as fit, or where none fits in pieces of many subjects. Preferred last digits are
           learnt from all values of a channel together
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = ["Pieces", "alike", "independent", "spread_of"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

POINTS = 129
MOST_PIECES = 400
CLEAR = 4.0  # standard errors by which a heap exceeds its neighbours: hundreds of values are asked
ATOMIC = 0.9  # share of values that k subjects hold, from which a channel may be made of such ...
FEW, A_VALUE = 6, 25.0  # ... if they are so few, or worth so many independent values each
BENDS = (1, 2, 3, 5, 8, 12, 18, 30)
A_BEND = 30.0  # independent values
CLOSE, NEAR = 0.8, 1.3  # distances times the root of what values are worth: 0.87 is chance's mean
FEWEST, WRITTEN = 6, 0.95  # values that tell of a converted unit, and share that is written so
PREFERRED = 40.0  # chi-square of ten last digits, of which chance exceeds 28 once in a thousand


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces in ascending order: uniform from `low` to `high`, of probability `mass`."""

    low: Floats
    high: Floats
    mass: Floats


@dataclass(frozen=True, eq=False)
class _Lattice:
    """The values that occur, in ascending order."""

    each: Floats
    counts: Floats
    held: Ints  # subjects who have it


def spread_of(values: Floats, whose: Ints, k: int, decimals: int) -> Pieces:
    """Return how values, (n,), of which `whose` says the subject, are spread; n is not 0."""
    values = np.round(values, decimals) + 0.0
    each, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    pairs = np.unique(inverse.ravel().astype(np.int64) * (int(whose.max()) + 1) + whose)
    held = np.bincount(pairs // (int(whose.max()) + 1), minlength=each.size)
    lattice = _Lattice(each, counts.astype(np.float64), held)
    worth = independent(values, whose)
    shared = held >= k
    covered = counts[shared].sum() >= ATOMIC * values.size
    if covered and shared.sum() <= min(MOST_PIECES, max(FEW, worth / A_VALUE)):
        return _atoms(lattice, k, decimals)
    heap = _heaps(lattice, k)
    rest = ~heap[inverse.ravel()]
    step, origin = _converted(lattice, k, 10.0**-decimals)
    if np.unique(whose[rest]).size < 2 * k:
        return _atoms(lattice, k, decimals) if heap.any() else _level(values, 10.0**-decimals)
    share = float(rest.mean())
    smooth = _smoothed(values[rest], whose[rest], k, worth * share, step)
    return _with_heaps(smooth, lattice, heap, share, (step, origin, decimals), worth)


def independent(values: Floats, whose: Ints) -> float:
    """Return how many independent values these are worth (Kish's design effect)."""
    per_subject = values.size / np.unique(whose).size
    return float(values.size / (1 + (per_subject - 1) * alike(values, whose)))


def alike(values: Floats, whose: Ints) -> float:
    """Return the intraclass correlation of ranks: 1 where a subject's values never change."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    _, of, counts = np.unique(whose, return_inverse=True, return_counts=True)
    mean = np.bincount(of, rank) / counts
    within = float(((rank - mean[of]) ** 2).sum()) / max(1, values.size - counts.size)
    return float(np.clip(1 - within / max(float(rank.var()), 1e-9), 0.0, 1.0))


# ------------------------------------------------------------------ heaps


def _heaps(lattice: _Lattice, k: int) -> Mask:
    """Return which values clearly more subjects have than have their neighbours."""
    held = lattice.held.astype(np.float64)
    padded = np.pad(held, 5, constant_values=np.nan)
    beside = np.lib.stride_tricks.sliding_window_view(padded, 11)
    others = beside[:, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]]
    none: Mask = np.asarray(np.isnan(others).all(1))
    usual = np.where(none, 0.0, np.nanmedian(np.where(none[:, None], 0.0, others), 1))
    # next to the top of a narrow distribution there are nearly as many
    near = _mean(beside[:, [4, 6]])
    next_but_one = _mean(beside[:, [3, 7]])  # the neighbours where all is read in steps of two
    expected = np.maximum.reduce([usual, near, next_but_one, np.ones(held.size)])
    return np.asarray((held >= k) & (held - expected > CLEAR * np.sqrt(expected)))


def _converted(lattice: _Lattice, k: int, unit: float) -> tuple[float, float]:
    """Return step and origin of the lattice: of a converted unit, or of the decimals."""
    common = lattice.each[lattice.held >= k]
    if common.size < FEWEST:
        return unit, 0.0
    gaps = np.diff(common)
    least = float(np.quantile(gaps, 0.1, method="lower"))
    step = float(gaps[(gaps > 0.7 * least) & (gaps < 1.3 * least)].mean())
    if step < 3 * unit:
        return unit, 0.0
    middle = float(common[common.size // 2])
    reach, most, start = 4 * step, float(np.ptp(common)), middle
    while True:  # the further away, the more exactly the step has to be known
        near = common[np.abs(common - middle) <= reach]
        place = np.rint((near - start) / step)
        if np.ptp(place) > 0:
            step, start = (float(x) for x in np.polyfit(place, near, 1))
        if reach > most or step < 3 * unit:
            break
        reach *= 2
    origin = start - np.rint(start / step) * step
    off = np.abs(lattice.each - origin - np.rint((lattice.each - origin) / step) * step)
    fits = float(lattice.counts[off <= 0.75 * unit].sum()) >= WRITTEN * lattice.counts.sum()
    return (step, origin) if fits and step >= 3 * unit else (unit, 0.0)


def _mean(pairs: Floats) -> Floats:
    """Return the mean of each two numbers of which either may be NaN, 0 for none."""
    known = ~np.isnan(pairs)
    total = np.where(known, pairs, 0.0).sum(1)
    return np.asarray(total / np.maximum(known.sum(1), 1))


def _atoms(lattice: _Lattice, k: int, decimals: int) -> Pieces:
    """Shared values as they stand; the others count for the nearest, or make a tail."""
    each, counts, held = lattice.each, lattice.counts, lattice.held
    shared = held >= k
    atoms, mass = each[shared], counts[shared].copy()
    low, high = [atoms], [atoms]
    masses: list[Floats] = []
    rest = ~shared
    tails = ((rest & (each < atoms[0]), -1), (rest & (each > atoms[-1]), 1))
    for tail, side in tails:
        if held[tail].sum() < 2 * k:  # subjects may hold several: half of that is k at least
            rest_of = np.flatnonzero(tail)
            mass[0 if side < 0 else -1] += counts[rest_of].sum()
            continue
        edge = atoms[0] if side < 0 else atoms[-1]
        mean = float(np.average(each[tail], weights=counts[tail]))
        ends = sorted((edge + side * 10.0**-decimals, 2 * mean - edge))
        low.insert(0 if side < 0 else len(low), np.array([ends[0]]))
        high.insert(0 if side < 0 else len(high), np.array([ends[1]]))
        masses.insert(0 if side < 0 else len(masses), np.array([counts[tail].sum()]))
    between = rest & ~tails[0][0] & ~tails[1][0]
    right = np.searchsorted(atoms, each[between])
    nearer = (
        each[between] - atoms[right - 1] < atoms[np.minimum(right, atoms.size - 1)] - each[between]
    )
    np.add.at(mass, right - nearer, counts[between])
    below = 1 if low[0] is not atoms else 0
    masses.insert(below, mass)
    return Pieces(np.concatenate(low), np.concatenate(high), np.concatenate(masses))


def _level(values: Floats, step: float) -> Pieces:
    """Return the mean and deviation of values that few subjects have."""
    mean, half = float(values.mean()), float(values.std()) * 3**0.5
    low = mean - half
    if values.min() >= 0:
        low = max(low, 0.0 if step >= 1 or mean < step else step)
    return Pieces(np.array([min(low, mean)]), np.array([mean + half]), np.ones(1))


# ------------------------------------------------------------------ smoothing


def _smoothed(values: Floats, whose: Ints, k: int, worth: float, step: float) -> Pieces:
    """Return pieces along a quantile function that bends as little as fits."""
    order = np.argsort(values, kind="stable")
    values, whose = values[order], whose[order]
    p = np.linspace(0.0, 1.0, POINTS)
    inside = np.clip(p, 0.5 / worth, 1 - 0.5 / worth)
    z = ndtri(inside)
    edges = np.quantile(values, inside, method="hazen")
    middle = float(np.median(values))
    skewed = values[0] > 0 and edges[-1] - middle > 2 * (middle - edges[0])
    target = np.log(edges) if skewed else edges
    best, far = edges, np.inf
    for bends in BENDS:
        if bends > 1 and bends * A_BEND > worth:
            break
        fitted = _curve(z, target, bends)
        fitted = np.exp(fitted) if skewed else fitted
        off = _distance(values, fitted, p, step)
        if off < far:
            best, far = fitted, off
        if far <= CLOSE / worth**0.5:
            break
    if far > NEAR / worth**0.5:
        return _quantiles(values, whose, max(k, int(2 * worth**0.5)), worth)
    # not further out than the outermost of many reach for a mean
    outer = _quantiles(values, whose, max(k, int(worth**0.5)), worth)
    best = np.clip(best, outer.low[0], outer.high[-1])
    if values[0] >= 0:  # a length, a count, a concentration
        best = np.maximum(best, 0.0 if values[0] == 0 else min(step, edges[0]))
    return Pieces(best[:-1], best[1:], np.full(POINTS - 1, 1.0 / (POINTS - 1)))


def _curve(z: Floats, target: Floats, bends: int) -> Floats:
    """Return a natural quadratic curve through `target`: straight ends, bent between knots."""
    knots = ndtri(np.linspace(0, 1, bends + 2)[1:-1])
    hinges = [np.sqrt((z - knot) ** 2 + 1.0) for knot in knots]
    basis = np.stack([np.ones_like(z), z, *hinges], 1)
    weight = np.exp(-(z**2) / 4)[:, None]
    ridge = np.diag([0.0, 0.0, *[1e-4] * bends])
    gram = (basis * weight).T @ basis + ridge * len(z)
    fitted = basis @ np.linalg.solve(gram, (basis * weight).T @ target[:, None])[:, 0]
    return np.asarray(np.maximum.accumulate(fitted))


def _distance(values: Floats, curve: Floats, p: Floats, step: float) -> float:
    """Return how far shares below a curve are off, but for what rounding explains."""
    low = np.searchsorted(values, curve - 0.51 * step, side="left") / values.size
    high = np.searchsorted(values, curve + 0.51 * step, side="right") / values.size
    return float(np.maximum(low - p, p - high)[1:-1].max())


def _quantiles(values: Floats, whose: Ints, k: int, worth: float) -> Pieces:
    """Return pieces between quantiles that touch each other, each of `k` subjects at least."""
    n = int(np.clip(worth / k, 1, MOST_PIECES))
    kept = [0]
    for cut in np.unique(np.linspace(0, values.size, n + 1).astype(int)).tolist()[1:]:
        if np.unique(whose[kept[-1] : cut]).size >= k:
            kept.append(cut)
    if len(kept) > 1:
        kept[-1] = values.size  # what is left over goes to the last
    else:
        kept = [0, values.size]
    ends = np.array(kept)
    middle = (values[ends[1:-1] - 1] + values[ends[1:-1]]) / 2
    edges = np.concatenate([[_end(values[: ends[1]], middle[:1], -1)], middle,
                            [_end(values[ends[-2] :], middle[-1:], 1)]])  # fmt: skip
    edges = np.maximum.accumulate(edges)
    return Pieces(edges[:-1], edges[1:], np.diff(ends) / values.size)


def _end(values: Floats, inner: Floats, side: int) -> float:
    """Return the outer end of a piece, so that the mean between both ends is the values' own."""
    mean = float(values.mean())
    if inner.size:
        return 2 * mean - float(inner[0])
    return mean + side * float(values.std()) * 3**0.5


# ------------------------------------------------------------------ together


def _with_heaps(
    smooth: Pieces, lattice: _Lattice, heap: Mask, share: float,
    written: tuple[float, float, int], worth: float,
) -> Pieces:  # fmt: skip
    """Return pieces with the heaps among them; of a coarse lattice, its values."""
    total = lattice.counts.sum()
    step, origin, decimals = written
    at, mass = lattice.each[heap], lattice.counts[heap] / total
    ends = np.rint((np.array([smooth.low[0], smooth.high[-1]]) - origin) / step)
    if ends[1] - ends[0] < MOST_PIECES:
        place = np.arange(ends[0], ends[1] + 1)
        own = _preferred(smooth, place, lattice, heap, (step, origin), worth) * share
        points = np.round(origin + place * step, decimals) + 0.0
        return _merged(Pieces(points, points, own), at, mass)
    pieces = Pieces(smooth.low, smooth.high, smooth.mass / smooth.mass.sum() * share)
    for value in at:
        pieces = _parted(pieces, float(value), step)
    return _merged(pieces, at, mass)


def _parted(pieces: Pieces, value: float, step: float) -> Pieces:
    """Return pieces of which none reaches across a heap."""
    found = np.flatnonzero((pieces.low < value) & (pieces.high > value))
    if not found.size:
        return pieces
    i = int(found[0])
    low, high = float(pieces.low[i]), float(pieces.high[i])
    part = (value - low) / (high - low)
    ends = (max(low, value - step / 2), min(high, value + step / 2))
    return Pieces(
        np.insert(pieces.low, i + 1, ends[1]),
        np.insert(pieces.high, i, ends[0]),
        np.concatenate([pieces.mass[:i], pieces.mass[i] * np.array([part, 1 - part]),
                        pieces.mass[i + 1 :]]),
    )  # fmt: skip


def _merged(pieces: Pieces, at: Floats, mass: Floats) -> Pieces:
    """Return pieces and heaps in ascending order; a heap at the value of a piece is one with it."""
    low, high = np.append(pieces.low, at), np.append(pieces.high, at)
    both = np.append(pieces.mass, mass)
    order = np.lexsort((high, low + high))
    low, high, both = low[order], high[order], both[order]
    point = low == high
    new = np.ones(low.size, bool)
    new[1:] = ~(point[1:] & point[:-1] & (low[1:] == low[:-1]))
    first = np.flatnonzero(new)
    both = np.add.reduceat(both, first)
    kept = both > 0
    return Pieces(low[first][kept], high[first][kept], both[kept])


def _preferred(
    smooth: Pieces, place: Floats, lattice: _Lattice, heap: Mask, scale: tuple[float, float],
    worth: float,
) -> Floats:  # fmt: skip
    """Return the probability of values of a lattice, with last digits as often as they are."""
    step, origin = scale
    edges = np.concatenate([[-np.inf], origin + (place[1:] - 0.5) * step, [np.inf]])
    places = np.rint((lattice.each - origin) / step)
    own = np.diff(_below(smooth, edges))
    digit = (place % 10).astype(np.int64)
    seen = np.bincount((places[~heap] % 10).astype(np.int64), lattice.counts[~heap], minlength=10)
    seen = seen / seen.sum()
    free = own * ~np.isin(place, places[heap])
    usual = np.bincount(digit, free / max(float(free.sum()), 1e-12), minlength=10)
    known = usual > 0
    clear = worth * float(((seen - usual)[known] ** 2 / usual[known]).sum())
    if clear < PREFERRED:
        return np.asarray(own)
    factor = np.where(known, seen / np.where(known, usual, 1.0), 1.0)
    own = own * factor[digit]
    return np.asarray(own / own.sum())


def _below(pieces: Pieces, x: Floats) -> Floats:
    """Return the probability of what is less than each of `x`."""
    width = pieces.high - pieces.low
    part = (x[:, None] - pieces.low[None]) / np.where(width > 0, width, 1.0)[None]
    part = np.where(width > 0, np.clip(part, 0, 1), x[:, None] > pieces.low[None])
    return np.asarray(part @ (pieces.mass / pieces.mass.sum()))
