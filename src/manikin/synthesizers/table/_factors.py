"""The network of table/argn: each column's distribution given any others, all columns at once.

Every column is seen as a few numbers that are fixed before training: its category by how it goes
with the other columns (`_levels`), and for ordered codes a few functions of its normal score. A
column reads those of the columns before it through hidden units of its own, half of them linear;
so no weight serves two columns, and each can end its training by itself. The hidden units of all
columns are one masked matrix product, the heads of all columns of equal width another, and all
mixtures on lines a third.

A column's distribution is a softmax over its categories; on the line (see `_dense`) it is a mixture
of logistics, whose mass between two cuts is the probability of a code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from manikin.nn.autoregressive import Uniform
from manikin.nn.loop import Batch
from manikin.synthesizers.table._cells import Cells
from manikin.synthesizers.table._dense import NARROW, WIDE, Dense
from manikin.synthesizers.table.encoding import normal_scores

__all__ = ["Coded", "Factors", "basis", "inverse"]

KNOTS = (-1.5, -0.75, 0.0, 0.75, 1.5)  # normal scores at which the response to a number may bend
BASIS = len(KNOTS) + 1
TOGETHER = 8_000_000  # numbers held at a time when all codes of a line are looked at


def basis(cells: Sequence[Cells]) -> Tensor:
    """Return functions of each code's normal score, (D, S, BASIS); 0: it has no order."""
    most = max((c.size for c in cells), default=1)
    found = np.zeros((len(cells), most, BASIS), np.float32)
    for j, own in enumerate(cells):
        if own.ordered and own.size > own.n_tokens + 3:
            counts = own.counts[own.n_tokens :]
            score = normal_scores(counts)
            share = counts / max(counts.sum(), 1)
            bent = np.stack([score, *(np.abs(score - knot) for knot in KNOTS)], 1)
            bent -= share @ bent
            bent /= np.sqrt(np.maximum(share @ bent**2, 1e-4))
            found[j, own.n_tokens : own.size] = bent
    return torch.from_numpy(found)


class Factors(nn.Module):
    """The networks of D columns. Codes are int64 (rows, D), -1: not known."""

    def __init__(
        self, dense: Dense, curves: Tensor, *, embed: int, width: int, mixed: int, dropout: float,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        d, self.embed, self.mixed, self.dropout = len(dense.sizes), embed, mixed, dropout
        self.blocks, self.columns, self.lines = dense.blocks, d, dense.lines
        used = torch.cat([_dims(dense, embed), (curves.abs().sum(1) > 0)], 1)
        self.tables = _tables(dense, curves, mixed) | {
            "used": used.flatten().nonzero().flatten(), "owner": used.nonzero()[:, 0],  # (E,)
        }  # fmt: skip
        wide = int(used.sum())
        # what a category is seen as: fixed before training, see `_levels`
        self.levels = nn.Parameter(torch.zeros(dense.slots, 1 + embed), requires_grad=False)
        bound = math.sqrt(1.0 / max(wide, 1))
        self.into = nn.Parameter((torch.rand(d, width, wide, generator=rng) * 2 - 1) * bound)
        self.lean = nn.Parameter(torch.zeros(d, width, 1))
        # all distributions begin at the columns' own
        self.heads = nn.ParameterList(torch.zeros(n, w, width) for _, n, w in dense.blocks)
        self.base = nn.Parameter(torch.zeros(dense.slots))
        self.line = nn.Parameter(torch.zeros(dense.lines, 3 * mixed, width))
        self.line_base = nn.Parameter(torch.zeros(dense.lines, 3 * mixed, 1))

    def _apply(self, fn: Any, recurse: bool = True) -> Factors:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.tables = {name: fn(tensor) for name, tensor in self.tables.items()}
        return self

    # -------------------------------------------------------------- training

    def prepared(self, codes: Tensor) -> Batch:
        """Return what `log_likelihood` reads of codes (rows, D): all that no weight changes."""
        of = self.tables
        order, line, numbers = of["order"], of["every"][: self.lines], of["numbers"]
        categories = of["category"][order, codes[:, order]]
        place = of["place"][line, codes[:, numbers]]
        low, high = (of["cuts"][line, place.clamp(min=0) + side] for side in (0, 1))
        return self._seen(codes), categories, place >= 0, low, high

    def _seen(self, codes: Tensor) -> Tensor:
        """Return what whole rows show of every column, (rows, E)."""
        of = self.tables
        slots = of["start"] + of["category"][of["every"], codes] * of["stride"]
        z = torch.cat([self.levels[slots], of["curves"][of["every"], codes]], 2)
        return z.flatten(1).index_select(1, of["used"])

    def log_likelihood(
        self, batch: Batch, visible: Tensor, rng: torch.Generator | None = None
    ) -> Tensor:
        """Return the log probability of each column, (D, rows), in the order of widths.

        Column j sees those of visible[j]. With a generator, hidden units are dropped out.
        """
        z, categories, on_line, low, high = batch
        of = self.tables
        sees = visible.to(z.device)[of["order"]][:, of["owner"]]  # (D, E)
        weight = (self.into * sees[:, None, :]).flatten(0, 1)
        raw = (weight @ z.T).view(self.columns, -1, len(z)) + self.lean
        hidden = _dropped(_half_bent(raw), self.dropout, rng)  # (D, width, rows)
        offset = torch.where(of["real"], self.base + of["log_frequency"], -1e9)
        found, done = [], 0
        for (a, n, w), head in zip(self.blocks, self.heads, strict=True):
            bias = offset[a : a + n * w].view(w, n).T[:, :, None]
            logits = torch.baddbmm(bias, head, hidden[done : done + n]).float()
            chosen = categories[:, done : done + n].T[:, None]
            found.append(torch.log_softmax(logits, 1).gather(1, chosen)[:, 0])
            done += n
        whole = torch.cat(found)
        if self.lines:
            at = of["at"][of["numbers"]]
            mixture = torch.baddbmm(self.line_base + of["alone"], self.line, hidden[at]).float()
            mass = log_mass(mixture.mT, low.T, high.T)
            whole = whole.index_add(0, at, torch.where(on_line.T, mass, 0.0))
        return whole

    def log_prob(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return the log probability of each code, (rows, D)."""
        of, batch = self.tables, self.prepared(x)
        found = self.log_likelihood(batch, visible)[of["at"]].T
        return found + of["log_share"][of["every"], x]

    def own(self) -> list[Tensor]:
        """Return all weights of columns' networks as views whose first axis is the column.

        Columns are in the order of widths, and those of a block or of the lines alone.
        """
        bases = [self.base[a : a + n * w].view(w, n).T for a, n, w in self.blocks]
        return [self.into, self.lean, self.line, self.line_base, *self.heads, *bases]

    def whose(self) -> list[Tensor]:
        """Return, for each of `own`, which columns its first axis stands for."""
        of, start = self.tables, 0
        blocks = []
        for _, n, _ in self.blocks:
            blocks.append(of["order"][start : start + n])
            start += n
        return [of["order"], of["order"], of["numbers"], of["numbers"], *blocks, *blocks]

    @torch.no_grad()
    def shrink(self, times: Tensor) -> None:
        """Multiply by how much each column (D,) departs from its own frequencies, in place."""
        for weights, columns in list(zip(self.own(), self.whose(), strict=True))[2:]:
            own = times[columns]
            weights.mul_(own.view(-1, *[1] * (weights.ndim - 1)))

    # -------------------------------------------------------------- what rows show

    def view(self, x: Tensor) -> Tensor:
        """Return the embeddings of what is known, (rows, E); 0: not known."""
        found = torch.zeros(len(x), len(self.tables["owner"]))
        for j in range(self.columns):
            rows = (x[:, j] >= 0).nonzero().flatten()
            if len(rows):
                self.show(found, j, x[rows, j], rows)
        return found

    def show(self, view: Tensor, part: int, values: Tensor, rows: Tensor) -> None:
        """Show the codes of one column in some rows of a view, in place."""
        of = self.tables
        size = int(of["sizes"][part])
        slot = of["start"][part] + of["category"][part, :size] * of["stride"][part]
        z = torch.cat([self.levels[slot], of["curves"][part, :size]], 1)
        own = (of["owner"] == part).nonzero().flatten()
        kept = of["used"][own] % z.shape[1]
        view[rows[:, None], own] = z[:, kept][values]

    # -------------------------------------------------------------- one column

    def factor(self, view: Tensor, part: int) -> Coded:
        """Return the distribution of one column given views."""
        of = self.tables
        i = int(of["at"][part])
        hidden = _half_bent(self.into[i] @ view.T + self.lean[i], 0)  # (width, rows)
        block = next(b for b, (a, _, w) in enumerate(self.blocks[::-1]) if a <= of["start"][part])
        block = len(self.blocks) - 1 - block
        a, n, w = self.blocks[block]
        k = int(of["start"][part]) - a
        slots = of["start"][part] + torch.arange(w) * n
        slots = slots[of["real"][slots]]
        logits = hidden.T @ self.heads[block][k, : len(slots)].T
        logits = logits + self.base[slots] + of["log_frequency"][slots]
        c = int(of["number"][part])
        mixture = None
        if c >= 0:
            mixture = (self.line[c] @ hidden + self.line_base[c] + of["alone"]).T.contiguous()
        return Coded(self, part, c, torch.log_softmax(logits.double(), 1), mixture)


def _dims(dense: Dense, embed: int) -> Tensor:
    """Return which numbers a category is seen as, (D, 1 + embed): that it is known, and others."""
    last = [int(dense.category[j, : int(size)].max()) for j, size in enumerate(dense.sizes)]
    return torch.arange(1 + embed) < 1 + torch.tensor(last, dtype=torch.int64)[:, None]


def _tables(dense: Dense, curves: Tensor, mixed: int) -> dict[str, Tensor]:
    """Return all that is read of the layout of columns."""
    d = len(dense.sizes)
    at = torch.empty(d, dtype=torch.int64)
    at[dense.order] = torch.arange(d)  # place of a column in the order of widths
    number = torch.full((d,), -1, dtype=torch.int64)
    number[dense.numbers] = torch.arange(dense.lines)
    same = ("order", "start", "stride", "category", "log_share", "numbers", "place", "cuts",
            "codes_at", "sizes")  # fmt: skip
    return {name: getattr(dense, name) for name in same} | {
        "at": at, "number": number, "curves": curves, "every": torch.arange(d),
        "real": torch.isfinite(dense.pad), "alone": _alone(mixed),
        "log_frequency": dense.frequency.clamp(min=1e-6).log(),
    }  # fmt: skip


def _half_bent(raw: Tensor, dim: int = 1) -> Tensor:
    """Return hidden units of their sums: half gated, half linear."""
    bent, straight = raw.chunk(2, dim=dim)
    return torch.cat([functional.silu(bent), straight], dim)


def _alone(mixed: int) -> Tensor:
    """Return a mixture (3 mixed, 1) that is about standard normal: a line on its own."""
    spread = torch.special.ndtri((torch.arange(mixed) + 0.5) / mixed)
    scale = torch.full((mixed,), math.log(0.6 if mixed == 1 else 0.45))
    return torch.cat([torch.zeros(mixed), spread, scale])[:, None]


def _dropped(x: Tensor, share: float, rng: torch.Generator | None) -> Tensor:
    if rng is None or share <= 0:
        return x
    kept = torch.rand(x.shape, generator=rng, device=x.device) >= share
    return x * kept * (1 / (1 - share))


def log_mass(mixture: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the log mass between two cuts under mixtures (…, 3 mixed) of logistics.

    σ(b) - σ(a) = σ(b) σ(-a) (1 - exp(a - b)), in which nothing cancels.
    """
    weights, means, log_scales = mixture.chunk(3, dim=-1)
    scale = torch.exp(-log_scales.clamp(NARROW, WIDE))
    a, b = (low[..., None] - means) * scale, (high[..., None] - means) * scale
    inside = torch.log(-torch.expm1(-(b - a).clamp(min=1e-6)))
    each = functional.logsigmoid(b) + functional.logsigmoid(-a) + inside
    return torch.logsumexp(torch.log_softmax(weights, -1) + each, -1)


@dataclass(frozen=True)
class Coded:
    """The distribution of one column's codes, a row each."""

    factors: Factors
    part: int
    at: int  # which line, -1: none
    log_categories: Tensor  # (rows, categories)
    mixture: Tensor | None  # (rows, 3 mixed)

    def log_pmf(self) -> Tensor:
        """Return the log probability of every code, (rows, codes)."""
        of, j = self.factors.tables, self.part
        size = int(of["sizes"][j])
        found = self.log_categories[:, of["category"][j, :size]] + of["log_share"][j, :size]
        if self.mixture is not None:
            place = of["place"][self.at, :size]
            on = place >= 0
            cuts = of["cuts"][self.at]
            low, high = cuts[place[on]], cuts[place[on] + 1]
            step = max(1, TOGETHER // max(int(on.sum()) * self.factors.mixed, 1))
            split = torch.split(self.mixture, step)
            parts = [log_mass(some[:, None], low, high) for some in split]
            found[:, on] += torch.cat(parts).double()
        return found

    def log_prob(self, values: Tensor) -> Tensor:
        """Return the log probability of codes, (rows,)."""
        of, j = self.factors.tables, self.part
        found = self.log_categories.gather(1, of["category"][j, values][:, None])[:, 0]
        found = found + of["log_share"][j, values]
        if self.mixture is not None:
            place = of["place"][self.at, values]
            cuts, inner = of["cuts"][self.at], place.clamp(min=0)
            mass = log_mass(self.mixture, cuts[inner], cuts[inner + 1]).double()
            found = found + torch.where(place >= 0, mass, torch.zeros((), dtype=torch.float64))
        return found

    def log_mass(self, able: Tensor) -> Tensor:
        """Return the log probability of a set of codes (codes,), (rows,)."""
        return torch.logsumexp(self.log_pmf()[:, able], 1).clamp(max=0.0)

    def draw(self, uniform: Uniform, able: Tensor | None) -> Tensor:
        """Draw a code a row, of the `able` ones."""
        u = uniform(self.expected())
        if able is not None:
            codes = able.nonzero().flatten()
            return codes[inverse(torch.softmax(self.log_pmf()[:, codes], 1), u)[0]]
        of, j = self.factors.tables, self.part
        category = of["category"][j, : int(of["sizes"][j])]
        chosen, rest = inverse(self.log_categories.exp(), u)
        by_category = torch.argsort(category, stable=True)
        if self.mixture is None and len(category) > int(category.max()) + 1:
            # within a group by shares, which add to 1 in each: search them all at once
            total = of["log_share"][j, : len(category)].exp().double()[by_category].cumsum(0)
            at = torch.searchsorted(total, chosen + rest, right=True)
            return by_category[at.clamp(max=len(category) - 1)]
        first = torch.searchsorted(category[by_category].contiguous(), chosen)
        codes = by_category[first]
        if self.mixture is not None:
            rows = (of["place"][self.at, codes] >= 0).nonzero().flatten()
            place = self._place(self.mixture[rows], rest[rows])
            codes[rows] = of["codes_at"][self.at, place]
        return codes

    def expected(self) -> Tensor:
        """Return a number a row by which rows of like distributions lie together."""
        p = self.log_categories.exp()
        if self.mixture is None:
            return p @ torch.arange(p.shape[1], dtype=torch.float64)
        weights, means, _ = self.mixture.double().chunk(3, dim=-1)
        of, j = self.factors.tables, self.part
        line = int(of["category"][j, of["codes_at"][self.at, 0]])
        score = (torch.softmax(weights, -1) * means).sum(-1)
        return p[:, line] * (score + 8.0)

    def _place(self, mixture: Tensor, u: Tensor) -> Tensor:
        """Return the place on the line where each mixture's distribution reaches u."""
        of = self.factors.tables
        n_places = int(of["place"][self.at].max()) + 1
        weights, means, log_scales = mixture.chunk(3, dim=-1)
        share = torch.softmax(weights, -1)
        scale = torch.exp(-log_scales.clamp(NARROW, WIDE))
        cuts = of["cuts"][self.at]
        low = torch.zeros(len(u), dtype=torch.int64)  # the first place is not after it
        high = torch.full_like(low, n_places - 1)
        for _ in range(max(n_places - 1, 0).bit_length()):
            middle = (low + high) // 2
            at = cuts[middle + 1][:, None]
            below = (share * torch.sigmoid((at - means) * scale)).sum(-1)
            reached = below >= u
            high = torch.where(reached, middle, high)
            low = torch.where(reached, low, torch.minimum(middle + 1, high))
        return high


def inverse(probability: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return which value each u (rows,) falls on, and where within it, in [0, 1)."""
    total = probability.cumsum(1)
    due = (u * total[:, -1])[:, None]
    chosen = torch.searchsorted(total, due, right=True).clamp(max=probability.shape[1] - 1)
    own = probability.gather(1, chosen)
    rest = (due - (total.gather(1, chosen) - own)) / own.clamp(min=1e-300)
    return chosen[:, 0], rest[:, 0].clamp(0.0, 1 - 1e-9)
