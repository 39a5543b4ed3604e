"""What events bear under a budget: numbers, texts, ends, and when within a visit events are.

Idea       numbers are counted on even steps between declared bounds; by those counts each number
           has a normal score, and sums of scores and of products of neighbours say how numbers
           differ by class and sex and how they last, codes with few numbers as all do
Sensitivity  each release is one vector a subject, shortened to the norm that its noise is of;
           scores are bounded beforehand
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.data.codes import EventSchema
from manikin.synthesizers.events._quantiles import KNOTS, Quantiles
from manikin.synthesizers.events._visits_moments import DAY_US, Moments
from manikin.synthesizers.events._visits_private_classes import trusted
from manikin.synthesizers.events._visits_private_grid import (
    DAYS,
    SHARES,
    Grid,
    bought_quantiles,
    knots_of,
    smoothed,
)
from manikin.synthesizers.events._visits_private_process import Labels
from manikin.synthesizers.events._visits_private_purse import Bounds, Noisy, Purse, Told
from manikin.synthesizers.events._visits_values import AGES, STEPS_DAYS, Values
from manikin.synthesizers.events.encoding import CLOCKS_US, Histories, distinct

__all__ = ["Bearing", "bearing_of", "bought_moments", "bought_values"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

STEPS = 40  # of a code's numbers between its bounds
FAR = 3.0  # normal scores
MOST_DECIMALS = 8
FEW = 4.0  # deviations of noise that a mean of scores is drawn to nought by


@dataclass(frozen=True, eq=False)
class Bearing:
    """What a declared schema says that events may bear."""

    numeric: Ints  # codes that bear numbers
    place: Ints  # (codes,) place among these, -1 for none
    low: Floats  # (numeric,)
    high: Floats
    decimals: Ints  # (codes,)
    texts: Ints  # every level of every code, by code: its place in `written`
    first: Ints  # (codes + 1,) where a code's levels begin
    written: tuple[str, ...]
    codes: int
    step_us: int


def bearing_of(schema: EventSchema) -> Bearing:
    """Return what events may bear; nothing is looked at but the schema."""
    numeric = np.array([i for i, c in enumerate(schema.codes) if c.numeric], np.int64)
    place = np.full(len(schema), -1)
    place[numeric] = np.arange(numeric.size)
    bounds = np.array([[schema.codes[i].minimum, schema.codes[i].maximum] for i in numeric], float)
    written = tuple(dict.fromkeys(level for c in schema.codes for level in c.levels))
    at = {level: i for i, level in enumerate(written)}
    texts = [at[level] for c in schema.codes for level in c.levels]
    first = np.concatenate([[0], np.cumsum([len(c.levels) for c in schema.codes])])
    return Bearing(
        numeric, place, bounds.reshape(-1, 2)[:, 0], bounds.reshape(-1, 2)[:, 1],
        np.array([min(c.decimals, MOST_DECIMALS) for c in schema.codes], np.int64),
        np.array(texts, np.int64), first.astype(np.int64), written, len(schema),
        CLOCKS_US[schema.clock],
    )  # fmt: skip


def bought_values(
    purse: Purse, bearing: Bearing, labels: Labels, bounds: Bounds, sexes: Any, n_sexes: int
) -> tuple[Values, Quantiles, Quantiles]:
    """Buy what events bear, the quantiles of numbers by code, and those of durations."""
    n = bearing.codes
    has, lasts, closes = _shares(purse, bearing, bounds)
    numbers = _numbers(purse, bearing, bounds)
    shift, by_sex = _effects(purse, bearing, labels, bounds, numbers, (sexes, n_sexes))
    common, within, alike = _lasting(purse, bearing, bounds, numbers)
    chances, stays = _texts(purse, bearing, bounds)
    zero = np.zeros(n)
    values = Values(
        has, np.zeros((n, 0)), shift, by_sex, np.sqrt(common), within, np.zeros(1), alike, zero,
        bearing.decimals, bearing.texts, chances, bearing.first, stays, lasts, closes,
    )  # fmt: skip
    durations = bought_quantiles(
        purse, lambda h: _durations(h), DAYS, 1, norm=bounds.by_code, share="durations",
        what="days that events last", part=0.7,
    )  # fmt: skip
    return values, numbers, Quantiles(np.repeat(durations.knots, n, 0),
                                      np.zeros((n, KNOTS), bool))  # fmt: skip


def _rate(yes: Floats, whole: Floats, noise: float, otherwise: float = 0.0) -> Floats:
    """Return shares, drawn to that of all as noise asks; none or all where that is as likely.

    `otherwise` is the share of all where noise hides all of them together.
    """
    size = np.maximum(whole, 1.0)
    hidden = 3 * noise * np.sqrt(max(whole.size, 1))
    usual = otherwise
    if whole.sum() > hidden:
        usual = float(np.clip(yes.sum() / whole.sum(), 0.0, 1.0)) if yes.sum() > hidden else 0.0
    weight = size**2 / (size**2 + 4 * noise**2)
    share = np.clip(weight * yes / size + (1 - weight) * usual, 0.0, 1.0)
    dim = np.minimum(3 * noise / size, 0.5)
    share = np.where((share < dim) & (usual < 0.5), 0.0, share)
    return np.where((share > 1 - dim) & (usual > 0.5), 1.0, share)


def _shares(purse: Purse, bearing: Bearing, bounds: Bounds) -> tuple[Floats, Floats, Floats]:
    """Return how often events of each code bear a number, an end, and that of the stay."""
    n = bearing.codes

    def tell(h: Histories) -> Told:
        ended, closing = ~np.isnan(h.duration), _closing(h)
        flags = (np.ones(h.of.size, bool), ~np.isnan(h.value), ended, ended & closing)
        rows = [np.flatnonzero(flag) for flag in flags]
        place = [i * n + h.code[row] for i, row in enumerate(rows)]
        return Told(h.whose[h.of[np.concatenate(rows)]], np.concatenate(place))

    found = purse.buy(tell, 4 * n, norm=2 * bounds.by_code, share="bears",
                      what="events that bear a number or an end").shaped(4, n)  # fmt: skip
    events, valued, ended, closed = found.value
    has = np.zeros(n)
    rows = bearing.numeric
    has[rows] = _rate(valued[rows], events[rows], found.noise)
    # an end is told of whole domains' worth of events only where it stands out
    out = ended > 3 * found.noise
    lasts = np.where(out, _rate(ended, events, found.noise), 0.0)
    return has, lasts, np.where(out, _rate(closed, ended, found.noise), 0.0)


def _closing(h: Histories) -> NDArray[np.bool_]:
    left = h.length[h.of] - h.offset
    return np.asarray(h.ended[h.of] & (np.abs(np.nan_to_num(h.duration, nan=-1.0) - left) < 1e-6))


def _durations(h: Histories) -> tuple[Ints, Ints, Floats]:
    rows = np.flatnonzero(~np.isnan(h.duration) & ~_closing(h))
    return h.whose[h.of[rows]], np.zeros(rows.size, np.int64), h.duration[rows]


# ------------------------------------------------------------------ numbers


def _numbers(purse: Purse, bearing: Bearing, bounds: Bounds) -> Quantiles:
    """Return the quantiles of each code's numbers, within its bounds."""
    m = bearing.numeric.size
    knots = np.zeros((bearing.codes, KNOTS))
    none = np.zeros((bearing.codes, KNOTS), bool)
    if not m:
        return Quantiles(knots, none)

    def tell(h: Histories) -> Told:
        rows = _valued(h, bearing)
        j = bearing.place[h.code[rows]]
        part = (h.value[rows] - bearing.low[j]) / (bearing.high[j] - bearing.low[j])
        step = np.clip((part * STEPS).astype(np.int64), 0, STEPS - 1)
        return Told(h.whose[h.of[rows]], j * STEPS + step)

    found = purse.buy(tell, m * STEPS, norm=bounds.by_code, share="numbers",
                      what="numbers by code").shaped(m, STEPS)  # fmt: skip
    for row, j in enumerate(bearing.numeric):
        grid = Grid.even(bearing.low[row], bearing.high[row], STEPS)
        knots[j] = knots_of(smoothed(found.value[row], found.noise)[None], grid)[0]
    return Quantiles(knots, none)


def _valued(h: Histories, bearing: Bearing) -> Ints:
    return np.flatnonzero(np.isfinite(h.value) & (bearing.place[h.code] >= 0))


def _scored(
    h: Histories, bearing: Bearing, numbers: Quantiles
) -> tuple[Ints, Ints, Ints, Floats, Floats]:
    """Return numbers by subject, code and time: whose, code, visit, day, and normal score."""
    rows = _valued(h, bearing)
    start = h.start[h.of[rows]]
    day = np.where(np.isnat(start), 0.0, start.view(np.int64) / DAY_US) + h.offset[rows]
    code, whose = h.code[rows], h.whose[h.of[rows]]
    score = np.clip(ndtri(numbers.share(code, h.value[rows])), -FAR, FAR)
    order = np.lexsort((day, code, whose))
    return whose[order], code[order], h.of[rows][order], day[order], score[order]


def _effects(
    purse: Purse, bearing: Bearing, labels: Labels, bounds: Bounds, numbers: Quantiles,
    sexes: tuple[Any, int],
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return how much higher numbers of each code are at visits of a class, and in a sex."""
    n, z, m, (of, s) = bearing.codes, labels.classes, bearing.numeric.size, sexes
    shift, by_sex = np.zeros((z, n)), np.zeros((s, n))
    if not m:
        return shift, by_sex
    width = (z + s) * m

    def tell(h: Histories) -> Told:
        whose, code, visit, _, score = _scored(h, bearing, numbers)
        j = bearing.place[code]
        place = np.concatenate([labels.visits(h)[visit] * m + j, (z + of(h)[whose]) * m + j])
        return Told(np.tile(whose, 4), np.concatenate([place, width + place]),
                    np.concatenate([score, score, np.ones(2 * score.size)]))  # fmt: skip

    found = purse.buy(tell, 2 * width, norm=2 * bounds.by_code, share="effects",
                      what="numbers by class and by sex").shaped(2, z + s, m)  # fmt: skip
    total, count = found.value
    mean = trusted(total, found.noise) / np.maximum(count, FEW * found.noise + 5.0)
    mean = np.clip(mean, -2.0, 2.0)
    shift[:, bearing.numeric], by_sex[:, bearing.numeric] = mean[:z], mean[z:]
    return shift, by_sex


def _lasting(
    purse: Purse, bearing: Bearing, bounds: Bounds, numbers: Quantiles
) -> tuple[Floats, Floats, Floats]:
    """Return the variance of subjects' levels of each code, and how residuals forget."""
    n, m = bearing.codes, bearing.numeric.size
    common, within, alike = np.zeros(n), np.ones(n), np.zeros((n, AGES))
    if not m:
        return common, within, alike

    def tell(h: Histories) -> Told:
        whose, code, _, day, score = _scored(h, bearing, numbers)
        at = np.flatnonzero((np.diff(whose) == 0) & (np.diff(code) == 0))
        age = np.searchsorted(STEPS_DAYS, day[at + 1] - day[at])
        j, product = bearing.place[code[at]], score[at] * score[at + 1]
        ones = np.ones(at.size)
        place = np.concatenate([age, AGES + age, 2 * AGES + j, 2 * AGES + m + j])
        amount = np.concatenate([product, ones, product, ones])
        return Told(np.tile(whose[at], 4), place, amount)

    found = purse.buy(tell, 2 * AGES + 2 * m, norm=2 * bounds.by_code, share="lasting",
                      what="numbers and those before them")  # fmt: skip
    near, count, own, pairs = np.split(found.value, [AGES, 2 * AGES, 2 * AGES + m])
    noise = found.noise
    mean = np.clip(near.sum() / max(count.sum(), noise, 1.0), 0.0, 0.95)
    lag = np.clip((near + 3 * noise * mean) / np.maximum(count + 3 * noise, 1.0), 0.0, 0.98)
    seen = count > 5 * noise
    # what is left after the longest times that are seen is taken to last
    whole = float(np.minimum(lag[seen].min(), mean)) if seen.any() else float(mean)
    level = np.clip((own + 3 * noise * mean) / np.maximum(pairs + 3 * noise, 1.0), 0.0, 0.98)
    common[bearing.numeric] = np.clip(level * (whole / max(float(mean), 1e-6)), 0.0, 0.95)
    within[bearing.numeric] = np.sqrt(1.0 - common[bearing.numeric])
    alike[bearing.numeric] = np.clip((lag - whole) / max(1.0 - whole, 0.02), 0.0, 0.99)
    return common, within, alike


# ------------------------------------------------------------------ texts


def _texts(purse: Purse, bearing: Bearing, bounds: Bounds) -> tuple[Floats, Floats]:
    """Return the chance of each level of each code, none beside; how often the last one stays.

    Levels are those that the schema declares; events without one are told by no level at all.
    """
    n, said = bearing.codes, bearing.texts.size
    if not said:
        return np.zeros(0), np.zeros(n)
    of = np.repeat(np.arange(n), np.diff(bearing.first))
    key = of * len(bearing.written) + bearing.texts
    order = np.argsort(key)

    def levels(h: Histories) -> tuple[Ints, Ints]:
        """Return events with a declared level, and which of all levels it is."""
        rows = np.flatnonzero(h.text >= 0)
        wanted = h.code[rows] * len(bearing.written) + h.text[rows]
        at = np.minimum(np.searchsorted(key[order], wanted), said - 1)
        there = key[order][at] == wanted
        return rows[there], order[at[there]]

    def tell(h: Histories) -> Told:
        rows, level = levels(h)
        whose, day = h.whose[h.of], h.of + h.offset / (1 + h.offset.max(initial=0.0))
        turn = np.lexsort((day[rows], h.code[rows], whose[rows]))
        rows, level = rows[turn], level[turn]
        code = h.code[rows]
        same = np.flatnonzero((np.diff(whose[rows]) == 0) & (np.diff(code) == 0))
        stays = same[level[same] == level[same + 1]]
        place = [level, said + code[same], said + n + code[stays]]
        return Told(np.concatenate([whose[rows], whose[rows[same]], whose[rows[stays]]]),
                    np.concatenate(place))  # fmt: skip

    found = purse.buy(tell, said + 2 * n, norm=np.sqrt(3) * bounds.by_code, share="texts",
                      what="levels of codes")  # fmt: skip
    count, pairs, equal = np.split(found.value, [said, said + n])
    clear = np.where(count > found.noise, count, 0.0) + 1e-3
    total = np.bincount(of, weights=clear, minlength=n)
    chances = clear / np.maximum(total[of], 1e-9)
    chance = np.bincount(of, weights=chances**2, minlength=n)
    stays = (equal - pairs * chance) / np.maximum(pairs * (1 - chance), 4 * found.noise + 1.0)
    return chances, np.clip(stays, 0.0, 1.0)


# ------------------------------------------------------------------ moments


def bought_moments(
    purse: Purse, bearing: Bearing, labels: Labels, bounds: Bounds
) -> tuple[Moments, Quantiles, Quantiles]:
    """Buy the moments within visits: of one kind, each code at its own share of them."""
    z, n = labels.classes, bearing.codes

    def tell(h: Histories) -> Told:
        seen, many, of = _moments(h)
        cls = labels.visits(h)
        whole = np.flatnonzero((h.length > 0) & (many > 0))
        alone = whole[many[whole] == 1]
        long = np.flatnonzero(many > 1)
        early = long[seen[2][long] == 0]
        cells = distinct(of * n + h.code)
        moment, code = np.divmod(cells, n)
        several = many[seen[0][moment]] > 1
        moment, code = moment[several], code[several]
        visits = distinct(seen[0][moment] * n + code)
        rows, chances = visits // n, many[visits // n]
        later = np.flatnonzero(many[h.of] > 1)
        place = [cls[whole], z + cls[alone], 2 * z + cls[long], 3 * z + cls[early],
                 4 * z + code, 4 * z + n + visits % n, 4 * z + 2 * n + h.code[later]]  # fmt: skip
        whose = [h.whose[whole], h.whose[alone], h.whose[long], h.whose[early],
                 h.whose[seen[0][moment]], h.whose[rows], h.whose[h.of[later]]]  # fmt: skip
        sizes = [part.size for part in place]
        amount = np.ones(sum(sizes))
        begin = sum(sizes[:5])
        amount[begin : begin + sizes[5]] = chances
        return Told(np.concatenate(whose), np.concatenate(place), amount)

    found = purse.buy(tell, 4 * z + 3 * n, norm=2 * bounds.by_code, share="moments",
                      what="moments within visits", part=0.5)  # fmt: skip
    whole, alone, long, early, cells, chances, events = np.split(
        found.value, np.cumsum([z, z, z, z, n, n])
    )
    waits = bought_quantiles(purse, lambda h: _waits(h, labels), DAYS, 1, norm=bounds.by_code,
                             share="moments", what="days between moments", part=0.35)  # fmt: skip
    spans = bought_quantiles(purse, _spans, SHARES, 1, norm=bounds.by_class, share="moments",
                             what="shares of stays with events", part=0.15)  # fmt: skip
    share = _rate(cells, chances, found.noise, 1.0)
    copied = _rate(events - cells, events, found.noise)
    moments = Moments(
        _flag(alone, whole, found, 1.0), _flag(early, long, found, 1.0), np.array([0.0, 1.0]),
        np.ones(24), np.ones((z, 1)), np.ones((1, 1)), np.clip(share, 0.02, 1.0)[None],
        np.clip(copied, 0.0, 0.9), np.array([bearing.step_us]),
    )  # fmt: skip
    every = np.zeros((z, KNOTS), bool)
    return (moments, Quantiles(np.repeat(waits.knots, z, 0), every),
            Quantiles(np.repeat(spans.knots, z, 0), every))  # fmt: skip


def _flag(yes: Floats, whole: Floats, found: Noisy, otherwise: float) -> Floats:
    """Return how often a flag holds by class; `otherwise` where no visit of any class is seen."""
    return _rate(yes, whole, found.noise, otherwise)


def _moments(h: Histories) -> tuple[tuple[Ints, Floats, Floats], Ints, Ints]:
    """Return moments (visit, offset; first offset of each visit), how many of each visit, and
    the moment of each event; events stand by visit and offset.
    """
    order = np.lexsort((h.offset, h.of))
    visit, offset = h.of[order], h.offset[order]
    new = np.ones(order.size, bool)
    new[1:] = (np.diff(visit) != 0) | (np.diff(offset) != 0)
    at = np.flatnonzero(new)
    of = np.empty(order.size, np.int64)
    of[order] = np.cumsum(new) - 1
    many = np.bincount(visit[at], minlength=h.n)
    first = np.zeros(h.n)
    first[visit[at][::-1]] = offset[at][::-1]
    return (visit[at], offset[at], first), many, of


def _waits(h: Histories, labels: Labels) -> tuple[Ints, Ints, Floats]:
    (visit, offset, _), _, _ = _moments(h)
    later = np.flatnonzero(np.diff(visit) == 0) + 1
    whose = h.whose[visit[later]]
    return whose, np.zeros(later.size, np.int64), offset[later] - offset[later - 1]


def _spans(h: Histories) -> tuple[Ints, Ints, Floats]:
    (visit, offset, _), many, _ = _moments(h)
    last = np.zeros(h.n)
    last[visit] = offset
    stays = np.flatnonzero((many > 1) & (h.length > 0))
    return h.whose[stays], np.zeros(stays.size, np.int64), last[stays] / h.length[stays]
