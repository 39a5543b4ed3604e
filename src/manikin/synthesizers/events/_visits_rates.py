"""Rates of codes at visits: every code present is the work of at least one of several causes.

Reference  noisy-or with hidden counts: Pearl, "Probabilistic reasoning in intelligent systems"
           (1988), §4.3; its EM by thinned Poisson counts: Dunson and Herring, Biometrics 61
           (2005); self-exciting causes: Hawkes, Biometrika 58 (1971)
Idea       a code is at a visit if a Poisson count of causes is not zero. Causes of one that the
           subject never had: the visit's class, the subject's profile, age and sex, each a factor
           of one rate; codes of the visit before; codes of the same visit that are more frequent.
           Of one that the subject had: its own past, times a factor of the class and of the time
           since; and codes of the same visit. Only cells that are 1 need a hidden count, so that
           EM is a few sums over sparse data, and drawing needs no cell that stays 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from manikin.synthesizers.events._parts import array
from manikin.synthesizers.events._visits_risk import PASTS, SINCE, Cells, Returns

__all__ = ["Contexts", "Learning", "Rates", "base_at", "fit_rates"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

LEAST, MOST = 1e-9, 12.0  # a rate: 12 is a chance of 0.999994
ROUNDS = 8
PRIOR = {"class": 0.3, "profile": 1.0, "age": 2.0, "sex": 1.0}  # events that a factor of 1 weighs
AT_ONCE = 2_000_000  # cells of a dense block


@dataclass(frozen=True)
class Rates:
    """What is learnt of codes."""

    base: Annotated[Floats, array("codes", low=-60, high=5)]  # log rate of a first time
    by_class: Annotated[Floats, array("classes", "codes", low=-60, high=60)]  # log factors
    by_profile: Annotated[Floats, array("profiles", "codes", low=-60, high=60)]
    by_age: Annotated[Floats, array("ages", "codes", low=-60, high=60)]
    by_sex: Annotated[Floats, array("sexes", "codes", low=-60, high=60)]
    again: Annotated[Floats, array("codes", PASTS, low=0, high=MOST)]  # of a return by its past
    again_class: Annotated[Floats, array("classes", "codes", low=0, high=1e6)]  # factors
    again_since: Annotated[Floats, array("codes", SINCE, low=0, high=1e6)]
    beside: Annotated[Ints, array("codes", "edges", kind="i", low=-1, high="codes")]  # -1: none
    beside_first: Annotated[Floats, array("codes", "edges", low=0, high=MOST)]
    beside_again: Annotated[Floats, array("codes", "edges", low=0, high=MOST)]
    before: Annotated[Ints, array("codes", "edges", kind="i", low=-1, high="codes")]  # cause
    before_first: Annotated[Floats, array("codes", "edges", low=0, high=MOST)]


@dataclass(frozen=True, eq=False)
class Contexts:
    """What first times depend on: the different combinations, and which each visit is of."""

    of: Ints  # (visits,)
    classes: Ints  # (combinations,)
    profiles: Ints
    ages: Ints
    sexes: Ints

    @staticmethod
    def build(classes: Ints, profiles: Ints, ages: Ints, sexes: Ints) -> Contexts:
        """Find the different combinations of a class, a profile, an age and a sex a visit."""
        sizes = [int(v.max(initial=0)) + 1 for v in (classes, profiles, ages, sexes)]
        key = ((classes * sizes[1] + profiles) * sizes[2] + ages) * sizes[3] + sexes
        found, of = np.unique(key, return_inverse=True)
        rest, sex = np.divmod(found, sizes[3])
        rest, age = np.divmod(rest, sizes[2])
        kind, profile = np.divmod(rest, sizes[1])
        return Contexts(of.astype(np.int64), kind, profile, age, sex)

    @property
    def n(self) -> int:
        """Number of combinations."""
        return int(self.classes.size)


def base_at(rates: Rates, contexts: Contexts, u: Ints, code: Ints) -> Floats:
    """Return the rate of a first time by what a visit is, for pairs of a combination and a code."""
    found = rates.base[code] + rates.by_class[contexts.classes[u], code]
    found += rates.by_profile[contexts.profiles[u], code]
    found += rates.by_age[contexts.ages[u], code] + rates.by_sex[contexts.sexes[u], code]
    return np.exp(np.clip(found, -60, np.log(MOST)))


@dataclass(frozen=True, eq=False)
class Learning:
    """What rates are learnt from."""

    contexts: Contexts
    cells: Cells
    returns: Returns  # of all subjects, or of as many as are looked at
    at_risk: Any  # sparse (combinations, codes): visits at which a first time was not possible
    present: Ints  # visit * codes + code of all cells, ascending
    previous: Ints  # (visits,) the visit before of the same subject, -1 for none
    groups: Ints  # (codes,) codes beneath one parent, or of one domain
    n_codes: int
    looked_at: int  # subjects whose returns are among `returns`: the first so many
    sizes: Mapping[str, int]  # classes, profiles, ages, sexes

    def has(self, visit: Ints, code: Ints) -> Bools:
        """Whether a code is at a visit; never at the visit or code -1."""
        key = visit * self.n_codes + code
        at = np.minimum(np.searchsorted(self.present, key), max(self.present.size - 1, 0))
        found = self.present[at] == key if self.present.size else np.zeros(key.shape, bool)
        return np.asarray(found & (visit >= 0) & (code >= 0))


def fit_rates(data: Learning, beside: Ints, before: Ints) -> Rates:
    """Learn all rates by EM; `beside` and `before` are the codes that may cause another."""
    cells, risk = data.cells, data.returns
    if not cells.code.size:
        return _first_guess(data, beside, before)
    new = cells.first
    visit, code = cells.visit[new], cells.code[new]
    u = data.contexts.of[visit]
    has_beside = data.has(visit[:, None], beside[code])
    has_before = data.has(data.previous[visit][:, None], before[code])
    hit = np.flatnonzero(risk.again)
    again_beside = data.has(risk.visit[hit][:, None], beside[risk.code[hit]])
    exposure = _exposures(data, beside, before)
    rates = _first_guess(data, beside, before)
    for _ in range(ROUNDS):
        lam = base_at(rates, data.contexts, u, code)
        side = rates.beside_first[code] * has_beside
        fore = rates.before_first[code] * has_before
        total = np.maximum(lam + side.sum(axis=1) + fore.sum(axis=1), LEAST)
        count = total / -np.expm1(-total) / total
        own_side, own_fore = side * count[:, None], fore * count[:, None]
        factors = _base_step(data, rates, u, code, lam * count)
        rate, own_again = _again_step(data, rates, hit, again_beside)
        rates = Rates(
            **factors,
            **rate,
            beside=beside,
            beside_first=_edge_step(own_side, code, exposure[0]),
            beside_again=_edge_step(own_again, risk.code[hit], exposure[1]),
            before=before,
            before_first=_edge_step(own_fore, code, exposure[2]),
        )
    return rates


def _first_guess(data: Learning, beside: Ints, before: Ints) -> Rates:
    n, sizes = data.n_codes, data.sizes
    visits = max(data.contexts.of.size, 1)
    first = np.bincount(data.cells.code[data.cells.first], minlength=n)
    risk = data.returns
    pooled = np.bincount(risk.past, weights=risk.again, minlength=PASTS) + 0.5
    exposed = np.bincount(risk.past, minlength=PASTS) + 1.0
    start = -np.log1p(-np.minimum(pooled / exposed, 0.99))
    return Rates(
        np.log(np.maximum(0.7 * first / visits, 1e-7)),
        np.zeros((sizes["classes"], n)),
        np.zeros((sizes["profiles"], n)),
        np.zeros((sizes["ages"], n)),
        np.zeros((sizes["sexes"], n)),
        np.tile(start, (n, 1)),
        np.ones((sizes["classes"], n)),
        np.ones((n, SINCE)),
        beside,
        np.where(beside >= 0, 0.1, 0.0),
        np.where(beside >= 0, 0.1, 0.0),
        before,
        np.where(before >= 0, 0.05, 0.0),
    )


def _exposures(data: Learning, beside: Ints, before: Ints) -> tuple[Floats, Floats, Floats]:
    """Return at how many visits each cause could have brought a first time, or a return."""
    n, risk = data.n_codes, data.returns
    visits = np.bincount(data.cells.code, minlength=n + 1).astype(np.float64)
    later = data.previous[data.previous >= 0]
    followed = np.bincount(later, minlength=data.previous.size)
    after = np.bincount(data.cells.code, weights=followed[data.cells.visit], minlength=n + 1)
    taken = np.zeros((3, *beside.shape))
    for lo in range(0, risk.visit.size, AT_ONCE):
        visit, code = risk.visit[lo : lo + AT_ONCE], risk.code[lo : lo + AT_ONCE]
        for p in range(beside.shape[1]):
            has = data.has(visit, beside[code, p])
            taken[0, :, p] += np.bincount(code, weights=has, minlength=n)
            had = data.has(data.previous[visit], before[code, p])
            taken[2, :, p] += np.bincount(code, weights=had, minlength=n)
    # of a part of the subjects only returns are counted: first times are all visits but these
    part = data.at_risk.sum() / max(risk.visit.size, 1)
    return (
        np.maximum(visits[beside] - part * taken[0], 0.0),
        taken[0],
        np.maximum(after[before] - part * taken[2], 0.0),
    )


def _edge_step(own: Floats, code: Ints, exposure: Floats) -> Floats:
    """Return rates of causes: their share of hidden counts by how often they could have."""
    found = np.zeros(exposure.shape)
    for p in range(exposure.shape[1]):
        found[:, p] = np.bincount(code, weights=own[:, p], minlength=len(exposure))
    return np.clip(found / (exposure + 0.5), 0.0, MOST)


def _base_step(
    data: Learning, rates: Rates, u: Ints, code: Ints, hidden: Floats
) -> dict[str, Floats]:
    """Return the base rate and its factors, one after the other; a few codes at a time."""
    contexts, n = data.contexts, data.n_codes
    shape = (contexts.n, n)
    counted = sp.csc_matrix((hidden, (u, code)), shape=shape)
    weight = np.bincount(contexts.of, minlength=contexts.n).astype(np.float64)
    factors = {name: np.array(getattr(rates, name)) for name in _FACTORS}
    base = np.array(rates.base)
    at = {name: getattr(contexts, whose) for name, (whose, _) in _FACTORS.items()}
    sums = {
        name: sp.csr_matrix(
            (np.ones(contexts.n), (at[name], np.arange(contexts.n))),
            shape=(len(factors[name]), contexts.n),
        )
        for name in _FACTORS
    }
    wide = max(1, AT_ONCE // max(contexts.n, 1))
    for lo in range(0, n, wide):
        some = slice(lo, min(lo + wide, n))
        y = counted[:, some].toarray()
        exposed = np.maximum(weight[:, None] - data.at_risk[:, some].toarray(), 0.0)
        log_rate = base[some] + sum(factors[name][at[name]][:, some] for name in _FACTORS)
        lam = np.exp(np.clip(log_rate, -60, np.log(MOST))) * exposed
        scale = (y.sum(axis=0) + 1e-3) / (lam.sum(axis=0) + 1e-3)
        base[some] += np.log(scale)
        lam *= scale
        for name, (_, prior) in _FACTORS.items():
            found, expected = sums[name] @ y, sums[name] @ lam
            strength = PRIOR[prior]
            old = factors[name][:, some]
            new = np.log((found + strength) / (expected / np.exp(old) + strength))
            new = np.clip(new, -30, 30)
            lam *= np.exp(new - old)[at[name]]
            factors[name][:, some] = new
    return {"base": np.clip(base, -60, 5), **factors}


_FACTORS = {
    "by_class": ("classes", "class"),
    "by_profile": ("profiles", "profile"),
    "by_age": ("ages", "age"),
    "by_sex": ("sexes", "sex"),
}


def _again_step(
    data: Learning, rates: Rates, hit: Ints, again_beside: Bools
) -> tuple[dict[str, Floats], Floats]:
    """Return the rates of returns and their factors, and what codes beside them caused."""
    risk, n = data.returns, data.n_codes
    of_class = data.contexts.classes[data.contexts.of[risk.visit]]
    own = rates.again[risk.code, risk.past]
    kind = rates.again_class[of_class, risk.code]
    time = rates.again_since[risk.code, risk.since]
    lam = np.minimum((own * kind * time)[hit], MOST)
    side = rates.beside_again[risk.code[hit]] * again_beside
    total = np.maximum(lam + side.sum(axis=1), LEAST)
    count = total / -np.expm1(-total) / total
    hidden = np.zeros(risk.visit.size)
    hidden[hit] = lam * count
    by_past = risk.code * PASTS + risk.past
    again = _pooled(data, by_past, hidden, kind * time, PASTS)
    again = np.clip(again, LEAST, MOST)
    own = again[risk.code, risk.past]
    by_kind = of_class * n + risk.code
    kinds = _factor(by_kind, hidden, own * time, 1.0, rates.again_class.shape)
    kind = kinds[of_class, risk.code]
    by_time = risk.code * SINCE + risk.since
    times = _factor(by_time, hidden, own * kind, 2.0, rates.again_since.shape)
    found = {"again": again, "again_class": kinds, "again_since": times}
    return found, side * count[:, None]


def _factor(
    key: Ints, hidden: Floats, expected: Floats, strength: float, shape: tuple[int, ...]
) -> Floats:
    size = int(np.prod(shape))
    found = np.bincount(key, weights=hidden, minlength=size)
    due = np.bincount(key, weights=expected, minlength=size)
    return np.clip((found + strength) / (due + strength), 1e-3, 1e3).reshape(shape)


def _pooled(data: Learning, key: Ints, hidden: Floats, expected: Floats, width: int) -> Floats:
    """Return rates by code and past, drawn to those of codes beneath the same parent."""
    n, groups = data.n_codes, data.groups
    found = np.bincount(key, weights=hidden, minlength=n * width).reshape(n, width)
    due = np.bincount(key, weights=expected, minlength=n * width).reshape(n, width)
    size = int(groups.max(initial=0)) + 1
    pooled, pooled_due = np.zeros((size, width)), np.zeros((size, width))
    np.add.at(pooled, groups, found)
    np.add.at(pooled_due, groups, due)
    everything = (found.sum(axis=0) + 0.1) / (due.sum(axis=0) + 0.2)
    prior = (pooled + 2.0 * everything) / (pooled_due + 2.0)
    level = (found.sum(axis=1) + 1.0) / ((due * prior[groups]).sum(axis=1) + 1.0)
    prior = np.clip(prior[groups] * level[:, None], 1e-6, MOST)
    return np.asarray((found + 2.0) / (due + 2.0 / prior))
