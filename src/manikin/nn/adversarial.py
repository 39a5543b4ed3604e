"""Adversarial training: two networks in one module for the one loop.

Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville, "Improved training of Wasserstein GANs", NeurIPS
2017, arXiv:1704.00028: the critic C maximises E C(x) - E C(G(z)) under a penalty on gradients
(eq. 3, Algorithm 1); here the one-sided penalty that they name in §4, on norms above 1 alone:
Petzka, Fischer and Lukovnikov, "On the regularization of Wasserstein GANs", ICLR 2018. Under the
two-sided one a critic that slopes the wrong way is stuck, as it cannot pass through slope 0. Packs
of rows that a critic judges together: Lin, Khetan, Fanti and Oh, "PacGAN", NeurIPS 2018. Means and
covariances that a generator can be made to match beside: Mroueh, Sercu and Goel, "McGan", ICML
2017, here those of what the critic sees.

A `Duel` is the module that the loop trains. Its loss is the critic's, into which the generator's
rows enter `opposed`: their gradient turns round on its way into the generator (Ganin and Lempitsky,
ICML 2015), so that one backward pass leaves on each network the gradient of its own loss. `turns`
says in every batch whether the generator moves too; where it does not, it is left without a
gradient, and the optimiser passes over it while its moments rest. That follows from the step's
number, so a training resumes to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from manikin.nn.loop import Batch

__all__ = [
    "Critic", "Duel", "covariance_gap", "critic_loss", "gradient_penalty", "opposed", "packed",
    "turns",
]  # fmt: skip

Critic: TypeAlias = Callable[[Tensor], Tensor]  # (packs, …) → (packs,)

LAMBDA = 10.0  # weight of the gradient penalty (Gulrajani et al., §4)
PENALISED = 0.25  # share of a batch's packs on which the penalty is reckoned
SKETCH = 256  # directions in which covariances of wider rows are compared


class Duel(nn.Module):
    """A generator and its critic, as one module for the loop."""

    def __init__(self, generator: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic


def turns(batches: Callable[[int], Batch], critic_steps: int) -> Callable[[int], Batch]:
    """Put in front of each batch whether the generator moves too: every `critic_steps` steps."""

    def batch(step: int) -> Batch:
        return torch.tensor((step + 1) % critic_steps == 0), *batches(step)

    return batch


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return -slope


def opposed(rows: Tensor) -> Tensor:
    """Return rows as they are, whose generator moves against the loss that they enter.

    What makes a critic better then makes the generator better at deceiving it, in one pass.
    """
    found: Tensor = _Reversed.apply(rows)  # type: ignore[no-untyped-call]
    return found


# ------------------------------------------------------------------ objectives


def critic_loss(
    critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator, *, penalty: float = LAMBDA
) -> Tensor:
    """Return C(fake) - C(real) + λ max(0, ‖∇C‖ - 1)² of each pack, (packs,): eq. 3.

    The penalty is that of the first `PENALISED` of the packs, on average: it costs more than all
    else, and bounds slopes as well.
    """
    drawn, true = critic(torch.cat([fake, real])).chunk(2)
    part = math.ceil(PENALISED * len(real))
    slopes = gradient_penalty(critic, real[:part], fake[:part], rng)
    return drawn - true + penalty * slopes.mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """Return max(0, ‖∇C(x̂)‖ - 1)² of each pack, (packs,), x̂ between a real and a fake one."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), generator=rng, device=real.device)
    between = torch.lerp(real.detach(), fake.detach(), share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # the square root has no slope at 0, where a critic may begin
    return ((slope.flatten(1).square().sum(1) + 1e-12).sqrt() - 1).clamp(min=0).square()


def packed(rows: Tensor, pack: int) -> Tensor:
    """Return rows that a critic judges together: (rows, d) as (rows / pack, pack, d)."""
    return rows.reshape(-1, pack, *rows.shape[1:])


def covariance_gap(real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """Return the squared distance between means and covariances of (rows, d), a figure of O(1).

    Above `SKETCH` columns it is that of as many random directions.
    """
    if real.shape[1] > SKETCH:
        signs = torch.randint(0, 2, (real.shape[1], SKETCH), generator=rng, device=real.device)
        directions = (2.0 * signs - 1.0) / SKETCH**0.5
        real, fake = real @ directions, fake @ directions
    means = real.mean(0), fake.mean(0)
    spreads = [(x - m).T @ (x - m) / len(x) for x, m in zip((real, fake), means, strict=True)]
    apart = (means[0] - means[1]).square().sum() + (spreads[0] - spreads[1]).square().sum()
    return apart / spreads[0].detach().square().sum().clamp(min=1e-6)
