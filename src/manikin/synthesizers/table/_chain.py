"""A chain of conditional distributions over the codes of a table, subject by subject, row by row.

The chain's columns are, in this order: the m modelled columns of a row; the number of rows of its
subject; the number of the row; and the m columns of the subject's row before (0: there is none,
else code + 1). Tables with one row a subject use the first m only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manikin.data.randomness import generator
from manikin.synthesizers.table._binning import alike
from manikin.synthesizers.table._line import Line, fit_line
from manikin.synthesizers.table._stage import Growth, Part, Stage, Task, fit_stage
from manikin.synthesizers.table._tilt import FEW, GROUPS, OWN, divide, learn_tilts

Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Step: TypeAlias = Stage | Line

PROBE = 4000  # rows from which association is judged
MOSTLY = 0.5  # share of a column's cells that are no atoms from which a line is tried
LEANT = 30_000  # rows by which stages are tilted
LAST_ROW = 9  # row numbers from here on are alike to a tree


@dataclass(frozen=True)
class Shape:
    """What the chain knows of each modelled column."""

    sizes: Ints  # (m,) codes
    n_tokens: Ints  # (m,) of which missing marks, which come first
    ordered: Mask  # (m,)
    static: Mask  # (m,) never changes within a subject
    row_sizes: Ints  # the numbers of rows that a subject may have; one of them: all have one row
    loose: tuple[Mask, ...]  # per column, by cell: no atom

    @property
    def m(self) -> int:
        """Number of modelled columns."""
        return int(self.sizes.size)

    @property
    def single(self) -> bool:
        """Every subject has one row."""
        return bool(self.row_sizes.max(initial=1) == 1)

    @property
    def chain_sizes(self) -> Ints:
        """Codes of every column of the chain."""
        if self.single:
            return self.sizes
        own = [*self.sizes, self.row_sizes.size, LAST_ROW + 1, *(self.sizes + 1)]
        return np.array(own, np.int64)

    @property
    def chain_tokens(self) -> Ints:
        """How many of the first codes of every column of the chain are missing marks."""
        if self.single:
            return self.n_tokens
        return np.array([*self.n_tokens, 0, 0, *(self.n_tokens + 1)], np.int64)

    @property
    def chain_nominal(self) -> Mask:
        """Which columns of the chain have no order."""
        if self.single:
            return ~self.ordered
        return np.concatenate([~self.ordered, [False, False], ~self.ordered])


def lay_out(codes: Codes, subjects: Ints, shape: Shape) -> Codes:
    """Return the chain's columns (rows, columns) of coded training rows."""
    if shape.single:
        return codes
    n, m = codes.shape
    order = np.argsort(subjects, kind="stable")
    _, start, rows = np.unique(subjects[order], return_index=True, return_counts=True)
    number = np.arange(n) - np.repeat(start, rows)
    laid = np.zeros((n, 2 * m + 2), np.int32)
    laid[:, :m] = codes[order]
    count = np.searchsorted(shape.row_sizes, np.minimum(rows, shape.row_sizes[-1]))
    laid[:, m] = np.repeat(np.minimum(count, shape.row_sizes.size - 1), rows)
    laid[:, m + 1] = np.minimum(number, LAST_ROW)
    later = np.flatnonzero(number > 0)
    laid[later, m + 2 :] = laid[later - 1, :m] + 1
    return laid


# ------------------------------------------------------------------ association and order


def association(binned: NDArray[np.uint8], seed: int) -> Floats:
    """Return the mutual information (nats, less its bias, >= 0) of every two binned columns."""
    n, p = binned.shape
    rows = generator(seed, "association").permutation(n)[:PROBE]
    widths = binned.max(axis=0, initial=0).astype(np.int64) + 1
    start = np.cumsum(widths) - widths
    hot = np.zeros((rows.size, int(widths.sum())), np.float32)
    for j in range(p):
        hot[np.arange(rows.size), start[j] + binned[rows, j]] = 1
    joint = (hot.T @ hot).astype(np.float64) / rows.size
    share = np.diag(joint)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log(joint / np.outer(share, share)), 0.0)
    information = np.add.reduceat(np.add.reduceat(terms, start, axis=0), start, axis=1)
    used = np.add.reduceat((share > 0).astype(float), start) - 1
    return np.asarray(np.maximum(information - np.outer(used, used) / (2 * rows.size), 0.0))


def order_columns(sizes: Ints, information: Floats, first: Sequence[int]) -> list[int]:
    """Return the order of generation: `first`, then few levels before many.

    Among columns of about as many levels, the one that those before it tell most about is next.
    """
    order = list(dict.fromkeys(first))
    band = np.digitize(sizes, [3, 9, 33])
    known = information[:, order].sum(axis=1) if order else np.zeros(sizes.size)
    left = [j for j in range(sizes.size) if j not in order]
    while left:
        lowest = min(band[j] for j in left)
        best = max((j for j in left if band[j] == lowest), key=lambda j: (known[j], -j))
        known = known + information[:, best]
        order.append(best)
        left.remove(best)
    return order


# ------------------------------------------------------------------ learning


def plan(
    shape: Shape, order: Sequence[int], information: Floats, widest: int, first: Sequence[int]
) -> list[Task]:
    """Return the stages in order, each with the `widest` earlier columns that tell most.

    The columns that come `first` are always among them: outcomes, which may tell little of any
    one column and yet are what the table is for.
    """
    m = shape.m
    if shape.single:
        tasks = [(j, list(order[:i])) for i, j in enumerate(order)]
    else:
        static = [j for j in order if shape.static[j]]
        varying = [j for j in order if not shape.static[j]]
        before = [m + 2 + j for j in varying]
        tasks = [(j, static[:i]) for i, j in enumerate(static)] + [(m, static)]
        tasks += [(j, [*static, m, m + 1, *before, *varying[:i]]) for i, j in enumerate(varying)]
    planned = []
    for j, able in tasks:
        best = sorted(able, key=lambda i: (i not in first, -information[i, j], i))[:widest]
        predictors = np.array(sorted(best), np.int64)
        two_stages = j < m and shape.n_tokens[j] > 0 and shape.ordered[j] and shape.sizes[j] > FEW
        parts: tuple[Part, ...] = ("token", "value") if two_stages else ("all",)
        planned += [Task(j, part, predictors) for part in parts]
    return planned


def learn(
    laid: Codes,
    binned: NDArray[np.uint8],
    tasks: Sequence[Task],
    parts: Sequence[Ints],
    shape: Shape,
    growth: Growth,
    reach: float,
    lines: bool,
    seed: int,
) -> Iterator[Step]:
    """Yield the stages of `tasks` in order, learned on all processors at hand."""
    sizes, nominal = shape.chain_sizes, shape.chain_nominal
    opening = np.arange(len(laid)) if shape.single else np.flatnonzero(laid[:, shape.m + 1] == 0)

    def one(task: Task) -> Step:
        j = task.target
        once = not shape.single and (j == shape.m or (j < shape.m and bool(shape.static[j])))
        rows = opening if once else np.arange(len(laid))
        labels, n_codes = laid[rows, j], int(sizes[j])
        tokens = int(shape.n_tokens[j]) if j < shape.m else 0
        loose = np.zeros(n_codes, bool)
        if j < shape.m and shape.ordered[j]:
            loose[tokens:] = shape.loose[j]
        if task.part == "token":
            labels, n_codes = np.minimum(labels, tokens), tokens + 1
        elif task.part == "value":
            with_value = labels >= tokens
            rows, labels = rows[with_value], labels[with_value] - tokens
            n_codes, loose = n_codes - tokens, loose[tokens:]
        rng = generator(seed, f"stage {j} {task.part}")
        if loose.mean() > MOSTLY and lines:
            line = fit_line(
                task, labels, laid[rows], n_codes=n_codes, nominal=nominal, sizes=sizes,
                tokens=shape.chain_tokens, growth=growth, rng=rng,
            )  # fmt: skip
            if line is not None:
                return line
        return fit_stage(
            task, labels, laid[rows], n_codes=n_codes,
            ordered=j >= shape.m or bool(shape.ordered[j]), loose=loose, reach=reach,
            nominal=nominal, sizes=sizes, binned=binned[rows], growth=growth, rng=rng,
            part=_own(parts[j], task.part, tokens),
        )  # fmt: skip

    with ThreadPoolExecutor(_processors()) as pool:
        yield from pool.map(one, tasks)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def divisions(laid: Codes, binned: NDArray[np.uint8], shape: Shape) -> list[Ints]:
    """Return the part of every code of every column of the chain."""
    sizes, nominal, tokens = shape.chain_sizes, shape.chain_nominal, shape.chain_tokens
    found = []
    for j, size in enumerate(sizes):
        order = None
        if nominal[j] and size > OWN + GROUPS:
            others = [i for i in range(sizes.size) if i != j]
            order = alike(laid[:, j], int(size), binned[:, others])
        counts = np.bincount(laid[:, j], minlength=size)
        ordered = not nominal[j]
        found.append(divide(counts, ordered=ordered, tokens=int(tokens[j]), alike=order))
    return found


def _own(part: Ints, which: Part, tokens: int) -> Ints:
    """Return the parts of a stage's codes, from those of its whole column."""
    if which == "token":
        return np.arange(tokens + 1)
    return part[tokens:] - part[tokens] if which == "value" else part


def lean(
    stages: Sequence[Step],
    laid: Codes,
    shape: Shape,
    parts: Sequence[Ints],
    first: Sequence[int],
    seed: int,
) -> Iterator[Step]:
    """Yield the stages, each tilted to the pairs of its column with those drawn before it.

    Columns are drawn along the way: from nothing when every subject has one row, else given the
    real static columns and the real row before. What earlier stages lost is not lost again.
    """
    rng = generator(seed, "lean")
    real = laid if len(laid) <= LEANT else laid[rng.permutation(len(laid))[:LEANT]]
    drawn = real.copy()
    for stage in stages:
        j = stage.target
        if not shape.single and (j == shape.m or shape.static[j]):
            yield stage
            continue
        tokens = int(shape.n_tokens[j])
        rows, labels, seen = np.arange(len(real)), real[:, j], np.arange(len(real))
        if stage.part == "token":
            labels = np.minimum(labels, tokens)
        elif stage.part == "value":
            rows, seen = np.flatnonzero(drawn[:, j] == tokens), np.flatnonzero(labels >= tokens)
            labels = labels[seen] - tokens
        if isinstance(stage, Stage) and stage.predictors.size:
            tilts = learn_tilts(
                stage.tilts.part, labels, real[seen], drawn[rows], stage.usual(drawn[rows], rng),
                [int(i) for i in np.unique(stage.predictors)], parts, first,
            )  # fmt: skip
            stage = replace(stage, tilts=tilts)
        start = tokens if stage.part == "value" else 0
        if rows.size:
            drawn[rows, j] = stage.draw(drawn[rows], rng) + start
        yield stage


# ------------------------------------------------------------------ drawing


@dataclass(frozen=True)
class Wanted:
    """What is asked of the codes that are drawn."""

    fixed: Mapping[int, Codes]  # column → the code of each row, -1 where it is free
    masks: Mapping[int, Mask]  # column → which codes are allowed


def draw(
    stages: Sequence[Step], shape: Shape, n: int, wanted: Wanted | None, rng: np.random.Generator
) -> tuple[Codes, Ints, Floats]:
    """Draw `n` subjects. Return codes (rows, m), subjects (rows,), and log weights (n,).

    Weights are 0 unless something is `wanted`, of which each subject then is one candidate; rows
    of `wanted` are subjects, all of whose rows it holds for.
    """
    m, weight = shape.m, np.zeros(n)
    laid = np.zeros((n, m if shape.single else 2 * m + 2), np.int32)
    if shape.single:
        for stage in stages:
            weight += _step(stage, laid, np.arange(n), shape, wanted, rng)
        return laid, np.arange(n), weight
    varying = [s for s in stages if s.target < m and not shape.static[s.target]]
    for stage in stages:
        if stage not in varying:
            weight += _step(stage, laid, np.arange(n), shape, wanted, rng)
    rows = shape.row_sizes[laid[:, m]]
    drawn, whose = [], []
    for number in range(int(rows.max(initial=0))):
        going = np.flatnonzero(rows > number)
        now = laid[going]
        now[:, m + 1] = min(number, LAST_ROW)
        for stage in varying:
            weight[going] += _step(stage, now, going, shape, wanted, rng)
        drawn.append(now[:, :m].copy())
        whose.append(going)
        laid[going, m + 2 :] = now[:, :m] + 1
        laid[going, :m] = now[:, :m]
    if not drawn:
        return laid[:, :m], np.arange(n), weight
    subjects = np.concatenate(whose)
    order = np.argsort(subjects, kind="stable")
    return np.concatenate(drawn)[order], subjects[order], weight


def _step(
    stage: Step,
    laid: Codes,
    candidates: Ints,
    shape: Shape,
    wanted: Wanted | None,
    rng: np.random.Generator,
) -> Floats:
    """Draw one stage into `laid`; return log weights (rows,)."""
    j, tokens = stage.target, 0
    n = np.arange(len(laid))
    if stage.part == "value":
        tokens = int(shape.n_tokens[j])
        n = np.flatnonzero(laid[:, j] == tokens)
    weight = np.zeros(len(laid))
    if wanted is not None and j in wanted.fixed:
        given = wanted.fixed[j][candidates[n]]
        known = given >= 0
        weight[n[known]] = _fix(stage, laid, n[known], given[known], shape, rng)
        n = n[~known]
    if n.size == 0:
        return weight
    if wanted is not None and j in wanted.masks:
        able = wanted.masks[j]
        if stage.part == "token":
            cut = int(shape.n_tokens[j])
            able = np.append(able[:cut], able[cut:].any())
        drawn, share = stage.draw_among(laid[n], able[tokens:], rng)
        laid[n, j] = drawn + tokens
        with np.errstate(divide="ignore"):
            weight[n] += np.log(share)
        return weight
    laid[n, j] = stage.draw(laid if n.size == len(laid) else laid[n], rng) + tokens
    return weight


def _fix(
    stage: Step, laid: Codes, rows: Ints, given: Codes, shape: Shape, rng: np.random.Generator
) -> Floats:
    if rows.size == 0:
        return np.zeros(0)
    tokens = int(shape.n_tokens[stage.target]) if stage.part == "value" else 0
    label = given - tokens
    if stage.part == "token":
        label = np.minimum(given, int(shape.n_tokens[stage.target]))
    share = stage.likelihood(laid[rows], label.astype(np.int32), rng)
    laid[rows, stage.target] = label + tokens
    return np.log(share)


def state(stages: Sequence[Step], shape: Shape) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return arrays and JSON values for a model file."""
    arrays: dict[str, NDArray[Any]] = {
        "sizes": shape.sizes, "n_tokens": shape.n_tokens, "ordered": shape.ordered,
        "static": shape.static, "row_sizes": shape.row_sizes,
    }  # fmt: skip
    values = []
    for i, stage in enumerate(stages):
        own, described = stage.state()
        arrays |= {f"stage {i}/{name}": array for name, array in own.items()}
        values.append(described)
    return {f"chain/{name}": array for name, array in arrays.items()}, {"chain": values}


def restore(
    arrays: Mapping[str, NDArray[Any]], values: Sequence[Mapping[str, Any]], loose: Sequence[Mask]
) -> tuple[tuple[Step, ...], Shape]:
    """Rebuild the stages and the shape whose state this is."""
    stages: list[Step] = []
    for i, described in enumerate(values):
        start = f"chain/stage {i}/"
        own = {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}
        kind = Line if described.get("line") else Stage
        stages.append(kind.restore(own, described))
    shape = Shape(
        arrays["chain/sizes"], arrays["chain/n_tokens"], arrays["chain/ordered"],
        arrays["chain/static"], arrays["chain/row_sizes"], tuple(loose),
    )  # fmt: skip
    return tuple(stages), shape
