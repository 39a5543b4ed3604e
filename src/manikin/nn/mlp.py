"""Networks for rows of numbers: residual gated layers, and plain layers.

Gated linear units: Dauphin, Fan, Auli and Grangier, ICML 2017. Layer norms: Ba, Kiros and Hinton,
arXiv:1607.06450, without an offset. Residual blocks with the norm first, whose last layer starts at
zero: each block begins as the identity. Norm and gate are those that torch has as one operator with
one gradient: root-mean-square norms and other gates cost a tenth of a step at width 256.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MLP", "Linear", "Norm", "ResidualMLP"]


class Linear(nn.Module):
    """An affine map whose weights are drawn from the generator it is given, not a global one."""

    def __init__(self, wide: int, out: int, rng: torch.Generator, *, scale: float = 1.0) -> None:
        super().__init__()
        bound = scale / math.sqrt(max(wide, 1))
        drawn = torch.rand(out, wide, generator=rng) * 2 - 1
        self.weight = nn.Parameter(drawn * bound)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, wide) to (…, out)."""
        return functional.linear(x, self.weight, self.bias)


class Norm(nn.Module):
    """Each row brought to mean 0 and variance 1 and scaled: nothing passes from row to row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to the same shape."""
        return functional.layer_norm(x, x.shape[-1:], self.scale)


class MLP(nn.Module):
    """(rows, wide) → `depth` layers of `width` with leaky ReLUs → (rows, out)."""

    def __init__(
        self, wide: int, out: int, *, width: int, depth: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        ends = [wide, *[width] * depth]
        self.layers = nn.ModuleList(
            Linear(a, b, rng, scale=math.sqrt(3)) for a, b in itertools.pairwise(ends)
        )
        self.last = Linear(ends[-1], out, rng)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, wide) to (…, out)."""
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        out: Tensor = self.last(x)
        return out


class ResidualMLP(nn.Module):
    """(rows, wide) → `depth` gated residual blocks of `width` → (rows, out)."""

    def __init__(
        self, wide: int, out: int, *, width: int, depth: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.first = Linear(wide, width, rng)
        self.blocks = nn.ModuleList(_Gated(width, rng) for _ in range(depth))
        self.norm = Norm(width)
        self.last = Linear(width, out, rng)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, wide) to (rows, out)."""
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        out: Tensor = self.last(self.norm(h))
        return out


class _Gated(nn.Module):
    def __init__(self, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.norm = Norm(width)
        self.into = Linear(width, 2 * width, rng, scale=math.sqrt(3))
        self.back = Linear(width, width, rng, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.into(self.norm(x))
        out: Tensor = self.back(functional.glu(inner, dim=-1))
        return out
