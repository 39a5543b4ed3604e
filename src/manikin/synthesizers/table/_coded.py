"""From a distribution over rows of codes to a conditional model of tables.

The shared encoder turns a table into integer codes, (rows, columns), one finite set a column. A
method that can draw such rows, and complete rows of which some codes are known, is a `Joint`; all
else is the same for every such method and is here: rows per subject, columns that never change
within a subject, what is given coming back as it was, conditions as sets of allowed codes, declared
rules, and the model's file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._given as _given
from manikin.data.dataset import Dataset
from manikin.data.randomness import generator
from manikin.data.rules import Condition, IfThen, Rule
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.knowledge import conditions, constraints
from manikin.privacy.ledger import NonPrivate, Release
from manikin.synthesizer import State
from manikin.synthesizers.table._cells import FREQUENCIES
from manikin.synthesizers.table._paid import Paid
from manikin.synthesizers.table._subjects import RowCounts, settle, static_columns
from manikin.synthesizers.table._where import code_weights
from manikin.synthesizers.table.encoding import Encoding

__all__ = [
    "Allowed",
    "CodedModel",
    "Codes",
    "Joint",
    "Learnt",
    "check_possible",
    "learn",
    "only",
    "restore",
]

Codes: TypeAlias = NDArray[np.int32]  # (rows, columns); -1: not known
Allowed: TypeAlias = Mapping[int, NDArray[np.bool_]]  # column → (codes,) which may be drawn

BLOCK = 20_000  # rows completed at a time
ROUNDS = 30  # draws, each twice the last, before a condition is called too rare


class Joint(Protocol):
    """A distribution over rows of codes."""

    @property
    def name(self) -> str:
        """The method's name: what its random numbers are keyed by."""

    @property
    def released(self) -> tuple[str, ...]:
        """What was taken from the rows beside the columns' frequencies, for the ledger."""

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known (-1), given those that are, of the allowed ones.

        Known codes come back as they are. Raises ConditionError when nothing is possible.
        """

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""

    def values(self) -> Mapping[str, Any]:
        """Return the JSON values that it is rebuilt from."""


@dataclass(frozen=True)
class Learnt:
    """What every method learns first: the encoding, rows per subject, rules that the data keep."""

    encoding: Encoding
    codes: Codes  # of the training rows
    row_counts: RowCounts
    rules: tuple[Rule, ...]

    def model(self, joint: Joint) -> CodedModel:
        """Return the model of this distribution."""
        return CodedModel(self.encoding, joint, self.row_counts, self.rules)


def learn(data: Table, *, seed: int, k: int) -> Learnt:
    """Encode a table; values that fewer than `k` subjects share do not come back as they are."""
    rules = constraints.learn(data.schema.rules, data, least=k)
    encoding = Encoding.fit(data, seed=seed, k=k)
    codes = encoding.encode(data, seed=seed)
    return Learnt(encoding, codes, RowCounts.fit(data.subjects, k=k), rules)


def restore(schema: TableSchema, state: State, joint: Joint) -> CodedModel:
    """Rebuild a model from its state and its distribution."""
    counts = RowCounts(state.arrays["rows/sizes"], state.arrays["rows/subjects"])
    rules = constraints.rules_from_json(state.values["rules"], schema)
    paid = Paid.restore(state.values)
    return CodedModel(Encoding.restore(schema, state), joint, counts, rules, paid)


def saved(state: State) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and values of the distribution in a model's state."""
    arrays = {
        name.removeprefix("joint/"): array
        for name, array in state.arrays.items()
        if name.startswith("joint/")
    }
    return arrays, dict(state.values["joint"])


@dataclass(frozen=True)
class CodedModel:
    """A distribution over rows of codes, as a model of tables."""

    encoding: Encoding
    joint: Joint
    row_counts: RowCounts
    rules: tuple[Rule, ...]
    paid: Paid | None = None  # what it cost, where it was fitted under a privacy budget

    @property
    def schema(self) -> TableSchema:
        """Schema of what it generates."""
        return self.encoding.schema

    @property
    def ledger(self) -> tuple[Release, ...]:
        """What was paid for, or what was taken from the rows without formal protection."""
        if self.paid is not None:
            return self.paid.releases
        return tuple(NonPrivate(what) for what in (FREQUENCIES, *self.joint.released))

    @property
    def subjects(self) -> float | None:
        """How many subjects it was fitted on, as noisy counts have it; None without a budget."""
        return None if self.paid is None else self.paid.subjects

    @property
    def most_rows(self) -> int | None:
        """How many rows of a subject counted at most; None without a budget."""
        return None if self.paid is None else self.paid.most_rows

    @property
    def notes(self) -> tuple[str, ...]:
        """What the method has to say of how it was fitted."""
        own = tuple(self.joint.values().get("notes", ()))
        return own if self.paid is None else (*self.paid.notes(self.schema), *own)

    def sample(self, n: int, *, seed: int) -> Table:
        """Draw `n` new subjects."""
        if n < 0:
            raise InputError(f"{n} subjects asked for", "none or more", "ask for a positive number")
        return self._obeying(
            seed, self.rules, lambda m, attempt: self._draw(m, {}, seed, attempt), n
        )

    def sample_given(self, given: Dataset, *, seed: int) -> Table:
        """Draw one row for each given row, whose columns come back as they are."""
        if not isinstance(given, Table):
            raise InputError("what is given is no table", "a Table", "build one with Table(…)")
        rng = generator(seed, f"{self.joint.name} given")
        known = _given.known(self.encoding, given, rng)
        codes = self._complete(known.codes, {}, rng)
        table = self.encoding.decode(codes, given.subjects, seed=int(rng.integers(2**62)))
        table = _given.put_back(self.encoding, settle(table, self._static()), known)
        fixed = frozenset(known.table.columns)
        return constraints.enforce(table, self.rules, rng=rng, fixed=fixed)

    def sample_where(self, n: int, where: tuple[Condition, ...], *, seed: int) -> Table:
        """Draw `n` new subjects for whom every condition holds.

        Raises ConditionError when none can.
        """
        checked = tuple(conditions.check(condition, self.schema) for condition in where)
        wanted = IfThen((), checked)
        constraints.check_rules(self.schema, (*self.rules, wanted))
        weights = code_weights(checked, self.encoding)
        allowed = {j: weight > 0 for j, weight in weights.items()}

        def draw(m: int, attempt: int) -> Table:
            return self._draw_where(m, checked, allowed, seed, attempt)

        return self._obeying(seed, (*self.rules, wanted), draw, n)

    def state(self) -> State:
        """Return arrays and JSON values that the recipe's `restore` needs."""
        encoded = self.encoding.state()
        arrays = {f"joint/{name}": array for name, array in self.joint.arrays().items()}
        arrays |= {"rows/sizes": self.row_counts.sizes, "rows/subjects": self.row_counts.subjects}
        rules = constraints.rules_to_json(self.rules, self.schema)
        values = {"rules": rules, "joint": dict(self.joint.values())}
        values |= {} if self.paid is None else self.paid.values()
        return State({**encoded.arrays, **arrays}, {**encoded.values, **values})

    # ---------------------------------------------------------------- drawing

    def _draw(self, n: int, allowed: Allowed, seed: int, attempt: int) -> Table:
        rng = generator(seed, self.joint.name, attempt)
        subjects = self.row_counts.draw(n, rng)
        width = len(self.encoding.names)
        if allowed:
            codes = self._complete(np.full((n, width), -1, np.int32), allowed, rng)
        else:
            codes = self.joint.draw(n, rng)
        if not self.row_counts.single:
            codes = self._further(codes, subjects, allowed, rng)
        table = self.encoding.decode(codes, subjects, seed=int(rng.integers(2**62)))
        return settle(table, self._static())

    def _further(
        self, first: Codes, subjects: NDArray[np.int64], allowed: Allowed, rng: np.random.Generator
    ) -> Codes:
        """Return the codes of all rows: the first of each subject, the others given what lasts."""
        codes = first[subjects]
        later = np.flatnonzero(np.diff(subjects, prepend=-1) == 0)
        lasting = np.array(self.encoding.static, bool)
        open_codes = np.where(lasting, codes[later], np.int32(-1)).astype(np.int32)
        codes[later] = self._complete(open_codes, allowed, rng)
        return codes

    def _complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        parts = [
            self.joint.complete(codes[start : start + BLOCK], allowed, rng)
            for start in range(0, len(codes), BLOCK)
        ]
        return np.concatenate(parts) if parts else codes

    def _draw_where(
        self, n: int, where: tuple[Condition, ...], allowed: Allowed, seed: int, attempt: int
    ) -> Table:
        """Draw from the allowed codes until `n` subjects satisfy what codes alone cannot tell."""
        found = [self._draw(0, {}, seed, attempt)]
        missing, tried, size = n, 0, max(n, 100)
        while missing and tried < ROUNDS:
            fresh = self._draw(size, allowed, seed, ROUNDS * (1 + attempt) + tried)
            wrong = fresh.subjects[~conditions.all_hold(where, fresh)]
            right = np.setdiff1d(np.arange(size), wrong)[:missing]
            chosen = fresh.take(right)
            number = n - missing + np.searchsorted(right, chosen.subjects)
            found.append(dataclasses.replace(chosen, subjects=number))
            missing, tried = missing - right.size, tried + 1
            needed = missing * size // max(right.size, 1) + missing // 4 + 100
            size = min(2 * size, needed, 50_000)
        if missing:
            raise ConditionError(
                f"only {n - missing} subjects satisfied the conditions",
                "conditions that a fair share of subjects can satisfy",
                "loosen the conditions, or ask for fewer subjects",
            )
        return Table.concatenate(found)

    def _obeying(
        self, seed: int, rules: tuple[Rule, ...], draw: constraints.Redraw, n: int
    ) -> Table:
        return constraints.enforce(
            draw(n, 0),
            rules,
            rng=generator(seed, f"{self.joint.name} rules"),
            redraw=lambda m, attempt: draw(m, 1 + attempt),
            static=self._static(),
        )

    def _static(self) -> frozenset[str]:
        return frozenset() if self.row_counts.single else static_columns(self.encoding)


def check_possible(allowed: Allowed) -> None:
    """Raise ConditionError where no code of a column is allowed."""
    if not all(mask.any() for mask in allowed.values()):
        raise ConditionError("no value is possible", "one or more", "loosen a condition")


def only(codes: Codes, allowed: Allowed) -> tuple[Codes, Allowed]:
    """Return codes of which those that alone are allowed are known, and what else is allowed.

    For methods to which a known code is easier than a set of one; not for those that look how
    probable what is allowed was, to say that it is too rare.
    """
    only = {j: int(mask.argmax()) for j, mask in allowed.items() if mask.sum() == 1}
    codes = codes.copy() if only else codes
    for j, code in only.items():
        codes[:, j] = np.where(codes[:, j] < 0, code, codes[:, j])
    return codes, {j: mask for j, mask in allowed.items() if j not in only}
