"""Groupwise: is some group of patients easier to find among the training subjects than others?

One attack, the same for all so that groups can be compared (DOMIAS: see `attacks/domias.py`), on
one row a subject of training subjects and strangers. For every group of the columns whose role is
sensitive or quasi-identifier:

auc      area under the ROC curve within the group
excess   that minus the area among everybody else, with Newcombe's interval of a difference

A generator that learns its rare groups by heart protects the average patient and not them (Kulynych
et al., PoPETs 2022). Planted leaks are left to `membership`, which attacks much harder.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.groups import groupings
from manikin.metrics.intervals import Floats, difference
from manikin.metrics.privacy.attacks import roc
from manikin.metrics.privacy.attacks.domias import domias
from manikin.metrics.privacy.attacks.roc import Duel
from manikin.metrics.privacy.attacks.rows import Sight
from manikin.metrics.protocol import FEWEST, parties
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import subsample
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["groupwise"]

CARD = Card(
    title="Membership inference by group",
    family="privacy",
    better="near ceiling",
    reads="Whether one attack finds the training subjects of some group better than those of "
    "others: auc within the group (0.5 is guessing), excess over everybody else's (0 is alike, "
    "above 0 the group is less protected). It compares groups and is no measure of how safe they "
    "are: for that see membership, whose attacks are stronger. Groups of fewer than 20 subjects a "
    "side are not assessed.",
)
TARGETS = 3_000  # subjects a side
SYNTHETIC, REFERENCE = 10_000, 4_000  # rows that neighbours are looked up in
NAMES = ("privacy/groupwise.auc", "privacy/groupwise.excess")


def groupwise(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Attack every group alike. Raises NotSupported with fewer than 20 subjects in a part."""
    found = groupings(trial.train)
    if not found:
        return ()
    if not trial.synthetic.n_rows:
        return (not_estimable(NAMES[0], "no synthetic rows"),)
    who = parties(trial, seed=seed)
    rng = generator(seed, "privacy/groupwise")
    held = subsample(trial.synthetic, SYNTHETIC, rng), subsample(who.reference, REFERENCE, rng)
    sight = Sight.fit(*held)
    members, strangers = (one_row_each(part, rng) for part in (who.members, who.strangers))
    targets = Table.concatenate([members, strangers])
    is_member = np.arange(targets.n_rows) < members.n_rows
    synthetic, reference = (sight.rows(part) for part in held)
    scored = np.nan_to_num(domias(sight.rows(targets), synthetic, reference, rng))
    scores: list[Score] = []
    for grouping in found:
        of_row = grouping.of(targets)
        for k, label in enumerate(grouping.labels):
            group = f"{grouping.column}={label}"
            scores += _compared(scored, is_member, of_row == k, group)
    return tuple(scores)


def one_row_each(table: Table, rng: np.random.Generator) -> Table:
    """Return a random row of each subject, of at most so many subjects."""
    order = rng.permutation(table.n_rows)
    first = order[np.unique(table.subjects[order], return_index=True)[1]]
    if first.size > TARGETS:
        first = rng.choice(first, TARGETS, replace=False)
    return table.rows(np.sort(first))


def _compared(
    scored: Floats, is_member: NDArray[np.bool_], inside: NDArray[np.bool_], group: str
) -> list[Score]:
    """Return the area within a group, and how much larger it is than outside."""
    one, rest = (
        Duel(scored[among & is_member], scored[among & ~is_member]) for among in (inside, ~inside)
    )
    if one.least < FEWEST:
        few = SMALLEST_CELL if one.least < SMALLEST_CELL else FEWEST
        why = f"not assessable: fewer than {few} subjects a side"
        return [not_estimable(name, why, group) for name in NAMES]
    value, interval = roc.area(one)
    scores = [Score(NAMES[0], value, interval, group=group)]
    if rest.least < FEWEST:
        why = f"not assessable: fewer than {FEWEST} other subjects a side"
        return [*scores, not_estimable(NAMES[1], why, group)]
    other, of_other = roc.area(rest)
    ends = difference(value, interval, other, of_other)
    return [*scores, Score(NAMES[1], value - other, ends, group=group)]
