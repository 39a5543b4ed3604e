"""What marginal-based methods under a privacy budget share: the frame around choosing marginals.

Public codes of every column, rows bounded by subject, columns divided where noisy counts say that
rows are, a first measurement of every column by itself; and at the end the model whose joint
distribution is the graphical model of all that was measured. No row is read but through `Rows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._net_tables as net
import manikin.synthesizers.table._zeros as structural
from manikin.data.schema import TableSchema
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.privacy.account import Account, measuring
from manikin.privacy.budget import Budget
from manikin.privacy.rows import Groups, Rows, at_most, grouped
from manikin.synthesizer import State, Watch, report
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes
from manikin.synthesizers.table._net_bins import Bins
from manikin.synthesizers.table._net_search import MAX_CLIQUE, Parents
from manikin.synthesizers.table._paid import Paid
from manikin.synthesizers.table._pgm import Fitted, Measured, Zeros
from manikin.synthesizers.table._private_bins import counted, divided
from manikin.synthesizers.table._public import public_encoding
from manikin.synthesizers.table._subjects import RowCounts
from manikin.synthesizers.table.encoding import Encoding

__all__ = [
    "CLEAR",
    "NOISE",
    "Prepared",
    "coarser",
    "count",
    "finish",
    "once_more",
    "outcome",
    "outcome_pairs",
    "prepare",
    "restore",
    "singles",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

NOISE = math.sqrt(2 / math.pi)  # expected absolute value of standard normal noise
LEGIBLE = 0.25  # of all rows: what noise in the cells of one count may add up to, about
CLEAR = 20.0  # rows by the noise's deviation from which pairs are worth choosing
FAINT = 8.0  # ... and from which pairs with an outcome are worth counting
OUTCOME = 0.5  # share of the budget for pairs that goes to those with the outcome
CELLS = 10  # of a column of more: what it is taken to be divided into
POWER = 2 / 3
SLIPS = 0.05  # share of subjects in whom a column may change and still count as lasting
CHANGES = 0.3  # share in whom it does change, for whatever noise says
SOFT = 1e-9  # chance of what cannot be, where a given row says that it is
SUBJECTS = 0.03  # share of the budget for rows per subject and for what lasts, if there are several


@dataclass(frozen=True)
class Prepared:
    """Public and paid-for facts, and the rows behind their guard."""

    encoding: Encoding
    bins: tuple[Bins, ...]
    rows: Rows  # coded by bins
    measured: tuple[Measured, ...]  # of every column by itself
    zeros: tuple[Zeros, ...]  # what declared rules leave of several columns' bins
    row_counts: RowCounts
    account: Account


def prepare(
    data: Table,
    budget: Budget,
    *,
    bins: int,
    most_rows: int,
    share: float,
    only: bool = True,
) -> Prepared:
    """Encode by public facts, bound each subject's rows, divide columns and count them singly.

    `share` of the budget goes to counting every column by itself, once. Where counts are the
    `only` thing to be bought, it is all of it if there is one column, and levels that noise hides
    are joined.
    """
    encoding = public_encoding(data.schema)
    structural.check(encoding)
    account = Account(budget)
    with measuring():
        kept = data.rows(at_most(np.asarray(data.subjects), most_rows))
        codes = encoding.encode(kept, seed=0)
        subjects = np.asarray(kept.subjects)
    rows = Rows(codes, subjects, tuple(int(s) for s in encoding.sizes), most_rows, account)
    counts, lasting = _per_subject(rows, encoding) if most_rows > 1 else (_single(), frozenset())
    encoding = public_encoding(data.schema, lasting)
    width = len(encoding.names)
    money = (1.0 if only and width == 1 else share) * account.left
    own, measured = _divided(rows, encoding, bins, money, merging=only)
    own, zeros = structural.of_rules(encoding, list(own))
    coarse = rows.coarser([b.of for b in own])
    return Prepared(encoding, own, coarse, measured, zeros, counts, account)


def tell(prepared: Prepared, watch: Watch) -> None:
    """Report how many rows count, and the noise of one count: what single columns were paid for."""
    precision = sum(1 / one.deviation**2 for one in prepared.measured)
    noise = math.sqrt(len(prepared.bins) / precision)  # were the budget shared evenly
    rows = counted(prepared.measured)
    report(watch, 0, None, "fitting single columns", rows=rows, noise=noise)


def finish(prepared: Prepared, fitted: Fitted, name: str) -> CodedModel:
    """Return the model of a fitted distribution, with what was paid for it."""
    parents, tables = fitted.network()
    joint = Noisy(name, prepared.bins, parents, tables)
    rules = prepared.encoding.schema.rules
    counts = prepared.row_counts
    subjects = fitted.total / float(np.average(counts.sizes, weights=counts.subjects))
    paid = Paid(prepared.account.ledger(), max(1.0, subjects), prepared.rows.most_rows)
    return CodedModel(prepared.encoding, joint, counts, rules, paid)


def _divided(
    rows: Rows, encoding: Encoding, most: int, rho: float, *, merging: bool
) -> tuple[tuple[Bins, ...], tuple[Measured, ...]]:
    """Return the bins of every column and their noisy counts: levels first, as they tell of rows.

    A column's share of the budget grows with its cells k as k^(2/3), by which the sum over columns
    of the errors k / sqrt(rho) that noise makes is least.
    """
    cells = encoding.cells
    wide = np.minimum([float(size) for size in encoding.sizes], CELLS) ** POWER
    bins: dict[int, Bins] = {}
    measured: list[Measured] = []
    for j in sorted(range(len(cells)), key=lambda j: (encoding.sizes[j], j)):
        own = rho * float(wide[j] / wide.sum())
        bins[j], found = divided(
            rows, j, cells[j].n_tokens, cells[j].ordered, most, own, encoding.names[j],
            counted(measured), merging=merging,
        )  # fmt: skip
        measured += found
    return tuple(bins[j] for j in range(len(cells))), tuple(measured)


def _single() -> RowCounts:
    return RowCounts(np.ones(1, np.int64), np.ones(1, np.int64))


def _per_subject(rows: Rows, encoding: Encoding) -> tuple[RowCounts, frozenset[str]]:
    """Return how many rows subjects have, and the columns that last within a subject."""
    price = SUBJECTS / 2 * rows.account.rho
    held = np.maximum(rows.rows_a_subject(rho=price, what="rows per subject"), 0)
    if not held.any():
        held[0] = 1
    sizes = np.flatnonzero(held) + 1
    several, *changing = rows.changes(rho=price, what="columns that change within subjects")
    deviation = np.sqrt(1 + len(rows.sizes)) / np.sqrt(2 * price)
    most = min(max(SLIPS * several, 2 * deviation), CHANGES * max(several, 1))
    lasting = frozenset(
        name for name, unlike in zip(encoding.names, changing, strict=True) if unlike <= most
    )
    return RowCounts(sizes.astype(np.int64), held[sizes - 1]), lasting


# ------------------------------------------------------------------ choosing


def outcome_pairs(prepared: Prepared, alone: Fitted, *, more: bool) -> list[Measured]:
    """Count every column together with the outcome, in few cells; of none where noise hides that.

    What a model learns from the rows hangs on these pairs, and to choose them costs nothing: with
    other pairs left out they are naive Bayes' (Friedman, Geiger and Goldszmidt, Machine Learning
    29, 1997, §2). All of the budget that is left goes to them, half where `more` will be counted.
    """
    hub, sizes = outcome(prepared), alone.sizes
    pairs = [
        (min(hub, j), max(hub, j))
        for j in range(len(sizes))
        if hub is not None and j != hub and sizes[hub] * sizes[j] <= MAX_CLIQUE
    ]
    if not pairs:
        return []
    each = prepared.account.left * (OUTCOME if more else 1.0) / len(pairs)
    deviation = prepared.rows.most_rows / math.sqrt(2 * each)
    if alone.total < FAINT * deviation:
        return []
    masses = singles(alone)
    return [
        count(prepared, alone, pair, coarser(prepared, masses, pair, deviation), each)
        for pair in pairs
    ]


def outcome(prepared: Prepared) -> int | None:
    """Return the column that others are most wanted for: the event, or else the target."""
    schema, names = prepared.encoding.schema, prepared.encoding.names
    held = [c.name for role in ("event", "target") for c in schema.holders(role)]
    return next((names.index(name) for name in held if name in names), None)


def once_more(prepared: Prepared) -> list[Measured]:
    """Count single columns again with all that is left, where noise would hide any pair."""
    rows, d = prepared.rows, len(prepared.rows.sizes)
    each = prepared.account.left / d
    deviation = rows.most_rows / math.sqrt(2 * each)
    return [
        Measured(
            (j,),
            rows.counts((j,), rho=each, what=f"'{name}' once more").astype(np.float64),
            deviation,
        )
        for j, name in enumerate(prepared.encoding.names)
    ]


def coarser(
    prepared: Prepared, masses: Sequence[Floats], columns: Sequence[int], deviation: float
) -> Groups:
    """Return groups of codes, a column, in which rows are still seen through noise.

    `masses` are the expected counts of every column by itself. As many cells as noise leaves
    legible, shared among the columns; groups of about as many rows as single columns tell. The fit
    spreads a group's rows over its codes as those tell too.
    """
    cells = max(4.0, LEGIBLE * float(masses[0].sum()) / deviation)
    most: dict[int, int] = {}
    for left, j in enumerate(sorted(columns, key=lambda j: masses[j].size)):
        share = cells ** (1 / (len(columns) - left))
        most[j] = min(masses[j].size, max(2, int(share + 0.5)))
        cells = max(1.0, cells / most[j])
    return tuple(_groups(prepared, j, masses[j], most[j]) for j in columns)


def count(
    prepared: Prepared, now: Fitted, columns: tuple[int, ...], groups: Groups, rho: float
) -> Measured:
    """Count columns together with noise, what they tell of each other shrunk as noise asks.

    What two columns share beyond what is expected of them, by the present model, is kept as far as
    it exceeds noise: the positive part of James and Stein (Proc. 4th Berkeley Symposium I, 1961),
    1 - (cells that are free) σ² / Σ², towards the model.
    """
    names = " and ".join(f"'{prepared.encoding.names[j]}'" for j in columns)
    noisy = prepared.rows.counts(columns, rho=rho, what=names, groups=groups)
    deviation = prepared.rows.most_rows / math.sqrt(2 * rho)
    over = noisy - grouped(now.marginal(columns), groups)
    shared = over - over.mean(axis=0) - over.mean(axis=1, keepdims=True) + over.mean()
    free = (over.shape[0] - 1) * (over.shape[1] - 1)
    size = float((shared**2).sum())
    lost = min(1.0, free * deviation**2 / size) if size else 0.0
    return Measured(columns, noisy - lost * shared, deviation, groups)


def singles(fitted: Fitted) -> list[Floats]:
    """Return the expected counts of every column by itself."""
    return [np.asarray(fitted.marginal((j,))) for j in range(len(fitted.sizes))]


def _groups(prepared: Prepared, j: int, mass: Floats, most: int) -> Ints:
    """Return groups of one column's codes: neighbours, or the rarest levels; marks stand alone."""
    if mass.size <= most:
        return np.arange(mass.size)
    cells = prepared.encoding.cells[j]
    if not cells.ordered:
        of = np.full(mass.size, most - 1)
        of[np.argsort(-mass, kind="stable")[: most - 1]] = np.arange(most - 1)
        return of
    marks = int((prepared.bins[j].share[: cells.n_tokens] > 0).sum())
    values = np.maximum(mass[marks:], 0) + 1e-9
    middle = (np.cumsum(values) - values / 2) / values.sum()
    _, place = np.unique((middle * max(1, most - marks)).astype(np.int64), return_inverse=True)
    return np.concatenate([np.arange(marks), marks + place])


# ------------------------------------------------------------------ the model


@dataclass(frozen=True)
class Noisy:
    """A distribution over bins that noisy counts speak of, as columns given columns."""

    name: str
    bins: tuple[Bins, ...]
    parents: Parents
    tables: tuple[Floats, ...]
    released = ()

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        return self.complete(np.full((n, len(self.bins)), -1, np.int32), {}, rng)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known (-1), given those that are, of the allowed ones."""
        try:
            return net.complete(self.bins, self.parents, self.tables, codes, allowed, rng)
        except ConditionError:
            if allowed or not (codes >= 0).any():
                raise
        # real rows may break rules, of which no drawn row has any share: they are completed too
        soft = [(1 - SOFT) * table + SOFT / table.shape[-1] for table in self.tables]
        return net.complete(self.bins, self.parents, soft, codes, allowed, rng)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        return net.saved(self.bins, self.parents, self.tables)

    def values(self) -> Mapping[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        return {}


def restore(schema: TableSchema, state: State, name: str) -> CodedModel:
    """Rebuild a model. Raises InputError when the arrays are none, or nothing tells its price."""
    arrays, _ = coded.saved(state)
    encoding = Encoding.restore(schema, state)
    try:
        joint = Noisy(name, *net.restored(arrays, encoding.sizes))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"arrays that are no model of {name}",
            "bins, parents without a cycle and tables that sum to one",
            "use a model file that this method wrote",
        ) from error
    model = coded.restore(schema, state, joint)
    if model.paid is None:
        raise InputError(
            f"a model of {name} without a ledger", "every release that it was made of",
            "use a model file that this method wrote",
        )  # fmt: skip
    return model
