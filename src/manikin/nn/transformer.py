"""A causal decoder for sequences of anything that was made into vectors.

Reference  Vaswani et al., "Attention is all you need", NeurIPS 2017 (§3.2, decoder only); Su et
           al., "RoFormer", arXiv:2104.09864, eq. (34) (rotary positions); Shazeer, "GLU variants
           improve transformer", arXiv:2002.05202 (SwiGLU); Krell et al., "Efficient sequence
           packing without cross-contamination", arXiv:2107.02027 (histogram packing)
Idea       sequences of unlike length share rows, and a mask keeps them apart; in drawing, keys and
           values of what stands already are kept, so that a step costs one place
Differs    from the papers in: norms come first and are those of `mlp.Norm`, which torch has as one
           operator; every block begins as the identity; positions are real numbers of the caller's

Rows are the first axis of every module's argument and result, and each parameter is used by its own
module alone: what `nn/private.py` asks of a network whose rows' gradients are clipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from manikin.nn.mlp import Linear, Norm

__all__ = ["Cache", "Decoder", "Embedding", "Pack", "block_causal", "pack"]

BASE = 10_000.0  # longest wave of the rotary positions, by 2π (RoFormer, §3.3)
NOWHERE = -1  # the segment of a place that holds nothing


# ------------------------------------------------------------------ parts


class Embedding(nn.Module):
    """A vector for each of `n` things."""

    def __init__(self, n: int, width: int, rng: torch.Generator, *, scale: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(scale * torch.randn(n, width, generator=rng))

    def forward(self, which: Tensor) -> Tensor:
        """Map numbers (…) to vectors (…, width)."""
        return functional.embedding(which, self.weight)

    def row_gradients(self, entered: Tensor, slopes: Tensor) -> _OfEmbedding:
        """Return rows' gradients as `nn/private.py` asks for them."""
        rows = len(entered)
        return _OfEmbedding(
            self.weight, entered.reshape(rows, -1), slopes.reshape(rows, -1, slopes.shape[-1])
        )


@dataclass(frozen=True)
class _OfEmbedding:
    """Gradients of a table of vectors: slopes added up by what was looked up."""

    weight: nn.Parameter
    which: Tensor  # (rows, places)
    slopes: Tensor  # (rows, places, width): g

    def squared_norms(self) -> Tensor:
        """Return ‖G‖² = Σ_st [which_s = which_t] g_s·g_t, (rows,)."""
        same = self.which[:, :, None] == self.which[:, None, :]
        return ((self.slopes @ self.slopes.mT) * same).sum((1, 2))

    def weighted(self, factors: Tensor) -> dict[nn.Parameter, Tensor]:
        """Return Σ_i f_i G_i."""
        found = torch.zeros_like(self.weight)
        each = (self.slopes * factors[:, None, None]).flatten(0, 1).to(found)
        return {self.weight: found.index_add_(0, self.which.flatten(), each)}


def turns(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the rotary angles of positions (rows, places), (…, size / 2)."""
    steps = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size
    angles = positions.float()[..., None] * BASE**-steps
    return angles.cos()[:, None], angles.sin()[:, None]  # (rows, 1, places, size / 2)


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate pairs of (rows, heads, places, size) by the angles of their positions."""
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1).to(x.dtype)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, rng: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.into = Linear(width, 3 * width, rng, scale=math.sqrt(3))
        self.back = Linear(width, width, rng, scale=0.0)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor, kept: _Layer | None
    ) -> Tensor:
        rows, places, width = x.shape
        mixed = self.into(x).view(rows, places, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = turned(mixed[0], turn), turned(mixed[1], turn), mixed[2]
        if kept is not None:
            key, value = kept.extended(key, value)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.back(seen.transpose(1, 2).reshape(rows, places, width))
        return out


class _Gated(nn.Module):
    def __init__(self, width: int, inner: int, rng: torch.Generator) -> None:
        super().__init__()
        self.into = Linear(width, 2 * inner, rng, scale=math.sqrt(3))
        self.back = Linear(inner, width, rng, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.into(x).chunk(2, dim=-1)
        out: Tensor = self.back(functional.silu(gate) * value)
        return out


class _Block(nn.Module):
    def __init__(
        self, width: int, heads: int, inner: int, dropout: float, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.norms = nn.ModuleList([Norm(width), Norm(width)])
        self.attention = _Attention(width, heads, rng)
        self.gated = _Gated(width, inner, rng)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor, kept: _Layer | None,
        rng: torch.Generator | None,
    ) -> Tensor:  # fmt: skip
        x = x + self._thinned(self.attention(self.norms[0](x), turn, mask, kept), rng)
        return x + self._thinned(self.gated(self.norms[1](x)), rng)

    def _thinned(self, x: Tensor, rng: torch.Generator | None) -> Tensor:
        """Leave some units out, by the random stream of the step and not a global one."""
        if rng is None or not (self.training and self.dropout):
            return x
        kept = torch.rand(x.shape, generator=rng, device=x.device) >= self.dropout
        return x * kept / (1 - self.dropout)


# ------------------------------------------------------------------ the decoder


class Decoder(nn.Module):
    """(rows, places, width) → the same: each place sees those that the mask shows it."""

    def __init__(
        self, width: int, depth: int, heads: int, rng: torch.Generator, *, inner: int = 0,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size = width // heads
        self.blocks = nn.ModuleList(
            _Block(width, heads, inner or 2 * width, dropout, rng) for _ in range(depth)
        )
        self.norm = Norm(width)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor, rng: torch.Generator | None = None
    ) -> Tensor:
        """Map whole sequences; `mask` (rows, 1, places, places) says who sees whom."""
        turn = turns(positions, self.size)
        for block in self.blocks:
            x = block(x, turn, mask, None, rng)
        out: Tensor = self.norm(x)
        return out

    def step(self, x: Tensor, positions: Tensor, there: Tensor, cache: Cache) -> Tensor:
        """Map more places of sequences whose earlier ones are in the cache, and keep them there.

        `there` (rows, places) is False for places that hold nothing: nobody sees them.
        """
        mask = cache.grown(there)
        turn = turns(positions, self.size)
        for block, kept in zip(self.blocks, cache.layers, strict=True):
            x = block(x, turn, mask, kept, None)
        out: Tensor = self.norm(x)
        return out

    def cache(self) -> Cache:
        """Return an empty cache."""
        return Cache([_Layer() for _ in self.blocks])


class _Layer:
    """Keys and values of one block, (rows, heads, places, size); room is doubled when it is out."""

    def __init__(self) -> None:
        self.stored: list[Tensor] = []
        self.used = 0

    def extended(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        end = self.used + key.shape[2]
        if not self.stored or self.stored[0].shape[2] < end:
            shape = (*key.shape[:2], max(2 * end, 64), key.shape[3])
            grown = [key.new_zeros(shape), key.new_zeros(shape)]
            for new, old in zip(grown, self.stored, strict=False):
                new[:, :, : self.used] = old[:, :, : self.used]
            self.stored = grown
        for store, new in zip(self.stored, (key, value), strict=True):
            store[:, :, self.used : end] = new
        self.used = end
        return self.stored[0][:, :, :end], self.stored[1][:, :, :end]


class Cache:
    """What a decoder keeps of sequences that are drawn place by place."""

    def __init__(self, layers: Sequence[_Layer]) -> None:
        self.layers = layers
        self.there = torch.zeros(0, 0, dtype=torch.bool)

    @property
    def places(self) -> int:
        """How many places are kept, of the sequence that has most."""
        return int(self.there.shape[1])

    def grown(self, there: Tensor) -> Tensor:
        """Add places; return which ones the new ones see, (rows, 1, new, all)."""
        new = there.shape[1]
        before = self.there if self.places else there[:, :0]
        self.there = torch.cat([before, there], 1)
        mask = self.there[:, None, None, :].expand(-1, -1, new, -1)
        later = torch.ones(new, self.places, dtype=torch.bool, device=there.device)
        mask = mask & later.tril(self.places - new)
        # a place that sees nothing would be no number: one that holds nothing sees itself
        own = torch.eye(new, dtype=torch.bool, device=there.device)
        mask[..., self.places - new :] |= own
        return mask

    def keep(self, rows: Tensor) -> None:
        """Keep these rows only, in this order."""
        self.there = self.there[rows]
        for layer in self.layers:
            layer.stored = [stored[rows] for stored in layer.stored]

    def forget(self, first: int, last: int) -> None:
        """Forget all places but the `first` and the `last` ones."""
        at = torch.cat([torch.arange(first), torch.arange(self.places - last, self.places)])
        at = at.to(self.there.device)
        self.there = self.there[:, at]
        for layer in self.layers:
            layer.stored = [stored[:, :, : layer.used][:, :, at] for stored in layer.stored]
            layer.used = len(at)


# ------------------------------------------------------------------ packing


@dataclass(frozen=True, eq=False)
class Pack:
    """Where each sequence lies among rows of one length."""

    row: NDArray[np.int64]  # (sequences,)
    start: NDArray[np.int64]  # (sequences,) place of its first
    rows: int


def pack(lengths: NDArray[np.int64], room: int) -> Pack:
    """Lay sequences, of `room` places at most, into as few rows of `room` as a greedy rule needs.

    The longest come first, each in the fullest row that it fits in. Work goes with the number of
    unlike lengths, not with that of sequences.
    """
    n = len(lengths)
    row, start = np.zeros(n, np.int64), np.zeros(n, np.int64)
    order = np.argsort(-lengths, kind="stable")
    unlike, first = np.unique(-lengths[order], return_index=True)
    groups = np.split(order, first[1:]) if n else []
    free: dict[int, NDArray[np.int64]] = {}  # places left → rows that have so many
    rows = 0
    for length, group in zip((-unlike).tolist(), groups, strict=True):
        waiting = group
        for left in sorted(k for k in free if k >= length):
            if not waiting.size:
                break
            lying = free.pop(left)
            each = left // max(length, 1)  # how many fit in each of these rows
            at = np.arange(min(waiting.size, each * lying.size))
            chosen, waiting = waiting[: at.size], waiting[at.size :]
            row[chosen] = lying[at // each]
            start[chosen] = room - left + at % each * length
            used = np.bincount(at // each, minlength=lying.size)
            _put_back(free, lying, left - used * length)
        if waiting.size:
            each = room // max(length, 1)
            at = np.arange(waiting.size)
            row[waiting], start[waiting] = rows + at // each, at % each * length
            new = rows + np.arange(-(-waiting.size // each))
            _put_back(free, new, room - np.bincount(at // each) * length)
            rows += new.size
    return Pack(row, start, rows)


def _put_back(
    free: dict[int, NDArray[np.int64]], rows: NDArray[np.int64], left: NDArray[np.int64]
) -> None:
    for room in np.unique(left[left > 0]).tolist():
        more = rows[left == room]
        free[room] = np.concatenate([free[room], more]) if room in free else more


def block_causal(segments: Tensor) -> Tensor:
    """Return who sees whom, (rows, 1, places, places): earlier places of the same segment.

    `segments` (rows, places) tells sequences of a row apart; -1 holds nothing, and sees itself.
    """
    places = segments.shape[1]
    same = (segments[:, :, None] == segments[:, None, :]) & (segments != NOWHERE)[:, None, :]
    whole = torch.ones(places, places, dtype=torch.bool, device=segments.device)
    own = torch.eye(places, dtype=torch.bool, device=segments.device)
    return ((same & whole.tril()) | own)[:, None]
