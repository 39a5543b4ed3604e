"""How often an attack is right: about members, about strangers, and what that leaves of risk.

Whatever can be learned of a stranger is learned from the population and not from being in the
data. The residual risk is the rest: (r_T - r_H) / (1 - r_H), the excess of successes among members
(T) over those among held-out strangers (H), as a share of what chance leaves (the correction of
Abbott, J. Econ. Entomol. 1925). A subject counts once, however many rows it has: with the mean of
its rows. Interval: Newcombe (Stat. Med. 1998, method 10) on exact limits, which hold a fortiori
for means of numbers from 0 to 1, since no such number varies more than a coin of its mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from manikin.metrics.intervals import Floats, binomial, difference
from manikin.metrics.privacy._groups import Mask
from manikin.metrics.protocol import FEWEST
from manikin.metrics.score import Score, not_estimable
from manikin.metrics.spaces import Codes

__all__ = ["Success", "by_subject", "rate", "residual", "worst"]

Key = tuple[str, str]  # attack, group
Pair = tuple[float, float]


@dataclass(frozen=True)
class Success:
    """How right an attack was about every subject, 0 to 1, NaN where it was not tried."""

    members: Floats  # (training subjects,)
    strangers: Floats  # (held-out subjects,)

    def only(self, inside: tuple[Mask, Mask]) -> Success:
        """Return the success about some members and strangers alone."""
        return Success(
            np.where(inside[0], self.members, np.nan), np.where(inside[1], self.strangers, np.nan)
        )


def by_subject(right: Floats, subjects: Codes, everyone: Codes) -> Floats:
    """Return the mean of each subject's rows that are not NaN, in the order of `everyone`.

    `everyone` ascends and holds all `subjects`; NaN for those of whom no row was tried.
    """
    of, n = np.searchsorted(everyone, subjects), everyone.size
    tried = np.isfinite(right)
    total = np.bincount(of[tried], right[tried], minlength=n)
    rows = np.bincount(of[tried], minlength=n)
    return np.asarray(total / np.where(rows > 0, rows, np.nan))


def rate(right: Floats) -> tuple[float, Pair, int]:
    """Return the share of successes, its exact interval and how many subjects were tried."""
    tried = right[np.isfinite(right)]
    if not tried.size:
        return math.nan, (math.nan, math.nan), 0
    value = float(tried.mean())
    return value, binomial(float(tried.sum()), tried.size), int(tried.size)


def residual(
    metric: str,
    success: Success,
    group: str = "all",
    *,
    what: str = "tries",
    kept: float = 1.0,
) -> Score:
    """Return the residual risk of an attack, with the absolute rates in its note.

    `kept` is the share of the members whom the tries could hit, where members were thinned.
    """
    (member, of_member, n), (stranger, of_stranger, n_strangers) = (
        rate(success.members), rate(success.strangers)
    )  # fmt: skip
    if min(n, n_strangers) < FEWEST:
        why = f"not assessable: fewer than {FEWEST} {what} on a side"
        return not_estimable(metric, why, group)
    if stranger == 1:
        return not_estimable(metric, "strangers are always guessed right: nothing is left", group)
    left = kept * (1 - stranger)
    value = (member - stranger) / left
    low, high = difference(member, of_member, stranger, of_stranger)
    note = (
        f"right in {100 * member:.1f} % of {n} {what} on members "
        f"and {100 * stranger:.1f} % of {n_strangers} on strangers"
    )
    value = min(1.0, max(-1.0, value))
    interval = (max(-1.0, min(low / left, value)), min(1.0, max(high / left, value)))
    return Score(metric, value, interval, group=group, note=note)


def worst(
    metric: str,
    attacks: Mapping[Key, Success],
    rng: np.random.Generator,
    *,
    groups: Mapping[str, tuple[Mask, Mask]] | None = None,
    what: str = "tries",
    kept: float = 1.0,
) -> tuple[Score, ...]:
    """Return the residual of the strongest attack: chosen on one half, reported on the other.

    The largest of many numbers is too large; the half that did not choose knows nothing of it.
    `groups` are subjects of whom the same attack is reported beside all.
    """
    named, success = _strongest(attacks, rng, what)
    if success is None:
        why = f"not assessable: fewer than {FEWEST} {what} to choose an attack on and as many more"
        return (not_estimable(metric, why),)
    scores = [residual(metric, success, what=what, kept=kept)]
    for group, inside in (groups or {}).items():
        scores.append(residual(metric, success.only(inside), group, what=what, kept=kept))
    if len(attacks) == 1:
        return tuple(scores)
    return tuple(replace(s, note=f"strongest: {named}; {s.note}") for s in scores)


def _strongest(
    attacks: Mapping[Key, Success], rng: np.random.Generator, what: str
) -> tuple[str, Success | None]:
    """Return the attack whose lower limit is highest on one half, and its success on the other."""
    if len(attacks) == 1:  # nothing to choose from
        (((attack, _), success),) = attacks.items()
        return attack, success
    # widened for as many looks (Bonferroni), lest the noisiest of weak attacks win by luck
    wider = NormalDist().inv_cdf(1 - 0.025 / len(attacks)) / NormalDist().inv_cdf(0.975)
    found: dict[Key, tuple[float, Success]] = {}
    halves: dict[tuple[int, int], tuple[Mask, Mask]] = {}
    for key, success in attacks.items():
        sizes = success.members.size, success.strangers.size
        if sizes not in halves:
            one, other = (rng.permutation(size) < size / 2 for size in sizes)
            halves[sizes] = one, other
        one, other = halves[sizes]
        chosen = residual("", success.only((one, other)), what=what)
        reported = success.only((~one, ~other))
        if chosen.value == chosen.value and not math.isnan(residual("", reported).value):
            found[key] = chosen.value - wider * (chosen.value - chosen.interval[0]), reported
    if not found:
        return "", None
    attack, group = max(found, key=lambda key: found[key][0])
    named = attack if group == "all" else f"{attack}, {group}"
    return named, found[attack, group][1]
