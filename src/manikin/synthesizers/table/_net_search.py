"""The structure of a Bayesian network: scores of families, Chow-Liu trees, hill climbing.

Chow & Liu, "Approximating discrete probability distributions with dependence trees", IEEE Trans.
Information Theory 14 (1968); Heckerman, Geiger & Chickering, "Learning Bayesian networks: the
combination of knowledge and statistical data", Machine Learning 20 (1995), for BDeu (eq. 28) and
the search over single edges; Schwarz, Ann. Statist. 6 (1978), for BIC. Tables of a family are
smoothed parent by parent: a row of the table leans on the row of the family without its last
parent (Friedman & Goldszmidt, "Learning Bayesian networks with local structure", 1996, sec. 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

__all__ = ["Constraints", "Families", "ancestry", "chow_liu", "climb", "heaviest_clique", "table"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Parents: TypeAlias = tuple[tuple[int, ...], ...]  # of each column
Score: TypeAlias = Literal["bic", "bdeu", "predictive"]

MAX_FAMILY = 2**16  # cells of one family's table
MAX_CLIQUE = 2**17  # cells of one table of exact inference
LEAST_GAIN = 1e-6


@dataclass(frozen=True)
class Constraints:
    """Which edges must be there and which must not; (columns, columns), source by target."""

    required: Bools
    forbidden: Bools
    most_parents: int


# ------------------------------------------------------------------ families


@dataclass
class Families:
    """Counts, scores and tables of families, over rows of bins."""

    binned: Ints  # (rows, columns)
    sizes: Ints  # (columns,)
    score_name: Score
    prior: float  # rows that a table's prior weighs, or BDeu's equivalent sample
    information: Floats = field(init=False)  # (columns, columns) mutual information of pairs, nats
    _known: dict[tuple[int, tuple[int, ...]], float] = field(init=False, default_factory=dict)
    _columns: Ints = field(init=False)

    def __post_init__(self) -> None:
        self._columns = np.ascontiguousarray(self.binned.T.astype(np.int64))
        m = len(self.sizes)
        self.information = np.zeros((m, m))
        for i in range(m):
            for j in range(i):
                found = mutual_information(self.counts(j, (i,))[:, None, :])
                self.information[i, j] = self.information[j, i] = found

    def counts(self, child: int, parents: tuple[int, ...]) -> Floats:
        """Return the rows of each cell, axes in the order of the parents, then the child."""
        cell = np.zeros(self._columns.shape[1], np.int64)
        for j in (*parents, child):
            cell = cell * self.sizes[j] + self._columns[j]
        shape = tuple(int(self.sizes[j]) for j in (*parents, child))
        return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(float)

    def arranged(self, child: int, parents: Iterable[int]) -> tuple[int, ...]:
        """Return parents, those that tell most of the child first."""
        return tuple(sorted(parents, key=lambda i: (-self.information[i, child], i)))

    def cells(self, child: int, parents: Iterable[int]) -> int:
        """Return the size of a family's table."""
        return int(np.prod(self.sizes[list(parents)], dtype=float) * self.sizes[child])

    def score(self, child: int, parents: Iterable[int]) -> float:
        """Return how well a family explains the child, higher is better; -inf: too large."""
        key = child, self.arranged(child, parents)
        if key not in self._known:
            fits = self.cells(*key) <= MAX_FAMILY
            self._known[key] = self._scored(self.counts(*key)) if fits else -np.inf
        return self._known[key]

    def table(self, child: int, parents: Iterable[int]) -> Floats:
        """Return P(child | parents), axes in the order of `arranged`, then the child."""
        return table(self.counts(child, self.arranged(child, parents)), self.prior)

    def strength(self, child: int, parents: tuple[int, ...], parent: int) -> float:
        """Return the mutual information of child and parent given the other parents, in bits."""
        others = tuple(i for i in parents if i != parent)
        counts = self.counts(child, (*others, parent))
        shape = (-1, int(self.sizes[parent]), int(self.sizes[child]))
        return mutual_information(counts.reshape(shape).swapaxes(0, 1)) / float(np.log(2))

    def _scored(self, counts: Floats) -> float:
        flat = counts.reshape(-1, counts.shape[-1])
        if self.score_name == "bdeu":
            alike = self.prior / flat.shape[0]
            own = alike / flat.shape[1]
            gain = gammaln(flat + own).sum() - flat.size * gammaln(own)
            gain -= gammaln(flat.sum(axis=1) + alike).sum() - flat.shape[0] * gammaln(alike)
            return float(gain)
        if self.score_name == "predictive":
            return left_out(counts, self.prior)
        rows = flat.sum(axis=1)
        likelihood = _xlogx(flat).sum() - _xlogx(rows).sum()
        free = flat.shape[0] * (flat.shape[1] - 1)
        return float(likelihood - 0.5 * np.log(max(rows.sum(), 2)) * free)


def table(counts: Floats, prior: float) -> Floats:
    """Return smoothed shares of the last axis: each row leans on those of one parent fewer."""
    return _leaning(counts, prior, np.zeros(()))


def left_out(counts: Floats, prior: float) -> float:
    """Return the log-likelihood of every row under the table of all other rows."""
    share = _leaning(counts, prior, np.ones(()))
    here = counts > 0
    return float((counts[here] * np.log(share[here])).sum())


def _leaning(counts: Floats, prior: float, without: Floats) -> Floats:
    """Return smoothed shares from all rows but `without` (0 or 1) of each cell's own."""
    size = counts.shape[-1]
    share: Floats = np.full((1,) * (counts.ndim - 1) + (size,), 1.0 / size)
    for kept in range(counts.ndim):  # parents so far
        gone = tuple(range(kept, counts.ndim - 1))
        rows = counts.sum(axis=gone, keepdims=True) if gone else counts
        total = rows.sum(axis=-1, keepdims=True)
        own = np.maximum(rows - without, 0.0)
        share = (own + prior * share) / (np.maximum(total - without, 0.0) + prior)
    return share


def mutual_information(counts: Floats) -> float:
    """Return I(first; last axis | middle axis) of counts (first, middle, last), in nats."""
    n = max(float(counts.sum()), 1.0)
    found = _xlogx(counts).sum() + _xlogx(counts.sum(axis=(0, 2))).sum()
    found -= _xlogx(counts.sum(axis=2)).sum() + _xlogx(counts.sum(axis=0)).sum()
    return max(float(found) / n, 0.0)


def _xlogx(x: Floats) -> Floats:
    return np.asarray(x * np.log(np.maximum(x, 1e-300)))


# ------------------------------------------------------------------ graphs


def ancestry(adjacent: Bools) -> Bools:
    """Return which columns lead to which, along one edge or more."""
    reach = adjacent.copy()
    for _ in range(max(len(adjacent), 2).bit_length()):
        reach |= (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    return reach


def topological(parents: Parents) -> list[int]:
    """Return columns, parents before children. Raises ValueError for a cycle."""
    order: list[int] = []
    placed: set[int] = set()
    left = list(range(len(parents)))
    while left:
        ready = [j for j in left if placed.issuperset(parents[j])]
        if not ready:
            raise ValueError("a cycle")
        order += ready
        placed.update(ready)
        left = [j for j in left if j not in placed]
    return order


def elimination(scopes: Iterable[Iterable[int]], sizes: Ints, last: int = -1) -> list[
    tuple[int, tuple[int, ...]]
]:  # fmt: skip
    """Return variables in the order in which summing them out makes the smallest tables.

    With each come its neighbours at that time; the variable `last` is kept for the end.
    """
    near: dict[int, set[int]] = {}
    for scope in scopes:
        scope = set(scope)
        for v in scope:
            near.setdefault(v, set()).update(scope - {v})
    weight = {v: float(np.log(sizes[v])) for v in near}
    order = []
    while near:
        free = [v for v in near if v != last] or [last]
        at = min(free, key=lambda v: (sum(weight[u] for u in near[v]) + weight[v], v))
        beside = near.pop(at)
        for u in beside:
            near[u] |= beside - {u}
            near[u].discard(at)
        order.append((at, tuple(sorted(beside))))
    return order


def heaviest_clique(parents: Parents, sizes: Ints) -> float:
    """Return the cells of the largest table that exact inference needs."""
    scopes = [(*above, j) for j, above in enumerate(parents)]
    return max(
        (float(np.prod(sizes[[v, *near]], dtype=float)) for v, near in elimination(scopes, sizes)),
        default=0.0,
    )


def as_parents(adjacent: Bools) -> Parents:
    """Return the parents of each column."""
    return tuple(tuple(int(i) for i in np.flatnonzero(column)) for column in adjacent.T)


def restored(arrays: Mapping[str, NDArray[Any]], sizes: Ints) -> tuple[Parents, tuple[Floats, ...]]:
    """Return the parents and tables of a network over bins of these sizes, from its arrays.

    Raises ValueError when they are none that exact inference can be done with.
    """
    above = []
    for j in range(len(sizes)):
        own = arrays[f"{j}/parents"]
        if own.dtype.kind != "i" or own.ndim != 1 or np.unique(own).size != own.size:
            raise ValueError("parents")
        if own.size and not (0 <= own.min() and own.max() < len(sizes)):
            raise ValueError("parents of another network")
        above.append(tuple(int(i) for i in own))
    parents = tuple(above)
    topological(parents)
    if heaviest_clique(parents, sizes) > MAX_CLIQUE:
        raise ValueError("too large tables")
    tables = tuple(arrays[f"{j}/table"].astype(np.float64) for j in range(len(sizes)))
    for j, table in enumerate(tables):
        if table.shape != tuple(sizes[[*parents[j], j]]) or not np.isfinite(table).all():
            raise ValueError("a table's shape")
        if (table < 0).any() or not np.allclose(table.sum(axis=-1), 1.0):
            raise ValueError("a table's shares")
    return parents, tables


# ------------------------------------------------------------------ searching


def chow_liu(families: Families, rules: Constraints, start: int | None = None) -> Bools:
    """Return the tree (or forest) of most mutual information that the rules allow.

    An edge must be worth its parameters (BIC). Trees grow from the columns that nothing may point
    to, else from `start`, else from the column that tells most of the others.
    """
    m, n = len(families.sizes), len(families.binned)
    free = np.outer(families.sizes - 1, families.sizes - 1)
    worth = n * families.information - 0.5 * np.log(max(n, 2)) * free
    np.fill_diagonal(worth, -np.inf)
    able = np.where(rules.forbidden, -np.inf, worth)
    adjacent = rules.required.copy()
    bound = adjacent.any(axis=0)  # a required parent is the only one
    able[:, bound] = -np.inf
    inside = np.zeros(m, bool)
    told = np.where(np.isfinite(worth), np.maximum(worth, 0.0), 0.0).sum(axis=1)
    rooted = rules.forbidden.sum(axis=0) >= m - 1
    told = told + np.where(rooted, told.sum() + 1.0, 0.0)
    if start is not None:
        told[start] += 2 * told.sum() + 2
    while not inside.all():
        waiting = bound & ~inside & (adjacent <= inside[:, None]).all(axis=0)
        if waiting.any():
            inside |= waiting
            continue
        choice = np.where(inside[:, None] & ~inside[None, :], able, -np.inf)
        if np.isfinite(choice).any() and choice.max() > 0:
            i, j = np.unravel_index(int(np.argmax(choice)), choice.shape)
            adjacent[i, j] = inside[j] = True
        else:
            inside[int(np.argmax(np.where(inside | bound, -np.inf, told)))] = True
    return adjacent


def climb(
    families: Families,
    rules: Constraints,
    adjacent: Bools,
    *,
    tabu: int,
    tell: Callable[[int], Any],
) -> Bools:
    """Add, delete and reverse single edges while that pays, then `tabu` more moves to get out.

    A graph is never visited twice; the best one seen is returned.
    """
    moves = _Moves(families, rules, adjacent.copy())
    best, best_score, score, patience = adjacent.copy(), 0.0, 0.0, tabu
    visited = {adjacent.tobytes()}
    for step in range(20 * max(len(adjacent), 1) ** 2):
        gain = moves.step(visited)
        if gain is None:
            break
        score += gain
        visited.add(moves.adjacent.tobytes())
        if score > best_score + LEAST_GAIN:
            best, best_score, patience = moves.adjacent.copy(), score, tabu
        else:
            patience -= 1
        if patience < 0 or (tabu == 0 and gain <= LEAST_GAIN):
            break
        tell(step)
    return best


class _Moves:
    """The gains of all single moves from a graph, renewed as the graph changes."""

    def __init__(self, families: Families, rules: Constraints, adjacent: Bools) -> None:
        self.families, self.rules, self.adjacent = families, rules, adjacent
        self.m = len(families.sizes)
        # the gain of toggling an edge: adding it where there is none, else deleting it
        self.toggle = np.full((self.m, self.m), -np.inf)
        self.too_heavy = np.zeros((self.m, self.m), bool)
        for j in range(self.m):
            self._renew(j)

    def step(self, visited: set[bytes]) -> float | None:
        """Make the best move to a graph not visited, and return its gain."""
        adding, deleting, turning = self._gains()
        while True:
            tops = [float(gains.max(initial=-np.inf)) for gains in (adding, deleting, turning)]
            kind = int(np.argmax(tops))
            if not np.isfinite(tops[kind]):
                return None
            gains = (adding, deleting, turning)[kind]
            i, j = (int(x) for x in np.unravel_index(int(np.argmax(gains)), gains.shape))
            after = self.adjacent.copy()
            after[i, j] = kind == 0
            after[j, i] |= kind == 2
            gains[i, j] = -np.inf
            if after.tobytes() in visited:
                continue
            if kind != 1 and heaviest_clique(as_parents(after), self.families.sizes) > MAX_CLIQUE:
                if kind == 0:
                    self.too_heavy[i, j] = True
                continue
            self.adjacent = after
            self._renew(j)
            if kind:
                self.too_heavy[:] = False
            if kind == 2:
                self._renew(i)
            return tops[kind]

    def _gains(self) -> tuple[Floats, Floats, Floats]:
        rules, here = self.rules, self.adjacent
        reach = ancestry(here)
        full = here.sum(axis=0) >= rules.most_parents
        barred = here | here.T | reach.T | rules.forbidden | self.too_heavy | full[None, :]
        np.fill_diagonal(barred, True)
        adding = np.where(barred, -np.inf, self.toggle)
        loose = here & ~rules.required
        deleting = np.where(loose, self.toggle, -np.inf)
        turning = np.full_like(adding, -np.inf)
        for i, j in zip(*np.nonzero(loose & ~rules.forbidden.T & ~full[:, None]), strict=True):
            # another way from i to j would close a cycle
            if not (reach[i] & here[:, j]).any():
                above = [*np.flatnonzero(here[:, i]), j]
                added = self._score(int(i), above) - self._score(int(i), above[:-1])
                turning[i, j] = self.toggle[i, j] + added
        return adding, deleting, turning

    def _renew(self, j: int) -> None:
        above = set(np.flatnonzero(self.adjacent[:, j]).tolist())
        now = self._score(j, above)
        full = len(above) >= self.rules.most_parents
        for i in range(self.m):
            if i == j or (i not in above and (full or self.rules.forbidden[i, j])):
                self.toggle[i, j] = -np.inf
            else:
                self.toggle[i, j] = self._score(j, above ^ {i}) - now

    def _score(self, child: int, parents: Iterable[int]) -> float:
        return self.families.score(child, (int(i) for i in parents))
