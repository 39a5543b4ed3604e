"""Boosted: one column after another, each code found by halving that boosted trees decide.

Reference  XGenBoost, arXiv:2603.06904 (2026); McCarter, "Unmasking trees for tabular data",
           arXiv:2407.05593 (2024): BaltoBot, a balanced tree of boosted classifiers
Idea       the chain rule of probability; a number, or a level, is found by halving: below or above
           the median, then of that half, and so on, each time by gradient-boosted trees
Algorithm  1 encode (missing marks, spikes, grids, rare levels) · 2 order: time and event, target,
           then few levels before many, most informed first · 3 halve the codes of each column,
           missing marks apart first · 4 boost one classifier a level of halving on the most
           informative earlier columns, stopped on held-out rows · 5 draw bit by bit, evenly
Differs    from the papers in: one classifier serves all halves of a level, which it is told as
           one more predictor, and starts from the rows on either side; draws are systematic along
           the predicted chances, not independent; how far a ridge line places a row above a
           node's cut is a predictor; no number that fewer than k subjects share comes back
Use when   a second opinion on table/seqtree is wanted, from smooth odds instead of leaves; seqtree
           was the more faithful on most tables, above all with many columns or levels

Late columns that are given or restricted are met by sequential Monte Carlo over candidates. A model
file holds splits, leaf values, lines and counts of codes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

import manikin.synthesizers.table._boosting as boosting
import manikin.synthesizers.table._chain as chain
import manikin.synthesizers.table._coded as coded
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import ConditionError, InputError
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import refuse_budget
from manikin.synthesizer import State, Watch, report, silent
from manikin.synthesizers.table._binning import alike, bin_codes
from manikin.synthesizers.table._boosting import BINS, Booster, Growth
from manikin.synthesizers.table._cloud import Cloud
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes, Learnt
from manikin.synthesizers.table._foresight import (
    bin_scores,
    binned,
    check_line,
    cuts,
    fit_line,
    place,
    scored,
)
from manikin.synthesizers.table._halving import Halving, even
from manikin.synthesizers.table._tilt import FEW
from manikin.synthesizers.table.encoding import normal_scores

__all__ = ["Boosted"]

Bools: TypeAlias = NDArray[np.bool_]
Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

HELD = 0.2  # share of subjects on which boosting is stopped
IDLE = 2  # levels in a row without a tree, after which the rest is left to the codes' frequencies
CANDIDATES = 16  # draws a row where something late in the order is given
MORE = 128  # draws for those rows of which too few of these count
LEAST_EFFECTIVE = 30  # of all draws for a condition
RAREST = 1e-6  # probability of a condition below which the model only guesses
TOGETHER = 400_000  # candidates drawn at a time


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class Boosted:
    """Recipe: boosted autoregression."""

    rounds: int = 400  # most trees for one level of one column; held-out rows stop them earlier
    rate: float = 0.1  # learning rate
    leaf: int = 20  # fewest training rows at a leaf
    penalty: float = 1.0  # L2 penalty on leaf values
    patience: int = 20  # trees without gain on held-out rows before growth stops; few rows: fewer
    predictors: int = 24  # most earlier columns that a classifier may look at
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer
    first: tuple[str, ...] = ()  # columns to generate first, before time, event and target
    max_rows: int = 50_000  # most rows that classifiers are fitted on

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Learn one column after another. Raises PrivacyError when a budget is given."""
        refuse_budget(budget, "table/boosted")
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        if not learnt.encoding.names:
            return learnt.model(Chain((), ()))
        views, held, tasks = self._planned(learnt, data.subjects, seed)
        growth = Growth(self.rounds, self.rate, self.leaf, self.penalty, self.patience)

        def one(task: tuple[int, Ints, Halving]) -> Column:
            j, predictors, halving = task
            rng = generator(seed, f"boosted {j}")
            return _fit_column(j, predictors, halving, learnt, views, held, growth, rng)

        columns: list[Column] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for column in pool.map(one, tasks):
                columns.append(column)
                report(watch, len(columns), len(tasks), "boosting")
        return learnt.model(Chain(tuple(columns), views.bins))

    def _planned(
        self, learnt: Learnt, subjects: Ints, seed: int
    ) -> tuple[Views, Bools, list[tuple[int, Ints, Halving]]]:
        """Return how predictors are seen, held-out rows, and (column, predictors, halving)s."""
        encoding, sizes = learnt.encoding, learnt.encoding.sizes
        nominal = np.array([not cells.ordered for cells in encoding.cells], bool)
        rng = generator(seed, "boosted rows")
        people = rng.permutation(np.unique(subjects))
        part = rng.random(len(learnt.codes)) * len(learnt.codes) < self.max_rows
        rows = np.flatnonzero(part)
        held = np.isin(subjects[rows], people[: int(HELD * people.size)])
        codes = learnt.codes[rows]
        binned = bin_codes(codes, sizes, nominal)
        information = chain.association(binned, seed)
        first = _first(self.first, learnt)
        order = chain.order_columns(sizes, information, first)
        bins = tuple(_bins(cells.counts, bool(cells.ordered)) for cells in encoding.cells)
        seen = np.stack([bins[j][codes[:, j]] for j in range(sizes.size)], axis=1)
        tasks = []
        for i, j in enumerate(order):
            best = sorted(order[:i], key=lambda b: (b not in first, -information[b, j], b))
            cells = encoding.cells[j]
            by = np.arange(cells.size)
            others = [b for b in range(sizes.size) if b != j]
            if not cells.ordered and cells.size > 3 and others:
                by = alike(codes[:, j], cells.size, binned[:, others])
            tokens = cells.n_tokens if cells.ordered else 0
            halving = Halving.fit(cells.counts, tokens=tokens, order=by)
            tasks.append((j, np.array(sorted(best[: self.predictors]), np.int64), halving))
        return Views(bins, seen, nominal & (sizes > 2), codes), held, tasks

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state."""
        arrays, values = coded.saved(state)
        joint = Chain.restore(arrays, values)
        model = coded.restore(schema, state, joint)
        if [bins.size for bins in joint.bins] != model.encoding.sizes.tolist():
            raise _damaged("numbers of codes")
        return model


def _first(asked: Sequence[str], learnt: Learnt) -> list[int]:
    """Return the columns that lead the order: asked for, then outcomes."""
    encoding = learnt.encoding
    names = [encoding.schema[name].name for name in asked]
    for role in ("time", "event", "target"):
        names += [column.name for column in encoding.schema.holders(role)]
    found = [encoding.index(name) for name in names]
    return list(dict.fromkeys(j for j in found if j is not None))


def _bins(counts: Ints, ordered: bool) -> Bytes:
    """Return the bin in which a predictor's codes are seen, (codes,): about as many rows each.

    Levels without order are bins of their own, commonest first, as far as there are bins.
    """
    if not ordered:
        place = np.empty(counts.size, np.int64)
        place[np.argsort(-counts, kind="stable")] = np.arange(counts.size)
        return np.minimum(place, BINS - 2).astype(np.uint8)
    if counts.size < BINS:
        return np.arange(counts.size).astype(np.uint8)
    middle = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
    place = np.minimum(middle * (BINS - 1), BINS - 2).astype(np.int64)
    return np.unique(place, return_inverse=True)[1].astype(np.uint8)


# ------------------------------------------------------------------ one column


@dataclass(frozen=True)
class Views:
    """The rows that classifiers are fitted on."""

    bins: tuple[Bytes, ...]  # per column: the bin of each code
    seen: Bytes  # (rows, columns)
    nominal: Bools  # (columns,)
    codes: Codes  # (rows, columns)


@dataclass(frozen=True)
class Column:
    """P(column | earlier columns), by halving its codes."""

    target: int
    predictors: Ints
    halving: Halving
    counts: Ints  # (codes,) training rows
    line: Floats  # (predictors + 2,) intercept, slopes, residual sd; empty: none
    scores: Floats  # (predictors, BINS) mean normal score in each bin; no order: 0
    boosters: tuple[Booster, ...]  # a level; deeper levels go by counts alone

    def chance(self, level: int, node: Ints, seen: Bytes) -> Floats:
        """Return the chance of the upper side for rows at `node`s of a level, (rows,)."""
        start = _start(self.halving, self.counts)[node]
        if level >= len(self.boosters) or not self.boosters[level].n_trees:
            return np.asarray(expit(start))
        own = seen[:, self.predictors]
        expected = place(self.line, scored(own, self.scores)) if self.line.size else None
        told = _told(own, self.halving, node, self.counts, self.line, expected)
        odds = start + self.boosters[level].scores(told)
        return np.asarray(expit(np.clip(odds, -30.0, 30.0)))

    def draw(
        self, seen: Bytes, able: Bools | None, rng: np.random.Generator
    ) -> tuple[Codes, Floats]:
        """Draw a code a row, of the `able` ones; return log weights too: 0 where all are able.

        At each step the side is chosen by its chance times the share of its rows that is able, in
        training, and the row weighted by what that leaves out.
        """
        n = len(seen)
        weight, codes = np.zeros(n), np.zeros(n, np.int64)
        share = None if able is None else _able(self.halving, self.counts, able)
        if not len(self.halving.children):
            return codes.astype(np.int32), weight
        node, rows = np.zeros(n, np.int64), np.arange(n)
        for level in range(self.halving.n_levels):
            p = self.chance(level, node, seen[rows])
            q = p
            if share is not None:
                upper, lower = p * share[node, 1], (1 - p) * share[node, 0]
                q = upper / (upper + lower)
            up = even(q, node, rng)
            if share is not None:
                drawn, meant = np.where(up, q, 1 - q), np.where(up, p, 1 - p)
                weight[rows] += np.log(np.maximum(meant, 1e-300) / np.maximum(drawn, 1e-300))
            below = self.halving.children[node, up.astype(np.int64)]
            done = below < 0
            codes[rows[done]] = ~below[done]
            node, rows = below[~done], rows[~done]
        return codes.astype(np.int32), weight

    def likelihood(self, seen: Bytes, codes: Codes) -> Floats:
        """Return the log probability of codes, (rows,)."""
        total = np.zeros(len(seen))
        for level in range(self.halving.n_levels):
            node = self.halving.steps[codes, level].astype(np.int64)
            rows = np.flatnonzero(node >= 0)
            p = self.chance(level, node[rows], seen[rows])
            up = self.halving.sides[codes[rows], level]
            total[rows] += np.log(np.maximum(np.where(up, p, 1 - p), 1e-12))
        return total


def _start(halving: Halving, counts: Ints) -> Floats:
    """Return the log odds of the upper side at each node, by rows, a little shrunk."""
    held = halving.rows(counts) + 0.5
    return np.asarray(np.log(held[:, 1]) - np.log(held[:, 0]))


def _able(halving: Halving, counts: Ints, able: Bools) -> Floats:
    """Return the share of each side's rows, (nodes, 2), whose code is able."""
    rows = np.asarray(counts + 1e-3, np.float64)  # what training did not show is possible
    return halving.rows(rows * able) / np.maximum(halving.rows(rows), 1e-300)


def _told(
    seen: Bytes, halving: Halving, node: Ints, counts: Ints, line: Floats, expected: Floats | None
) -> Bytes:
    """Return predictors (rows, features), the place of the node among its level's added.

    And, where there is a line, how far above the node's cut it expects the row.
    """
    width = np.bincount(halving.level)[halving.level[node]]
    number = halving.rank[node] * np.minimum(BINS - 1, width) // np.maximum(width, 1)
    told = [seen, number.astype(np.uint8)[:, None]]
    if expected is not None:
        cut = cuts(counts, halving.sides, halving.steps, len(halving.children))[node]
        told.append(binned(line, expected, cut)[:, None])
    return np.concatenate(told, axis=1)


def _fit_column(
    j: int,
    predictors: Ints,
    halving: Halving,
    learnt: Learnt,
    views: Views,
    held: Bools,
    growth: Growth,
    rng: np.random.Generator,
) -> Column:
    cells, codes = learnt.encoding.cells[j], views.codes[:, j]
    counts, seen = cells.counts, views.seen[:, predictors]
    start, idle = _start(halving, counts), 0
    scores = np.zeros((predictors.size, BINS))
    for i, b in enumerate(predictors):
        if learnt.encoding.cells[b].ordered:
            scores[i] = bin_scores(learnt.encoding.cells[b].counts, views.bins[b])
    line, expected = np.zeros(0), None
    valued = np.flatnonzero(codes >= cells.n_tokens)
    if cells.ordered and cells.size - cells.n_tokens > FEW and valued.size > 2 * predictors.size:
        own = scored(seen, scores)
        line, left_out = fit_line(own[valued], normal_scores(counts)[codes[valued]])
        expected = place(line, own)
        expected[valued] = left_out
    boosters: list[Booster] = []
    nominal = np.append(views.nominal[predictors], [False] * (2 if line.size else 1))
    for level in range(halving.n_levels if predictors.size else 0):
        node = halving.steps[codes, level].astype(np.int64)
        rows = np.flatnonzero(node >= 0)
        near = None if expected is None else expected[rows]
        told = _told(seen[rows], halving, node[rows], counts, line, near)
        up = halving.sides[codes[rows], level]
        grown = boosting.grow(told, up, start[node[rows]], held[rows], nominal, growth, rng)
        boosters.append(grown)
        idle = 0 if grown.n_trees else idle + 1
        if idle >= IDLE:
            break
    while boosters and not boosters[-1].n_trees:
        boosters.pop()
    return Column(j, predictors, halving, counts, line, scores, tuple(boosters))


# ------------------------------------------------------------------ distribution


@dataclass(frozen=True)
class Chain:
    """The columns in the order in which they are drawn."""

    columns: tuple[Column, ...]
    bins: tuple[Bytes, ...]
    name = "boosted"
    released = ("boosted trees and a line for each column: splits, log odds of many rows, slopes",)

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        codes, _ = self._drawn(np.full((n, len(self.bins)), -1, np.int32), {}, None, rng)
        return codes

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known.

        Rows of which something late in the order is known, or restricted, are drawn several times
        over, and one of these is chosen by how likely it makes that.
        """
        for able in allowed.values():
            if not able.any():
                raise _rare("no value is possible")
        late = self._late(codes, allowed)
        whole = np.empty_like(codes)
        whole[~late], _ = self._drawn(codes[~late], allowed, None, rng)
        rows = np.flatnonzero(late)
        if rows.size and (codes[rows] < 0).all():  # all alike: candidates of one are everyone's
            size = max(min(rows.size * CANDIDATES, 20_000), 4 * rows.size, 40 * LEAST_EFFECTIVE)
            found, effective, p = self._chosen(codes[rows[:1]], size, rows.size, allowed, rng)
            if effective[0] < LEAST_EFFECTIVE:
                raise _rare(f"of {size} draws, fewer than {LEAST_EFFECTIVE} count")
            if p[0] < np.log(RAREST):
                raise _rare(f"fewer than one subject in {1 / RAREST:,.0f} meets it")
            whole[rows] = found[0]
        elif rows.size:
            found, effective, _ = self._chosen(codes[rows], CANDIDATES, 1, allowed, rng)
            whole[rows] = found[:, 0]
            few = np.flatnonzero(effective < 3)
            if few.size:
                found, _, _ = self._chosen(codes[rows[few]], MORE, 1, allowed, rng)
                whole[rows[few]] = found[:, 0]
        return whole

    def _late(self, codes: Codes, allowed: Allowed) -> Bools:
        """Return which rows have a known or restricted column after a free one."""
        free, late = np.zeros(len(codes), bool), np.zeros(len(codes), bool)
        for column in self.columns:
            known = codes[:, column.target] >= 0
            late |= free & (known | (column.target in allowed))
            free |= ~known
        return late

    def _chosen(
        self, codes: Codes, each: int, wanted: int, allowed: Allowed, rng: np.random.Generator
    ) -> tuple[Codes, Floats, Floats]:
        """Return `wanted` of `each` candidates a row, (rows, wanted, columns); how many count; p.

        What counts is the smallest effective number (Kong 1992) at any column; p is how probable
        what is known or allowed is in the model, as a logarithm.
        """
        step = max(1, TOGETHER // each)
        found, effective, evidence = [], [], []
        for i in range(0, len(codes), step):
            part = np.repeat(codes[i : i + step], each, axis=0)
            cloud = Cloud.of(len(part) // each, each)
            drawn, weight = self._drawn(part, allowed, cloud, rng)
            best = cloud.choose(weight, wanted, rng)
            found.append(drawn[best].reshape(-1, wanted, drawn.shape[1]))
            effective.append(cloud.effective)
            evidence.append(cloud.evidence)
        return np.concatenate(found), np.concatenate(effective), np.concatenate(evidence)

    def _drawn(
        self, codes: Codes, allowed: Allowed, cloud: Cloud | None, rng: np.random.Generator
    ) -> tuple[Codes, Floats]:
        """Return the codes completed, and log weights since candidates were last renewed."""
        codes, weight = codes.copy(), np.zeros(len(codes))
        seen = np.zeros(codes.shape, np.uint8)
        for column in self.columns:
            j = column.target
            known = codes[:, j] >= 0
            free, given = np.flatnonzero(~known), np.flatnonzero(known)
            if free.size:
                codes[free, j], left_out = column.draw(seen[free], allowed.get(j), rng)
                weight[free] += left_out
            if given.size and cloud is not None:
                weight[given] += column.likelihood(seen[given], codes[given, j])
            seen[:, j] = self.bins[j][codes[:, j]]
            if cloud is not None and (given.size or j in allowed):
                again, weight = cloud.renew(weight, rng)
                codes, seen = codes[again], seen[again]
        return codes, weight

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        arrays: dict[str, NDArray[Any]] = {f"bins {j}": bins for j, bins in enumerate(self.bins)}
        for i, column in enumerate(self.columns):
            arrays[f"{i}/predictors"] = column.predictors
            arrays[f"{i}/children"] = column.halving.children
            arrays[f"{i}/counts"], arrays[f"{i}/line"] = column.counts, column.line
            arrays[f"{i}/scores"] = column.scores
            for level, booster in enumerate(column.boosters):
                arrays |= {f"{i}/{level}/{n}": array for n, array in booster.arrays().items()}
        return arrays

    def values(self) -> Mapping[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        return {"columns": [[column.target, len(column.boosters)] for column in self.columns]}

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> Chain:
        """Rebuild the chain; raise InputError where its arrays do not fit together."""
        described = [(int(j), int(levels)) for j, levels in values["columns"]]
        m = len(described)
        if sorted(j for j, _ in described) != list(range(m)):
            raise _damaged("columns of the chain")
        try:
            bins = tuple(arrays[f"bins {j}"] for j in range(m))
            columns = tuple(_restored(arrays, i, *described[i], bins) for i in range(m))
        except (KeyError, ValueError) as error:
            raise _damaged(str(error)) from error
        drawn: set[int] = set()
        for column in columns:
            if not set(column.predictors.tolist()) <= drawn:
                raise _damaged("columns that lean on later ones")
            drawn.add(column.target)
        return Chain(columns, bins)


def _restored(
    arrays: Mapping[str, NDArray[Any]], i: int, j: int, levels: int, bins: Sequence[Bytes]
) -> Column:
    counts, predictors = arrays[f"{i}/counts"], arrays[f"{i}/predictors"]
    for array in (counts, predictors, arrays[f"{i}/children"]):
        if array.dtype != np.int64:
            raise ValueError("integers of a column")
    if counts.ndim != 1 or predictors.ndim != 1 or (counts < 0).any():
        raise ValueError("counts of a column")
    if bins[j].dtype != np.uint8 or bins[j].shape != counts.shape or (bins[j] >= BINS).any():
        raise ValueError("bins of a column")
    line, scores = arrays[f"{i}/line"], arrays[f"{i}/scores"]
    check_line(line, scores, predictors.size)
    halving = Halving(arrays[f"{i}/children"], counts.size)
    if not 0 <= levels <= halving.n_levels:
        raise ValueError("levels of a column")
    boosters = []
    for level in range(levels):
        own = f"{i}/{level}/"
        parts = {name.removeprefix(own): a for name, a in arrays.items() if name.startswith(own)}
        boosters.append(Booster.restore(parts, predictors.size + (2 if line.size else 1)))
    return Column(j, predictors, halving, counts, line, scores, tuple(boosters))


def _damaged(what: str) -> InputError:
    given = f"a model of table/boosted with wrong {what}"
    return InputError(given, "what this program wrote", "fit the model again")


def _rare(what: str) -> ConditionError:
    return ConditionError(
        f"what is asked for is too rare for the model: {what}",
        "conditions that a fair share of subjects meet together",
        "loosen a condition, or leave one out",
    )
