"""One conditional distribution of the chain: trees on earlier columns, codes at their leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.synthesizers.table._binning import components, contingency, stratified
from manikin.synthesizers.table._tilt import FEW, Tilts, blocks
from manikin.synthesizers.table._trees import Splits, grow

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Part: TypeAlias = Literal["all", "token", "value"]

ORDERS = 4  # orders in which a many-level nominal predictor is looked at, one a component
EXPECTED = 10.0  # rows that chance expects of a pair of codes that is said never to occur
MOST_HELD = 2**26  # nodes times parts that a model file may ask for
REDRAWS = 8  # times that an impossible code is drawn again
NEAR = 40  # a code is likely in a leaf as far as codes within 1/40 of all are there


@dataclass(frozen=True)
class Growth:
    """How the trees of a stage are grown."""

    leaf: int
    evidence: float
    pooling: float
    trees: int
    honest: bool
    max_rows: int


@dataclass(frozen=True)
class Task:
    """One stage to be learned."""

    target: int
    part: Part
    predictors: Ints


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
    pools: tuple[Codes, ...]  # per tree: the codes at its leaves, in order of `place`
    edges: Floats  # (codes + 1,) rows below each code in training; empty: no smoothing
    loose: NDArray[np.bool_]  # (codes,) the code is no atom, so that neighbours may stand in
    reach: float  # neighbours farther apart than this share of all rows do not
    place: Ints  # (codes,) the order of codes within a leaf: part by part
    tilts: Tilts  # by what earlier columns codes are weighted within their leaf
    never: dict[int, NDArray[np.bool_]]  # column → (its codes, codes) that never occur together

    def nodes(self, codes: Codes, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return tree and leaf, pooled, of each row of chain codes (rows, columns)."""
        seen = _view(codes, self.predictors, self.ranks)
        which = np.asarray(rng.integers(0, len(self.trees), len(codes)), np.int64)
        node: Ints = np.empty(len(codes), np.int64)
        for t, tree in enumerate(self.trees):
            rows = np.flatnonzero(which == t)
            found = tree.apply(seen[rows])
            node[rows] = tree.pooled(found, np.diff(self.starts[t]), rng)
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

    def _held(self, t: int, allowed: NDArray[np.bool_] | None) -> Ints:
        """Return how many allowed codes of each part every node of tree `t` holds."""
        pool, n_parts = self.pools[t], self.tilts.n_parts
        n_nodes = self.starts[t].size - 1
        at = np.repeat(np.arange(n_nodes), np.diff(self.starts[t])) * n_parts
        cell = at + self.tilts.part[pool]
        if allowed is not None:
            cell = cell[allowed[pool]]
        return np.bincount(cell, minlength=n_nodes * n_parts).reshape(n_nodes, n_parts)

    def _at(
        self, t: int, node: Ints, codes: Codes, u: Floats, allowed: NDArray[np.bool_] | None
    ) -> tuple[Ints, Floats, Floats]:
        """Return where in tree `t`'s pool each row's `u` falls, how far into that place, and mass.

        The mass is the weight of the leaf's allowed codes as a share of all its codes' weight.
        """
        pool, whole = self.pools[t], self._held(t, None)
        some = whole if allowed is None else self._held(t, allowed)
        # places in the pool of the codes that may be drawn, and how many of them come before
        places = np.arange(pool.size) if allowed is None else np.flatnonzero(allowed[pool])
        before = np.cumsum(some.ravel()) - some.ravel()
        at, rest, mass = np.zeros(node.size, np.int64), np.zeros(node.size), np.ones(node.size)
        n_parts = self.tilts.n_parts
        for block in blocks(node.size, n_parts):
            weight = self.tilts.weights(codes[block])
            upto = np.cumsum(weight * some[node[block]], axis=1)
            total = upto[:, -1]
            sought = u[block] * total
            part = np.minimum((upto <= sought[:, None]).sum(axis=1), n_parts - 1)
            each = np.arange(part.size)
            held, share = some[node[block], part], weight[each, part]
            into = (sought - upto[each, part]) / np.maximum(share, 1e-300) + held
            into = np.clip(into, 0, np.maximum(held - 1e-9, 0))
            found = before[node[block] * n_parts + part] + into.astype(np.int64)
            at[block] = places[np.minimum(found, places.size - 1)] if places.size else 0
            rest[block] = into % 1
            if allowed is not None:
                mass[block] = total / (weight * whole[node[block]]).sum(axis=1)
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
        n_codes = self.place.size
        reach = n_codes // NEAR if self.edges.size else 0
        share = np.zeros(codes.shape[0])
        for t, pool in enumerate(self.pools):
            rows = np.flatnonzero(which == t)
            size = np.diff(self.starts[t])
            keys = np.repeat(np.arange(size.size), size) * n_codes + self.place[pool]
            base, own = node[rows] * n_codes, self.place[given[rows]]
            low = base + np.maximum(own - reach, 0)
            high = base + np.minimum(own + reach, n_codes - 1)
            found = np.searchsorted(keys, high, side="right") - np.searchsorted(keys, low)
            held = self._held(t, None)
            for block in blocks(rows.size, self.tilts.n_parts):
                weight = self.tilts.weights(codes[rows[block]])
                own_weight = weight[np.arange(len(weight)), self.tilts.part[given[rows[block]]]]
                whole = (weight * held[node[rows[block]]]).sum(axis=1)
                # a leaf that never showed the code is unlikely, not impossible
                share[rows[block]] = (found[block] + 0.01) * own_weight / whole
        return np.where(self.impossible(codes, given), 1e-9, share)

    def usual(self, codes: Codes, rng: np.random.Generator) -> Floats:
        """Return the shares of parts (rows, parts) in the leaf of each row of chain codes."""
        which, node = self.nodes(codes, rng)
        shares = np.empty((len(codes), self.tilts.n_parts))
        for t in range(len(self.trees)):
            held = self._held(t, None)
            rows = np.flatnonzero(which == t)
            shares[rows] = (held / np.maximum(held.sum(axis=1, keepdims=True), 1))[node[rows]]
        return shares

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON values for a model file."""
        arrays: dict[str, NDArray[Any]] = {
            "predictors": self.predictors, "edges": self.edges, "loose": self.loose,
            "place": self.place, "never": np.array(list(self.never), np.int64),
            "ranks": np.concatenate([np.zeros(0, np.float32), *self.ranks]),
            "rank_sizes": np.array([rank.size for rank in self.ranks], np.int64),
        }  # fmt: skip
        arrays |= {f"never {j}": pairs for j, pairs in self.never.items()}
        for t, tree in enumerate(self.trees):
            own = tree.arrays() | {"starts": self.starts[t], "pool": self.pools[t]}
            arrays |= {f"tree {t}/{name}": array for name, array in own.items()}
        values = {"target": self.target, "part": self.part, "reach": self.reach}
        return arrays | self.tilts.arrays(), values | {"trees": len(self.trees)}

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
            trees[-1].check_pool(own["starts"], own["pool"])
            if own["pool"].dtype.kind != "i" or (own["pool"] < 0).any():
                raise ValueError("codes of a tree")
        tilts = Tilts.restore(arrays)
        if max((tree.n_nodes for tree in trees), default=0) * tilts.n_parts > MOST_HELD:
            raise ValueError("parts of a tree")
        ranks = np.split(arrays["ranks"], np.cumsum(arrays["rank_sizes"])[:-1])
        return Stage(
            int(values["target"]), values["part"], predictors,
            tuple(ranks) if predictors.size else (), tuple(trees),
            tuple(arrays[f"tree {t}/starts"] for t in n_trees),
            tuple(arrays[f"tree {t}/pool"] for t in n_trees),
            arrays["edges"], arrays["loose"], float(values["reach"]), arrays["place"],
            tilts, {int(j): arrays[f"never {j}"] for j in arrays["never"]},
        )  # fmt: skip


def _view(
    codes: Codes, predictors: Ints, ranks: tuple[NDArray[np.float32], ...]
) -> NDArray[np.float32]:
    view = np.empty((len(codes), predictors.size), np.float32)
    for i, (j, rank) in enumerate(zip(predictors, ranks, strict=True)):
        view[:, i] = rank[codes[:, j]]
    return view


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
    part: Ints,
    growth: Growth,
    rng: np.random.Generator,
) -> Stage:
    """Learn P(labels | codes[:, task.predictors]).

    `labels` (rows,) run from 0, `part` (codes,) groups them; `codes` and `binned` are (rows,
    columns) of the whole chain; `nominal` and `sizes` describe its columns.
    """
    place = np.empty(n_codes, np.int64)
    place[np.lexsort((np.arange(n_codes), part))] = np.arange(n_codes)
    against = [contingency(labels, n_codes, binned[:, j]) for j in task.predictors]
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
    for _ in range(growth.trees):
        structure, donors = _halves(labels.size, growth, rng)
        share = structure.size / labels.size
        tree = grow(
            view[structure], outcome[structure], classify=classify,
            min_leaf=max(2, round(growth.leaf * share)), evidence=growth.evidence,
            pooling=growth.pooling, max_features=None if growth.trees == 1 else 0.5,
            seed=int(rng.integers(2**31)),
        )  # fmt: skip
        node = tree.apply(view[donors])
        if np.bincount(node, minlength=tree.n_nodes)[tree.left < 0].min() == 0:
            donors = np.arange(labels.size)  # an honest half left a leaf without donors
            node = tree.apply(view)
        trees.append(tree)
        pool, start = _pools(labels[donors], place, node, tree.n_nodes)
        pools.append(pool)
        starts.append(start)
    smooth = ordered and task.part != "token" and bool(loose.any()) and reach > 0
    edges = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=n_codes))])
    return Stage(
        task.target, task.part, predictors, tuple(ranks), tuple(trees), tuple(starts), tuple(pools),
        edges.astype(float) if smooth else np.zeros(0), loose, reach,
        place, Tilts(part),
        _never(labels, n_codes, codes, task.predictors, sizes) if not smooth else {},
    )  # fmt: skip


def _pools(labels: Codes, place: Ints, node: Ints, n_nodes: int) -> tuple[Codes, Ints]:
    """Return labels by node, in their order within it, and where each node's pool begins."""
    pool = labels[np.lexsort((place[labels], node))]
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


def _halves(n: int, growth: Growth, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return rows that shape a tree and rows that fill its leaves."""
    everyone = np.arange(n)
    order = rng.permutation(n)
    if growth.honest and n >= 4 * growth.leaf:
        return order[: n // 2][: growth.max_rows], order[n // 2 :]
    if growth.trees > 1:
        return order[: max(1, int(0.63 * n))][: growth.max_rows], everyone
    return (order[: growth.max_rows] if n > growth.max_rows else everyone), everyone


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
    found = components(np.concatenate(against, axis=1), counts)
    if n_codes <= FEW:
        return labels, True, found[labels]
    return found[labels], False, found[labels]


def _rank(codes: Codes, n_codes: int, score: Floats | None) -> NDArray[np.float32]:
    """Return the number of each code: itself, or its place by mean score when it has no order."""
    if score is None:
        return np.arange(n_codes, dtype=np.float32)
    count = np.bincount(codes, minlength=n_codes)
    total = np.bincount(codes, weights=score, minlength=n_codes)
    mean = (total + 5 * score.mean()) / (count + 5)
    return np.argsort(np.argsort(mean, kind="stable"), kind="stable").astype(np.float32)
