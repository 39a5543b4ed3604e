"""RCGAN: a recurrent conditional GAN of visits, the line that TimeGAN comes from.

Reference  Esteban, Hyland and Rätsch, "Real-valued (medical) time series generation with recurrent
           conditional GANs", 2017, arXiv:1706.02633; Gulrajani et al., NeurIPS 2017,
           arXiv:1704.00028 (the critic's objective); Mroueh, Sercu and Goel, ICML 2017,
           arXiv:1702.08398 (means and covariances that match)
Idea       a recurrent generator turns fresh noise at every visit, and the context, into visits;
           a recurrent critic reads whole histories
Algorithm  1 lay histories on a grid · 2 critic step: tell real from drawn · 3 generator step:
           deceive it · repeat
Differs    from the paper in: Wasserstein objective with a penalty on the critic's slope in place of
           cross-entropy, beside it means and covariances of whole histories; bits are drawn
           straight-through; a number is there only where its bit is, so that the critic does not
           learn that instead; the number of visits is a bit of each; noise of the subject
Use when   a baseline of the field is wanted; not for analysis: it is unstable, as its line is, and
           persistence within a subject is weak
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from manikin.data.events import Events
from manikin.data.table import Table
from manikin.nn import adversarial
from manikin.nn.adversarial import Duel
from manikin.nn.loop import Batch, Rows, random, train
from manikin.nn.mlp import Linear
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Synthesizer, Watch, check_settings, silent
from manikin.synthesizers.events._grid import Grid
from manikin.synthesizers.events._grid_model import GridModel, fitted, plan, restored
from manikin.synthesizers.events._recurrent import GRU, there

__all__ = ["RCGAN"]

NAME = "events/rcgan"
LOOKS = 4_000  # at every subject, at most: a generator that never sees them does not overfit soon


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class RCGAN:
    """Recipe: a recurrent generator and a recurrent critic."""

    table: str = "table/seqtree"  # the table synthesizer that draws static facts
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    width: int = 64  # units of both states
    noise: int = 16  # numbers of noise at a visit
    steps: int = 1500  # most training steps, of the critic
    critic_steps: int = 2  # of these, before the generator moves once
    covariance: float = 1.0  # weight of the distance between means and covariances of histories
    batch: int = 128  # subjects a step
    rate: float = 1e-3  # highest learning rate
    minutes: float = 30.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # fewest subjects that share a code, text or value that is told

    def __post_init__(self) -> None:
        check_settings(
            self, width=(1, 8192), noise=(1, 4096), steps=(1, 10**8), critic_steps=(1, 100),
            covariance=(0, math.inf), batch=(1, 10**6), rate=(1e-9, 1), minutes=(0, math.inf),
            k=(2, math.inf),
        )  # fmt: skip

    def fit(
        self, data: Events, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> GridModel:
        """Train generator and critic against each other."""

        def loss(network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
            return _loss(network, batch, rng, self.covariance)

        def teach(maker: nn.Module, tensors: Batch) -> None:
            rows = Rows(tensors, self.batch, seed=seed)
            wide = 1 + sum(tensor.shape[-1] for tensor in tensors[:3])
            critic = Critic(wide, self.width, random(seed, f"{NAME} critic"))
            own = dataclasses.replace(
                plan(self, rows.n, LOOKS), betas=(0.5, 0.9), clip=math.inf, bf16=False
            )
            batches = adversarial.turns(rows, self.critic_steps)
            train(Duel(maker, critic), loss, batches, own, seed=seed, watch=watch)

        return fitted(self, NAME, data, self._network, teach, seed=seed, budget=budget, watch=watch)

    def restore(self, schema: Any, state: State) -> GridModel:
        """Rebuild a model from its state. Raises InputError when it does not make one."""
        return restored(schema, state, self.recipe, NAME, self._network)

    def _network(self, grid: Grid, facts: int, rng: torch.Generator) -> Maker:
        return Maker(grid, facts, self.width, self.noise, rng)


# ------------------------------------------------------------------ networks (§4)


class Maker(nn.Module):
    """Noise at every visit → bits, scores, and whether there is such a visit."""

    def __init__(
        self, grid: Grid, facts: int, width: int, noise: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.visits, self.codes, self.noise = grid.visits, grid.codes, noise
        self.numbers = grid.numbers
        self.register_buffer("bearing", torch.from_numpy(grid.bearing), persistent=False)
        self.traits = Linear(facts + noise, width, rng)  # noise of the subject, for what persists
        self.state = GRU(noise + width, width, rng)
        self.out = Linear(2 * width, grid.features + 1, rng)

    def forward(self, facts: Tensor, rng: torch.Generator) -> Tensor:
        """Return drawn visits, (rows, visits, 1 + codes + numbers), bits straight-through."""
        n, device = len(facts), facts.device
        z = torch.randn(n, self.noise, generator=rng, device=device)
        traits = torch.relu(self.traits(torch.cat([facts, z], 1)))
        traits = traits[:, None].expand(-1, self.visits, -1)
        fresh = torch.randn(n, self.visits, self.noise, generator=rng, device=device)
        states = self.state(torch.cat([fresh, traits], -1))
        out = self.out(torch.cat([states, traits], -1))
        chance = out[..., : 1 + self.codes].sigmoid()
        hard = (torch.rand(chance.shape, generator=rng, device=device) < chance).float()
        bits = hard + chance - chance.detach()
        going = bits[..., :1].cumprod(1)  # the first visit that is not there ends the history
        # everybody who is drawn has a first visit
        going = torch.cat([torch.ones_like(going[:, :1]), going[:, 1:]], 1)
        told = bits[..., 1:] * going
        # a score is there only where a bit is that bears one; there is no gap before the first
        there = torch.minimum(told @ self.bearing.T, torch.ones(()))
        there = torch.cat([functional.pad(going[:, 1:], (0, 0, 1, 0)), there[..., 1:]], -1)
        return torch.cat([going, told, out[..., 1 + self.codes :] * there], -1)

    def draw(self, facts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw histories."""
        drawn = self(facts, rng)
        going, bits, scores = drawn.split([1, self.codes, self.numbers], -1)
        return bits.round(), scores, going[..., 0].round().sum(1).long()


class Critic(nn.Module):
    """A history with its context → how real it looks, the mean over visits."""

    def __init__(self, wide: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.state = GRU(wide, width, rng)
        self.out = Linear(width, 1, rng)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, visits, wide) to (rows,)."""
        found: Tensor = self.out(self.state(x))[..., 0].mean(1)
        return found


def _loss(network: nn.Module, batch: Batch, rng: torch.Generator, covariance: float) -> Tensor:
    """Return the critic's loss of each subject, (rows,); the generator moves against it.

    What the generator matches beside is of its own, so it enters only where that moves.
    """
    assert isinstance(network, Duel)
    moves, facts, bits, scores, counts = batch
    going = there(counts, bits.shape[1])[..., None]
    context = facts[:, None].expand(-1, bits.shape[1], -1)
    real = torch.cat([going, bits, scores], -1)
    with torch.set_grad_enabled(bool(moves)):
        fake = network.generator(facts, rng)
    told = torch.cat([real, context], -1)
    drawn = torch.cat([adversarial.opposed(fake), context], -1)
    loss = adversarial.critic_loss(network.critic, told, drawn, rng)
    if not moves:
        return loss
    return loss + covariance * adversarial.covariance_gap(real.flatten(1), fake.flatten(1), rng)
