"""A conditional distribution of a number: a shrunk line through normal scores, plus residuals.

Where a column follows others closely (a perimeter its radius, a cost its length of stay), leaves
that are large enough not to copy are too wide to keep it close. A ridge regression on the scores
carries the dependence instead; a tree then sorts its residuals, and drawing adds one to the line,
so that the value drawn is nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from manikin.synthesizers.table._binning import stratified
from manikin.synthesizers.table._stage import Codes, Floats, Growth, Ints, Part, Task
from manikin.synthesizers.table._trees import Splits, grow

Mask: TypeAlias = NDArray[np.bool_]

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
TRIED = 4000  # rows on which line and tree are compared
BETTER = 0.02  # by how much more variance the line must explain of rows it has not seen
DRAWS = 24  # residuals a row that are tried where codes are restricted
NEAR = 0.1  # a score is as likely as residuals within this distance are frequent


@dataclass(frozen=True)
class Line:
    """P(target's value | earlier columns) as a line plus a residual from a leaf."""

    target: int
    part: Part
    predictors: Ints  # columns of the chain
    inputs: tuple[Floats, ...]  # per predictor: the number of each code, mean 0, variance 1
    slopes: Floats  # (predictors,)
    cuts: Floats  # (codes - 1,) scores between one code and the next
    tree: Splits
    starts: Ints  # (nodes + 1,): where the residuals of each node begin
    residuals: Floats  # ascending within a leaf

    def _seen(self, codes: Codes, rng: np.random.Generator) -> tuple[Floats, Ints]:
        x = np.empty((len(codes), self.predictors.size))
        for i, (j, values) in enumerate(zip(self.predictors, self.inputs, strict=True)):
            x[:, i] = values[codes[:, j]]
        node = self.tree.apply(x.astype(np.float32))
        return x @ self.slopes, self.tree.pooled(node, np.diff(self.starts), rng)

    def _residual(self, node: Ints, u: Floats) -> Floats:
        """Return the quantiles `u` of each node's residuals, joined by straight lines."""
        start, end = self.starts[node], self.starts[node + 1]
        depth = np.clip(u * (end - start) - 0.5, 0, end - start - 1)
        below = depth.astype(np.int64)
        low = self.residuals[start + below]
        high = self.residuals[np.minimum(start + below + 1, end - 1)]
        return np.asarray(low + (depth - below) * (high - low))

    def _codes(self, scores: Floats) -> Codes:
        return np.searchsorted(self.cuts, scores, side="right").astype(np.int32)

    def draw(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """Draw one code a row."""
        line, node = self._seen(codes, rng)
        return self._codes(line + self._residual(node, stratified(node, rng)))

    def draw_among(
        self, codes: Codes, allowed: Mask, rng: np.random.Generator
    ) -> tuple[Codes, Floats]:
        """Draw one allowed code a row, and how likely an allowed one was (0: drawn anyhow)."""
        line, node = self._seen(codes, rng)
        drawn = np.full(len(codes), int(np.argmax(allowed)), np.int32)
        hits = np.zeros(len(codes))
        for _ in range(DRAWS):
            code = self._codes(line + self._residual(node, rng.random(len(codes))))
            hit = allowed[code]
            hits += hit
            take = hit & (rng.random(len(codes)) * np.maximum(hits, 1) < 1)
            drawn[take] = code[take]
        return drawn, hits / DRAWS

    def likelihood(self, codes: Codes, given: Codes, rng: np.random.Generator) -> Floats:
        """Return how likely the given codes (rows,) are, up to a factor of the given code."""
        line, node = self._seen(codes, rng)
        edges = np.concatenate([self.cuts[:1] - 0.5, self.cuts, self.cuts[-1:] + 0.5])
        middle = (edges[given] + edges[given + 1]) / 2 - line
        span = 1 + np.abs(self.residuals).max()
        keys = np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts)) * 4 * span
        keys = keys + self.residuals
        base = node * 4 * span
        high = np.searchsorted(keys, base + np.clip(middle + NEAR, -span, span), side="right")
        low = np.searchsorted(keys, base + np.clip(middle - NEAR, -span, span))
        return np.asarray((high - low + 0.01) / (self.starts[node + 1] - self.starts[node]))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON values for a model file."""
        arrays: dict[str, NDArray[Any]] = {
            "predictors": self.predictors, "slopes": self.slopes, "cuts": self.cuts,
            "starts": self.starts, "residuals": self.residuals,
            "inputs": np.concatenate([np.zeros(0), *self.inputs]),
            "input_sizes": np.array([values.size for values in self.inputs], np.int64),
        }  # fmt: skip
        arrays |= {f"tree/{name}": array for name, array in self.tree.arrays().items()}
        return arrays, {"line": True, "target": self.target, "part": self.part}

    @staticmethod
    def restore(arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> Line:
        """Rebuild the line whose state this is."""
        tree = {k.removeprefix("tree/"): a for k, a in arrays.items() if k.startswith("tree/")}
        predictors = arrays["predictors"]
        splits = Splits.restore(tree, predictors.size)
        splits.check_pool(arrays["starts"], arrays["residuals"])
        return Line(
            int(values["target"]), values["part"], predictors,
            tuple(np.split(arrays["inputs"], np.cumsum(arrays["input_sizes"])[:-1])),
            arrays["slopes"], arrays["cuts"], splits,
            arrays["starts"], arrays["residuals"],
        )  # fmt: skip


# ------------------------------------------------------------------ learning a line


def fit_line(
    task: Task,
    labels: Codes,
    codes: Codes,
    *,
    n_codes: int,
    nominal: Mask,
    sizes: Ints,
    tokens: Ints,
    growth: Growth,
    rng: np.random.Generator,
) -> Line | None:
    """Learn a line; None where a tree alone predicts unseen rows about as well.

    `tokens` (columns,): how many of a column's first codes are missing marks.
    """
    q, n = task.predictors.size, labels.size
    if q == 0 or n < 60 or np.unique(labels[:TRIED]).size < 20:
        return None
    counts = np.bincount(labels, minlength=n_codes)
    scores = _scores(counts)
    y = scores[labels]
    coding = (nominal, sizes, tokens)
    if not _is_better(task, codes, y, coding, growth, rng.permutation(n)[:TRIED]):
        return None
    inputs = _inputs(task, codes, y, *coding)
    x = _filled(inputs, task, codes)
    slopes, leverage = _ridge(x, y)
    residual = y - x @ slopes
    # as it would be of a row that the line has not seen
    residual = residual / np.maximum(1 - leverage, 0.2)
    outcome = np.stack([residual, np.abs(residual)], axis=1)
    some = rng.permutation(n)[: growth.max_rows]
    tree = grow(
        x[some].astype(np.float32), outcome[some], classify=False, seed=int(rng.integers(2**31)),
        min_leaf=max(2, round(growth.leaf * some.size / n)), evidence=growth.evidence,
        pooling=growth.pooling, max_features=None,
    )  # fmt: skip
    node = tree.apply(x.astype(np.float32))
    order = np.lexsort((residual, node))
    starts = np.concatenate([[0], np.cumsum(np.bincount(node, minlength=tree.n_nodes))])
    total = np.cumsum(counts)[:-1] / n
    cuts = ndtri(np.clip(total, 0.25 / n, 1 - 0.25 / n))
    return Line(
        task.target, task.part, task.predictors, inputs, slopes, cuts, tree, starts,
        residual[order],
    )  # fmt: skip


def _is_better(
    task: Task,
    codes: Codes,
    y: Floats,
    coding: tuple[Mask, Ints, Ints],
    growth: Growth,
    tried: Ints,
) -> bool:
    """Whether a line predicts rows it has not seen better than a tree does."""
    a, b = tried[: tried.size // 2], tried[tried.size // 2 :]
    explained = []
    for train, test in ((a, b), (b, a)):
        inputs = _inputs(task, codes[train], y[train], *coding)
        x, z = _filled(inputs, task, codes[train]), _filled(inputs, task, codes[test])
        slopes, _ = _ridge(x, y[train])
        tree = grow(
            x.astype(np.float32), y[train][:, None], classify=False, seed=0,
            min_leaf=growth.leaf, evidence=growth.evidence, pooling=0.0,
            max_features=None,
        )  # fmt: skip
        node = tree.apply(x.astype(np.float32))
        size = np.maximum(np.bincount(node, minlength=tree.n_nodes), 1)
        mean = np.bincount(node, weights=y[train], minlength=tree.n_nodes) / size
        leaf = mean[tree.apply(z.astype(np.float32))]
        total = np.mean((y[test] - y[train].mean()) ** 2)
        errors = [np.mean((y[test] - guess) ** 2) for guess in (z @ slopes, leaf)]
        explained.append([1 - error / total for error in errors])
    by_line, by_tree = np.mean(explained, axis=0)
    return bool(by_line >= max(by_tree + BETTER, 0.1))


def _scores(counts: Ints) -> Floats:
    n = max(int(counts.sum()), 1)
    middle = (np.cumsum(counts) - counts / 2) / n
    return np.asarray(ndtri(np.clip(middle, 0.25 / n, 1 - 0.25 / n)), dtype=np.float64)


def _inputs(
    task: Task, codes: Codes, y: Floats, nominal: Mask, sizes: Ints, tokens: Ints
) -> tuple[Floats, ...]:
    """Return, per predictor, the number of each code: its score, or its mean outcome."""
    found = []
    for j in task.predictors:
        count = np.bincount(codes[:, j], minlength=sizes[j])
        if nominal[j]:
            total = np.bincount(codes[:, j], weights=y, minlength=sizes[j])
            values = (total + 10 * y.mean()) / (count + 10)
        else:
            values = np.zeros(sizes[j])
            values[tokens[j] :] = _scores(count[tokens[j] :])
        weight = count / max(count.sum(), 1)
        centre = values @ weight
        spread = np.sqrt(((values - centre) ** 2) @ weight)
        found.append((values - centre) / spread if spread > 1e-9 else np.zeros(sizes[j]))
    return tuple(found)


def _filled(inputs: tuple[Floats, ...], task: Task, codes: Codes) -> Floats:
    columns = [values[codes[:, j]] for j, values in zip(task.predictors, inputs, strict=True)]
    return np.stack(columns, axis=1)


def _ridge(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return ridge slopes and the leverage of each row.

    The penalty is that of least generalised cross-validation error.
    """
    weight, axes = np.linalg.eigh(x.T @ x)
    weight = np.maximum(weight, 0)
    along = axes.T @ (x.T @ y)
    best, slopes, kept = np.inf, np.zeros(x.shape[1]), PENALTIES[-1]
    for penalty in PENALTIES:
        shrunk = along / (weight + penalty)
        freedom = float((weight / (weight + penalty)).sum())
        fit = axes @ shrunk
        error = float(np.mean((y - x @ fit) ** 2)) / max(1 - freedom / len(y), 1e-3) ** 2
        if error < best:
            best, slopes, kept = error, fit, penalty
    leverage = ((x @ axes) ** 2 / (weight + kept)).sum(axis=1)
    return np.asarray(slopes), np.asarray(leverage)
