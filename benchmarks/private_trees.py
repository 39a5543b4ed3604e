"""Trees under a privacy budget: would they beat noisy marginals? Ours beside table/aim, table/mst.

python benchmarks/private_trees.py [--data rotterdam nwtco …] [--epsilons 1 3] [--seeds 0 1 2]

Each column is drawn from a tree on the columns before it: at every leaf the column to divide by is
chosen by the exponential mechanism (how far its and the target's counts together are from those of
either alone), leaves of one level in parallel, since a row is in one leaf; then the target's counts
in every leaf with noise. Single columns, their division, bounds and groups are those of table/aim
(`_private.py`), so only the tree is compared. Nothing of it is in the library: see
docs/decisions/0016-no-trees-under-a-budget.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
import pandas as pd
from experiments import EXPERIMENTS, Experiment, data_root, split
from numpy.typing import NDArray

import manikin as mk
import manikin.synthesizers.table._private as private
from manikin import catalogue
from manikin.data.table import Table
from manikin.metrics.score import Trial
from manikin.privacy.account import Account, measuring
from manikin.privacy.budget import Budget
from manikin.synthesizers.table._coded import CodedModel, Codes
from manikin.synthesizers.table._paid import Paid
from manikin.synthesizers.table._private import Prepared

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SINGLE, CHOOSING = 0.5, 0.25  # shares of the budget for single columns; of a tree, for its splits
SIDES = 4  # groups that a column divides a leaf into, at most


@dataclass(frozen=True)
class Node:
    """A leaf (no column), or a column by whose groups it goes on."""

    column: int = -1
    groups: Ints | None = None
    below: tuple[Node, ...] = ()
    shares: Floats | None = None  # (bins,) of the target


@dataclass(frozen=True)
class Trees:
    """Rows of codes, drawn column by column."""

    prepared: Prepared
    order: tuple[int, ...]
    trees: tuple[Node, ...]
    name = "trees"
    released = ()

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        bins = np.zeros((n, len(self.order)), np.int64)
        for j, tree in zip(self.order, self.trees, strict=True):
            self._fill(bins, j, tree, np.arange(n), rng)
        drawn = [b.draw(bins[:, j], rng) for j, b in enumerate(self.prepared.bins)]
        return np.stack(drawn, 1).astype(np.int32)

    def _fill(self, bins: Ints, j: int, node: Node, rows: Ints, rng: np.random.Generator) -> None:
        if node.shares is not None:
            bins[rows, j] = rng.choice(node.shares.size, rows.size, p=node.shares)
            return
        assert node.groups is not None
        side = node.groups[bins[rows, node.column]]
        for at, below in enumerate(node.below):
            self._fill(bins, j, below, rows[side == at], rng)

    def values(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}


def fit(data: Table, budget: Budget, *, depth: int, most_bins: int = 24) -> CodedModel:
    """Fit a tree a column."""
    prepared = private.prepare(data, budget, bins=most_bins, most_rows=1, share=SINGLE)
    sizes = prepared.rows.sizes
    masses = [np.maximum(one.counts, 0.0) + 1e-6 for one in prepared.measured]
    roles = [set(prepared.encoding.schema[name].roles) for name in prepared.encoding.names]
    last = [bool(r & {"target", "time", "event"}) for r in roles]
    order = tuple(sorted(range(len(sizes)), key=lambda j: (last[j], sizes[j])))
    each = prepared.account.left / max(len(order) - 1, 1)
    trees = [Node(shares=masses[order[0]] / masses[order[0]].sum())]
    for t in range(1, len(order)):
        trees.append(_Grower(prepared, masses, order[:t], order[t], each, depth).tree())
    paid = Paid(prepared.account.ledger(), float(masses[0].sum()), 1)
    joint: Any = Trees(prepared, order, tuple(trees))
    return CodedModel(prepared.encoding, joint, prepared.row_counts, (), paid)


class _Grower:
    """One column's tree."""

    def __init__(self, prepared: Prepared, masses: list[Floats], before: tuple[int, ...], j: int,
                 rho: float, depth: int) -> None:  # fmt: skip
        self.prepared, self.masses, self.before, self.j = prepared, masses, before, j
        self.choosing, self.counting = CHOOSING * rho / max(depth, 1), (1 - CHOOSING) * rho
        self.depth, self.deviation = depth, 1 / np.sqrt(2 * self.counting)
        self.free = Account(Budget(1e6))  # other leaves of a level: paid for with its first

    def tree(self) -> Node:
        with measuring():
            codes = self.prepared.rows.codes
            leaves: list[tuple[Ints, float]] = [(np.arange(len(codes)), self._total())]
            grown = self._grow(codes, leaves)
            sizes = [self._groups(self.j, max(self._total() / len(grown), 1.0)) for _ in grown]
            groups = sizes[0]
            exact = np.stack([
                np.bincount(groups[codes[rows, self.j]], minlength=int(groups.max()) + 1)
                for rows in grown
            ])  # fmt: skip
            noisy = self.prepared.account.sums(
                exact.astype(np.int64), sensitivity=1.0, rho=self.counting, what="leaves"
            )
        shares = [self._shares(counts.astype(np.float64), groups) for counts in noisy]
        return self._assembled(iter(shares), self.plan)

    def _total(self) -> float:
        return float(np.median([m.sum() for m in self.masses]))

    def _groups(self, j: int, rows: float) -> Ints:
        """Return groups of a column that noise leaves legible in so many rows."""
        cells = max(2, int(private.LEGIBLE * rows / self.deviation / 2))
        return private._groups(self.prepared, j, self.masses[j], min(self.masses[j].size, cells))

    def _grow(self, codes: NDArray[np.int32], leaves: list[tuple[Ints, float]]) -> list[Ints]:
        """Divide leaves level by level; keep the plan of the tree."""
        self.plan: list[list[tuple[int, Ints]]] = []
        for _ in range(self.depth):
            rows = self._total() / (len(leaves) * SIDES)
            if rows < 4 * self.deviation:
                break
            level, below = [], []
            for at, (inside, _) in enumerate(leaves):
                split = self._split(codes, inside, self.prepared.account if at == 0 else self.free)
                level.append(split)
                side = split[1][codes[inside, split[0]]]
                below += [(inside[side == s], rows) for s in range(int(split[1].max()) + 1)]
            self.plan.append(level)
            leaves = below
        return [inside for inside, _ in leaves]

    def _split(self, codes: NDArray[np.int32], inside: Ints, account: Account) -> tuple[int, Ints]:
        """Choose the column that tells most of the target in a leaf."""
        target = self._groups(self.j, self._total() / SIDES)
        scores, sides = [], []
        for p in self.before:
            groups = private._groups(
                self.prepared, p, self.masses[p], min(self.masses[p].size, SIDES)
            )
            a, b = groups[codes[inside, p]], target[codes[inside, self.j]]
            shape = int(groups.max()) + 1, int(target.max()) + 1
            both = np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)
            alone = np.outer(both.sum(1), both.sum(0)) / max(both.sum(), 1)
            noise = private.NOISE * self.deviation * both.size
            scores.append(float(np.abs(both - alone).sum() - noise))
            sides.append(groups)
        # a row changes the L1 distance to the product of margins by 4 at most
        at = account.choose(np.array(scores), sensitivity=4.0, rho=self.choosing, what="a split")
        return self.before[at], sides[at]

    def _shares(self, counts: Floats, groups: Ints) -> Floats:
        """Return the target's shares in a leaf, drawn towards all rows' where noise is large."""
        mass = self.masses[self.j]
        all_rows = np.bincount(groups, weights=mass)
        counts = np.maximum(counts, 0.0)
        own = counts.sum() / (counts.sum() + self.deviation * np.sqrt(counts.size))
        mixed = own * counts / max(counts.sum(), 1e-9) + (1 - own) * all_rows / all_rows.sum()
        shares = mixed[groups] * mass / all_rows[groups]
        return np.asarray(shares / shares.sum())

    def _assembled(self, shares: Any, plan: list[list[tuple[int, Ints]]]) -> Node:
        def node(level: int, at: int) -> Node:
            if level == len(plan):
                return Node(shares=next(shares))
            column, groups = plan[level][at]
            first = sum(int(g.max()) + 1 for _, g in plan[level][:at])
            below = tuple(node(level + 1, first + s) for s in range(int(groups.max()) + 1))
            return Node(column, groups, below)

        return node(0, 0)


# ------------------------------------------------------------------ side by side


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every method on every table, and in how many trees are ahead."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["rotterdam", "nwtco", "colon", "gbsg2"])
    parser.add_argument("--epsilons", nargs="+", type=float, default=[1.0, 3.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args(arguments)
    methods = ("table/mst", "table/aim", "trees, depth 1", "trees, depth 2", "trees, depth 3")
    print(f"{'table':<12}{'ε':>4}  {'method':<16}{'trends':>16}{'shapes':>16}{'gap':>16}")
    for name in given.data:
        for epsilon in given.epsilons:
            for method in methods:
                found = [_judged(name, seed, method, Budget(epsilon)) for seed in given.seeds]
                parts = np.array(found)
                text = "".join(
                    f"{m:>8.3f} ± {s:.3f}"
                    for m, s in zip(parts.mean(0), parts.std(0, ddof=1) / len(parts) ** 0.5,
                                    strict=True)
                )  # fmt: skip
                print(f"{name:<12}{epsilon:>4g}  {method:<16}{text}", flush=True)
    return 0


def _judged(name: str, seed: int, method: str, budget: Budget) -> tuple[float, float, float]:
    experiment, train, held = _load(name, seed)
    if method.startswith("table/"):
        model: Any = catalogue.build(method).fit(train, seed=0, budget=budget)
    else:
        model = fit(train, budget, depth=int(method[-1]))
    drawn = model.sample(train.n_subjects, seed=0)
    use = "utility/survival" if experiment.time else "utility/prediction"
    gap = "utility/survival.c_gap" if experiment.time else "utility/prediction.auc_gap"
    found = {}
    for metric in ("fidelity/trends", "fidelity/shapes", use):
        for score in catalogue.metrics((metric,))[metric](Trial(train, held, drawn), seed=0):
            if score.group == "all":
                found[score.metric] = score.value
    return found["fidelity/trends"], found["fidelity/shapes"], found[gap]


def _load(name: str, seed: int) -> tuple[Experiment, Table, Table]:
    """Return both halves of a table under a schema as a person would declare it."""
    experiment = next(e for e in EXPERIMENTS if e.name == name)
    half = split(experiment, experiment.load(data_root()), seed)
    roles = ({"time": experiment.time, "event": experiment.target} if experiment.time
             else {"target": experiment.target})  # fmt: skip
    both = pd.concat([half.train, half.holdout], ignore_index=True).replace("", None)
    whole = mk.read(both, **roles)
    columns = []
    for column in whole.schema:
        if column.is_numeric:
            numbers = whole.numbers(column.name)
            numbers = numbers[np.isfinite(numbers)]
            column = replace(column, minimum=float(numbers.min()), maximum=float(numbers.max()))
        columns.append(column)
    schema = replace(whole.schema, columns=tuple(columns), declared=True)
    whole, n = replace(whole, schema=schema), len(half.train)
    return experiment, whole.rows(np.arange(n)), whole.rows(np.arange(n, whole.n_rows))


if __name__ == "__main__":
    raise SystemExit(main())
