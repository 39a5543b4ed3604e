"""Codes as numbers that a network can read and write, and back: shared by the neural methods.

A column is one categorical part, and for numbers of many codes a continuous one. Categories are the
missing marks and levels, or, of a number with more than `few` codes, its spikes (codes that hold
`SPIKE` of the rows or more) and one category for all other codes. Those lie on a line of normal
scores: each is the interval between two cuts, at the normal quantiles of its share of the rows.
Unordered columns of more than `most` levels keep their commonest ones; the others are grouped by
frequency, and within a group a level is drawn by its frequency alone.

All columns are handled at once: the categories of a column take up a power of two of slots, and
the slots of columns of equal width make one block, category by category, so that a softmax of all
columns is one over a (rows, width, columns) view per width. Category c of column j has the slot
start[j] + c stride[j].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from manikin.synthesizers.table._cells import Cells, NumericCells

__all__ = ["Blocks", "Dense", "by_width"]

Blocks: TypeAlias = tuple[tuple[int, int, int], ...]

FEW = 24  # codes up to which every code of a number is a category
MOST = 256  # categories of a column
GROUPS = 32  # of which hold the rare levels, where there are too many
SPIKE = 0.05  # share of rows from which on a number's code is a category of its own
FAR = 40.0  # a normal score beyond all
NARROW, WIDE = -5.0, 0.5  # log scales of a logistic: FAR is beyond it
NARROWEST = 1e-6  # scales that an interval on the line is wide


@dataclass(frozen=True)
class Dense:
    """How the codes of D columns, at most S of them, stand in W slots and C scores."""

    sizes: Tensor  # (D,) codes of each column
    start: Tensor  # (D,) first slot of each column
    stride: Tensor  # (D,) from a slot of it to its next
    blocks: Blocks  # (first slot, columns, width) of each width
    order: Tensor  # (D,) columns in the order of their first slots
    category: Tensor  # (D, S) category of each code
    log_share: Tensor  # (D, S) log share of the code within its category
    pad: Tensor  # (W,) 0, or -inf where no category is
    frequency: Tensor  # (W,) share of rows of each category
    numbers: Tensor  # (C,) columns with a score
    place: Tensor  # (C, S) place of the code on the line, -1: a category of its own
    cuts: Tensor  # (C, R + 1) ends of the intervals, -FAR first, FAR last and beyond
    middle: Tensor  # (C, R) normal score of each place
    codes_at: Tensor  # (C, R) the code of each place

    @staticmethod
    def of(cells: Sequence[Cells], *, few: int = FEW, most: int = MOST) -> Dense:
        """Lay out the columns that these cells describe."""
        columns = [_column(c, few, most) for c in cells]
        counts = [np.maximum(c.counts, 0.5).astype(float) for c in cells]
        lengths = np.array([int(part.max()) + 1 for part, _ in columns], np.int64)
        widths = 2 ** np.ceil(np.log2(np.maximum(lengths, 2))).astype(np.int64)
        order = np.argsort(widths, kind="stable")
        start, stride = np.zeros(len(cells), np.int64), np.zeros(len(cells), np.int64)
        blocks, first = [], 0
        for w in np.unique(widths):
            same = np.flatnonzero(widths == w)
            start[same], stride[same] = first + np.arange(same.size), same.size
            blocks.append((first, int(same.size), int(w)))
            first += int(same.size * w)
        most_codes = max((c.size for c in cells), default=1)
        category = np.zeros((len(cells), most_codes), np.int64)
        log_share = np.zeros((len(cells), most_codes))
        pad, frequency = np.full(int(widths.sum()), -np.inf), np.zeros(int(widths.sum()))
        for j, (part, line) in enumerate(columns):
            category[j, : part.size] = part
            held = np.bincount(part, weights=counts[j], minlength=int(lengths[j]))
            slots = start[j] + np.arange(lengths[j]) * stride[j]
            pad[slots], frequency[slots] = 0.0, held / held.sum()
            shares = np.log(counts[j] / held[part])
            log_share[j, : part.size] = np.where(line, 0.0, shares)
        numbers = [j for j, (_, line) in enumerate(columns) if line.any()]
        lines = _lines([counts[j] for j in numbers], [columns[j][1] for j in numbers], most_codes)
        return Dense(
            torch.tensor([c.size for c in cells], dtype=torch.int64),
            torch.from_numpy(start), torch.from_numpy(stride), tuple(blocks),
            torch.from_numpy(order),
            torch.from_numpy(category), _float(log_share), _float(pad), _float(frequency),
            torch.tensor(numbers, dtype=torch.int64), *lines,
        )  # fmt: skip

    @property
    def slots(self) -> int:
        """W, the number of slots of all columns."""
        return len(self.pad)

    @property
    def lines(self) -> int:
        """C, the number of columns with a score."""
        return len(self.numbers)

    # -------------------------------------------------------------- codes → numbers

    def categories(self, codes: Tensor) -> Tensor:
        """Return the slot of each code's category, (rows, D); codes are int64 (rows, D)."""
        return self._slot_of[torch.arange(len(self.sizes)), codes]

    @cached_property
    def _slot_of(self) -> Tensor:
        """The slot of each code's category, (D, S)."""
        return self.start[:, None] + self.category * self.stride[:, None]

    def slot(self, columns: Tensor, codes: Tensor) -> Tensor:
        """Return the slots of codes of these columns."""
        return self.start[columns] + self.category[columns, codes] * self.stride[columns]

    def inputs(self, codes: Tensor) -> Tensor:
        """Return categories one-hot, then scores, (rows, W + C): 0 off the line."""
        found = torch.zeros(len(codes), self.slots + self.lines)
        found.scatter_(1, self.categories(codes), 1.0)
        place = self._places(codes)
        rows = torch.arange(self.lines)
        found[:, self.slots :] = torch.where(
            place >= 0, self.middle[rows, place.clamp(min=0)], torch.zeros(())
        )
        return found

    def _places(self, codes: Tensor) -> Tensor:
        return self.place[torch.arange(self.lines), codes[:, self.numbers]]  # (rows, C)

    # -------------------------------------------------------------- numbers → distributions

    def log_softmax(self, logits: Tensor) -> Tensor:
        """Return the log probabilities of each column's categories, (rows, W), of such logits."""
        found: Tensor = _LogSoftmax.apply(logits.float() + self.pad, self.blocks)  # type: ignore[no-untyped-call]
        return found

    def log_mass(self, means: Tensor, log_scales: Tensor, place: Tensor) -> Tensor:
        """Return the log mass of places on the line under logistics, all (rows, C).

        σ(b) - σ(a) = σ(b) σ(-a) (1 - exp(a - b)), in which nothing cancels.
        """
        column = torch.arange(self.lines)
        ends = self.cuts[column, place], self.cuts[column, place + 1]
        found: Tensor = _LogMass.apply(means, log_scales, *ends)  # type: ignore[no-untyped-call]
        return found

    def log_prob(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Return the log probability of each code, (rows, D), under outputs (rows, W + 2 C)."""
        log_categories = self.log_softmax(outputs[:, : self.slots])
        found = log_categories.gather(1, self.categories(codes))
        found = found + self.log_share[torch.arange(len(self.sizes)), codes]
        if self.lines:
            place = self._places(codes)
            means, log_scales = self.logistics(outputs)
            mass = self.log_mass(means, log_scales, place.clamp(min=0))
            found = found.index_add(1, self.numbers, torch.where(place >= 0, mass, torch.zeros(())))
        return found

    def logistics(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log scales, (rows, C) each."""
        means, log_scales = outputs[:, self.slots :].float().chunk(2, dim=1)
        return means, log_scales

    def log_pmf(self, outputs: Tensor, log_categories: Tensor, j: int) -> Tensor:
        """Return the log probability of every code of column `j`, (rows, its codes)."""
        size = int(self.sizes[j])
        found = log_categories[:, self.slot(torch.tensor(j), torch.arange(size))]
        found = found + self.log_share[j, :size]
        at = (self.numbers == j).nonzero().flatten()
        if len(at):
            c = int(at)
            means, log_scales = (part[:, c : c + 1] for part in self.logistics(outputs))
            place = self.place[c, :size]
            cuts, scale = self.cuts[c], torch.exp(-log_scales.clamp(NARROW, WIDE))
            a, b = ((cuts[place.clamp(min=0) + side] - means) * scale for side in (0, 1))
            inside = torch.log(-torch.expm1(-(b - a).clamp(min=NARROWEST)))
            mass = functional.logsigmoid(b) + functional.logsigmoid(-a) + inside
            found = found + torch.where(place >= 0, mass, torch.zeros(()))
        return found

    # -------------------------------------------------------------- numbers → codes

    def draw(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Draw codes (rows, D) from outputs (rows, W + 2 C) by uniform numbers (rows, D + C + D).

        They choose the category, the score, and the level within a group of rare ones.
        """
        d = len(self.sizes)
        chosen = self.choose(self.log_softmax(outputs[:, : self.slots]).exp(), uniform[:, :d])
        means, log_scales = self.logistics(outputs)
        scores = self.scores(means, log_scales, uniform[:, d : d + self.lines])
        return self.codes(chosen, scores, uniform[:, d + self.lines :])

    def scores(self, means: Tensor, log_scales: Tensor, uniform: Tensor) -> Tensor:
        """Return the quantiles of logistics at uniform numbers, (…, rows, C)."""
        standard = torch.logit(uniform, eps=1e-6)
        return means + log_scales.clamp(NARROW, WIDE).exp() * standard

    def choose(self, probability: Tensor, uniform: Tensor) -> Tensor:
        """Return a category of each column, (rows, D), of probabilities (rows, W)."""
        found = torch.empty(uniform.shape, dtype=torch.int64)
        pads, done = by_width(self.pad[None], self.blocks), 0
        for part, pad in zip(by_width(probability.contiguous(), self.blocks), pads, strict=True):
            columns = self.order[done : done + part.shape[2]]
            total = part.cumsum(1)
            below = total < uniform[:, None, columns] * total[:, -1:]
            lengths = torch.isfinite(pad[0]).sum(0)
            found[:, columns] = below.sum(1).minimum(lengths - 1)
            done += part.shape[2]
        return found

    def likeliest(self, outputs: Tensor) -> Tensor:
        """Return the likeliest category of each column, on the line the code at its mean."""
        chosen = torch.empty(len(outputs), len(self.sizes), dtype=torch.int64)
        padded, done = outputs[:, : self.slots] + self.pad, 0
        for part in by_width(padded, self.blocks):
            chosen[:, self.order[done : done + part.shape[2]]] = part.argmax(1)
            done += part.shape[2]
        return self.codes(chosen, self.logistics(outputs)[0], torch.full(chosen.shape, 0.5))

    def codes(self, chosen: Tensor, scores: Tensor, uniform: Tensor) -> Tensor:
        """Return the codes of categories (rows, D), scores (rows, C) and uniform ones (rows, D)."""
        code_of, line, grouped = self._lookup()
        found = code_of[torch.arange(len(self.sizes)), chosen]
        if self.lines:
            inner = self.cuts[:, 1:-1].contiguous()
            place = torch.searchsorted(inner, scores.T.contiguous(), right=True).T
            ends = (self.place.max(1).values)[None]
            at = self.codes_at[torch.arange(self.lines), place.minimum(ends)]
            on_line = chosen[:, self.numbers] == line
            found[:, self.numbers] = torch.where(on_line, at, found[:, self.numbers])
        for j in grouped:  # the few columns with more levels than slots
            size = int(self.sizes[j])
            share = self.log_share[j, :size].exp().double()
            by_group = torch.argsort(self.category[j, :size], stable=True)
            total = share[by_group].cumsum(0)  # every group adds 1
            at = torch.searchsorted(total, chosen[:, j] + uniform[:, j].double(), right=True)
            found[:, j] = by_group[at.clamp(max=size - 1)]
        return found

    def _lookup(self) -> tuple[Tensor, Tensor, list[int]]:
        """Return (D, widest) a code of each category, (C,) the line's category, grouped columns."""
        d, size = self.category.shape
        widest = max((w for _, _, w in self.blocks), default=1)
        code_of = torch.zeros(d, widest, dtype=torch.int64)
        real = torch.arange(size) < self.sizes[:, None]
        column = torch.arange(d)[:, None].expand(d, size)
        every = torch.arange(size).expand(d, size)
        code_of[column[real], self.category[real]] = every[real]
        line = self.category[self.numbers, self.codes_at[:, 0]] if self.lines else self.numbers
        grouped = ((self.log_share < -1e-9) & real).any(1).nonzero().flatten().tolist()
        return code_of, line, grouped

    # -------------------------------------------------------------- calibration

    def recut(self, scores: Tensor, weights: Tensor) -> Dense:
        """Return it with cuts where the draws' own distribution has each code's share of rows.

        Scores (draws, C) and their weights are those of a model whose line they shall fit.
        """
        target = torch.special.ndtr(self.cuts.double())  # (C, R + 1)
        cuts = self.cuts.clone()
        for c in range(self.lines):
            order = torch.argsort(scores[:, c])
            total = weights[order, c].double().cumsum(0)
            total = (total - 0.5 * weights[order, c]) / total[-1]
            inner = (self.cuts[c] > -FAR) & (self.cuts[c] < FAR)
            found = np.interp(target[c, inner].numpy(), total.numpy(), scores[order, c].numpy())
            cuts[c, inner] = torch.from_numpy(found).float()
        return replace(self, cuts=cuts)


# ------------------------------------------------------------------ operators
# Gradients written out: automatic differentiation would take some sixty small operators for each.


def by_width(x: Tensor, blocks: Blocks) -> Iterator[Tensor]:
    """Yield views of (rows, W) as (rows, width, columns), one for each width."""
    for a, n, w in blocks:
        yield x[:, a : a + n * w].view(-1, w, n)


class _LogSoftmax(torch.autograd.Function):
    """Log softmax of each column's categories, (rows, W)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, blocks: Blocks) -> Tensor:
        found = torch.empty_like(logits)
        for part, into in zip(by_width(logits, blocks), by_width(found, blocks), strict=True):
            into.copy_(torch.log_softmax(part, 1))
        ctx.save_for_backward(found)
        ctx.blocks = blocks
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (found,) = ctx.saved_tensors
        of_logits = found.exp()
        slopes = by_width(slope.contiguous(), ctx.blocks)
        for part, own in zip(by_width(of_logits, ctx.blocks), slopes, strict=True):
            part.mul_(own.sum(1, keepdim=True))
        return torch.sub(slope, of_logits, out=of_logits), None


class _LogMass(torch.autograd.Function):
    """log(σ(b) - σ(a)) where a and b are the ends of an interval, standardised."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, log_scales: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:  # fmt: skip
        scale = log_scales.clamp(NARROW, WIDE).neg_().exp_()
        a, b = (low - means).mul_(scale), (high - means).mul_(scale)
        width = b - a
        ctx.save_for_backward(log_scales, scale, a, b, width)
        inside = width.clamp(min=NARROWEST).neg_().expm1_().neg_().log_()
        return inside.add_(functional.logsigmoid(b)).add_(functional.logsigmoid(-a))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        log_scales, scale, a, b, width = ctx.saved_tensors
        inside = torch.where(width > NARROWEST, width, torch.inf).expm1_().reciprocal_()
        of_a = torch.sigmoid(a).add_(inside).mul_(slope).neg_()
        of_b = torch.sigmoid(-b).add_(inside).mul_(slope)
        of_means = torch.add(of_a, of_b).mul_(scale).neg_()
        free = (log_scales >= NARROW) & (log_scales <= WIDE)
        of_scales = of_a.mul_(a).add_(of_b.mul_(b)).neg_().mul_(free)
        return of_means, of_scales, None, None


# ------------------------------------------------------------------ one column


def _column(cells: Cells, few: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the category of each code, and which codes are on the line."""
    size, tokens = cells.size, cells.n_tokens
    none = np.zeros(size, bool)
    if isinstance(cells, NumericCells) and size - tokens > few:
        spikes = cells.counts >= SPIKE * max(cells.counts.sum(), 1)
        line = ~spikes & (np.arange(size) >= tokens)
        if line.sum() > 2:
            category = np.cumsum(~line) - 1
            category[line] = int((~line).sum())
            return category.astype(np.int64), line
    if size <= most:
        return np.arange(size, dtype=np.int64), none
    alone = most - GROUPS
    order = np.argsort(-cells.counts, kind="stable")
    order = np.concatenate([order[order < tokens], order[order >= tokens]])  # marks stay alone
    rank = np.empty(size, np.int64)
    rank[order] = np.arange(size)
    group = alone + (rank - alone) * GROUPS // (size - alone)
    return np.where(rank < alone, rank, group).astype(np.int64), none


def _lines(
    counts: list[NDArray[np.float64]], lines: list[NDArray[np.bool_]], most_codes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return place, cuts, middle and codes of the lines."""
    longest = max((int(line.sum()) for line in lines), default=1)
    place = np.full((len(lines), most_codes), -1, np.int64)
    cuts = np.full((len(lines), longest + 1), FAR)
    middle, codes = np.zeros((len(lines), longest)), np.zeros((len(lines), longest), np.int64)
    for c, (count, line) in enumerate(zip(counts, lines, strict=True)):
        on = np.flatnonzero(line)
        place[c, on] = np.arange(on.size)
        total = np.cumsum(count[on]) / count[on].sum()
        cuts[c, 0] = -FAR
        cuts[c, 1 : on.size] = ndtri(total[:-1])
        middle[c, : on.size] = ndtri(total - 0.5 * count[on] / count[on].sum())
        codes[c, : on.size] = on
    return torch.from_numpy(place), _float(cuts), _float(middle), torch.from_numpy(codes)


def _float(array: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))
