"""Quality that may be told: synthetic rows against held-out ones by numbers that were paid for.

Three questions, each answered by few noisy sums: how far single columns are from the real ones,
how far pairs of columns are (and independent columns, for a floor), and how well what is learnt
from synthetic rows predicts an outcome of real people. Bins, pairs and the learner are chosen by
the schema and the synthetic rows, which are public by then; of the real rows only the sums are
seen, one row a person. Everything is asked of subjects whom no model saw.

Distances  total variation, in `privacy.compared`: noise of one count each, without bias
Outcome    counts of real rows by answer and by bin of the predicted chance, one noisy table
           (TSTR: Esteban, Hyland and Rätsch, arXiv 1706.02633, §4.1), in `paid_outcome`
Intervals  of 95 %: noise and the drawing of subjects together, by the delta method; the variance
           of a distance by drawing is at most 1/(4n) (Efron and Stein, Ann Statist 1981: one
           subject moves it by 1/n)
Ceiling    what as many rows would show if real people were just like the synthetic ones: computed
           from synthetic rows alone, at no cost
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.metrics.intervals import Floats
from manikin.metrics.paid_outcome import Outcome, Tally, outcome_of
from manikin.metrics.score import Score, not_estimable
from manikin.metrics.spaces import Bins
from manikin.privacy.account import Account, measuring
from manikin.privacy.budget import Budget
from manikin.privacy.compared import Compared, Expected, deviation
from manikin.privacy.ledger import Release
from manikin.privacy.rows import at_most

__all__ = ["COLUMNS", "KEPT", "PAIRS", "Paid", "paid"]

COLUMNS, PAIRS = "paid/columns", "paid/pairs"
SHARES = {"subjects": 0.06, "columns": 0.34, "pairs": 0.25, "outcome": 0.35}  # of the budget
BINS, LEVELS = 10, 20  # of a column by itself
COARSE = 4  # bins of a number, and levels of a code beside the rest, in a pair
MOST_PAIRS = 1000  # those with an outcome first
EVEN = 0.25  # rows spread evenly over what is declared, where bins are cut, by synthetic ones
FEWEST = 11.0  # held-out subjects, beside four deviations of noise
DRAWS = 64  # of as many rows from the synthetic shares
Z = 1.96
KEPT = "nearer than independent columns"  # beyond noise


@dataclass(frozen=True)
class Paid:
    """What was bought: scores with intervals, the noisy number of subjects, and the price."""

    scores: tuple[Score, ...]
    subjects: float  # held out, as noise has it
    pairs: int  # that the mean is of
    asks: str  # what was to be predicted; or why nothing was
    releases: tuple[Release, ...]
    budget: Budget


def paid(held: Table, synthetic: Table, budget: Budget, *, seed: int) -> Paid:
    """Compare synthetic rows with held-out subjects, within a budget of its own.

    `seed` is of public choices only. Raises PrivacyError where the budget does not cover it.
    """
    rng = generator(seed, "paid report")
    shown = synthetic.rows(_one_each(synthetic, rng))
    cuts = _cut(shown, BINS, LEVELS), _cut(shown, COARSE, COARSE)
    asked = outcome_of(shown, seed=seed)
    account = Account(budget)
    rows = _rows(held, cuts, asked, account)
    pairs = _pairs(held.schema)
    price = _prices(account.rho, bool(pairs), isinstance(asked, Outcome))
    n = float(rows.counts((), rho=price["subjects"], what="how many subjects were held out"))
    spread = 1 / math.sqrt(2 * price["subjects"])
    if n < FEWEST + 4 * spread:
        why = "too few held-out subjects for this budget: noise hides them"
        scores = [not_estimable(name, why) for name in (COLUMNS, PAIRS)]
        return Paid(tuple(scores), n, len(pairs), why, account.ledger(), budget)
    size = _Size(n, spread, rng)
    scores = list(_columns(rows, cuts[0], shown, size, price["columns"]))
    if pairs:
        scores.append(_in_pairs(rows, cuts[1], shown, pairs, size, price["pairs"]))
    if isinstance(asked, Outcome):
        scores += _predicted(rows, asked, size, price["outcome"])
    told = asked.asks if isinstance(asked, Outcome) else asked
    return Paid(tuple(scores), n, len(pairs), told, account.ledger(), budget)


# ------------------------------------------------------------------------------ public choices


def _one_each(table: Table, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return one row of every synthetic subject."""
    order = rng.permutation(table.n_rows)
    return np.sort(order[np.unique(table.subjects[order], return_index=True)[1]])


def _cut(shown: Table, bins: int, levels: int) -> Bins:
    """Cut every column by synthetic rows, and by rows spread evenly over what is declared.

    So a range or level that the model never draws is no part of another's bin.
    """
    n = max(bins, math.ceil(EVEN * shown.n_rows))
    even = {column.name: _evenly(column, n) for column in shown.schema.learned}
    if any(values is None for values in even.values()):  # found at a price, not declared
        return Bins.fit(shown, n_bins=bins, most_levels=levels)
    known = {name: values for name, values in even.items() if values is not None}
    spread = Table(shown.schema, np.arange(n, dtype=np.int64), known)
    return Bins.fit(Table.concatenate([shown, spread]), n_bins=bins, most_levels=levels)


def _evenly(column: Column, n: int) -> NDArray[np.generic] | None:
    if column.is_coded:
        levels = np.arange(n) % max(len(column.categories), 1)
        return levels.astype(np.int32) if column.categories else np.full(n, -1, np.int32)
    if column.minimum is None or column.maximum is None:
        return None
    grid = np.linspace(column.minimum, column.maximum, n)
    return grid if column.kind != "datetime" else (grid * 1e6).astype("datetime64[us]")


def _pairs(schema: TableSchema) -> list[tuple[int, int]]:
    """Return the pairs of columns that are compared: those with an outcome first."""
    roles = [{"target", "time", "event"} & set(column.roles) for column in schema.learned]
    every = list(combinations(range(len(roles)), 2))
    every.sort(key=lambda pair: not any(roles[j] for j in pair))
    return every[:MOST_PAIRS]


def _prices(rho: float, pairs: bool, outcome: bool) -> Mapping[str, float]:
    """Return what each question costs; what is not asked leaves its share to the others."""
    asked = {"subjects": True, "columns": True, "pairs": pairs, "outcome": outcome}
    shares = {name: share for name, share in SHARES.items() if asked[name]}
    return {name: rho * share / sum(shares.values()) for name, share in shares.items()}


def _codes(table: Table, bins: Bins) -> NDArray[np.int64]:
    return np.stack([bins.codes(table, name) for name in bins.sizes], axis=1)


def _rows(held: Table, cuts: Sequence[Bins], asked: Outcome | str, account: Account) -> Compared:
    """Return the held-out subjects behind their guard, one row each: bins, then the outcome."""
    sizes = [size for bins in cuts for size in bins.sizes.values()]
    with measuring():
        kept = held.rows(at_most(np.asarray(held.subjects), 1))
        codes = [_codes(kept, bins) for bins in cuts]
        if isinstance(asked, Outcome):
            codes.append(np.stack([asked.answers(kept), asked.bins(kept)], axis=1))
            sizes += [3, asked.size]
        every = np.concatenate(codes, axis=1).astype(np.int32)
        return Compared(every, np.asarray(kept.subjects), tuple(sizes), 1, account)


# ------------------------------------------------------------------------------ what is bought


@dataclass(frozen=True)
class _Size:
    """How many subjects were held out, as noise has it."""

    n: float
    deviation: float
    rng: np.random.Generator

    def score(self, name: str, total: float, noise: float, **more: float | None) -> Score:
        """Return a mean over subjects, of their noisy sum with noise of this deviation."""
        value = total / self.n
        near = min(1.0, max(0.0, value))
        by_noise = (noise**2 + (near * self.deviation) ** 2) / self.n**2
        sd = math.sqrt(by_noise + 1 / (4 * self.n))
        # around what is possible: noise below nought makes nothing more certain
        low, high = (min(1.0, max(0.0, near + side * Z * sd)) for side in (-1, 1))
        return Score(name, near, (low, high), **more)  # type: ignore[arg-type]

    def chance(self, shares: Floats) -> float:
        """Return the distance from their own shares that as many rows have by chance."""
        n = max(1, round(self.n))
        drawn = self.rng.multinomial(n, shares.ravel() / shares.sum(), size=DRAWS) / n
        return float(np.abs(drawn - shares.ravel()).sum(axis=1).mean()) / 2


def _columns(rows: Compared, bins: Bins, shown: Table, size: _Size, rho: float) -> Iterator[Score]:
    """Yield the mean distance of single columns, and each by itself."""
    codes, names = _codes(shown, bins), tuple(bins.sizes)
    shares = [
        np.bincount(codes[:, j], minlength=bins.sizes[name]) / len(codes)
        for j, name in enumerate(names)
    ]
    found = rows.distances(
        [[Expected((j,), part)] for j, part in enumerate(shares)], rho=rho,
        what="how far each column is from the synthetic one",
    )  # fmt: skip
    noise = deviation(len(names), rho)
    fresh = [size.chance(part) for part in shares]
    yield size.score(COLUMNS, float(found.mean()), noise / math.sqrt(len(names)),
                     ceiling=float(np.mean(fresh)))  # fmt: skip
    for name, total, by_chance in zip(names, found, fresh, strict=True):
        one = size.score(COLUMNS, float(total), noise, ceiling=by_chance)
        yield Score(one.metric, one.value, one.interval, ceiling=by_chance, group=f"column={name}")


def _in_pairs(
    rows: Compared,
    bins: Bins,
    shown: Table,
    pairs: Sequence[tuple[int, int]],
    size: _Size,
    rho: float,
) -> Score:
    """Return the mean distance of pairs; the floor is that of independent columns."""
    codes, sizes = _codes(shown, bins), tuple(bins.sizes.values())
    alone = [np.bincount(codes[:, j], minlength=k) / len(codes) for j, k in enumerate(sizes)]
    first = len(sizes)  # columns in fine bins stand before these
    together, apart, fresh = [], [], 0.0
    for i, j in pairs:
        cells = codes[:, i] * sizes[j] + codes[:, j]
        joint = np.bincount(cells, minlength=sizes[i] * sizes[j]) / len(codes)
        joint = joint.reshape(sizes[i], sizes[j])
        together.append(Expected((first + i, first + j), joint))
        apart.append(Expected((first + i, first + j), np.outer(alone[i], alone[j])))
        fresh += size.chance(joint) / len(pairs)
    found = rows.distances([together, apart], rho=rho, what="how far pairs of columns are from"
                           " synthetic ones, and from independent columns")  # fmt: skip
    noise = deviation(2, rho)
    floor = size.score(PAIRS, float(found[1]), noise).value
    score = size.score(PAIRS, float(found[0]), noise, floor=floor, ceiling=fresh)
    nearer = float(found[1] - found[0]) / size.n  # both hold noise
    sure = nearer > Z * math.sqrt(2 * (noise / size.n) ** 2 + 1 / (4 * size.n))
    return replace(score, note=KEPT if sure else "")


def _predicted(rows: Compared, asked: Outcome, size: _Size, rho: float) -> Iterator[Score]:
    noise = 1 / math.sqrt(2 * rho)
    groups, cut = asked.grouped(size.n, noise)
    last = len(rows.sizes)
    counts = rows.counts(
        (last - 2, last - 1), rho=rho, groups=(np.arange(3), groups),
        what="outcomes by what was predicted from synthetic rows",
    )  # fmt: skip
    return Tally(counts[:2].astype(np.float64), cut, noise).scores(asked.fresh)
