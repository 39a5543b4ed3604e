"""TVAE: a variational autoencoder for mixed-type tables.

Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling tabular data using conditional GAN",
NeurIPS 2019, §4.4. arXiv:1907.00503; Kingma and Welling, ICLR 2014
Idea       a few independent causes z behind every row, columns independent given them: what is
           common to the columns must pass through z, which can be walked along and read
Algorithm  1 encode (missing marks, spikes, levels; numbers as normal scores) · 2 encoder q(z|x)
           and decoder p(x|z) maximise the evidence lower bound · 3 stop by the bound of held-out
           subjects · 4 set the columns' margins · 5 sample: z from the prior, x from the decoder
           given: draw z by its importance p(known|z) among draws of the prior, then Metropolis
           within Gibbs (Mattei and Frellsen, NeurIPS 2018): exact in the limit of many moves
Differs    from the paper in: the prior is a learnt mixture of normals instead of N(0, I), so that
           samples fall where rows are; numbers are intervals of a logistic whose scale depends on
           z, so that the likelihood is of codes and the bound that of real probabilities; the
           reconstruction has weight 1 instead of 2; gated residual layers, averaged weights; and
           margins are those of training, by the decoder's biases and cuts; under a budget small
           networks learn first from rows of a Gaussian copula, whose correlations are bought as
           noisy sums over pairs of columns, then a little from clipped gradients of real rows
Use when   latent causes are to be looked at, rows scored for how unusual they are, or a stable
           neural model is wanted; not when every detail counts (table/seqtree, table/boosted)

A model file holds the networks' weights and the columns' frequencies; never a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import manikin.synthesizers.table._coded as coded
import manikin.synthesizers.table._given as _given
import manikin.synthesizers.table._noisy as _noisy
import manikin.synthesizers.table._posterior as _posterior
from manikin.data.randomness import generator
from manikin.data.table import Table
from manikin.errors import InputError
from manikin.nn import variational
from manikin.nn.loop import Plan, Rows, chunks, random, train
from manikin.nn.mlp import ResidualMLP
from manikin.nn.private import Private
from manikin.nn.variational import MixturePrior, Normal
from manikin.privacy.budget import Budget
from manikin.synthesizer import State, Watch, report, silent
from manikin.synthesizers.table._coded import Allowed, CodedModel, Codes
from manikin.synthesizers.table._dense import Dense
from manikin.synthesizers.table._margins import calibrated
from manikin.synthesizers.table._paid import Paid
from manikin.synthesizers.table._posterior import Limits, Particles, filled
from manikin.synthesizers.table._probit import guess
from manikin.synthesizers.table.encoding import Encoding

__all__ = ["TVAE"]

STEPS = 60, 12  # at least, and times the root of the number of rows
LOOKS = 10  # at held-out subjects in a training
AVERAGE = 0.96  # share of the moving average that a step keeps
GAIN = 0.01  # nats by which a bound of held-out subjects is better
ENOUGH = 200  # subjects from which on some are held out
HELD_OUT = 0.12  # share of subjects whose bound ends the training
POOL = 4096  # draws of the prior by which margins are set
MOVES = 6  # Metropolis moves of rows with known columns
BLOCK = 10_000  # rows drawn at a time
PAIRS = 0.5  # share of a budget that tells how columns go together, by pairs
FIRST, TAUGHT = 8192, 500  # rows drawn by that, and steps in which networks learn from them
PRIVATE, PRIVATE_RATE = 60, 1e-3  # most steps on private rows, and their highest learning rate
SMALL = 8, 64, 8  # most latents, units and components under a budget


# ------------------------------------------------------------------ recipe


@dataclass(frozen=True)
class TVAE:
    """Recipe: a variational autoencoder of codes."""

    takes_budget: ClassVar[bool] = True
    latent: int = 16  # latent causes (the paper: 128)
    width: int = 128  # units of a hidden layer, as in the paper
    depth: int = 1  # residual blocks of encoder and decoder (the paper: two plain layers)
    components: int = 16  # normals that the prior mixes
    steps: int = 2000  # most training steps; fewer when rows are few
    batch: int = 192  # rows a step (the paper: 500)
    rate: float = 1.2e-2  # highest learning rate
    weight: float = 1.0  # of the divergence from the prior in the bound; 1 is the bound itself
    patience: int = 3  # looks at held-out subjects without a better bound before training ends
    minutes: float = 60.0  # most time for training
    device: str = "auto"  # auto: a CUDA device if there is one, else cpu
    k: int = 5  # subjects who share a value that is kept as it stands; a category up to two fewer
    clip: float = 1.0  # under a budget: norm to which each subject's gradient is clipped
    most_rows: int = 1  # under a budget: rows of a subject that count

    def fit(
        self, data: Table, *, seed: int, budget: Budget | None = None, watch: Watch = silent
    ) -> TVAEModel:
        """Train the networks. Under a budget the noise is secret: no seed repeats a model."""
        self._check()
        if budget is not None:
            return self._privately(data, budget, seed, watch)
        report(watch, 0, None, "encoding")
        learnt = coded.learn(data, seed=seed, k=self.k)
        dense = Dense.of(learnt.encoding.cells)
        network = self._network(dense, random(seed, "tvae weights"))
        if learnt.codes.shape[1]:
            codes = torch.from_numpy(learnt.codes.astype(np.int64))
            kept, held = _held_out(data, seed)
            plan = self._plan(len(kept))
            rows = Rows((codes[kept],), min(self.batch, max(len(kept) // 2, 1)), seed=seed)
            trained = train(
                network, lambda net, batch, rng: _loss(net, batch[0], dense, self.weight, rng),
                rows, plan, seed=seed, held_out=tuple(chunks((codes[held],), 2048)), watch=watch,
            )  # fmt: skip
            if trained.why == "time" and trained.steps < rows.per_epoch:
                raise InputError(
                    f"{trained.steps} steps in {self.minutes:g} minutes, {rows.per_epoch} needed to"
                    " see every row once",
                    "time for at least one pass over the rows",
                    "give more minutes, or fewer rows",
                )
            dense = _calibrated(network, dense, seed)
        return _explorable(learnt.model(LatentJoint(dense, network)))

    def _privately(self, data: Table, budget: Budget, seed: int, watch: Watch) -> TVAEModel:
        """Train on clipped and noisy gradients, for as many steps as are paid for."""
        report(watch, 0, None, "counting single columns")
        learnt = _noisy.learn(data, budget, most_rows=self.most_rows)
        dense = Dense.of(learnt.encoding.cells)
        network = self._small()._network(dense, random(seed, "tvae weights"))

        def loss(net: nn.Module, batch: tuple[Tensor, ...], rng: torch.Generator) -> Tensor:
            return _loss(net, batch[0], dense, self.weight, rng)

        first = guess(learnt, share=PAIRS, rng=generator(seed, "tvae guess"))
        drawn = first.draw(FIRST, generator(seed, "tvae first rows")).astype(np.int64)
        taught = min(TAUGHT, 2 * self.steps)
        train(
            network, loss, Rows((torch.from_numpy(drawn),), self.batch, seed=seed),
            Plan(taught, rate=self.rate, warm_up=taught // 20, look=taught, average=AVERAGE,
                 device=self.device),
            seed=seed, watch=watch, what="learning what pairs tell",
        )  # fmt: skip
        steps = Private(
            learnt.training(min(PRIVATE, self.steps)), lambda codes: (codes,), clip=self.clip
        )
        train(
            network, loss, steps.batches,
            _noisy.plan(steps.training, rate=PRIVATE_RATE, device=self.device),
            seed=seed, gradients=steps, watch=watch,
        )  # fmt: skip
        dense = _calibrated(network, dense, seed)
        return _explorable(learnt.model(LatentJoint(dense, network)))

    def restore(self, schema: Any, state: State) -> TVAEModel:
        """Rebuild a model from its state. Raises InputError when arrays do not make one."""
        self._check()
        arrays, _ = coded.saved(state)
        dense = Dense.of(Encoding.restore(schema, state).cells)
        sized = self if Paid.restore(state.values) is None else self._small()
        network = sized._network(dense, random(0, "tvae weights"))
        wanted = {**network.state_dict(), "cuts": dense.cuts}
        sound = set(wanted) == set(arrays) and all(
            arrays[name].shape == tuple(tensor.shape)
            and arrays[name].dtype == np.float32
            and np.isfinite(arrays[name]).all()
            for name, tensor in wanted.items()
        )
        if not sound or (np.diff(arrays["cuts"], axis=1) < 0).any():
            raise InputError(
                "arrays that do not make a model",
                "those that table/tvae writes with the same settings",
                "get the model again from where it was made",
            )
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        dense = replace(dense, cuts=tensors.pop("cuts"))
        network.load_state_dict(tensors)
        return _explorable(coded.restore(schema, state, LatentJoint(dense, network.eval())))

    def _check(self) -> None:
        whole = {"latent": 512, "width": 4096, "depth": 32, "components": 4096, "steps": 10**8,
                 "batch": 10**7}  # fmt: skip
        wrong = [name for name, most in whole.items() if not 1 <= getattr(self, name) <= most]
        if wrong:
            raise InputError(
                f"an impossible setting of: {', '.join(wrong)}",
                ", ".join(f"{name} from 1 to {whole[name]:,}" for name in wrong),
                "correct the setting",
            )

    def _small(self) -> TVAE:
        """Return it with networks for noisy gradients: noise grows with the root of all weights."""
        latent, width, components = SMALL
        return replace(
            self, latent=min(self.latent, latent), width=min(self.width, width),
            components=min(self.components, components),
        )  # fmt: skip

    def _network(self, dense: Dense, rng: torch.Generator) -> Network:
        return Network(dense, self.latent, self.width, self.depth, self.components, rng)

    def _plan(self, rows: int) -> Plan:
        # few rows soon teach all they have; a rate that falls to nothing ends on the best weights
        steps = min(self.steps, STEPS[0] + math.ceil(STEPS[1] * math.sqrt(rows)))
        return Plan(
            steps, rate=self.rate, warm_up=min(50, steps // 10), look=max(steps // LOOKS, 10),
            patience=self.patience, seconds=60 * self.minutes, device=self.device,
            average=AVERAGE, gain=GAIN,
        )  # fmt: skip


# ------------------------------------------------------------------ network and loss (§4.4)


class Network(nn.Module):
    """q(z|x), p(x|z) and p(z)."""

    def __init__(
        self, dense: Dense, latent: int, width: int, depth: int, components: int,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        wide = dense.slots + dense.lines
        self.encoder = ResidualMLP(wide, 2 * latent, width=width, depth=depth, rng=rng)
        out = dense.slots + 2 * dense.lines
        self.decoder = ResidualMLP(latent, out, width=width, depth=depth, rng=rng)
        self.prior = MixturePrior(latent, components, rng)
        with torch.no_grad():  # the decoder begins at the columns' own frequencies
            self.decoder.last.bias[: dense.slots] = dense.frequency.clamp(min=1e-6).log()


def _loss(
    network: nn.Module, codes: Tensor, dense: Dense, weight: float, rng: torch.Generator
) -> Tensor:
    assert isinstance(network, Network)
    posterior = Normal.of(network.encoder(dense.inputs(codes)))

    def log_likelihood(z: Tensor) -> Tensor:
        return dense.log_prob(network.decoder(z), codes).sum(1)

    return variational.loss(
        posterior, log_likelihood, network.prior.log_density, rng, weight=weight
    )


def _held_out(data: Table, seed: int) -> tuple[Tensor, Tensor]:
    """Return rows of the subjects to learn from, and of those who tell when to stop."""
    subjects = np.unique(data.subjects)
    n = int(HELD_OUT * subjects.size) if subjects.size >= ENOUGH else 0
    apart = generator(seed, "tvae held out").permutation(subjects)[:n]
    held = np.isin(data.subjects, apart)
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


@torch.no_grad()
def _calibrated(network: Network, dense: Dense, seed: int) -> Dense:
    """Set biases and cuts so that the model's margins are those of training."""
    rng = random(seed, "tvae margins")
    latent = network.prior.means.shape[1]
    z = network.prior.draw(
        torch.rand(POOL, generator=rng), torch.randn(POOL, latent, generator=rng)
    )
    return calibrated(network.decoder.last.bias, network.decoder(z), dense, rng)


# ------------------------------------------------------------------ distribution


@dataclass(frozen=True)
class LatentJoint:
    """Rows of codes as ∫ p(x|z) p(z) dz."""

    dense: Dense
    network: Network
    name = "tvae"
    released = ("weights of networks trained on the rows",)

    @torch.no_grad()
    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw `n` rows."""
        found = [np.zeros((0, len(self.dense.sizes)), np.int32)]
        for start in range(0, n, BLOCK):
            z = self.latents(min(BLOCK, n - start), rng)
            found.append(self.rows(z, rng).numpy().astype(np.int32))
        return np.concatenate(found)

    def complete(self, codes: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
        """Draw the codes that are not known, given those that are."""
        return _posterior.complete(self, codes, allowed, rng)

    def latents(self, n: int, rng: np.random.Generator) -> Tensor:
        """Draw `n` z of the prior."""
        latent = self.network.prior.means.shape[1]
        noise = _float(rng.standard_normal((n, latent)))
        return self.network.prior.draw(_float(rng.random(n)), noise)

    def rows(self, z: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw a row of codes for every z."""
        wide = 2 * len(self.dense.sizes) + self.dense.lines
        return self.dense.draw(self.network.decoder(z), _float(rng.random((len(z), wide))))

    # -------------------------------------------------------------- given (_posterior.py)

    def candidates(self, n: int, rng: np.random.Generator) -> tuple[Particles, Tensor]:
        """Draw particles of the prior."""
        return self._particles(self.latents(n, rng)), torch.zeros(n)

    def moved(
        self, particles: Particles, given: Tensor, limits: Limits, rng: np.random.Generator
    ) -> Particles:
        """Draw what is unknown, propose q(z|x), accept by Metropolis and Hastings' rule."""
        for _ in range(MOVES):
            whole = filled(self.dense, particles.outputs, given, limits, rng)
            posterior = self.posterior(whole)
            noise = _float(rng.standard_normal(particles.z.shape))
            tried = self._particles(posterior.mean + posterior.log_scale.exp() * noise)
            ratio = self._log_joint(whole, tried) - posterior.log_density(tried.z)
            ratio -= self._log_joint(whole, particles) - posterior.log_density(particles.z)
            accepted = _float(rng.random(len(whole))).log() < ratio
            particles = particles.where(accepted, tried)
        return particles

    def _particles(self, z: Tensor) -> Particles:
        none = torch.zeros(len(z), dtype=torch.int64)
        return Particles(z, none, self.network.decoder(z))

    def posterior(self, codes: Tensor) -> Normal:
        """Return q(z|x) of whole rows."""
        return Normal.of(self.network.encoder(self.dense.inputs(codes)))

    def _log_joint(self, codes: Tensor, at: Particles) -> Tensor:
        """Return log p(x|z) p(z), (rows,)."""
        likelihood = self.dense.log_prob(at.outputs, codes).sum(1)
        return likelihood + self.network.prior.log_density(at.z)

    # -------------------------------------------------------------- state

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return weights and cuts."""
        weights = {name: t.numpy() for name, t in self.network.state_dict().items()}
        return {**weights, "cuts": self.dense.cuts.numpy()}

    def values(self) -> Mapping[str, Any]:
        """Return nothing: the recipe and the encoding say the rest."""
        return {}


# ------------------------------------------------------------------ looking into it


@dataclass(frozen=True)
class TVAEModel(CodedModel):
    """A fitted TVAE: a conditional model whose latent causes can be looked at."""

    joint: LatentJoint

    def traverse(self, latent: int, *, steps: int = 9, seed: int = 0) -> Table:
        """Return the likeliest rows along one latent, from its 5 % to its 95 % quantile.

        The other latents stay at their medians.
        """
        pool = self._pool(seed)
        if not 0 <= latent < pool.shape[1]:
            raise InputError(
                f"latent {latent}", f"0 to {pool.shape[1] - 1}", "choose one that effects() names"
            )
        z = pool.median(0).values.repeat(steps, 1)
        z[:, latent] = torch.quantile(pool[:, latent], torch.linspace(0.05, 0.95, steps))
        return self._likeliest(z, seed)

    def interpolate(self, ends: Table, *, steps: int = 9, seed: int = 0) -> Table:
        """Return the likeliest rows on the line between the latents of two rows."""
        codes = self._codes(ends, seed)
        if len(codes) != 2:
            raise InputError(f"{len(codes)} rows to go between", "two", "choose two rows")
        with torch.no_grad():
            start, end = self.joint.posterior(codes).mean
        return self._likeliest(torch.lerp(start, end, torch.linspace(0, 1, steps)[:, None]), seed)

    @torch.no_grad()
    def effects(self, *, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Return how much each latent moves each column, column → (latents,) in [0, 1].

        It is the total variation between the column's distributions at the latent's 10 % and 90 %
        quantiles, averaged over the other latents as the prior has them.
        """
        pool, dense = self._pool(seed)[:512], self.joint.dense
        moved: dict[str, list[float]] = {name: [] for name in self.encoding.names}
        for latent in range(pool.shape[1]):
            ends = []
            for share in (0.1, 0.9):
                z = pool.clone()
                z[:, latent] = torch.quantile(pool[:, latent], share)
                outputs = self.joint.network.decoder(z)
                ends.append((outputs, dense.log_softmax(outputs[:, : dense.slots])))
            for j, name in enumerate(self.encoding.names):
                low, high = (dense.log_pmf(*end, j).exp() for end in ends)
                moved[name].append(0.5 * float((low - high).abs().sum(1).mean()))
        return {name: np.array(found) for name, found in moved.items()}

    def anomaly(self, table: Table, *, seed: int = 0, draws: int = 64) -> NDArray[np.float64]:
        """Return how unusual each row is: minus a bound of its log probability, in nats."""
        codes = self._codes(table, seed)
        found = [np.zeros(0)]
        for block, start in enumerate(range(0, len(codes), BLOCK)):
            part = codes[start : start + BLOCK]
            found.append(-self._log_prob(part, random(seed, "tvae anomaly", block), draws))
        return np.concatenate(found)

    @torch.no_grad()
    def _log_prob(self, codes: Tensor, rng: torch.Generator, draws: int) -> NDArray[np.float64]:
        bound = variational.bound(
            self.joint.posterior(codes),
            lambda z: self.joint.dense.log_prob(self.joint.network.decoder(z), codes).sum(1),
            self.joint.network.prior.log_density, rng, draws=draws,
        )  # fmt: skip
        return np.asarray(bound.double().numpy())

    @torch.no_grad()
    def _pool(self, seed: int) -> Tensor:
        return self.joint.latents(POOL, generator(seed, "tvae latents"))

    @torch.no_grad()
    def _likeliest(self, z: Tensor, seed: int) -> Table:
        codes = self.joint.dense.likeliest(self.joint.network.decoder(z)).numpy().astype(np.int32)
        return self.encoding.decode(codes, np.arange(len(z)), seed=seed)

    def _codes(self, table: Table, seed: int) -> Tensor:
        codes = _given.known(self.encoding, table, generator(seed, "tvae rows")).codes
        if (codes < 0).any():
            lacking = [n for n, c in zip(self.encoding.names, codes.T, strict=True) if c.min() < 0]
            raise InputError(
                f"rows without columns: {', '.join(lacking)}",
                "every column that the model was fitted on",
                "add them, or draw them with sample_given",
            )
        return torch.from_numpy(codes.astype(np.int64))


def _explorable(model: CodedModel) -> TVAEModel:
    assert isinstance(model.joint, LatentJoint)
    return TVAEModel(model.encoding, model.joint, model.row_counts, model.rules, model.paid)


def _float(array: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))
