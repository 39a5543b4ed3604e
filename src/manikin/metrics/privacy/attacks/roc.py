"""What an attack's scores are worth: areas, rates at few false alarms, and bounds on ε.

Scores are one a subject, so subjects are independent; none of this looks at rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from manikin.metrics.intervals import Floats, Pair, binomial

__all__ = ["DELTA", "Duel", "area", "curve", "epsilon", "f1_relative", "tpr_at"]

DELTA = 1e-6  # fixed beforehand, never 1/n
Z = 1.959964
PSEUDO = np.array([-np.inf, np.inf])
THRESHOLDS = 200
DRAWS = 300
FALSE_ALARMS = (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6,
                0.7, 0.8, 0.9, 0.95, 1)  # fmt: skip


@dataclass(frozen=True)
class Duel:
    """The scores of members and of strangers."""

    members: Floats
    strangers: Floats

    @property
    def least(self) -> int:
        """Subjects on the smaller side."""
        return min(self.members.size, self.strangers.size)

    def rates(self, threshold: Floats) -> tuple[Floats, Floats]:
        """Return how many members and how many strangers score above each threshold."""
        above = [
            side.size - np.searchsorted(np.sort(side), threshold, side="right")
            for side in (self.members, self.strangers)
        ]
        return above[0].astype(np.float64), above[1].astype(np.float64)


def area(duel: Duel, z: float = Z) -> tuple[float, Pair]:
    """Return the area under the ROC curve and its interval, 95 % unless another `z` is given.

    The variance is that of DeLong, DeLong, Clarke-Pearson (Biometrics 1988). Each side is given
    one more subject at either end of the scale, as Agresti and Caffo (Am. Stat. 2000) do for the
    difference of two rates, of which the area of an attack with few hits is one half: without
    them the interval is too short exactly where false alarms come from, and empty at no hit.
    """
    if not duel.least:
        return math.nan, (math.nan, math.nan)
    value = float(_won(duel.members, duel.strangers).mean())
    ones, others = (np.concatenate([side, PSEUDO]) for side in (duel.members, duel.strangers))
    won, lost = _won(ones, others), _won(others, ones)
    centre = float(won.mean())
    half = z * math.sqrt(won.var(ddof=1) / won.size + lost.var(ddof=1) / lost.size)
    return value, (max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half)))


def _won(ones: Floats, others: Floats) -> Floats:
    """Return the share of `others` that each of `ones` outscores, ties half."""
    ordered = np.sort(others)
    twice = np.searchsorted(ordered, ones, "left") + np.searchsorted(ordered, ones, "right")
    return np.asarray(twice / (2 * ordered.size))


def tpr_at(duel: Duel, fpr: float) -> tuple[float, Pair]:
    """Return the share of members found where at most a share `fpr` of strangers is.

    Both sides are samples. Members give an exact interval at the threshold (Clopper and Pearson);
    so many strangers as chance may put above the true threshold (binomial, 95 %) give the
    thresholds that it may be. The two are joined as Zou and Donner (Stat. Med. 2008) do: the
    squares of their distances from the estimate add up. So few strangers that none needs to be
    above the threshold leave the lower end at 0.
    """
    n = duel.strangers.size
    value = _found(duel, math.floor(fpr * n + 1e-9))
    exact = binomial(value * duel.members.size, duel.members.size)
    few, many = (float(stats.binom.ppf(tail, n, fpr)) for tail in (0.025, 0.975))
    ends = _found(duel, int(few) - 1), _found(duel, int(many))
    low, high = (
        math.hypot(value - one, value - other) for one, other in zip(exact, ends, strict=True)
    )
    return value, (max(0.0, value - low), min(1.0, value + high))


def _found(duel: Duel, alarms: int) -> float:
    """Return the share of members that score above all but `alarms` strangers; none below 0."""
    if alarms < 0:
        return 0.0
    ordered = np.sort(duel.strangers)
    threshold = -math.inf if alarms >= ordered.size else ordered[-1 - alarms]
    return float(np.mean(duel.members > threshold))


def curve(duel: Duel) -> tuple[tuple[float, float], ...]:
    """Return points (false-positive rate, true-positive rate) of the ROC curve, at few places."""
    strangers, members = (np.sort(side) for side in (duel.strangers, duel.members))
    allowed = np.floor(np.array(FALSE_ALARMS) * strangers.size + 1e-9).astype(np.int64)
    thresholds = np.concatenate([[-np.inf], strangers])[strangers.size - allowed]
    found = 1 - np.searchsorted(members, thresholds, side="right") / members.size
    return tuple((float(x), round(float(y), 3)) for x, y in zip(FALSE_ALARMS, found, strict=True))


def _candidates(duel: Duel) -> Floats:
    """Return the thresholds to look at: the scores that occur, or quantiles of them."""
    scores = np.unique(np.concatenate([duel.members, duel.strangers]))
    if scores.size <= THRESHOLDS:
        return scores
    # denser at the upper end, where the false positives are few
    at = 1 - np.geomspace(1 / scores.size, 1, THRESHOLDS)
    both = np.concatenate([at, np.linspace(0, 1, THRESHOLDS)])
    return np.unique(np.quantile(scores, both, method="lower"))


def epsilon(chosen_on: Duel, duel: Duel) -> tuple[float, float, float]:
    """Return a 95 % lower bound of ε, an upper end of what was measured, and the largest possible.

    An (ε, δ) mechanism has TPR ≤ e^ε FPR + δ, and 1 - FPR ≤ e^ε (1 - TPR) + δ (Kairouz, Oh,
    Viswanath, ICML 2015); Jagielski, Ullman, Oprea (NeurIPS 2020): ε ≥ ln((TPR_low - δ)/FPR_high).
    The threshold and the direction are the best ones for `chosen_on`, other subjects than `duel`'s;
    each rate's bound holds at 97.5 %, so both hold at 95 %.
    """
    thresholds = _candidates(chosen_on)
    first = [_bounds(chosen_on, thresholds, flipped) for flipped in (False, True)]
    flipped = bool(first[1][0].max() > first[0][0].max())
    best = thresholds[[int(np.argmax(first[flipped][0]))]]
    lower, upper = (float(found[0]) for found in _bounds(duel, best, flipped))
    n = (duel.members.size, duel.strangers.size)
    most = math.log((binomial(n[0], n[0])[0] - DELTA) / binomial(0, n[1])[1])
    return max(0.0, lower), max(0.0, lower, upper), max(0.0, most)


def _bounds(duel: Duel, thresholds: Floats, flipped: bool) -> tuple[Floats, Floats]:
    """Return the lower and upper bounds of ε at each threshold; `flipped`: from who is below."""
    hits, alarms = duel.rates(thresholds)
    n_hits, n_alarms = duel.members.size, duel.strangers.size
    if flipped:  # strangers below the threshold are the hits
        hits, alarms = n_alarms - alarms, n_hits - hits
        n_hits, n_alarms = n_alarms, n_hits
    lower = np.log(np.maximum(_low(hits, n_hits) - DELTA, 1e-300)) - np.log(_high(alarms, n_alarms))
    least = np.maximum(_low(alarms, n_alarms), 0.5 / n_alarms)  # half an alarm where there is none
    upper = np.log(_high(hits, n_hits)) - np.log(least)
    return lower, upper


def _low(hits: Floats, n: int) -> Floats:
    bound = stats.beta.ppf(0.025, np.maximum(hits, 1e-9), n - hits + 1)
    return np.where(hits <= 0, 0.0, bound)


def _high(hits: Floats, n: int) -> Floats:
    bound = stats.beta.ppf(0.975, hits + 1, np.maximum(n - hits, 1e-9))
    return np.where(hits >= n, 1.0, bound)


def f1_relative(
    chosen_on: Duel, duel: Duel, fraction: float, rng: np.random.Generator
) -> tuple[float, Floats]:
    """Return (F1 - F1_naive) / (1 - F1_naive) and replicates of it.

    El Emam, Mosquera, Fang (JAMIA Open 2022): a share `fraction` of the attacked population are
    members, so precision is that share's; the naive attacker calls everyone a member. The
    threshold is the best one for `chosen_on`; one below all scores is the naive attacker's own.
    """
    thresholds = np.concatenate([[-np.inf], _candidates(chosen_on)])
    hits, alarms = chosen_on.rates(thresholds)
    found = _f1(hits / chosen_on.members.size, alarms / chosen_on.strangers.size, fraction)
    best = thresholds[[int(np.argmax(found))]]
    hits, alarms = duel.rates(best)
    shares = hits / duel.members.size, alarms / duel.strangers.size
    draws = [
        rng.binomial(side.size, float(share[0]), DRAWS) / side.size
        for side, share in zip((duel.members, duel.strangers), shares, strict=True)
    ]
    return float(_f1(*shares, fraction)[0]), _f1(draws[0], draws[1], fraction)


def _f1(tpr: Floats, fpr: Floats, fraction: float) -> Floats:
    """Return the relative F1 of an attacker with these rates."""
    members, others = fraction * tpr, (1 - fraction) * fpr
    found = 2 * members / (fraction + members + others)
    naive = 2 * fraction / (1 + fraction)
    return np.asarray((found - naive) / (1 - naive))
