"""One conditional distribution of the chain: trees on earlier columns, codes at their leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.table._trees import Splits, grow

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Part: TypeAlias = Literal["all", "token", "value"]

FEW = 12  # levels up to which a target is classified as it stands
COMPONENTS = 6  # correspondence components that stand for a nominal target of more levels
PARTS = 6  # parts of a target's distribution that kin are compared on
NEAR = 40  # a code is likely in a leaf as far as codes within 1/40 of all are there


@dataclass(frozen=True)
class Growth:
    """How the trees of a stage are grown."""

    leaf: int
    evidence: float
    trees: int
    honest: bool
    max_rows: int


@dataclass(frozen=True)
class Task:
    """One stage to be learned."""

    target: int
    part: Part
    predictors: Ints
    kin: int = -1  # the predictor whose weak effects are kept too; -1: none


@dataclass(frozen=True)
class Stage:
    """P(target | earlier columns). `part`: all of its codes, token or value, or values alone.

    Codes of the part run from 0: "token" has one more than there are tokens, which stands for a
    value; "value" starts at the first cell.
    """

    target: int
    part: Part
    predictors: Ints  # columns of the chain
    ranks: tuple[NDArray[np.float32], ...]  # per predictor: the number that splits see, by code
    trees: tuple[Splits, ...]
    starts: tuple[Ints, ...]  # per tree: where the pool of each node begins, then of its kin
    pools: tuple[Codes, ...]  # per tree: the codes at its leaves, ascending within a leaf
    edges: Floats  # (codes + 1,) rows below each code in training; empty: no smoothing
    loose: NDArray[np.bool_]  # (codes,) the code is no atom, so that neighbours may stand in
    reach: float  # neighbours farther apart than this share of all rows do not
    kin: int  # the predictor whose levels have pools of their own within each node; -1: none
    kinship: float  # how often a row draws from the pool of its own level

    def nodes(self, codes: Codes, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return tree and pool of each row of chain codes (rows, columns)."""
        seen = _view(codes, self.predictors, self.ranks)
        which = np.asarray(rng.integers(0, len(self.trees), len(codes)), np.int64)
        node: Ints = np.empty(len(codes), np.int64)
        for t, tree in enumerate(self.trees):
            rows = np.flatnonzero(which == t)
            at = tree.apply(seen[rows])
            if self.kin >= 0:
                levels = (self.starts[t].size - 1) // tree.n_nodes - 1
                own = tree.n_nodes + at * levels + codes[rows, self.kin]
                some = self.starts[t][own + 1] > self.starts[t][own]
                at = np.where(some & (rng.random(rows.size) < self.kinship), own, at)
            node[rows] = at
        return which, node

    def draw(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """Draw one code a row."""
        which, node = self.nodes(codes, rng)
        drawn = np.empty(codes.shape[0], np.int32)
        for t, pool in enumerate(self.pools):
            rows = np.flatnonzero(which == t)
            start, end = self.starts[t][node[rows]], self.starts[t][node[rows] + 1]
            depth = stratified(node[rows], rng) * (end - start)
            at = start + depth.astype(np.int64)
            drawn[rows] = pool[at]
            if self.edges.size:
                following = pool[np.minimum(at + 1, end - 1)]
                drawn[rows] = self._between(pool[at], following, depth % 1, rng)
        return drawn

    def _between(self, code: Codes, following: Codes, share: Floats, rng: Any) -> Codes:
        """Move codes towards the next code of their leaf, along the ranks of training rows."""
        low = self.edges[code] + rng.random(code.size) * np.diff(self.edges)[code]
        high = self.edges[following] + rng.random(code.size) * np.diff(self.edges)[following]
        moved = np.searchsorted(self.edges, low + share * (high - low), side="right") - 1
        near = self.edges[following] - self.edges[code] <= self.reach * self.edges[-1]
        able = near & self.loose[code] & self.loose[following]
        return np.where(able, np.clip(moved, 0, self.loose.size - 1), code).astype(np.int32)

    def draw_among(
        self, codes: Codes, allowed: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Codes, Floats]:
        """Draw one allowed code a row, and how likely an allowed one was (0: drawn anyhow)."""
        which, node = self.nodes(codes, rng)
        drawn = np.full(codes.shape[0], max(int(np.argmax(allowed)), 0), np.int32)
        share = np.zeros(codes.shape[0])
        for t, pool in enumerate(self.pools):
            rows = np.flatnonzero(which == t)
            upto = np.concatenate([[0], np.cumsum(allowed[pool])])
            start, end = self.starts[t][node[rows]], self.starts[t][node[rows] + 1]
            n = upto[end] - upto[start]
            depth = (stratified(node[rows], rng) * n).astype(np.int64)
            at = np.searchsorted(upto, upto[start] + depth, side="right") - 1
            some = n > 0
            drawn[rows[some]] = pool[at[some]]
            share[rows] = n / (end - start)
        return drawn, share

    def likelihood(self, codes: Codes, given: Codes, rng: np.random.Generator) -> Floats:
        """Return how likely the given codes (rows,) are, up to a factor of the given code."""
        which, node = self.nodes(codes, rng)
        n_codes = max(int(max(pool.max(initial=0) for pool in self.pools)), int(given.max())) + 1
        reach = n_codes // NEAR if self.edges.size else 0
        share = np.zeros(codes.shape[0])
        for t, pool in enumerate(self.pools):
            rows = np.flatnonzero(which == t)
            size = np.diff(self.starts[t])
            keys = np.repeat(np.arange(size.size), size) * n_codes + pool
            base = node[rows] * n_codes
            low = base + np.maximum(given[rows] - reach, 0)
            high = base + np.minimum(given[rows] + reach, n_codes - 1)
            found = np.searchsorted(keys, high, side="right") - np.searchsorted(keys, low)
            # a leaf that never showed the code is unlikely, not impossible
            share[rows] = (found + 0.01) / size[node[rows]]
        return share

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON values for a model file."""
        arrays: dict[str, NDArray[Any]] = {
            "predictors": self.predictors, "edges": self.edges, "loose": self.loose,
            "ranks": np.concatenate([np.zeros(0, np.float32), *self.ranks]),
            "rank_sizes": np.array([rank.size for rank in self.ranks], np.int64),
        }  # fmt: skip
        for t, tree in enumerate(self.trees):
            own = tree.arrays() | {"starts": self.starts[t], "pool": self.pools[t]}
            arrays |= {f"tree {t}/{name}": array for name, array in own.items()}
        values = {"target": self.target, "part": self.part, "reach": self.reach}
        values |= {"kin": self.kin, "kinship": self.kinship}
        return arrays, values | {"trees": len(self.trees)}

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> Stage:
        """Rebuild the stage whose state this is."""
        n_trees = range(int(values["trees"]))
        predictors = arrays["predictors"]
        trees = []
        for t in n_trees:
            start = f"tree {t}/"
            own = {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}
            trees.append(Splits.restore(own, predictors.size))
        ranks = np.split(arrays["ranks"], np.cumsum(arrays["rank_sizes"])[:-1])
        return Stage(
            int(values["target"]), values["part"], predictors,
            tuple(ranks) if predictors.size else (), tuple(trees),
            tuple(arrays[f"tree {t}/starts"] for t in n_trees),
            tuple(arrays[f"tree {t}/pool"] for t in n_trees),
            arrays["edges"], arrays["loose"], float(values["reach"]), int(values["kin"]),
            float(values["kinship"]),
        )  # fmt: skip


def _view(
    codes: Codes, predictors: Ints, ranks: tuple[NDArray[np.float32], ...]
) -> NDArray[np.float32]:
    view = np.empty((len(codes), predictors.size), np.float32)
    for i, (j, rank) in enumerate(zip(predictors, ranks, strict=True)):
        view[:, i] = rank[codes[:, j]]
    return view


def stratified(group: Ints, rng: np.random.Generator) -> Floats:
    """Return uniform numbers in [0, 1) that are spread evenly within each group.

    The rows of a leaf then take its codes in their shares, rather than at random on top of the
    randomness of the sample: the difference is what a judge sees first.
    """
    shuffled = rng.permutation(group.size)
    by_group = shuffled[np.argsort(group[shuffled], kind="stable")]
    sizes = np.bincount(group) if group.size else np.zeros(1, np.int64)
    ordered = group[by_group]
    rank = np.arange(group.size) - (np.cumsum(sizes) - sizes)[ordered]
    u = np.empty(group.size)
    u[by_group] = (rank + rng.random(group.size)) / sizes[ordered]
    return np.minimum(u, np.nextafter(1.0, 0.0))


# ------------------------------------------------------------------ learning a stage


def fit_stage(
    task: Task,
    labels: Codes,
    codes: Codes,
    *,
    n_codes: int,
    ordered: bool,
    loose: NDArray[np.bool_],
    reach: float,
    nominal: NDArray[np.bool_],
    sizes: Ints,
    binned: NDArray[np.uint8],
    growth: Growth,
    rng: np.random.Generator,
) -> Stage:
    """Learn P(labels | codes[:, task.predictors]).

    `labels` (rows,) run from 0; `codes` and `binned` are (rows, columns) of the whole chain;
    `nominal` and `sizes` describe its columns.
    """
    against = [_contingency(labels, n_codes, binned[:, j]) for j in task.predictors]
    outcome, classify, score = _outcome(labels, n_codes, ordered, against)
    ranks = tuple(
        _rank(codes[:, j], int(sizes[j]), score if nominal[j] and sizes[j] > 2 else None)
        for j in task.predictors
    )
    view = _view(codes, task.predictors, ranks)
    trees, starts, pools = [], [], []
    kinship = 1.0 if task.kin >= 0 else 0.0
    for _ in range(growth.trees):
        structure, donors = _halves(labels.size, growth, rng)
        share = structure.size / labels.size
        tree = grow(
            view[structure], outcome[structure], classify=classify,
            min_leaf=max(2, round(growth.leaf * share)), evidence=growth.evidence,
            max_features=None if growth.trees == 1 else 0.5, seed=int(rng.integers(2**31)),
        )  # fmt: skip
        node = tree.apply(view[donors])
        if np.bincount(node, minlength=tree.n_nodes)[tree.left < 0].min() == 0:
            donors = np.arange(labels.size)  # an honest half left a leaf without donors
            node = tree.apply(view)
        kin = codes[donors, task.kin] if task.kin >= 0 else None
        levels = int(sizes[task.kin]) if task.kin >= 0 else 0
        if kin is not None:
            kinship = min(kinship, _kinship(labels[donors], n_codes, node, kin, levels))
        trees.append(tree)
        pool, start = _pools(labels[donors], node, tree.n_nodes, kin, levels)
        pools.append(pool)
        starts.append(start)
    if kinship == 0:
        starts = [start[: tree.n_nodes + 1] for start, tree in zip(starts, trees, strict=True)]
        pools = [pool[: start[-1]] for pool, start in zip(pools, starts, strict=True)]
    smooth = ordered and task.part != "token" and bool(loose.any()) and reach > 0
    edges = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=n_codes))])
    return Stage(
        task.target, task.part, task.predictors, ranks, tuple(trees), tuple(starts), tuple(pools),
        edges.astype(float) if smooth else np.zeros(0), loose, reach,
        task.kin if kinship > 0 else -1, kinship,
    )  # fmt: skip


def _pools(
    labels: Codes, node: Ints, n_nodes: int, kin: Codes | None, levels: int
) -> tuple[Codes, Ints]:
    """Return labels by node, then by node and kin, and where each of these pools begins."""
    order = np.lexsort((labels, node))
    sizes = np.bincount(node, minlength=n_nodes)
    pool = labels[order]
    if kin is not None:
        own = node * levels + kin
        pool = np.concatenate([pool, labels[np.lexsort((labels, own))]])
        sizes = np.concatenate([sizes, np.bincount(own, minlength=n_nodes * levels)])
    return pool.astype(np.int32), np.concatenate([[0], np.cumsum(sizes)])


def _kinship(labels: Codes, n_codes: int, node: Ints, kin: Codes, levels: int) -> float:
    """Return how much of the labels' differences between kin within nodes is not chance.

    The chi-square of labels by kin, summed over nodes, against its degrees of freedom: the
    shrinkage of James and Stein (1961).
    """
    counts = np.bincount(labels, minlength=n_codes)
    part = np.minimum(((np.cumsum(counts) - counts / 2) / labels.size * PARTS), PARTS - 1)
    shape = (int(node.max()) + 1, levels, PARTS)
    cell = (node * levels + kin) * PARTS + part.astype(np.int64)[labels]
    table = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(float)
    rows, columns = table.sum(axis=2, keepdims=True), table.sum(axis=1, keepdims=True)
    total = np.maximum(rows.sum(axis=1, keepdims=True), 1)
    expected = rows * columns / total
    chi = float(((table - expected) ** 2 / np.maximum(expected, 1e-9))[expected > 0].sum())
    freedom = float((((rows > 0).sum(axis=1) - 1) * ((columns > 0).sum(axis=2) - 1)).clip(0).sum())
    if freedom == 0 or chi - freedom < 2 * np.sqrt(2 * freedom):
        return 0.0
    return 1 - freedom / chi


def _halves(n: int, growth: Growth, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return rows that shape a tree and rows that fill its leaves."""
    everyone = np.arange(n)
    order = rng.permutation(n)
    if growth.honest and n >= 4 * growth.leaf:
        return order[: n // 2][: growth.max_rows], order[n // 2 :]
    if growth.trees > 1:
        return order[: max(1, int(0.63 * n))][: growth.max_rows], everyone
    return (order[: growth.max_rows] if n > growth.max_rows else everyone), everyone


def _contingency(labels: Codes, n_codes: int, binned: NDArray[np.uint8]) -> Floats:
    n_bins = int(binned.max(initial=0)) + 1
    cell = labels.astype(np.int64) * n_bins + binned
    return np.bincount(cell, minlength=n_codes * n_bins).reshape(n_codes, n_bins).astype(float)


def _outcome(
    labels: Codes, n_codes: int, ordered: bool, against: list[Floats]
) -> tuple[NDArray[Any], bool, Floats]:
    """Return what trees are grown on, whether to classify, and a score that orders predictors."""
    counts = np.bincount(labels, minlength=n_codes)
    middle = (np.cumsum(counts) - counts / 2) / max(labels.size, 1)
    if ordered and n_codes > FEW:
        # the rank, and with less weight where the distribution's parts are
        knots = np.arange(1, 6) / 6
        rank = middle[labels][:, None]
        return np.concatenate([rank * 12**0.5, 0.7 * (rank > knots)], axis=1), False, rank[:, 0]
    if ordered or n_codes <= 2 or not against:
        return labels, True, middle[labels]
    components = _components(np.concatenate(against, axis=1), counts)
    if n_codes <= FEW:
        return labels, True, components[labels, 0]
    return components[labels], False, components[labels, 0]


def _components(table: Floats, counts: Ints) -> Floats:
    """Return correspondence components of levels (levels, components), rare levels shrunk."""
    table = table / max(table.sum(), 1.0)
    rows, columns = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    rows[rows == 0], columns[columns == 0] = 1.0, 1.0
    left, weight, _ = np.linalg.svd(
        (table - rows * columns) / np.sqrt(rows * columns), full_matrices=False
    )
    components = left[:, :COMPONENTS] * weight[:COMPONENTS] / np.sqrt(rows)
    return np.asarray(components * (counts / (counts + 10.0))[:, None], dtype=np.float64)


def _rank(codes: Codes, n_codes: int, score: Floats | None) -> NDArray[np.float32]:
    """Return the number of each code: itself, or its place by mean score when it has no order."""
    if score is None:
        return np.arange(n_codes, dtype=np.float32)
    count = np.bincount(codes, minlength=n_codes)
    total = np.bincount(codes, weights=score, minlength=n_codes)
    mean = (total + 5 * score.mean()) / (count + 5)
    return np.argsort(np.argsort(mean, kind="stable"), kind="stable").astype(np.float32)
