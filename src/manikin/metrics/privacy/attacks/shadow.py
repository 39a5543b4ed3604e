"""Attacks that need the synthesizer: shadow releases with and without the target, and model loss.

Carlini, Chien, Nasr, Song, Terzis, Tramèr. Membership inference attacks from first principles
(LiRA). IEEE S&P 2022. Algorithm 1, for releases in place of models (Houssiau et al., TAPAS, 2022):
1 fit the synthesizer again and again on what the attacker holds and a random half of the targets ·
2 take each target's score by an attack on every shadow release · 3 model these scores as normal,
apart for releases made with the target and without it · 4 the likelihood ratio of the score on the
real release. With few shadows the variances are shared by all targets (§VI of the paper).
Focal points of MAMA-MIA are learnt from all releases (Golob et al., arXiv:2410.05506).
Differs from the paper in: one score of a release stands for the model's loss, for several attacks;
shifts of few shadows are shrunk towards their mean (empirical Bayes; Efron and Morris, JASA 1973),
with which 4 shadows were measured to do about as well as 16.

They are no metric, because a trial has no synthesizer: whoever has one calls `shadow_attack`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import NotSupported
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks import roc
from manikin.metrics.privacy.attacks.density import density
from manikin.metrics.privacy.attacks.gen_lra import gen_lra
from manikin.metrics.privacy.attacks.mama_mia import focal_points, ratios
from manikin.metrics.privacy.attacks.roc import Duel
from manikin.metrics.privacy.attacks.rows import Sight
from manikin.metrics.privacy.attacks.tracing import tracing
from manikin.metrics.protocol import FEWEST, parties
from manikin.metrics.score import Score, Trial
from manikin.metrics.spaces import subsample

__all__ = ["Loss", "Refit", "loss_attack", "shadow_attack"]

Refit: TypeAlias = Callable[[Table, int], Table]
"""Fits the synthesizer on a table with a seed and returns one synthetic table."""
Loss: TypeAlias = Callable[[Table], Floats]
"""The fitted model's loss of every row: a negative log likelihood, or a denoising error."""

# DOMIAS is missing: its reference density is that of every release and cancels from the ratio
STATISTICS = {"density": density, "gen-lra": gen_lra, "tracing": tracing}
REFITS = 8
LEAST_REFITS = 4  # two with a target and two without
TARGETS = 1_000  # subjects a side: half are for choosing the attack
HELD = 5_000  # reference subjects that a shadow is fitted to at most
SYNTHETIC = 20_000  # rows that neighbours are looked up in
NAME = "privacy/membership"


@dataclass(frozen=True)
class Known:
    """The targets, whose membership the attacker asks, and the rows that the attacker holds."""

    targets: Table  # subjects are numbered from 0, members first
    n_members: int
    reference: Table

    @property
    def n(self) -> int:
        """Number of targets."""
        return int(self.targets.subjects.max()) + 1

    def averaged(self, of_rows: Floats) -> Floats:
        """Return the mean over each target's rows."""
        of = self.targets.subjects
        return np.asarray(np.bincount(of, of_rows) / np.bincount(of))


def shadow_attack(
    trial: Trial[Table],
    refit: Refit,
    *,
    seed: int,
    refits: int = REFITS,
    n_targets: int = TARGETS,
) -> tuple[Score, ...]:
    """Attack with shadow releases, of which `refits` are made.

    The scores of the strongest attack have the group "shadow", those of each "attack=shadow …".
    Raises NotSupported for fewer than 4 refits, or fewer than 20 subjects in a part.
    """
    if refits < LEAST_REFITS:
        raise NotSupported(
            f"{refits} refits for a shadow attack",
            f"{LEAST_REFITS} at least: two with each target and two without",
            "ask for more refits, or leave the shadow attack out",
        )
    rng = generator(seed, "privacy/shadow")
    known = _known(trial, seed, n_targets, rng)
    # each target is in a random half of the shadows
    inside = rng.random((refits, known.n)).argsort(axis=0) < refits // 2
    releases = [trial.synthetic]
    for k in range(refits):
        chosen = known.targets.take(np.flatnonzero(inside[k]))
        taught = Table.concatenate([known.reference, chosen])
        releases.append(refit(taught, int(rng.integers(2**31))))
    scores = _statistics(known, releases, seed)
    likelier = {f"shadow {name}": lira(s[0], s[1:], inside) for name, s in scores.items()}
    return _reported(known, likelier, "shadow", f"{refits} shadow releases", rng)


def _known(trial: Trial[Table], seed: int, n: int, rng: np.random.Generator) -> Known:
    """Choose targets, and number everyone anew so that no two subjects share a number."""
    who = parties(trial, seed=seed)
    sides, first = [], 0
    for part in (who.members, who.strangers):
        people = rng.permutation(np.unique(part.subjects))[:n]
        sides.append(_numbered(part.take(people), first))
        first += people.size
    n_members = int(np.unique(sides[0].subjects).size)
    held = who.reference.take(rng.permutation(np.unique(who.reference.subjects))[:HELD])
    return Known(Table.concatenate(sides), n_members, _numbered(held, first))


def _numbered(table: Table, first: int) -> Table:
    _, of_row = np.unique(table.subjects, return_inverse=True)
    return Table(table.schema, of_row.astype(np.int64) + first, table.columns, table.states)


def _statistics(known: Known, releases: Sequence[Table], seed: int) -> Mapping[str, Floats]:
    """Return the targets' scores by each attack on every release, (releases, targets).

    The same draws for every release; focal points are learnt from all of them together.
    """
    sight = Sight.fit(known.reference, known.reference)  # the same view of every release
    targets, reference = sight.rows(known.targets), sight.rows(known.reference)
    shown = []
    for release in releases:
        rng = generator(seed, "privacy/shadow releases")
        shown.append(sight.rows(subsample(release, SYNTHETIC, rng)))
    focal = focal_points(shown, generator(seed, "privacy/focal points"))
    scores: dict[str, list[Floats]] = {name: [] for name in (*STATISTICS, "mama-mia")}
    for rows in shown:
        rng = generator(seed, "privacy/shadow statistics")
        found = {name: attack(targets, rows, reference, rng) for name, attack in STATISTICS.items()}
        found["mama-mia"] = ratios(targets, rows, reference, focal)
        for name, of_rows in found.items():
            scores[name].append(known.averaged(np.nan_to_num(of_rows)))
    return {name: np.array(rows) for name, rows in scores.items()}


def lira(observed: Floats, shadows: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return each target's log likelihood ratio of `observed` (targets,) with and without it.

    `shadows` are the scores on the shadow releases and `inside` which of these were made with the
    target, both (refits, targets). A shift of the mean that a few releases show is mostly chance:
    each target's is drawn towards that of all, by how much shifts truly differ.
    """
    n = np.array([inside.sum(axis=0), (~inside).sum(axis=0)])  # (2, targets)
    mean = np.array([np.where(part, shadows, 0).sum(axis=0) for part in (inside, ~inside)]) / n
    residuals = shadows - np.where(inside, mean[0], mean[1])
    variance = float(np.sum(residuals**2)) / max(1, residuals.size - 2 * observed.size)
    variance = max(variance, 1e-12 * (1 + float(np.square(shadows).mean())))
    shift = mean[0] - mean[1]
    chance = variance * (1 / n).sum(axis=0)
    if shift.size > 1:
        true = max(0.0, float(shift.var(ddof=1) - chance.mean()))
        shift = shift.mean() + (shift - shift.mean()) * true / (true + chance)
    return np.asarray(shift * (observed - mean.mean(axis=0)) / variance)


def loss_attack(
    trial: Trial[Table],
    loss: Loss,
    *,
    seed: int,
    calibrate: Callable[[Table, int], Loss] | None = None,
    n_targets: int = TARGETS,
) -> tuple[Score, ...]:
    """Attack with the model's own loss: members are rows that it knows too well.

    Yeom, Giacomelli, Fredrikson, Jha (CSF 2018). With `calibrate`, which fits the same synthesizer
    on a table and returns that model's loss, the loss of a model of the reference rows is
    subtracted, so that easy rows do not look like members (Watson et al., ICLR 2022).
    """
    rng = generator(seed, "privacy/loss")
    known = _known(trial, seed, n_targets, rng)
    found = {"model loss": -loss(known.targets)}
    if calibrate is not None:
        population = calibrate(known.reference, int(rng.integers(2**31)))
        found["calibrated loss"] = population(known.targets) - loss(known.targets)
    scores = {name: known.averaged(np.nan_to_num(of_rows)) for name, of_rows in found.items()}
    return _reported(known, scores, "model loss", "the model's own loss", rng)


def _reported(
    known: Known, scores: Mapping[str, Floats], group: str, how: str, rng: np.random.Generator
) -> tuple[Score, ...]:
    """Choose the strongest on one half of the targets and report it, and all, on the other."""
    member = np.arange(known.n) < known.n_members
    first = np.concatenate([np.arange(n) % 2 == 0 for n in (member.sum(), (~member).sum())])

    def duel(name: str, among: NDArray[np.bool_]) -> Duel:
        return Duel(scores[name][among & member], scores[name][among & ~member])

    if min(np.sum(member & first), np.sum(~member & first)) < FEWEST:
        first = np.zeros(known.n, np.bool_)  # too few to choose on: the first attack, on all
    best = next(iter(scores))
    if first.any():
        best = max(scores, key=lambda name: roc.area(duel(name, first))[1][0])
    chosen = duel(best, ~first)
    note = f"attack '{best}' with {how}, on {chosen.members.size:,} members and "
    note += f"{chosen.strangers.size:,} strangers"
    lower, upper, _ = roc.epsilon(duel(best, first) if first.any() else chosen, chosen)
    found = [
        _area(chosen, group, note),
        Score(f"{NAME}.tpr_at_10", *roc.tpr_at(chosen, 0.1), ceiling=0.1, group=group),
        Score(f"{NAME}.tpr_at_1", *roc.tpr_at(chosen, 0.01), ceiling=0.01, group=group),
        Score(f"{NAME}.epsilon", lower, (lower, upper), ceiling=0.0, group=group),
    ]
    for name in scores:
        one = duel(name, ~first)
        alone = f"attack={name}"
        found.append(_area(one, alone, ""))
        found.append(Score(f"{NAME}.tpr_at_1", *roc.tpr_at(one, 0.01), ceiling=0.01, group=alone))
    return tuple(found)


def _area(duel: Duel, group: str, note: str) -> Score:
    """Return the area under a ROC curve, which is drawn.

    The ceiling needs no fresh rows: of a release made without them, members and strangers are
    exchangeable, whatever is computed from shadows that took each side by the same coin.
    """
    value, interval = roc.area(duel)
    curve = roc.curve(duel)
    return Score(f"{NAME}.auc", value, interval, ceiling=0.5, group=group, note=note, curve=curve)
