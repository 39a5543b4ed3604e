"""Parts that methods on a grid share: a gated unit, what is read of visits, their likelihood.

Reference  Cho et al., EMNLP 2014, arXiv:1406.1078 (the gated recurrent unit)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from manikin.nn.mlp import Linear

__all__ = ["GRU", "before", "follows", "surprise", "there"]


class GRU(nn.Module):
    """(rows, visits, wide) → (rows, visits, width), one visit after the other."""

    def __init__(self, wide: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.width = width
        self.entering = Linear(wide, 3 * width, rng)
        self.kept = Linear(width, 3 * width, rng)

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the state after one visit, (rows, width)."""
        return self._moved(self.entering(x), state)

    def forward(self, x: Tensor, *, backwards: bool = False) -> Tensor:
        """Return the states after each visit."""
        entering = self.entering(x)
        state = x.new_zeros(len(x), self.width)
        states = []
        order = range(x.shape[1])
        for t in reversed(order) if backwards else order:
            state = self._moved(entering[:, t], state)
            states.append(state)
        if not states:
            return x.new_zeros(len(x), 0, self.width)
        return torch.stack(states[::-1] if backwards else states, 1)

    def _moved(self, entering: Tensor, state: Tensor) -> Tensor:
        reset, update, fresh = entering.chunk(3, -1)
        held, slow, old = self.kept(state).chunk(3, -1)
        new = torch.tanh(fresh + torch.sigmoid(reset + held) * old)
        share = torch.sigmoid(update + slow)
        return share * state + (1 - share) * new


def there(counts: Tensor, visits: int) -> Tensor:
    """Return which visits there are, (rows, visits) of 0 and 1."""
    return (torch.arange(visits, device=counts.device) < counts[:, None]).float()


def follows(logits: Tensor, counts: Tensor) -> Tensor:
    """Return the cross-entropy of whether there is a visit after each, given it, (rows, visits).

    The logit at a place is told by the visits before it: that at 0 says nothing, since everybody
    has a first visit.
    """
    visits = logits.shape[1]
    going = there(counts, visits)
    asked = functional.pad(going, (1, 0))[:, :-1]  # places right behind a visit
    error = functional.binary_cross_entropy_with_logits(logits, going, reduction="none")
    return error * asked


def before(facts: Tensor, bits: Tensor, scores: Tensor) -> Tensor:
    """Return what may be read to tell each visit: the one in front of it, and the facts.

    (rows, visits, codes + numbers + facts + 1); the last says that nothing comes before.
    """
    told = functional.pad(torch.cat([bits, scores], -1), (0, 0, 1, 0))[:, :-1]
    first = torch.zeros_like(told[..., :1])
    first[:, :1] = 1
    return torch.cat([told, facts[:, None].expand(-1, bits.shape[1], -1), first], -1)


def surprise(
    logits: Tensor, mean: Tensor, spread: Tensor, more: Tensor, bits: Tensor, scores: Tensor,
    counts: Tensor,
) -> Tensor:  # fmt: skip
    """Return the negative log-likelihood of each subject's visits, (rows,).

    Bits by their logits, scores as normal with a mean and the logarithm of a spread, and whether
    there is a visit. It is divided by the places of the grid: by each one's own number of visits,
    short records would weigh more.
    """
    visits = bits.shape[1]
    of_bits = functional.binary_cross_entropy_with_logits(logits, bits, reduction="none").sum(-1)
    known = scores != 0  # a score that is not there is exactly 0
    error = ((scores - mean) / spread.exp()).square() / 2 + spread
    whole = (of_bits + (error * known).sum(-1)) * there(counts, visits) + follows(more, counts)
    return whole.sum(1) / visits
