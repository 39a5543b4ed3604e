"""Columns given others, by associations of pairs alone: the factors of table/argn under a budget.

A code of column j is seen as a few numbers ψ_j(c), made of the column's own frequencies: of a
number its normal score s and, less, s² - 1; of categories an indicator each; of every column about
as much variance in all. A column's distribution given any others is log-linear in them:

    log p(c | x) = log f(c) + a(c) + ψ_j(c)·(b_j + Σ_k W_jk ψ_k(x_k)) - log Z

which are Agresti's linear-by-linear associations ("Categorical Data Analysis", §10.5) where columns
are ordered, and logistic regressions where they are not. One weight is a pair of numbers, so a
row's gradient is an outer product, noise meets every association alike, and a table of 15 columns
has some hundreds of weights where hidden layers have thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manikin.nn.autoregressive import Uniform
from manikin.nn.private import OfPairs
from manikin.synthesizers.table._cells import Cells
from manikin.synthesizers.table.encoding import normal_scores

__all__ = ["LogLinear", "Pairs"]

LEVELS = 16  # categories with a number of their own; the others are one, drawn by frequency
BEND = 0.5  # standard deviation of s² - 1, where that of s is 1
FAR = 3.0  # most length of ψ(c)
NEVER = -1e9

Floats = NDArray[np.float64]


class Pairs(nn.Module):
    """Numbers of all columns from those of others: W and b, with who sees whom set beforehand."""

    sees: Tensor  # (F, F) float: which numbers each one leans on, in the next call

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(numbers, numbers))
        self.bias = nn.Parameter(torch.zeros(numbers))

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, F) of (rows, F)."""
        return x @ (self.weight * self.sees).T + self.bias

    def row_gradients(self, entered: Tensor, slopes: Tensor) -> OfPairs:
        """Return each row's gradient, as an outer product under a mask."""
        return OfPairs(self.weight, self.bias, self.sees, entered, slopes)


class LogLinear(nn.Module):
    """The distributions of D columns. Codes are int64 (rows, D), -1: not known."""

    def __init__(self, cells: Sequence[Cells]) -> None:
        super().__init__()
        made = [_column(c) for c in cells]
        d, classes = len(cells), max((len(psi) for _, psi in made), default=1)
        codes = max((c.size for c in cells), default=1)
        wide = max((psi.shape[1] for _, psi in made), default=1)
        class_of = np.zeros((d, codes), np.int64)
        log_share = np.zeros((d, codes))
        psi, log_frequency = np.zeros((d, classes, wide)), np.full((d, classes), NEVER)
        for j, (c, (of, own)) in enumerate(zip(cells, made, strict=True)):
            counts = np.maximum(c.counts, 0.5)
            held = np.bincount(of, weights=counts)
            class_of[j, : c.size] = of
            log_share[j, : c.size] = np.log(counts / held[of])
            psi[j, : len(own), : own.shape[1]] = own
            log_frequency[j, : held.size] = np.log(held / held.sum())
        self.columns = d
        self.tables = {
            "sizes": torch.tensor([c.size for c in cells], dtype=torch.int64),
            "class_of": torch.from_numpy(class_of), "every": torch.arange(d),
            "log_share": _float(log_share), "psi": _float(psi),  # (D, S), (D, C, most)
            "log_frequency": _float(log_frequency),  # (D, C)
        }  # fmt: skip
        used = np.repeat(np.arange(d), [own.shape[1] for _, own in made])
        within = np.concatenate([np.zeros(0), *(np.arange(own.shape[1]) for _, own in made)])
        # (F,) whose number it is, and which of that column's
        self.tables["owner"] = torch.from_numpy(used.astype(np.int64))
        self.tables["within"] = torch.from_numpy(within.astype(np.int64))
        self.pairs = Pairs(used.size)
        # what brings the columns' margins back: set after training
        self.base = nn.Parameter(torch.zeros(d, classes), requires_grad=False)

    def _apply(self, fn: Any, recurse: bool = True) -> LogLinear:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.tables = {name: fn(tensor) for name, tensor in self.tables.items()}
        return self

    # -------------------------------------------------------------- all columns

    def log_likelihood(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return the log probability of each column, (D, rows); j sees those of visible[j]."""
        of = self.tables
        owner = of["owner"]
        self.pairs.sees = visible.to(x.device)[owner][:, owner].float()
        h = self.pairs(self._numbers(x))  # (rows, F)
        padded = h.new_zeros(len(x), self.columns, of["psi"].shape[2])
        padded[:, owner, of["within"]] = h
        logits = torch.einsum("rdm,dcm->rdc", padded, of["psi"])
        logits = logits + of["log_frequency"] + self.base
        chosen = of["class_of"][of["every"], x][:, :, None]
        found: Tensor = torch.log_softmax(logits, 2).gather(2, chosen)[:, :, 0]
        return found.T

    def log_prob(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return the log probability of each code, (rows, D)."""
        return self.log_likelihood(x, visible).T + self.tables["log_share"][self.tables["every"], x]

    def _numbers(self, x: Tensor) -> Tensor:
        of = self.tables
        psi = of["psi"][of["every"], of["class_of"][of["every"], x]]  # (rows, D, most)
        return psi[:, of["owner"], of["within"]]

    def variances(self) -> Tensor:
        """Return how far rows are from a column's mean, squared, by its frequencies: (D,)."""
        of = self.tables
        share = of["log_frequency"].exp()
        return (share[:, :, None] * of["psi"].square()).sum((1, 2))

    # -------------------------------------------------------------- one column

    def view(self, x: Tensor) -> Tensor:
        """Return what rows show, (rows, F); 0: not known."""
        known = (x >= 0)[:, self.tables["owner"]]
        return self._numbers(x.clamp(min=0)) * known

    def show(self, view: Tensor, part: int, values: Tensor, rows: Tensor) -> None:
        """Show the codes of one column in some rows of a view, in place."""
        of = self.tables
        own = (of["owner"] == part).nonzero().flatten()
        psi = of["psi"][part, of["class_of"][part, values]]
        view[rows[:, None], own] = psi[:, of["within"][own]]

    def factor(self, view: Tensor, part: int) -> Classes:
        """Return the distribution of one column given views."""
        of = self.tables
        own = (of["owner"] == part).nonzero().flatten()
        unknown = view.new_ones(view.shape[1])
        unknown[own] = 0.0  # no column leans on itself
        h = (view * unknown) @ self.pairs.weight[own].T + self.pairs.bias[own]
        n = int(of["class_of"][part].max()) + 1
        logits = h @ of["psi"][part, :n, : len(own)].T + of["log_frequency"][part, :n]
        size = int(of["sizes"][part])
        log_p = torch.log_softmax((logits + self.base[part, :n]).double(), 1)
        return Classes(log_p, of["class_of"][part, :size], of["log_share"][part, :size].double())


@dataclass(frozen=True)
class Classes:
    """The distribution of one column's codes, a row each."""

    log_classes: Tensor  # (rows, classes)
    class_of: Tensor  # (codes,)
    log_share: Tensor  # (codes,) of a code in its class

    def log_pmf(self) -> Tensor:
        """Return the log probability of every code, (rows, codes)."""
        return self.log_classes[:, self.class_of] + self.log_share

    def log_prob(self, values: Tensor) -> Tensor:
        """Return the log probability of codes, (rows,)."""
        found = self.log_classes.gather(1, self.class_of[values][:, None])[:, 0]
        return found + self.log_share[values]

    def log_mass(self, able: Tensor) -> Tensor:
        """Return the log probability of a set of codes (codes,), (rows,)."""
        return torch.logsumexp(self.log_pmf()[:, able], 1).clamp(max=0.0)

    def draw(self, uniform: Uniform, able: Tensor | None) -> Tensor:
        """Draw a code a row, of the `able` ones."""
        middle = torch.arange(self.log_classes.shape[1], dtype=torch.float64)
        u = uniform(self.log_classes.exp() @ middle)[:, None]
        codes = torch.arange(len(self.class_of)) if able is None else able.nonzero().flatten()
        p = torch.softmax(self.log_pmf()[:, codes], 1).cumsum(1)
        return codes[
            torch.searchsorted(p, u * p[:, -1:], right=True)[:, 0].clamp(max=len(codes) - 1)
        ]


# ------------------------------------------------------------------ what a column is seen as


def _column(cells: Cells) -> tuple[NDArray[np.int64], Floats]:
    """Return the class of each code, (codes,), and what classes are seen as, (classes, numbers)."""
    counts = np.maximum(cells.counts, 0.5).astype(float)
    marks = cells.n_tokens
    values = cells.size - marks
    of = np.arange(cells.size)
    if not cells.ordered and cells.size > LEVELS + 1:
        rank = np.empty(cells.size, np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(cells.size)
        of = np.minimum(rank, LEVELS)
    share = np.bincount(of, weights=counts)
    share = share / share.sum()
    if cells.ordered and values > 2:
        bent = _scores(counts[marks:])
        psi = np.zeros((cells.size, marks + bent.shape[1]))
        psi[marks:, marks:] = bent
        psi[:marks, :marks] = _indicators(share)[:marks, :marks]
        psi[marks:, :marks] = _indicators(share)[marks:, :marks]
    else:
        psi = _indicators(share)
    length = np.linalg.norm(psi, axis=1, keepdims=True)
    psi = psi * np.minimum(1.0, FAR / np.maximum(length, FAR))
    return of, psi - share @ psi


def _indicators(share: Floats) -> Floats:
    """Return an indicator of each class, all with a variance of one together; of two classes one.

    Rare ones are not blown up to it: the longest stays `FAR`.
    """
    if share.size < 2:
        return np.zeros((share.size, 0))
    hot = np.eye(share.size) - share
    if share.size == 2:
        hot = hot[:, :1] * np.sqrt(2)
    longest = float(np.linalg.norm(hot, axis=1).max())
    variance = float(share @ (hot**2).sum(axis=1))
    return np.asarray(hot * min(1 / np.sqrt(variance), FAR / longest))


def _scores(counts: Floats) -> Floats:
    """Return the normal score of each value and what it bends to, (values, 2)."""
    share = counts / counts.sum()
    s = normal_scores(counts)  # type: ignore[arg-type]
    s = (s - share @ s) / np.sqrt(max(float(share @ (s - share @ s) ** 2), 1e-6))
    square = s**2 - 1
    square = square - (share @ (square * s)) * s
    spread = np.sqrt(max(float(share @ square**2), 1e-6))
    return np.stack([s, BEND * square / spread], axis=1)


def _float(array: Floats) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))
