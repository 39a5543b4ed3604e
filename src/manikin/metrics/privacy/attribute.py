"""Attribute inference: does the synthetic table tell a person's secrets to who knows the rest?

Four attackers, each given everything but one column of a target (its quasi-identifiers, where the
schema declares any), each tried on training subjects and on held-out strangers alike:
learner         fully grown extremely randomised trees (Geurts et al., Machine Learning 2006) fitted
                on synthetic rows: they generalise, and they repeat whatever row they hold
cap             the share of synthetic rows with the target's very key that hold its value, 0 where
                there is none (correct attribution probability: Taub, Elliot et al., PSD 2018)
disco           as cap, counted only where all rows with that key agree (disclosive in the synthetic
                data, correct in the original: Raab, Nowok and Dibben, 2024)
reconstruction  a bit of the secret (one of two values, the commonest level or not, above the middle
                or not) solved for from the synthetic marginals (Annamalai et al., USENIX Security
                2024): `_reconstruction.py`
A guess of a number is a hit within 5 % of the training interquartile range on either side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manikin.data.randomness import generator
from manikin.data.schema import Column
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.privacy._groups import Mask, strata, vulnerable
from manikin.metrics.privacy._known import column_group, given, ranked, sought, tolerance
from manikin.metrics.privacy._reconstruction import reconstruct
from manikin.metrics.privacy._success import Success, by_subject, rate, residual, worst
from manikin.metrics.score import Card, Score, Trial, not_estimable
from manikin.metrics.spaces import Space, row_keys, subsample

__all__ = ["attribute"]

CARD = Card(
    title="Attribute inference",
    family="privacy",
    better="lower",
    reads="How much better an attacker who knows the rest of a person's row guesses a sensitive "
    "value of persons in the training data than of strangers, as a share of what chance leaves; "
    "0 or below is no more. It names the strongest of the attacks tried here, which is no bound on "
    "others; what can be guessed of anybody (`success`) is knowledge, but may still harm.",
)
TARGETS = 4_000  # rows a side that the learner guesses
ROWS = 18_000  # that the learners of all columns are fitted on, together
MOST_ROWS = 10_000  # for one column
TREES = 8
CLASSES = 30  # the commonest; the learner guesses no others, cap does


def attribute(trial: Trial[Table], *, seed: int) -> tuple[Score, ...]:
    """Guess sensitive columns of members and of strangers from the synthetic rows."""
    columns = sought(trial.train)
    name = "privacy/attribute"
    if not all(part.n_rows for part in (trial.train, trial.holdout, trial.synthetic)):
        return (not_estimable(f"{name}.residual", "no rows to compare"),)
    columns = tuple(c for c in columns if given(trial.train.schema, c.name))
    if not columns:
        why = "not assessable: no column to guess, or none to guess it from"
        return (not_estimable(f"{name}.residual", why),)
    rng = generator(seed, name)
    parts = trial.train, trial.holdout
    targets = subsample(parts[0], TARGETS, rng), subsample(parts[1], TARGETS, rng)
    attacks: dict[tuple[str, str], Success] = {}
    n_rows = min(MOST_ROWS, max(500, ROWS // len(columns)))
    for column in columns:
        group, guess = column_group(column), _Guess.of(trial, column)
        cap = guess.attributed()
        attacks["learner", group] = guess.learner(targets, n_rows, rng)
        attacks["cap", group] = cap
        attacks["disco", group] = Success(_unanimous(cap.members), _unanimous(cap.strangers))
        solved = guess.reconstruction(len(columns), rng)
        if solved is not None:
            attacks["reconstruction", group] = solved
    groups = {"vulnerable": _vulnerable(trial, targets, rng), **dict(strata(*parts))}
    scores = [*worst(f"{name}.residual", attacks, rng, groups=groups)]
    for (attack, group), success in attacks.items():
        scores.append(residual(f"{name}.{attack}", success, group))
        if attack == "learner":
            scores.append(_absolute(f"{name}.success", success, group))
    return tuple(scores)


def _vulnerable(
    trial: Trial[Table], targets: tuple[Table, Table], rng: np.random.Generator
) -> tuple[Mask, Mask]:
    """Return who has one of the most vulnerable rows among the targets, (subjects,) each."""
    parts = trial.train, trial.holdout
    space = Space.fit(subsample(trial.synthetic, MOST_ROWS, rng))
    rows = vulnerable(targets, parts, space, rng)
    one, other = (
        np.isin(np.unique(part.subjects), table.subjects[far])
        for part, table, far in zip(parts, targets, rows, strict=True)
    )
    return one, other


def _absolute(metric: str, success: Success, group: str) -> Score:
    """Return how often the learner is right about members, whatever the reason."""
    value, interval, n = rate(success.members)
    if not n:
        return not_estimable(metric, "nobody has a value to guess", group)
    return Score(metric, value, interval, group=group, note=f"of {n} members; its null is no zero")


def _unanimous(shares: Floats) -> Floats:
    return np.where(np.isfinite(shares), (shares >= 1).astype(np.float64), np.nan)


@dataclass(frozen=True)
class _Guess:
    """One column to guess, from which others, and how far off is a hit."""

    trial: Trial[Table]
    column: Column
    given: tuple[str, ...]
    tolerance: float

    @staticmethod
    def of(trial: Trial[Table], column: Column) -> _Guess:
        known = given(trial.train.schema, column.name)
        return _Guess(trial, column, known, tolerance(trial.train, column))

    def right(self, guesses: Floats, table: Table) -> Floats:
        """Return 1 for a hit, 0 for none, NaN where there is no value to guess, (rows,)."""
        truth = table.numbers(self.column.name)
        hit = np.abs(guesses - truth) <= self.tolerance
        return np.where(np.isfinite(truth), hit.astype(np.float64), np.nan)

    # ── Learner ────────────────────────────────────────────────────────────────────────────────

    def learner(
        self, targets: tuple[Table, Table], n_rows: int, rng: np.random.Generator
    ) -> Success:
        """Guess the targets with trees that were fitted on at most `n_rows` synthetic rows."""
        told = self.trial.synthetic.rows(self.trial.synthetic.present(self.column.name))
        told = subsample(told, n_rows, rng)
        drawn = int(rng.integers(2**31))
        parts = self.trial.train, self.trial.holdout
        guesses = self.guesses(told, targets, drawn)
        one, other = (
            by_subject(self.right(guess, table), table.subjects, np.unique(part.subjects))
            for part, table, guess in zip(parts, targets, guesses, strict=True)
        )
        return Success(one, other)

    def guesses(self, told: Table, tables: tuple[Table, Table], seed: int) -> list[Floats]:
        """Return the guess for every row of the tables of trees fitted on `told`, (rows,) each."""
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        values = told.numbers(self.column.name)
        levels, classes, counts = np.unique(values, return_inverse=True, return_counts=True)
        if levels.size < 2:  # one value, or none at all: always that
            return [np.full(t.n_rows, levels[0] if levels.size else np.nan) for t in tables]
        known, *asked = (ranked(told, rows, self.given) for rows in (told, *tables))
        if self.column.is_coded or levels.size <= CLASSES:
            common = np.isin(classes, np.argsort(-counts, kind="stable")[:CLASSES])
            forest = ExtraTreesClassifier(TREES, random_state=seed)
            known, classes = known[common], classes[common]
            if 2 * levels.size > classes.size:  # scikit-learn doubts so many classes of so few
                known, classes = np.repeat(known, 2, axis=0), np.repeat(classes, 2)
            forest.fit(known, classes)
            return [np.asarray(levels[forest.predict(rows)], np.float64) for rows in asked]
        trees = ExtraTreesRegressor(TREES, max_features="sqrt", random_state=seed)
        trees.fit(known, values)
        return [np.asarray(trees.predict(rows), np.float64) for rows in asked]

    # ── Correct attribution ────────────────────────────────────────────────────────────────────

    def attributed(self) -> Success:
        """Return the correct attribution probability of every subject."""
        parts = (self.trial.train, self.trial.holdout)
        return Success(
            *(by_subject(self.shares(p), p.subjects, np.unique(p.subjects)) for p in parts)
        )

    def shares(self, table: Table) -> Floats:
        """Return the share of the synthetic rows of each row's key that hold its value, (rows,)."""
        name = self.column.name
        told = self.trial.synthetic.rows(self.trial.synthetic.present(name))
        keys, of = np.unique(row_keys(told, self.given), return_inverse=True)
        values = told.numbers(name)
        unique, place = np.unique(values, return_inverse=True)
        cells = np.sort(of * (unique.size + 1) + place)  # by key, then by value
        asked = row_keys(table, self.given)
        at = np.minimum(np.searchsorted(keys, asked), max(0, keys.size - 1))
        met = keys[at] == asked if keys.size else np.zeros(table.n_rows, np.bool_)
        truth = table.numbers(name)
        low = np.searchsorted(unique, truth - self.tolerance)
        high = np.searchsorted(unique, truth + self.tolerance, side="right")
        start = at * (unique.size + 1)
        right = np.searchsorted(cells, start + high) - np.searchsorted(cells, start + low)
        rows = np.bincount(of, minlength=max(1, keys.size))[at]
        found = np.where(met, right / np.maximum(rows, 1), 0.0)
        return np.where(np.isfinite(truth), found, np.nan)

    # ── Reconstruction ─────────────────────────────────────────────────────────────────────────

    def reconstruction(self, secrets: int, rng: np.random.Generator) -> Success | None:
        """Solve a bit of the column from synthetic marginals; None where it says nothing.

        The bit of two values is which one it is; of more levels, whether it is the commonest; of
        numbers, whether it is above the middle one: of the synthetic rows, as the attacker knows.
        """
        told = self.trial.synthetic.numbers(self.column.name)
        levels, counts = np.unique(told[np.isfinite(told)], return_counts=True)
        if levels.size < 2:
            return None
        numeric = levels.size > 2 and not self.column.is_coded
        middle = levels[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]
        commonest = levels[np.argmax(counts)]

        def bit(table: Table) -> Mask:
            values = table.numbers(self.column.name)
            return np.asarray(values > middle if numeric else values == commonest)

        name = self.column.name
        return reconstruct(self.trial, name, bit, self.given, rng, secrets=secrets)
