"""Latent classes over the bins of columns as a distribution: densities, completion, a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manikin.synthesizers.table._em as em
import manikin.synthesizers.table._forest as forest
from manikin.errors import ConditionError, InputError
from manikin.synthesizers.table._cells import Cells
from manikin.synthesizers.table._coded import Allowed, Codes
from manikin.synthesizers.table._em import Fit, Floats, Ints, Layout, Maximiser
from manikin.synthesizers.table._forest import Cube, Inference

__all__ = ["LatentClasses", "restored"]

WORK = 2_000_000  # numbers held at once


@dataclass(frozen=True)
class LatentClasses:
    """Classes, and within each a forest over the columns' bins."""

    layout: Layout
    weight: Floats  # (classes,)
    size: Floats  # (classes,) training rows
    factors: Floats  # (classes, bins of all columns): shares; with a parent, factors on the base
    people: Floats  # (classes, 1 + bins): training subjects, and those of each bin
    smoothing: float
    smooth_rows: float
    prior: float
    pair_prior: float
    name = "mixture"
    released = ("shares of bins of each column in classes of rows, and of pairs of bins",)

    @staticmethod
    def of(layout: Layout, fit: Fit, people: Floats, numbers: Sequence[float]) -> LatentClasses:
        """Keep of a fit what a model needs, and its `numbers`: smoothing and priors."""
        factors = []
        for j, cube in forest.cubes(fit, layout).items():
            own = cube[:, 0] / (layout.base[j][0] if layout.parent[j] >= 0 else 1.0)
            factors.append(own / own.max(axis=1, keepdims=True))
        whole = np.concatenate(factors, axis=1) if factors else np.zeros((fit.weight.size, 0))
        return LatentClasses(layout, fit.weight, fit.size, whole, people, *numbers)

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """Smoothing and priors, as the M-step takes them."""
        return self.smoothing, self.smooth_rows, self.prior, self.pair_prior

    @cached_property
    def cubes(self) -> dict[int, Cube]:
        """p(bin | class, parent's bin) of each column, (classes, parent's bins or 1, bins)."""
        found, at = {}, 0
        for j, base in enumerate(self.layout.base):
            own = self.factors[:, None, at : at + base.shape[1]]
            cube = own * base if self.layout.parent[j] >= 0 else own
            found[j] = cube / cube.sum(axis=2, keepdims=True)
            at += base.shape[1]
        return found

    @cached_property
    def trees(self) -> tuple[Inference, ...]:
        """Each tree of the forest."""
        parent = self.layout.parent
        return tuple(Inference(t, parent, self.cubes) for t in forest.trees(parent))

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        return self._complete(np.full((n, len(self.layout.bins)), -1, np.int32), {}, rng)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known, given those that are, of the allowed ones."""
        whole = codes.copy()
        for rows in _alike(codes < 0):
            whole[rows] = self._complete(codes[rows], allowed, rng)
        return whole

    def _complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw what is not known in rows of which the same columns are."""
        layout, bins = self.layout, self.layout.binned(codes)
        if not len(codes):
            return codes.copy()
        unknown = bins[0] < 0
        soft = {j: layout.allowed(j, which) for j, which in allowed.items() if unknown[j]}
        log_joint, heard = self._given(bins, soft)
        if not np.isfinite(log_joint.max(axis=1)).all():
            raise ConditionError("no value is possible", "one or more", "loosen a condition")
        share = np.cumsum(np.exp(log_joint - log_joint.max(axis=1, keepdims=True)), axis=1)
        place = em.even(np.zeros(len(codes), np.int64), rng)[:, None] * share[:, -1:]
        of_class = (share <= place).sum(axis=1).clip(max=self.weight.size - 1)
        whole = codes.copy()
        for tree, (row, below) in zip(self.trees, heard, strict=True):
            for j in tree.columns:
                if unknown[j]:
                    i = layout.parent[j]
                    at = of_class * 1 if i < 0 else of_class * self.cubes[j].shape[1] + bins[:, i]
                    likely = below[j][row, of_class] if j in below else None
                    bins[:, j], rest = self._bins(j, at, likely, rng)
                    whole[:, j] = layout.codes(j, bins[:, j], rest, allowed.get(j))
        return whole

    def _bins(
        self, j: int, at: Ints, likely: Floats | None, rng: np.random.Generator
    ) -> tuple[Ints, Floats]:
        """Draw bins of column j from rows `at` of its shares; and a place within each bin."""
        flat = self.cubes[j].reshape(-1, self.cubes[j].shape[2])
        if likely is not None:
            flat, at, groups = flat[at] * likely, np.arange(at.size), np.zeros(at.size, np.int64)
        else:
            groups = at
        ends = np.cumsum(flat, axis=1)
        place = em.even(groups, rng) * ends[at, -1]
        bins = em.search(ends, at, place)
        low = ends[at, bins] - flat[at, bins]
        return bins, np.clip((place - low) / flat[at, bins], 0, 1)

    def _given(
        self, bins: Ints, soft: Mapping[int, Floats]
    ) -> tuple[Floats, list[tuple[Ints, dict[int, Cube]]]]:
        """Return log p(class, what is known), (rows, classes), and what each tree was told.

        That is, per tree, where each row's is found and what is known below unknown columns.
        """
        log_joint = np.log(self.weight) + np.zeros((len(bins), 1))
        heard: list[tuple[Ints, dict[int, Cube]]] = []
        for tree in self.trees:
            known = [j for j in tree.columns if bins[0, j] >= 0]
            if not known and not any(j in soft for j in tree.columns):
                heard.append((np.zeros(0, np.int64), {}))
                continue
            first, row = _unique(bins[:, known], len(bins))
            widest = max(self.cubes[j].shape[2] for j in tree.columns)
            step = max(1, WORK // (self.weight.size * widest))
            parts = [
                tree.upward(bins[first[start : start + step]], soft)
                for start in range(0, first.size, step)
            ]
            with np.errstate(divide="ignore"):
                log_joint += np.log(np.concatenate([p[0] for p in parts]))[row]
            below = {j: np.concatenate([p[1][j] for p in parts]) for j in parts[0][1]}
            heard.append((row, below))
        return log_joint, heard

    def log_density(self, codes: Codes) -> Floats:
        """Return the log probability of each row's known codes, exactly, whatever is unknown."""
        found = np.empty(len(codes))
        within = self.layout.log_within(codes)
        for rows in _alike(codes < 0):
            for start in range(0, rows.size, em.BLOCK):
                some = rows[start : start + em.BLOCK]
                log_joint, _ = self._given(self.layout.binned(codes[some]), {})
                most = log_joint.max(axis=1)
                found[some] = most + np.log(np.exp(log_joint - most[:, None]).sum(axis=1))
        return found + within

    def without(self, codes: Codes) -> Floats:
        """Return by how much each row's log-density would fall had the row not been learned from.

        Counts that the model is made of, less the row's own part in each class (one E-step).
        """
        bins, layout = self.layout.binned(codes), self.layout
        maximise = Maximiser.of(layout, *self.numbers)
        fall = np.empty(len(codes))
        n, k = self.size.sum(), self.size.size
        for start in range(0, len(codes), em.BLOCK):
            some = bins[start : start + em.BLOCK]
            log_joint, _ = self._given(some, {})
            most = log_joint.max(axis=1, keepdims=True)
            total = np.exp(log_joint - most).sum(axis=1, keepdims=True)
            own = np.exp(log_joint - most) / total  # p(class | row)
            left = (self.size - own + em.WEIGHT_PRIOR).clip(min=1e-9)
            left_joint = np.log(left / (n - 1 + k * em.WEIGHT_PRIOR))
            for j, cube in self.cubes.items():
                at, i = some[:, j], layout.parent[j]
                if i >= 0:
                    base = layout.base[j][some[:, i], at]
                    held = layout.rows(i)[some[:, i]] + self.pair_prior
                    rest = np.maximum(base * held - 1, 1e-3 * base * held) / np.maximum(held - 1, 1)
                    left_joint += (np.log(cube[:, some[:, i], at]) + np.log(rest / base)).T
                    continue
                share, smooth, mine = cube[:, 0, at].T, 0.0, own
                kernel = maximise.kernels[j]
                if kernel is not None:  # its part in the counts, and in the smooth shares
                    smooth = self.smooth_rows
                    more = (np.diag(kernel)[at][:, None] - share) / np.maximum(self.size, 1)
                    mine = own * np.maximum(1 + smooth * more, 0)
                pulled = self.prior * layout.frequency(j)[at][:, None]
                rows = self.size + smooth + self.prior
                rest = np.maximum(share * rows - mine, pulled)
                left_joint += np.log(rest / np.maximum(rows - own, self.prior))
            top = left_joint.max(axis=1, keepdims=True)
            without = top + np.log(np.exp(left_joint - top).sum(axis=1, keepdims=True))
            fall[start : start + em.BLOCK] = (most + np.log(total) - without)[:, 0]
        return fall

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that it is rebuilt from."""
        found: dict[str, NDArray[Any]] = {
            "weight": self.weight,
            "size": self.size,
            "factors": self.factors,
            "people": self.people,
            "parent": np.array(self.layout.parent, np.int64),
        }
        for j, bins in enumerate(self.layout.bins):
            found[f"bins/{j}"] = bins
            if self.layout.parent[j] >= 0:
                found[f"base/{j}"] = self.layout.base[j]
        return found

    def values(self) -> Mapping[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        return {
            "smoothing": self.smoothing,
            "smooth rows": self.smooth_rows,
            "prior": self.prior,
            "pair prior": self.pair_prior,
        }


def _alike(missing: NDArray[np.bool_]) -> list[Ints]:
    """Return the rows that miss the same columns, set by set."""
    if not missing.size:
        return [np.arange(len(missing))]
    _, which = np.unique(np.packbits(missing, axis=1), axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(which.reshape(-1)))[:-1]
    return list(np.split(order, ends))


def _unique(values: Ints, n: int) -> tuple[Ints, Ints]:
    """Return the first of each set of equal rows of `values`, and the set of every row."""
    which = np.zeros(n, np.int64)
    for column in values.T:
        which = np.unique(which * (int(column.max()) + 1) + column, return_inverse=True)[1]
    _, first = np.unique(which, return_index=True)
    return first, which


# ------------------------------------------------------------------ a model's file


def restored(
    arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], cells: Sequence[Cells]
) -> LatentClasses:
    """Rebuild the classes. Raises InputError when arrays and columns do not fit together."""
    m = len(cells)
    try:
        bins = tuple(arrays[f"bins/{j}"] for j in range(m))
        parent = tuple(int(i) for i in arrays["parent"])
        plain = Layout.of(cells, 2)
        _must(len(parent) == m and all(-1 <= i < m for i in parent))
        for own, column in zip(bins, cells, strict=True):
            _must(own.dtype.kind == "i" and own.shape == column.counts.shape and own.size > 0)
            _must(np.array_equal(np.unique(own), np.arange(int(own.max()) + 1)))
        _must(sum(len(tree) for tree in forest.trees(parent)) == m)  # no cycles
        plain = replace(plain, bins=bins)
        base = tuple(
            arrays[f"base/{j}"] if i >= 0 else plain.frequency(j)[None]
            for j, i in enumerate(parent)
        )
        layout = replace(plain, parent=parent, base=base)
        for j, i in enumerate(parent):
            _must(base[j].shape == (layout.n_bins(i) if i >= 0 else 1, layout.n_bins(j)))
            _must(_positive(base[j]) and np.allclose(base[j].sum(axis=1), 1, atol=1e-6))
        width = sum(layout.n_bins(j) for j in range(m))
        found = [arrays[name] for name in ("weight", "size", "factors", "people")]
        k = found[0].size
        for array, shape in zip(found, ((k,), (k,), (k, width), (k, 1 + width)), strict=True):
            _must(array.shape == shape and array.dtype.kind == "f" and k > 0)
        _must(_positive(found[0]) and abs(found[0].sum() - 1) < 1e-6 and _positive(found[2]))
        _must(all(np.isfinite(a).all() and (a >= 0).all() for a in (found[1], found[3])))
        numbers = [
            float(values[name]) for name in ("smoothing", "smooth rows", "prior", "pair prior")
        ]
        _must(np.isfinite(numbers).all() and min(numbers) >= 0)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise _damaged() from None
    weight, size, factors, people = found
    return LatentClasses(layout, weight, size, factors, people, *numbers)


def _positive(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and bool(np.isfinite(array).all() and (array > 0).all())


def _must(holds: object) -> None:
    if not holds:
        raise _damaged()


def _damaged() -> InputError:
    return InputError(
        "arrays that are no mixture of these columns", "a file as it was saved", "fit again"
    )
