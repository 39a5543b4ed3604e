"""Membership: can an attacker tell who was in the training rows?

An attacker holds the synthetic rows and reference rows of the same population, and asks of targets,
training subjects (members) and held-out ones (strangers), which they are. Thirteen attacks
(`attacks/`) score them; the one that is strongest on one half of the targets is reported on the
other half, so that the best of many is not picked by luck (Annamalai et al., USENIX Security
2024; consensus of Pilgram et al., Patterns 2025). Beside random targets: the most vulnerable ones,
farthest from other real rows (Meeus et al., Achilles' heels, ESORICS 2023), and every stratum of
the columns whose role is sensitive. The subject is the unit: of a subject with several rows the
scores are averaged, or the highest is taken, whichever does better on the first half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import NotSupported
from manikin.metrics.intervals import Floats, recentred
from manikin.metrics.privacy.attacks import roc
from manikin.metrics.privacy.attacks.classifier import classifier
from manikin.metrics.privacy.attacks.copies import copies
from manikin.metrics.privacy.attacks.dcr import dcr
from manikin.metrics.privacy.attacks.dcr_difference import dcr_difference
from manikin.metrics.privacy.attacks.density import density
from manikin.metrics.privacy.attacks.domias import domias
from manikin.metrics.privacy.attacks.gen_lra import gen_lra
from manikin.metrics.privacy.attacks.logan import logan
from manikin.metrics.privacy.attacks.mama_mia import mama_mia
from manikin.metrics.privacy.attacks.monte_carlo import monte_carlo
from manikin.metrics.privacy.attacks.near_copies import near_copies
from manikin.metrics.privacy.attacks.neighbourhood import neighbourhood
from manikin.metrics.privacy.attacks.roc import Duel
from manikin.metrics.privacy.attacks.rows import Rows, Sight
from manikin.metrics.privacy.attacks.targets import Targets, choose_targets
from manikin.metrics.privacy.attacks.tracing import tracing
from manikin.metrics.protocol import FEWEST, parties
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import row_keys, subsample

__all__ = ["ATTACKS", "membership"]

Attack: TypeAlias = Callable[[Rows, Rows, Rows, np.random.Generator], Floats]

CARD = Card(
    title="Membership inference",
    family="privacy",
    better="lower",
    reads="How well the strongest of thirteen attacks tells training subjects from strangers. AUC "
    "0.5 is guessing, 1 is always right; tpr_at_1 is the share of training subjects it is sure of "
    "while wrong about 1 % of strangers (0.01 is guessing); epsilon is a lower bound of what the "
    "release costs in the sense of differential privacy. Where refits were asked for, the group "
    "'shadow' is an attacker who fits the recipe too. A high number proves a leak. A low one "
    "says that these attacks found none with as many targets, not that there is none.",
)
ATTACKS: Mapping[str, Attack] = {
    "domias": domias, "gen-lra": gen_lra, "classifier": classifier, "neighbourhood": neighbourhood,
    "dcr": dcr, "dcr difference": dcr_difference, "logan": logan, "density": density,
    "monte carlo": monte_carlo, "mama-mia": mama_mia, "tracing": tracing, "copies": copies,
    "near copies": near_copies,
}  # fmt: skip
SURE = (4.0, 2.9)  # standard errors, surest first; 2.9: 5 % shared among the attacks (Bonferroni)
HITS = {"copies", "near copies"}  # score most targets alike
UNCHOSEN = "domias"  # where there are too few targets to choose on
TARGETS = 1_500  # random subjects a side
SYNTHETIC, REFERENCE = 20_000, 8_000  # rows that neighbours are looked up in
FOR_01 = 10_000  # strangers below which a rate at 0.1 % false positives says nothing
NAME = "privacy/membership"


@dataclass(frozen=True)
class Attacked:
    """Every attack's score of every target, one a subject."""

    targets: Targets
    scores: Mapping[str, Floats]
    chosen_on: NDArray[np.bool_]  # targets that nothing may be reported on

    def duel(self, attack: str, among: NDArray[np.bool_]) -> Duel:
        """Return the scores of the members and of the strangers among some targets."""
        scores, member = self.scores[attack], self.targets.member
        return Duel(scores[among & member], scores[among & ~member])

    def strongest(self, among: NDArray[np.bool_]) -> str:
        """Return the attack whose area is surely largest; with too few subjects, no choice.

        If no attack is sure to beat chance, with bounds that hold for all attacks at once, it is
        the one of largest area but for HITS, whose bounds are close because they seldom try.
        """
        if self.duel(UNCHOSEN, among).least < FEWEST:
            return UNCHOSEN
        for z in SURE:
            areas = {name: roc.area(self.duel(name, among), z) for name in self.scores}
            surest = max(areas, key=lambda name: areas[name][1][0])
            if areas[surest][1][0] > 0.5:
                return surest
        return max(areas.keys() - HITS, key=lambda name: (areas[name][0], name))


def membership(trial: Trial[Table], *, seed: int, n_targets: int = TARGETS) -> tuple[Score, ...]:
    """Attack training and held-out subjects and report the strongest attack, and all of them.

    Raises NotSupported with fewer than 20 subjects in a part, or strangers that the attacker holds.
    """
    if not trial.synthetic.n_rows or not trial.train.schema.learned:
        why = "no synthetic rows" if trial.train.schema.learned else "no column to look at"
        return (not_estimable(f"{NAME}.auc", why),)
    who = parties(trial, seed=seed)
    _apart(who.members, who.strangers, who.reference)
    rng = generator(seed, NAME)
    parts = [
        subsample(part, n, rng)
        for part, n in ((trial.synthetic, SYNTHETIC), (who.reference, REFERENCE))
    ]
    sight = Sight.fit(*parts)
    synthetic, reference = (sight.rows(part) for part in parts)
    synthetic = replace(synthetic, keys=row_keys(trial.synthetic))  # of all rows: they cost little
    targets = choose_targets(who, sight, reference, n_targets, rng)
    attacked = _attacked(targets, synthetic, reference, rng)
    best = attacked.strongest(targets.random & targets.first)
    real = [part.n_subjects for part in (who.members, who.strangers, who.reference)]
    scores = _of_random(attacked, best, real[0] / sum(real), rng)
    scores += _of_attacks(attacked)
    scores += _of_vulnerable(attacked)
    for label, inside in targets.strata.items():
        scores += _of_group(attacked, best, inside & ~attacked.chosen_on, label)
    return tuple(scores)


def _apart(members: Table, strangers: Table, reference: Table) -> None:
    """Refuse strangers that the attacker holds: they would look like strangers for that alone."""
    held = np.unique(row_keys(reference))
    known = [float(np.isin(row_keys(side), held).mean()) for side in (members, strangers)]
    if known[1] > 0.5 and known[1] > 2 * known[0]:
        raise NotSupported(
            "most held-out rows are among the reference rows",
            "nobody is both a target and in the attacker's hands",
            "give reference rows of other subjects, or none",
        )


def _attacked(
    targets: Targets,
    synthetic: Rows,
    reference: Rows,
    rng: np.random.Generator,
) -> Attacked:
    """Run every attack and bring its scores from rows to subjects."""
    choosing = targets.random & targets.first
    least = min(np.sum(choosing & side) for side in (targets.member, ~targets.member))
    chosen_on = choosing if least >= FEWEST else np.zeros(choosing.size, np.bool_)
    counts = np.bincount(targets.of, minlength=targets.member.size)
    order = np.argsort(targets.of, kind="stable")
    starts = np.cumsum(counts) - counts
    scores = {}
    for name, attack in ATTACKS.items():
        of_rows = np.nan_to_num(attack(targets.rows, synthetic, reference, rng)[order])
        mean = np.add.reduceat(of_rows, starts) / counts
        highest = np.maximum.reduceat(of_rows, starts)
        scores[name] = mean
        if counts.max() > 1 and chosen_on.any():
            ways = [Attacked(targets, {name: way}, chosen_on) for way in (mean, highest)]
            lower = [roc.area(way.duel(name, chosen_on))[1][0] for way in ways]
            scores[name] = (mean, highest)[int(np.argmax(lower))]
    return Attacked(targets, scores, chosen_on)


def _of_random(
    attacked: Attacked, best: str, fraction: float, rng: np.random.Generator
) -> list[Score]:
    """Return what the strongest attack does to random subjects."""
    targets = attacked.targets
    duel = attacked.duel(best, targets.random & ~attacked.chosen_on)
    other = attacked.duel(best, attacked.chosen_on) if attacked.chosen_on.any() else duel
    how = f"attack '{best}' on {_numbers(duel)}, "
    how += "chosen on as many others" if attacked.chosen_on.any() else "too few to choose another"
    value, interval = roc.area(duel)
    scores = [Score(f"{NAME}.auc", value, interval, note=how, curve=roc.curve(duel))]
    for what, fpr in (("tpr_at_10", 0.1), ("tpr_at_1", 0.01), ("tpr_at_01", 0.001)):
        if fpr < 0.01 and duel.strangers.size < FOR_01:
            few = f"not estimable: {duel.strangers.size:,} strangers, {FOR_01:,} are needed"
            scores.append(not_estimable(f"{NAME}.{what}", few))
            continue
        scores.append(Score(f"{NAME}.{what}", *roc.tpr_at(duel, fpr)))
    lower, upper, most = roc.epsilon(other, duel)
    bound = (
        f"a lower bound (95 %, δ = {roc.DELTA:g}), its threshold chosen on other subjects; so "
        f"many targets could have shown {most:.1f} at most"
    )
    if not attacked.chosen_on.any():
        bound = bound.replace("chosen on other subjects", "chosen on the same few subjects")
    scores.append(Score(f"{NAME}.epsilon", lower, (lower, upper), note=bound))
    relative, draws = roc.f1_relative(other, duel, fraction, rng)
    assumed = f"takes the {100 * fraction:.0f} % of all rows' subjects that are members as the rate"
    interval = recentred(relative, draws, high=1)
    scores.append(Score(f"{NAME}.f1_relative", relative, interval, note=assumed))
    return scores


def _of_attacks(attacked: Attacked) -> list[Score]:
    """Return what every attack does to the same random subjects."""
    among = attacked.targets.random & ~attacked.chosen_on
    scores = []
    for name in attacked.scores:
        duel = attacked.duel(name, among)
        group = f"attack={name}"
        scores.append(Score(f"{NAME}.auc", *roc.area(duel), group=group, curve=roc.curve(duel)))
        scores.append(Score(f"{NAME}.tpr_at_1", *roc.tpr_at(duel, 0.01), group=group))
    return scores


def _of_vulnerable(attacked: Attacked) -> list[Score]:
    """Return what the attack that is strongest against the vulnerable does to other such ones."""
    targets = attacked.targets
    halves = [targets.vulnerable & part for part in (targets.first, ~targets.first)]
    if min(attacked.duel(UNCHOSEN, half).least for half in halves) < FEWEST:
        few = f"not assessable: fewer than {FEWEST} subjects a half"
        return [not_estimable(f"{NAME}.{what}", few, "vulnerable") for what in ("auc", "tpr_at_1")]
    best = attacked.strongest(halves[0])
    return _of_group(attacked, best, halves[1], "vulnerable")


def _of_group(attacked: Attacked, best: str, among: NDArray[np.bool_], group: str) -> list[Score]:
    """Return what one attack does to a group of targets."""
    duel = attacked.duel(best, among)
    if duel.least < FEWEST:
        few = f"not assessable: fewer than {FEWEST} subjects a side"
        return [not_estimable(f"{NAME}.{what}", few, group) for what in ("auc", "tpr_at_1")]
    note = f"attack '{best}' on {_numbers(duel)}"
    value, interval = roc.area(duel)
    return [
        Score(f"{NAME}.auc", value, interval, group=group, note=note),
        Score(f"{NAME}.tpr_at_1", *roc.tpr_at(duel, 0.01), group=group, note=note),
    ]


def _numbers(duel: Duel) -> str:
    return f"{duel.members.size:,} members and {duel.strangers.size:,} strangers"
