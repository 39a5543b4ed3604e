"""medGAN: a GAN in the code of an autoencoder, for wide tables of codes.

Choi, Biswal, Malin, Duke, Stewart, Sun, "Generating multi-label discrete patient records using
generative adversarial networks", MLHC 2017, §3. arXiv:1703.06490
Idea       hundreds of yes-or-no codes go through a narrow code that an autoencoder has learnt: the
           generator only has to draw codes of it, and the decoder knows which go together
Algorithm  1 encode (missing marks, spikes, levels; numbers as normal scores) · 2 train encoder and
           decoder by the likelihood of rows (eq. 1) · 3 generator: noise → code, decoder: code →
           row, the decoder learning on (§3.2) · 4 critic of rows beside the mean of their batch,
           against collapse (§3.3, minibatch averaging) · 5 average weights, look for collapse · 6
           set margins
Differs    from the paper in: WGAN-GP instead of the logistic loss (as Baowaly et al., JAMIA 2019);
           one-hot draws reach the critic whole instead of probabilities; batches match in
           covariance; residual gated generator instead of batch norms; columns of all kinds, counts
           as their codes; far fewer steps; margins are those of training; one new start if modes
           are lost
Use when   a patient is a long row of codes, most of them absent; not for few columns, or numbers
           whose detail matters (table/seqtree)

Given columns and conditions are no rejection: noise is drawn by how well it explains what is
known, among finitely many candidates, so rare combinations get the nearest noise there is; known
cells come back as they are in any case.
A model file holds the weights of generator and decoder and the columns' frequencies; never a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._collapse as _collapse
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.nn import adversarial
from manikin.nn.adversarial import Duel
from manikin.nn.loop import Batch, Plan, random, train
from manikin.nn.mlp import MLP, Linear, ResidualMLP
from manikin.privacy.budget import Budget
from manikin.privacy.ledger import refuse_budget
from manikin.synthesizer import State, Watch, check_settings, report, silent
from manikin.synthesizers.table._coded import CodedModel
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table._generated import (
    Eye,
    GeneratedJoint,
    Generator,
    Plain,
    restored,
    steps,
)

__all__ = ["MedGAN"]

LEARNING = 5  # steps of the autoencoder, times the root of the number of rows
STEPS = 10  # steps of the GAN, times the root of the number of rows


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class MedGAN:
    """Recipe: a GAN in an autoencoder's code."""

    code: int = 64  # numbers of the autoencoder's code (the paper: 128)
    latent: int = 32  # numbers of noise (the paper: 128)
    width: int = 128  # units of a hidden layer, as in the paper
    depth: int = 1  # residual blocks of the generator (the paper: 2 layers with shortcuts)
    learning: int = 1000  # most steps of the autoencoder; fewer when rows are few
    steps: int = 2000  # most steps of the GAN; fewer when rows are few
    batch: int = 480  # rows a step (the paper: 1000); no more than four times the rows there are
    critic_steps: int = 1  # steps of the critic in which the generator moves once
    rate: float = 1e-2  # highest learning rate (the paper: 1e-3, for 1000 passes)
    covariance: float = 60.0  # weight of the gap between covariances of real and drawn batches
    minutes: float = 60.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer

    def __post_init__(self) -> None:
        check_settings(
            self, code=(1, 4096), latent=(1, 4096), width=(1, 4096), depth=(1, 32),
            learning=(1, 10**8), steps=(1, 10**8), batch=(2, 10**7), critic_steps=(1, 100),
            rate=(1e-9, 1), covariance=(0, math.inf), minutes=(0, math.inf), k=(1, math.inf),
        )  # fmt: skip

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> CodedModel:
        """Train the autoencoder and the networks, once more if they lose modes."""
        refuse_budget(budget, "table/medgan")
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)

        def train_it(joint: GeneratedJoint, codes: Tensor, start: int) -> GeneratedJoint:
            return self._trained(joint, codes, start, watch)

        return _collapse.model_of(learnt, self._joint, train_it, seed)

    def restore(self, schema: Any, state: State) -> CodedModel:
        """Rebuild a model from its state. Raises InputError when arrays do not make one."""
        return restored(schema, state, self._joint)

    def _joint(self, dense: Dense, seed: int) -> GeneratedJoint:
        rng = random(seed, "medgan generator")
        body = Decoded(
            ResidualMLP(self.latent, self.code, width=self.width, depth=self.depth, rng=rng),
            MLP(self.code, dense.slots + 2 * dense.lines, width=self.width, depth=1, rng=rng),
        )
        return GeneratedJoint("medgan", dense, Generator(dense, body), Plain(self.latent))

    def _trained(
        self, joint: GeneratedJoint, codes: Tensor, seed: int, watch: Watch
    ) -> GeneratedJoint:
        eye, size = Eye(joint.dense), min(self.batch, 4 * len(codes))
        body = joint.generator.body
        assert isinstance(body, Decoded)

        def batches(step: int) -> Batch:
            rows = generator(seed, "medgan rows", step).integers(len(codes), size=size)
            batch = codes[torch.from_numpy(rows)]
            return eye.real(batch, random(seed, "medgan cells", step)), batch

        wide = joint.dense.slots + joint.dense.lines
        encoder = MLP(
            wide, self.code, width=self.width, depth=1, rng=random(seed, "medgan encoder")
        )
        train(
            Autoencoder(encoder, body.decoder),
            lambda network, batch, _: _unlikelihood(network, batch, joint.dense), batches,
            self._plan(steps(self.learning, LEARNING, codes), (0.9, 0.999)), seed=seed,
            watch=watch, what="learning codes",
        )  # fmt: skip
        critic = BatchCritic(wide, self.width, self.depth, random(seed, "medgan critic"))
        train(
            Duel(joint.generator, critic),
            lambda network, batch, rng: self._loss(network, batch, eye, rng),
            adversarial.turns(batches, self.critic_steps),
            self._plan(steps(self.steps, STEPS, codes), (0.5, 0.9)), seed=seed,
            watch=_collapse.watched(watch, joint, codes.numpy().astype(np.int32), seed),
        )  # fmt: skip
        return joint

    def _plan(self, n: int, betas: tuple[float, float]) -> Plan:
        return Plan(
            n, rate=self.rate, look=50, clip=math.inf,
            warm_up=10, seconds=60 * self.minutes, device=self.device, average=0.98, betas=betas,
            bf16=False,
        )  # fmt: skip

    # -------------------------------------------------------------- losses (§3.2, §3.3)

    def _loss(self, network: nn.Module, batch: Batch, eye: Eye, rng: torch.Generator) -> Tensor:
        assert isinstance(network, Duel)
        moves, real, _ = batch
        z = torch.randn(len(real), self.latent, generator=rng, device=real.device)
        with torch.set_grad_enabled(bool(moves)):
            fake = eye.fake(network.generator(z, z.new_zeros(len(z), dtype=torch.int64)), rng)

        def critic(rows: Tensor) -> Tensor:
            scores: Tensor = network.critic(rows)[:, 0]
            return scores

        true, drawn = beside_mean(real), beside_mean(fake)
        loss = adversarial.critic_loss(critic, true, adversarial.opposed(drawn), rng)
        if not moves:
            return loss
        return loss + self.covariance * adversarial.covariance_gap(real, fake, rng)


def beside_mean(rows: Tensor) -> Tensor:
    """Return rows beside the mean of their batch, (rows, 2 d): minibatch averaging."""
    return torch.cat([rows, rows.mean(0).expand_as(rows)], 1)


# ------------------------------------------------------------------ networks (§3.1, §3.2)


class Decoded(nn.Module):
    """Noise → a code → the parameters of every column's distribution."""

    def __init__(self, inner: ResidualMLP, decoder: MLP) -> None:
        super().__init__()
        self.inner, self.decoder = inner, decoder

    @property
    def last(self) -> Linear:
        """The decoder's last layer."""
        return self.decoder.last

    def forward(self, z: Tensor) -> Tensor:
        """Map (rows, latent) to (rows, W + 2 C)."""
        out: Tensor = self.decoder(torch.tanh(self.inner(z)))
        return out


class Autoencoder(nn.Module):
    """Rows → codes between -1 and 1 → the parameters of every column's distribution."""

    def __init__(self, encoder: MLP, decoder: MLP) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, W + C) to (rows, W + 2 C)."""
        out: Tensor = self.decoder(torch.tanh(self.encoder(x)))
        return out


class BatchCritic(nn.Module):
    """Rows beside the mean of their batch → how real they look."""

    def __init__(self, wide: int, width: int, depth: int, rng: torch.Generator) -> None:
        super().__init__()
        self.layers = MLP(2 * wide, 1, width=width, depth=depth + 1, rng=rng)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (rows, 2 (W + C)) to (rows, 1)."""
        out: Tensor = self.layers(rows)
        return out


def _unlikelihood(network: nn.Module, batch: Batch, dense: Dense) -> Tensor:
    """Return minus the log likelihood of rows given their codes, (rows,)."""
    return -dense.log_prob(network(batch[0]), batch[1]).sum(1)
