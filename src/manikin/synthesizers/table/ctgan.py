"""CTGAN: a conditional GAN for mixed-type tables.

Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling tabular data using conditional GAN",
NeurIPS 2019, §4.1-4.3. arXiv:1907.00503; PacGAN: Lin, Khetan, Fanti and Oh, NeurIPS 2018
Idea       a generator that is told one category of one column and a critic that checks it, both
           shown rare categories more often than they are, so that none is forgotten
Algorithm  1 encode (missing marks, spikes, levels; numbers as normal scores) · 2 training by
           sampling (§4.3): a column at random, a category of it by log frequency, a real row that
           has it · 3 critic on rows and on packs of rows, with their conditions, WGAN-GP · 4
           generator: the critic, cross-entropy of the condition, covariances of the batch · 5
           average weights, look for collapse · 6 set margins · 7 draw: conditions by frequency
Differs    from the paper in: numbers are logistics on a line of normal scores, with their spikes
           as categories, instead of modes of a mixture; one-hot draws reach the critic whole, with
           the gradient of their relaxation; batches match in mean and covariance; a pack shares its
           first layer; residual gated generator without batch norms; far fewer steps; margins are
           those of training; one new start if modes are lost, and a note in the report if not.
           Under a budget: conditions by noisy counts; a critic of single rows, not told conditions,
           made of products of pairs, clipped and noisy; nothing is matched, sampled or looked at
Use when   a GAN is asked for, or a named baseline that is not a straw man; not when rows that a
           judge cannot tell from real ones matter most (table/seqtree)

Given columns and conditions are no rejection: the generator is a mixture over its noise of rows
whose columns are independent, and noise is drawn by how well it explains what is known. That is
exact for the generator in the limit of many candidates, of which there are few: rare combinations
get the nearest noise there is, and known cells come back as they are in any case.
A model file holds the generator's weights and the columns' frequencies; never a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._collapse as _collapse
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.nn import adversarial
from manikin.nn.adversarial import Duel
from manikin.nn.loop import Batch, Plan, random, train
from manikin.nn.mlp import MLP, Linear, ResidualMLP
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._coded import CodedModel
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table._generated import (
    Eye,
    GeneratedJoint,
    Generator,
    normals,
    restored,
    steps,
)
from manikin.synthesizers.table._noisy_duel import Duelling

__all__ = ["CTGAN"]

STEPS = 12  # times the root of the number of rows
EMBEDDED = 32  # numbers by which a generator is told its condition
TOLD = 0.1  # weight of the condition's cross-entropy under a budget


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class CTGAN:
    """Recipe: a conditional GAN of codes."""

    takes_budget: ClassVar[bool] = True
    latent: int = 32  # numbers of noise (the paper: 128)
    width: int = 128  # units of a hidden layer (the paper: 256)
    depth: int = 1  # residual blocks of the generator, hidden layers of the critic less one
    steps: int = 2000  # most training steps; fewer when rows are few
    batch: int = 240  # rows a step (the paper: 500)
    pack: int = 8  # rows that the critic judges together (the paper: 10)
    critic_steps: int = 1  # steps of the critic in which the generator moves once
    rate: float = 6e-3  # highest learning rate (the paper: 2e-4, for 300 passes)
    covariance: float = 60.0  # weight of the gap between covariances of real and drawn batches
    minutes: float = 60.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer
    clip: float = 1.0  # under a budget: norm to which each subject's gradient is clipped
    most_rows: int = 1  # under a budget: rows of a subject that count

    def __post_init__(self) -> None:
        check_settings(
            self, latent=(1, 4096), width=(1, 4096), depth=(1, 32), steps=(1, 10**8),
            batch=(1, 10**7), pack=(1, 10**4), critic_steps=(1, 100), rate=(1e-9, 1),
            covariance=(0, math.inf), minutes=(0, math.inf), k=(1, math.inf),
            clip=(1e-9, math.inf), most_rows=(1, 10**6),
        )  # fmt: skip

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Train the networks, once more if they lose modes.

        Under a budget they are trained once, and the noise is secret: no seed repeats a model.
        """
        if budget is not None:
            return self._privately(data, budget, seed, watch)
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)

        def train_it(joint: GeneratedJoint, codes: Tensor, start: int) -> GeneratedJoint:
            return self._trained(joint, codes, start, watch)

        return _collapse.model_of(learnt, self._joint, train_it, seed)

    def _privately(self, data: Table, budget: Budget, seed: int, watch: Watch) -> CodedModel:
        """Train against a critic that learns by clipped, noisy gradients (_noisy_duel.py)."""
        return Duelling(
            self._joint, _told_little, steps=self.steps, critic_steps=self.critic_steps,
            clip=self.clip, most_rows=self.most_rows, device=self.device,
        ).fit(data, budget, seed=seed, watch=watch)  # fmt: skip

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state. Raises InputError when arrays do not make one."""
        return restored(schema, state, self._joint)

    def _joint(self, dense: Dense, seed: int) -> GeneratedJoint:
        rng, out = random(seed, "ctgan generator"), dense.slots + 2 * dense.lines
        body = ResidualMLP(self.latent + EMBEDDED, out, width=self.width, depth=self.depth, rng=rng)
        made = Generator(dense, body, embedded=EMBEDDED, rng=rng)
        return GeneratedJoint("ctgan", dense, made, Conditions.of(dense, self.latent))

    def _trained(
        self, joint: GeneratedJoint, codes: Tensor, seed: int, watch: Watch
    ) -> GeneratedJoint:
        eye = Eye(joint.dense)
        critic = PackCritic(eye, self.pack, self.width, self.depth, random(seed, "ctgan critic"))
        sampler = Sampler(codes, eye, max(self.batch // self.pack, 1) * self.pack, seed)
        rows = codes.numpy().astype(np.int32)
        train(
            Duel(joint.generator, critic),
            lambda network, batch, rng: self._loss(network, batch, eye, rng),
            adversarial.turns(sampler, self.critic_steps), self._plan(codes), seed=seed,
            watch=_collapse.watched(watch, joint, rows, seed),
        )  # fmt: skip
        return joint

    def _plan(self, codes: Tensor) -> Plan:
        n = steps(self.steps, STEPS, codes)
        return Plan(
            n, rate=self.rate, warm_up=min(50, n // 10), look=50, clip=math.inf,
            seconds=60 * self.minutes, device=self.device, average=0.98, betas=(0.5, 0.9),
            bf16=False,
        )  # fmt: skip

    # -------------------------------------------------------------- losses (§4.3)

    def _loss(self, network: nn.Module, batch: Batch, eye: Eye, rng: torch.Generator) -> Tensor:
        assert isinstance(network, Duel)
        moves, real, slot = batch
        z = torch.randn(len(real), self.latent, generator=rng, device=real.device)
        with torch.set_grad_enabled(bool(moves)):
            outputs = network.generator(z, slot)
            fake = eye.fake(outputs, rng)

        def critic(packs: Tensor) -> Tensor:
            scores: Tensor = network.critic(packs, slot)
            return scores

        true, packs = (adversarial.packed(rows, self.pack) for rows in (real, fake))
        loss = adversarial.critic_loss(critic, true, adversarial.opposed(packs), rng)
        if not moves:
            return loss
        apart = adversarial.covariance_gap(real, fake, rng)
        return loss + _told(outputs, slot, eye) + self.covariance * apart


def _told(outputs: Tensor, slot: Tensor, eye: Eye) -> Tensor:
    """Return the cross-entropy of the conditions that a generator was told."""
    log_categories = eye.dense.log_softmax(outputs[:, : eye.dense.slots])
    return -log_categories.gather(1, slot[:, None]).mean()


def _told_little(outputs: Tensor, slot: Tensor, eye: Eye) -> Tensor:
    """Return it as it weighs beside a private critic, whose slopes are small."""
    return TOLD * _told(outputs, slot, eye)


class PackCritic(nn.Module):
    """Packs of rows and their conditions → how real they look, (packs,).

    The sum of what each row looks like and of what they do together.
    """

    def __init__(self, eye: Eye, pack: int, width: int, depth: int, rng: torch.Generator) -> None:
        super().__init__()
        slots = eye.dense.slots
        self.first = Linear(slots + eye.dense.lines, width, rng, scale=math.sqrt(3))
        self.condition = nn.Parameter(0.5 * torch.randn(slots, width, generator=rng))
        self.alone = MLP(width, 1, width=width, depth=depth, rng=rng)
        self.together = MLP(pack * width, 1, width=width, depth=depth, rng=rng)

    def forward(self, packs: Tensor, slot: Tensor) -> Tensor:
        """Map (packs, pack, W + C), with slots (rows,) of half of these packs or of more."""
        told = self.condition[slot].view(-1, packs.shape[1], self.condition.shape[1])
        told = told[: len(packs)].repeat(max(len(packs) // len(told), 1), 1, 1)
        h = functional.leaky_relu(self.first(packs) + told, 0.2)  # (packs, pack, width)
        score: Tensor = self.alone(h)[..., 0].mean(1)
        if packs.shape[1] > 1:
            score = score + self.together(h.flatten(1))[:, 0]
        return score


# ------------------------------------------------------------------ conditions (§4.3)


class Sampler:
    """Training by sampling: batches of conditions, and of rows that fulfil them."""

    def __init__(self, codes: Tensor, eye: Eye, batch: int, seed: int) -> None:
        self.codes, self.eye, self.batch, self.seed = codes, eye, batch, seed
        slots = eye.dense.categories(codes)  # (rows, D)
        self.order = torch.argsort(slots, dim=0, stable=True)  # a column's rows by category
        self.count = slots.flatten().bincount(minlength=eye.dense.slots)
        self.begin = torch.zeros_like(self.count)
        self.column = torch.zeros_like(self.count)
        chance = torch.zeros(len(self.count), dtype=torch.float64)
        for j, at in enumerate(_slots(eye.dense)):
            held = self.count[at]
            self.column[at], self.begin[at] = j, held.cumsum(0) - held
            log_count = (1.0 + held.double()).log()
            chance[at] = log_count / log_count.sum() if len(at) > 1 else 0.0
        self.total = _total(chance.numpy())

    def __call__(self, step: int) -> Batch:
        """Return real rows as the critic sees them, and their conditions' slots."""
        draws = generator(self.seed, "ctgan rows", step).random((2, self.batch))
        slot = torch.from_numpy(_chosen(self.total, draws[0]))
        slot = torch.where(self.count[slot] > 0, slot, self.order.new_zeros(()))
        within = (torch.from_numpy(draws[1]) * self.count[slot]).long()
        rows = self.order[self.begin[slot] + within, self.column[slot]]
        return self.eye.real(self.codes[rows], random(self.seed, "ctgan cells", step)), slot


@dataclass(frozen=True)
class Conditions:
    """Noise, and a category of a random column by its true frequency."""

    latent: int
    total: NDArray[np.float64]  # (W,) cumulated chances of slots in sampling
    wide: NDArray[np.float64]  # (W,) where rare ones are tried too
    log_weight: NDArray[np.float32]  # (W,) that makes up for it

    @staticmethod
    def of(dense: Dense, latent: int) -> Conditions:
        """Condition on the columns of more than one category."""
        chance = np.zeros(dense.slots)
        for at in _slots(dense):
            chance[at] = dense.frequency[at].double() if len(at) > 1 else 0.0
        chance = chance / max(chance.sum(), 1e-9)
        wide = np.sqrt(chance)
        weight = np.log(np.maximum(np.sqrt(chance), 1e-9) * max(wide.sum(), 1e-9))
        return Conditions(latent, _total(chance), _total(wide), weight.astype(np.float32))

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw noise and categories as in sampling."""
        z = normals(n, self.latent, rng)
        return z, torch.from_numpy(_chosen(self.total, rng.random(n)))

    def spread(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw categories by the root of their frequency, and what makes up for it."""
        z, at = normals(n, self.latent, rng), _chosen(self.wide, rng.random(n))
        return z, torch.from_numpy(at), torch.from_numpy(self.log_weight[at])


def _slots(dense: Dense) -> Iterator[Tensor]:
    """Yield the slots of each column's categories."""
    for start, stride, category in zip(dense.start, dense.stride, dense.category, strict=True):
        yield start + stride * torch.arange(int(category.max()) + 1)


def _total(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cumulated chances; all on the first when there are none."""
    return np.cumsum(chance) if chance.sum() > 0 else np.ones(max(len(chance), 1))


def _chosen(total: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    at: NDArray[np.int64] = np.searchsorted(total, uniform * total[-1], side="right")
    return at.clip(max=total.size - 1)
