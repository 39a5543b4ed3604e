"""HALO: a hierarchical autoregressive language model of visits as sets of codes.

Reference  Theodorou, Xiao and Sun, "Synthesize high-dimensional longitudinal electronic health
           records via hierarchical autoregressive language model", Nature Communications 14, 2023
Idea       coarse: a causal transformer over visits, each a multi-hot vector, tells what a visit is
           given those before it; fine: within the visit every code is told given those in front of
           it, so that codes of one visit hang together and each has a probability
Algorithm  1 lay histories on a grid · 2 embed visits, attend to the visits before (coarse) · 3 add
           the codes of the visit through masked layers, in which a code sees only those in front
           of it (fine) · 4 maximise the likelihood of all · 5 draw visit after visit, code by code
Differs    from the paper in: rotary positions; gaps, lengths and values are Gaussian normal scores
           given the visit's codes in place of bins; the context is told at every visit in place of
           a first visit of labels; small defaults
Use when   visits with many codes are to be judged against the field's reference; 'events/visits'
           is quicker and keeps values and times better
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from manikin.data.events import Events
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.nn.loop import Batch, Rows, train
from manikin.nn.mlp import Linear
from manikin.nn.transformer import Decoder
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Synthesizer, Watch, check_settings, silent
from manikin.synthesizers.events._grid import Grid
from manikin.synthesizers.events._grid_model import GridModel, fitted, plan, restored
from manikin.synthesizers.events._recurrent import before, surprise

__all__ = ["HALO"]

NAME = "events/halo"


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class HALO:
    """Recipe: a transformer over visits, and masked layers over the codes of each."""

    table: str = "table/seqtree"  # the table synthesizer that draws static facts
    recipe: Synthesizer[Table] | None = field(  # its settings: FIELD=VALUE, separated by commas
        default=None, metadata={"named_by": "table"}
    )
    width: int = 96  # units of a visit
    depth: int = 2  # blocks of attention
    heads: int = 4  # of attention; they divide the width, each into an even number of units
    steps: int = 1500  # most training steps
    batch: int = 128  # subjects a step
    rate: float = 2e-3  # highest learning rate
    minutes: float = 30.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # fewest subjects that share a code, text or value that is told

    def __post_init__(self) -> None:
        check_settings(
            self, width=(4, 8192), depth=(1, 200), heads=(1, 256), steps=(1, 10**8),
            batch=(1, 10**6), rate=(1e-9, 1), minutes=(0, math.inf), k=(2, math.inf),
        )  # fmt: skip
        if self.width % (2 * self.heads):
            raise InputError(
                f"{self.width} units for {self.heads} heads",
                "a width that twice the number of heads divides",
                "choose another width, or fewer heads",
            )

    def fit(
        self, data: Events, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> GridModel:
        """Train both levels together."""

        def teach(network: nn.Module, tensors: Batch) -> None:
            rows = Rows(tensors, self.batch, seed=seed)
            train(network, _loss, rows, plan(self, rows.n), seed=seed, watch=watch)

        return fitted(self, NAME, data, self._network, teach, seed=seed, budget=budget, watch=watch)

    def restore(self, schema: Any, state: State) -> GridModel:
        """Rebuild a model from its state. Raises InputError when it does not make one."""
        return restored(schema, state, self.recipe, NAME, self._network)

    def _network(self, grid: Grid, facts: int, rng: torch.Generator) -> Hierarchy:
        return Hierarchy(grid, facts, self.width, self.depth, self.heads, rng)


# ------------------------------------------------------------------ network (Methods)


class Hierarchy(nn.Module):
    """Coarse: visits given those before. Fine: codes of a visit given those in front."""

    def __init__(
        self, grid: Grid, facts: int, width: int, depth: int, heads: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.visits, self.codes = grid.visits, grid.codes
        self.numbers = grid.numbers
        self.entering = Linear(self.codes + self.numbers + facts + 1, width, rng)
        self.coarse = Decoder(width, depth, heads, rng)
        self.told = Linear(width, self.codes, rng)
        self.first = Linear(width, self.codes, rng)
        self.before = nn.Parameter(torch.zeros(self.codes, self.codes))  # of codes in front
        self.upto = nn.Parameter(torch.zeros(self.codes, self.codes))  # of hidden ones, and own
        self.numbered = Linear(width + self.codes, 2 * self.numbers, rng)
        self.more = Linear(width, 1, rng)  # whether there is such a visit

    def seen(self, facts: Tensor, bits: Tensor, scores: Tensor) -> Tensor:
        """Return what the visits before tell of each, (rows, visits, width)."""
        x = self.entering(before(facts, bits, scores))
        steps = torch.arange(x.shape[1], device=x.device)
        mask = (steps[None, :] <= steps[:, None])[None, None]  # (1, 1, visits, visits)
        out: Tensor = self.coarse(x, steps.expand(len(x), -1), mask.expand(len(x), -1, -1, -1))
        return out

    def fine(self, seen: Tensor, bits: Tensor) -> Tensor:
        """Return the logit of each code given the codes in front of it, (…, codes)."""
        hidden = torch.relu(self.first(seen) + bits @ self.before.tril(-1).T)
        logits: Tensor = self.told(seen) + hidden @ self.upto.tril().T
        return logits

    def scores(self, seen: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the spread of each score."""
        mean, spread = self.numbered(torch.cat([seen, bits], -1)).chunk(2, -1)
        return mean, spread.clamp(-5, 2)

    def draw(self, facts: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw visit after visit, and the codes of each one by one."""
        n = len(facts)
        bits = torch.zeros(n, self.visits, self.codes)
        scores = torch.zeros(n, self.visits, self.numbers)
        counts = torch.zeros(n, dtype=torch.int64)
        alive = torch.arange(n)
        cache = self.coarse.cache()
        x = torch.cat([torch.zeros(n, self.codes + self.numbers), facts, torch.ones(n, 1)], -1)
        here = torch.ones(n, 1, dtype=torch.bool)
        before, upto = self.before.tril(-1), self.upto.tril()
        for t in range(self.visits):
            at = torch.full((len(alive), 1), t)
            seen = self.coarse.step(self.entering(x)[:, None], at, here[: len(alive)], cache)[:, 0]
            if t:
                more = torch.rand(len(alive), generator=rng) < self.more(seen)[:, 0].sigmoid()
                kept = more.nonzero()[:, 0]
                if not len(kept):
                    break
                alive, seen = alive[kept], seen[kept]
                cache.keep(kept)
            drawn = self._codes(seen, before, upto, rng)
            mean, spread = self.scores(seen, drawn)
            own = mean + spread.exp() * torch.randn(mean.shape, generator=rng)
            bits[alive, t], scores[alive, t] = drawn, own
            counts[alive] += 1
            x = torch.cat([drawn, own, facts[alive], torch.zeros(len(alive), 1)], -1)
        return bits, scores, counts

    def _codes(self, seen: Tensor, before: Tensor, upto: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the codes of a visit, each given those in front of it."""
        bits = torch.zeros(len(seen), self.codes)
        entered, told = self.first(seen), self.told(seen)
        hidden = torch.zeros(len(seen), self.codes)
        chance = torch.rand(len(seen), self.codes, generator=rng)
        for c in range(self.codes):
            hidden[:, c] = torch.relu(entered[:, c] + bits @ before[c])
            logit = told[:, c] + hidden @ upto[c]
            bits[:, c] = (chance[:, c] < logit.sigmoid()).float()
        return bits


def _loss(network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
    """Return how surprising each subject's visits are, (rows,)."""
    del rng
    assert isinstance(network, Hierarchy)
    facts, bits, scores, counts = batch
    seen = network.seen(facts, bits, scores)
    mean, spread = network.scores(seen, bits)
    more = network.more(seen)[..., 0]
    return surprise(network.fine(seen, bits), mean, spread, more, bits, scores, counts)
