"""ADS-GAN: a GAN that keeps its draws at a distance from the records it learns from.

Yoon, Drumright, van der Schaar, "Anonymization through data synthesis using generative adversarial
networks (ADS-GAN)", IEEE J. Biomedical and Health Informatics 24(8), 2020, §III
Idea       a record is identifiable if a draw lies nearer to it than the nearest other record
           does, columns weighed by 1 / entropy: the generator pays for such records
Algorithm  1 encode (missing marks, spikes, levels; numbers as normal scores) · 2 distance of each
           record to the nearest other one · 3 critic, WGAN-GP · 4 generator: the critic, the
           covariances of the batch, and λ times how many records a draw identifies, and how far it
           is within their distance · 5 average weights, look for collapse · 6 set margins
Differs    from the paper in: the generator never sees a record, so that a model holds none (the
           paper's maps each record to one draw, and pays for their distance alone); instead of that
           one-to-one distance the definition itself is relaxed, over all pairs of a batch; batches
           match in covariance; one-hot draws reach the critic whole; far fewer steps; margins are
           those of training; one new start if modes are lost. Under a budget: no price on
           identifiable records (it reads them; noise bounds what a draw can tell of any), a critic
           of products of pairs, clipped and noisy; no batch is matched, and nothing looked at
Use when   draws shall keep away from training records, and that is to be tuned and measured; not as
           a privacy guarantee: a distance is none. That is what a budget gives

Given columns and conditions are no rejection: noise is drawn by how well it explains what is
known, among finitely many candidates, so rare combinations get the nearest noise there is; known
cells come back as they are in any case. Given cells can identify somebody whatever λ is.
A model file holds the generator's weights and the columns' frequencies; never a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._collapse as _collapse
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.nn import adversarial
from manikin.nn.adversarial import Duel
from manikin.nn.loop import Batch, Plan, random, train
from manikin.nn.mlp import MLP, ResidualMLP
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._coded import CodedModel, Codes
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table._generated import (
    Eye,
    GeneratedJoint,
    Generator,
    Plain,
    restored,
    steps,
)
from manikin.synthesizers.table._noisy_duel import Duelling
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["ADSGAN"]

STEPS = 12  # times the root of the number of rows
PRICED = 2  # one in so many records of a batch is compared with its draws
COMPARED = 5000  # most other records among which a record's nearest one is looked for


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class ADSGAN:
    """Recipe: a GAN of codes with a price on identifiable records."""

    takes_budget: ClassVar[bool] = True
    identifiability: float = 1.0  # λ: price of a record that a draw identifies; not with a budget
    latent: int = 32  # numbers of noise
    width: int = 128  # units of a hidden layer
    depth: int = 1  # residual blocks of the generator, hidden layers of the critic less one
    steps: int = 2000  # most training steps; fewer when rows are few
    batch: int = 480  # rows a step; no more than four times the rows there are
    critic_steps: int = 1  # steps of the critic in which the generator moves once
    rate: float = 1.2e-2  # highest learning rate
    covariance: float = 60.0  # weight of the gap between covariances of real and drawn batches
    minutes: float = 60.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer
    clip: float = 1.0  # under a budget: norm to which each subject's gradient is clipped
    most_rows: int = 1  # under a budget: rows of a subject that count

    def __post_init__(self) -> None:
        check_settings(
            self, identifiability=(0, math.inf), latent=(1, 4096), width=(1, 4096), depth=(1, 32),
            steps=(1, 10**8), batch=(2, 10**7), critic_steps=(1, 100), rate=(1e-9, 1),
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
            ruler = Ruler.of(learnt.encoding, joint.dense)
            apart = ruler.nearest(codes, generator(seed, "adsgan others"))
            return self._trained(joint, (codes, apart), ruler, start, watch)

        return _collapse.model_of(learnt, self._joint, train_it, seed)

    def _privately(self, data: Table, budget: Budget, seed: int, watch: Watch) -> CodedModel:
        """Train against a critic that learns by clipped, noisy gradients (_noisy_duel.py)."""
        return Duelling(
            self._joint, _nothing, steps=self.steps, critic_steps=self.critic_steps,
            clip=self.clip, most_rows=self.most_rows, device=self.device,
        ).fit(data, budget, seed=seed, watch=watch)  # fmt: skip

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state. Raises InputError when arrays do not make one."""
        return restored(schema, state, self._joint)

    def _joint(self, dense: Dense, seed: int) -> GeneratedJoint:
        rng = random(seed, "adsgan generator")
        out = dense.slots + 2 * dense.lines
        body = ResidualMLP(self.latent, out, width=self.width, depth=self.depth, rng=rng)
        return GeneratedJoint("adsgan", dense, Generator(dense, body), Plain(self.latent))

    def _trained(
        self, joint: GeneratedJoint, records: Batch, ruler: Ruler, seed: int, watch: Watch,
    ) -> GeneratedJoint:  # fmt: skip
        eye = Eye(joint.dense)
        wide = joint.dense.slots + joint.dense.lines
        critic = MLP(
            wide, 1, width=self.width, depth=self.depth + 1, rng=random(seed, "adsgan critic")
        )
        codes, apart = records
        size = min(self.batch, 4 * len(codes))

        def batches(step: int) -> Batch:
            drawn = generator(seed, "adsgan rows", step).integers(len(codes), size=size)
            rows = torch.from_numpy(drawn)
            return eye.real(codes[rows], random(seed, "adsgan cells", step)), apart[rows]

        plan = Plan(
            steps(self.steps, STEPS, codes), rate=self.rate, look=50,
            clip=math.inf, seconds=60 * self.minutes, device=self.device, average=0.98,
            betas=(0.5, 0.9), bf16=False,
        )  # fmt: skip
        train(
            Duel(joint.generator, critic),
            lambda network, batch, rng: self._loss(network, batch, eye, ruler, rng),
            adversarial.turns(batches, self.critic_steps), plan, seed=seed,
            watch=_collapse.watched(watch, joint, codes.numpy().astype(np.int32), seed),
        )  # fmt: skip
        return joint

    # -------------------------------------------------------------- losses

    def _loss(
        self, network: nn.Module, batch: Batch, eye: Eye, ruler: Ruler, rng: torch.Generator
    ) -> Tensor:
        assert isinstance(network, Duel)
        moves, real, apart = batch
        z = torch.randn(len(real), self.latent, generator=rng, device=real.device)
        with torch.set_grad_enabled(bool(moves)):
            fake = eye.fake(network.generator(z, z.new_zeros(len(z), dtype=torch.int64)), rng)

        def critic(rows: Tensor) -> Tensor:
            scores: Tensor = network.critic(rows)[:, 0]
            return scores

        loss = adversarial.critic_loss(critic, real, adversarial.opposed(fake), rng)
        if not moves:
            return loss
        if self.identifiability:
            part = -(-len(real) // PRICED)
            price = ruler.price(real[:part], apart[:part], fake)
            loss = loss + self.identifiability * price
        return loss + self.covariance * adversarial.covariance_gap(real, fake, rng)


def _nothing(outputs: Tensor, slot: Tensor, eye: Eye) -> Tensor:
    """Return 0: under a budget a generator of this kind minimises nothing of its own."""
    del slot, eye
    return outputs.new_zeros(())


# ------------------------------------------------------------------ identifiability (§III)


@dataclass(frozen=True)
class Ruler:
    """Distances between rows, each column weighed by one over the entropy of its codes."""

    dense: Dense
    scale: Tensor  # (W + C,)
    rows: int  # all training records

    @staticmethod
    def of(encoding: Encoding, dense: Dense) -> Ruler:
        """Weigh the columns of an encoding; one that never changes has no weight."""
        entropy = np.array([_entropy(cells.counts) for cells in encoding.cells])
        weight = np.where(entropy > 0, 1 / np.maximum(entropy, 1e-9), 0.0)
        scale = torch.zeros(dense.slots + dense.lines)
        for j, w in enumerate(weight):
            at = dense.start[j] + dense.stride[j] * torch.arange(int(dense.category[j].max()) + 1)
            scale[at] = float(w) / math.sqrt(2)  # two rows of other categories are w apart
        scale[dense.slots :] = torch.from_numpy(weight).float()[dense.numbers]
        return Ruler(dense, scale, max((int(c.counts.sum()) for c in encoding.cells), default=0))

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """Return distances of rows as a critic sees them, (rows, others)."""
        scale = self.scale.to(one.device)
        found: Tensor = torch.cdist(one * scale, other * scale)
        return found

    def nearest(self, codes: Tensor, rng: np.random.Generator) -> Tensor:
        """Return how far each record's nearest other one is, (rows,); of many others a sample."""
        others = rng.permutation(len(codes))[:COMPARED]
        targets = self.dense.inputs(codes[torch.from_numpy(others)])
        found = [torch.zeros(0)]
        for start in range(0, len(codes), 1000):
            here = torch.arange(start, min(start + 1000, len(codes)))
            distance = self.distance(self.dense.inputs(codes[here]), targets)
            itself = here[:, None] == torch.from_numpy(others)[None]
            found.append(distance.masked_fill(itself, torch.inf).amin(1))
        # a record alone in the table has no other: any draw is as near as one can tell
        return torch.nan_to_num(torch.cat(found), posinf=0.0)

    def price(self, real: Tensor, apart: Tensor, fake: Tensor) -> Tensor:
        """Return how many records a draw identifies, each by how far it is within its distance.

        max(0, 1 - d / r) of each pair is a lower bound of the definition's 1{d < r} that has a
        gradient. A record with a twin (r = 0) is nobody's alone, so nobody is identified by it.
        """
        within = (1 - self.distance(fake, real) / apart.clamp(min=1e-6)).clamp(min=0)
        return torch.where(apart > 0, within, 0.0).mean() * self.rows

    def identifiable(self, records: Codes, draws: Codes) -> float:
        """Return the share of records to which a draw is nearer than another record: §III."""
        ours, theirs = (torch.from_numpy(c.astype(np.int64)) for c in (records, draws))
        apart = self.nearest(ours, generator(0, "adsgan others"))
        between = self.distance(self.dense.inputs(ours), self.dense.inputs(theirs)).amin(1)
        return float((between < apart).double().mean())


def _entropy(counts: NDArray[np.int64]) -> float:
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(share * np.log(share)).sum())
