"""Generators trained against a critic that learns of real rows by clipped, noisy gradients alone.

Under a privacy budget (Abadi et al., CCS 2016; Xie et al., arXiv:1802.06739) noise in a critic's
gradient grows with the root of its weights, and a critic of layers forgets in noise what its first
layers had found. So the critic is one of products: of every pair of columns' scores and levels, as
noisy counts scale them, each with one weight. It is linear in its weights, so that the gradient of
real rows is the same at every step and the noise of all steps averages out; held by the square of
its weights it is the witness of a maximum mean discrepancy (Gretton et al., JMLR 2012, §2; trained
against a generator: Li et al., NeurIPS 2017; on private means: Harder, Adamczewski and Park,
AISTATS 2021), here that of pairs. Products are shortened to norm 1: at a clip of 1 none is cut.

The generator sees the critic, and the noisy counts of single columns: never a row. Real rows stand
in the middle of their codes. Were something about them drawn, by a stream that anybody can repeat,
then one row less would change what is drawn for all rows after it, and no clip would bound that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

import manikin.synthesizers.table._noisy as _noisy
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.nn.adversarial import Duel, PrivateDuel, still
from manikin.nn.loop import Batch, Plan, random, train
from manikin.privacy.budget import Budget
from manikin.synthesizer import Watch, report
from manikin.synthesizers.table._cells import Cells
from manikin.synthesizers.table._coded import CodedModel
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table._generated import Eye, GeneratedJoint, calibrated

__all__ = ["Duelling", "Products", "scores"]

LEVELS = 12  # of a column that have a number of their own
SHOWN = 0.02  # share of rows from which on they have
NUMBERS = 96  # numbers of a row whose products are taken; of more, as many random sums
DRAWN = 400  # rows drawn a step
RATE = 1e-2  # highest learning rate
MARGINS = 50.0  # weight of the gap between drawn and noisy shares
SHORT = 0.9  # share of rows, drawn by noisy counts, whose products are not shortened
HOLD = 0.01  # weight of the square of the critic's weights

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Duelling:
    """How a generator is trained under a budget."""

    joint_of: Callable[[Dense, int], GeneratedJoint]
    own: Callable[[Tensor, Tensor, Eye], Tensor]  # of outputs and slots: what else it minimises
    steps: int  # at most
    critic_steps: int
    clip: float
    most_rows: int
    device: str

    def fit(self, data: Table, budget: Budget, *, seed: int, watch: Watch) -> CodedModel:
        """Count single columns, train for as many steps as are paid for, and set margins."""
        report(watch, 0, None, "counting single columns")
        learnt = _noisy.learn(data, budget, most_rows=self.most_rows)
        dense = Dense.of(learnt.encoding.cells)
        joint = self.joint_of(dense, seed)
        name, eye = joint.name, Eye(dense)
        training = learnt.training(self.steps)
        critic = Products(*scores(learnt.encoding.cells, dense), random(seed, f"{name} products"))
        critic.scale_by(_apart(dense, generator(seed, f"{name} scale")))
        each = learnt.rows_each / self.most_rows

        def drawn(network: nn.Module, rng: torch.Generator) -> Batch:
            block = int(torch.randint(2**62, (), generator=rng, device=rng.device))
            z, slot = joint.source.draw(DRAWN, generator(block, f"{name} noise"))
            where = next(network.parameters()).device
            outputs = network(z.to(where), slot.to(where))
            return eye.fake(outputs, rng), outputs, slot.to(where)

        def loss(network: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
            del rng
            assert isinstance(network, Duel)
            moves, fake, outputs, slot = batch
            held = 0.5 * HOLD * sum(p.square().sum() for p in network.critic.parameters())
            if not moves:
                return torch.as_tensor(held)
            shares = fake[:, : dense.slots].mean(0) - dense.frequency
            own = self.own(outputs, slot, eye) + MARGINS * shares.square().sum()
            return torch.as_tensor(held - still(network.critic)(fake).mean() + own)

        steps = PrivateDuel(
            training, lambda codes: (dense.inputs(codes),), clip=self.clip, linear=True,
            drawn=drawn, critic_steps=self.critic_steps, mass=each,
        )  # fmt: skip
        train(
            Duel(joint.generator, critic), loss, steps.batches, _plan(training.steps, self.device),
            seed=seed, gradients=steps, watch=watch,
        )  # fmt: skip
        return learnt.model(calibrated(joint, int(learnt.subjects), seed))


def _plan(n: int, device: str) -> Plan:
    return Plan(
        n, rate=RATE, warm_up=n // 20, look=n, average=0.98, betas=(0.5, 0.9), device=device,
        clip=math.inf, bf16=False,
    )  # fmt: skip


# ------------------------------------------------------------------ the critic


class Products(nn.Module):
    """Rows as a critic sees them → the weighted sum of products of pairs of their numbers."""

    turned: Tensor
    centre: Tensor
    one: Tensor
    other: Tensor
    most: Tensor

    def __init__(
        self, turned: Tensor, centre: Tensor, column: Tensor, rng: torch.Generator
    ) -> None:
        """Turn rows (rows, W + C) by `turned` (W + C, F), of which each is `column`'s, (F,)."""
        super().__init__()
        if len(column) > NUMBERS:
            signs = torch.randint(0, 2, (len(column), NUMBERS), generator=rng) * 2.0 - 1.0
            mixed = signs / math.sqrt(NUMBERS)
            turned, centre, column = turned @ mixed, centre @ mixed, torch.arange(NUMBERS)
        one, other = torch.triu_indices(len(column), len(column), 1)
        apart = column[one] != column[other]  # margins are known of noisy counts
        self.register_buffer("turned", turned, persistent=False)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("one", one[apart], persistent=False)
        self.register_buffer("other", other[apart], persistent=False)
        self.register_buffer("most", torch.ones(()), persistent=False)
        self.weigh = Weighted(int(apart.sum()))

    def scale_by(self, rows: Tensor) -> None:
        """Take for norm 1 what most of these rows' products have."""
        with torch.no_grad():
            found = torch.linalg.vector_norm(self.products(rows), dim=1)
            if found.numel():
                self.most = torch.quantile(found, SHORT).clamp(min=1e-6)

    def products(self, rows: Tensor) -> Tensor:
        """Return products of pairs, (rows, P), of norm 1 at most."""
        z = rows @ self.turned - self.centre
        found = z[:, self.one] * z[:, self.other] / self.most
        # the square root has no slope at 0
        norm = (found.square().sum(1, keepdim=True) + 1e-12).sqrt()
        return found / norm.clamp(min=1.0) if self.most != 1 else found

    def forward(self, rows: Tensor) -> Tensor:
        """Map (rows, W + C) to (rows,)."""
        found: Tensor = self.weigh(self.products(rows))
        return found


class Weighted(nn.Module):
    """A weighted sum: (rows, P) → (rows,)."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(wide))

    def forward(self, x: Tensor) -> Tensor:
        """Add up."""
        return x @ self.weight


def scores(cells: Sequence[Cells], dense: Dense) -> tuple[Tensor, Tensor, Tensor]:
    """Return what turns rows into numbers, (W + C, F), their means, (F,), and columns, (F,).

    A column with an order is its normal score, and whether it is there; another one a number a
    level that is not too rare. All follow from noisy counts.
    """
    turned, centre, column = [], [], []
    for j, cell in enumerate(cells):
        share = np.maximum(cell.counts, 0.5) / np.maximum(cell.counts, 0.5).sum()
        for own in _scores(share, cell.n_tokens, cell.ordered):  # (codes,)
            at = np.zeros(dense.slots + dense.lines)
            line = np.flatnonzero(dense.numbers.numpy() == j)
            slots = (dense.start[j] + dense.category[j, : cell.size] * dense.stride[j]).numpy()
            alone = np.ones(cell.size, bool)
            if line.size and np.unique(own).size > 2:
                alone = dense.place[int(line[0]), : cell.size].numpy() < 0
                at[dense.slots + line[0]] = 1.0
            held = np.bincount(slots[alone], share[alone], dense.slots)
            summed = np.bincount(slots[alone], share[alone] * own[alone], dense.slots)
            at[: dense.slots] = np.where(held > 0, summed / np.maximum(held, 1e-12), 0.0)
            turned.append(at)
            centre.append(float(share @ own))
            column.append(j)
    wide = np.array(turned).reshape(len(turned), dense.slots + dense.lines).T
    numbers = torch.from_numpy(np.ascontiguousarray(wide, np.float32))
    means, whose = torch.tensor(centre, dtype=torch.float32), torch.tensor(column)
    return numbers, means, whose.long()


def _scores(share: Floats, tokens: int, ordered: bool) -> list[Floats]:
    """Return numbers for the codes of a column: what a critic is to tell them by."""
    there = np.arange(share.size) >= tokens
    found = [(np.arange(share.size) == t).astype(float) for t in range(tokens) if share[t] > SHOWN]
    levels = np.flatnonzero(there)
    if ordered and levels.size > 2:
        within = share[levels] / share[levels].sum()
        score = np.zeros(share.size)
        score[levels] = ndtri(np.clip(np.cumsum(within) - within / 2, 1e-4, 1 - 1e-4))
        found.append(score)
    elif levels.size == 2:
        found.append((np.arange(share.size) == levels[1]).astype(float) * 2 - 1)
    else:
        common = levels[np.argsort(-share[levels], kind="stable")[:LEVELS]]
        found += [(np.arange(share.size) == c) * 1.0 for c in common if share[c] > SHOWN]
    return found


def _apart(dense: Dense, rng: np.random.Generator) -> Tensor:
    """Return rows whose columns are drawn by themselves, by noisy counts, (1000, W + C)."""
    codes = torch.zeros(1000, len(dense.sizes), dtype=torch.int64)
    for j, size in enumerate(dense.sizes.tolist()):
        share = (dense.frequency[dense.slot(torch.tensor(j), torch.arange(size))].double()
                 * dense.log_share[j, :size].double().exp()).numpy()  # fmt: skip
        codes[:, j] = torch.from_numpy(rng.choice(size, 1000, p=share / share.sum()))
    return dense.inputs(codes)
