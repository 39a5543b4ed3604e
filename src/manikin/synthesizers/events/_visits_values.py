"""What events bear: numbers, texts, and how long they last.

Reference  Laird and Ware, Biometrics 38 (1982): effects of subjects; Diggle, Biometrics 44 (1988):
           a residual that forgets with time beside them; Nelsen, "An introduction to copulas": all
           of it on normal scores, whatever the distribution of a laboratory value
Idea       the score of a number = factors of the subject (drawn with the static facts, so that
           numbers of several codes, and death, go together) + an effect of the visit's class + a
           lasting effect of subject and code + a residual that is like the last one by how long
           ago that was. Some numbers are carried forward unchanged; texts stay or are drawn anew
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from manikin.synthesizers.events._parts import array
from manikin.synthesizers.events._quantiles import Quantiles, quantiles
from manikin.synthesizers.events._visits_levels import Levels
from manikin.synthesizers.events._visits_own import Own
from manikin.synthesizers.events.encoding import Histories

__all__ = ["Known", "Values", "draw_values", "fit_values", "positions", "rest_of"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

STEPS_DAYS = np.array([0.02, 0.1, 0.4, 1.5, 10.0, 60.0, 400.0])  # by which residuals forget
AGES = STEPS_DAYS.size + 1
PRIOR = 20.0  # pairs that the usual correlation weighs


@dataclass(frozen=True)
class Values:
    """What is learnt of what events bear."""

    has: Annotated[Floats, array("codes", low=0, high=1)]  # chance of a number
    load: Annotated[Floats, array("codes", "factors", low=-10, high=10)]
    shift: Annotated[Floats, array("classes", "codes", low=-10, high=10)]
    by_sex: Annotated[Floats, array("sexes", "codes", low=-10, high=10)]  # and by the target
    lasting: Annotated[Floats, array("codes", low=0, high=2)]  # deviation of a subject's own level
    within: Annotated[Floats, array("codes", low=0, high=2)]
    uneven: Annotated[Floats, array(1, low=0, high=2)]  # of the logarithm of a subject's own scale
    alike: Annotated[Floats, array("codes", AGES, low=0, high=1)]  # residuals, by days between
    carried: Annotated[Floats, array("codes", low=0, high=1)]
    decimals: Annotated[Ints, array("codes", kind="i", low=0, high=12)]
    texts: Annotated[Ints, array("said", kind="i", low=-1, high="written")]  # by code
    chances: Annotated[Floats, array("said", low=0, high=1)]
    first: Annotated[Ints, array("ends", kind="i", low=0)]  # where a code's texts begin
    stays: Annotated[Floats, array("codes", low=0, high=1)]  # chance that a text is the last one
    lasts: Annotated[Floats, array("codes", low=0, high=1)]  # chance of an end
    closes: Annotated[Floats, array("codes", low=0, high=1)]  # ... which is that of the stay


def fit_values(
    h: Histories, classes: Ints, z: int, sexes: tuple[Ints, int], levels: Levels, k: int
) -> tuple[Values, Quantiles, Quantiles]:
    """Learn what events bear, the quantiles of numbers by code, and those of durations."""
    n = h.n_codes
    events = np.bincount(h.code, minlength=n)
    rows = np.flatnonzero(~np.isnan(h.value))
    order = np.lexsort((h.offset[rows], h.of[rows], h.code[rows], h.whose[h.of[rows]]))
    rows = rows[order]
    code, whose = h.code[rows], h.whose[h.of[rows]]
    held = np.bincount(np.unique(code * (h.n_subjects + 1) + whose) // (h.n_subjects + 1),
                       minlength=n)  # fmt: skip
    score, load = levels.score[rows], levels.load
    kind = classes[h.of[rows]]
    rest = score - (np.nan_to_num(levels.own[whose]) * load[code]).sum(axis=1)
    shift = _shifts(rest, code, kind, z, n)
    by_sex = _by_subject(rest - shift[kind, code], code, whose, sexes, n)
    lasting = np.sqrt(np.maximum(levels.common - (load**2).sum(axis=1), 0.0))
    rest = score - shift[kind, code]
    within, alike, uneven = _forgetting(rest, levels.common, code, whose, _when(h)[rows], n)
    decimals = _decimals(h.value[rows], code, n)
    texts, chances, first, stays = _texts(h, n)
    lasts, closes, durations = _durations(h, n, k)
    values = Values(
        np.where(held >= k, np.bincount(code, minlength=n) / np.maximum(events, 1), 0.0),
        load, shift, by_sex, np.clip(lasting, 0, 2), within, np.array([uneven]),
        alike, _carried(h.value[rows], code, whose, n), decimals, texts,
        chances, first, stays, lasts, closes,
    )  # fmt: skip
    numbers = quantiles(h.value[rows], code, n, whose, k, least=k, decimals=decimals)
    return values, numbers, durations


def rest_of(
    h: Histories, classes: Ints, sexes: Ints, levels: Levels, values: Values
) -> tuple[Ints, Floats]:
    """Return the events that bear numbers, and their scores without what visits and sex say."""
    rows = np.flatnonzero(~np.isnan(h.value))
    code, of = h.code[rows], h.of[rows]
    shift = values.shift[classes[of], code] + values.by_sex[sexes[h.whose[of]], code]
    return rows, levels.score[rows] - shift


def positions(h: Histories) -> Floats:
    """Return where in the record of its subject each event is, from -1/2 to 1/2."""
    start = h.start[h.of]
    day = np.where(np.isnat(start), np.nan, start.view(np.int64) / 86_400e6) + h.offset
    whose = h.whose[h.of]
    low, high = np.full(h.n_subjects, np.inf), np.full(h.n_subjects, -np.inf)
    known = ~np.isnan(day)
    np.minimum.at(low, whose[known], day[known])
    np.maximum.at(high, whose[known], day[known])
    span = high[whose] - low[whose]
    some = known & (span > 0)
    return np.where(some, (day - np.where(some, low[whose], 0)) / np.where(some, span, 1) - 0.5, 0)


def _when(h: Histories) -> Floats:
    """Return the days since 1970 of each event."""
    start = h.start[h.of]
    return np.where(np.isnat(start), 0.0, start.view(np.int64) / 86_400e6) + h.offset


def _shifts(rest: Floats, code: Ints, kind: Ints, z: int, n: int) -> Floats:
    """Return how much higher a number is at visits of a class."""
    key = kind * n + code
    total = np.bincount(key, weights=rest, minlength=z * n)
    found = total / (np.bincount(key, minlength=z * n) + 5.0)
    return np.clip(found.reshape(z, n), -10, 10)


def _by_subject(rest: Floats, code: Ints, whose: Ints, sexes: tuple[Ints, int], n: int) -> Floats:
    """Return how much higher a number is in subjects of a sex, or of a target; each counts once."""
    of, size = sexes
    key, at, count = np.unique(whose * n + code, return_inverse=True, return_counts=True)
    mean = np.bincount(at, weights=rest, minlength=key.size) / np.maximum(count, 1)
    place = of[key // max(n, 1)] * n + key % max(n, 1)
    total = np.bincount(place, weights=mean, minlength=size * n)
    held = np.bincount(place, minlength=size * n)
    return np.clip((total / (held + 5.0)).reshape(size, n), -10, 10)


def _forgetting(
    rest: Floats, common: Floats, code: Ints, whose: Ints, day: Floats, n: int
) -> tuple[Floats, Floats, float]:
    """Return deviations about levels, how alike they are by the days between, and their scale.

    Rows are sorted by subject, code and time.
    """
    if not rest.size:
        return np.ones(n), np.zeros((n, AGES)), 0.0
    same = (np.diff(whose) == 0) & (np.diff(code) == 0)
    new = np.concatenate([[True], ~same])
    group = np.cumsum(new) - 1
    variance = (np.bincount(code, weights=rest**2, minlength=n) + 1.0) / (
        np.bincount(code, minlength=n) + 1.0
    )
    left = np.maximum(variance - common, 0.02)[:, None]
    step = np.flatnonzero(same)
    age = np.searchsorted(STEPS_DAYS, day[step + 1] - day[step])
    key = code[step] * AGES + age
    count = np.bincount(key, minlength=n * AGES).reshape(n, AGES)
    near = np.bincount(key, weights=rest[step] * rest[step + 1], minlength=n * AGES)
    alike = near.reshape(n, AGES) - count * common[:, None]
    usual = alike.sum(axis=0) / np.maximum((count * left).sum(axis=0), 1e-9)
    usual = np.clip(usual, 0.0, 0.99)
    alike = (alike + PRIOR * usual * left) / ((count + PRIOR) * left)
    uneven = _uneven(rest, group, code[new], n)
    return np.clip(np.sqrt(left[:, 0]), 0, 2), np.clip(alike, 0.0, 0.999), uneven


def _uneven(rest: Floats, group: Ints, of: Ints, n: int) -> float:
    """Return the deviation of the logarithm of scales within subjects, beyond that of chance."""
    size, total = np.bincount(group), np.bincount(group, weights=rest)
    within = np.bincount(group, weights=(rest - (total / size)[group]) ** 2)
    long = size >= 5
    if long.sum() < 20:
        return 0.0
    usual = np.bincount(of[long], weights=within[long], minlength=n) / np.maximum(
        np.bincount(of[long], weights=size[long] - 1.0, minlength=n), 1.0
    )
    # a code whose numbers never change within anybody tells nothing of scales
    share = within[long] / (size[long] - 1.0) / np.maximum(usual[of[long]], 1e-9)
    log = 0.5 * np.log(share + 1e-3)
    chance = float(np.mean(0.5 / (size[long] - 1.0)))  # variance of half a log chi-square
    return float(np.sqrt(np.clip(np.var(log) - chance, 0.0, 0.5)))


def _carried(value: Floats, code: Ints, whose: Ints, n: int) -> Floats:
    """Return how often a number is exactly the last one, beyond what chance makes of it."""
    same = (np.diff(whose) == 0) & (np.diff(code) == 0)
    step = np.flatnonzero(same)
    at = code[step]
    count = np.bincount(at, minlength=n)
    equal = np.bincount(at, weights=value[step] == value[step + 1], minlength=n)
    order = np.lexsort((value, code))
    new = np.ones(value.size, bool)
    new[1:] = (np.diff(value[order]) != 0) | (np.diff(code[order]) != 0)
    heap = np.bincount(np.cumsum(new) - 1) if value.size else np.zeros(0)
    square = np.bincount(code[order][new], weights=heap.astype(np.float64) ** 2, minlength=n)
    chance = square / np.maximum(np.bincount(code, minlength=n), 1) ** 2
    rate = equal / np.maximum(count, 1)
    fine = (chance < 0.03) & (count >= 20)  # coarse numbers are equal because they are alike
    return np.where(fine, np.clip((rate - 5 * chance) / (1 - 5 * chance), 0, 1), 0.0)


def _decimals(value: Floats, code: Ints, n: int) -> Ints:
    """Return the fewest decimals with which nearly all numbers of a code are written."""
    found = np.full(n, 12, np.int64)
    size = np.maximum(np.bincount(code, minlength=n), 1)
    for places in range(8, -1, -1):
        exact = np.abs(value - np.round(value, places)) <= 1e-9 * np.maximum(1, np.abs(value))
        share = np.bincount(code, weights=exact, minlength=n) / size
        found = np.where(share >= 0.98, places, found)
    return found


def _texts(h: Histories, n: int) -> tuple[Ints, Floats, Ints, Floats]:
    """Return the texts of each code with their chances, and how often the last one stays."""
    size = int(h.text.max(initial=-1)) + 2
    found, count = np.unique(h.code * size + h.text + 1, return_counts=True)
    code, text = found // size, found % size - 1
    first = np.searchsorted(code, np.arange(n + 1)).astype(np.int64)
    total = np.bincount(code, weights=count, minlength=n)
    order = np.lexsort((h.offset, h.of, h.code, h.whose[h.of]))
    at, said = h.code[order], h.text[order]
    same = (np.diff(at) == 0) & (np.diff(h.whose[h.of[order]]) == 0)
    rows = np.flatnonzero(same)
    pairs = np.bincount(at[rows], minlength=n)
    equal = np.bincount(at[rows], weights=said[rows] == said[rows + 1], minlength=n)
    share = count / total[code]
    chance = np.bincount(code, weights=share**2, minlength=n)
    stays = (equal - pairs * chance) / np.maximum(pairs * (1 - chance), 1e-9)
    return text, share, first, np.where(pairs >= 10, np.clip(stays, 0, 1), 0.0)


def _durations(h: Histories, n: int, k: int) -> tuple[Floats, Floats, Quantiles]:
    """Return how often events of a code have an end, and how often that of the stay."""
    events = np.maximum(np.bincount(h.code, minlength=n), 1)
    rows = np.flatnonzero(~np.isnan(h.duration))
    code = h.code[rows]
    has = np.bincount(code, minlength=n)
    left = h.length[h.of[rows]] - h.offset[rows]
    closing = h.ended[h.of[rows]] & (np.abs(h.duration[rows] - left) < 1e-6)
    closes = np.bincount(code, weights=closing, minlength=n) / np.maximum(has, 1)
    open_ = rows[~closing]
    owners = h.whose[h.of[open_]]
    # events of a code that few have an end of last as long as any
    return has / events, closes, quantiles(h.duration[open_], h.code[open_], n, owners, k)


# ------------------------------------------------------------------ drawing


@dataclass(frozen=True, eq=False)
class Borne:
    """What drawn events bear."""

    value: Floats
    text: Ints
    duration: Floats


@dataclass(frozen=True, eq=False)
class Known:
    """Lasting effects that are known of some subjects and codes."""

    key: Ints  # row * codes + code, ascending
    mean: Floats
    spread: Floats
    rows: Ints  # (subjects,) row that a subject is
    n_codes: int


def draw_values(
    v: Values,
    numbers: Quantiles,
    durations: Quantiles,
    h: Histories,
    classes: Ints,
    own: Floats,
    sex: Ints,
    rng: np.random.Generator,
    known: Known | None = None,
    traits: Own | None = None,
) -> Borne:
    """Draw what events bear; `own` are the factors of each subject, `known` more of some.

    `traits` are what else lasts in them.
    """
    whose, when = h.whose[h.of], _when(h)
    order = np.lexsort((when, h.code, whose))
    value = np.full(h.of.size, np.nan)
    text = np.full(h.of.size, -1, np.int64)
    text[order] = _said(v, h.code[order], whose[order], rng)
    rows = order[rng.random(order.size) < v.has[h.code[order]]]
    code, subject = h.code[rows], whose[rows]
    new = np.ones(rows.size, bool)
    new[1:] = (np.diff(subject) != 0) | (np.diff(code) != 0)
    group = np.cumsum(new) - 1
    lasting = rng.standard_normal(int(new.sum()))
    mean, spread = _effects(v, code[new], subject[new], known, traits)
    lasting = (mean + spread * lasting)[group]
    scale = np.exp(v.uneven[0] * rng.standard_normal(int(new.sum())) - v.uneven[0] ** 2)
    rest = _residuals(v, code, when[rows], new, rng)
    score = v.shift[classes[h.of[rows]], code] + v.by_sex[sex[subject], code] + lasting
    score += (np.nan_to_num(own[subject]) * v.load[code]).sum(axis=1)
    score += rest * v.within[code] * scale[group]
    if traits is not None:
        slope, _ = traits.at(traits.trend, traits.trend_place, subject, code)
        score += slope * positions(h)[rows]
    found = numbers.at(code, ndtr(score))
    places = 10.0 ** np.minimum(v.decimals[code], 12)
    found = np.where(v.decimals[code] < 12, np.rint(found * places) / places, found)
    found = _carried_on(found, ~new & (rng.random(rows.size) < v.carried[code]))
    value[rows] = found
    lasts = rng.random(h.of.size) < v.lasts[h.code]
    closes = (rng.random(h.of.size) < v.closes[h.code]) & h.ended[h.of]
    days = np.maximum(durations.at(h.code, rng.random(h.of.size)), 0.0)
    days = np.where(closes, np.maximum(h.length[h.of] - h.offset, 0.0), days)
    return Borne(value, text, np.where(lasts & h.dated[h.of], days, np.nan))


def _effects(
    v: Values, code: Ints, subject: Ints, known: Known | None, traits: Own | None
) -> tuple[Floats, Floats]:
    """Return mean and deviation of the lasting effect of each subject and code."""
    mean, spread = np.zeros(code.size), v.lasting[code]
    if traits is not None:
        mean, drawn = traits.at(traits.level, traits.level_place, subject, code)
        spread = np.where(drawn, 0.0, spread)
    if known is None or not known.key.size:
        return mean, spread
    key = known.rows[subject] * known.n_codes + code
    at = np.minimum(np.searchsorted(known.key, key), known.key.size - 1)
    told = known.key[at] == key
    return np.where(told, known.mean[at], mean), np.where(told, known.spread[at], spread)


def _residuals(
    v: Values, code: Ints, when: Floats, new: NDArray[np.bool_], rng: np.random.Generator
) -> Floats:
    """Return residuals, each like the last one of its subject and code by the days between."""
    rest = rng.standard_normal(code.size)
    if not code.size:
        return rest
    days = np.diff(when, prepend=when[0])
    alike = np.where(new, 0.0, v.alike[code, np.searchsorted(STEPS_DAYS, days)])
    begin = np.flatnonzero(new)
    size = np.diff(np.append(begin, code.size))
    for i in range(1, int(size.max())):
        rows = begin[size > i] + i
        a = alike[rows]
        rest[rows] = a * rest[rows - 1] + np.sqrt(1 - a**2) * rest[rows]
    return rest


def _carried_on(values: Floats, same: NDArray[np.bool_]) -> Floats:
    """Return values, with that before in place of each marked one."""
    at = np.maximum.accumulate(np.where(same, 0, np.arange(values.size)))
    return values[at] if values.size else values


def _said(v: Values, code: Ints, whose: Ints, rng: np.random.Generator) -> Ints:
    """Return the text of events sorted by subject, code and time."""
    if not code.size or not v.texts.size:
        return np.full(code.size, -1, np.int64)
    total = np.concatenate([[0.0], np.cumsum(v.chances)])
    low, high = total[v.first[code]], total[v.first[code + 1]]
    at = np.searchsorted(total, low + rng.random(code.size) * (high - low), side="right") - 1
    at = np.clip(at, v.first[code], np.maximum(v.first[code + 1] - 1, v.first[code]))
    found = np.where(high > low, v.texts[np.minimum(at, v.texts.size - 1)], -1)
    same = np.zeros(code.size, bool)
    same[1:] = (np.diff(code) == 0) & (np.diff(whose) == 0)
    same &= rng.random(code.size) < v.stays[code]
    keep = np.maximum.accumulate(np.where(same, 0, np.arange(code.size)))
    return np.asarray(found[keep])
