"""PAR: a recurrent network with a distribution for every column of the next visit.

Reference  Zhang, Patki and Veeramachaneni, "Sequential models in the Synthetic Data Vault", 2022,
           arXiv:2207.14406 (probabilistic autoregressive model)
Idea       the context of a subject and the visits so far make a state; from it every column of the
           next visit, and whether there is one, is drawn by a distribution of its own
Algorithm  1 lay histories on a grid · 2 train a gated recurrent unit to tell the next visit: bits
           by Bernoulli, numbers by Gaussian, its being there too · 3 draw visit after visit
Differs    from the paper in: numbers are normal scores; context enters at every visit; columns of
           a visit are independent given the state, as there
Use when   a baseline of the field is wanted; not for analysis: within a visit nothing hangs
           together, and traits of subjects fade
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from manikin.data.events import Events
from manikin.data.table import Table
from manikin.nn.loop import Batch, Rows, train
from manikin.nn.mlp import Linear
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Synthesizer, Watch, check_settings, silent
from manikin.synthesizers.events._grid import Grid
from manikin.synthesizers.events._grid_model import GridModel, fitted, plan, restored
from manikin.synthesizers.events._recurrent import GRU, before, surprise

__all__ = ["PAR"]

NAME = "events/par"


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class PAR:
    """Recipe: a recurrent network, visit after visit."""

    table: str = "table/seqtree"  # the table synthesizer that draws static facts
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    width: int = 128  # units of the state
    steps: int = 1500  # most training steps
    batch: int = 256  # subjects a step
    rate: float = 2e-3  # highest learning rate
    minutes: float = 30.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # fewest subjects that share a code, text or value that is told

    def __post_init__(self) -> None:
        check_settings(
            self, width=(1, 8192), steps=(1, 10**8), batch=(1, 10**6), rate=(1e-9, 1),
            minutes=(0, math.inf), k=(2, math.inf),
        )  # fmt: skip

    def fit(
        self, data: Events, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> GridModel:
        """Train the network on visits."""

        def teach(network: nn.Module, tensors: Batch) -> None:
            rows = Rows(tensors, self.batch, seed=seed)
            train(network, _loss, rows, plan(self, rows.n), seed=seed, watch=watch)

        return fitted(self, NAME, data, self._network, teach, seed=seed, budget=budget, watch=watch)

    def restore(self, schema: Any, state: State) -> GridModel:
        """Rebuild a model from its state. Raises InputError when it does not make one."""
        return restored(schema, state, self.recipe, NAME, self._network)

    def _network(self, grid: Grid, facts: int, rng: torch.Generator) -> Recurrent:
        return Recurrent(grid, facts, self.width, rng)


# ------------------------------------------------------------------ network (§3)


class Recurrent(nn.Module):
    """The state of a subject, and the distribution of each column of the next visit."""

    def __init__(self, grid: Grid, facts: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.visits, self.codes = grid.visits, grid.codes
        self.numbers = grid.numbers
        self.state = GRU(self.codes + self.numbers + facts + 1, width, rng)
        self.heads = Linear(width, self.codes + 2 * self.numbers + 1, rng)

    def forward(self, facts: Tensor, bits: Tensor, scores: Tensor) -> Tensor:
        """Return what is told of each visit by those before it, (rows, visits, …)."""
        out: Tensor = self.heads(self.state(before(facts, bits, scores)))
        return out

    def split(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits of bits, means and log-spreads of scores, the logit of there being one."""
        sizes = [self.codes, self.numbers, self.numbers, 1]
        bits, mean, spread, more = torch.split(out, sizes, -1)
        return bits, mean, spread.clamp(-5, 2), more[..., 0]

    def draw(self, facts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw visit after visit until the end."""
        n = len(facts)
        bits = torch.zeros(n, self.visits, self.codes)
        scores = torch.zeros(n, self.visits, self.numbers)
        counts = torch.zeros(n, dtype=torch.int64)
        state, alive = torch.zeros(n, self.state.width), torch.ones(n, dtype=torch.bool)
        x = torch.cat([torch.zeros(n, self.codes + self.numbers), facts, torch.ones(n, 1)], -1)
        for t in range(self.visits):
            state = self.state.step(x, state)
            logits, mean, spread, more = self.split(self.heads(state))
            if t:
                alive = alive & (torch.rand(n, generator=rng) < more.sigmoid())
            bits[:, t] = (torch.rand(logits.shape, generator=rng) < logits.sigmoid()).float()
            scores[:, t] = mean + spread.exp() * torch.randn(mean.shape, generator=rng)
            counts += alive
            x = torch.cat([bits[:, t], scores[:, t], facts, torch.zeros(n, 1)], -1)
        return bits, scores, counts


def _loss(network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
    """Return how surprising each subject's visits are, (rows,)."""
    del rng
    assert isinstance(network, Recurrent)
    facts, bits, scores, counts = batch
    logits, mean, spread, more = network.split(network(facts, bits, scores))
    return surprise(logits, mean, spread, more, bits, scores, counts)
