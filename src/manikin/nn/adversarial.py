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

Under a privacy budget (`PrivateDuel`) a step releases one thing: the clipped, noisy gradient of the
critic's mean over real subjects (Xie, Lin, Wang, Wang and Zhou, "Differentially private generative
adversarial network", arXiv:1802.06739). All else is made of what the generator draws, and of the
critic, whose weights have been paid for: so it is added as it is, and the generator may move for
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from manikin.nn.loop import Batch, Loss
from manikin.nn.private import Private, clipped_sum
from manikin.privacy.training import Training

__all__ = [
    "Critic", "Duel", "PrivateDuel", "covariance_gap", "critic_loss", "gradient_penalty", "opposed",
    "packed", "still", "turns",
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


# ------------------------------------------------------------------ under a privacy budget


class PrivateDuel(Private):
    """Gradients of a duel for the training loop: real rows reach the critic alone, clipped, noisy.

    The loss that the loop is given is never shown them: its batch is whether the generator moves,
    and what `drawn` returned. Drawn rows' gradients are clipped as real ones are, so
    that the two cancel where the rows are alike.
    """

    def __init__(
        self, training: Training, rows: Callable[[Tensor], tuple[Tensor, ...]], *, clip: float,
        drawn: Callable[[nn.Module, torch.Generator], Batch], critic_steps: int = 1,
        mass: float = 1.0, linear: bool = False,
    ) -> None:  # fmt: skip
        """Judge rows, the first that `drawn` returns of a generator, against real ones.

        `mass` is the number of rows of a subject, by noisy counts, of the most that count. The
        gradient of a critic that is `linear` in its weights is the same whatever they are: that of
        all steps is averaged.
        """
        super().__init__(training, rows, clip=clip)
        self.drawn, self.critic_steps = drawn, critic_steps
        self.mass, self.linear, self.most_rows = mass, linear, training.rows.most_rows
        self.steps, self.mean = 0, {}  # type: int, dict[nn.Parameter, Tensor]

    def batches(self, step: int) -> Batch:
        """Return whose rows they are, whether the generator moves too, and the rows."""
        whose, *rows = super().batches(step)
        return whose, torch.tensor((step + 1) % self.critic_steps == 0), *rows

    def __call__(self, network: nn.Module, loss: Loss, batch: Batch, rng: torch.Generator) -> None:
        """Leave the gradients of one step on both networks; no loss is told."""
        assert isinstance(network, Duel)
        whose, moves, real = batch
        with torch.set_grad_enabled(bool(moves)):
            drawn = self.drawn(network.generator, rng)
        loss(network, (moves, *drawn), rng).mean().backward()  # type: ignore[no-untyped-call]
        self._judge(network.critic, drawn[0].detach())
        parameters = [p for p in network.critic.parameters() if p.requires_grad]
        public = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None
        # a subject of many rows is no more than one of one: each row counts by its share of most
        self.leave(network.critic, lambda: -network.critic(real) / self.most_rows, whose)
        self.steps += 1
        for p, known in zip(parameters, public, strict=True):
            assert p.grad is not None
            if self.linear:
                before = self.mean.get(p, torch.zeros_like(p.grad))
                self.mean[p] = p.grad = torch.lerp(before, p.grad, 1 / self.steps)
            p.grad = p.grad if known is None else p.grad + known

    def _judge(self, critic: nn.Module, drawn: Tensor) -> None:
        """Add the gradient of what the critic says of drawn rows, each clipped."""
        total = clipped_sum(critic, lambda: critic(drawn), torch.arange(len(drawn)), self.clip)
        for p, part in total.items():
            part = part * (self.mass / len(drawn))
            p.grad = part if p.grad is None else p.grad + part


def still(critic: nn.Module) -> Critic:
    """Return a critic that judges, and does not learn from it."""
    weights = {name: p.detach() for name, p in critic.named_parameters()}

    def judged(rows: Tensor) -> Tensor:
        found: Tensor = functional_call(critic, weights, (rows,))
        return found

    return judged
