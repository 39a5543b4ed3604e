"""One conditional distribution of the chain: trees on earlier columns, codes at their leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.table._trees import Splits, grow

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Part: TypeAlias = Literal["all", "token", "value"]

FEW = 12  # levels up to which a target is classified as it stands
COMPONENTS = 10  # correspondence components that stand for a nominal target of more levels
PARTS = 12  # parts of a target's distribution among which an outcome may shift it
ORDERS = 4  # orders in which a many-level nominal predictor is looked at, one a component
CERTAIN = 0.0  # standard deviations of chance that an outcome's effect must exceed
EXPECTED = 10.0  # rows that chance expects of a pair of codes that is said never to occur
REDRAWS = 8  # times that an impossible code is drawn again
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
    kin: int = -1  # the outcome, whose weak effects are kept too; -1: none


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
    starts: tuple[Ints, ...]  # per tree (nodes + 1,): where the pool of each node begins
    pools: tuple[Codes, ...]  # per tree: the codes at its leaves, ascending within a leaf
    edges: Floats  # (codes + 1,) rows below each code in training; empty: no smoothing
    loose: NDArray[np.bool_]  # (codes,) the code is no atom, so that neighbours may stand in
    reach: float  # neighbours farther apart than this share of all rows do not
    kin: int  # the outcome by whose level codes are weighted within their leaf; -1: none
    tilt: Floats  # (levels of kin, codes) these weights; empty: all alike
    never: dict[int, NDArray[np.bool_]]  # column → (its codes, codes) that never occur together

    def nodes(self, codes: Codes, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return tree and leaf of each row of chain codes (rows, columns)."""
        seen = _view(codes, self.predictors, self.ranks)
        which = np.asarray(rng.integers(0, len(self.trees), len(codes)), np.int64)
        node: Ints = np.empty(len(codes), np.int64)
        for t, tree in enumerate(self.trees):
            rows = np.flatnonzero(which == t)
            node[rows] = tree.apply(seen[rows])
        return which, node

    def draw(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """Draw one code a row."""
        which, node = self.nodes(codes, rng)
        drawn = np.empty(codes.shape[0], np.int32)
        for t, pool in enumerate(self.pools):
            rows = np.flatnonzero(which == t)
            u = stratified(node[rows], rng)
            at, rest, _ = self._at(t, node[rows], codes[rows], u, None)
            drawn[rows] = pool[at]
            self._redraw(drawn, t, rows, node[rows], codes, rng)
            if self.edges.size:
                last = self.starts[t][node[rows] + 1] - 1
                following = pool[np.minimum(at + 1, last)]
                drawn[rows] = self._between(pool[at], following, rest, rng)
        return drawn

    def _redraw(
        self, drawn: Codes, t: int, rows: Ints, node: Ints, codes: Codes, rng: np.random.Generator
    ) -> None:
        """Draw again, from the same leaf, the codes that never occur with those before them."""
        for _ in range(REDRAWS):
            bad = np.flatnonzero(self.impossible(codes[rows], drawn[rows]))
            if not bad.size:
                return
            at, _, _ = self._at(t, node[bad], codes[rows[bad]], rng.random(bad.size), None)
            drawn[rows[bad]] = self.pools[t][at]

    def impossible(self, codes: Codes, drawn: Codes) -> NDArray[np.bool_]:
        """Return where a drawn code (rows,) never occurs with those of its row, (rows,)."""
        bad = np.zeros(drawn.size, bool)
        for j, pairs in self.never.items():
            bad |= pairs[codes[:, j], drawn]
        return bad

    def _at(
        self, t: int, node: Ints, codes: Codes, u: Floats, allowed: NDArray[np.bool_] | None
    ) -> tuple[Ints, Floats, Floats]:
        """Return where in tree `t`'s pool each row's `u` falls, how far into that place, and mass.

        The mass is the weight of the leaf's allowed codes as a share of all its codes' weight.
        """
        pool, start, end = self.pools[t], self.starts[t][node], self.starts[t][node + 1]
        tilted = self.tilt.size > 0
        levels = codes[:, self.kin] if tilted else np.zeros(node.size, np.int32)
        at, rest, mass = np.zeros(node.size, np.int64), np.zeros(node.size), np.ones(node.size)
        for level in np.unique(levels):
            rows = np.flatnonzero(levels == level)
            weight = self.tilt[level][pool] if tilted else np.ones(pool.size)
            some = weight if allowed is None else weight * allowed[pool]
            upto = np.concatenate([[0.0], np.cumsum(some)])
            low, high = upto[start[rows]], upto[end[rows]]
            sought = low + u[rows] * (high - low)
            found = np.searchsorted(upto, sought, side="right") - 1
            found = np.clip(found, start[rows], end[rows] - 1)
            at[rows] = found
            rest[rows] = np.clip((sought - upto[found]) / np.maximum(some[found], 1e-12), 0, 1)
            if allowed is not None:
                whole = np.concatenate([[0.0], np.cumsum(weight)])
                mass[rows] = (high - low) / (whole[end[rows]] - whole[start[rows]])
        return at, rest, mass

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
            u = stratified(node[rows], rng)
            at, _, share[rows] = self._at(t, node[rows], codes[rows], u, allowed)
            some = share[rows] > 0
            drawn[rows[some]] = pool[at[some]]
        share[self.impossible(codes, drawn)] = 0.0
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
            if self.tilt.size:
                share[rows] *= self._lean(t, node[rows], codes[rows, self.kin], given[rows])
        return np.where(self.impossible(codes, given), 1e-9, share)

    def _lean(self, t: int, node: Ints, levels: Codes, given: Codes) -> Floats:
        """Return by how much the outcome makes given codes likelier than their leaf says."""
        lean = np.empty(node.size)
        start, end = self.starts[t][node], self.starts[t][node + 1]
        for level in np.unique(levels):
            rows = np.flatnonzero(levels == level)
            upto = np.concatenate([[0.0], np.cumsum(self.tilt[level][self.pools[t]])])
            usual = (upto[end[rows]] - upto[start[rows]]) / (end[rows] - start[rows])
            lean[rows] = self.tilt[level][given[rows]] / usual
        return lean

    def leaning(
        self, codes: Codes, labels: Codes, kin: Codes, ordered: bool, rng: np.random.Generator
    ) -> Stage:
        """Return the stage tilted so that it gives drawn rows the outcome's effect on real ones.

        `codes` are drawn rows, `labels` and `kin` the stage's codes and outcome in training. The
        real counts O of codes by outcome are compared with E, which the drawn rows' leaves lead
        to expect. O is Poisson with mean E θ, and θ gamma with mean 1 whose variance is the
        chi-square's excess over its degrees of freedom, a row; codes are weighted by its
        posterior mean (DuMouchel, The American Statistician 53 (1999), with one gamma for two).
        A split has to earn its place in one leaf, this in all of them together; and what earlier
        columns lost of the outcome is not lost again.
        """
        if self.kin < 0 or not codes.size or not labels.size:
            return self
        n_codes = self.loose.size
        part = _parts(labels, n_codes, ordered)
        levels = int(max(kin.max(), codes[:, self.kin].max())) + 1
        which, node = self.nodes(codes, rng)
        expected = np.zeros((levels, int(part.max()) + 1))
        for t, pool in enumerate(self.pools):
            mine = which == t
            expected += _expected(
                part[pool], self.starts[t], node[mine], codes[mine, self.kin], expected.shape
            )
        observed = np.zeros_like(expected)
        np.add.at(observed, (kin, part[labels]), 1.0)
        # as many drawn as real rows of each outcome
        drawn = np.maximum(expected.sum(axis=1, keepdims=True), 1e-9)
        tilt = _posterior(observed, expected * observed.sum(axis=1, keepdims=True) / drawn)
        return self if tilt is None else replace(self, tilt=tilt[:, part])

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON values for a model file."""
        arrays: dict[str, NDArray[Any]] = {
            "predictors": self.predictors, "edges": self.edges, "loose": self.loose,
            "tilt": self.tilt, "never": np.array(list(self.never), np.int64),
            "ranks": np.concatenate([np.zeros(0, np.float32), *self.ranks]),
            "rank_sizes": np.array([rank.size for rank in self.ranks], np.int64),
        }  # fmt: skip
        arrays |= {f"never {j}": pairs for j, pairs in self.never.items()}
        for t, tree in enumerate(self.trees):
            own = tree.arrays() | {"starts": self.starts[t], "pool": self.pools[t]}
            arrays |= {f"tree {t}/{name}": array for name, array in own.items()}
        values = {"target": self.target, "part": self.part, "reach": self.reach}
        return arrays, values | {"kin": self.kin, "trees": len(self.trees)}

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
            arrays["tilt"], {int(j): arrays[f"never {j}"] for j in arrays["never"]},
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
    outcome, classify, scores = _outcome(labels, n_codes, ordered, against)
    seen, ranks = [], []
    for j in task.predictors:
        unordered = nominal[j] and sizes[j] > 2
        for score in scores.T[: ORDERS if unordered and sizes[j] > FEW else 1]:
            seen.append(j)
            ranks.append(_rank(codes[:, j], int(sizes[j]), score if unordered else None))
    predictors = np.array(seen, np.int64)
    view = _view(codes, predictors, tuple(ranks))
    trees, starts, pools = [], [], []
    # where levels are many and without order, no leaf shows more than a few rows of any
    floor = growth.leaf / 2 if not classify and not ordered else growth.leaf
    for _ in range(growth.trees):
        structure, donors = _halves(labels.size, growth, rng)
        share = structure.size / labels.size
        tree = grow(
            view[structure], outcome[structure], classify=classify,
            min_leaf=max(2, round(floor * share)), evidence=growth.evidence,
            max_features=None if growth.trees == 1 else 0.5, seed=int(rng.integers(2**31)),
        )  # fmt: skip
        node = tree.apply(view[donors])
        if np.bincount(node, minlength=tree.n_nodes)[tree.left < 0].min() == 0:
            donors = np.arange(labels.size)  # an honest half left a leaf without donors
            node = tree.apply(view)
        trees.append(tree)
        pool, start = _pools(labels[donors], node, tree.n_nodes)
        pools.append(pool)
        starts.append(start)
    smooth = ordered and task.part != "token" and bool(loose.any()) and reach > 0
    edges = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=n_codes))])
    return Stage(
        task.target, task.part, predictors, tuple(ranks), tuple(trees), tuple(starts), tuple(pools),
        edges.astype(float) if smooth else np.zeros(0), loose, reach,
        task.kin, np.zeros((0, 0)),
        _never(labels, n_codes, codes, task.predictors, sizes) if not smooth else {},
    )  # fmt: skip


def _pools(labels: Codes, node: Ints, n_nodes: int) -> tuple[Codes, Ints]:
    """Return labels by node, ascending within it, and where each node's pool begins."""
    pool = labels[np.lexsort((labels, node))]
    sizes = np.bincount(node, minlength=n_nodes)
    return pool.astype(np.int32), np.concatenate([[0], np.cumsum(sizes)])


def _never(
    labels: Codes, n_codes: int, codes: Codes, predictors: Ints, sizes: Ints
) -> dict[int, NDArray[np.bool_]]:
    """Return the pairs of codes that chance would have shown many times and training never did.

    Leaves that mix the sexes would otherwise make men pregnant.
    """
    found = {}
    for j in (int(j) for j in predictors if sizes[j] <= FEW):
        size = int(sizes[j])
        pairs = np.bincount(codes[:, j].astype(np.int64) * n_codes + labels,
                            minlength=size * n_codes).reshape(size, n_codes)  # fmt: skip
        chance = np.outer(pairs.sum(axis=1), pairs.sum(axis=0)) / max(labels.size, 1)
        never = (pairs == 0) & (chance >= EXPECTED)
        if never.any():
            found[j] = never
    return found


def _parts(labels: Codes, n_codes: int, ordered: bool) -> Ints:
    """Return the part of the distribution that each code is in: itself when it has no order."""
    if not ordered or n_codes <= FEW:
        return np.arange(n_codes)
    counts = np.bincount(labels, minlength=n_codes)
    middle = (np.cumsum(counts) - counts / 2) / labels.size
    return np.minimum(middle * PARTS, PARTS - 1).astype(np.int64)


def _expected(part: Ints, starts: Ints, node: Ints, kin: Codes, shape: tuple[int, int]) -> Floats:
    """Return how many of each part the leaves of drawn rows lead to expect, by outcome."""
    levels, n_parts = shape
    n_nodes = starts.size - 1
    at = np.repeat(np.arange(n_nodes), np.diff(starts))
    held = np.bincount(at * n_parts + part, minlength=n_nodes * n_parts)
    shares = held.reshape(n_nodes, n_parts) / np.maximum(np.diff(starts), 1)[:, None]
    whose = np.bincount(node * levels + kin, minlength=n_nodes * levels)
    return np.asarray(whose.reshape(n_nodes, levels).T @ shares, dtype=np.float64)


def _posterior(observed: Floats, expected: Floats) -> Floats | None:
    """Return the weights θ of observed over expected counts (levels, parts), None for chance."""
    some = expected > 0
    chi = float(((observed - expected)[some] ** 2 / expected[some]).sum())
    freedom = (observed.any(axis=1).sum() - 1) * (observed.any(axis=0).sum() - 1)
    if chi - freedom <= CERTAIN * np.sqrt(2 * freedom):
        return None
    variance = (chi - freedom) / expected.sum()
    return np.asarray((observed * variance + 1) / (expected * variance + 1))


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


def alike(labels: Codes, n_codes: int, binned: NDArray[np.uint8]) -> Ints:
    """Return the codes in an order in which neighbours go with like `binned` values of others.

    Four groups by the first correspondence component, each ordered by the second.
    """
    against = [_contingency(labels, n_codes, other) for other in binned.T]
    counts = np.bincount(labels, minlength=n_codes)
    components = _components(np.concatenate(against, axis=1), counts)
    order = np.argsort(components[:, 0], kind="stable")
    share = np.cumsum(counts[order]) / max(labels.size, 1)
    group = np.empty(n_codes, np.int64)
    group[order] = np.minimum(share * 4, 3)
    second = components[:, min(1, components.shape[1] - 1)]
    return np.asarray(np.lexsort((second, group)))


def _outcome(
    labels: Codes, n_codes: int, ordered: bool, against: list[Floats]
) -> tuple[NDArray[Any], bool, Floats]:
    """Return what trees are grown on, whether to classify, and scores that order predictors."""
    counts = np.bincount(labels, minlength=n_codes)
    middle = (np.cumsum(counts) - counts / 2) / max(labels.size, 1)
    if ordered and n_codes > FEW:
        # the rank, and with less weight where the distribution's parts are
        knots = np.arange(1, 6) / 6
        rank = middle[labels][:, None]
        return np.concatenate([rank * 12**0.5, 0.7 * (rank > knots)], axis=1), False, rank
    if ordered or n_codes <= 2 or not against:
        return labels, True, middle[labels][:, None]
    components = _components(np.concatenate(against, axis=1), counts)
    if n_codes <= FEW:
        return labels, True, components[labels]
    return components[labels], False, components[labels]


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
