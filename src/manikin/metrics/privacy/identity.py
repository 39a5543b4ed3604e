"""Identity disclosure: is somebody recognised by quasi-identifiers, and something new learned?

El Emam, Mosquera and Bass, "Evaluating Identity Disclosure Risk in Fully Synthetic Health Data",
J. Med. Internet Res. 2020 ("meaningful identity disclosure"). A real person's risk is I R / f:
I   1 where a synthetic row has the person's quasi-identifiers as written (one such row is drawn)
R   1 where that row teaches something: of the sensitive columns (the role, or else all others) at
    least one, and at least 5 %, reads as the person's does, with a value that fewer than half of
    the training subjects hold
f   subjects with these quasi-identifiers in the training data: the size of the equivalence class
mean    over all training subjects, and over those of each level of a sensitive column
max     the mean within the most exposed classes: of 1, of 2 to 10, or of 11 and more subjects
excess  mean risk of members minus that of as many held-out strangers, each with the class sizes of
        their own part: what having been in the training data adds
Differs from the paper in: the population is taken to be the training data itself (sampling fraction
1, which is conservative, because its size is in no schema), so that the two directions of the
attack are one; no discount for errors in data or for matches that cannot be verified; a number is
close within 5 % of its interquartile range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.metrics.intervals import Floats, binomial, difference
from manikin.metrics.privacy._groups import strata
from manikin.metrics.privacy._known import equally_many, quasi_identifiers, tolerance
from manikin.metrics.privacy._success import by_subject
from manikin.metrics.protocol import FEWEST
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Codes, row_keys
from manikin.privacy.cells import SMALLEST_CELL

__all__ = ["identity"]

CARD = Card(
    title="Identity disclosure",
    family="privacy",
    better="lower",
    reads="The chance that a person in the training data is matched by quasi-identifiers to a "
    "synthetic row that teaches something right about them; `max` speaks of the most exposed "
    "persons. 0.09 is commonly cited as the limit for public release. It counts matches that occur "
    "by chance too (`excess` does not), takes everybody in the population to be in the data, and "
    "holds for the quasi-identifiers that were declared, not for others.",
    profile="quick",
)
SAMPLING_FRACTION = 1.0  # share of the population that is in the training data: conservative
LEARNED = 0.05  # of the sensitive columns
COMMON = 0.5  # a value that this share holds is nothing new
CLASSES = ((1, 1, "class=1"), (2, SMALLEST_CELL - 1, f"class=2-{SMALLEST_CELL - 1}"),
           (SMALLEST_CELL, None, f"class={SMALLEST_CELL}+"))  # fmt: skip


def identity(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Match members by quasi-identifiers and see what the match teaches."""
    names = [f"privacy/identity.{what}" for what in ("mean", "max", "excess")]
    known = quasi_identifiers(trial.train.schema)
    if not known:
        why = "not assessable: declare quasi-identifiers"
        return tuple(not_estimable(name, why) for name in names)
    if not all(part.n_rows for part in (trial.train, trial.holdout, trial.synthetic)):
        return tuple(not_estimable(name, "no rows to compare") for name in names)
    sensitive = tuple(c.name for c in trial.train.schema.holders("sensitive") if c.is_learned)
    others = (c.name for c in trial.train.schema.learned if c.name not in known)
    secrets = tuple(n for n in sensitive if n not in known) or tuple(others)
    if not secrets:
        why = "not assessable: every column is a quasi-identifier, nothing is left to learn"
        return tuple(not_estimable(name, why) for name in names)
    attack = _Attack(trial.synthetic, trial.train, known, secrets)
    rng = generator(seed, "privacy/identity")
    risk, size = attack.risks(trial.train, rng)
    classes = []
    for low, high, group in CLASSES:
        inside = (size >= low) & (size <= (high or math.inf))
        if inside.sum() >= FEWEST:
            classes.append(_mean(names[0], risk[inside], group))
    everyone = _mean(names[0], risk, "all")
    excess = _excess(names[2], attack, trial, rng)
    by_level = [
        _mean(names[0], risk[inside], group)
        for group, (inside, _) in strata(trial.train, trial.holdout)
        if group not in {score.group for score in classes}  # of a column that is called "class"
    ]
    return (everyone, *classes, *by_level, _highest(names[1], classes), excess)


@dataclass(frozen=True)
class _Attack:
    """Matching by some columns to learn others."""

    synthetic: Table
    train: Table
    known: tuple[str, ...]
    secrets: tuple[str, ...]

    def risks(self, table: Table, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return each subject's risk and the size of their equivalence class, (subjects,).

        Both are means over the subject's rows.
        """
        keys = row_keys(table, self.known)
        size = class_sizes(keys, table.subjects)
        told = np.sort(row_keys(self.synthetic, self.known))
        order = np.argsort(row_keys(self.synthetic, self.known), kind="stable")
        first, end = (np.searchsorted(told, keys, side=side) for side in ("left", "right"))
        drawn = first + np.floor(rng.random(keys.size) * (end - first)).astype(np.int64)
        match = order[np.minimum(drawn, told.size - 1)]
        learned = np.where(end > first, self._learned(table, match), False)
        risk = SAMPLING_FRACTION * learned / size
        everyone = np.unique(table.subjects)
        return (
            by_subject(risk, table.subjects, everyone),
            by_subject(size, table.subjects, everyone),
        )

    def _learned(self, table: Table, match: Codes) -> Floats:
        """Return whether each row's match teaches enough, (rows,)."""
        taught = np.zeros(table.n_rows)
        for name in self.secrets:
            column = self.train.schema[name]
            truth, guess = table.numbers(name), self.synthetic.numbers(name)[match]
            close = tolerance(self.train, column)
            held = np.sort(self.train.numbers(name))
            held = held[np.isfinite(held)]
            alike = np.searchsorted(held, truth + close, side="right")
            alike = alike - np.searchsorted(held, truth - close)
            new = alike < COMMON * self.train.n_rows
            taught += (np.abs(guess - truth) <= close) & new
        return np.asarray(taught >= max(1.0, LEARNED * len(self.secrets)), dtype=np.float64)


def class_sizes(keys: np.ndarray, subjects: Codes) -> Floats:
    """Return how many subjects hold each row's key, (rows,): the definition, and no clustering."""
    _, of = np.unique(keys, return_inverse=True)
    _, who = np.unique(subjects, return_inverse=True)
    n_subjects = int(who.max(initial=0)) + 1
    pairs = np.unique(of.astype(np.int64) * n_subjects + who)
    return np.bincount(pairs // n_subjects)[of].astype(np.float64)


def _mean(metric: str, risk: Floats, group: str) -> Score:
    if risk.size < FEWEST:
        why = f"not assessable: fewer than {FEWEST} subjects"
        return not_estimable(metric, why, group)
    low, high = binomial(float(risk.sum()), risk.size)
    value = float(risk.mean())
    return Score(metric, value, (min(low, value), max(high, value)), group=group)


def _highest(metric: str, classes: list[Score]) -> Score:
    """Return the risk of the class size where it is highest."""
    if not classes:
        return not_estimable(metric, f"not assessable: no class size with {FEWEST} subjects")
    top = max(classes, key=lambda score: score.value)
    return Score(metric, top.value, top.interval, note=f"subjects of {top.group}")


def _excess(metric: str, attack: _Attack, trial: Trial[Table], rng: np.random.Generator) -> Score:
    found = []
    for part in equally_many(trial.train, trial.holdout, rng):
        risk, _ = attack.risks(part, rng)
        if risk.size < FEWEST:
            return not_estimable(metric, f"not assessable: fewer than {FEWEST} subjects on a side")
        found.append((float(risk.mean()), binomial(float(risk.sum()), risk.size)))
    (one, of_one), (other, of_other) = found
    low, high = difference(one, of_one, other, of_other)
    return Score(metric, one - other, (min(low, one - other), max(high, one - other)))
