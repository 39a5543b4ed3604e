"""Membership of whole histories: can an attacker tell whose record was trained on?

The target is a subject with all its events. The attacker holds the synthetic histories and
reference histories of the same population, and scores targets by how much better they fit the
former; what is rare among reference histories counts more:
summaries  ln distance of the target's summaries (data/summaries) to the nearest reference rows,
           minus that to the nearest synthetic rows
domias     ratio of densities of synthetic and reference rows there (van Breugel et al., 2023)
codes      largest cosine between the sets of codes, each weighing -ln its share of reference
           subjects: of synthetic minus of reference histories
pairs      mean over the target's pairs (code, next code) of ln((synthetic + 1) / (reference + 1))
           subjects who have the pair: the set of pairs as members of the other sets
events     the same of whole events: code, gap before it, value
runs       longest copied run (privacy/copied_runs) minus that in reference histories
The attack whose area is surely largest on one half of the targets is reported on the other half.
Reference histories are the trial's, or half of the held-out subjects.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from manikin.data.events import Events
from manikin.data.randomness import generator
from manikin.data.summaries import plan
from manikin.data.table import Table
from manikin.metrics.histories import Side, no_histories, together
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy.attacks import roc
from manikin.metrics.privacy.attacks.domias import domias
from manikin.metrics.privacy.attacks.roc import Duel
from manikin.metrics.privacy.attacks.rows import Sight, closest
from manikin.metrics.privacy.copied_runs import longest_runs, tokens
from manikin.metrics.protocol import FEWEST, parties
from manikin.metrics.score import Card, Score, Trial, not_estimable

__all__ = ["history_membership"]

CARD = Card(
    title="Membership of whole histories",
    family="privacy",
    better="lower",
    reads="How well the strongest of six attacks tells patients whose records were trained on from "
    "strangers, with all their events in hand. AUC 0.5 is guessing, 1 is always right; `tpr_at_1` "
    "is the share of training patients it is sure of while wrong about 1 % of strangers (0.01 is "
    "guessing). A low number says that these attacks found nothing in so many targets, no more. "
    "The floor, independent visits, keeps every value and gap of training patients and nobody's "
    "record: what it has too is told by how common single events are. It is a leak all the same.",
    profile="quick",
    modality="events",
)
NAME = "privacy/history_membership"
TARGETS = 1_500  # a side
HELD = 6_000  # synthetic and reference subjects that are looked in
SURE = 2.64  # standard errors: 5 % shared among six attacks (Bonferroni)
NEAREST = 3
LEAST = 1e-4
BY = {  # what tells, where an attack does best
    "summaries": "what whole records come to",
    "domias": "what whole records come to",
    "codes": "which codes stand in one record",
    "pairs": "which code follows which",
    "events": "single events: exact values and gaps that few patients have",
    "runs": "stretches of events",
}


def history_membership(trial: Trial[Events], *, seed: int) -> tuple[Score, ...]:
    """Attack training and held-out subjects and report the strongest attack, and all of them.

    Raises NotSupported with fewer than 20 subjects in a part.
    """
    if not isinstance(trial.train, Events):
        return no_histories(f"{NAME}.auc")
    if not trial.synthetic.n_events:
        return (not_estimable(f"{NAME}.auc", "no synthetic events"),)
    trial = together(trial)
    who = parties(cast("Trial[Table]", trial), seed=seed)
    members, strangers, reference = (
        cast("Events", cast("object", part)) for part in (who.members, who.strangers, who.reference)
    )
    rng = generator(seed, NAME)
    targets = [_some(part, TARGETS, rng) for part in (members, strangers)]
    n = [part.n_subjects for part in targets]
    held = [_some(part, HELD, rng) for part in (trial.synthetic, reference)]
    asked = _joined(targets)
    found = _attacks(Side(asked), Side(held[0]), Side(held[1]), rng)
    member = np.repeat([True, False], n)
    first = np.concatenate([rng.permutation(size) % 2 == 0 for size in n])
    duels = {name: _duel(scores, member, ~first) for name, scores in found.items()}
    chosen = {name: roc.area(_duel(s, member, first), SURE) for name, s in found.items()}
    best = max(chosen, key=lambda name: (chosen[name][1][0], name))
    if min(np.sum(first & side) for side in (member, ~member)) < FEWEST:
        best, duels = (
            "domias",
            {name: _duel(s, member, first | ~first) for name, s in found.items()},
        )
    duel = duels[best]
    on = f"on {duel.members.size:,} members, {duel.strangers.size:,} strangers"
    note = f"attack '{best}' ({BY[best]}) {on}"
    value, interval = roc.area(duel)
    scores = [Score(f"{NAME}.auc", value, interval, note=note, curve=roc.curve(duel))]
    scores.append(Score(f"{NAME}.tpr_at_10", *roc.tpr_at(duel, 0.1)))
    scores.append(Score(f"{NAME}.tpr_at_1", *roc.tpr_at(duel, 0.01)))
    for name, one in duels.items():
        scores.append(Score(f"{NAME}.auc", *roc.area(one), group=f"attack={name}"))
    return tuple(scores)


def _some(events: Events, n: int, rng: np.random.Generator) -> Events:
    if events.n_subjects <= n:
        return events
    return events.take(np.sort(rng.permutation(events.subjects)[:n]))


def _joined(parts: list[Events]) -> Events:
    after, renumbered = 0, []
    for part in parts:
        renumbered.append(part.renumbered(after))
        after += part.n_subjects
    return Events.concatenate(renumbered)


def _duel(scores: Floats, member: NDArray[np.bool_], among: NDArray[np.bool_]) -> Duel:
    return Duel(scores[among & member], scores[among & ~member])


def _attacks(
    asked: Side, synthetic: Side, reference: Side, rng: np.random.Generator
) -> dict[str, Floats]:
    """Return every attack's score of every target, (targets,)."""
    found = _in_summaries(asked, synthetic, reference, rng)
    found["codes"] = _by_codes(asked, synthetic, reference)
    n = len(asked.events.schema) + 1
    found["pairs"] = _by_sets([_pairs(side, n) for side in (asked, synthetic, reference)])
    events = [(tokens(side.events), side.events.whose) for side in (asked, synthetic, reference)]
    sized = [(keys, whose, side.events.n_subjects) for (keys, whose), side in
             zip(events, (asked, synthetic, reference), strict=True)]  # fmt: skip
    found["events"] = _by_sets(sized)
    runs = [longest_runs(asked.events, side.events) for side in (synthetic, reference)]
    found["runs"] = runs[0] - runs[1]
    return found


def _in_summaries(
    asked: Side, synthetic: Side, reference: Side, rng: np.random.Generator
) -> dict[str, Floats]:
    """Return the attacks on one row a subject; what is fitted is fitted on what is held."""
    held = _joined([synthetic.events, reference.events])
    summed = plan(held)
    tables = [summed.of(side.events) for side in (asked, synthetic, reference)]
    sight = Sight.fit(tables[1], tables[2])
    target, here, there = (sight.rows(table) for table in tables)
    if not target.dense.shape[1]:
        none = np.zeros(target.n)
        return {"summaries": none, "domias": none}
    near = [
        np.log(np.maximum(closest(target, other)[0][:, :NEAREST], LEAST)).mean(axis=1)
        for other in (here, there)
    ]
    return {"summaries": near[1] - near[0], "domias": domias(target, here, there, rng)}


def _by_codes(asked: Side, synthetic: Side, reference: Side) -> Floats:
    share = np.asarray(reference.of_subjects.sum(axis=0)).ravel()
    weight = np.log((reference.events.n_subjects + 1) / (share + 1)) + 0.1
    sets = []
    for side in (asked, synthetic, reference):
        weighed = side.of_subjects.multiply(weight).tocsr()
        length = np.sqrt(np.asarray(weighed.power(2).sum(axis=1)).ravel())
        scale = sparse.diags(1 / np.where(length > 0, length, 1))
        sets.append((scale @ weighed).tocsr())
    return _largest(sets[0], sets[1]) - _largest(sets[0], sets[2])


def _largest(rows: sparse.csr_matrix, others: sparse.csr_matrix, tile: int = 500) -> Floats:
    """Return the largest cosine of each row with any other, (rows,)."""
    turned = others.T.tocsr()
    parts = [
        np.asarray((rows[i : i + tile] @ turned).max(axis=1).todense()).ravel()
        for i in range(0, rows.shape[0], tile)
    ]
    return np.concatenate([np.zeros(0), *parts])


Owned = tuple[NDArray[np.uint64], NDArray[np.int64], int]  # keys, whose each is, subjects


def _pairs(side: Side, n: int) -> Owned:
    """Return pairs of a code and the next one in the record."""
    events = side.events
    same = np.diff(events.whose) == 0
    code = events.code.astype(np.uint64)
    keys = code[:-1] * np.uint64(n) + code[1:]
    return keys[same], events.whose[1:][same], events.n_subjects


def _by_sets(parts: list[Owned]) -> Floats:
    """Return the mean over a target's keys of the log ratio of subjects who have them."""
    keys, whose, n = parts[0]
    unique, place = np.unique(keys, return_inverse=True)
    rates = []
    for other, owner, size in parts[1:]:
        at = np.searchsorted(unique, other)
        at = np.minimum(at, max(unique.size - 1, 0))
        there = unique[at] == other if unique.size else np.zeros(other.size, np.bool_)
        once = np.unique(at[there].astype(np.int64) * max(size, 1) + owner[there]) // max(size, 1)
        rates.append((np.bincount(once, minlength=unique.size) + 1) / (size + 1))
    ratio = np.log(rates[0] / rates[1])[place]
    once = np.unique(whose * max(unique.size, 1) + place, return_index=True)[1]
    total = np.bincount(whose[once], ratio[once], minlength=n)
    different = np.bincount(whose[once], minlength=n)
    return np.asarray(total / np.maximum(different, 1))
