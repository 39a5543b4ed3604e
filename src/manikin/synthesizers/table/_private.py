"""What marginal-based methods under a privacy budget share: the frame around choosing marginals.

Public codes of every column, rows bounded by subject, columns divided where noisy counts say that
rows are, a first measurement of every column by itself; and at the end the model whose joint
distribution is the graphical model of all that was measured. No row is read but through `Rows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
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
from manikin.privacy.ledger import Gaussian
from manikin.privacy.rows import Groups, Halves, Rows, at_most
from manikin.synthesizer import State, Watch, report
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes
from manikin.synthesizers.table._net_bins import Bins
from manikin.synthesizers.table._net_search import Parents
from manikin.synthesizers.table._paid import Paid
from manikin.synthesizers.table._pgm import Fitted, Measured, Zeros
from manikin.synthesizers.table._public import public_encoding
from manikin.synthesizers.table._subjects import RowCounts
from manikin.synthesizers.table.encoding import Encoding

__all__ = [
    "NOISE",
    "Prepared",
    "coarser",
    "finish",
    "prepare",
    "restore",
    "singles",
    "workload",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

NOISE = math.sqrt(2 / math.pi)  # expected absolute value of standard normal noise
LEGIBLE = 0.5  # of all rows: what noise in the cells of one count may add up to, about
OUTCOME = 2.0  # weight of a pair with a column whose role is an outcome
SURE = 2.0  # standard deviations of noise that a level's count must exceed to stand alone
MARKED = 4.0  # ... and a missing mark's: one that nobody has would show in one column of 30,000
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
    each = (1.0 if only and width == 1 else share) * account.left / width
    found = [
        _divided(rows, j, encoding.cells[j].n_tokens, encoding.cells[j].ordered, bins, each,
                 encoding.names[j], only)
        for j in range(len(encoding.names))
    ]  # fmt: skip
    own, zeros = structural.of_rules(encoding, [bins for bins, _ in found])
    measured = tuple(one for _, one in found)
    coarse = rows.coarser([b.of for b in own])
    return Prepared(encoding, own, coarse, measured, zeros, counts, account)


def tell(prepared: Prepared, watch: Watch) -> None:
    """Report how many rows count, and the noise of one count: what single columns were paid for."""
    paid = [r.noise_multiplier for r in prepared.account.releases if isinstance(r, Gaussian)]
    noise = prepared.rows.most_rows * float(np.median(paid[-len(prepared.measured) :]))
    totals = [one.counts.sum() for one in prepared.measured]
    sure = [1 / (one.counts.size * one.deviation**2) for one in prepared.measured]
    rows = max(float(np.average(totals, weights=sure)), 0.0)
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


# ------------------------------------------------------------------ dividing columns


def _divided(
    rows: Rows,
    j: int,
    n_tokens: int,
    ordered: bool,
    most: int,
    rho: float,
    name: str,
    merging: bool,
) -> tuple[Bins, Measured]:
    """Return the bins of one column and their noisy counts."""
    size = rows.sizes[j]
    if ordered and size - n_tokens > most:
        halved, halves = rows.halved(
            j, first=n_tokens, rho=rho, what=f"'{name}', halved again and again"
        )
        deviation = rows.most_rows * np.sqrt(halves.depth / (2 * rho))
        noisy = _consistent(halved.astype(np.float64), halves)
        return _ranges(noisy, halves, size, n_tokens, most, j, float(deviation))
    counts = rows.counts((j,), rho=rho, what=f"'{name}'")
    deviation = rows.most_rows / np.sqrt(2 * rho)
    return _merged(counts, n_tokens, j, float(deviation), merging)


def _consistent(noisy: Floats, halves: Halves) -> Floats:
    """Return the counts that are sums of their halves and explain the noisy ones best.

    Least squares on a tree (Hay, Rastogi, Miklau and Suciu, PVLDB 3(1), 2010, §4): each range's
    own count and what its halves add up to, weighted by their variances; then downwards, a
    difference is shared by the halves as they vary.
    """
    best, varies = noisy.tolist(), [1.0] * noisy.size  # variances in units of one count's
    left, right = halves.left.tolist(), halves.right.tolist()
    for i in range(noisy.size - 1, -1, -1):  # halves come after what they are halves of
        if left[i] >= 0:
            below = varies[left[i]] + varies[right[i]]
            best[i] = (best[i] * below + best[left[i]] + best[right[i]]) / (1 + below)
            varies[i] = below / (1 + below)
    for i in range(noisy.size):
        if left[i] >= 0:
            one, other = left[i], right[i]
            over = best[i] - best[one] - best[other]
            part = varies[one] / (varies[one] + varies[other])
            best[one] += part * over
            best[other] += (1 - part) * over
    return np.array(best)


def _ranges(
    noisy: Floats, halves: Halves, size: int, n_tokens: int, most: int, j: int, deviation: float
) -> tuple[Bins, Measured]:
    """Divide where rows are: the range of most rows is halved next, while noise allows it."""
    leaves = set(range(n_tokens + (size > n_tokens)))
    while len(leaves) < most + n_tokens:
        able = [i for i in leaves if halves.left[i] >= 0 and noisy[i] > 2 * SURE * deviation]
        if not able:
            break
        i = max(able, key=lambda i: (noisy[i], -i))
        leaves.remove(i)
        leaves |= {int(halves.left[i]), int(halves.right[i])}
    ordered = sorted(leaves, key=lambda i: int(halves.start[i]))
    of = np.zeros(size, np.int64)
    for place, i in enumerate(ordered):
        of[halves.start[i] : halves.end[i]] = place
    counts = noisy[ordered]
    share = 1.0 / np.bincount(of)[of]
    return _seen(Bins(of, share), counts, n_tokens, j, deviation)


def _merged(
    counts: Ints, n_tokens: int, j: int, deviation: float, merging: bool
) -> tuple[Bins, Measured]:
    """Keep the levels that noise leaves visible, and merge the others (MST, §3.2: compression)."""
    visible = counts > SURE * deviation
    visible[:n_tokens] = True  # marks are looked at for themselves
    rare = np.flatnonzero(~visible)
    if rare.size < 2 or not merging:
        own = Bins(np.arange(counts.size), np.ones(counts.size))
        return _seen(own, counts.astype(np.float64), n_tokens, j, deviation)
    of = np.cumsum(visible) - 1
    of[rare] = of.max() + 1
    share = np.ones(counts.size)
    weight = np.maximum(counts[rare], 0.0) + deviation
    share[rare] = weight / weight.sum()
    merged = np.bincount(of, weights=counts.astype(np.float64)).astype(np.float64)
    # the merged level's noise is larger; one deviation is kept, that of the others
    return _seen(Bins(of, share), merged, n_tokens, j, deviation)


def _seen(
    bins: Bins, counts: Floats, n_tokens: int, j: int, deviation: float
) -> tuple[Bins, Measured]:
    """Leave out missing marks that noise hides: their few rows count with the commonest values.

    A mark that nobody has would come out in a share of rows that noise alone decides.
    """
    hidden = np.flatnonzero(counts[:n_tokens] <= MARKED * deviation)
    if not hidden.size or counts.size == n_tokens:
        return bins, Measured((j,), counts, deviation)
    kept = np.setdiff1d(np.arange(counts.size), hidden)
    most = int(np.argmax(counts[kept]))
    place = np.full(counts.size, most)
    place[kept] = np.arange(kept.size)
    share = bins.share.copy()
    share[hidden] = 0.0  # a mark's bin is its own code
    return Bins(place[bins.of], share), Measured((j,), counts[kept], deviation)


def workload(prepared: Prepared) -> dict[tuple[int, ...], float]:
    """Return all pairs of columns, with what they weigh."""
    schema, names = prepared.encoding.schema, prepared.encoding.names
    outcomes = {
        j for j, name in enumerate(names) if {"target", "time", "event"} & set(schema[name].roles)
    }
    return {
        pair: OUTCOME if outcomes & set(pair) else 1.0
        for pair in combinations(range(len(names)), 2)
    }


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
