"""Rates of codes that agree with noisy counts: drawn histories are moved until they do.

Reference  the method of simulated moments: McFadden, Econometrica 57 (1989); Deming and Stephan,
           Ann. Math. Stat. 11 (1940): margins are met one after the other
Idea       EM would need every record at every round. Counts that were paid for once do: the model
           draws as many histories as it likes, and each rate is moved by what these have too few
           or too many of. Codes that stand together oftener than drawn ones become causes
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.events._visits_draw import draw_codes
from manikin.synthesizers.events._visits_model import Drawn, VisitsModel
from manikin.synthesizers.events._visits_private_classes import Sets, told_products
from manikin.synthesizers.events._visits_private_codes import About, Targets
from manikin.synthesizers.events._visits_private_purse import Noisy
from manikin.synthesizers.events._visits_process import Course
from manikin.synthesizers.events._visits_rates import MOST, Rates
from manikin.synthesizers.events.encoding import Histories

__all__ = ["begun", "settled"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

DRAWN = 1200  # subjects that are drawn a round, at most
ROUNDS = 14
QUIET = 3  # last rounds, in which only totals of codes are moved
CAUSED = 2  # round from which on every other adds a cause to each code: of what is left then
CALM = 4  # rounds by which moves are halved: what was drawn by chance moves nothing for long
STRENGTH = 10.0  # drawn events that a factor of 1 weighs
FARTHEST = 1.2  # of one move, in logarithms
CAUTION = 0.5  # of a surplus: what a new cause brings at first, as others bring some of it
SURPRISE = 4.0  # deviations, of noise and of drawing, that a pair must stand out


@dataclass(frozen=True, eq=False)
class Pairs:
    """Codes that stand together: which, and the noisy sum of products of sets of norm 1."""

    sets: Sets
    moment: Noisy
    norm: float  # to which the products of a subject are shortened
    able: NDArray[np.bool_]  # of `sets.codes`: whether it is a code of events


def begun(targets: Targets, domains: Ints, visits: Floats, edges: int) -> Rates:
    """Return rates to begin with: shares of first times, and pooled chances to come back.

    `visits` are those of each class.
    """
    n = targets.first.size
    whole = max(float(visits.sum()), 1.0)
    base = np.log(np.maximum(targets.first / whole, 1e-9))
    share = np.maximum(visits, 1.0)[:, None] / whole
    kind = np.log(np.maximum(targets.first_class, 1e-9) / np.maximum(targets.first * share, 1e-9))
    none = np.full((n, edges), -1, np.int64)
    zero = np.zeros((n, edges))
    return Rates(
        np.where(targets.first > 0, np.clip(base, -60, 5), -60.0),
        np.clip(np.where(targets.first > 0, kind, 0.0), -8, 8),
        np.zeros((len(targets.first_profile), n)), np.zeros((len(targets.first_age), n)),
        np.zeros((len(targets.first_sex), n)), targets.hazard[domains].copy(),
        np.ones((visits.size, n)), targets.since[domains].copy(), none, zero, zero.copy(),
        none.copy(), zero.copy(),
    )  # fmt: skip


def settled(
    model: VisitsModel, targets: Targets, pairs: Pairs, subjects: float, edges: int,
    rng: np.random.Generator,
) -> Rates:  # fmt: skip
    """Return rates by which drawn histories have what was counted."""
    n = int(np.clip(subjects, 50, DRAWN))
    drawn = model.course(n, rng)
    scale = subjects / n
    rates = model.parts.rates
    for turn in range(ROUNDS):
        visit, code = draw_codes(
            rates, drawn.contexts, drawn.starts, drawn.course.days, drawn.course.kind < 0, rng
        )
        h = _as_histories(drawn.course, n, rates.base.size, visit, code)
        quiet = turn >= ROUNDS - QUIET
        by = 0.8 if quiet else 0.9 * CALM / (CALM + turn)
        found = targets.ask.drawn(h, _about(drawn), scale)
        if turn >= CAUSED and edges and not quiet:
            together = _together(h, pairs, scale)
            rates = _moved_causes(rates, pairs, together, by)
            if turn % 2 == CAUSED % 2:
                rates = _with_causes(rates, pairs, together, scale)
        rates = _moved(rates, targets, found, scale, by, 0.0 if quiet else 0.7 * by)
    return rates


def _about(drawn: Drawn) -> About:
    """Return what drawn visits and subjects are."""
    contexts = drawn.contexts
    return About(
        lambda _: contexts.classes[contexts.of], lambda _: drawn.profile,
        lambda _: contexts.ages[contexts.of], lambda _: drawn.sex,
    )  # fmt: skip


def _as_histories(course: Course, n: int, codes: int, visit: Ints, code: Ints) -> Histories:
    none = np.full(visit.size, np.nan)
    whose, start = course.whose, course.start
    return Histories(
        n, codes, whose, start, course.length, course.kind, course.ended,
        course.numbered, visit, code, np.zeros(visit.size), none,
        np.full(visit.size, -1), none, np.full(n, -1), np.full(n, np.nan),
    )  # fmt: skip


def _move(wanted: Floats, found: Floats, strength: float) -> Floats:
    step = np.log((wanted + strength) / (found + strength))
    return np.asarray(np.clip(step, -FARTHEST, FARTHEST))


def _level(step: Floats, found: Floats) -> Floats:
    """Return moves of a code's factors that leave all its events together as they are."""
    whole = np.maximum(found.sum(axis=0), 1e-9)
    return np.asarray(step - np.log(np.maximum((found * np.exp(step)).sum(axis=0) / whole, 1e-2)))


def _moved(
    rates: Rates, targets: Targets, found: dict[str, Floats], scale: float, by: float,
    factors: float,
) -> Rates:  # fmt: skip
    """Return rates moved by what drawn histories have too many or too few of."""
    least = STRENGTH * scale
    whole = _move(targets.first, found["first"], 0.25 * least)
    changed: dict[str, Any] = {"base": np.clip(rates.base + by * whole, -60, 5)}
    ratio = (found["first"] + 1e-9) / (targets.first + 1e-9)
    for name, target in (("by_class", "first_class"), ("by_profile", "first_profile"),
                         ("by_age", "first_age"), ("by_sex", "first_sex")):  # fmt: skip
        step = _level(_move(getattr(targets, target) * ratio, found[target], least), found[target])
        changed[name] = np.clip(getattr(rates, name) + factors * step, -8, 8)
    again = _move(targets.again, found["again"], 0.5 * least)
    changed["again"] = np.clip(rates.again * np.exp(by * again)[:, None], 1e-9, MOST)
    # what causes bring is part of both
    for name, part in (("beside_first", whole), ("beside_again", again)):
        factor = np.exp(by * np.minimum(part, 0.0))[:, None]
        changed[name] = np.clip(getattr(rates, name) * factor, 0.0, MOST)
    ratio = (found["again"] + 1e-9) / (targets.again + 1e-9)
    step = _move(targets.again_class * ratio, found["again_class"], least)
    step = _level(step, found["again_class"])
    changed["again_class"] = np.clip(rates.again_class * np.exp(factors * step), 0.02, 50)
    return dataclasses.replace(rates, **changed)


# ------------------------------------------------------------------ causes


def _together(h: Histories, pairs: Pairs, scale: float) -> Floats:
    """Return the sum of products of the sets of drawn histories, (width, width), upper half."""
    width = pairs.sets.width
    upper = np.zeros((width, width))
    told = told_products(pairs.sets, h)
    upper[np.triu_indices(width)] = told.alike(width * (width + 1) // 2, pairs.norm)
    return scale * upper


def _with_causes(rates: Rates, pairs: Pairs, together: Floats, scale: float) -> Rates:
    """Return rates in which codes that stand together oftener than drawn cause each other."""
    wanted, noise, codes = pairs.moment.value, pairs.moment.noise, pairs.sets.codes
    # visits of many codes have small products: what is compared is how often one is beside another
    ratio = np.diag(wanted) / np.maximum(np.diag(together), scale)
    together = together * np.clip(ratio, 0.1, 10.0)[:, None]
    excess = np.triu(wanted - together, 1)
    doubt = np.sqrt(noise**2 + scale * np.maximum(np.triu(together, 1), 1.0))
    told = np.where((excess > SURPRISE * doubt) & np.outer(pairs.able, pairs.able), excess, 0.0)
    mass = np.maximum(np.diag(wanted), 2 * noise)
    beside = rates.beside.copy()
    first, again = rates.beside_first.copy(), rates.beside_again.copy()
    # codes stand by frequency: a cause stands before what it causes, so that there is no circle
    cause = np.argmax(told, axis=0)
    child = np.flatnonzero(told[cause, np.arange(codes.size)] > 0)
    cause = cause[child]
    free = (beside[codes[child]] < 0).any(axis=1)
    new = ~(beside[codes[child]] == codes[cause][:, None]).any(axis=1)
    child, cause = child[free & new], cause[free & new]
    edge = np.argmax(beside[codes[child]] < 0, axis=1)
    # as far as noise lets it be believed, by its mean given what was bought
    trust = 1 / (1 + (doubt[cause, child] / told[cause, child]) ** 2)
    chance = np.clip(CAUTION * trust * told[cause, child] / mass[cause], 0.0, 0.95)
    beside[codes[child], edge] = codes[cause]
    first[codes[child], edge] = again[codes[child], edge] = -np.log1p(-chance)
    return dataclasses.replace(rates, beside=beside, beside_first=first, beside_again=again)


def _moved_causes(rates: Rates, pairs: Pairs, together: Floats, by: float) -> Rates:
    """Return rates in which causes are as strong as what was counted asks."""
    wanted, codes = pairs.moment.value, pairs.sets.codes
    place = np.full(rates.base.size + 1, -1)
    place[codes] = np.arange(codes.size)
    child, edge = np.nonzero(rates.beside >= 0)
    if not child.size:
        return rates
    i, j = place[rates.beside[child, edge]], place[child]
    mass = np.maximum(np.diag(wanted)[i], 2 * pairs.moment.noise)
    own = np.maximum(np.diag(together)[i], 1e-9)
    # no more than what noise lets be believed
    trust = 1 / (1 + (pairs.moment.noise / np.maximum(wanted[i, j], 1e-9)) ** 2)
    step = by * trust * (wanted[i, j] / np.maximum(mass, 1e-9) - together[i, j] / own)
    changed = {}
    for name in ("beside_first", "beside_again"):
        value = getattr(rates, name).copy()
        now = -np.expm1(-value[child, edge])
        value[child, edge] = -np.log1p(-np.clip(now + step, 0.0, 0.98))
        changed[name] = value
    return dataclasses.replace(rates, **changed)
