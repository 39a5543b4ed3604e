"""Autoregression with what is known put first, for any network and any modality.

A row x has D parts, each of finitely many values; its probability is the product of each part's,
given the parts before it in some order. Training sees many orders, so that any parts can be given:
Uria, Murray and Larochelle, "A deep and tractable density estimator", ICML 2014; Hoogeboom et al.,
"Autoregressive diffusion models", ICLR 2022; for tables Tiwald et al., arXiv:2501.12012.

The orders here are those that are ever asked for: one base order, with a random set of parts moved
to its front. Without such a set the density is exact, and so are draws. With parts known, the
others are drawn in the base order, each given all that is known and drawn by then: one pass, no
rejection. Parts that are restricted to a set of values come before free ones; where several are,
candidates are weighted by how likely the sets were and drawn again (sequential importance
resampling: Doucet, de Freitas and Gordon, 2001): exact in the limit of many candidates, and with
one restricted part exact at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

__all__ = ["Factor", "Parts", "Uniform", "any_known", "complete", "log_density", "loss", "visible"]

Uniform: TypeAlias = Callable[[Tensor], Tensor]  # keys (rows,) → numbers in [0, 1), (rows,)


class Factor(Protocol):
    """The distribution of one part for some rows, given what each row shows."""

    def draw(self, uniform: Uniform, able: Tensor | None) -> Tensor:
        """Draw a value a row, (rows,), of the `able` ones (values,)."""

    def log_prob(self, values: Tensor) -> Tensor:
        """Return the log probability of values, (rows,)."""

    def log_mass(self, able: Tensor) -> Tensor:
        """Return the log probability of the set `able`, (rows,)."""


class Parts(Protocol):
    """A network that gives every part's distribution, given any others."""

    def log_prob(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return the log probability of each part, (rows, D); part j sees those of visible[j]."""

    def view(self, x: Tensor) -> Tensor:
        """Return what rows (rows, D) show; -1: not known, shows nothing."""

    def show(self, view: Tensor, part: int, values: Tensor, rows: Tensor) -> None:
        """Show values of one part in some rows of a view, in place."""

    def factor(self, view: Tensor, part: int) -> Factor:
        """Return the distribution of one part given views."""


# ------------------------------------------------------------------ orders and objective


def visible(order: Sequence[int], known: Tensor | None = None) -> Tensor:
    """Return which parts each one sees, (D, D), when the `known` ones (D,) are put first."""
    rank = torch.empty(len(order), dtype=torch.int64)
    rank[torch.tensor(order, dtype=torch.int64)] = torch.arange(len(order))
    if known is not None:
        rank = rank - len(order) * known.to(rank.device)
    return rank[None, :] < rank[:, None]


def any_known(parts: int, rng: torch.Generator) -> Tensor:
    """Draw a set of parts, (D,) bool, of any size but all and none, each as likely."""
    where = rng.device
    size = 1 + int(torch.rand((), generator=rng, device=where) * max(parts - 1, 1))
    return torch.rand(parts, generator=rng, device=where).argsort() < min(size, parts)


def loss(
    log_prob: Callable[[Tensor], Tensor],
    order: Sequence[int],
    rng: torch.Generator,
    *,
    share: float,
) -> Tensor:
    """Return minus the log probability of each row, (rows,).

    `log_prob` gives that of each part, (D, rows), when told which parts see which.
    In a `share` of calls a random set of parts is put first.
    """
    put_first = share > 0 and float(torch.rand((), generator=rng, device=rng.device)) < share
    known = any_known(len(order), rng) if put_first else None
    return -log_prob(visible(order, known)).sum(0)


@torch.no_grad()
def log_density(parts: Parts, x: Tensor, order: Sequence[int]) -> Tensor:
    """Return the exact log probability of whole rows along the base order, (rows,)."""
    return parts.log_prob(x, visible(order)).double().sum(1)


# ------------------------------------------------------------------ sampler


@torch.no_grad()
def complete(
    parts: Parts,
    x: Tensor,
    order: Sequence[int],
    uniform: Uniform,
    *,
    allowed: Mapping[int, Tensor] | None = None,
    candidates: int = 16,
) -> tuple[Tensor, Tensor]:
    """Draw what is not known (-1) of rows (rows, D), given what is, of the `allowed` values.

    Returns whole rows, and how likely the allowed sets were of each, as a logarithm, (rows,).
    """
    allowed = allowed or {}
    asked = [j for j in order if j in allowed and bool((x[:, j] < 0).any())]
    free = [j for j in order if j not in asked]
    evidence = torch.zeros(len(x), dtype=torch.float64)
    if len(asked) > 1:
        x, evidence = _weighed(parts, x, asked, uniform, allowed, candidates)
        asked = []
    x = x.clone()
    view = parts.view(x)
    for j in [*asked, *free]:
        rows = (x[:, j] < 0).nonzero().flatten()
        if len(rows):
            factor = parts.factor(view if len(rows) == len(x) else view[rows], j)
            values = factor.draw(uniform, allowed.get(j))
            if j in allowed:
                evidence[rows] += factor.log_mass(allowed[j]).double()
            x[rows, j] = values
            parts.show(view, j, values, rows)
    return x, evidence


def _weighed(
    parts: Parts, x: Tensor, asked: Sequence[int], uniform: Uniform, allowed: Mapping[int, Tensor],
    each: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return rows with their restricted parts drawn, and the log probability of the sets."""
    n = len(x)
    cloud = x.repeat_interleave(each, 0)
    view = parts.view(cloud)
    weight = torch.zeros(n, each, dtype=torch.float64)
    evidence = torch.zeros(n, dtype=torch.float64)
    for j in asked:
        rows = (cloud[:, j] < 0).nonzero().flatten()
        factor = parts.factor(view[rows], j)
        values = factor.draw(uniform, allowed[j])
        cloud[rows, j] = values
        parts.show(view, j, values, rows)
        weight.view(-1)[rows] += factor.log_mass(allowed[j]).double()
        share = torch.softmax(weight, 1)
        few = (1 / (share**2).sum(1) < each / 2).nonzero().flatten()  # Kong's effective number
        if len(few):
            evidence[few] += torch.logsumexp(weight[few], 1) - math.log(each)
            again = _systematic(share[few], each, uniform)
            own = torch.arange(n * each).view(n, each)
            own[few] = few[:, None] * each + again
            cloud, view = cloud[own.view(-1)], view[own.view(-1)]
            weight[few] = 0.0
    evidence += torch.logsumexp(weight, 1) - math.log(each)
    best = _systematic(torch.softmax(weight, 1), 1, uniform)[:, 0]
    return cloud[torch.arange(n) * each + best], evidence


def _systematic(share: Tensor, n: int, uniform: Uniform) -> Tensor:
    """Return the places of `n` candidates a row, each about as often as its share is due."""
    start = uniform(torch.zeros(len(share), dtype=torch.float64))[:, None]
    due = (torch.arange(n) + start) / n
    total = share.cumsum(1)
    return torch.searchsorted(total, due * total[:, -1:], right=True).clamp(max=share.shape[1] - 1)
