"""TimeDiff: mixed diffusion of a grid, Gaussian for numbers and multinomial for bits.

Reference  Tian, Chen, Guo, Jiang and others, "Reliable generation of privacy-preserving synthetic
           electronic health record time series via diffusion models", JAMIA 31, 2024,
           arXiv:2310.15290; Ho et al., NeurIPS 2020, arXiv:2006.11239; Hoogeboom et al., NeurIPS
           2021, arXiv:2102.05379 (multinomial diffusion)
Idea       numbers and their marks are noised together and denoised together by one bidirectional
           recurrent network, so that what is measured and what it is fit each other
Algorithm  1 lay histories on a grid, with a bit that says whether there is such a visit · 2 noise
           numbers by a Gaussian and bits by flips · 3 train the network to tell the noise, and the
           clean bits · 4 draw from pure noise, step after step
Differs    from the paper in: 60 steps with a cosine schedule in place of 1,000; bits stand for
           codes as well as for missing values; the context of a subject is told
Use when   a baseline for regular grids is wanted (hourly intensive care); not for long records of
           many codes: every visit costs every step
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from manikin.data.events import Events
from manikin.data.table import Table
from manikin.nn.loop import Batch, Rows, train
from manikin.nn.mlp import Linear
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Synthesizer, Watch, check_settings, silent
from manikin.synthesizers.events._grid import Grid
from manikin.synthesizers.events._grid_model import GridModel, fitted, plan, restored
from manikin.synthesizers.events._recurrent import GRU, there

__all__ = ["TimeDiff"]

NAME = "events/timediff"
WAVES = 16  # of the step's time
OFFSET = 0.008  # of the cosine schedule (Nichol and Dhariwal, 2021, eq. 17)


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class TimeDiff:
    """Recipe: mixed diffusion with a bidirectional recurrent network."""

    table: str = "table/seqtree"  # the table synthesizer that draws static facts
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    width: int = 96  # units of each direction
    noising: int = 60  # diffusion steps
    weight: float = 0.1  # of the bits' loss beside that of the numbers
    steps: int = 2000  # most training steps
    batch: int = 128  # subjects a step
    rate: float = 2e-3  # highest learning rate
    minutes: float = 30.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # fewest subjects that share a code, text or value that is told

    def __post_init__(self) -> None:
        check_settings(
            self, width=(1, 8192), noising=(2, 10_000), weight=(0, math.inf), steps=(1, 10**8),
            batch=(1, 10**6), rate=(1e-9, 1), minutes=(0, math.inf), k=(2, math.inf),
        )  # fmt: skip

    def fit(
        self, data: Events, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> GridModel:
        """Train the network to denoise."""

        def loss(network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
            return _loss(network, batch, rng, self.weight)

        def teach(network: nn.Module, tensors: Batch) -> None:
            rows = Rows(tensors, self.batch, seed=seed)
            train(network, loss, rows, plan(self, rows.n), seed=seed, watch=watch)

        return fitted(self, NAME, data, self._network, teach, seed=seed, budget=budget, watch=watch)

    def restore(self, schema: Any, state: State) -> GridModel:
        """Rebuild a model from its state. Raises InputError when it does not make one."""
        return restored(schema, state, self.recipe, NAME, self._network)

    def _network(self, grid: Grid, facts: int, rng: torch.Generator) -> Denoiser:
        return Denoiser(grid, facts, self.width, self.noising, rng)


# ------------------------------------------------------------------ network


class Denoiser(nn.Module):
    """Noisy scores and bits of all visits → the noise of scores and logits of the clean bits."""

    def __init__(
        self, grid: Grid, facts: int, width: int, noising: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.visits, self.bits, self.noising = grid.visits, grid.codes + 1, noising
        self.numbers = grid.numbers
        self.entering = Linear(self.numbers + self.bits + facts + 2 * WAVES + 1, width, rng)
        self.forth, self.back = GRU(width, width, rng), GRU(width, width, rng)
        self.out = Linear(3 * width, self.numbers + self.bits, rng)

    def signal(self, step: Tensor) -> Tensor:
        """Return ᾱ of steps 0 to `noising`: how much of the data is left."""
        angle = (step / self.noising + OFFSET) / (1 + OFFSET) * math.pi / 2
        start = math.cos(OFFSET / (1 + OFFSET) * math.pi / 2) ** 2
        return (angle.cos().square() / start).clamp(1e-5, 1.0)

    def forward(self, scores: Tensor, bits: Tensor, facts: Tensor, step: Tensor) -> Tensor:
        """Map whole histories at their steps, (rows, visits, numbers + bits)."""
        waves = torch.arange(1, WAVES + 1, device=step.device) * math.pi
        phase = step[:, None] / self.noising * waves
        time = torch.cat([phase.sin(), phase.cos(), facts], -1)
        repeated = time[:, None].expand(-1, scores.shape[1], -1)
        place = torch.linspace(0, 1, scores.shape[1], device=step.device)
        place = place[None, :, None].expand(len(scores), -1, -1)
        x = functional.silu(self.entering(torch.cat([scores, 2 * bits - 1, repeated, place], -1)))
        both = torch.cat([x, self.forth(x), self.back(x, backwards=True)], -1)
        out: Tensor = self.out(both)
        return out

    def noised(self, bits: Tensor, left: Tensor, rng: torch.Generator) -> Tensor:
        """Return bits that are kept with probability ᾱ, and else a coin's (multinomial, K = 2)."""
        kept = torch.rand(bits.shape, generator=rng, device=bits.device) < left
        coin = torch.rand(bits.shape, generator=rng, device=bits.device) < 0.5
        return torch.where(kept, bits, coin.float())

    def draw(self, facts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw from pure noise, step after step."""
        n, shape = len(facts), (len(facts), self.visits)
        scores = torch.randn(*shape, self.numbers, generator=rng)
        bits = (torch.rand(*shape, self.bits, generator=rng) < 0.5).float()
        for t in range(self.noising, 0, -1):
            at = torch.full((n,), float(t))
            out = self(scores, bits, facts, at)
            noise, logits = torch.split(out, [self.numbers, self.bits], -1)
            now, after = (float(self.signal(torch.tensor(float(s)))) for s in (t, t - 1))
            scores = self._number_step(scores, noise, now, after, rng)
            bits = self._bit_step(bits, logits.sigmoid(), now, after, rng)
        going = bits[..., :1].cumprod(1)
        going = torch.cat([torch.ones_like(going[:, :1]), going[:, 1:]], 1)
        return bits[..., 1:] * going, scores, going[..., 0].sum(1).long()

    def _number_step(
        self, x: Tensor, noise: Tensor, now: float, after: float, rng: torch.Generator
    ) -> Tensor:
        """Return the numbers one step cleaner (Ho et al., eq. 7)."""
        clean = ((x - math.sqrt(1 - now) * noise) / math.sqrt(now)).clamp(-4, 4)
        if after >= 1.0:
            return clean
        alpha = now / after
        mean = (math.sqrt(after) * (1 - alpha) * clean + math.sqrt(alpha) * (1 - after) * x) / (
            1 - now
        )
        spread = math.sqrt((1 - after) / (1 - now) * (1 - alpha))
        return mean + spread * torch.randn(x.shape, generator=rng)

    def _bit_step(
        self, bits: Tensor, clean: Tensor, now: float, after: float, rng: torch.Generator
    ) -> Tensor:
        """Return the bits one step cleaner (Hoogeboom et al., eq. 13, with two categories)."""
        alpha = now / after
        ones = (alpha * bits + (1 - alpha) / 2) * (after * clean + (1 - after) / 2)
        noughts = (alpha * (1 - bits) + (1 - alpha) / 2) * (after * (1 - clean) + (1 - after) / 2)
        return (torch.rand(bits.shape, generator=rng) < ones / (ones + noughts)).float()


def _loss(network: nn.Module, batch: Batch, rng: torch.Generator, weight: float) -> Tensor:
    """Return the squared error of the noise and the cross-entropy of clean bits, (rows,)."""
    assert isinstance(network, Denoiser)
    facts, bits, scores, counts = batch
    going = there(counts, network.visits)[..., None]
    marks = torch.cat([going, bits], -1)
    step = torch.randint(1, network.noising + 1, (len(facts),), generator=rng, device=facts.device)
    left = network.signal(step.float())[:, None, None]
    noise = torch.randn(scores.shape, generator=rng, device=scores.device)
    noisy = left.sqrt() * scores + (1 - left).sqrt() * noise
    out = network(noisy, network.noised(marks, left, rng), facts, step.float())
    told, logits = torch.split(out, [network.numbers, network.bits], -1)
    # what is not there is noise that may be anything: its error counts for little
    known = 0.1 + 0.9 * (scores != 0)
    error = ((told - noise).square() * known).mean((1, 2))
    entropy = functional.binary_cross_entropy_with_logits(logits, marks, reduction="none")
    return error + weight * entropy.sum(-1).mean(1)
