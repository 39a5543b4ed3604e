"""Histories under a privacy budget: what engines that count them share.

The unit is the subject: neighbours differ by one subject, added or removed, with its static facts
and every event. A subject's visits are bounded at random before anything is summed; what a subject
adds to a sum is one vector, shortened to a public length, so that sums over all subjects change by
that length at most. Codes, levels and bounds of numbers are those of a declared schema.

Reference  Bun and Steinke, TCC 2016 (zCDP: prices add up, Lemma 2.3); clipped sums: Abadi et al.,
           CCS 2016, §3.1; bounded contributions: Wilson et al., PoPETs 2020(2), §4
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from manikin.data.events import Events
from manikin.data.table import Table
from manikin.errors import InputError, PrivacyError
from manikin.privacy import ledger as ledgers
from manikin.privacy.account import Account, measuring
from manikin.privacy.accountant import rho_of, spent, zcdp_epsilon
from manikin.privacy.budget import Budget
from manikin.privacy.domain import left_open
from manikin.privacy.ledger import Keys, Release
from manikin.privacy.rows import at_most, paid
from manikin.synthesizer import Model, Synthesizer, Watch

__all__ = ["Behind", "Paid", "Purse", "check", "counted", "facts_first", "shortened", "summed",
           "thinned"]  # fmt: skip

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Private = TypeVar("Private")

UNIT = 2.0**20  # of clipped sums: a public length of 1 is so many whole numbers
BLOCK = 4_000_000  # numbers that are shortened at a time
NAMED = 8  # missing declarations that an error names


# ------------------------------------------------------------------ what must be public


def check(data: Events, table: Synthesizer[Table], method: str, name: str) -> None:
    """Raise PrivacyError where something would be read of the rows that nobody paid for.

    `name` is that of the `table` synthesizer, `method` that of the engine of histories.
    """
    if not isinstance(data, Events):
        raise InputError(
            f"no histories were given to '{method}'", "events over time",
            "read them by a door of histories, or choose another synthesizer",
        )  # fmt: skip
    schema = data.schema
    if not (schema.declared and schema.static.declared):
        raise PrivacyError(
            f"a schema of histories that was inferred from the rows, and a budget for '{method}'",
            "codes, levels, bounds and static columns that are declared",
            "write them down: manikin schema DATA > schema.yaml, correct, give it with --schema",
        )
    codes = [code.name for code in schema.codes if code.numeric and _open(code)]
    columns = [column.name for column in left_open(schema.static)]
    if codes or columns:
        parts = [f"numbers of {_listed(codes)} without bounds"] * bool(codes)
        parts += [f"static columns {_listed(columns)} without range or levels"] * bool(columns)
        raise PrivacyError(
            f"a declared schema that leaves open: {'; '.join(parts)}",
            "a minimum below a maximum for every number, levels for every static column",
            "declare them from what is known of the instrument or the form, not from the data",
        )
    if not schema.codes:
        raise PrivacyError(
            "a declared schema without codes", "the codes that events may bear", "declare them"
        )
    if not (getattr(table, "takes_budget", False) or getattr(table, "needs_budget", False)):
        raise PrivacyError(
            f"static facts by '{name}', and a budget", "a table synthesizer that honours one",
            "name it: --set table=table/mst",
        )  # fmt: skip


def _open(code: Any) -> bool:
    low, high = code.minimum, code.maximum
    return low is None or high is None or not low < high


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:NAMED]) + more


# ------------------------------------------------------------------ what is private


@dataclass(frozen=True, repr=False, eq=False)
class Behind(Generic[Private]):
    """Something private, which is handed out only while a release is computed."""

    _kept: Private

    @property
    def it(self) -> Private:
        """The thing itself. Raises PrivacyError unless it is read for a release."""
        return paid(self._kept)

    def __repr__(self) -> str:
        return "Behind()"


def thinned(whose: Ints, most: int) -> Ints:
    """Return which rows (visits) of each subject count, ascending: `most`, by secret chance.

    A subject's choice depends on no other subject, so that neighbours stay neighbours.
    """
    return at_most(np.asarray(whose, np.int64), most)


# ------------------------------------------------------------------ clipped sums


def summed(
    account: Account, vectors: Floats, *, norm: float, rho: float, what: str
) -> tuple[Floats, float]:
    """Return the noisy sum of subjects' vectors, (subjects, width), and its noise's deviation.

    Sensitivity: a vector longer than `norm` is shortened to it, and its numbers are cut towards
    nought to whole units, so that it stays as short; a subject more or less changes the sum by its
    own vector alone. So the L2 sensitivity is `norm`. What is not finite counts as nought.
    """
    with measuring():
        exact = np.zeros(vectors.shape[1], np.int64)
        size = max(1, BLOCK // max(1, vectors.shape[1]))
        for at in range(0, len(vectors), size):
            own = np.asarray(vectors[at : at + size], np.float64)
            own = np.where(np.isfinite(own), own, 0.0)
            exact += whole(own, norm).sum(0)
        noisy = account.sums(exact, sensitivity=UNIT, rho=rho, what=what)
    return noisy / UNIT * norm, norm / math.sqrt(2 * rho)


def whole(vectors: Floats, norm: float) -> NDArray[np.int64]:
    """Return vectors in whole units, none of them longer than `UNIT`, which stands for `norm`."""
    most = np.abs(vectors).max(1, initial=0.0, keepdims=True)
    safe = np.maximum(most, 1e-300)
    length = safe * np.sqrt(((vectors / safe) ** 2).sum(1, keepdims=True))
    scale = (1 - 1e-9) * UNIT / np.maximum(length, norm)
    found: NDArray[np.int64] = np.trunc(vectors * scale).astype(np.int64)
    return found


def counted(
    account: Account, whose: Ints, cell: Ints, weight: Floats, n_cells: int, *, norm: float,
    rho: float, what: str,
) -> tuple[Floats, float]:  # fmt: skip
    """Return noisy weighted counts by cell, (cells,), and their noise's deviation.

    `whose`, `cell` and `weight` are one a thing that is counted. Sensitivity: a subject's things
    make one vector of cells, shortened to `norm` as in `summed`; so it is `norm` (L2).
    """
    with measuring():
        exact = _cells(np.asarray(whose, np.int64), np.asarray(cell, np.int64),
                       np.asarray(weight, np.float64), n_cells, norm)  # fmt: skip
        noisy = account.sums(exact, sensitivity=UNIT, rho=rho, what=what)
    return noisy / UNIT * norm, norm / math.sqrt(2 * rho)


def shortened(
    whose: Ints, cell: Ints, weight: Floats, n_cells: int, *, norm: float
) -> Floats:  # fmt: skip
    """Return what `counted` would, of drawn subjects, without noise: shortened in the same way."""
    return np.asarray(_cells(whose, cell, weight, n_cells, norm) / UNIT * norm)


def _cells(whose: Ints, cell: Ints, weight: Floats, n_cells: int, norm: float) -> NDArray[np.int64]:
    """Return sums of subjects' vectors in whole units, from the cells where they are not nought."""
    kept = np.isfinite(weight)
    key, at = np.unique(whose[kept] * n_cells + cell[kept], return_inverse=True)
    value = np.bincount(at.ravel(), weight[kept], minlength=key.size)
    subjects, of = np.unique(key // max(1, n_cells), return_inverse=True)
    length = np.sqrt(np.bincount(of.ravel(), value**2, minlength=subjects.size))
    scale = (1 - 1e-9) * UNIT / np.maximum(length, norm)
    units = np.trunc(value * scale[of.ravel()]).astype(np.int64)
    exact = np.zeros(n_cells, np.int64)
    np.add.at(exact, key % max(1, n_cells), units)
    return exact


# ------------------------------------------------------------------ money


@dataclass(frozen=True)
class Purse:
    """What static facts left of a budget."""

    budget: Budget
    before: tuple[Release, ...]  # beside the account; empty where the account knows of them
    account: Account

    def ledger(self) -> tuple[Release, ...]:
        """Return everything that was bought. Raises PrivacyError if it exceeds the budget."""
        every = (*self.before, *self.account.ledger())
        found = spent(every, self.budget.delta).epsilon
        if found > self.budget.epsilon * (1 + 1e-6):
            raise PrivacyError(
                f"releases that come to ε = {found:.6g}", f"ε = {self.budget.epsilon:g} at most",
                "do not release the model; report this with the ledger",
            )  # fmt: skip
        return every


def facts_first(
    recipe: Synthesizer[Table], flat: Table, budget: Budget, *, share: float, seed: int,
    watch: Watch,
) -> tuple[Model[Table], Purse]:  # fmt: skip
    """Fit static facts, one row a subject, by a share of a budget; return what is left of it.

    Counts add up in zCDP: the rest is what all of the budget buys less what they cost. Trainings on
    samples have no price there: two budgets are made that add up (Dwork and Roth 2014, 3.16).
    """
    if getattr(recipe, "needs_budget", False):
        whole = Account(budget)
        used = sum(map(rho_of, budget.spent))
        delta = budget.delta - sum(one.delta for one in budget.spent if isinstance(one, Keys))
        first = Budget(min(budget.epsilon, zcdp_epsilon(used + share * whole.rho, delta)),
                       budget.delta, budget.spent)  # fmt: skip
        model = recipe.fit(flat, seed=seed, budget=first, watch=watch)
        rest = Budget(budget.epsilon, budget.delta, model.ledger)
        return model, Purse(budget, (), Account(rest))
    first = Budget(share * budget.epsilon, budget.delta / 2, budget.spent)
    model = recipe.fit(flat, seed=seed, budget=first, watch=watch)
    rest = Budget((1 - share) * budget.epsilon, budget.delta / 2)
    return model, Purse(budget, model.ledger, Account(rest))


# ------------------------------------------------------------------ what a model keeps of it


@dataclass(frozen=True)
class Paid:
    """Every release that a model was made of, and the number of subjects bought with them."""

    releases: tuple[Release, ...]
    subjects: float  # as noisy counts have it
    most_rows: int  # visits of a subject that counted

    def values(self) -> dict[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        ledger = ledgers.to_json(self.releases)
        return {"subjects": self.subjects, "most_rows": self.most_rows, "ledger": ledger}

    @staticmethod
    def restore(values: Mapping[str, Any]) -> Paid | None:
        """Rebuild it from a model's values; None where nothing was paid. Raises InputError."""
        if "ledger" not in values:
            return None
        n, most = values.get("subjects"), values.get("most_rows")
        if type(n) is not float or not 1 <= n < 2**53 or type(most) is not int or most < 1:
            raise InputError(
                "a private model without a number of subjects and of visits that counted",
                "both, more than nought", "use a model file that this method wrote",
            )  # fmt: skip
        return Paid(ledgers.from_json(values["ledger"]), n, most)
